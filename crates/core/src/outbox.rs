//! What one connection has yet to be sent: finished frames, shared with every other receiver.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

/// What one queued frame costs besides its bytes, so that many tiny frames are bounded too.
pub const FRAME_OVERHEAD: usize = 64;

/// Room for this many frames is made when a second one waits. Where two gather, more are likely to: a burst.
const MANY_AT_FIRST: usize = 8;

/// A queue of finished frames, counted in bytes. It allocates nothing while it holds one frame or none: nearly every
/// frame is written before the next one comes.
#[derive(Default)]
pub struct Outbox {
    frames: Frames,
    /// Bytes of the first frame that are already written.
    written: usize,
    bytes: usize,
}

#[derive(Default)]
enum Frames {
    #[default]
    None,
    One(Bytes),
    Many(VecDeque<Bytes>),
}

// === impl Outbox ===

impl Outbox {
    /// Whether everything has been written.
    pub fn is_empty(&self) -> bool {
        self.frames.len() == 0
    }

    /// Bytes waiting.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes waiting, with [`FRAME_OVERHEAD`] for each frame: what the limit is compared with.
    pub fn weight(&self) -> usize {
        self.bytes + self.frames.len() * FRAME_OVERHEAD
    }

    /// Appends a finished frame.
    pub fn push(&mut self, frame: Bytes) {
        self.bytes += frame.len();
        self.frames.push(frame);
    }

    /// Puts up to `max` slices of what waits into `into`, in order, for one vectored write.
    pub fn slices<'a>(&'a self, into: &mut impl Extend<IoSlice<'a>>, max: usize) {
        let mut skip = self.written;
        let slice = |frame: &'a Bytes| IoSlice::new(&frame[std::mem::take(&mut skip)..]);
        match &self.frames {
            Frames::None => {}
            Frames::One(frame) => into.extend(Some(frame).into_iter().take(max).map(slice)),
            Frames::Many(frames) => into.extend(frames.iter().take(max).map(slice)),
        }
    }

    /// Forgets the first `written` bytes: they are on their way. Gives the memory back once nothing waits.
    pub fn advance(&mut self, mut written: usize) {
        debug_assert!(written <= self.bytes, "more written than was there");
        self.bytes -= written.min(self.bytes);
        if self.bytes == 0 {
            // Nearly always: the socket took all of it.
            self.frames = Frames::None;
            self.written = 0;
            return;
        }
        while let Some(frame) = self.frames.first() {
            let left = frame.len() - self.written;
            if written < left {
                self.written += written;
                return;
            }
            written -= left;
            self.written = 0;
            self.frames.pop();
        }
    }

    /// Drops everything that no byte has been written of, so that what follows still begins at a frame.
    pub fn discard_unwritten(&mut self) {
        let started = (self.written > 0).then(|| self.frames.pop()).flatten();
        self.frames = Frames::None;
        self.bytes = 0;
        match started {
            Some(frame) => {
                self.bytes = frame.len() - self.written;
                self.frames.push(frame);
            }
            None => self.written = 0,
        }
    }
}

// === impl Frames ===

impl Frames {
    fn len(&self) -> usize {
        match self {
            Self::None => 0,
            Self::One(_) => 1,
            Self::Many(frames) => frames.len(),
        }
    }

    fn first(&self) -> Option<&Bytes> {
        match self {
            Self::None => None,
            Self::One(frame) => Some(frame),
            Self::Many(frames) => frames.front(),
        }
    }

    fn push(&mut self, frame: Bytes) {
        match self {
            Self::None => *self = Self::One(frame),
            Self::Many(frames) => frames.push_back(frame),
            Self::One(_) => self.push_second(frame),
        }
    }

    /// Makes a queue of the one frame. Apart, since most frames are written before a second one comes.
    #[cold]
    fn push_second(&mut self, frame: Bytes) {
        let mut frames = VecDeque::with_capacity(MANY_AT_FIRST);
        frames.extend(self.pop());
        frames.push_back(frame);
        *self = Self::Many(frames);
    }

    /// Takes the first frame; gives the memory back with the last.
    fn pop(&mut self) -> Option<Bytes> {
        let Self::Many(frames) = self else {
            return match std::mem::take(self) {
                Self::One(frame) => Some(frame),
                _ => None,
            };
        };
        let first = frames.pop_front();
        if frames.is_empty() {
            *self = Self::None;
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn content(outbox: &Outbox) -> Vec<u8> {
        let mut slices = Vec::new();
        outbox.slices(&mut slices, usize::MAX);
        slices.iter().flat_map(|slice| slice.iter().copied()).collect()
    }

    #[test]
    fn a_partly_written_frame_is_finished_when_the_rest_is_discarded() {
        let mut outbox = Outbox::default();
        outbox.push(Bytes::from_static(b"hello"));
        outbox.push(Bytes::from_static(b"world"));
        outbox.advance(2);
        outbox.discard_unwritten();
        assert_eq!(content(&outbox), b"llo");
        assert_eq!(outbox.bytes(), 3);
    }

    #[test]
    fn a_queue_of_many_frames_takes_no_more_room_in_an_idle_connection_than_one() {
        assert!(size_of::<Frames>() <= size_of::<Bytes>() + size_of::<usize>());
    }

    proptest! {
        #[test]
        fn writes_every_byte_once_in_order(frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..20), step in 1usize..7) {
            let mut outbox = Outbox::default();
            for frame in &frames {
                outbox.push(Bytes::from(frame.clone()));
            }
            let mut written = Vec::new();
            while outbox.bytes() > 0 {
                let now = content(&outbox);
                prop_assert_eq!(now.len(), outbox.bytes());
                let n = step.min(now.len());
                written.extend_from_slice(&now[..n]);
                outbox.advance(n);
            }
            prop_assert_eq!(written, frames.concat());
        }
    }
}
