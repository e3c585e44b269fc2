//! The client protocol: what travels between a client and a node, and nothing about how it travels.
//!
//! `message`: every command, reply and push, with the field numbers of `schema/client.proto`.
//! `code`: error, disconnect and unsubscribe codes with their meaning for a client.
//! `name`: channel names, epochs and stream positions.
//! `json`, `protobuf`: the two encodings; `frame` splits and joins messages in either.
//!
//! Pure: no I/O, no clock, no runtime. Bytes from a peer never panic here; every limit is applied while decoding.

pub mod code;
pub mod message;
pub mod name;

pub use code::{Disconnect, ErrorCode, Unsubscribed};
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
