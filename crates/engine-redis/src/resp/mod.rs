//! The bytes between a client and Redis: commands out, replies in. RESP 3, as Redis 6 and Valkey speak it. Pure.
//!
//! `command`: what is asked. `frame`: where a reply ends. A reply's strings are slices of the bytes that were read; no
//! payload is copied.

mod command;
mod frame;

pub use command::Command;
pub use frame::{Frames, Malformed};

use bytes::Bytes;

/// A reply.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Nothing.
    Nil,
    /// An integer; a boolean is 0 or 1.
    Int(i64),
    /// A string of any kind; a number with a fraction is its text.
    Text(Bytes),
    /// An error the server answers with: a code in capitals, a space, words.
    Error(Bytes),
    /// A list or set; a map is its keys and values in turn.
    List(Vec<Value>),
    /// Something nobody asked for right now: announcements and confirmations of subscriptions.
    Push(Vec<Value>),
}

// === impl Value ===

impl Value {
    /// The bytes of a string.
    pub fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Text(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// A string that is text.
    pub fn text(&self) -> Option<&str> {
        self.bytes().and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// A number, also one written as a string.
    pub fn int(&self) -> Option<i64> {
        match self {
            Self::Int(number) => Some(*number),
            other => other.text()?.parse().ok(),
        }
    }

    /// A list or push.
    pub fn list(&self) -> Option<&[Value]> {
        match self {
            Self::List(items) | Self::Push(items) => Some(items),
            _ => None,
        }
    }

    /// The value behind a key, in a list of keys and values in turn.
    pub fn field(&self, key: &str) -> Option<&Value> {
        let (pairs, _) = self.list()?.as_chunks::<2>();
        pairs.iter().find(|[name, _]| name.text() == Some(key)).map(|[_, value]| value)
    }
}
