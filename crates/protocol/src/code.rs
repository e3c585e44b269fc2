//! Numbers with a meaning for clients: errors, disconnects, unsubscribes.
//!
//! The numbers and texts are part of the protocol: official SDKs decide by them whether to retry, to ask for a new
//! token or to give up.

use std::borrow::Cow;

use crate::message::Error;

/// A code of [`Error`]: the answer to one command; the connection stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum ErrorCode {
    /// Something failed on the server side; the client may retry.
    Internal = 100,
    /// The client is not known.
    Unauthorized = 101,
    /// No namespace is configured for this channel.
    UnknownChannel = 102,
    /// The rules forbid it.
    PermissionDenied = 103,
    /// No such method.
    MethodNotFound = 104,
    /// The connection already has this subscription.
    AlreadySubscribed = 105,
    /// A limit of the server would be passed.
    LimitExceeded = 106,
    /// The request makes no sense.
    BadRequest = 107,
    /// The feature is not switched on.
    NotAvailable = 108,
    /// The token's time is over; a new one helps.
    TokenExpired = 109,
    /// The connection's or subscription's time is over.
    Expired = 110,
    /// Too many requests; the client may retry.
    TooManyRequests = 111,
    /// The position cannot be continued from.
    UnrecoverablePosition = 112,
    /// Another page of the same state is being read.
    ConcurrentPagination = 113,
}

impl ErrorCode {
    /// The text that goes with the code on the wire.
    pub const fn message(self) -> &'static str {
        match self {
            Self::Internal => "internal server error",
            Self::Unauthorized => "unauthorized",
            Self::UnknownChannel => "unknown channel",
            Self::PermissionDenied => "permission denied",
            Self::MethodNotFound => "method not found",
            Self::AlreadySubscribed => "already subscribed",
            Self::LimitExceeded => "limit exceeded",
            Self::BadRequest => "bad request",
            Self::NotAvailable => "not available",
            Self::TokenExpired => "token expired",
            Self::Expired => "expired",
            Self::TooManyRequests => "too many requests",
            Self::UnrecoverablePosition => "unrecoverable position",
            Self::ConcurrentPagination => "concurrent pagination",
        }
    }

    /// Whether the same request may succeed later without any change.
    pub const fn is_temporary(self) -> bool {
        matches!(self, Self::Internal | Self::TooManyRequests | Self::ConcurrentPagination)
    }

    /// The number on the wire.
    pub const fn number(self) -> u32 {
        self as u32
    }
}

impl From<ErrorCode> for Error {
    fn from(code: ErrorCode) -> Self {
        Self { code: code.number(), message: code.message().to_owned(), temporary: code.is_temporary() }
    }
}

/// Why a connection is closed. The code tells the client whether to come back.
///
/// 3000–3499, 4000–4499 and from 5000: the client reconnects. 3500–3999 and 4500–4999: it does not.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Disconnect {
    /// The close code.
    pub code: u32,
    /// Non-empty, at most 123 bytes on the wire, and not JSON: `centrifuge-js` reconnects on a terminal code without a
    /// reason and reads a JSON reason as advice of an old protocol.
    pub reason: Cow<'static, str>,
}

