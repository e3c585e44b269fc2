//! How a connection comes up: socket, TLS, login, and a look at who answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use crate::error::{Error, Result};
use crate::options::{Address, Login, Tls};
use crate::resp::{Command, Frames, Value};

mod tls;

/// The oldest major version that has what we use, of Redis and of Valkey.
const VERSION_MIN: u32 = 7;

type Reader = Box<dyn AsyncRead + Send + Unpin>;
pub(crate) type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// What a server must be to be of use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// A primary that is no part of a cluster.
    Primary,
    /// A node of a cluster, primary or replica.
    ClusterNode,
    /// A Sentinel.
    Sentinel,
}

/// Connects to servers of one kind.
pub(crate) struct Dialer {
    wanted: Wanted,
    login: Login,
    db: u32,
    client_name: String,
    timeout: Duration,
    tls: Option<Arc<ClientConfig>>,
    tls_by_url: Arc<ClientConfig>,
    server_name: String,
}

/// A connection that has logged in.
pub(crate) struct Socket {
    pub(crate) server: Arc<str>,
    pub(crate) reader: Reader,
    pub(crate) writer: Writer,
    pub(crate) frames: Frames,
}

/// What a [`Dialer`] is made of.
pub(crate) struct DialerOptions<'a> {
    pub(crate) wanted: Wanted,
    pub(crate) login: &'a Login,
    pub(crate) db: u32,
    pub(crate) client_name: &'a str,
    pub(crate) timeout: Duration,
    pub(crate) tls: Option<&'a Tls>,
}

// === impl Dialer ===

impl Dialer {
    /// # Errors
    /// If the TLS options cannot be used.
    pub(crate) fn new(options: DialerOptions<'_>) -> Result<Self> {
        let refused = |cause: String| Error::Topology { server: "tls".into(), cause: cause.into() };
        let default = Tls::default();
        let config = tls::config(options.tls.unwrap_or(&default)).map_err(refused)?;
        Ok(Self {
            wanted: options.wanted,
            login: options.login.clone(),
            db: options.db,
            client_name: options.client_name.to_owned(),
            timeout: options.timeout,
            tls: options.tls.is_some().then(|| Arc::clone(&config)),
            tls_by_url: config,
            server_name: options.tls.map(|tls| tls.server_name.clone()).unwrap_or_default(),
        })
    }

    /// Connects, logs in, and makes sure that the server is what it should be. `after` is sent behind the login; its
    /// replies must not be errors.
    pub(crate) async fn dial(&self, address: &Address, after: &[Command]) -> Result<Socket> {
        let server: Arc<str> = address.to_string().into();
        let whole = async {
            let mut socket = self.open(address, &server).await?;
            self.greet(address, &mut socket, after).await?;
            Ok(socket)
        };
        match tokio::time::timeout(self.timeout, whole).await {
            Ok(result) => result,
            Err(_) => {
                let cause = format!("no answer within {:?}", self.timeout).into();
                Err(Error::Connect { server, cause })
            }
        }
    }

    async fn open(&self, address: &Address, server: &Arc<str>) -> Result<Socket> {
        let failed = |cause: std::io::Error| Error::Connect {
            server: Arc::clone(server),
            cause: cause.to_string().into(),
        };
        let (reader, writer): (Reader, Writer) = if address.port == 0 {
            let (reader, writer) = UnixStream::connect(&address.host).await.map_err(failed)?.into_split();
            (Box::new(reader), Box::new(writer))
        } else {
            let stream = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(failed)?;
            stream.set_nodelay(true).map_err(failed)?;
            let tls = self.tls.as_ref().or(address.tls.then_some(&self.tls_by_url));
            match tls {
                Some(config) => {
                    let name = if self.server_name.is_empty() { &address.host } else { &self.server_name };
                    let name = ServerName::try_from(name.clone()).map_err(|_| {
                        failed(std::io::Error::other("the host is no name for a certificate"))
                    })?;
                    let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
                    let (reader, writer) = tokio::io::split(stream.map_err(failed)?);
                    (Box::new(reader), Box::new(writer))
                }
                None => {
                    let (reader, writer) = stream.into_split();
                    (Box::new(reader), Box::new(writer))
                }
            }
        };
        Ok(Socket { server: Arc::clone(server), reader, writer, frames: Frames::default() })
    }

    async fn greet(&self, address: &Address, socket: &mut Socket, after: &[Command]) -> Result<()> {
        let login = address.login.as_ref().filter(|login| !login.is_empty()).unwrap_or(&self.login);
        let mut hello = vec!["HELLO", "3"];
        if !login.is_empty() {
            let user = if login.user.is_empty() { "default" } else { &login.user };
            hello.extend(["AUTH", user, login.password.expose()]);
        }
        if !self.client_name.is_empty() {
            hello.extend(["SETNAME", &self.client_name]);
        }
        let answers = socket.ask(&Command::words(&hello)).await?;
        self.inspect(socket, &answers)?;
        let db = address.db.unwrap_or(self.db);
        let mut rest = Vec::new();
        if db != 0 && self.wanted == Wanted::Primary {
            rest.push(Command::words(&["SELECT", &db.to_string()]));
        }
        rest.extend_from_slice(after);
        if rest.is_empty() {
            return Ok(());
        }
        socket.send(&Command::all(&rest)).await?;
        for _ in 0..rest.len() {
            if let Value::Error(text) = socket.answer().await? {
                return Err(refusal(&socket.server, &text));
            }
        }
        Ok(())
    }

