//! Bytes in, messages and control frames out.

use std::time::Duration;

use bytes::Bytes;

use super::inflate::inflate;
use super::utf8::Utf8;
use super::{
    CONTROL_BYTES_MAX, CloseReason, Extension, FrameHeader, HEADER_BYTES_MAX, Limits, Opcode, Violation,
    apply_mask, close,
};

/// Whether a message was sent as text or as bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// UTF-8, checked.
    Text,
    /// Any bytes.
    Binary,
}

/// Something whole that a peer sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A message, joined from its frames.
    Message {
        /// How it was sent.
        kind: MessageKind,
        /// Its payload, unmasked and inflated.
        payload: Bytes,
    },
    /// To be answered by a pong with the same payload.
    Ping(Bytes),
    /// An answer to a ping, or sent unasked.
    Pong(Bytes),
    /// The peer sends nothing after this.
    Close(Option<CloseReason>),
}

/// Where one connection's input stands. Between two messages it is 16 bytes and owns nothing.
#[derive(Debug, Default)]
pub struct Decoder {
    partial: Option<Box<Partial>>,
    control: ControlRate,
    extension: Extension,
}

/// A header, frame or message that has begun and not ended.
#[derive(Debug, Default)]
struct Partial {
    /// Bytes of a header that is not complete.
    header: Short<HEADER_BYTES_MAX>,
    /// The frame whose payload is being read, and how much of it has been.
    frame: Option<(FrameHeader, u64)>,
    /// Payload of that frame if it is a control frame; the message it interrupts stays beside it.
    control: Short<CONTROL_BYTES_MAX>,
    message: Option<OpenMessage>,
}

#[derive(Debug)]
struct OpenMessage {
    kind: MessageKind,
    compressed: bool,
    payload: Vec<u8>,
    frames: u32,
    empty: u32,
    text: Utf8,
}

// === impl Decoder ===

impl Decoder {
    /// A decoder at the beginning of a connection with what was agreed on.
    pub const fn new(extension: Extension) -> Self {
        Self { partial: None, control: ControlRate { window_start: [0; 4], count: 0 }, extension }
    }

    /// Whether nothing has begun: no buffer is held.
    pub const fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    /// Bytes held for a message that has begun.
    pub fn buffered(&self) -> usize {
        self.partial
            .as_ref()
            .and_then(|partial| partial.message.as_ref())
            .map_or(0, |open| open.payload.capacity())
    }

    /// Reads up to the next event and returns how many bytes of `input` that took. Without an event all of them were
    /// taken. Payload bytes are unmasked in place, so `input` past the taken part must be offered again unchanged.
    ///
    /// `now` is time since any fixed start; control frames are counted by it.
    ///
    /// # Errors
    /// The first violation. Nothing may be decoded after it, nor after [`Event::Close`].
    pub fn decode(
        &mut self,
        limits: &Limits,
        now: Duration,
        input: &mut [u8],
    ) -> Result<(usize, Option<Event>), Violation> {
        if self.partial.is_none() {
            if let Some((taken, event)) = self.decode_whole(limits, now, input)? {
                return Ok((taken, Some(event)));
            }
            if input.is_empty() {
                return Ok((0, None));
            }
        }
        let length = input.len();
        let mut rest = input;
        let extension = self.extension;
        let mut partial = self.partial.take().unwrap_or_default();
        let event = loop {
            match partial.step(limits, extension, &mut rest)? {
                Step::Event(event) => break Some(event),
                Step::Frame => {}
                Step::Starved => break None,
            }
        };
        if !partial.is_empty() {
            self.partial = Some(partial);
        }
        if let Some(event) = &event {
            self.control.count(limits, now, event)?;
        }
        Ok((length.saturating_sub(rest.len()), event))
    }

    /// The usual case, without any state: one frame, whole, in the input.
    fn decode_whole(
        &mut self,
        limits: &Limits,
        now: Duration,
        input: &mut [u8],
    ) -> Result<Option<(usize, Event)>, Violation> {
        let Some((header, header_bytes)) = FrameHeader::parse(limits.role, self.extension, input)? else {
            return Ok(None);
        };
        if !header.fin || header.opcode == Opcode::Continuation {
            return Ok(None);
        }
        check_message_bytes(limits, &header, 0)?;
        let Ok(length) = usize::try_from(header.length) else {
            return Ok(None);
        };
        let end = header_bytes.saturating_add(length);
        let Some(payload) = input.get_mut(header_bytes..end) else {
            return Ok(None);
        };
        if let Some(key) = header.mask {
            apply_mask(payload, key, 0);
        }
        let event = match header.opcode {
            Opcode::Text if header.compressed => inflated(limits, MessageKind::Text, payload)?,
            Opcode::Binary if header.compressed => inflated(limits, MessageKind::Binary, payload)?,
            Opcode::Text => {
                check_utf8(payload)?;
                Event::Message { kind: MessageKind::Text, payload: Bytes::copy_from_slice(payload) }
            }
            Opcode::Binary => {
                Event::Message { kind: MessageKind::Binary, payload: Bytes::copy_from_slice(payload) }
            }
            control => control_event(limits, control, payload)?,
        };
        self.control.count(limits, now, &event)?;
        Ok(Some((end, event)))
    }
}

