//! What to connect to, and how.

use std::fmt;
use std::time::Duration;

/// How the engine finds and uses Redis. The defaults are those of Centrifugo where it has the option.
#[derive(Debug, Clone)]
pub struct Options {
    /// Which servers there are and what they are to each other.
    pub topology: Topology,
    /// Begins every key and channel name.
    pub prefix: String,
    /// Who logs in at servers whose address names nobody.
    pub login: Login,
    /// The database of servers whose address names none. A cluster has only 0.
    pub db: u32,
    /// How connections call themselves in `CLIENT LIST`.
    pub client_name: String,
    /// How long one attempt to connect and log in may take.
    pub connect_timeout: Duration,
    /// How long a call may take, all attempts together; and how long a server may stay silent before its connection
    /// counts as dead.
    pub io_timeout: Duration,
    /// TLS to the servers; addresses that begin with `rediss:` have it in any case.
    pub tls: Option<Tls>,
    /// Who logs in at the Sentinels.
    pub sentinel_login: Login,
    /// How connections to Sentinels call themselves.
    pub sentinel_client_name: String,
    /// TLS to the Sentinels.
    pub sentinel_tls: Option<Tls>,
    /// Bytes of announcements that may wait between Redis and the node, for each connection that brings them. What
    /// comes above is dropped and its channel is told to be lost.
    pub inbox_bytes_max: usize,
    /// How long presence entries of a node that died are still seen.
    pub node_lease: Duration,
    /// A publish with history is answered once so many replicas have it; 0: once the primary has it.
    pub replicas_min: u32,
    /// How long to wait for them.
    pub replicas_timeout: Duration,
    /// Into how many parts the channels of a cluster are divided; each lies in one slot as a whole. The same for all
    /// nodes, for ever.
    pub cluster_partitions: u16,
}

/// Which servers there are and what they are to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// Independent servers. More than one share the channels between them; their number and order are the same for all
    /// nodes.
    Servers(Vec<Address>),
    /// Sentinels that know the primaries. More than one name: they share the channels.
    Sentinel {
        /// Any of these is asked.
        sentinels: Vec<Address>,
        /// The names of the primaries.
        names: Vec<String>,
    },
    /// Some nodes of one Redis Cluster; the others are found by them.
    Cluster(Vec<Address>),
}

/// Where a server listens, and what its URL says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// A name or an IP address, without brackets; for a Unix socket its path.
    pub host: String,
    /// 0: a Unix socket.
    pub port: u16,
    /// `rediss:`.
    pub tls: bool,
    /// Who logs in here; else [`Options::login`].
    pub login: Option<Login>,
    /// The database here; else [`Options::db`].
    pub db: Option<u32>,
}

/// User and password; both empty: nobody logs in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Login {
    /// Of the ACL; empty: the default user.
    pub user: String,
    /// Its password.
    pub password: Secret,
}

/// A text that no log shows.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

/// How TLS is spoken to servers.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// Certificates to trust, in PEM; empty: those of the operating system.
    pub server_ca_pem: Vec<u8>,
    /// Our own certificate chain, in PEM; empty: none.
    pub cert_pem: Vec<u8>,
    /// Its private key, in PEM.
    pub key_pem: Secret,
    /// The name the certificate must carry; empty: the host of the address.
    pub server_name: String,
    /// Trust any certificate. Whoever is in between reads and changes everything.
    pub insecure_skip_verify: bool,
}

/// Why an address is none. Does not repeat it: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither `redis:`, `rediss:`, `unix:` nor `tcp:`.
    #[error("the scheme is not redis, rediss, unix or tcp")]
    Scheme,
    /// No host.
    #[error("there is no host")]
    Host,
    /// Not a port.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// Not a database.
    #[error("the database is not a number")]
    Database,
    /// Not percent-encoded.
    #[error("user or password are not percent-encoded")]
    Encoding,
}

// === impl Options ===

impl Default for Options {
    fn default() -> Self {
        Self {
            topology: Topology::Servers(vec![Address::local()]),
            prefix: "centrifugo".to_owned(),
            login: Login::default(),
            db: 0,
            client_name: String::new(),
            connect_timeout: Duration::from_secs(1),
            io_timeout: Duration::from_secs(4),
            tls: None,
            sentinel_login: Login::default(),
            sentinel_client_name: String::new(),
            sentinel_tls: None,
            inbox_bytes_max: 64 << 20,
            node_lease: Duration::from_secs(10),
            replicas_min: 0,
            replicas_timeout: Duration::from_secs(1),
            cluster_partitions: 128,
        }
    }
}

// === impl Address ===

impl Address {
    /// The address of a server on this machine, at the usual port.
    pub fn local() -> Self {
        Self::tcp("127.0.0.1", 6379)
    }

