//! Messages from node to node, for engines that several nodes share.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use crate::{BoxFuture, Result};

/// Whom a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recipients {
    /// Every other node of the engine.
    Others,
    /// This node; a message for one that is not there is lost untold.
    One(Uuid),
}

/// Takes what other nodes send, on any thread, one message after the other.
///
/// A receiver is quick, never waits and never calls the engine. It may be handed what its own node sent.
pub trait BusReceiver: Send + Sync + 'static {
    /// A message has come.
    fn receive(&self, message: Bytes);
}

/// Carries messages between the nodes that share an engine.
///
/// At most once, in the sender's order as long as no message is lost. What must not get lost is asked again by the
/// sender; the bus neither keeps nor repeats. Messages are of up to [`MESSAGE_BYTES_MAX`] bytes.
pub trait Bus: Send + Sync + 'static {
    /// Names this node and who takes its messages. Called once, before the first [`Bus::send`]; messages come from the
    /// moment the engine is connected.
    fn join(&self, node: Uuid, receiver: Arc<dyn BusReceiver>);

    /// Hands a message over.
    ///
    /// # Errors
    /// If it certainly was not sent. Success does not say that anyone received it.
    fn send(&self, to: Recipients, message: Bytes) -> BoxFuture<'_, Result<()>>;
}

/// Bytes that one message may have.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;
