//! Appending JSON text to a buffer.

use bytes::Bytes;

use super::value::Value;
use crate::{EncodeError, payload};

/// The members of one object being written.
pub(super) struct Members<'a> {
    out: &'a mut Vec<u8>,
    /// What goes before the next member: the bracket before the first.
    separator: u8,
}

impl<'a> Members<'a> {
    pub(super) fn open(out: &'a mut Vec<u8>) -> Self {
        Self { out, separator: b'{' }
    }

    /// `key` with quotes and colon; a value that says nothing is left out.
    pub(super) fn member(&mut self, key: &'static str, value: &impl Value) -> Result<(), EncodeError> {
        if value.is_absent() { Ok(()) } else { self.always(key, value) }
    }

    /// As [`member`](Self::member), but written even if it says nothing, because clients read it unasked.
    pub(super) fn always(&mut self, key: &'static str, value: &impl Value) -> Result<(), EncodeError> {
        self.out.push(self.separator);
        self.separator = b',';
        self.out.extend_from_slice(key.as_bytes());
        value.write(self.out)
    }

    /// A key from data.
    pub(super) fn entry(&mut self, key: &str, value: &impl Value) -> Result<(), EncodeError> {
        self.out.push(self.separator);
        self.separator = b',';
        string(key, self.out);
        self.out.push(b':');
        value.write(self.out)
    }

    pub(super) fn close(self) {
        if self.separator == b'{' {
            self.out.push(b'{');
        }
        self.out.push(b'}');
    }
}

/// Appends a string with its quotes.
pub(crate) fn string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = text.as_bytes();
    while let Some(run) = rest.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20) {
        let (plain, tail) = rest.split_at(run);
        out.extend_from_slice(plain);
        let [byte, tail @ ..] = tail else { break };
        escape(*byte, out);
        rest = tail;
    }
    out.extend_from_slice(rest);
    out.push(b'"');
}

fn escape(byte: u8, out: &mut Vec<u8>) {
    let short = match byte {
        b'"' | b'\\' => byte,
        b'\n' => b'n',
        b'\r' => b'r',
        b'\t' => b't',
        0x8 => b'b',
        0xC => b'f',
        _ => {
            let hex = |nibble: u8| char::from_digit(nibble.into(), 16).map_or(b'0', |digit| digit as u8);
            out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
            return;
        }
    };
    out.extend_from_slice(&[b'\\', short]);
}

pub(super) fn integer(number: impl itoa::Integer, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// Appends a payload as the JSON value it is, without raw newlines: they part messages. In valid JSON they are white
/// space.
pub(super) fn embed(payload: &Bytes, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    if !payload::is_json(payload) {
        return Err(EncodeError::NotJson);
    }
    let mut start = 0;
    for newline in memchr::memchr_iter(b'\n', payload) {
        out.extend_from_slice(payload.get(start..newline).unwrap_or_default());
        start = newline.saturating_add(1);
    }
    out.extend_from_slice(payload.get(start..).unwrap_or_default());
    Ok(())
}
