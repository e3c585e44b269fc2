//! Where a primary is right now.

use std::sync::Arc;
use std::time::Duration;

use crate::dial::{Dialer, Socket};
use crate::error::{Error, Result};
use crate::options::Address;
use crate::resp::{Command, Value};

/// How often Sentinels are asked whether a primary is still one. A failover that leaves the old primary reachable shows
/// in nothing else.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// Knows, or finds out, where a primary is.
pub(crate) enum Locator {
    /// It is always there.
    Fixed(Address),
    /// Sentinels know.
    Sentinels(Arc<Sentinels>, String),
}

/// The Sentinels and how to talk to them.
pub(crate) struct Sentinels {
    pub(crate) addresses: Vec<Address>,
    pub(crate) dialer: Dialer,
}

// === impl Locator ===

impl Locator {
    pub(crate) async fn find(&self) -> Result<Address> {
        match self {
            Self::Fixed(address) => Ok(address.clone()),
            Self::Sentinels(sentinels, name) => sentinels.find(name).await,
        }
    }

    /// Waits until the primary is known to be elsewhere.
    pub(crate) async fn moved(&self, from: &Address) {
        match self {
            Self::Fixed(_) => std::future::pending().await,
            Self::Sentinels(sentinels, name) => sentinels.moved(name, from).await,
        }
    }

    /// What it is called in logs.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Fixed(address) => address.to_string(),
            Self::Sentinels(_, name) => name.clone(),
        }
    }
}

// === impl Sentinels ===

impl Sentinels {
    async fn find(&self, name: &str) -> Result<Address> {
        let mut reason = Error::protocol("no Sentinel is configured");
        for sentinel in &self.addresses {
            let found = match self.dialer.dial(sentinel, &[]).await {
                Ok(mut socket) => ask(&mut socket, name).await,
                Err(error) => Err(error),
            };
            match found {
                Ok(address) => return Ok(address),
                // One that does not know, or is none, says more than one that cannot be reached.
                Err(error) if !reason.is_permanent() => reason = error,
                Err(_) => {}
            }
        }
        Err(reason)
    }

    async fn moved(&self, name: &str, from: &Address) {
        loop {
            for sentinel in &self.addresses {
                let Ok(mut socket) = self.dialer.dial(sentinel, &[]).await else {
                    continue;
                };
                while let Ok(Ok(address)) = tokio::time::timeout(ASK_EVERY, ask(&mut socket, name)).await {
                    if address != *from {
                        return;
                    }
                    tokio::time::sleep(ASK_EVERY).await;
                }
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}

async fn ask(socket: &mut Socket, name: &str) -> Result<Address> {
    let server = Arc::clone(&socket.server);
    match socket.ask(&Command::words(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", name])).await? {
        Value::Nil => Err(Error::Topology {
            server,
            cause: format!("this Sentinel knows no primary called {name}; correct sentinel_master_name")
                .into(),
        }),
        Value::Error(text) => Err(Error::Server(String::from_utf8_lossy(&text).into())),
        answer => {
            let parts = answer.list().unwrap_or_default();
            let host = parts.first().and_then(Value::text);
            let port = parts.get(1).and_then(Value::int).and_then(|port| u16::try_from(port).ok());
            match (host, port) {
                (Some(host), Some(port)) => Ok(Address::tcp(host, port)),
                _ => Err(Error::protocol("an address of a primary that is none")),
            }
        }
    }
}
