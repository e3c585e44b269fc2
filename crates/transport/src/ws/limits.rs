//! What a peer may send.

use std::time::Duration;

/// Which end of the connection decodes. It decides whether frames must or must not be masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Reads what a client sent: every frame is masked.
    Server,
    /// Reads what a server sent: no frame is masked.
    Client,
}

/// What the two ends agreed on at the upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Extension {
    /// RFC 6455 and nothing else.
    #[default]
    None,
    /// permessage-deflate without context takeover (RFC 7692).
    Deflate,
}

/// The limits of a decoder, shared by all connections of a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Which end decodes.
    pub role: Role,
    /// Longest message in bytes, over all its frames; above it the peer is told 1009.
    pub message_bytes_max: usize,
    /// Longest message in bytes once it is inflated, if it came compressed: `message_bytes_max` holds before.
    pub inflated_bytes_max: usize,
    /// Most frames of one message. Without it, frames of one byte make a message cost far more than its bytes.
    pub message_frames_max: u32,
    /// Most frames without payload in one message: they cost work and never reach the size limit.
    pub empty_frames_max: u32,
    /// Most pings and pongs in one `control_window`.
    pub control_frames_max: u16,
    /// The time `control_frames_max` counts over.
    pub control_window: Duration,
}

impl Limits {
    /// Limits for what clients send to a server.
    pub const fn server() -> Self {
        Self {
            role: Role::Server,
            message_bytes_max: 65_536,
            inflated_bytes_max: 655_360,
            message_frames_max: 1024,
            empty_frames_max: 16,
            control_frames_max: 30,
            control_window: Duration::from_secs(10),
        }
    }

    /// Limits for what a server sends to our own tools: wide, since a server is chosen and not a stranger.
    pub const fn client() -> Self {
        Self {
            role: Role::Client,
            message_bytes_max: 64 << 20,
            inflated_bytes_max: 64 << 20,
            control_frames_max: u16::MAX,
            ..Self::server()
        }
    }
}
