//! permessage-deflate (RFC 7692) for what is sent: every message by itself, without context takeover.
//!
//! That is why one compressed frame can go to all receivers, and why a connection holds no compressor: each thread keeps
//! one per window and resets it for each message.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use flate2::{Compress, Compression, FlushCompress};

/// What a sync flush ends with and a message leaves out (§7.2.1).
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// Shorter messages are not tried: deflate has nothing to gain there, and pings of the protocol are among them.
const BYTES_WORTH_TRYING: usize = 32;

/// What a compressor may keep of its output buffer between two messages.
const BUFFER_KEPT_BYTES: usize = 64 << 10;

/// How far back compressed data may refer: what the receiver has to remember. Of all that could be agreed on, two, so that
/// few frames are made per broadcast.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// 512 bytes, for receivers that want less than 4 KiB.
    Narrow,
    /// 4 KiB.
    Usual,
}

/// How messages to one connection are compressed: agreed on at its upgrade, tuned by the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Deflate {
    /// What the receiver agreed to.
    pub window: Window,
    /// 0 (stored) to 9 (smallest); what is above counts as 9.
    pub level: u8,
    /// Shorter messages go out as they are.
    pub min_size: u32,
}

/// One thread's compressor, with the buffer it writes to.
struct Compressor {
    window: Window,
    level: u8,
    state: Compress,
    out: Vec<u8>,
}

thread_local! {
    /// Nearly always none or one: windows and levels hardly differ within a process.
    static COMPRESSORS: RefCell<Vec<Compressor>> = const { RefCell::new(Vec::new()) };
}

// === impl Window ===

impl Window {
    /// How many there are.
    pub(crate) const COUNT: usize = 2;

    /// The base-2 logarithm of its size.
    pub const fn bits(self) -> u8 {
        match self {
            Self::Narrow => 9,
            Self::Usual => 12,
        }
    }
}

// === impl Deflate ===

impl Deflate {
    /// Hands the payload of a compressed message to `then`; `None` if it would not be smaller or is not worth it.
    pub(crate) fn compress<R>(self, message: &[u8], then: impl FnOnce(&[u8]) -> R) -> Option<R> {
        if message.len() < BYTES_WORTH_TRYING.max(self.min_size as usize) {
            return None;
        }
        // Many receivers may wait for this frame: a bug in the library must cost them no more than the compression.
        let compressed = catch_unwind(AssertUnwindSafe(|| {
            let mut compressor = self.take_compressor();
            let done = compressor.compress(message).map(then);
            COMPRESSORS.with_borrow_mut(|compressors| compressors.push(compressor));
            done
        }));
        compressed.unwrap_or_else(|_| {
            tracing::error!("the compressor panicked and the message goes out as it is; please report this");
            None
        })
    }

    /// The thread's compressor of this kind, to be put back: what a panic leaves behind is not used again.
    fn take_compressor(self) -> Compressor {
        let (window, level) = (self.window, self.level.min(9));
        let kept = COMPRESSORS.with_borrow_mut(|compressors| {
            let of_kind = |kept: &Compressor| (kept.window, kept.level) == (window, level);
            compressors.iter().position(of_kind).map(|at| compressors.swap_remove(at))
        });
        kept.unwrap_or_else(|| Compressor::new(window, level))
    }
}

// === impl Compressor ===

impl Compressor {
    fn new(window: Window, level: u8) -> Self {
        Self { window, level, state: Self::fresh(window, level), out: Vec::new() }
    }

    fn fresh(window: Window, level: u8) -> Compress {
        Compress::new_with_window_bits(Compression::new(level.into()), false, window.bits())
    }

    /// The compressed message without its tail, if that is smaller.
    fn compress(&mut self, message: &[u8]) -> Option<&[u8]> {
        self.state.reset();
        self.out.clear();
        self.out.shrink_to(BUFFER_KEPT_BYTES);
        // The worst case is nine bits a byte and a header per block.
        self.out.reserve(message.len() + message.len() / 8 + 256);
        let done = self.state.compress_vec(message, &mut self.out, FlushCompress::Sync);
        // Room is left only once everything is taken and flushed.
        if done.is_err() || self.out.len() == self.out.capacity() {
            // zlib-rs 0.6.8 does not reset what was left to be flushed: the next message would begin with it.
            self.state = Self::fresh(self.window, self.level);
            return None;
        }
        let payload = self.out.strip_suffix(&TAIL)?;
        (payload.len() < message.len()).then_some(payload)
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Decompress, FlushDecompress};
    use proptest::prelude::*;

    use super::*;

    const WINDOWS: [Window; 2] = [Window::Narrow, Window::Usual];

    fn deflate(window: Window, level: u8) -> Deflate {
        Deflate { window, level, min_size: 0 }
    }

    fn compressed(how: Deflate, message: &[u8]) -> Option<Vec<u8>> {
        how.compress(message, <[u8]>::to_vec)
    }

