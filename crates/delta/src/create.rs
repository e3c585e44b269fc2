//! Making a patch: what the ends share is cut off, the rest is searched for blocks of the source.

use crate::compare::{common_prefix, common_suffix};
use crate::format::{append_number, checksum, digit_count};
use crate::index::{BLOCK, Index};

/// A match of this many bytes is taken without looking for a longer one.
const LONG: usize = 256;

/// How far behind the last copy the source is looked at for a place where it goes on in step with the target, before
/// it is indexed. Values that were replaced by others of the same length (numbers, times) are found so.
const REPLACED_MAX: usize = 32;

/// Appends to `out` a patch that turns `source` into `target`.
///
/// If `target` is valid UTF-8, so is the patch: copies never begin or end inside a character, so it may travel in a
/// JSON string. Time is linear in the sizes of both, whatever they hold; memory besides `out` is at most three quarters
/// of `source`'s size. A patch that saves nothing is a little longer than `target`: see [`create_bounded`]. Many readers
/// hold numbers in 32 bits: keep both below 4 GiB.
pub fn create(source: &[u8], target: &[u8], out: &mut Vec<u8>) {
    let within = write(source, target, Patch { out, room: usize::MAX, copy: Span::default() });
    debug_assert!(within.is_some(), "only room can run out");
}

/// Returns a patch that turns `source` into `target` if it is shorter than `max_len` bytes, as [`create`] makes it.
///
/// Give the target's own length to get a patch only where it saves something.
pub fn create_bounded(source: &[u8], target: &[u8], max_len: usize) -> Option<Vec<u8>> {
    let room = max_len.checked_sub(1)?;
    // Room for the patch of a typical update at once.
    let mut out = Vec::with_capacity(room.min(64));
    write(source, target, Patch { out: &mut out, room, copy: Span::default() })?;
    Some(out)
}

/// Writes the patch, or `None` once it has no room.
fn write(source: &[u8], target: &[u8], mut patch: Patch) -> Option<()> {
    patch.number(target.len(), b'\n')?;
    let start = match to_character_before(target, common_prefix(source, target)) {
        start if worth_copying(0, start) => start,
        _ => 0,
    };
    let tail = common_suffix(source, &target[start..]);
    let end = match to_character_after(target, target.len() - tail) {
        end if worth_copying(source.len() - (target.len() - end), target.len() - end) => end,
        _ => target.len(),
    };
    patch.copy(0, start)?;
    let mut search = Search { source, target: &target[..end], done: start, in_step: start, index: None };
    while let Some(found) = search.next_match() {
        patch.literal(&target[search.done..found.at])?;
        patch.copy(found.offset, found.count)?;
        search.done = found.at + found.count;
        search.in_step = found.offset + found.count;
    }
    patch.literal(&target[search.done..end])?;
    patch.copy(source.len() - (target.len() - end), target.len() - end)?;
    patch.finish(checksum(target))
}

/// Whether a copy is shorter than the bytes it stands for, the head of the literal it may cut in two included.
fn worth_copying(offset: usize, count: usize) -> bool {
    count > digit_count(count) + digit_count(offset) + "@,".len() + "9:".len()
}

/// The last place up to `at` where a character of UTF-8 may begin. Of other bytes, at most three are given up.
fn to_character_before(text: &[u8], at: usize) -> usize {
    (at.saturating_sub(3)..=at).rev().find(|&at| may_begin_character(text, at)).unwrap_or(at)
}

/// The first place from `at` on where a character of UTF-8 may begin. Of other bytes, at most three are given up.
fn to_character_after(text: &[u8], at: usize) -> usize {
    (at..=at + 3).find(|&at| may_begin_character(text, at)).unwrap_or(at)
}

/// The end of the text counts as a beginning.
fn may_begin_character(text: &[u8], at: usize) -> bool {
    text.get(at).is_none_or(|byte| byte & 0b1100_0000 != 0b1000_0000)
}

// === Search ===

/// Looks through the target, front to back, for what the source has too.
struct Search<'a> {
    source: &'a [u8],
    target: &'a [u8],
    /// What lies before is in the patch.
    done: usize,
    /// Where the source goes on behind the last copy.
    in_step: usize,
    /// Made when it is first needed: most updates never do.
    index: Option<Index>,
}