macro_rules! disconnects {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $reason:literal;)*) => {
        impl Disconnect {
            $($(#[$doc])* pub const $name: Self = Self { code: $code, reason: Cow::Borrowed($reason) };)*
            /// Every disconnect the server itself decides on.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];
        }
    };
}

disconnects! {
    /// The peer went away; nothing is sent.
    CONNECTION_CLOSED = 3000, "connection closed";
    /// The node is stopping.
    SHUTDOWN = 3001, "shutdown";
    /// Something failed on the server side.
    SERVER_ERROR = 3004, "internal server error";
    /// The connection's time is over.
    EXPIRED = 3005, "connection expired";
    /// A server-side subscription's time is over.
    SUBSCRIPTION_EXPIRED = 3006, "subscription expired";
    /// The client reads slower than it is sent to.
    SLOW = 3008, "slow";
    /// A write made no progress in time.
    WRITE_ERROR = 3009, "write error";
    /// The server can no longer promise that nothing was missed.
    INSUFFICIENT_STATE = 3010, "insufficient state";
    /// The operator asks for a reconnect.
    FORCE_RECONNECT = 3011, "force reconnect";
    /// The client did not answer a ping.
    NO_PONG = 3012, "no pong";
    /// Too many requests.
    TOO_MANY_REQUESTS = 3013, "too many requests";
    /// The client must drop tokens and positions.
    STATE_INVALIDATED = 3014, "state invalidated";
    /// The token is not valid.
    INVALID_TOKEN = 3500, "invalid token";
    /// The client broke the protocol.
    BAD_REQUEST = 3501, "bad request";
    /// The client did not connect in time.
    STALE = 3502, "stale";
    /// The operator closed the connection for good.
    FORCE_NO_RECONNECT = 3503, "force disconnect";
    /// Too many connections.
    CONNECTION_LIMIT = 3504, "connection limit";
    /// Too many server-side subscriptions.
    CHANNEL_LIMIT = 3505, "channel limit";
    /// A payload cannot be written in the connection's encoding.
    INAPPROPRIATE_PROTOCOL = 3506, "inappropriate protocol";
    /// The rules forbid the connection.
    PERMISSION_DENIED = 3507, "permission denied";
    /// The feature is not switched on.
    NOT_AVAILABLE = 3508, "not available";
    /// Too many errors.
    TOO_MANY_ERRORS = 3509, "too many errors";
}

impl Disconnect {
    /// Longest reason a WebSocket close frame can carry (RFC 6455 §5.5: 125 bytes with the code).
    pub const REASON_BYTES_MAX: usize = 123;

    /// A disconnect with a code and reason of the application's own. The reason is made fit for the wire: shortened to
    /// [`Self::REASON_BYTES_MAX`] bytes, given words if it is empty or reads as JSON.
    pub fn custom(code: u32, reason: impl Into<Cow<'static, str>>) -> Self {
        let mut reason = reason.into();
        if reason.is_empty() {
            reason = Cow::Borrowed("disconnect");
        } else if crate::payload::is_json(reason.as_bytes()) {
            reason = Cow::Owned(format!("reason: {reason}"));
        }
        if reason.len() > Self::REASON_BYTES_MAX {
            let end = (0..=Self::REASON_BYTES_MAX).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
            reason.to_mut().truncate(end);
        }
        Self { code, reason }
    }
}

/// Why a subscription ended on the server's initiative, as sent in the unsubscribe push.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Unsubscribed {
    /// Below 2500 the subscription is over; from 2500 the client subscribes again.
    pub code: u32,
    /// Text for people.
    pub reason: Cow<'static, str>,
}

impl Unsubscribed {
    /// The server API or a changed token ended it.
    pub const SERVER: Self = Self { code: 2000, reason: Cow::Borrowed("server unsubscribe") };
    /// The server can no longer promise that nothing was missed; the client comes back with its position.
    pub const INSUFFICIENT_STATE: Self = Self { code: 2500, reason: Cow::Borrowed("insufficient state") };
    /// Its time is over.
    pub const EXPIRED: Self = Self { code: 2501, reason: Cow::Borrowed("subscription expired") };
    /// The client must drop token and position.
    pub const STATE_INVALIDATED: Self = Self { code: 2502, reason: Cow::Borrowed("state invalidated") };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_custom_reason_never_misleads_a_client() {
        let reason = |text: &str| Disconnect::custom(4000, text.to_owned()).reason.into_owned();
        assert_eq!(reason("go away"), "go away");
        assert_eq!(reason(""), "disconnect");
        assert_eq!(reason("{\"reconnect\":false}"), "reason: {\"reconnect\":false}");
        assert_eq!(reason("12"), "reason: 12");
        assert_eq!(reason(&"é".repeat(100)).len(), 122);
    }
}
