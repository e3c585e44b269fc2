//! A session under HTTP, on tokio.

use std::io::{self, IoSlice, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::session::Session;

/// TLS over TCP, from the first byte until HTTP ends or the socket is upgraded.
#[derive(Debug)]
pub(crate) struct TlsStream {
    tcp: TcpStream,
    session: Session,
    /// Opened input that was not asked for yet, from this byte on.
    plain: (Vec<u8>, usize),
}

// === impl TlsStream ===

impl TlsStream {
    /// Does the handshake. Nothing is computed without one of `places`; none is held while the client is waited for, so
    /// one that is slow or silent holds up nobody. Put a timeout around it.
    ///
    /// # Errors
    /// When the socket breaks or ends, or the client and the configuration do not come together.
    pub(crate) async fn accept(
        tcp: TcpStream,
        config: Arc<ServerConfig>,
        places: &Semaphore,
    ) -> io::Result<Self> {
        let session = Session::new(config).map_err(io::Error::other)?;
        let mut stream = Self { tcp, session, plain: (Vec::new(), 0) };
        while !stream.session.has_record() {
            stream.gather().await?;
        }
        loop {
            let went_on = {
                let _place = places.acquire().await.map_err(io::Error::other)?;
                // When many come at once, what else this thread has to do gets its turns between them.
                tokio::task::yield_now().await;
                stream.session.go_on()
            };
            stream.flush().await?;
            stream.plain.0.append(&mut went_on?);
            if !stream.session.is_handshaking() {
                return Ok(stream);
            }
            stream.gather().await?;
        }
    }

    /// What was agreed to be spoken inside.
    pub(crate) fn alpn_protocol(&self) -> Option<&[u8]> {
        self.session.alpn_protocol()
    }

    /// Whether the handshake resumed an earlier session.
    pub(crate) fn is_resumed(&self) -> bool {
        self.session.is_resumed()
    }

    /// The socket, the session on it, and opened input that was not read.
    pub(crate) fn into_parts(self) -> (TcpStream, Session, Vec<u8>) {
        let (mut plain, read) = self.plain;
        plain.drain(..read.min(plain.len()));
        (self.tcp, self.session, plain)
    }

    /// Waits for input and keeps it. Cancel safe.
    async fn gather(&mut self) -> io::Result<()> {
        loop {
            self.tcp.readable().await?;
            match self.session.gather(&mut NonBlocking(&self.tcp)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return other,
            }
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        std::future::poll_fn(|context| self.poll_send(context)).await
    }

    /// Writes what is sealed.
    fn poll_send(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.holds_output() {
            ready!(self.tcp.poll_write_ready(context))?;
            self.session.flush(&mut NonBlocking(&self.tcp))?;
        }
        Poll::Ready(Ok(()))
    }

    /// Hands out what was opened before; false if there is nothing.
    fn hand_out(&mut self, into: &mut ReadBuf<'_>) -> bool {
        let (plain, read) = &mut self.plain;
        let rest = plain.get(*read..).unwrap_or_default();
        let length = rest.len().min(into.remaining());
        into.put_slice(rest.get(..length).unwrap_or_default());
        *read += length;
        if *read == plain.len() {
            self.plain = (Vec::new(), 0);
        }
        length > 0
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if this.hand_out(into) || into.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            ready!(this.tcp.poll_read_ready(context))?;
            let plain = &mut this.plain;
            let read = this.session.read_with(&mut NonBlocking(&this.tcp), |opened| {
                let (now, later) = opened.split_at(opened.len().min(into.remaining()));
                into.put_slice(now);
                *plain = (later.to_vec(), 0);
            });
            match read {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => return Poll::Ready(other),
            }
        }
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        loop {
            let written = this.session.write(&mut NonBlocking(&this.tcp), slices)?;
            // What is taken is sealed, and goes out now or with the next flush.
            if written.taken > 0 || !written.blocked {
                return Poll::Ready(Ok(written.taken));
            }
            ready!(this.tcp.poll_write_ready(context))?;
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.session.say_goodbye();
        ready!(self.poll_send(context))?;
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

/// A socket of tokio's as a socket that does not block.
struct NonBlocking<'s>(&'s TcpStream);

impl Read for NonBlocking<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(into)
    }
}

impl Write for NonBlocking<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
