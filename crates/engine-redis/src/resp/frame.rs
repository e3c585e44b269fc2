//! Where a reply ends, and what it says.

use bytes::{Buf, Bytes, BytesMut};

use super::Value;

/// The longest string; Redis' own limit for one.
const TEXT_MAX: usize = 512 << 20;
/// The most elements of one list.
const LIST_MAX: usize = 1 << 24;
/// How deep lists may nest. Answers to our commands need four.
const DEPTH_MAX: usize = 16;
/// The longest line of its own: an error, a number.
const LINE_MAX: usize = 64 << 10;

/// Bytes that no Redis sends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("these are not the bytes of a Redis server: {0}")]
pub struct Malformed(pub &'static str);

/// Splits what was read into replies. Remembers how far it has looked, so that a long reply that comes in pieces is
/// looked at once.
#[derive(Debug, Default)]
pub struct Frames {
    /// What was read and not yet taken.
    pub buffer: BytesMut,
    looked: usize,
    /// Elements still to come, of each list that is open.
    open: Vec<usize>,
}

// === impl Frames ===

impl Frames {
    /// The next whole reply, if there is one.
    ///
    /// # Errors
    /// If the bytes are not RESP, or larger than anything a server sends. The rest is of no use then.
    pub fn next_value(&mut self) -> Result<Option<Value>, Malformed> {
        if !self.look()? {
            return Ok(None);
        }
        let end = std::mem::take(&mut self.looked);
        // The answer to most commands; taking it apart would cost more than all the rest.
        if let [b':', line @ .., b'\r', b'\n'] = &self.buffer[..end] {
            let number = int(line)?;
            self.buffer.advance(end);
            return Ok(Some(Value::Int(number)));
        }
        read(&mut self.buffer.split_to(end).freeze()).map(Some)
    }

    /// Looks on until a reply is whole.
    fn look(&mut self) -> Result<bool, Malformed> {
        loop {
            let Some((kind, line, after)) = line_at(&self.buffer, self.looked)? else {
                return Ok(false);
            };
            let mut end = after;
            let mut elements = 0;
            match kind {
                b'$' | b'=' | b'!' => {
                    if let Some(size) = length(line, TEXT_MAX)? {
                        end = after + size + 2;
                    }
                }
                b'*' | b'~' | b'>' => elements = length(line, LIST_MAX)?.unwrap_or(0),
                b'%' => elements = 2 * length(line, LIST_MAX)?.unwrap_or(0),
                b'+' | b'-' | b':' | b',' | b'#' | b'_' | b'(' => {}
                _ => return Err(Malformed("an unknown kind of reply")),
            }
            if end > self.buffer.len() {
                return Ok(false);
            }
            self.looked = end;
            if elements > 0 {
                if self.open.len() == DEPTH_MAX {
                    return Err(Malformed("lists are nested too deeply"));
                }
                self.open.push(elements);
                continue;
            }
            while let Some(left) = self.open.last_mut() {
                *left -= 1;
                if *left > 0 {
                    break;
                }
                self.open.pop();
            }
            if self.open.is_empty() {
                return Ok(true);
            }
        }
    }
}

/// Kind, rest, and end of a line.
type Line<'a> = (u8, &'a [u8], usize);

/// The line that starts at `at`, once it is whole.
fn line_at(buffer: &[u8], at: usize) -> Result<Option<Line<'_>>, Malformed> {
    let rest = buffer.get(at..).unwrap_or_default();
    let Some(end) = memchr::memchr(b'\n', rest) else {
        return if rest.len() > LINE_MAX { Err(Malformed("a line without an end")) } else { Ok(None) };
    };
    match &rest[..end] {
        [kind, line @ .., b'\r'] => Ok(Some((*kind, line, at + end + 1))),
        _ => Err(Malformed("a line that ends otherwise")),
    }
}

/// A count; -1 stands for nothing.
fn length(line: &[u8], max: usize) -> Result<Option<usize>, Malformed> {
    if line == b"-1" {
        return Ok(None);
    }
    let number = std::str::from_utf8(line).ok().and_then(|text| text.parse::<usize>().ok());
    match number {
        Some(number) if number <= max => Ok(Some(number)),
        Some(_) => Err(Malformed("a length beyond all limits")),
        None => Err(Malformed("a length that is no number")),
    }
}

