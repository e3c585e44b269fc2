//! What can go wrong between a node and Redis, in words an operator can act on.

use std::sync::Arc;
use std::time::Duration;

use tidewire_engine::EngineError;

/// Why Redis did not do what it was asked. Cheap to clone: many callers may share one broken connection.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    /// No connection, or it broke before the command was sent.
    #[error("{server}: cannot connect: {cause}")]
    Connect {
        /// The address.
        server: Arc<str>,
        /// What the operating system or TLS said.
        cause: Arc<str>,
    },
    /// The connection broke; whatever was on its way may have happened.
    #[error("{server}: the connection broke: {cause}")]
    Broken {
        /// The address.
        server: Arc<str>,
        /// How it ended.
        cause: Arc<str>,
    },
    /// No answer in time; the command may have happened.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// Password or user are wrong, or missing.
    #[error("{server}: Redis refuses the login: {cause}")]
    Login {
        /// The address.
        server: Arc<str>,
        /// What the server said.
        cause: Arc<str>,
    },
    /// The server is not what the configuration says.
    #[error("{server}: {cause}")]
    Topology {
        /// The address.
        server: Arc<str>,
        /// What it is, and which option to use.
        cause: Arc<str>,
    },
    /// The server answered with an error.
    #[error("Redis: {0}")]
    Server(Arc<str>),
    /// The answer is not what the command gives.
    #[error("unexpected answer: {0}")]
    Protocol(Arc<str>),
    /// Fewer replicas than asked for have confirmed the publication in time. It is kept by the primary.
    #[error("kept by {kept} of {wanted} replicas")]
    Replicas {
        /// How many confirmed.
        kept: u32,
        /// How many were asked for.
        wanted: u32,
    },
}

// === impl Error ===

impl Error {
    /// Trying again changes nothing: the configuration has to.
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::Login { .. } | Self::Topology { .. })
    }

    /// The first word of a server's error: `OOM`, `READONLY`, `MOVED` and so on; empty for other errors.
    pub fn code(&self) -> &str {
        match self {
            Self::Server(text) => text.split(' ').next().unwrap_or_default(),
            _ => "",
        }
    }

    /// What an operator can do about it, where that can be known.
    pub fn next_step(&self) -> Option<&'static str> {
        let said = match self {
            Self::Server(text) => text.as_ref(),
            Self::Login { cause, .. } => cause.as_ref(),
            Self::Connect { cause, .. } if cause.contains("certificate") => {
                return Some(
                    "name the CA of that server in tls.server_ca_pem, and in tls.server_name what its certificate says",
                );
            }
            Self::Connect { .. } | Self::Timeout(_) => {
                return Some("see that it runs and can be reached from here, or correct its address");
            }
            _ => return None,
        };
        Some(match said.split(' ').next().unwrap_or_default() {
            "OOM" => {
                "the memory of Redis is full: raise its maxmemory, or keep less history (history_size, history_ttl)"
            }
            "MISCONF" => "Redis cannot write to its disk: make room there, or see its log",
            "NOREPLICAS" => {
                "fewer replicas are there than min-replicas-to-write wants: bring them back, or lower it"
            }
            "NOAUTH" => "set password (sentinel_password for Sentinels)",
            "WRONGPASS" => "correct user and password (sentinel_user and sentinel_password for Sentinels)",
            "NOPERM" => {
                "give the user the rights that docs/operations.md lists, for keys and channels that begin with prefix"
            }
            _ => return None,
        })
    }

    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol(what.into().into())
    }
}

impl From<Error> for EngineError {
    fn from(error: Error) -> Self {
        Self::Unavailable(error.to_string())
    }
}

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;
