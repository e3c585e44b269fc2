//! Frames: what one WebSocket message holds, as messages of the protocol.
//!
//! Server side: [`commands`] in, `append_*` out. Client side: [`append_command`] out, [`replies`] in; [`parts`] for who
//! knows many messages by their bytes.

use std::marker::PhantomData;

use bytes::Bytes;

use crate::error::{DecodeError, EncodeError};
use crate::{ClientInfo, Command, Encoding, Publication, Reply, json, protobuf};

/// What a decoder accepts of a peer. Passing one of the first four breaks the protocol (3501); passing one of the
/// others refuses the command (107).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeLimits {
    /// Bytes of one message without its delimiter.
    pub command_bytes: usize,
    /// JSON: levels of arrays and objects outside payloads and filters.
    pub envelope_depth: usize,
    /// Keys of one object outside payloads (protobuf: entries of all maps of one command).
    pub object_keys: usize,
    /// Items of all arrays of one command outside payloads, without the nodes of filters.
    pub array_items: usize,
    /// JSON: levels of arrays and objects inside one payload.
    pub payload_depth: usize,
    /// Levels of one tags filter.
    pub filter_levels: usize,
    /// Nodes of all tags filters of one command.
    pub filter_nodes: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { command_bytes: 65_536, ..Self::TRUSTING }
    }
}

impl DecodeLimits {
    /// What a client accepts of its server: any size, all nesting bounded all the same.
    const TRUSTING: Self = Self {
        command_bytes: usize::MAX,
        envelope_depth: 32,
        object_keys: 1_024,
        array_items: 8_192,
        payload_depth: crate::payload::DEPTH_MAX,
        filter_levels: 64,
        filter_nodes: 1_024,
    };
}

/// The commands of one received frame, decoded one at a time as they are asked for.
///
/// A frame without any command yields [`DecodeError::Empty`] once, so do not call this with the [`rest`](Messages::rest)
/// of a frame that is used up. After an error other than [`DecodeError::Refused`] the iterator is at its end.
pub fn commands<'a>(encoding: Encoding, frame: &'a Bytes, limits: &'a DecodeLimits) -> Commands<'a> {
    Messages::new(encoding, frame, limits)
}

/// The replies and pushes of one received frame, in the same way as [`commands`].
pub fn replies(encoding: Encoding, frame: &Bytes) -> Replies<'_> {
    const TRUSTING: &DecodeLimits =
        &DecodeLimits { object_keys: usize::MAX, array_items: usize::MAX, ..DecodeLimits::TRUSTING };
    Messages::new(encoding, frame, TRUSTING)
}

/// The messages of one received frame as bytes, not decoded: each item is a frame of that one message. As with
/// [`replies`], a frame without any message yields [`DecodeError::Empty`] once, and an error is the last item.
pub fn parts(encoding: Encoding, frame: &[u8]) -> Parts<'_> {
    Parts { encoding, rest: frame, fresh: true }
}

/// See [`parts`].
#[derive(Debug)]
pub struct Parts<'a> {
    encoding: Encoding,
    rest: &'a [u8],
    /// As in [`Messages`].
    fresh: bool,
}

/// See [`commands`].
pub type Commands<'a> = Messages<'a, Command>;

/// See [`replies`].
pub type Replies<'a> = Messages<'a, Reply>;

/// An iterator over the messages of one frame.
#[derive(Debug)]
pub struct Messages<'a, T> {
    encoding: Encoding,
    frame: &'a Bytes,
    limits: &'a DecodeLimits,
    /// The part of `frame` not decoded yet.
    rest: &'a [u8],
    /// An empty rest is an error (nothing was in the frame), not the end.
    fresh: bool,
    message: PhantomData<T>,
}

/// Both kinds of messages that frames hold.
trait Decode: Sized {
    fn json(frame: &Bytes, line: &[u8], limits: &DecodeLimits) -> Result<Self, DecodeError>;
    fn protobuf(body: Bytes, limits: &DecodeLimits) -> Result<Self, DecodeError>;
}

// === impl Messages ===

impl<'a, T> Messages<'a, T> {
    fn new(encoding: Encoding, frame: &'a Bytes, limits: &'a DecodeLimits) -> Self {
        Self { encoding, frame, limits, rest: frame, fresh: true, message: PhantomData }
    }

    /// What has not been decoded yet, a slice of the frame; empty at the end and after an error that ends the
    /// iteration. If it is not empty it can be decoded later as a frame of its own.
    pub fn rest(&self) -> Bytes {
        self.frame.slice_ref(self.rest)
    }

    /// Whether nothing is left to decode.
    pub fn is_done(&self) -> bool {
        self.rest.is_empty() && !self.fresh
    }

    fn split(&mut self) -> Result<&'a [u8], DecodeError> {
        let (body, rest) = match self.encoding {
            Encoding::Json => line(self.rest, self.limits.command_bytes),
            Encoding::Protobuf => protobuf::split(self.rest, self.limits.command_bytes),
        }?;
        self.rest = rest;
        Ok(body)
    }
}

