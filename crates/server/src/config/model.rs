//! The configuration as the server uses it: parsed and checked, nothing left to look up.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use regex::Regex;
use tidewire_core::options::Options;

use super::secret::Secret;

/// Everything the server is configured with. It holds secrets, so it cannot be printed as a whole.
#[derive(Clone)]
pub struct Config {
    /// Where to listen.
    pub http_server: HttpServer,
    /// The WebSocket transport.
    pub websocket: WebSocket,
    /// What is checked before an upgrade.
    pub admission: Admission,
    /// The server API.
    pub http_api: HttpApi,
    /// The health endpoints.
    pub health: Endpoint,
    /// Metrics for Prometheus.
    pub prometheus: Endpoint,
    /// How tokens are judged.
    pub tokens: Tokens,
    /// Logging.
    pub log: Log,
    /// How the server stops.
    pub shutdown: Shutdown,
    /// Threads that serve client sockets; `None`: one per core.
    pub reactor_threads: Option<NonZeroUsize>,
    /// Where to write the process id.
    pub pid_file: Option<PathBuf>,
    /// What keeps history and presence; `None`: this node's memory.
    pub redis: Option<tidewire_engine_redis::Options>,
    /// Everything of node, connections and channels.
    pub core: Options,
    /// Options that are on and open the server to anyone; shown at each start.
    pub insecure: Vec<Insecure>,
}

/// `http_server`.
#[derive(Clone)]
pub struct HttpServer {
    /// Where client transports are served, and everything else unless `internal` is set.
    pub external: Listen,
    /// Where API, metrics and health are served instead.
    pub internal: Option<Listen>,
}

/// A listening socket.
#[derive(Clone)]
pub struct Listen {
    /// An address or host name; `None`: all addresses.
    pub host: Option<String>,
    /// The port; 0: any free one.
    pub port: u16,
    /// Speak TLS.
    pub tls: Option<Tls>,
}

/// A certificate and what goes with it.
#[derive(Clone)]
pub struct Tls {
    /// The certificate chain.
    pub certificate: PemSource,
    /// Its private key.
    pub key: PemSource,
    /// Clients must show a certificate signed by one of these.
    pub client_authorities: Option<PemSource>,
}

/// Where PEM text is.
#[derive(Clone)]
pub enum PemSource {
    /// In a file, read again when certificates are reloaded.
    File(PathBuf),
    /// In the configuration itself.
    Text(Secret),
}

/// `websocket`.
#[derive(Debug, Clone)]
pub struct WebSocket {
    /// Serve it at all.
    pub enabled: bool,
    /// The path, such as `/connection/websocket`.
    pub path: String,
    /// How long a write may make no progress.
    pub write_timeout: Duration,
    /// Largest message of a client, in bytes.
    pub message_bytes_max: usize,
    /// Its largest once it is inflated, if it came compressed.
    pub inflated_bytes_max: usize,
    /// Agree to compression with clients that offer it.
    pub compression: Option<Compression>,
}

/// `websocket.compression*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compression {
    /// 0 (stored) to 9 (smallest).
    pub level: u8,
    /// Messages of fewer bytes are sent as they are.
    pub min_size: u32,
}

/// What is checked before an upgrade.
#[derive(Debug, Clone)]
pub struct Admission {
    /// Patterns of origins in lower case, `*` standing for any text; empty: every request with an origin is refused.
    pub allowed_origins: Vec<String>,
    /// Connections of this node; `None`: no limit.
    pub connection_limit: Option<NonZeroUsize>,
    /// Connections of one address at a time; `None`: no limit.
    pub ip_connection_limit: Option<NonZeroUsize>,
    /// New connections per second; `None`: no limit.
    pub connection_rate_limit: Option<NonZeroUsize>,
}

/// `http_api`.
#[derive(Clone)]
pub struct HttpApi {
    /// Serve it at all.
    pub enabled: bool,
    /// The path, such as `/api`.
    pub path: String,
    /// What callers show; `None`: every call is refused, unless `insecure`.
    pub key: Option<Secret>,
    /// Anyone may call.
    pub insecure: bool,
    /// Serve it on the external listener although there is an internal one.
    pub external: bool,
    /// Answer errors by HTTP status.
    pub transport_errors: bool,
    /// Largest request body in bytes; `None`: no limit.
    pub body_bytes_max: Option<usize>,
    /// Most commands of a batch and channels of a broadcast; `None`: no limit.
    pub batch_max: Option<usize>,
    /// Largest payload of a publication in bytes; `None`: no limit.
    pub publication_bytes_max: Option<usize>,
}

