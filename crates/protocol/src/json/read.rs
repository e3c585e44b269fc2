//! Tokens of one message, with the envelope's limits applied as they are read.

use std::borrow::Cow;
use std::str::FromStr;

use bytes::Bytes;

use super::scan::{self, Fault};
use super::value::Value;
use crate::frame::DecodeLimits;

type Read<T> = Result<T, Fault>;

pub(super) struct Reader<'a> {
    /// The frame that `rest` is a part of; payloads are slices of it.
    frame: &'a Bytes,
    rest: &'a [u8],
    limits: &'a DecodeLimits,
    /// Open arrays and objects of the envelope.
    depth: usize,
    /// Items of arrays so far.
    items: usize,
    filter: Filter,
    /// Something was left out because it passes a limit that a client can be told about.
    refused: bool,
}

/// How much of a tags filter has been read. A filter has limits of its own instead of the envelope's depth.
#[derive(Default)]
struct Filter {
    levels: usize,
    nodes: usize,
}

/// Progress through one array or object.
#[derive(Default)]
pub(super) struct Items {
    read: usize,
}

impl<'a> Reader<'a> {
    /// `line` is a part of `frame` and UTF-8.
    pub(super) fn new(frame: &'a Bytes, line: &'a [u8], limits: &'a DecodeLimits) -> Self {
        Self { frame, rest: line, limits, depth: 0, items: 0, filter: Filter::default(), refused: false }
    }

    /// Checks that nothing follows, and tells whether something was left out.
    pub(super) fn finish(&self) -> Read<bool> {
        match scan::skip_space(self.rest) {
            [] => Ok(self.refused),
            rest => Err(Fault::new("text behind the message", rest)),
        }
    }

    pub(super) fn fault<T>(&self, what: &'static str) -> Read<T> {
        Err(Fault::new(what, self.rest))
    }

    /// Takes `token` if it is next, after white space.
    fn take(&mut self, token: &[u8]) -> bool {
        self.rest = scan::skip_space(self.rest);
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// What `scan` steps over, after white space.
    fn token(&mut self, scan: impl FnOnce(&'a [u8]) -> scan::Scan<'a>) -> Read<&'a [u8]> {
        let text = scan::skip_space(self.rest);
        self.rest = scan(text)?;
        Ok(behind(text, self.rest))
    }

    pub(super) fn null(&mut self) -> bool {
        self.take(b"null")
    }

    pub(super) fn boolean(&mut self) -> Read<bool> {
        if self.take(b"true") {
            return Ok(true);
        }
        if self.take(b"false") {
            return Ok(false);
        }
        self.fault("not a boolean")
    }

    /// A whole number without fraction or exponent that fits `T`.
    pub(super) fn integer<T: FromStr>(&mut self) -> Read<T> {
        let token = self.token(scan::number)?;
        let number = std::str::from_utf8(token).ok().and_then(|token| token.parse().ok());
        number.ok_or(Fault::new("not a whole number, or out of range", self.rest))
    }

    pub(super) fn string(&mut self) -> Read<Cow<'a, str>> {
        let token = self.token(scan::string)?;
        let [b'"', inner @ .., b'"'] = token else {
            return self.fault("not a string");
        };
        let Ok(text) = std::str::from_utf8(inner) else {
            return self.fault("not UTF-8");
        };
        if !inner.contains(&b'\\') {
            return Ok(Cow::Borrowed(text));
        }
        match unescape(text) {
            Some(text) => Ok(Cow::Owned(text)),
            None => self.fault("half of a surrogate pair"),
        }
    }

    /// Any value, as a slice of the frame. Left out if it nests too deeply.
    pub(super) fn payload(&mut self) -> Read<Bytes> {
        let text = scan::skip_space(self.rest);
        let (rest, depth) = scan::value(text)?;
        self.rest = rest;
        if depth > self.limits.payload_depth {
            self.refused = true;
            return Ok(Bytes::new());
        }
        Ok(self.frame.slice_ref(behind(text, rest)))
    }

    /// Steps over a value nobody asked for.
    pub(super) fn skip(&mut self) -> Read<()> {
        let (rest, depth) = scan::value(self.rest)?;
        if self.depth.saturating_add(depth) > self.limits.envelope_depth {
            return self.fault("nests too deeply");
        }
        self.rest = rest;
        Ok(())
    }