impl<T: Decode> Iterator for Messages<'_, T> {
    type Item = Result<T, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done() {
            return None;
        }
        let decoded = match self.rest {
            [] => Err(DecodeError::Empty),
            _ => self.split().and_then(|body| match self.encoding {
                Encoding::Json => T::json(self.frame, body, self.limits),
                Encoding::Protobuf => T::protobuf(self.frame.slice_ref(body), self.limits),
            }),
        };
        self.fresh = false;
        if !matches!(decoded, Ok(_) | Err(DecodeError::Refused { .. })) {
            self.rest = &[];
        }
        Some(decoded)
    }
}

impl<T: Decode> std::iter::FusedIterator for Messages<'_, T> {}

// === impl Parts ===

impl<'a> Iterator for Parts<'a> {
    type Item = Result<&'a [u8], DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() && !self.fresh {
            return None;
        }
        self.fresh = false;
        let split = match (self.encoding, self.rest) {
            (_, []) => Err(DecodeError::Empty),
            (Encoding::Json, rest) => line(rest, usize::MAX),
            // With its length in front: without it, it would be no frame.
            (Encoding::Protobuf, rest) => protobuf::split(rest, usize::MAX).map(|(_, behind)| {
                let bytes = rest.len().saturating_sub(behind.len());
                (rest.get(..bytes).unwrap_or_default(), behind)
            }),
        };
        Some(match split {
            Ok((part, behind)) => {
                self.rest = behind;
                Ok(part)
            }
            Err(error) => {
                self.rest = &[];
                Err(error)
            }
        })
    }
}

impl std::iter::FusedIterator for Parts<'_> {}

impl Decode for Command {
    fn json(frame: &Bytes, line: &[u8], limits: &DecodeLimits) -> Result<Self, DecodeError> {
        json::command(frame, line, limits)
    }

    fn protobuf(body: Bytes, limits: &DecodeLimits) -> Result<Self, DecodeError> {
        protobuf::command(body, limits)
    }
}

impl Decode for Reply {
    fn json(frame: &Bytes, line: &[u8], limits: &DecodeLimits) -> Result<Self, DecodeError> {
        json::reply(frame, line, limits)
    }

    fn protobuf(body: Bytes, _: &DecodeLimits) -> Result<Self, DecodeError> {
        protobuf::message(body)
    }
}

/// The first line of `rest`, and what is left behind its newline.
fn line(rest: &[u8], max: usize) -> Result<(&[u8], &[u8]), DecodeError> {
    let (line, rest) = match memchr::memchr(b'\n', rest).and_then(|end| rest.split_at_checked(end)) {
        Some((line, rest)) => (line, rest.get(1..).unwrap_or_default()),
        None => (rest, &[][..]),
    };
    match line.len() {
        0 => Err(DecodeError::Empty),
        size if size > max => Err(DecodeError::TooLarge { size, max }),
        _ => Ok((line, rest)),
    }
}

// === writing ===

/// Appends one message to a server's frame. Several calls with the same `out` make one frame of several messages.
///
/// # Errors
/// A payload cannot be written in `encoding`; `out` is as it was.
pub fn append_reply(encoding: Encoding, reply: &Reply, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match encoding {
        Encoding::Json => append_json(out, |out| json::write_reply(reply, out)),
        Encoding::Protobuf => {
            protobuf::append(reply, out);
            Ok(())
        }
    }
}

/// Appends one message to a client's frame, as [`append_reply`] does.
///
/// # Errors
/// As [`append_reply`].
pub fn append_command(encoding: Encoding, command: &Command, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    match encoding {
        Encoding::Json => append_json(out, |out| json::write_command(command, out)),
        Encoding::Protobuf => {
            protobuf::append(command, out);
            Ok(())
        }
    }
}

/// Appends the push of a publication without taking it: [`append_reply`] of the same push, byte for byte. Allocates
/// nothing but room in `out`.
///
/// # Errors
/// As [`append_reply`].
pub fn append_publication(
    encoding: Encoding,
    channel: &str,
    publication: &Publication,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    append_push(encoding, channel, &PushBody::Publication(publication), out)
}

/// Appends the push of a join, as [`append_publication`] does.
///
/// # Errors
/// As [`append_reply`].
pub fn append_join(
    encoding: Encoding,
    channel: &str,
    info: &ClientInfo,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    append_push(encoding, channel, &PushBody::Join(info), out)
}

/// Appends the push of a leave, as [`append_publication`] does.
///
/// # Errors
/// As [`append_reply`].
pub fn append_leave(
    encoding: Encoding,
    channel: &str,
    info: &ClientInfo,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    append_push(encoding, channel, &PushBody::Leave(info), out)
}

/// What a push made of borrowed parts carries.
pub(crate) enum PushBody<'a> {
    Publication(&'a Publication),
    Join(&'a ClientInfo),
    Leave(&'a ClientInfo),
}

fn append_push(
    encoding: Encoding,
    channel: &str,
    body: &PushBody<'_>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    match encoding {
        Encoding::Json => append_json(out, |out| json::write_push(channel, body, out)),
        Encoding::Protobuf => {
            protobuf::append_push(channel, body, out);
            Ok(())
        }
    }
}

/// Appends what `write` writes, parted from a message before it, or nothing.
fn append_json(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<(), EncodeError> {
    let before = out.len();
    if before > 0 {
        out.push(b'\n');
    }
    let written = write(out);
    if written.is_err() {
        out.truncate(before);
    }
    written
}
