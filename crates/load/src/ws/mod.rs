//! The client's half of a WebSocket (RFC 6455), without I/O.
//!
//! `handshake`: the upgrade request and the judgement of its answer. `frame`: masked frames out, a server's frames in.
//! `inflate`: messages that came compressed.

pub mod frame;
pub mod handshake;
pub mod inflate;

pub use frame::{Frame, Opcode, WsError, append_close, append_frame};