/// Reads one value off the front of a whole frame.
fn read(frame: &mut Bytes) -> Result<Value, Malformed> {
    let Some((kind, line, after)) = line_at(frame, 0)? else {
        return Err(Malformed("a reply that ends early"));
    };
    // Only what is kept becomes a handle of its own: each costs two atomic operations.
    Ok(match kind {
        b'+' | b',' | b'(' => Value::Text(taken(frame, after)),
        b'-' => Value::Error(taken(frame, after)),
        b':' => {
            let number = int(line)?;
            frame.advance(after);
            Value::Int(number)
        }
        b'#' => {
            let is_true = line == b"t";
            frame.advance(after);
            Value::Int(i64::from(is_true))
        }
        b'_' => {
            frame.advance(after);
            Value::Nil
        }
        b'$' | b'=' | b'!' => match counted(frame, after, TEXT_MAX)? {
            None => Value::Nil,
            Some(size) => {
                if frame.len() < size + 2 || &frame[size..size + 2] != b"\r\n" {
                    return Err(Malformed("a string that ends otherwise"));
                }
                let text = frame.split_to(size);
                frame.advance(2);
                match kind {
                    b'$' => Value::Text(text),
                    b'!' => Value::Error(text),
                    // Verbatim: three letters of format and a colon come first.
                    _ => Value::Text(text.slice(text.len().min(4)..)),
                }
            }
        },
        b'%' => {
            let count = counted(frame, after, LIST_MAX)?.map(|pairs| 2 * pairs);
            list(frame, count)?.map_or(Value::Nil, Value::List)
        }
        kind => {
            let count = counted(frame, after, LIST_MAX)?;
            list(frame, count)?.map_or(Value::Nil, if kind == b'>' { Value::Push } else { Value::List })
        }
    })
}

/// Takes a line of so many bytes off the front: what stands between its kind and its end.
fn taken(frame: &mut Bytes, after: usize) -> Bytes {
    let mut line = frame.split_to(after);
    line.advance(1);
    line.truncate(after - 3);
    line
}

/// Takes a line with a count off the front.
fn counted(frame: &mut Bytes, after: usize, max: usize) -> Result<Option<usize>, Malformed> {
    let count = length(&frame[1..after - 2], max)?;
    frame.advance(after);
    Ok(count)
}

fn list(frame: &mut Bytes, count: Option<usize>) -> Result<Option<Vec<Value>>, Malformed> {
    let Some(count) = count else {
        return Ok(None);
    };
    // Every element takes three bytes at least, so a count is no promise to allocate for.
    let mut items = Vec::with_capacity(count.min(frame.len() / 3 + 1));
    for _ in 0..count {
        items.push(read(frame)?);
    }
    Ok(Some(items))
}

fn int(line: &[u8]) -> Result<i64, Malformed> {
    let number = std::str::from_utf8(line).ok().and_then(|text| text.parse().ok());
    number.ok_or(Malformed("a number that is none"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Value {
        Value::Text(Bytes::from_static(text.as_bytes()))
    }

    const ALL: &[u8] = b"+OK\r\n-ERR no\r\n:-12\r\n$5\r\na\r\nbc\r\n$-1\r\n_\r\n#t\r\n,1.5\r\n=8\r\ntxt:abcd\r\n!3\r\nBAD\r\n\
        *2\r\n:1\r\n*0\r\n%1\r\n+k\r\n~1\r\n$0\r\n\r\n>2\r\n+message\r\n$1\r\nx\r\n";

    fn all() -> Vec<Value> {
        vec![
            text("OK"),
            Value::Error(Bytes::from_static(b"ERR no")),
            Value::Int(-12),
            text("a\r\nbc"),
            Value::Nil,
            Value::Nil,
            Value::Int(1),
            text("1.5"),
            text("abcd"),
            Value::Error(Bytes::from_static(b"BAD")),
            Value::List(vec![Value::Int(1), Value::List(vec![])]),
            Value::List(vec![text("k"), Value::List(vec![text("")])]),
            Value::Push(vec![text("message"), text("x")]),
        ]
    }

    #[test]
    fn every_kind_of_reply_is_read() {
        let mut frames = Frames { buffer: BytesMut::from(ALL), ..Frames::default() };
        let read: Vec<_> = std::iter::from_fn(|| frames.next_value().expect("well formed")).collect();
        assert_eq!(read, all());
        assert!(frames.buffer.is_empty());
    }

    #[test]
    fn replies_that_come_byte_by_byte_are_the_same() {
        let mut frames = Frames::default();
        let mut read = Vec::new();
        for byte in ALL {
            frames.buffer.extend_from_slice(&[*byte]);
            read.extend(frames.next_value().expect("well formed"));
        }
        assert_eq!(read, all());
    }

    #[test]
    fn bad_b1_garbage_is_told_and_never_believed() {
        let deep = b"*1\r\n".repeat(DEPTH_MAX + 1);
        let endless = vec![b'+'; LINE_MAX + 2];
        let cases: [&[u8]; 11] = [
            b"HTTP/1.1 400 Bad Request\r\n",
            b"+OK\n",
            b"\r\n",
            b"$x\r\n",
            b"$-2\r\n",
            b"$99999999999\r\n",
            b"*99999999999\r\n",
            b":1.5\r\n",
            b"$3\r\nabcde\r\n",
            &deep,
            &endless,
        ];
        for bytes in cases {
            let mut frames = Frames { buffer: BytesMut::from(bytes), ..Frames::default() };
            assert!(
                frames.next_value().is_err(),
                "{:?}",
                String::from_utf8_lossy(&bytes[..bytes.len().min(40)])
            );
        }
    }

    #[test]
    fn bad_b1_a_promised_length_allocates_nothing_before_it_comes() {
        let mut frames = Frames { buffer: BytesMut::from(&b"*16000000\r\n:1\r\n"[..]), ..Frames::default() };
        assert_eq!(frames.next_value(), Ok(None));
        assert!(frames.buffer.capacity() < 1 << 16);
    }
}
