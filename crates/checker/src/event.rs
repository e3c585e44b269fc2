//! What is recorded of a run.

use std::fmt;
use std::sync::Arc;

/// Names one publication. Carried in the payload, so that the subscriber can read it back. A publish that is repeated
/// without an idempotency key needs a new one; and another channel needs another one, or a publication that strays
/// between them goes unnoticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PayloadId {
    /// Who publishes. What it sends after an answer must stand after what was answered.
    pub publisher: u32,
    /// Rises with each publish of this publisher; holes are fine.
    pub sequence: u64,
}

/// A place in a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The life of the stream.
    pub epoch: Arc<str>,
    /// The last offset up to there.
    pub offset: u64,
}

/// How a subscription is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Recoverable or positioned, everything in the channel is for it.
    Positioned,
    /// Recoverable or positioned, with a filter: it gets what names it in its [`Audience`](crate::Audience).
    Filtered,
    /// No positions: whatever arrives is in order and arrives once.
    AtMostOnce,
}

/// A publication as it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// Its offset, 0 if it has none.
    pub offset: u64,
    /// What its payload says it is; `None` if the payload is damaged.
    pub id: Option<PayloadId>,
}

/// What happened to a subscription, in the order the client saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The server accepted the subscription, for the first time or again.
    Subscribed {
        /// Offset and epoch of the reply, if it had them.
        position: Option<Position>,
        /// The reply says that recovery was tried.
        was_recovering: bool,
        /// The reply says that nothing is missing.
        recovered: bool,
        /// The publications in the reply.
        publications: Vec<Delivery>,
    },
    /// A publication was pushed.
    Publication(Delivery),
    /// A publication was pushed to this client under the name of a channel that it is not in.
    Stray(Delivery),
    /// The subscription ended: by the server with its code, by the client with 0.
    Unsubscribed {
        /// From 2500 on the client subscribes again.
        code: u32,
    },
    /// The connection ended: by the server with its code, otherwise with 0.
    Disconnected {
        /// The server's code.
        code: u32,
    },
}

// === impl Position ===

impl Position {
    /// A place by its two parts.
    pub fn new(epoch: &str, offset: u64) -> Self {
        Self { epoch: epoch.into(), offset }
    }
}

// === impl Delivery ===

impl Delivery {
    /// An undamaged publication.
    pub fn new(offset: u64, id: PayloadId) -> Self {
        Self { offset, id: Some(id) }
    }
}

// === impl Event ===

impl Event {
    /// A subscription that starts here, without recovery.
    pub fn subscribed_at(position: Position) -> Self {
        Self::Subscribed {
            position: Some(position),
            was_recovering: false,
            recovered: false,
            publications: Vec::new(),
        }
    }

    /// A successful recovery: the reply repeats the position asked for and brings what came since.
    pub fn recovered_from(position: Position, publications: Vec<Delivery>) -> Self {
        Self::Subscribed { position: Some(position), was_recovering: true, recovered: true, publications }
    }

    /// A recovery that was refused: the subscription goes on from here.
    pub fn not_recovered(position: Position) -> Self {
        Self::Subscribed {
            position: Some(position),
            was_recovering: true,
            recovered: false,
            publications: Vec::new(),
        }
    }
}

impl fmt::Display for PayloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.publisher, self.sequence)
    }
}
