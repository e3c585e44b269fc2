//! Why bytes are not a message, and why a message cannot become bytes.

use std::borrow::Cow;

use crate::ErrorCode;

/// Why a received frame, or one command of it, cannot be used.
///
/// All but [`Refused`](Self::Refused) break the protocol: the connection is closed with 3501. None of them carries
/// text of the peer, so each may be logged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The frame, or a line of it, holds no message at all.
    #[error("the frame has an empty message")]
    Empty,
    /// Not a message of the encoding, or a member of the wrong type.
    #[error("malformed message at byte {at}: {what}")]
    Malformed {
        /// What is wrong, in words of the encoding.
        what: Cow<'static, str>,
        /// Bytes from the start of the message to where it was noticed; 0 where the decoder does not say.
        at: usize,
    },
    /// One message passes [`DecodeLimits::command_bytes`](crate::frame::DecodeLimits::command_bytes).
    #[error("message is {size} bytes, the limit is {max}")]
    TooLarge {
        /// Bytes of the message as announced or found.
        size: usize,
        /// The limit.
        max: usize,
    },
    /// Well formed, but beyond a limit that a client can be told about: answered with this error, the connection stays.
    #[error("command {id} is refused with {}", code.number())]
    Refused {
        /// The command's id, never 0.
        id: u32,
        /// The answer.
        code: ErrorCode,
    },
}

impl DecodeError {
    pub(crate) fn malformed(what: impl Into<Cow<'static, str>>, at: usize) -> Self {
        Self::Malformed { what: what.into(), at }
    }
}

/// Why a message cannot be written in a connection's encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A payload is not one JSON value of at most [`payload::DEPTH_MAX`](crate::payload::DEPTH_MAX) levels, and the
    /// connection speaks JSON. The receiving connection is closed with 3506.
    #[error("a payload is not JSON")]
    NotJson,
}