// === impl Partial ===

enum Step {
    Event(Event),
    /// A frame ended, its message did not.
    Frame,
    /// All input is taken.
    Starved,
}

impl Partial {
    fn is_empty(&self) -> bool {
        self.header.is_empty() && self.frame.is_none() && self.message.is_none()
    }

    /// Reads to the end of a frame or of the input.
    fn step(
        &mut self,
        limits: &Limits,
        extension: Extension,
        input: &mut &mut [u8],
    ) -> Result<Step, Violation> {
        let (header, read) = match self.frame.take() {
            Some(begun) => begun,
            None => match self.read_header(limits, extension, input)? {
                Some(header) => (header, 0),
                None => return Ok(Step::Starved),
            },
        };
        let left = header.length.saturating_sub(read);
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
        let Some((piece, rest)) = std::mem::take(input).split_at_mut_checked(here) else {
            return Ok(Step::Starved);
        };
        *input = rest;
        if let Some(key) = header.mask {
            apply_mask(piece, key, read);
        }
        let left = left.saturating_sub(piece.len() as u64);
        self.take_payload(&header, piece, left)?;
        if left > 0 {
            self.frame = Some((header, header.length.saturating_sub(left)));
            return Ok(Step::Starved);
        }
        self.end_frame(limits, &header)
    }

    /// Joins a header from what came earlier and what is here, then checks it against the open message.
    fn read_header(
        &mut self,
        limits: &Limits,
        extension: Extension,
        input: &mut &mut [u8],
    ) -> Result<Option<FrameHeader>, Violation> {
        let before = self.header.as_slice().len();
        let fresh = self.header.extend(input);
        let parsed = FrameHeader::parse(limits.role, extension, self.header.as_slice())?;
        let Some((header, header_bytes)) = parsed else {
            *input = std::mem::take(input).get_mut(fresh..).unwrap_or_default();
            return Ok(None);
        };
        let taken = header_bytes.saturating_sub(before);
        *input = std::mem::take(input).get_mut(taken..).unwrap_or_default();
        self.header.clear();
        self.begin_frame(limits, &header)?;
        Ok(Some(header))
    }

    fn begin_frame(&mut self, limits: &Limits, header: &FrameHeader) -> Result<(), Violation> {
        let kind = match (header.opcode, &self.message) {
            (Opcode::Continuation, None) => return Err(Violation::UnexpectedContinuation),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(Violation::InterruptedMessage),
            (Opcode::Binary, None) => MessageKind::Binary,
            (_, None) => MessageKind::Text,
            (_, Some(open)) => open.kind,
        };
        if header.opcode.is_control() {
            return Ok(());
        }
        let message = self.message.get_or_insert_with(|| OpenMessage::new(kind, header.compressed));
        check_message_bytes(limits, header, message.payload.len())?;
        message.frames = message.frames.saturating_add(1);
        if message.frames > limits.message_frames_max {
            return Err(Violation::TooManyFrames);
        }
        let alone = header.fin && header.opcode != Opcode::Continuation;
        if header.length == 0 && !alone {
            message.empty = message.empty.saturating_add(1);
            if message.empty > limits.empty_frames_max {
                return Err(Violation::TooManyEmptyFrames);
            }
        }
        Ok(())
    }

    /// Keeps a piece of payload; `left` bytes of the frame are still to come.
    fn take_payload(&mut self, header: &FrameHeader, piece: &[u8], left: u64) -> Result<(), Violation> {
        if header.opcode.is_control() {
            self.control.extend(piece);
            return Ok(());
        }
        let Some(message) = &mut self.message else {
            return Ok(());
        };
        if message.kind == MessageKind::Text && !message.compressed {
            message.text.push(piece)?;
        }
        message.append(piece, left);
        Ok(())
    }

