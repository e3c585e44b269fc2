//! Names and positions: what a channel is called and where a subscriber stands in it.

use std::fmt;
use std::sync::Arc;

use crate::message;

/// The full name of a channel, cheap to clone. Rules about length, characters and namespaces belong to the
/// configuration of a node and are checked there.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelName(Arc<str>);

impl ChannelName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for ChannelName {
    fn from(name: &str) -> Self {
        Self(Arc::from(name))
    }
}

impl From<String> for ChannelName {
    fn from(name: String) -> Self {
        Self(Arc::from(name))
    }
}

impl std::ops::Deref for ChannelName {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for ChannelName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names one life of a channel's stream. Offsets of different epochs cannot be compared.
///
/// An empty epoch sent by a client matches any (it has no position yet).
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Epoch(Option<Arc<str>>);

impl Epoch {
    /// The epoch as text, `""` if there is none.
    pub fn as_str(&self) -> &str {
        self.0.as_deref().unwrap_or("")
    }

    /// Whether no epoch is known.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }
}

impl From<&str> for Epoch {
    fn from(text: &str) -> Self {
        Self((!text.is_empty()).then(|| Arc::from(text)))
    }
}

impl From<String> for Epoch {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl fmt::Debug for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

/// A place in a channel's stream: everything up to and including `offset` of `epoch` has been seen.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct StreamPosition {
    /// 0 before the first publication; publications are numbered from 1 without holes.
    pub offset: u64,
    /// The life of the stream that `offset` counts in.
    pub epoch: Epoch,
}

impl From<message::WirePosition> for StreamPosition {
    fn from(wire: message::WirePosition) -> Self {
        Self { offset: wire.offset, epoch: Epoch::from(wire.epoch) }
    }
}

impl From<StreamPosition> for message::WirePosition {
    fn from(position: StreamPosition) -> Self {
        Self { offset: position.offset, epoch: position.epoch.as_str().to_owned() }
    }
}
