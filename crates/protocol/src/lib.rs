//! The client protocol: what travels between a client and a node, and nothing about how it travels.
//!
//! `message`: every command, reply and push, with the field numbers of `schema/client.proto`.
//! `code`: error, disconnect and unsubscribe codes with their meaning for a client.
//! `name`: channel names, epochs and stream positions.
//! `frame`: splits and joins messages in either encoding; the way in. `json`, `protobuf`: the two encodings.
//! `payload`: whether bytes are JSON.
//!
//! Pure: no I/O, no clock, no runtime. Bytes from a peer never panic here; every limit is applied while decoding.

#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::arithmetic_side_effects)]

pub mod code;
mod error;
pub mod frame;
mod json;
pub mod message;
pub mod name;
pub mod payload;
mod protobuf;

pub use code::{Disconnect, ErrorCode, Unsubscribed};
pub use error::{DecodeError, EncodeError};
pub use message::*;
pub use name::{ChannelName, Epoch, StreamPosition};

/// How messages are written as bytes. Chosen once per connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// One JSON object per message, messages of one frame separated by a newline.
    Json,
    /// Length-prefixed protobuf messages of `schema/client.proto`.
    Protobuf,
}
