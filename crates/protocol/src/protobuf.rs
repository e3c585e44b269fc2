//! The protobuf encoding: messages behind their length as a varint.
//!
//! Fields unknown to the schema are ignored, strings that are not UTF-8 are refused, and 100 levels of nesting are the
//! decoder's own bound. `extent`: how much a command would become, before it is decoded.

mod extent;

use bytes::Bytes;
use prost::Message as _;

use self::extent::{Extent, Fault};
use crate::error::DecodeError;
use crate::frame::{DecodeLimits, PushBody};
use crate::{Command, ErrorCode};

/// Wire type of strings, bytes and messages.
const LENGTH_DELIMITED: u8 = 2;

const REPLY_PUSH: u8 = key(4);
const PUSH_CHANNEL: u8 = key(2);
/// `info` of both `Join` and `Leave`.
const INFO: u8 = key(1);

const fn key(field: u8) -> u8 {
    field << 3 | LENGTH_DELIMITED
}

/// The first message of `rest`, and what is left behind it.
pub(crate) fn split(rest: &[u8], max: usize) -> Result<(&[u8], &[u8]), DecodeError> {
    let mut body = rest;
    let size = prost::decode_length_delimiter(&mut body).map_err(|error| malformed(&error))?;
    if size > max {
        return Err(DecodeError::TooLarge { size, max });
    }
    body.split_at_checked(size)
        .ok_or_else(|| DecodeError::malformed("the frame ends inside a message", body.len()))
}

/// Decodes one message without its length; payloads are slices of it.
pub(crate) fn message<T: prost::Message + Default>(body: Bytes) -> Result<T, DecodeError> {
    T::decode(body).map_err(|error| malformed(&error))
}

/// Decodes one command without its length.
pub(crate) fn command(body: Bytes, limits: &DecodeLimits) -> Result<Command, DecodeError> {
    if extent::cannot_pass(body.len(), limits) {
        return message(body);
    }
    let extent = match Extent::of(&body, limits) {
        Ok(extent) => extent,
        Err(Fault::TooMany) => return Err(DecodeError::malformed("too many keys or items", 0)),
        // The decoder says better where.
        Err(Fault::Malformed(error)) => return message::<Command>(body).and(Err(error)),
    };
    match (extent.filters_too_large, extent.id) {
        (false, _) => message(body),
        (true, 0) => Err(DecodeError::malformed("beyond a limit, and without an id to answer", 0)),
        (true, id) => Err(DecodeError::Refused { id, code: ErrorCode::BadRequest }),
    }
}

fn malformed(error: &prost::DecodeError) -> DecodeError {
    DecodeError::malformed(error.to_string(), 0)
}

/// Appends a message behind its length.
pub(crate) fn append(message: &impl prost::Message, out: &mut Vec<u8>) {
    let size = message.encoded_len();
    out.reserve(size.saturating_add(prost::length_delimiter_len(size)));
    put(message, size, out);
}

/// Appends a reply with a push made of borrowed parts; equal to [`append`] of the same message.
pub(crate) fn append_push(channel: &str, body: &PushBody<'_>, out: &mut Vec<u8>) {
    let (field, inner) = match body {
        PushBody::Publication(publication) => (key(4), publication.encoded_len()),
        PushBody::Join(info) => (key(5), field_len(info.encoded_len())),
        PushBody::Leave(info) => (key(6), field_len(info.encoded_len())),
    };
    let channel_len = if channel.is_empty() { 0 } else { field_len(channel.len()) };
    let push = channel_len.saturating_add(field_len(inner));
    let reply = field_len(push);
    out.reserve(reply.saturating_add(prost::length_delimiter_len(reply)));
    length(reply, out);
    open(REPLY_PUSH, push, out);
    if !channel.is_empty() {
        open(PUSH_CHANNEL, channel.len(), out);
        out.extend_from_slice(channel.as_bytes());
    }
    out.push(field);
    match body {
        PushBody::Publication(publication) => put(*publication, inner, out),
        PushBody::Join(info) | PushBody::Leave(info) => {
            length(inner, out);
            out.push(INFO);
            put(*info, info.encoded_len(), out);
        }
    }
}

/// Bytes of a field with a one-byte key, its length and `len` bytes of content.
fn field_len(len: usize) -> usize {
    len.saturating_add(prost::length_delimiter_len(len)).saturating_add(1)
}

fn open(key: u8, len: usize, out: &mut Vec<u8>) {
    out.push(key);
    length(len, out);
}

fn length(len: usize, out: &mut Vec<u8>) {
    // A `Vec` grows, so there is always room.
    let _ = prost::encode_length_delimiter(len, out);
}

fn put(message: &impl prost::Message, size: usize, out: &mut Vec<u8>) {
    length(size, out);
    // As above.
    let _ = message.encode(out);
}
