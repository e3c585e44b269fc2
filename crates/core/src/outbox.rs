//! What one connection has yet to be sent: finished frames, shared with every other receiver.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::Bytes;

/// What one queued frame costs besides its bytes, so that many tiny frames are bounded too.
pub const FRAME_OVERHEAD: usize = 64;

/// A queue of finished frames, counted in bytes. It allocates nothing while empty.
#[derive(Default)]
pub struct Outbox {
    frames: VecDeque<Bytes>,
    /// Bytes of the first frame that are already written.
    written: usize,
    bytes: usize,
}

impl Outbox {
    /// Whether everything has been written.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
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
        self.frames.push_back(frame);
    }

    /// Puts up to `max` slices of what waits into `into`, in order, for one vectored write.
    pub fn slices<'a>(&'a self, into: &mut Vec<IoSlice<'a>>, max: usize) {
        let mut skip = self.written;
        for frame in self.frames.iter().take(max) {
            into.push(IoSlice::new(&frame[skip..]));
            skip = 0;
        }
    }

    /// Forgets the first `written` bytes: they are on their way. Gives the memory back once nothing waits.
    pub fn advance(&mut self, mut written: usize) {
        debug_assert!(written <= self.bytes, "more written than was there");
        self.bytes -= written.min(self.bytes);
        while let Some(frame) = self.frames.front() {
            let left = frame.len() - self.written;
            if written < left {
                self.written += written;
                return;
            }
            written -= left;
            self.written = 0;
            self.frames.pop_front();
        }
        self.frames = VecDeque::new();
    }

    /// Drops everything that no byte has been written of, so that what follows still begins at a frame.
    pub fn discard_unwritten(&mut self) {
        let started = (self.written > 0).then(|| self.frames.pop_front()).flatten();
        self.frames = VecDeque::new();
        self.bytes = 0;
        match started {
            Some(frame) => {
                self.bytes = frame.len() - self.written;
                self.frames.push_back(frame);
            }
            None => self.written = 0,
        }
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
