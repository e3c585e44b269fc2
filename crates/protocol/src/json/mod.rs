//! The JSON encoding.
//!
//! `table`: every message with its members, the one place that names them. `value`: how each type of member is read
//! and written. `read`: tokens with the envelope's limits. `write`: escaping and embedding. `scan`: the grammar alone,
//! for what is passed through unread.
//!
//! Payloads stay raw: reading slices them out of the frame, writing copies them in. Nothing here recurses further than
//! the schema does, and the one recursive message (`FilterNode`) has a limit of its own.

mod read;
pub(crate) mod scan;
mod table;
mod value;
pub(crate) mod write;

use bytes::Bytes;

use crate::error::DecodeError;
use crate::frame::{DecodeLimits, PushBody};
use crate::{Command, EncodeError, ErrorCode, Reply};
use read::Reader;
use value::Value;
use write::string;

/// Reads one command; `line` is a part of `frame`.
pub(crate) fn command(frame: &Bytes, line: &[u8], limits: &DecodeLimits) -> Result<Command, DecodeError> {
    let (command, refused) = message::<Command>(frame, line, limits)?;
    match (refused, command.id) {
        (false, _) => Ok(command),
        (true, 0) => Err(DecodeError::malformed("beyond a limit, and without an id to answer", line.len())),
        (true, id) => Err(DecodeError::Refused { id, code: ErrorCode::BadRequest }),
    }
}

/// Reads one reply; `line` is a part of `frame`.
pub(crate) fn reply(frame: &Bytes, line: &[u8], limits: &DecodeLimits) -> Result<Reply, DecodeError> {
    match message::<Reply>(frame, line, limits)? {
        (reply, false) => Ok(reply),
        (_, true) => Err(DecodeError::malformed("a payload nests too deeply", line.len())),
    }
}

/// The message, and whether a part of it was left out because it passes a limit.
fn message<T: Value>(frame: &Bytes, line: &[u8], limits: &DecodeLimits) -> Result<(T, bool), DecodeError> {
    if let Err(error) = std::str::from_utf8(line) {
        return Err(DecodeError::malformed("not UTF-8", error.valid_up_to()));
    }
    let mut reader = Reader::new(frame, line, limits);
    T::read(&mut reader)
        .and_then(|message| reader.finish().map(|refused| (message, refused)))
        .map_err(|fault| DecodeError::malformed(fault.what, line.len().saturating_sub(fault.left)))
}

/// Appends a command alone, without a delimiter. On an error `out` may hold a part of it.
pub(crate) fn write_command(command: &Command, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    command.write(out)
}

/// Appends a reply alone, as [`write_command`] does.
pub(crate) fn write_reply(reply: &Reply, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    reply.write(out)
}

/// Appends a reply with a push made of borrowed parts; equal to [`write_reply`] of the same message.
pub(crate) fn write_push(channel: &str, body: &PushBody<'_>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    out.extend_from_slice(b"{\"push\":{");
    if !channel.is_empty() {
        out.extend_from_slice(b"\"channel\":");
        string(channel, out);
        out.push(b',');
    }
    let (start, end): (&[u8], &[u8]) = match body {
        PushBody::Publication(_) => (b"\"pub\":", b"}}"),
        PushBody::Join(_) => (b"\"join\":{\"info\":", b"}}}"),
        PushBody::Leave(_) => (b"\"leave\":{\"info\":", b"}}}"),
    };
    out.extend_from_slice(start);
    match body {
        PushBody::Publication(publication) => publication.write(out),
        PushBody::Join(info) | PushBody::Leave(info) => info.write(out),
    }?;
    out.extend_from_slice(end);
    Ok(())
}