    fn end_frame(&mut self, limits: &Limits, header: &FrameHeader) -> Result<Step, Violation> {
        if header.opcode.is_control() {
            let event = control_event(limits, header.opcode, self.control.as_slice())?;
            self.control.clear();
            return Ok(Step::Event(event));
        }
        if !header.fin {
            return Ok(Step::Frame);
        }
        let Some(message) = self.message.take() else {
            return Ok(Step::Frame);
        };
        if message.compressed {
            return inflated(limits, message.kind, &message.payload).map(Step::Event);
        }
        message.text.finish()?;
        let mut payload = message.payload;
        payload.shrink_to_fit();
        Ok(Step::Event(Event::Message { kind: message.kind, payload: payload.into() }))
    }
}

// === impl OpenMessage ===

impl OpenMessage {
    fn new(kind: MessageKind, compressed: bool) -> Self {
        Self { kind, compressed, payload: Vec::new(), frames: 0, empty: 0, text: Utf8::default() }
    }

    /// Appends a piece. Room is made for at most as much again as has really arrived, never for what a header claims.
    fn append(&mut self, piece: &[u8], left: u64) {
        let spare = self.payload.capacity().saturating_sub(self.payload.len());
        if spare < piece.len() {
            let arrived = self.payload.len().saturating_add(piece.len());
            let ahead = usize::try_from(left).unwrap_or(usize::MAX).min(arrived);
            self.payload.reserve_exact(piece.len().saturating_add(ahead));
        }
        self.payload.extend_from_slice(piece);
    }
}

fn check_message_bytes(limits: &Limits, header: &FrameHeader, before: usize) -> Result<(), Violation> {
    let room = limits.message_bytes_max.saturating_sub(before) as u64;
    if header.length > room { Err(Violation::MessageTooLarge) } else { Ok(()) }
}

fn check_utf8(text: &[u8]) -> Result<(), Violation> {
    std::str::from_utf8(text).map(|_| ()).map_err(|_| Violation::InvalidUtf8)
}

/// The message that came compressed.
fn inflated(limits: &Limits, kind: MessageKind, payload: &[u8]) -> Result<Event, Violation> {
    let payload = inflate(payload, limits.inflated_bytes_max)?;
    if kind == MessageKind::Text {
        check_utf8(&payload)?;
    }
    Ok(Event::Message { kind, payload: payload.into() })
}

fn control_event(limits: &Limits, opcode: Opcode, payload: &[u8]) -> Result<Event, Violation> {
    Ok(match opcode {
        Opcode::Ping => Event::Ping(Bytes::copy_from_slice(payload)),
        Opcode::Pong => Event::Pong(Bytes::copy_from_slice(payload)),
        _ => Event::Close(close::parse(limits.role, payload)?),
    })
}

/// Counts pings and pongs in windows that begin with their first one.
#[derive(Debug, Default)]
struct ControlRate {
    /// Milliseconds; wraps after 49 days, which at worst starts a window early. As bytes, which leave room for a
    /// neighbour where a number would be padded.
    window_start: [u8; 4],
    count: u16,
}

impl ControlRate {
    fn count(&mut self, limits: &Limits, now: Duration, event: &Event) -> Result<(), Violation> {
        if !matches!(event, Event::Ping(_) | Event::Pong(_)) {
            return Ok(());
        }
        #[expect(clippy::cast_possible_truncation, reason = "wrapping is meant")]
        let now = now.as_millis() as u32;
        if self.count == 0
            || u128::from(now.wrapping_sub(u32::from_ne_bytes(self.window_start)))
                >= limits.control_window.as_millis()
        {
            self.window_start = now.to_ne_bytes();
            self.count = 0;
        }
        self.count = self.count.saturating_add(1);
        if self.count > limits.control_frames_max { Err(Violation::ControlFlood) } else { Ok(()) }
    }
}

/// Up to `N` bytes in place.
#[derive(Debug)]
struct Short<const N: usize> {
    bytes: [u8; N],
    length: u8,
}

impl<const N: usize> Default for Short<N> {
    fn default() -> Self {
        Self { bytes: [0; N], length: 0 }
    }
}

impl<const N: usize> Short<N> {
    fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or_default()
    }

    fn is_empty(&self) -> bool {
        self.length == 0
    }

    fn clear(&mut self) {
        self.length = 0;
    }

    /// Appends what fits and returns how much that was.
    fn extend(&mut self, from: &[u8]) -> usize {
        let room = self.bytes.get_mut(usize::from(self.length)..).unwrap_or_default();
        let taken = room.len().min(from.len());
        if let (Some(room), Some(from)) = (room.get_mut(..taken), from.get(..taken)) {
            room.copy_from_slice(from);
        }
        self.length = self.length.saturating_add(u8::try_from(taken).unwrap_or(u8::MAX));
        taken
    }
}
