//! What a peer did wrong.

/// A breach of RFC 6455 or of a limit. The connection is closed with [`Violation::code`]; nothing after it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A client sent a frame without a mask (§5.1).
    #[error("client frame is not masked")]
    Unmasked,
    /// A server sent a frame with a mask (§5.1).
    #[error("server frame is masked")]
    Masked,
    /// A reserved bit is set and no extension gives it a meaning (§5.2), or not there: only a message's first frame says
    /// whether it is compressed (RFC 7692 §6).
    #[error("reserved bit set")]
    ReservedBits,
    /// Opcode 3–7 or 11–15 (§5.2).
    #[error("reserved opcode {0}")]
    ReservedOpcode(u8),
    /// A control frame longer than 125 bytes (§5.5).
    #[error("control frame too long")]
    LongControl,
    /// A control frame in pieces (§5.5).
    #[error("control frame fragmented")]
    FragmentedControl,
    /// A continuation although no message is open (§5.4).
    #[error("continuation without a message")]
    UnexpectedContinuation,
    /// A new message inside an open one (§5.4).
    #[error("message inside a fragmented message")]
    InterruptedMessage,
    /// A length that a shorter form could have said (§5.2).
    #[error("length is not minimally encoded")]
    NonMinimalLength,
    /// A 64-bit length with the top bit set (§5.2).
    #[error("length has its top bit set")]
    LengthOverflow,
    /// Text, or the reason of a close frame, that is not UTF-8 (§8.1).
    #[error("invalid utf-8")]
    InvalidUtf8,
    /// A close frame with a body of one byte (§5.5.1).
    #[error("close frame of one byte")]
    ShortClose,
    /// A close code that must not be sent (§7.4).
    #[error("close code {0} is not allowed")]
    CloseCode(u16),
    /// A compressed message is not deflate data, or ends in the middle of it (RFC 7692 §7.2.2).
    #[error("invalid deflate data")]
    BadDeflate,
    /// The message would be longer than the limit.
    #[error("message size limit")]
    MessageTooLarge,
    /// The message comes in too many frames.
    #[error("too many frames in a message")]
    TooManyFrames,
    /// The message has too many frames without payload.
    #[error("too many empty frames in a message")]
    TooManyEmptyFrames,
    /// Pings and pongs come too fast.
    #[error("too many control frames")]
    ControlFlood,
}

impl Violation {
    /// The code of the close frame that answers the breach (§7.4.1).
    pub const fn code(self) -> u16 {
        match self {
            Self::InvalidUtf8 | Self::BadDeflate => 1007,
            Self::TooManyFrames | Self::TooManyEmptyFrames | Self::ControlFlood => 1008,
            Self::MessageTooLarge => 1009,
            _ => 1002,
        }
    }
}
