//! The ways a socket goes.

use std::cmp::Reverse;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::Bytes;

use super::driven::Driven;
use super::entry::{Ending, EndingStage, Entry};
use super::event_loop::EventLoop;
use super::write::Flush;
use crate::ws::Event;

/// How long a socket that has said everything waits for the peer to close too.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How a connection parts from its peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    /// We close: everything queued, the close frame, then the peer's close frame is awaited. The connection is told at
    /// the end.
    Handshake,
    /// The peer closed or broke the protocol: the connection is told at once, then what is queued and the close frame
    /// go out.
    Answer,
    /// The peer does not read: only what it takes within the write timeout.
    BestEffort,
}

impl<D: Driven> EventLoop<D> {
    /// Begins to end: from here on the socket has its own outbox, whose last frame is `frame`.
    pub(super) fn part(&mut self, id: u32, frame: Bytes, farewell: Farewell) {
        let Some(entry) = self.entries.get_mut(id as usize) else { return };
        let Some(key) = entry.key else { return };
        let mut outbox = std::mem::take(self.driven.outbox(key));
        if farewell == Farewell::BestEffort {
            outbox.discard_unwritten();
        }
        outbox.push(frame);
        let (stage, timeout) = match farewell {
            Farewell::Handshake => (EndingStage::Closing, self.options.close_timeout),
            Farewell::Answer => (EndingStage::Finishing, DRAIN_TIMEOUT),
            Farewell::BestEffort => (EndingStage::Finishing, self.options.write_timeout),
        };
        let deadline = self.now.mono + timeout;
        let unread = entry.resume();
        entry.aside.get_or_insert_default().ending = Some(Ending { outbox, stage, deadline });
        if farewell != Farewell::Handshake {
            entry.key = None;
            self.driven.gone(key, self.now);
        }
        self.timers.push(Reverse((deadline, id)));
        if !unread.is_empty() {
            let mut unread = unread;
            self.take_input_while_ending(id, &mut unread);
        }
        // The connection may have been paused, and edges not followed.
        self.list_to_read(id);
        self.go_on_ending(id);
    }

    /// Writes what is left and, once that is done, closes our direction.
    pub(super) fn go_on_ending(&mut self, id: u32) {
        match self.flush(id) {
            Ok(Flush::Done) => {}
            Ok(Flush::Yielded) => return self.list_to_write(id),
            Ok(Flush::Blocked) => return,
            Err(_) => return self.lost(id),
        }
        let deadline = self.now.mono + DRAIN_TIMEOUT;
        let Some(entry) = self.entries.get_mut(id as usize) else { return };
        let Some(ending) = entry.ending().filter(|ending| ending.stage == EndingStage::Finishing) else {
            return;
        };
        ending.stage = EndingStage::Draining;
        ending.deadline = ending.deadline.min(deadline);
        let deadline = ending.deadline;
        entry.socket.say_goodbye();
        // A farewell that does not go out at once is not worth waiting for.
        let _ = entry.socket.write(&[]);
        entry.socket.shutdown_write();
        self.timers.push(Reverse((deadline, id)));
    }

    /// Waits for the peer's close frame, if that is still to come; everything else is dropped.
    pub(super) fn take_input_while_ending(&mut self, id: u32, input: &mut [u8]) {
        let mut at = 0;
        let Some(entry) = self.entries.get_mut(id as usize) else { return };
        loop {
            let Some(ending) = entry.aside.as_mut().and_then(|aside| aside.ending.as_mut()) else { return };
            if ending.stage != EndingStage::Closing {
                return;
            }
            let rest = input.get_mut(at..).unwrap_or_default();
            match entry.decoder.decode(&self.options.limits, self.now.mono, rest) {
                Ok((_, None)) => return,
                Ok((taken, Some(event))) => {
                    at += taken;
                    if !matches!(event, Event::Close(_)) {
                        continue;
                    }
                }
                // It breaks the protocol while it is shown out: no close frame of its will come.
                Err(_) => {}
            }
            ending.stage = EndingStage::Finishing;
            return self.list_to_write(id);
        }
    }

    /// The peer has ended its direction. It may have done so right behind its close frame: what goes out at once still
    /// does, and TLS's farewell.
    pub(super) fn ended_by_peer(&mut self, id: u32) {
        if self.entries.get(id as usize).is_some_and(Entry::is_ending) {
            self.go_on_ending(id);
        }
        self.lost(id);
    }

    /// Drops the socket.
    pub(super) fn lost(&mut self, id: u32) {
        let Some(entry) = self.entries.try_remove(id as usize) else { return };
        self.mailbox.counts.leave();
        self.addresses.remove(&id);
        if let Some(key) = entry.key {
            self.driven.gone(key, self.now);
        }
        // Closing the descriptor takes it out of the poll.
        drop(entry);
    }

    /// Drops every socket: the reactor ends.
    pub(super) fn abandon_all(&mut self) {
        self.drop_all();
        self.driven.advance(self.now);
        self.run_tasks();
    }

    /// Drops every socket and tells its connection.
    pub(super) fn drop_all(&mut self) {
        let ids: Vec<usize> = self.entries.iter().map(|(id, _)| id).collect();
        for id in ids {
            // Slab keys are given out as u32 only.
            let id = u32::try_from(id).unwrap_or(u32::MAX);
            if catch_unwind(AssertUnwindSafe(|| self.lost(id))).is_err() {
                tracing::error!("the end of a connection panicked; please report this");
                self.driven.panicked();
            }
        }
    }
}
