//! A client's socket, plain or with TLS, in the loop's terms: nothing blocks.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use socket2::{Domain, Protocol, SockAddr, Type};

use crate::target::Target;

/// What every IPv4 path carries.
const SMALL_MSS: u32 = 536;

/// A socket that is being connected or is connected.
#[derive(Debug)]
pub enum Socket {
    /// TCP.
    Plain(TcpStream),
    /// TLS over TCP.
    Tls(Box<ClientConnection>, TcpStream),
}

/// How much the kernel may keep for a socket that nobody reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// As the system likes: on the loopback interface megabytes.
    Usual,
    /// As little as it allows, and segments as of a network rather than of the loopback interface, after which the peer
    /// sizes its own buffer: some 50 KB in all.
    Small,
}

/// How sockets are opened.
#[derive(Debug, Clone)]
pub struct Connector {
    target: Target,
    tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

// === impl Connector ===

impl Connector {
    /// A connector to a target. `roots`: certificates to trust, as a PEM file. With `resume` later handshakes resume
    /// sessions of earlier ones.
    ///
    /// # Errors
    /// The target wants TLS and there is no usable certificate.
    pub fn new(target: Target, roots: Option<&std::path::Path>, resume: bool) -> anyhow::Result<Self> {
        use anyhow::Context as _;
        if !target.is_tls {
            return Ok(Self { target, tls: None });
        }
        let file = roots.context("a wss URL needs --ca FILE, the certificate that signed the server's")?;
        let mut store = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(file).context("--ca")? {
            store.add(certificate.context("--ca")?).context("--ca")?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = versions.with_root_certificates(store).with_no_client_auth();
        if !resume {
            config.resumption = rustls::client::Resumption::disabled();
        }
        let name = ServerName::try_from(target.host.clone())?;
        Ok(Self { target, tls: Some((Arc::new(config), name)) })
    }

    /// Begins to connect for client `number`.
    ///
    /// # Errors
    /// Of the operating system.
    pub fn open(&self, number: usize, room: Room) -> io::Result<Socket> {
        let Target { address, .. } = self.target;
        let socket = socket2::Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if room == Room::Small {
            socket.set_recv_buffer_size(1)?;
            socket.set_tcp_mss(SMALL_MSS)?;
        }
        if let Some(source) = self.target.source(number) {
            socket.bind(&SockAddr::from(SocketAddr::new(source, 0)))?;
        }
        match socket.connect(&SockAddr::from(address)) {
            Err(error) if !is_under_way(&error) => return Err(error),
            _ => {}
        }
        let stream = TcpStream::from_std(socket.into());
        Ok(match &self.tls {
            None => Socket::Plain(stream),
            Some((config, name)) => {
                let connection = ClientConnection::new(Arc::clone(config), name.clone());
                Socket::Tls(Box::new(connection.map_err(io::Error::other)?), stream)
            }
        })
    }
}

fn is_under_way(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error())
}

// === impl Socket ===

impl Socket {
    /// The TCP socket, for registering.
    pub fn stream(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(stream) | Self::Tls(_, stream) => stream,
        }
    }

    /// Whether TCP is connected.
    ///
    /// # Errors
    /// Connecting failed.
    pub fn is_connected(&mut self) -> io::Result<bool> {
        let stream = self.stream();
        if let Some(error) = stream.take_error()? {
            return Err(error);
        }
        match stream.peer_addr() {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads; 0 is the end. Whether a read that does not fill `buffer` leaves nothing behind: [`Self::drains`].
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (connection, stream) = match self {
            Self::Plain(stream) => return stream.read(buffer),
            Self::Tls(connection, stream) => (connection, stream),
        };
        loop {
            match connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // A peer that drops TCP without saying goodbye in TLS is gone all the same.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                other => return other,
            }
            if connection.read_tls(stream)? == 0 {
                return Ok(0);
            }
            connection.process_new_packets().map_err(io::Error::other)?;
            flush(connection, stream)?;
        }
    }

    /// The TLS session, if it has one.
    pub fn session(&mut self) -> Option<&mut ClientConnection> {
        match self {
            Self::Plain(_) => None,
            Self::Tls(session, _) => Some(session),
        }
    }

    /// Whether a short read means that the socket is empty.
    pub fn drains(&self) -> bool {
        matches!(self, Self::Plain(_))
    }

    /// Writes what it can of `bytes`, and what TLS has to say besides.
    ///
    /// # Errors
    /// `WouldBlock` if nothing went.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.write(bytes),
            Self::Tls(connection, stream) => {
                // First what is left from before, so that a slow peer bounds what gathers.
                if !flush(connection, stream)? {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                let taken = connection.writer().write(bytes)?;
                flush(connection, stream)?;
                Ok(taken)
            }
        }
    }

    /// Sends what TLS still has to say.
    ///
    /// # Errors
    /// The socket is broken.
    pub fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(connection, stream) => flush(connection, stream).map(|_| ()),
        }
    }

    /// Drops the connection so that the peer sees a reset and the port is free at once.
    pub fn reset(mut self) {
        // Only the manner of the end depends on it.
        let _ = socket2::SockRef::from(&*self.stream()).set_linger(Some(std::time::Duration::ZERO));
    }
}

/// Writes TLS records until nothing is left (`true`) or the socket is full.
fn flush(connection: &mut ClientConnection, stream: &mut TcpStream) -> io::Result<bool> {
    while connection.wants_write() {
        match connection.write_tls(stream) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