/// `count` bytes of the target from `at` are those of the source from `offset`.
#[derive(Clone, Copy)]
struct Match {
    at: usize,
    offset: usize,
    count: usize,
}

impl Search<'_> {
    /// The next run of the target, from `done` on, that is worth copying.
    fn next_match(&mut self) -> Option<Match> {
        if self.target.len() - self.done < BLOCK {
            return None;
        }
        self.match_in_step().or_else(|| self.match_of_index())
    }

    /// A long match close by, at the same distance from the last copy in source and target. Only to do without an
    /// index: what there is one for, it finds as well.
    fn match_in_step(&self) -> Option<Match> {
        if self.index.is_some() {
            return None;
        }
        let windows = self.target[self.done..].windows(BLOCK);
        let counterparts = self.source[self.in_step..].windows(BLOCK);
        let replaced =
            windows.zip(counterparts).take(REPLACED_MAX).position(|(window, other)| window == other)?;
        self.extend(self.done + replaced, self.in_step + replaced).filter(|found| found.count >= LONG)
    }

    /// The longest match at the first window that has any.
    fn match_of_index(&mut self) -> Option<Match> {
        let index = self.index.take().unwrap_or_else(|| Index::of(self.source));
        let windows = self.target[self.done..].windows(BLOCK).filter_map(<[u8]>::first_chunk);
        let found = windows.zip(self.done..).find_map(|(window, at)| self.longest(&index, window, at));
        self.index = Some(index);
        found
    }

    /// The longest match of the window that stands at `at`.
    fn longest(&self, index: &Index, window: &[u8; BLOCK], at: usize) -> Option<Match> {
        let mut longest: Option<Match> = None;
        for offset in index.candidates(window) {
            if self.source[offset..].first_chunk() != Some(window) {
                continue;
            }
            let Some(found) = self.extend(at, offset) else { continue };
            if longest.is_none_or(|longest| found.count > longest.count) {
                longest = Some(found);
            }
            if found.count >= LONG {
                break;
            }
        }
        longest
    }

    /// The match through `at` and `offset` as far as it goes to both sides, ending between characters.
    ///
    /// Linear in all: what is compared here is nearly what gets copied, or is about as short as a window.
    fn extend(&self, at: usize, offset: usize) -> Option<Match> {
        let ahead = common_prefix(&self.source[offset..], &self.target[at..]);
        let back = common_suffix(&self.source[..offset], &self.target[self.done..at]);
        let begin = to_character_after(self.target, at - back);
        let end = to_character_before(self.target, at + ahead);
        let found = Match { at: begin, offset: offset + begin - at, count: end.saturating_sub(begin) };
        worth_copying(found.offset, found.count).then_some(found)
    }
}

// === Patch ===

/// The patch being written. A copy is held back until it is known that the next does not go on where it ends.
struct Patch<'a> {
    out: &'a mut Vec<u8>,
    /// How many more bytes may be written.
    room: usize,
    copy: Span,
}

/// A run of the source.
#[derive(Default)]
struct Span {
    offset: usize,
    count: usize,
}

impl Patch<'_> {
    fn copy(&mut self, offset: usize, count: usize) -> Option<()> {
        if count == 0 {
            return Some(());
        }
        if self.copy.count > 0 && self.copy.offset + self.copy.count == offset {
            self.copy.count += count;
            return Some(());
        }
        self.flush_copy()?;
        self.copy = Span { offset, count };
        Some(())
    }

    fn literal(&mut self, bytes: &[u8]) -> Option<()> {
        if bytes.is_empty() {
            return Some(());
        }
        self.flush_copy()?;
        self.number(bytes.len(), b':')?;
        self.room = self.room.checked_sub(bytes.len())?;
        self.out.extend_from_slice(bytes);
        Some(())
    }

    fn finish(mut self, checksum: u32) -> Option<()> {
        self.flush_copy()?;
        self.number(checksum as usize, b';')
    }

    fn flush_copy(&mut self) -> Option<()> {
        let Span { offset, count } = std::mem::take(&mut self.copy);
        if count == 0 {
            return Some(());
        }
        self.number(count, b'@')?;
        self.number(offset, b',')
    }

    fn number(&mut self, number: usize, then: u8) -> Option<()> {
        self.room = self.room.checked_sub(digit_count(number) + 1)?;
        append_number(number, self.out);
        self.out.push(then);
        Some(())
    }
}