    /// Judges the answer to HELLO.
    fn inspect(&self, socket: &Socket, answer: &Value) -> Result<()> {
        let server = || Arc::clone(&socket.server);
        if let Value::Error(text) = answer {
            let cause: Arc<str> = String::from_utf8_lossy(text).into();
            return Err(match cause.split(' ').next() {
                Some("WRONGPASS" | "NOAUTH" | "NOPERM") => Error::Login { server: server(), cause },
                _ if cause.contains("unknown command") => self.unsuitable(socket, "is older than Redis 6"),
                _ => Error::Connect { server: server(), cause },
            });
        }
        let said = |field: &str| answer.field(field).and_then(Value::text).unwrap_or_default();
        let mode = said("mode");
        match (self.wanted, mode) {
            (Wanted::Primary, "standalone") if said("role") == "master" => {}
            (Wanted::Primary, "standalone") => {
                return Err(self.unsuitable(socket, "is a replica; name its primary, or its Sentinels"));
            }
            (Wanted::ClusterNode, "cluster") | (Wanted::Sentinel, "sentinel") => return Ok(()),
            (_, "cluster") => {
                return Err(self.unsuitable(socket, "is a node of a cluster; use cluster_address"));
            }
            (_, "sentinel") => return Err(self.unsuitable(socket, "is a Sentinel; use sentinel_address")),
            (Wanted::ClusterNode, _) => {
                return Err(self.unsuitable(socket, "is not a node of a cluster; use address"));
            }
            _ => return Err(self.unsuitable(socket, "is not a Sentinel; use address")),
        }
        let version = said("version");
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        match major {
            Some(major) if major < VERSION_MIN => {
                Err(self
                    .unsuitable(socket, &format!("has version {version}; it must be {VERSION_MIN} or later")))
            }
            _ => Ok(()),
        }
    }

    fn unsuitable(&self, socket: &Socket, cause: &str) -> Error {
        Error::Topology { server: Arc::clone(&socket.server), cause: format!("this server {cause}").into() }
    }
}

// === impl Socket ===

impl Socket {
    /// Sends one command and waits for its answer; nothing else may be under way.
    pub(crate) async fn ask(&mut self, command: &Command) -> Result<Value> {
        self.send(command).await?;
        self.answer().await
    }

    async fn send(&mut self, command: &Command) -> Result<()> {
        self.writer.write_all(command.bytes()).await.map_err(|cause| self.broken(&cause))?;
        self.writer.flush().await.map_err(|cause| self.broken(&cause))
    }

    async fn answer(&mut self) -> Result<Value> {
        loop {
            if let Some(value) = self.frames.next_value().map_err(|cause| self.broken(&cause))? {
                return Ok(value);
            }
            let read = self.reader.read_buf(&mut self.frames.buffer).await;
            match read {
                Ok(0) => return Err(self.broken(&"closed by the server")),
                Ok(_) => {}
                Err(cause) => return Err(self.broken(&cause)),
            }
        }
    }

    fn broken(&self, cause: &(dyn std::fmt::Display + Sync)) -> Error {
        Error::Connect { server: Arc::clone(&self.server), cause: cause.to_string().into() }
    }
}

/// What it means that a server takes the login and then refuses a command that every connection begins with.
fn refusal(server: &Arc<str>, text: &[u8]) -> Error {
    let cause: Arc<str> = String::from_utf8_lossy(text).into();
    let server = Arc::clone(server);
    match cause.split(' ').next() {
        Some("NOPERM" | "NOAUTH") => Error::Login { server, cause },
        Some("ERR") if cause.contains("DB index") => {
            Error::Topology { server, cause: format!("{cause}; correct db").into() }
        }
        _ => Error::Server(cause),
    }
}

/// Room for the next read. Replies keep the room they came in alive, so it is never large.
pub(crate) fn make_room(buffer: &mut BytesMut) {
    const ROOM: usize = 32 << 10;
    if buffer.capacity() - buffer.len() < ROOM / 4 {
        buffer.reserve(ROOM);
    }
}

/// Writes some of what is to be sent, or flushes once all is written: TLS may hold it back. Nothing is lost if the
/// future is dropped.
pub(crate) async fn send_some(
    writer: &mut Writer,
    out: &mut BytesMut,
    unflushed: &mut bool,
) -> std::io::Result<()> {
    if out.is_empty() {
        writer.flush().await?;
        *unflushed = false;
    } else if writer.write_buf(out).await? == 0 {
        return Err(std::io::ErrorKind::WriteZero.into());
    } else {
        *unflushed = true;
    }
    Ok(())
}
