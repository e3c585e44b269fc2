//! Finished frames: where a message becomes the bytes that are written to a socket.
//!
//! A publication is encoded once per [`Wire`] and [`Form`], compressed once more where receivers agreed to that, and shared
//! by all receivers of that form. A further transport is a further variant here, never a second delivery path.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tidewire_protocol::frame::{append_join, append_leave, append_publication};
use tidewire_protocol::{ChannelName, ClientInfo, Encoding, Epoch, Publication};

use crate::deflate::{Deflate, Window};
use crate::delta;
use crate::metrics::Metrics;
use crate::time::Now;

/// FIN of a frame's first byte (RFC 6455 §5.2).
const FIN: u8 = 0x80;
/// RSV1: the message is compressed (RFC 7692 §6).
const RSV1: u8 = 0x40;

/// What is for one connection alone is compressed from this length on. A compressor's tables take some 30 000 instructions
/// to prepare, whatever the message: too much for the few bytes that the answers to connect and subscribe would save.
const ALONE_BYTES_WORTH_TRYING: usize = 256;

/// How a transport delimits what it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Unmasked WebSocket frames of a server (RFC 6455 §5): text for JSON, binary for protobuf.
    WebSocket,
    /// The same with permessage-deflate agreed on: messages that gain by it are compressed.
    WebSocketDeflate(Deflate),
}

/// The form of everything written to one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Wire {
    /// How messages are encoded.
    pub encoding: Encoding,
    /// How they are delimited.
    pub framing: Framing,
}

impl Wire {
    /// Makes a finished frame of encoded messages for one connection, and counts it if it is compressed.
    pub fn finish(self, messages: &[u8], metrics: &Metrics) -> Bytes {
        let opcode = opcode(self.encoding);
        let compressed = match self.framing {
            Framing::WebSocketDeflate(how) if messages.len() >= ALONE_BYTES_WORTH_TRYING => {
                deflated_frame(opcode, messages, how, metrics)
            }
            _ => None,
        };
        compressed.unwrap_or_else(|| web_socket_frame(FIN | opcode, messages))
    }

    /// The frame of an empty reply, which is a ping: always the same, so nothing is made for it.
    pub(crate) fn ping(self) -> Bytes {
        // Far too short to be compressed, so it is the same in every framing.
        match self.encoding {
            Encoding::Json => Bytes::from_static(b"\x81\x02{}"),
            Encoding::Protobuf => Bytes::from_static(b"\x82\x01\0"),
        }
    }
}

/// JSON goes as text, protobuf as binary.
const fn opcode(encoding: Encoding) -> u8 {
    match encoding {
        Encoding::Json => 0x1,
        Encoding::Protobuf => 0x2,
    }
}

