//! From the outbox to the socket.

use std::cmp::Reverse;
use std::io::{self, IoSlice};
use std::time::Duration;

use smallvec::SmallVec;
use tidewire_core::Linger;
use tidewire_protocol::Disconnect;

use super::driven::Driven;
use super::end::Farewell;
use super::event_loop::EventLoop;
use crate::ws::close_frame;

/// Frames joined in one write.
const SLICES_PER_WRITE: usize = 64;

/// Bytes one connection may send before the others get their turn.
const WRITE_BYTES_PER_TURN: usize = 256 << 10;

/// How a round of writing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Flush {
    /// Nothing is left.
    Done,
    /// The kernel takes no more; an edge will come.
    Blocked,
    /// The connection's share of this turn is used up.
    Yielded,
}

impl<D: Driven> EventLoop<D> {
    /// Does what a connection with news asks for: writes, ends, or reads on.
    pub(super) fn attend(&mut self, id: u32) {
        let Some(entry) = self.entries.get_mut(id as usize) else { return };
        let Some(key) = entry.key.filter(|_| !entry.is_ending()) else {
            return self.go_on_ending(id);
        };
        if let Some(closing) = self.driven.closing(key) {
            let frame = u16::try_from(closing.disconnect.code)
                .ok()
                .map(|code| close_frame(code, &closing.disconnect.reason));
            return match (closing.linger, frame) {
                (Linger::Handshake, Some(frame)) => self.part(id, frame, Farewell::Handshake),
                (Linger::DropNow, Some(frame)) if closing.disconnect != Disconnect::CONNECTION_CLOSED => {
                    self.part(id, frame, Farewell::BestEffort);
                }
                _ => self.lost(id),
            };
        }
        match self.flush(id) {
            Ok(Flush::Yielded) => self.list_to_write(id),
            Ok(Flush::Done | Flush::Blocked) => {}
            Err(error) => {
                tracing::debug!(%error, "write failed");
                return self.lost(id);
            }
        }
        if !self.driven.wants_read(key) {
            self.driven.written(key, self.now);
        }
        if self.entries.get(id as usize).is_some_and(|entry| entry.paused) && self.driven.wants_read(key) {
            self.resume_reading(id);
        }
    }

    /// Writes what the socket takes, many frames at a time.
    pub(super) fn flush(&mut self, id: u32) -> io::Result<Flush> {
        let Some(entry) = self.entries.get_mut(id as usize) else { return Ok(Flush::Done) };
        let outbox = match (entry.aside.as_mut().and_then(|aside| aside.ending.as_mut()), entry.key) {
            (Some(ending), _) => &mut ending.outbox,
            (None, Some(key)) => self.driven.outbox(key),
            (None, None) => return Ok(Flush::Done),
        };
        let mut share = WRITE_BYTES_PER_TURN;
        let mut progress = false;
        let end = loop {
            if outbox.is_empty() && !entry.socket.holds_output() {
                break Flush::Done;
            }
            let mut slices = SmallVec::<[IoSlice<'_>; SLICES_PER_WRITE]>::new();
            outbox.slices(&mut slices, SLICES_PER_WRITE);
            self.writes += 1;
            let written = entry.socket.write(&slices)?;
            drop(slices);
            outbox.advance(written.taken);
            progress |= written.progress;
            if written.blocked {
                break Flush::Blocked;
            }
            share = share.saturating_sub(written.taken);
            if share == 0 {
                break Flush::Yielded;
            }
        };
        self.note_stall(id, end == Flush::Blocked, progress);
        Ok(end)
    }

    /// Remembers since when a socket takes nothing.
    fn note_stall(&mut self, id: u32, blocked: bool, progress: bool) {
        let now = self.now_ms();
        let Some(entry) = self.entries.get_mut(id as usize) else { return };
        let began = blocked && !entry.stalled;
        if began || progress {
            entry.stalled_since = now;
        }
        entry.stalled = blocked;
        if began && !std::mem::replace(&mut entry.timed, true) {
            self.timers.push(Reverse((self.now.mono + self.options.write_timeout, id)));
        }
    }

    /// Looks at a socket whose stall or ending may have lasted too long.
    pub(super) fn on_timer(&mut self, id: u32) {
        let Some(entry) = self.entries.get_mut(id as usize) else { return };
        if let Some(ending) = entry.ending() {
            if ending.deadline <= self.now.mono {
                self.lost(id);
            }
            return;
        }
        entry.timed = false;
        let (true, Some(key)) = (entry.stalled, entry.key) else { return };
        // The kernel tells of room only when there is plenty; a slow reader may have made some progress.
        match self.flush(id) {
            Ok(Flush::Blocked) => {}
            Ok(_) => return self.list_to_write(id),
            Err(_) => return self.lost(id),
        }
        let now = self.now_ms();
        let Some(entry) = self.entries.get_mut(id as usize) else { return };
        let stalled = Duration::from_millis(now.wrapping_sub(entry.stalled_since).into());
        if stalled < self.options.write_timeout {
            entry.timed = true;
            self.timers.push(Reverse((self.now.mono + self.options.write_timeout - stalled, id)));
            return;
        }
        self.driven.close(key, Disconnect::WRITE_ERROR, self.now);
        self.attend(id);
    }
}
