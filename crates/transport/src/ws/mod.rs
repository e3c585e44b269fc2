//! WebSocket framing (RFC 6455) as pure functions over bytes.
//!
//! `frame`: headers, read and written. `decode`: bytes in, messages and control frames out. `inflate`: what came compressed.
//! `limits`: what a peer may send. `violation`: what a peer did wrong and the close code that tells it. `close`, `mask`,
//! `utf8`: the parts.
//!
//! Nothing here does I/O, reads a clock or allocates by a length that a peer merely claims. A decoder between two
//! messages holds no buffer.

#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects
)]

mod close;
mod decode;
mod frame;
mod inflate;
mod limits;
mod mask;
mod utf8;
mod violation;

#[cfg(test)]
mod tests;

pub use close::CloseReason;
pub use decode::{Decoder, Event, MessageKind};
pub use frame::{FrameHeader, HEADER_BYTES_MAX, Opcode, client_frame, close_frame, server_frame};
pub use limits::{Extension, Limits, Role};
pub use mask::apply_mask;
pub use violation::Violation;

/// Longest payload of a ping, pong or close frame (RFC 6455 §5.5).
pub const CONTROL_BYTES_MAX: usize = 125;
