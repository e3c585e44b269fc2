//! A non-blocking socket, plain or under TLS.
//!
//! `buffered`: TLS sessions of other HTTP servers.

mod buffered;

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use bytes::Bytes;
use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use rustls::ServerConnection;

use self::buffered::Buffered;
use crate::tls::{Received, Session, Written};

/// A socket after its upgrade, on the way to a reactor.
#[derive(Debug)]
pub struct Socket(Stream);

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    /// One end of a pair whose other end is copied to an I/O type we cannot take apart.
    Unix(UnixStream),
    Tls(Box<Tls>),
    /// A TLS session with buffers of its own, which another HTTP server began.
    Buffered(Box<Buffered>),
}

#[derive(Debug)]
struct Tls {
    tcp: TcpStream,
    session: Session,
}

impl Socket {
    /// A plain TCP socket. Sets it non-blocking, and to send at once: frames are already gathered.
    ///
    /// # Errors
    /// When the socket refuses an option.
    pub fn tcp(stream: std::net::TcpStream) -> io::Result<Self> {
        Ok(Self(Stream::Tcp(prepare(stream)?)))
    }

    /// A TCP socket and the TLS session on it, after the handshake. A session of this kind keeps buffers of its own; those
    /// of [`Listener`](crate::Listener) do not and take less than half the memory.
    ///
    /// # Errors
    /// When the socket refuses an option.
    pub fn tls(stream: std::net::TcpStream, session: ServerConnection) -> io::Result<Self> {
        Ok(Self(Stream::Buffered(Box::new(Buffered::new(prepare(stream)?, session)))))
    }

    /// A TCP socket and the TLS session of ours on it, after the handshake.
    pub(crate) fn session(stream: std::net::TcpStream, session: Session) -> io::Result<Self> {
        Ok(Self(Stream::Tls(Box::new(Tls { tcp: prepare(stream)?, session }))))
    }

    /// A local socket.
    ///
    /// # Errors
    /// When the socket refuses an option.
    pub fn unix(stream: std::os::unix::net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self(Stream::Unix(UnixStream::from_std(stream))))
    }

    /// Registers for both directions, edge-triggered, once: a writable edge only comes after a write was refused, so
    /// asking for it costs nothing and saves a system call per stall.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        let source: &mut dyn Source = match &mut self.0 {
            Stream::Tcp(tcp) => tcp,
            Stream::Unix(unix) => unix,
            Stream::Tls(tls) => &mut tls.tcp,
            Stream::Buffered(tls) => tls.tcp(),
        };
        registry.register(source, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Reads what is there. No bytes are the end.
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<Received> {
        loop {
            let result = match &mut self.0 {
                Stream::Tcp(tcp) => read_plain(tcp, into),
                Stream::Unix(unix) => read_plain(unix, into),
                Stream::Tls(tls) => tls.session.read(&mut tls.tcp, into),
                Stream::Buffered(tls) => tls.read(into),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Writes as much of `slices` as goes. Only a broken socket is an error.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Written> {
        match &mut self.0 {
            Stream::Tcp(tcp) => write_plain(tcp, slices),
            Stream::Unix(unix) => write_plain(unix, slices),
            Stream::Tls(tls) => tls.session.write(&mut tls.tcp, slices),
            Stream::Buffered(tls) => tls.write(slices),
        }
    }

    /// Whether bytes that were taken still have to be given to the kernel by an empty [`Socket::write`].
    pub(super) fn holds_output(&self) -> bool {
        match &self.0 {
            Stream::Tcp(_) | Stream::Unix(_) => false,
            Stream::Tls(tls) => tls.session.holds_output(),
            Stream::Buffered(tls) => tls.holds_output(),
        }
    }

    /// Queues TLS's own farewell; it goes out with the next write.
    pub(super) fn say_goodbye(&mut self) {
        match &mut self.0 {
            Stream::Tcp(_) | Stream::Unix(_) => {}
            Stream::Tls(tls) => tls.session.say_goodbye(),
            Stream::Buffered(tls) => tls.say_goodbye(),
        }
    }

    /// Ends the sending direction. Errors do not matter: the socket is dropped soon.
    pub(super) fn shutdown_write(&mut self) {
        let _ = match &self.0 {
            Stream::Tcp(tcp) => tcp.shutdown(Shutdown::Write),
            Stream::Unix(unix) => unix.shutdown(Shutdown::Write),
            Stream::Tls(tls) => tls.tcp.shutdown(Shutdown::Write),
            Stream::Buffered(tls) => tls.shutdown_write(),
        };
    }
}

fn prepare(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    Ok(TcpStream::from_std(stream))
}

fn read_plain(socket: &mut impl Read, into: &mut [u8]) -> io::Result<Received> {
    let bytes = socket.read(into)?;
    Ok(Received { bytes, emptied: bytes < into.len() })
}

fn write_plain(socket: &mut impl Write, slices: &[IoSlice<'_>]) -> io::Result<Written> {
    if slices.is_empty() {
        return Ok(Written { taken: 0, progress: false, blocked: false });
    }
    let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
    loop {
        // A plain write costs the kernel a tenth less than a vectored one, and most writes are one frame.
        let result = match slices {
            [only] => socket.write(only),
            _ => socket.write_vectored(slices),
        };
        return match result {
            // Less than wanted: the kernel's buffer is full, and an edge will tell when it is not.
            Ok(taken) => Ok(Written { taken, progress: taken > 0, blocked: taken < wanted }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Ok(Written { taken: 0, progress: false, blocked: true })
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
    }
}

/// A socket on its way to a reactor, with bytes of the peer that were read before it got there.
#[derive(Debug)]
pub struct Upgraded {
    /// The socket.
    pub socket: Socket,
    /// Read too early; comes before everything the socket will give.
    pub unread: Bytes,
}
