//! Finished frames: where a message becomes the bytes that are written to a socket.
//!
//! A publication is encoded once per [`Wire`] and [`Form`] and shared by all receivers of that form. A further transport or a
//! compressed form is a further variant here, never a second delivery path.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tidewire_protocol::frame::{append_join, append_leave, append_publication};
use tidewire_protocol::{ChannelName, ClientInfo, Encoding, Epoch, Publication};

use crate::delta;
use crate::time::Now;

/// How a transport delimits what it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// Unmasked WebSocket frames of a server (RFC 6455 §5): text for JSON, binary for protobuf.
    WebSocket,
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
    /// How many wires there are.
    const COUNT: usize = 2;

    fn index(self) -> usize {
        match (self.encoding, self.framing) {
            (Encoding::Json, Framing::WebSocket) => 0,
            (Encoding::Protobuf, Framing::WebSocket) => 1,
        }
    }

    /// Makes a finished frame of encoded messages.
    pub fn finish(self, messages: &[u8]) -> Bytes {
        match self.framing {
            Framing::WebSocket => web_socket_frame(self.encoding, messages),
        }
    }

    /// The frame of an empty reply, which is a ping: always the same, so nothing is made for it.
    pub(crate) fn ping(self) -> Bytes {
        match (self.encoding, self.framing) {
            (Encoding::Json, Framing::WebSocket) => Bytes::from_static(b"\x81\x02{}"),
            (Encoding::Protobuf, Framing::WebSocket) => Bytes::from_static(b"\x82\x01\0"),
        }
    }
}

/// RFC 6455 §5.2: FIN and the opcode, then the length in its shortest form; servers do not mask.
fn web_socket_frame(encoding: Encoding, payload: &[u8]) -> Bytes {
    let opcode = match encoding {
        Encoding::Json => 0x1,
        Encoding::Protobuf => 0x2,
    };
    let mut frame = Vec::with_capacity(payload.len() + 10);
    frame.push(0x80 | opcode);
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
    frames: [[OnceLock<Option<Bytes>>; Form::COUNT]; Wire::COUNT],
}

impl Broadcast {
    pub(crate) fn new(channel: ChannelName, event: Event, epoch: Epoch) -> Self {
        Self { channel, event, epoch, caught_up: false, previous: None, frames: Default::default() }
    }

    /// Names the publication that subscribers with deltas hold, which must be the one right before.
    pub(crate) fn with_previous(mut self, previous: Option<Arc<Publication>>) -> Self {
        self.previous = previous.filter(|previous| previous.offset + 1 == self.offset());
        self
    }

    /// The frame for one wire and form, made on first use. `None` if the payload cannot be written in that encoding.
    pub(crate) fn frame(&self, wire: Wire, form: Form) -> Option<Bytes> {
        let made = self.frames.get(wire.index())?.get(form as usize)?;
        made.get_or_init(|| self.encode(wire, form)).clone()
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

    fn encode(&self, wire: Wire, form: Form) -> Option<Bytes> {
        let mut message = Vec::new();
        let (encoding, out) = (wire.encoding, &mut message);
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
                        return self.frame(wire, Form::Whole);
                    };
                    append_publication(encoding, &self.channel, &patched, out).ok()?;
                }
            },
            Event::Join(info) => append_join(encoding, &self.channel, info, out).ok()?,
            Event::Leave(info) => append_leave(encoding, &self.channel, info, out).ok()?,
        }
        Some(wire.finish(&message))
    }
}

#[cfg(test)]
mod tests {
    use tidewire_protocol::Reply;
    use tidewire_protocol::frame::append_reply;

    use super::*;

    #[test]
    fn lengths_take_their_shortest_form() {
        let header = |len: usize| {
            let frame = web_socket_frame(Encoding::Protobuf, &vec![0; len]);
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
            let wire = Wire { encoding, framing: Framing::WebSocket };
            let mut reply = Vec::new();
            append_reply(encoding, &Reply::default(), &mut reply).unwrap();
            assert_eq!(wire.ping(), wire.finish(&reply));
        }
    }

    #[test]
    fn a_frame_is_made_once_and_shared() {
        let publication =
            Publication { data: Bytes::from_static(b"{\"a\":1}"), offset: 7, ..Default::default() };
        let broadcast = Broadcast::new("news".into(), Event::Publication(Arc::new(publication)), "e".into());
        let wire = Wire { encoding: Encoding::Json, framing: Framing::WebSocket };
        let (first, second) =
            (broadcast.frame(wire, Form::Plain).unwrap(), broadcast.frame(wire, Form::Plain).unwrap());
        assert_eq!(first.as_ptr(), second.as_ptr());
        assert_eq!(&first[2..], br#"{"push":{"channel":"news","pub":{"data":{"a":1},"offset":7}}}"#);
    }
}
