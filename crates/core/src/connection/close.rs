//! The end of a connection.

use std::time::Duration;

use tidewire_protocol::Disconnect;

use super::{Connection, Stage, Turn};
use crate::hooks::DisconnectEvent;
use crate::task::Answer;
use crate::time::NEVER;

/// How long a connection whose connect was refused may stay; SDKs leave by themselves.
pub(super) const UNUSABLE_LINGER: Duration = Duration::from_secs(5);

/// A connection that is to be closed, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// Why; on WebSocket the code and reason of the Close frame.
    pub disconnect: Disconnect,
    /// What the driver does with the socket.
    pub linger: Linger,
}

/// What the driver does with the socket of a closing connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Linger {
    /// Write what is queued, send the Close frame, wait a while for the peer's, drop.
    Handshake,
    /// Drop at once; a Close frame may be tried, nothing waits for it.
    DropNow,
}

impl Connection {
    /// Closes the connection: it leaves the registries and its channels at once, the socket follows.
    pub(crate) fn close(&mut self, disconnect: Disconnect, turn: &mut Turn<'_>) {
        if self.is_closed() {
            return;
        }
        let linger = match disconnect.code {
            // The peer is gone, or does not read: nothing can be told to it.
            3000 | 3008 | 3009 => Linger::DropNow,
            _ => Linger::Handshake,
        };
        if linger == Linger::DropNow {
            turn.replies.clear();
            self.outbox.discard_unwritten();
        } else {
            self.flush(turn);
        }
        tracing::debug!(client = %self.client, code = disconnect.code, reason = %disconnect.reason, "closing");
        turn.node.metrics().disconnects.increment();
        if disconnect == Disconnect::SLOW {
            turn.node.metrics().slow_consumers.increment();
        }
        self.end(&disconnect, turn);
        self.closing = Some(Box::new(Closing { disconnect, linger }));
    }

    /// The peer is gone or the driver has closed the socket.
    pub(crate) fn gone(&mut self, turn: &mut Turn<'_>) {
        self.gone = true;
        if !self.is_closed() {
            self.end(&Disconnect::CONNECTION_CLOSED, turn);
        }
        self.outbox = Default::default();
    }

    /// The last resort after a panic within a panic's cleanup: the slot stays until the driver lets go, nothing else runs.
    pub(crate) fn close_after_panic(&mut self) {
        self.stage = Stage::Closed;
        self.intake = None;
        self.deadlines =
            super::Deadlines { ping: NEVER, pong: NEVER, tend: NEVER, stage: NEVER, drain: NEVER };
        self.closing =
            Some(Box::new(Closing { disconnect: Disconnect::SERVER_ERROR, linger: Linger::DropNow }));
    }

    /// Drops an unusable connection without a word.
    pub(super) fn drop_silently(&mut self, turn: &mut Turn<'_>) {
        self.end(&Disconnect::CONNECTION_CLOSED, turn);
        self.closing =
            Some(Box::new(Closing { disconnect: Disconnect::CONNECTION_CLOSED, linger: Linger::DropNow }));
    }

    fn end(&mut self, disconnect: &Disconnect, turn: &mut Turn<'_>) {
        let before = std::mem::replace(&mut self.stage, Stage::Closed);
        let registered = match &before {
            Stage::Connected => true,
            Stage::Connecting(connecting) => connecting.registered,
            Stage::Opened(_) | Stage::Unusable | Stage::Closed => false,
        };
        if registered {
            self.unregister(turn);
        }
        self.intake = None;
        self.deadlines =
            super::Deadlines { ping: NEVER, pong: NEVER, tend: NEVER, stage: NEVER, drain: NEVER };
        for key in self.subs.keys() {
            self.abandon(key, turn);
        }
        if let (Stage::Connected, Some(hook)) = (&before, turn.node.hooks().disconnect.clone()) {
            let event = DisconnectEvent { client: self.context(), disconnect: disconnect.clone() };
            self.spawn(turn, async move {
                let _ = hook(event).await;
                Answer::Done
            });
        }
    }
}
