//! From an HTTP request to a connection on a reactor.
//!
//! `handshake`: what the request must be and how it is answered. `extensions`: whether messages are compressed. `origin`:
//! which web pages may connect. `admission`: how fast. `notice`: what an operator is told of refusals. `takeover`: the
//! socket leaves the HTTP server.

mod admission;
mod extensions;
mod handshake;
mod notice;
mod origin;
mod takeover;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http::header::SEC_WEBSOCKET_EXTENSIONS;
use http::{HeaderMap, HeaderValue, Request, Response};
use hyper::upgrade::OnUpgrade;
use tidewire_core::hooks::UpgradeRequest;
use tidewire_core::{Deflate, Framing, Opening, Wire};

pub use self::handshake::Refusal;
pub use self::origin::{BadOriginPattern, OriginPolicy};

use self::admission::RateLimit;
use self::handshake::Handshake;
use self::notice::Notices;
use crate::reactor::{AddressLimit, Reactors, Seat};

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
    /// Connections of one address at a time (IPv6: of one /64 network); `None`: no limit. Behind a balancer all have its
    /// address.
    pub ip_connection_limit: Option<u32>,
    /// New connections per second; `None`: no limit.
    pub connection_rate_limit: Option<u32>,
    /// Agree to permessage-deflate with clients that offer it; `None`: never.
    pub compression: Option<CompressionOptions>,
}

/// How messages are compressed (RFC 7692, without context takeover).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompressionOptions {
    /// 1 (fastest) to 9 (smallest); 0 stores, which helps nobody.
    pub level: u8,
    /// Messages of fewer bytes go out as they are; 0: none does that would gain.
    pub min_size: u32,
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
    by_address: Option<AddressLimit>,
    rate: Option<RateLimit>,
    compression: Option<CompressionOptions>,
    notices: Notices,
}

// === impl CompressionOptions ===

impl Default for CompressionOptions {
    fn default() -> Self {
        Self { level: 1, min_size: 0 }
    }
}

// === impl WebSocketEndpoint ===

impl WebSocketEndpoint {
    /// An endpoint whose connections go to `reactors`.
    pub fn new(reactors: Reactors, options: WebSocketOptions) -> Self {
        let rate = options.connection_rate_limit.map(|rate| RateLimit::new(rate, Instant::now()));
        let by_address = options.ip_connection_limit.map(AddressLimit::new);
        let WebSocketOptions { origins, connection_limit, compression, .. } = options;
        Self {
            shared: Arc::new(Shared {
                reactors,
                origins,
                connection_limit,
                by_address,
                rate,
                compression,
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
                let (framing, extensions) = self.framing(&parts.headers);
                let wire = Wire { encoding: handshake.encoding, framing };
                let opening = Opening { wire, request: Arc::new(upgrade_request(parts)) };
                if let Some(on_upgrade) = on_upgrade {
                    tokio::spawn(hand_over(on_upgrade, seat, opening));
                }
                let mut response = handshake.response();
                if let Some(extensions) = extensions {
                    response.headers_mut().insert(SEC_WEBSOCKET_EXTENSIONS, extensions);
                }
                response
            }
            Err(refusal) => {
                self.shared.notices.tell(refusal, &parts.headers, Instant::now());
                refusal.response()
            }
        }
    }

    /// How what is sent is framed, and the header that tells the client if it asked for that.
    fn framing(&self, headers: &HeaderMap) -> (Framing, Option<HeaderValue>) {
        let Some(CompressionOptions { level, min_size }) = self.shared.compression else {
            return (Framing::WebSocket, None);
        };
        let Some(agreement) = extensions::agree(headers) else {
            return (Framing::WebSocket, None);
        };
        let how = Deflate { window: agreement.window, level, min_size };
        (Framing::WebSocketDeflate(how), Some(agreement.header()))
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
        let mut seat =
            self.shared.reactors.seat(self.shared.connection_limit).ok_or(Refusal::ConnectionLimit)?;
        // Who attaches no address has decided that addresses do not count.
        if let (Some(limit), Some(Peer(peer))) = (&self.shared.by_address, request.extensions.get::<Peer>()) {
            seat.address = Some(limit.admit(peer.ip()).ok_or(Refusal::AddressLimit)?);
        }
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
