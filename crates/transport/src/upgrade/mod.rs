//! From an HTTP request to a connection on a reactor.
//!
//! `handshake`: what the request must be and how it is answered. `origin`: which web pages may connect. `admission`: how
//! fast. `notice`: what an operator is told of refusals. `takeover`: the socket leaves the HTTP server.

mod admission;
mod handshake;
mod notice;
mod origin;
mod takeover;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::{Request, Response};
use hyper::upgrade::OnUpgrade;
use tidewire_core::hooks::UpgradeRequest;
use tidewire_core::{Framing, Opening, Wire};

pub use self::handshake::Refusal;
pub use self::origin::{BadOriginPattern, OriginPolicy};

use self::admission::RateLimit;
use self::handshake::Handshake;
use self::notice::Notices;
use crate::reactor::{Reactors, Seat};

/// Who sent a request: an extension that [`crate::serve`] attaches. Behind another HTTP server, attach it yourself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Who may open a WebSocket.
#[derive(Debug, Clone, Default)]
pub struct WebSocketOptions {
    /// Web pages that may connect.
    pub origins: OriginPolicy,
    /// Connections at a time; `None`: no limit.
    pub connection_limit: Option<usize>,
    /// New connections per second; `None`: no limit.
    pub connection_rate_limit: Option<u32>,
}

/// The WebSocket endpoint of a node. Clones share it.
#[derive(Clone)]
pub struct WebSocketEndpoint {
    shared: Arc<Shared>,
}

struct Shared {
    reactors: Reactors,
    origins: OriginPolicy,
    connection_limit: Option<usize>,
    rate: Option<RateLimit>,
    notices: Notices,
}

impl WebSocketEndpoint {
    /// An endpoint whose connections go to `reactors`.
    pub fn new(reactors: Reactors, options: WebSocketOptions) -> Self {
        let rate = options.connection_rate_limit.map(|rate| RateLimit::new(rate, Instant::now()));
        let WebSocketOptions { origins, connection_limit, .. } = options;
        Self {
            shared: Arc::new(Shared {
                reactors,
                origins,
                connection_limit,
                rate,
                notices: Notices::default(),
            }),
        }
    }

    /// Answers a request: with 101, after which the socket goes to a reactor as soon as the answer is written, or with a
    /// refusal. Must be called inside a tokio runtime.
    pub fn upgrade<B>(&self, mut request: Request<B>) -> Response<Bytes> {
        let on_upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let (parts, _) = request.into_parts();
        match self.admit(&parts, on_upgrade.is_some()) {
            Ok((handshake, seat)) => {
                let wire = Wire { encoding: handshake.encoding, framing: Framing::WebSocket };
                let opening = Opening { wire, request: Arc::new(upgrade_request(parts)) };
                if let Some(on_upgrade) = on_upgrade {
                    tokio::spawn(hand_over(on_upgrade, seat, opening));
                }
                handshake.response()
            }
            Err(refusal) => {
                self.shared.notices.tell(refusal, &parts.headers, Instant::now());
                refusal.response()
            }
        }
    }

    fn admit(&self, request: &http::request::Parts, can_upgrade: bool) -> Result<(Handshake, Seat), Refusal> {
        let handshake = Handshake::parse(request)?;
        if !can_upgrade {
            return Err(Refusal::NoUpgrade);
        }
        if !self.shared.origins.allows(&request.headers) {
            return Err(Refusal::Origin);
        }
        if self.shared.rate.as_ref().is_some_and(|rate| !rate.admit(Instant::now())) {
            return Err(Refusal::ConnectionRate);
        }
        let seat = self.shared.reactors.seat(self.shared.connection_limit).ok_or(Refusal::ConnectionLimit)?;
        Ok((handshake, seat))
    }
}

fn upgrade_request(parts: http::request::Parts) -> UpgradeRequest {
    let http::request::Parts { headers, uri, extensions, .. } = parts;
    let peer = extensions.get::<Peer>().map(|peer| peer.0);
    UpgradeRequest { headers, uri, peer, extensions }
}

async fn hand_over(on_upgrade: OnUpgrade, seat: Seat, opening: Opening) {
    let upgraded = match on_upgrade.await {
        Ok(upgraded) => upgraded,
        Err(error) => return tracing::debug!(%error, "peer left before the upgrade"),
    };
    match takeover::take(upgraded) {
        Ok(upgraded) => seat.adopt(upgraded, opening),
        Err(error) => tracing::warn!(%error, "socket could not be taken over"),
    }
}
