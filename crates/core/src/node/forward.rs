//! Messages of clients that reach a node by a request of their own.
//!
//! A client without a WebSocket receives over one long response and sends by separate requests, which a balancer may hand
//! to any node. The client names the node and the session that its connect command was answered with.

use bytes::Bytes;
use futures_channel::oneshot;
use futures_util::future::join_all;
use uuid::Uuid;

use super::Node;
use crate::inbox::Operation;

/// Why a client's message did not reach its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotForwarded {
    /// No such node has been heard of lately.
    UnknownNode,
    /// The node has no connection with this session, or has it no more.
    UnknownSession,
    /// The node did not say that it has taken the message; it may have.
    NoAnswer,
}

impl Node {
    /// Hands a message of a client, one or more commands as its transport frames them, to the connection with this session on
    /// that node. Returns once the connection has it; what it answers goes over the connection. Messages that are handed over
    /// one after the other are taken in that order.
    ///
    /// # Errors
    /// Where there is no such node or connection, and where the node does not answer within seconds.
    pub async fn forward(&self, node: Uuid, session: Uuid, message: Bytes) -> Result<(), NotForwarded> {
        if node == self.id() {
            let (count, taken) = self.take_here(session, message);
            join_all(taken).await;
            return if count > 0 { Ok(()) } else { Err(NotForwarded::UnknownSession) };
        }
        let answers = self.ask_to_take(node, session, message).await.ok_or(NotForwarded::UnknownNode)?;
        match answers.connections() {
            _ if answers.failed() > 0 => Err(NotForwarded::NoAnswer),
            0 => Err(NotForwarded::UnknownSession),
            _ => Ok(()),
        }
    }

    /// Hands a message to this node's connection with the session, if there is one: how many that are, and what resolves when
    /// it has been taken.
    pub(crate) fn take_here(&self, session: Uuid, message: Bytes) -> (usize, Vec<oneshot::Receiver<()>>) {
        let place = self.registry().session(session);
        self.hand_out(place.into_iter().collect(), Operation::Commands(message))
    }
}