/// An endpoint that is on or off.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Serve it at all.
    pub enabled: bool,
    /// The path.
    pub path: String,
}

/// How tokens are judged.
#[derive(Clone)]
pub struct Tokens {
    /// Keys and rules of connection tokens, and of subscription tokens unless those have their own.
    pub connection: TokenRules,
    /// Keys and rules of subscription tokens alone.
    pub subscription: Option<TokenRules>,
    /// Believe every token.
    pub insecure_skip_signature: bool,
}

/// `client.token` or `client.subscription_token`.
#[derive(Clone, Default)]
pub struct TokenRules {
    /// Secret of HMAC tokens.
    pub hmac: Option<Secret>,
    /// The secret before it.
    pub hmac_previous: Option<PreviousSecret>,
    /// Public key of RSA tokens, PEM.
    pub rsa_public_key: Option<String>,
    /// Public key of ECDSA tokens, PEM.
    pub ecdsa_public_key: Option<String>,
    /// Where the issuer publishes its keys; replaces all of the above.
    pub jwks: Option<JwksEndpoint>,
    /// What `aud` must be.
    pub audience: Expected,
    /// What `iss` must be.
    pub issuer: Expected,
    /// The claim that holds the user, instead of `sub`.
    pub user_id_claim: Option<String>,
}

/// A secret that is on its way out.
#[derive(Clone)]
pub struct PreviousSecret {
    /// The secret.
    pub secret: Secret,
    /// Unix seconds until which it is accepted; 0: no end.
    pub valid_until: i64,
}

/// Where an issuer publishes its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksEndpoint {
    /// An `https` address (or `http`, if allowed).
    pub url: String,
    /// Plain HTTP and private addresses are allowed.
    pub allow_private: bool,
}

/// What a claim must be.
#[derive(Debug, Clone, Default)]
pub enum Expected {
    /// Anything.
    #[default]
    Any,
    /// Exactly this.
    Exact(String),
    /// Something this matches anywhere.
    Matches(Regex),
}

/// `log`.
#[derive(Debug, Clone)]
pub struct Log {
    /// Least severe lines.
    pub level: LogLevel,
    /// Where to; `None`: standard error.
    pub file: Option<PathBuf>,
}

/// How severe a log line must be to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogLevel {
    /// Everything.
    Trace,
    /// Details for finding faults.
    Debug,
    /// What an operator likes to know.
    Info,
    /// What may need a look.
    Warn,
    /// What needs a look.
    Error,
    /// Nothing.
    Off,
}

/// `shutdown`.
#[derive(Debug, Clone, Copy)]
pub struct Shutdown {
    /// How long it may take.
    pub timeout: Duration,
    /// Time over which connections are closed; less than `timeout`.
    pub spread: Duration,
}

/// An option that opens the server to anyone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Insecure {
    /// The option.
    pub key: String,
    /// What it opens.
    pub meaning: &'static str,
}

// === impl PemSource ===

impl PemSource {
    /// Reads the PEM text.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn read(&self) -> std::io::Result<Vec<u8>> {
        match self {
            Self::File(path) => std::fs::read(path),
            Self::Text(text) => Ok(text.expose().as_bytes().to_vec()),
        }
    }
}

// === impl TokenRules ===

impl TokenRules {
    /// Whether any token can be valid.
    pub fn has_keys(&self) -> bool {
        self.hmac.is_some()
            || self.rsa_public_key.is_some()
            || self.ecdsa_public_key.is_some()
            || self.jwks.is_some()
    }
}

impl Expected {
    /// Whether a claim's value is as it must be.
    pub fn allows(&self, value: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Exact(expected) => expected == value,
            Self::Matches(pattern) => pattern.is_match(value),
        }
    }

    /// Whether every token passes.
    pub fn is_any(&self) -> bool {
        matches!(self, Self::Any)
    }
}
