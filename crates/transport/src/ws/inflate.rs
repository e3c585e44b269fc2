//! permessage-deflate (RFC 7692) for what is received: every message by itself, without context takeover.
//!
//! A connection holds no decompressor: each thread keeps one and resets it for each message. The limit holds while
//! inflating, so that what would pass it is never made.

use std::cell::RefCell;

use flate2::{Decompress, FlushDecompress, Status};

use super::Violation;

/// The end that senders leave out (§7.2.2), then a last block: without it nothing would tell whether the data ends
/// between two blocks or inside one.
const TAIL: [u8; 6] = [0x00, 0x00, 0xff, 0xff, 0x03, 0x00];

/// Least room for the output.
const FIRST_BYTES: usize = 512;

thread_local! {
    /// Its window is the largest there is: what a sender promised to refer back to may be less.
    static INFLATER: RefCell<Option<Decompress>> = const { RefCell::new(None) };
}

/// Inflates one message of at most `limit` bytes.
///
/// # Errors
/// [`Violation::MessageTooLarge`] as soon as there is more, [`Violation::BadDeflate`] for what is not deflate data.
pub(super) fn inflate(payload: &[u8], limit: usize) -> Result<Vec<u8>, Violation> {
    // Strictly a block is missing, but some senders leave all of an empty message out, and it can mean nothing else.
    if payload.is_empty() {
        return Ok(Vec::new());
    }
    INFLATER.with_borrow_mut(|kept| {
        // Out of its place meanwhile: what a panic leaves behind is not used again.
        let mut state = kept.take().unwrap_or_else(|| Decompress::new(false));
        state.reset(false);
        let inflated = Inflation { state: &mut state, out: Vec::new(), limit }.message(payload);
        *kept = Some(state);
        inflated
    })
}

struct Inflation<'s> {
    state: &'s mut Decompress,
    out: Vec<u8>,
    limit: usize,
}

/// Where the input ended.
#[derive(Debug, PartialEq, Eq)]
enum Stopped {
    /// Right behind a block marked as the last.
    AtEnd,
    Within,
}

impl Inflation<'_> {
    /// All of a message.
    fn message(mut self, payload: &[u8]) -> Result<Vec<u8>, Violation> {
        self.make_room(payload.len().saturating_mul(4).max(FIRST_BYTES))?;
        // Some senders mark a block as the last (§7.2.3.4); those that end there as well need no tail.
        if self.feed(payload)? == Stopped::Within && self.feed(&TAIL)? == Stopped::Within {
            return Err(Violation::BadDeflate);
        }
        self.out.shrink_to_fit();
        Ok(self.out)
    }

    /// Takes all of `input`.
    fn feed(&mut self, mut input: &[u8]) -> Result<Stopped, Violation> {
        loop {
            if self.out.len() == self.out.capacity() {
                self.make_room(self.out.len())?;
            }
            let before = self.state.total_in();
            let status = self
                .state
                .decompress_vec(input, &mut self.out, FlushDecompress::None)
                .map_err(|_| Violation::BadDeflate)?;
            if self.out.len() > self.limit {
                return Err(Violation::MessageTooLarge);
            }
            let taken = usize::try_from(self.state.total_in().saturating_sub(before)).unwrap_or(usize::MAX);
            input = input.get(taken..).unwrap_or_default();
            let starved = self.out.len() < self.out.capacity();
            match status {
                Status::StreamEnd if input.is_empty() => return Ok(Stopped::AtEnd),
                // More blocks follow the last one, which is how a sender flushes that knows no other way.
                Status::StreamEnd => self.state.reset(false),
                Status::Ok | Status::BufError if input.is_empty() && starved => return Ok(Stopped::Within),
                Status::BufError if starved => return Err(Violation::BadDeflate),
                Status::Ok | Status::BufError => {}
            }
        }
    }

    /// Makes room for about `more` bytes: never for much more than the limit, nor for none.
    fn make_room(&mut self, more: usize) -> Result<(), Violation> {
        // One byte above the limit shows that there is more than that.
        let most = self.limit.saturating_add(1).saturating_sub(self.out.len());
        if most == 0 {
            return Err(Violation::MessageTooLarge);
        }
        self.out.reserve_exact(more.min(most));
        Ok(())
    }
}
