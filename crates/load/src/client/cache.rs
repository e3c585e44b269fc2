//! Frames that were decoded lately: the same one comes to thousands of clients and is decoded once.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::Arc;

use bytes::Bytes;
use tidewire_protocol::Publication;

use super::Arrival;

const CACHE_FRAMES: usize = 256;
/// Longer frames are decoded each time; the cache holds 4 MiB at most.
const CACHE_FRAME_BYTES_MAX: usize = 16 << 10;

/// Frames seen lately that hold one publication and nothing else.
pub(super) struct FrameCache {
    /// A frame, whether it is compressed, and what it says.
    slots: Vec<Option<(Bytes, bool, KnownFrame)>>,
    hasher: foldhash::fast::FixedState,
}

#[derive(Debug, Clone)]
pub(super) struct KnownFrame {
    channel: Arc<str>,
    arrival: Arrival,
}

// === impl FrameCache ===

impl Default for FrameCache {
    fn default() -> Self {
        Self { slots: vec![None; CACHE_FRAMES], hasher: foldhash::fast::FixedState::default() }
    }
}

impl fmt::Debug for FrameCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameCache").finish_non_exhaustive()
    }
}

impl FrameCache {
    fn slot(&self, frame: &[u8]) -> usize {
        self.hasher.hash_one(frame) as usize % CACHE_FRAMES
    }

    pub(super) fn find(&self, frame: &[u8], compressed: bool) -> Option<&KnownFrame> {
        let (known, known_compressed, what) = self.slots.get(self.slot(frame))?.as_ref()?;
        (*known == frame && *known_compressed == compressed).then_some(what)
    }

    pub(super) fn keep(&mut self, frame: Bytes, compressed: bool, known: KnownFrame) {
        if frame.len() > CACHE_FRAME_BYTES_MAX {
            return;
        }
        let slot = self.slot(&frame);
        if let Some(slot) = self.slots.get_mut(slot) {
            *slot = Some((frame, compressed, known));
        }
    }
}

// === impl KnownFrame ===

impl KnownFrame {
    pub(super) fn new(channel: &str, publication: &Publication) -> Self {
        Self { channel: channel.into(), arrival: Arrival::of(publication) }
    }

    /// As it looks to a client of `channel`: what names another channel cannot be meant for it.
    pub(super) fn arrival(&self, channel: Option<&str>) -> Arrival {
        match channel {
            Some(channel) if *channel == *self.channel => self.arrival,
            _ => Arrival { payload: None, ..self.arrival },
        }
    }
}