    /// What a receiver makes of it that remembers no more than it agreed to.
    fn inflated(window: Window, payload: &[u8], length: usize) -> Vec<u8> {
        let mut state = Decompress::new_with_window_bits(false, window.bits());
        let mut out = Vec::with_capacity(length + 1);
        let input = [payload, &TAIL].concat();
        state.decompress_vec(&input, &mut out, FlushDecompress::Sync).unwrap();
        assert_eq!(state.total_in(), input.len() as u64, "all of it is taken");
        out
    }

    /// Text that repeats itself at every distance up to its length.
    fn prose(length: usize) -> Vec<u8> {
        let words =
            (0_u32..).flat_map(|n| format!("{{\"n\":{},\"word\":\"{:x}\"}}", n % 977, n * 7919).into_bytes());
        words.take(length).collect()
    }

    #[test]
    fn inv_g6_a_panic_costs_the_compression_of_one_message() {
        let (how, message) = (deflate(Window::Usual, 6), prose(1_000));
        assert_eq!(how.compress(&message, |_| -> usize { panic!("as the library might") }), None);
        let payload = compressed(how, &message).unwrap();
        assert_eq!(inflated(Window::Usual, &payload, message.len()), message);
    }

    #[test]
    fn inv_d6_messages_of_all_sizes_come_back_in_every_window_and_level() {
        for window in WINDOWS {
            for level in 0..=10 {
                for length in [32, 100, 511, 513, 4095, 4097, 40_000, 200_000] {
                    let message = prose(length);
                    if let Some(payload) = compressed(deflate(window, level), &message) {
                        assert_eq!(
                            inflated(window, &payload, length),
                            message,
                            "{window:?} {level} {length}"
                        );
                    } else {
                        assert!(level == 0 || length < 100, "{window:?} {level} {length} is not compressed");
                    }
                }
            }
        }
    }

    /// Nothing for deflate.
    fn noise(length: usize) -> Vec<u8> {
        let mut state = 1_u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn what_would_grow_or_is_short_stays_as_it_is() {
        assert_eq!(compressed(deflate(Window::Usual, 9), &noise(5000)), None);
        assert_eq!(compressed(deflate(Window::Usual, 9), b"{}"), None);
        assert_eq!(compressed(deflate(Window::Usual, 9), &[b'a'; 31]), None);
        assert!(compressed(deflate(Window::Usual, 9), &[b'a'; 32]).is_some());
    }

    #[test]
    fn the_least_size_is_compressed() {
        let how = Deflate { min_size: 100, ..deflate(Window::Usual, 1) };
        assert_eq!(compressed(how, &[b'a'; 99]), None);
        assert!(compressed(how, &[b'a'; 100]).is_some());
    }

    #[test]
    fn nothing_is_carried_over_from_one_message_to_the_next() {
        let message = prose(3000);
        let first = compressed(deflate(Window::Usual, 6), &message).unwrap();
        assert_eq!(compressed(deflate(Window::Usual, 6), &message).unwrap(), first);
    }

    /// Giving up in the middle left zlib-rs with output that `reset` did not forget: a panic some messages later.
    #[test]
    fn inv_g6_a_message_that_did_not_shrink_leaves_nothing_to_the_next() {
        for window in WINDOWS {
            for level in 0..=9 {
                for length in [600, 5000, 70_000, 300_000] {
                    assert_eq!(compressed(deflate(window, level), &noise(length)), None);
                    let message = prose(length);
                    let payload = compressed(deflate(window, level), &message);
                    let payload = payload.filter(|_| level > 0);
                    if let Some(payload) = payload {
                        assert_eq!(
                            inflated(window, &payload, length),
                            message,
                            "{window:?} {level} {length}"
                        );
                    } else {
                        assert_eq!(level, 0);
                    }
                }
            }
        }
    }

    #[test]
    fn a_large_message_leaves_no_large_buffer() {
        compressed(deflate(Window::Usual, 1), &prose(1 << 20)).unwrap();
        compressed(deflate(Window::Usual, 1), &prose(100)).unwrap();
        COMPRESSORS.with_borrow(|compressors| {
            assert!(compressors.iter().all(|each| each.out.capacity() <= BUFFER_KEPT_BYTES));
        });
    }

    proptest! {
        #[test]
        fn inv_d6_any_message_comes_back(
            // Few letters, so that much of it repeats.
            message in proptest::collection::vec(0_u8..4, 32..6000),
            narrow in any::<bool>(),
            level in 1_u8..10,
        ) {
            let window = if narrow { Window::Narrow } else { Window::Usual };
            if let Some(payload) = compressed(deflate(window, level), &message) {
                prop_assert!(payload.len() < message.len());
                prop_assert_eq!(inflated(window, &payload, message.len()), message);
            }
        }
    }
}
