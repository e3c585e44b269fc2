//! Sockets: everything between TCP and a connection's state machine.
//!
//! In the order a connection meets them: `serve` (accept, TLS, HTTP), `upgrade` (who may open a WebSocket, and taking the
//! socket out of HTTP), `reactor` (the event loops that look after sockets from then on), `ws` (the WebSocket codec, pure);
//! `tls` is beneath both.
//!
//! HTTP runs on tokio. A WebSocket does not: it moves to a reactor's thread, where an idle one owns no task and no buffer.
//! Nothing here knows what a message means.

#![forbid(unsafe_code)]

pub mod reactor;
pub mod serve;
mod tls;
pub mod upgrade;
pub mod ws;

pub use reactor::{Driven, ReactorOptions, Reactors, Seat, Socket, Upgraded};
pub use serve::{HttpOptions, Listener};
pub use upgrade::{
    BadOriginPattern, CompressionOptions, OriginPolicy, Peer, Refusal, WebSocketEndpoint, WebSocketOptions,
};
