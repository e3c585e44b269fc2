//! Publications that were decoded lately: the same one comes to thousands of clients and is decoded once.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

use bytes::Bytes;
use tidewire_protocol::Publication;

use super::Arrival;

/// Sets, and frames of one set. A burst comes to one client whole before it comes to the next one, so that all of it must
/// find room: with one place for each hash, two of a burst that share it would drive each other out for every client.
const SETS: usize = 64;
const SET_FRAMES: usize = 8;
/// Longer frames are decoded each time; the cache holds 8 MiB at most.
const FRAME_BYTES_MAX: usize = 16 << 10;

/// Parts of frames, and compressed frames, seen lately that hold one publication and nothing else.
pub(super) struct FrameCache {
    sets: Vec<Set>,
    hasher: foldhash::fast::FixedState,
}

#[derive(Default)]
struct Set {
    slots: [Option<Slot>; SET_FRAMES],
    /// The one that is given up next, the oldest.
    next: usize,
}

struct Slot {
    hash: u64,
    frame: Bytes,
    is_compressed: bool,
    known: KnownFrame,
}

#[derive(Debug, Clone)]
pub(super) struct KnownFrame {
    pub(super) channel: Arc<str>,
    pub(super) arrival: Arrival,
}

// === impl FrameCache ===

impl Default for FrameCache {
    fn default() -> Self {
        let sets = std::iter::repeat_with(Set::default).take(SETS).collect();
        Self { sets, hasher: foldhash::fast::FixedState::default() }
    }
}

impl fmt::Debug for FrameCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameCache").finish_non_exhaustive()
    }
}

impl FrameCache {
    pub(super) fn find(&self, frame: &[u8], compressed: bool) -> Option<&KnownFrame> {
        let hash = self.hasher.hash_one(frame);
        let is_it =
            |slot: &&Slot| slot.hash == hash && slot.is_compressed == compressed && slot.frame == frame;
        let set = self.sets.get(hash as usize % SETS)?;
        set.slots.iter().flatten().find(is_it).map(|slot| &slot.known)
    }

    /// Remembers a frame that [`find`](Self::find) did not find.
    pub(super) fn keep(&mut self, frame: &[u8], compressed: bool, known: KnownFrame) {
        let hash = self.hasher.hash_one(frame);
        let Some(set) = self.sets.get_mut(hash as usize % SETS) else { return };
        let next = set.next;
        if let Some(slot) = set.slots.get_mut(next).filter(|_| frame.len() <= FRAME_BYTES_MAX) {
            let frame = Bytes::copy_from_slice(frame);
            *slot = Some(Slot { hash, frame, is_compressed: compressed, known });
            set.next = (next + 1) % SET_FRAMES;
        }
    }
}

// === impl KnownFrame ===

impl KnownFrame {
    pub(super) fn new(channel: &str, publication: &Publication) -> Self {
        Self { channel: channel.into(), arrival: Arrival::of(publication) }
    }
}