    /// Enters an array (`[`) or object (`{`).
    pub(super) fn open(&mut self, bracket: u8) -> Read<Items> {
        if !self.take(&[bracket]) {
            return self.fault(if bracket == b'{' { "not an object" } else { "not an array" });
        }
        // Levels of a filter are counted apart.
        if self.filter.levels == 0 {
            self.depth = self.depth.saturating_add(1);
            if self.depth > self.limits.envelope_depth {
                return self.fault("nests too deeply");
            }
        }
        Ok(Items::default())
    }

    /// Whether a further item follows in what [`open`](Self::open) entered; `bracket` is the closing one.
    pub(super) fn more(&mut self, items: &mut Items, bracket: u8) -> Read<bool> {
        if self.take(&[bracket]) {
            if self.filter.levels == 0 {
                self.depth = self.depth.saturating_sub(1);
            }
            return Ok(false);
        }
        if items.read > 0 && !self.take(b",") {
            return self.fault("no ',' between two items");
        }
        items.read = items.read.saturating_add(1);
        Ok(true)
    }

    /// Counts an item of an array against the limit of the message.
    pub(super) fn count_item(&mut self) -> Read<()> {
        self.items = self.items.saturating_add(1);
        if self.items > self.limits.array_items {
            return self.fault("too many items in arrays");
        }
        Ok(())
    }

    /// Whether something was left out, so that the message is refused however it goes on.
    pub(super) fn is_refused(&self) -> bool {
        self.refused
    }

    /// The next key of an object, its colon taken.
    pub(super) fn key(&mut self, items: &mut Items) -> Read<Option<Cow<'a, str>>> {
        if !self.more(items, b'}')? {
            return Ok(None);
        }
        if items.read > self.limits.object_keys {
            return self.fault("too many keys in an object");
        }
        let key = self.string()?;
        if !self.take(b":") {
            return self.fault("no ':' behind a key");
        }
        Ok(Some(key))
    }

    /// Reads a member into its place. `seen` has a bit per member, so that the second of two is noticed: readers of
    /// JSON disagree on which of them counts, and a message must not mean two things.
    pub(super) fn member<T: Value>(&mut self, place: &mut T, seen: &mut u64, bit: u32) -> Read<()> {
        let bit = 1_u64.checked_shl(bit).unwrap_or_default();
        if *seen & bit != 0 {
            return self.fault("a member appears twice");
        }
        *seen |= bit;
        if T::NULL_IS_A_VALUE || !self.null() {
            *place = T::read(self)?;
        }
        Ok(())
    }

    /// Runs `read` one filter level deeper. A node beyond the limits is stepped over and `None`.
    pub(super) fn filter_node<T>(&mut self, read: impl FnOnce(&mut Self) -> Read<T>) -> Read<Option<T>> {
        self.filter.nodes = self.filter.nodes.saturating_add(1);
        if self.filter.levels >= self.limits.filter_levels || self.filter.nodes > self.limits.filter_nodes {
            self.rest = scan::value(self.rest)?.0;
            self.refused = true;
            return Ok(None);
        }
        self.filter.levels = self.filter.levels.saturating_add(1);
        let node = read(self);
        self.filter.levels = self.filter.levels.saturating_sub(1);
        node.map(Some)
    }
}

/// What `text` has before `rest`, its own end.
fn behind<'a>(text: &'a [u8], rest: &[u8]) -> &'a [u8] {
    text.get(..text.len().saturating_sub(rest.len())).unwrap_or_default()
}

/// Resolves the escapes of a string that [`scan::string`] has checked. `None` for half of a surrogate pair, which is
/// no character.
fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((plain, escaped)) = rest.split_once('\\') {
        out.push_str(plain);
        let mut tail = escaped.chars();
        let unescaped = match tail.next()? {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let (first, behind) = hex4(tail.as_str())?;
                let (code, behind) = match first {
                    0xD800..=0xDBFF => {
                        let (second, behind) = hex4(behind.strip_prefix("\\u")?)?;
                        (char::decode_utf16([first, second]).next()?.ok()?, behind)
                    }
                    _ => (char::from_u32(first.into())?, behind),
                };
                tail = behind.chars();
                code
            }
            other => other,
        };
        out.push(unescaped);
        rest = tail.as_str();
    }
    out.push_str(rest);
    Some(out)
}

fn hex4(text: &str) -> Option<(u16, &str)> {
    let (digits, rest) = text.split_at_checked(4)?;
    Some((u16::from_str_radix(digits, 16).ok()?, rest))
}
