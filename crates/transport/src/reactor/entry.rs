//! What a reactor keeps of one socket.

use std::time::Duration;

use tidewire_core::{ConnectionKey, Outbox};

use super::socket::Socket;
use crate::ws::{Decoder, Extension};

/// One socket. Idle, it is this and nothing else: no buffer, no task.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) socket: Socket,
    pub(super) decoder: Decoder,
    /// The connection, until it was told that its socket is gone.
    pub(super) key: Option<ConnectionKey>,
    /// What only a paused or ending socket needs.
    pub(super) aside: Option<Box<Aside>>,
    /// Milliseconds of the last progress of a write, while `stalled`; wraps.
    pub(super) stalled_since: u32,
    /// In the list of sockets to write.
    pub(super) to_write: bool,
    /// In the list of sockets to read although no edge will come.
    pub(super) to_read: bool,
    /// The connection does not want to be read; what came is in `aside` or still in the kernel.
    pub(super) paused: bool,
    /// The kernel took less than there was.
    pub(super) stalled: bool,
    /// A timer for the stall is running.
    pub(super) timed: bool,
    /// The peer has ended its direction: a short read does not mean that all was read.
    pub(super) read_closed: bool,
}

/// The rarer part of an [`Entry`].
#[derive(Default)]
pub(super) struct Aside {
    /// Input that came before the connection was paused: at most one read buffer.
    pub(super) unread: Vec<u8>,
    pub(super) ending: Option<Ending>,
}

/// A socket on its way out.
pub(super) struct Ending {
    /// What is still to be written; its last frame is the close frame.
    pub(super) outbox: Outbox,
    pub(super) stage: EndingStage,
    /// Monotonic time after which the socket is dropped as it is.
    pub(super) deadline: Duration,
}

/// How far a closing socket has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndingStage {
    /// Writing; the peer's close frame is still awaited.
    Closing,
    /// Writing; nothing the peer sends matters any more.
    Finishing,
    /// All is written and the sending direction closed. Input is read and dropped until the peer ends too: a reset,
    /// which dropping unread input causes, could overtake our close frame.
    Draining,
}

impl Entry {
    pub(super) fn new(socket: Socket, extension: Extension) -> Self {
        Self {
            socket,
            decoder: Decoder::new(extension),
            key: None,
            aside: None,
            stalled_since: 0,
            to_write: false,
            to_read: false,
            paused: false,
            stalled: false,
            timed: false,
            read_closed: false,
        }
    }

    pub(super) fn ending(&mut self) -> Option<&mut Ending> {
        self.aside.as_mut()?.ending.as_mut()
    }

    pub(super) fn is_ending(&self) -> bool {
        self.aside.as_ref().is_some_and(|aside| aside.ending.is_some())
    }

    /// Keeps input for later.
    pub(super) fn pause(&mut self, unread: &[u8]) {
        self.paused = true;
        self.aside.get_or_insert_default().unread = unread.to_vec();
    }

    /// Takes the kept input back.
    pub(super) fn resume(&mut self) -> Vec<u8> {
        self.paused = false;
        let Some(aside) = &mut self.aside else { return Vec::new() };
        let unread = std::mem::take(&mut aside.unread);
        if aside.ending.is_none() {
            self.aside = None;
        }
        unread
    }
}

impl std::fmt::Debug for Aside {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Input is payload and stays out of logs.
        let stage = self.ending.as_ref().map(|ending| ending.stage);
        f.debug_struct("Aside").field("unread_bytes", &self.unread.len()).field("ending", &stage).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_socket_costs_one_small_entry() {
        // The transport's share of an idle connection: this, 4 bytes of the key map and (TLS) the session. The node's
        // budget is 1.5 KB for a plain connection; growth here is paid by every connection, so it is deliberate only.
        // Debug builds of mio remember which poll a socket belongs to.
        let debug_only = if cfg!(debug_assertions) { 8 } else { 0 };
        assert!(size_of::<Entry>() <= 64 + debug_only, "{}", size_of::<Entry>());
    }
}