/// RFC 6455 §5.2: the first byte, then the length in its shortest form; servers do not mask.
fn web_socket_frame(first: u8, payload: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(payload.len() + 10);
    frame.push(first);
    match payload.len() {
        len @ 0..=125 => frame.push(len as u8),
        len @ 126..=0xffff => {
            frame.push(126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    Bytes::from(frame)
}

/// The payload of a frame that [`web_socket_frame`] made.
fn payload_of(frame: &[u8]) -> &[u8] {
    let header = match frame.get(1) {
        Some(127) => 10,
        Some(126) => 4,
        _ => 2,
    };
    frame.get(header..).unwrap_or_default()
}

/// A compressed frame; `None` if it is to go out as it is.
fn deflated_frame(opcode: u8, messages: &[u8], how: Deflate, metrics: &Metrics) -> Option<Bytes> {
    let frame = how.compress(messages, |payload| web_socket_frame(FIN | RSV1 | opcode, payload))?;
    metrics.compressions.increment();
    metrics.compression_input_bytes.add(messages.len() as u64);
    metrics.compression_output_bytes.add(payload_of(&frame).len() as u64);
    Some(frame)
}

/// What a channel's subscribers are told.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Publication(Arc<Publication>),
    Join(Arc<ClientInfo>),
    Leave(Arc<ClientInfo>),
}

/// In which form a subscriber gets a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// As it was published.
    Plain,
    /// For a subscriber with deltas that holds no base.
    Whole,
    /// For one that holds the publication before it.
    Patch,
}

impl Form {
    const COUNT: usize = 3;
}

/// One event of a channel on its way to all subscribers of this node, with the frames made for it so far.
#[derive(Debug)]
pub(crate) struct Broadcast {
    pub(crate) channel: ChannelName,
    pub(crate) event: Event,
    /// The stream's epoch, if the event is a publication with an offset.
    pub(crate) epoch: Epoch,
    /// It had been missed and was read from history, so its age says nothing about how fast announcements come.
    caught_up: bool,
    /// The publication before it, if patches against that are wanted.
    previous: Option<Arc<Publication>>,
    plain: FramesOf,
    /// Where receivers agreed to compression, which most nodes have off; by window.
    deflated: OnceLock<Box<[FramesOf; Window::COUNT]>>,
}

/// Frames by encoding and form, each made on first use.
type FramesOf = [[OnceLock<Option<Bytes>>; Form::COUNT]; 2];

impl Broadcast {
    pub(crate) fn new(channel: ChannelName, event: Event, epoch: Epoch) -> Self {
        let (plain, deflated) = (FramesOf::default(), OnceLock::new());
        Self { channel, event, epoch, caught_up: false, previous: None, plain, deflated }
    }

    /// Names the publication that subscribers with deltas hold, which must be the one right before.
    pub(crate) fn with_previous(mut self, previous: Option<Arc<Publication>>) -> Self {
        self.previous = previous.filter(|previous| previous.offset + 1 == self.offset());
        self
    }

    /// The frame for one wire and form, made on first use. `None` if the payload cannot be written in that encoding.
    #[inline]
    pub(crate) fn frame(&self, wire: &Wire, form: Form, metrics: &Metrics) -> Option<Bytes> {
        match wire.framing {
            Framing::WebSocket => self.plain(wire.encoding, form),
            Framing::WebSocketDeflate(how) => self.deflated(wire.encoding, form, how, metrics),
        }
    }

    #[inline]
    fn plain(&self, encoding: Encoding, form: Form) -> Option<Bytes> {
        let made = self.plain.get(encoding as usize)?.get(form as usize)?;
        made.get_or_init(|| self.encode(encoding, form)).clone()
    }

    /// The plain frame compressed, or itself where that does not help. Apart, so that the way of plain frames, gone once
    /// per subscriber, stays short.
    #[inline(never)]
    fn deflated(&self, encoding: Encoding, form: Form, how: Deflate, metrics: &Metrics) -> Option<Bytes> {
        let windows = self.deflated.get_or_init(Box::default);
        let made = windows.get(how.window as usize)?.get(encoding as usize)?.get(form as usize)?;
        let make = || {
            let plain = self.plain(encoding, form)?;
            Some(deflated_frame(opcode(encoding), payload_of(&plain), how, metrics).unwrap_or(plain))
        };
        made.get_or_init(make).clone()
    }

    /// The publication's offset; 0 for everything without a place in the stream.
    pub(crate) fn offset(&self) -> u64 {
        match &self.event {
            Event::Publication(publication) => publication.offset,
            Event::Join(_) | Event::Leave(_) => 0,
        }
    }

    /// Marks it as read from history.
    pub(crate) fn caught_up(mut self) -> Self {
        self.caught_up = true;
        self
    }

    /// Whether this is a publication that was made more than `lag` before `now`. One of unknown time never is, nor one that
    /// has not been made yet by this node's clock.
    pub(crate) fn is_older(&self, lag: Duration, now: Now) -> bool {
        let Event::Publication(publication) = &self.event else {
            return false;
        };
        let age = u64::try_from(now.unix_ms.saturating_sub(publication.time)).unwrap_or(0);
        !self.caught_up && publication.time > 0 && Duration::from_millis(age) > lag
    }

    /// About how much memory the event holds.
    pub(crate) fn weight(&self) -> usize {
        let payload = match &self.event {
            Event::Publication(publication) => publication.data.len(),
            Event::Join(info) | Event::Leave(info) => info.conn_info.len() + info.chan_info.len(),
        };
        payload + 256
    }

    fn encode(&self, encoding: Encoding, form: Form) -> Option<Bytes> {
        let mut message = Vec::new();
        let out = &mut message;
        match &self.event {
            Event::Publication(publication) => match form {
                Form::Plain => append_publication(encoding, &self.channel, publication, out).ok()?,
                Form::Whole => {
                    append_publication(encoding, &self.channel, &delta::whole(encoding, publication)?, out)
                        .ok()?;
                }
                Form::Patch => {
                    let base = self.previous.as_ref();
                    let Some(patched) = base.and_then(|base| delta::patch(encoding, publication, base))
                    else {
                        return self.plain(encoding, Form::Whole);
                    };
                    append_publication(encoding, &self.channel, &patched, out).ok()?;
                }
            },
            Event::Join(info) => append_join(encoding, &self.channel, info, out).ok()?,
            Event::Leave(info) => append_leave(encoding, &self.channel, info, out).ok()?,
        }
        Some(web_socket_frame(FIN | opcode(encoding), &message))
    }
}

#[cfg(test)]
mod tests {
    use tidewire_protocol::Reply;
    use tidewire_protocol::frame::append_reply;

    use super::*;

    const PLAIN: Wire = Wire { encoding: Encoding::Json, framing: Framing::WebSocket };
    const DEFLATE: Deflate = Deflate { window: Window::Usual, level: 1, min_size: 0 };

    fn wire(how: Deflate) -> Wire {
        Wire { framing: Framing::WebSocketDeflate(how), ..PLAIN }
    }

    fn news(data: impl Into<Bytes>) -> Broadcast {
        let publication = Publication { data: data.into(), offset: 7, ..Default::default() };
        Broadcast::new("news".into(), Event::Publication(Arc::new(publication)), "e".into())
    }

    fn long() -> String {
        format!("[{}1]", "12345,".repeat(100))
    }

    #[test]
    fn lengths_take_their_shortest_form() {
        let header = |len: usize| {
            let frame = web_socket_frame(0x82, &vec![0; len]);
            assert_eq!(payload_of(&frame).len(), len);
            frame[..frame.len() - len].to_vec()
        };
        assert_eq!(header(0), [0x82, 0]);
        assert_eq!(header(125), [0x82, 125]);
        assert_eq!(header(126), [0x82, 126, 0, 126]);
        assert_eq!(header(65_535), [0x82, 126, 0xff, 0xff]);
        assert_eq!(header(65_536), [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn a_ping_is_the_frame_of_an_empty_reply() {
        for encoding in [Encoding::Json, Encoding::Protobuf] {
            let mut reply = Vec::new();
            append_reply(encoding, &Reply::default(), &mut reply).unwrap();
            for wire in [PLAIN, wire(DEFLATE)] {
                let wire = Wire { encoding, ..wire };
                assert_eq!(wire.ping(), wire.finish(&reply, &Metrics::default()));
            }
        }
    }

    #[test]
    fn a_frame_is_made_once_and_shared() {
        let (broadcast, metrics) = (news(r#"{"a":1}"#), Metrics::default());
        let frame = || broadcast.frame(&PLAIN, Form::Plain, &metrics).unwrap();
        let first = frame();
        assert_eq!(first.as_ptr(), frame().as_ptr());
        assert_eq!(&first[2..], br#"{"push":{"channel":"news","pub":{"data":{"a":1},"offset":7}}}"#);
    }

    #[test]
    fn a_broadcast_is_compressed_once_and_shared() {
        let (broadcast, metrics) = (news(long()), Metrics::default());
        let frame = |how| broadcast.frame(&wire(how), Form::Plain, &metrics).unwrap();
        let first = frame(DEFLATE);
        assert_eq!(first[0], 0xc1, "FIN, RSV1, text");
        // Another endpoint may be tuned differently; what is made already is lawful there too.
        assert_eq!(first.as_ptr(), frame(Deflate { level: 9, ..DEFLATE }).as_ptr());
        assert_eq!(metrics.compressions.total(), 1);
        assert_ne!(first.as_ptr(), frame(Deflate { window: Window::Narrow, ..DEFLATE }).as_ptr());
        assert_eq!(metrics.compressions.total(), 2);
        let plain = broadcast.frame(&PLAIN, Form::Plain, &metrics).unwrap();
        assert_eq!(plain[0], 0x81);
        assert_eq!(metrics.compression_input_bytes.total(), 2 * payload_of(&plain).len() as u64);
    }

    #[test]
    fn what_is_not_worth_compressing_is_the_plain_frame_itself() {
        let (broadcast, metrics) = (news(long()), Metrics::default());
        let plain = broadcast.frame(&PLAIN, Form::Plain, &metrics).unwrap();
        let how = Deflate { min_size: 10_000, ..DEFLATE };
        assert_eq!(broadcast.frame(&wire(how), Form::Plain, &metrics).unwrap().as_ptr(), plain.as_ptr());
        assert_eq!(metrics.compressions.total(), 0);
        let replies = long().into_bytes();
        assert_eq!(wire(how).finish(&replies, &metrics), PLAIN.finish(&replies, &metrics));
    }

    #[test]
    fn a_short_reply_is_not_compressed_and_a_broadcast_of_the_same_bytes_is() {
        let (broadcast, metrics) = (news(format!("[{}1]", "12345,".repeat(20))), Metrics::default());
        let plain = broadcast.frame(&PLAIN, Form::Plain, &metrics).unwrap();
        assert_eq!(wire(DEFLATE).finish(payload_of(&plain), &metrics), plain);
        assert_eq!(metrics.compressions.total(), 0);
        assert!(broadcast.frame(&wire(DEFLATE), Form::Plain, &metrics).unwrap().len() < plain.len());
    }

    #[test]
    fn replies_and_broadcasts_of_the_same_bytes_are_the_same_frame() {
        let (broadcast, metrics) = (news(long()), Metrics::default());
        let plain = broadcast.frame(&PLAIN, Form::Plain, &metrics).unwrap();
        let reply = wire(DEFLATE).finish(payload_of(&plain), &metrics);
        assert_eq!(broadcast.frame(&wire(DEFLATE), Form::Plain, &metrics), Some(reply));
    }
}
