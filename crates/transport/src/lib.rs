//! Sockets: everything between TCP and a connection's state machine.
//!
//! `ws`: the WebSocket codec, pure.

#![forbid(unsafe_code)]

pub mod ws;
