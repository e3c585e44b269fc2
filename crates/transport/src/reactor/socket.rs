//! A non-blocking socket, plain or under TLS.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use bytes::Bytes;
use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use rustls::ServerConnection;

/// Ciphertext a TLS session may hold for a socket that takes no more; what is beyond waits in the outbox.
const TLS_PENDING_BYTES_MAX: usize = 64 << 10;

/// A socket after its upgrade, on the way to a reactor.
#[derive(Debug)]
pub struct Socket(Stream);

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    /// One end of a pair whose other end is copied to an I/O type we cannot take apart.
    Unix(UnixStream),
    Tls(Box<TlsStream>),
}

#[derive(Debug)]
struct TlsStream {
    tcp: TcpStream,
    session: ServerConnection,
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Written {
    /// Bytes of the caller's that were taken.
    pub(super) taken: usize,
    /// Whether the kernel took anything: with TLS this differs.
    pub(super) progress: bool,
    /// Whether the kernel takes no more for now.
    pub(super) blocked: bool,
}

impl Socket {
    /// A plain TCP socket. Sets it non-blocking, and to send at once: frames are already gathered.
    ///
    /// # Errors
    /// When the socket refuses an option.
    pub fn tcp(stream: std::net::TcpStream) -> io::Result<Self> {
        Ok(Self(Stream::Tcp(prepare(stream)?)))
    }

    /// A TCP socket and the TLS session on it, after the handshake.
    ///
    /// # Errors
    /// When the socket refuses an option.
    pub fn tls(stream: std::net::TcpStream, mut session: ServerConnection) -> io::Result<Self> {
        session.set_buffer_limit(Some(TLS_PENDING_BYTES_MAX));
        Ok(Self(Stream::Tls(Box::new(TlsStream { tcp: prepare(stream)?, session }))))
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
        };
        registry.register(source, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// Reads what is there. `Ok(0)` is the end.
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let result = match &mut self.0 {
                Stream::Tcp(tcp) => tcp.read(into),
                Stream::Unix(unix) => unix.read(into),
                Stream::Tls(tls) => tls.read(into),
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// Whether a read that did not fill its buffer has emptied the socket, so that the next edge will tell of more.
    /// TLS hands out one record at a time.
    pub(super) fn short_read_empties(&self) -> bool {
        !matches!(self.0, Stream::Tls(_))
    }

    /// Writes as much of `slices` as goes. Only a broken socket is an error.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Written> {
        match &mut self.0 {
            Stream::Tcp(tcp) => write_plain(tcp, slices),
            Stream::Unix(unix) => write_plain(unix, slices),
            Stream::Tls(tls) => tls.write(slices),
        }
    }

    /// Whether bytes that were taken still have to be given to the kernel by an empty [`Socket::write`].
    pub(super) fn holds_output(&self) -> bool {
        matches!(&self.0, Stream::Tls(tls) if tls.session.wants_write())
    }

    /// Queues TLS's own farewell; it goes out with the next write.
    pub(super) fn say_goodbye(&mut self) {
        if let Stream::Tls(tls) = &mut self.0 {
            tls.session.send_close_notify();
        }
    }

    /// Ends the sending direction. Errors do not matter: the socket is dropped soon.
    pub(super) fn shutdown_write(&mut self) {
        let _ = match &self.0 {
            Stream::Tcp(tcp) => tcp.shutdown(Shutdown::Write),
            Stream::Unix(unix) => unix.shutdown(Shutdown::Write),
            Stream::Tls(tls) => tls.tcp.shutdown(Shutdown::Write),
        };
    }
}

fn prepare(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    stream.set_nonblocking(true)?;
    stream.set_nodelay(true)?;
    Ok(TcpStream::from_std(stream))
}

fn write_plain(socket: &mut impl Write, slices: &[IoSlice<'_>]) -> io::Result<Written> {
    if slices.is_empty() {
        return Ok(Written { taken: 0, progress: false, blocked: false });
    }
    let wanted: usize = slices.iter().map(|slice| slice.len()).sum();
    loop {
        return match socket.write_vectored(slices) {
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

// === impl TlsStream ===

impl TlsStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.session.reader().read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The peer left without a TLS farewell: for us the same as with one.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                other => return other,
            }
            let ciphertext = self.session.read_tls(&mut self.tcp)?;
            if let Err(error) = self.session.process_new_packets() {
                // The alert that says what was wrong goes out if it can.
                let _ = self.session.write_tls(&mut self.tcp);
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            if ciphertext == 0 {
                return Ok(0);
            }
        }
    }

    /// Encrypts while the kernel takes what comes out; one vectored call takes at most the session's limit.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Written> {
        let (mut progress, blocked) = self.drain()?;
        if blocked {
            return Ok(Written { taken: 0, progress, blocked });
        }
        let taken = self.session.writer().write_vectored(slices)?;
        let (more, blocked) = self.drain()?;
        progress |= more;
        Ok(Written { taken, progress, blocked })
    }

    /// Gives the kernel what is encrypted; returns whether it took any and whether it refused the rest.
    fn drain(&mut self) -> io::Result<(bool, bool)> {
        let mut progress = false;
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.tcp) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => progress = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok((progress, true)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok((progress, false))
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