    /// A host and a port, and nothing else.
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port, tls: false, login: None, db: None }
    }

    /// Reads `host:port`, `host`, `unix:///path` or `redis[s]://[user][:password]@host[:port][/db]`.
    ///
    /// # Errors
    /// If it is none of these.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("tcp", text));
        let tls = match scheme {
            "redis" | "tcp" => false,
            "rediss" => true,
            "unix" => return Ok(Self { port: 0, ..Self::tcp(rest, 0) }),
            _ => return Err(AddressError::Scheme),
        };
        let (rest, _query) = rest.split_once('?').unwrap_or((rest, ""));
        // A password may hold an @ that nobody encoded; a host cannot.
        let (login, rest) = match rest.rsplit_once('@') {
            Some((login, rest)) => (Some(login_of(login)?), rest),
            None => (None, rest),
        };
        let (place, db) = match rest.split_once('/') {
            Some((place, "")) => (place, None),
            Some((place, db)) => (place, Some(db.parse().map_err(|_| AddressError::Database)?)),
            None => (rest, None),
        };
        let (host, port) = host_and_port(place)?;
        Ok(Self { host, port, tls, login, db })
    }
}

impl fmt::Display for Address {
    /// Host and port alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            0 => write!(f, "unix://{}", self.host),
            port if self.host.contains(':') => write!(f, "[{}]:{port}", self.host),
            port => write!(f, "{}:{port}", self.host),
        }
    }
}

fn host_and_port(place: &str) -> Result<(String, u16), AddressError> {
    let (host, port) = match place.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']').ok_or(AddressError::Host)?;
            (host, after.strip_prefix(':'))
        }
        None => match place.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    if host.is_empty() {
        return Err(AddressError::Host);
    }
    let port = match port {
        None => 6379,
        Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or(AddressError::Port)?,
    };
    Ok((host.to_owned(), port))
}

fn login_of(text: &str) -> Result<Login, AddressError> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    Ok(Login { user: decoded(user)?, password: Secret(decoded(password)?) })
}

fn decoded(text: &str) -> Result<String, AddressError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).ok_or(AddressError::Encoding)?;
        let digits = std::str::from_utf8(digits).map_err(|_| AddressError::Encoding)?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| AddressError::Encoding)?);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| AddressError::Encoding)
}

// === impl Login ===

impl Login {
    /// Whether anybody logs in.
    pub fn is_empty(&self) -> bool {
        self.user.is_empty() && self.password.expose().is_empty()
    }
}

// === impl Secret ===

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for whom it is meant.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_every_form_are_read() {
        let cases = [
            ("127.0.0.1:7000", "127.0.0.1:7000", false, None, ""),
            ("redis.internal", "redis.internal:6379", false, None, ""),
            ("redis://10.0.0.1", "10.0.0.1:6379", false, None, ""),
            ("rediss://10.0.0.1:6380/2", "10.0.0.1:6380", true, Some(2), ""),
            ("redis://:p%40ss@[::1]:7000/0", "[::1]:7000", false, Some(0), "p@ss"),
            ("redis://me:a@b@host/", "host:6379", false, None, "a@b"),
            ("redis://me@host", "host:6379", false, None, ""),
            ("unix:///run/redis.sock", "unix:///run/redis.sock", false, None, ""),
        ];
        for (text, shown, tls, db, password) in cases {
            let address = Address::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((address.to_string().as_str(), address.tls, address.db), (shown, tls, db), "{text}");
            let found = address.login.unwrap_or_default();
            assert_eq!(found.password.expose(), password, "{text}");
        }
    }

    #[test]
    fn bad_c2_what_is_no_address_is_refused_and_why() {
        let cases = [
            ("http://host", AddressError::Scheme),
            ("redis://", AddressError::Host),
            ("redis://:6379", AddressError::Host),
            ("host:0", AddressError::Port),
            ("host:70000", AddressError::Port),
            ("host:", AddressError::Port),
            ("redis://host/x", AddressError::Database),
            ("redis://a:%4@host", AddressError::Encoding),
            ("redis://a:%zz@host", AddressError::Encoding),
            ("redis://[::1", AddressError::Host),
        ];
        for (text, expected) in cases {
            assert_eq!(Address::parse(text), Err(expected), "{text}");
        }
    }

    #[test]
    fn bad_l1_no_debug_text_shows_a_password() {
        let mut options = Options { login: login_of("me:marker").expect("a login"), ..Options::default() };
        options.topology =
            Topology::Servers(vec![Address::parse("redis://:marker@host").expect("an address")]);
        options.tls = Some(Tls { key_pem: Secret::new("marker"), ..Tls::default() });
        assert!(!format!("{options:?}").contains("marker"));
    }
}
