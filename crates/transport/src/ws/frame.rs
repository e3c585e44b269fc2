//! Frame headers (RFC 6455 §5.2) and whole frames for sending.

use bytes::{BufMut, Bytes, BytesMut};

use super::{CONTROL_BYTES_MAX, Extension, Role, Violation, apply_mask};

/// Two bytes, a 64-bit length and a mask.
pub const HEADER_BYTES_MAX: usize = 14;

const FIN: u8 = 0x80;
/// Of a message's first frame: the message is compressed.
const RSV1: u8 = 0x40;
const RSV2_AND_3: u8 = 0x30;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Opcode {
    /// A further piece of the open message.
    Continuation = 0,
    /// A message of UTF-8, or its first piece.
    Text = 1,
    /// A message of bytes, or its first piece.
    Binary = 2,
    /// The last frame of its sender.
    Close = 8,
    /// Asks for a pong with the same payload.
    Ping = 9,
    /// Answers a ping.
    Pong = 10,
}

impl Opcode {
    const fn parse(bits: u8) -> Result<Self, Violation> {
        Ok(match bits {
            0 => Self::Continuation,
            1 => Self::Text,
            2 => Self::Binary,
            8 => Self::Close,
            9 => Self::Ping,
            10 => Self::Pong,
            reserved => return Err(Violation::ReservedOpcode(reserved)),
        })
    }

    /// Whether the frame is a close, ping or pong: short, whole, and allowed between the pieces of a message.
    pub const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

/// The part of a frame before its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Last piece of its message.
    pub fin: bool,
    /// The message that begins here is compressed (RSV1 of RFC 7692 §6).
    pub compressed: bool,
    /// What the frame carries.
    pub opcode: Opcode,
    /// Payload bytes that follow.
    pub length: u64,
    /// The key the payload is masked with.
    pub mask: Option<[u8; 4]>,
}

impl FrameHeader {
    /// Reads a header from the start of `bytes` and returns it with its own length; `None` if more bytes are needed.
    ///
    /// # Errors
    /// The first violation in byte order, as soon as its byte is there.
    pub fn parse(role: Role, extension: Extension, bytes: &[u8]) -> Result<Option<(Self, usize)>, Violation> {
        let Some((&first, rest)) = bytes.split_first() else {
            return Ok(None);
        };
        let (opcode, compressed) = Self::parse_first(extension, first)?;
        let fin = first & FIN != 0;
        let Some((&second, rest)) = rest.split_first() else {
            return Ok(None);
        };
        let masked = second & 0x80 != 0;
        match (role, masked) {
            (Role::Server, false) => return Err(Violation::Unmasked),
            (Role::Client, true) => return Err(Violation::Masked),
            _ => {}
        }
        if opcode.is_control() && second & 0x7f > 125 {
            return Err(Violation::LongControl);
        }
        let Some((length, rest)) = parse_length(second & 0x7f, rest)? else {
            return Ok(None);
        };
        let (mask, rest) = match (masked, rest.split_first_chunk::<4>()) {
            (false, _) => (None, rest),
            (true, Some((key, rest))) => (Some(*key), rest),
            (true, None) => return Ok(None),
        };
        Ok(Some((Self { fin, compressed, opcode, length, mask }, bytes.len().saturating_sub(rest.len()))))
    }

    /// Checks everything the first byte says: the opcode, and whether the message is compressed.
    fn parse_first(extension: Extension, first: u8) -> Result<(Opcode, bool), Violation> {
        let compressed = first & RSV1 != 0;
        if first & RSV2_AND_3 != 0 || (compressed && extension != Extension::Deflate) {
            return Err(Violation::ReservedBits);
        }
        let opcode = Opcode::parse(first & 0x0f)?;
        if compressed && !matches!(opcode, Opcode::Text | Opcode::Binary) {
            return Err(Violation::ReservedBits);
        }
        if opcode.is_control() && first & FIN == 0 {
            return Err(Violation::FragmentedControl);
        }
        Ok((opcode, compressed))
    }

    /// Appends the header in its shortest form.
    pub fn write(&self, out: &mut impl BufMut) {
        let fin = if self.fin { FIN } else { 0 };
        let compressed = if self.compressed { RSV1 } else { 0 };
        let masked = if self.mask.is_some() { 0x80 } else { 0 };
        out.put_u8(fin | compressed | self.opcode as u8);
        if let (Ok(short), true) = (u8::try_from(self.length), self.length < 126) {
            out.put_u8(masked | short);
        } else if let Ok(medium) = u16::try_from(self.length) {
            out.put_u8(masked | 126);
            out.put_u16(medium);
        } else {
            out.put_u8(masked | 127);
            out.put_u64(self.length);
        }
        if let Some(key) = self.mask {
            out.put_slice(&key);
        }
    }
}

/// Reads the extended length, if the seven bits ask for one.
fn parse_length(seven: u8, rest: &[u8]) -> Result<Option<(u64, &[u8])>, Violation> {
    match seven {
        126 => {
            let Some((length, rest)) = rest.split_first_chunk::<2>() else {
                return Ok(None);
            };
            let length = u16::from_be_bytes(*length);
            if length < 126 { Err(Violation::NonMinimalLength) } else { Ok(Some((length.into(), rest))) }
        }
        127 => {
            let Some((length, rest)) = rest.split_first_chunk::<8>() else {
                return Ok(None);
            };
            let length = u64::from_be_bytes(*length);
            if length >> 63 != 0 {
                Err(Violation::LengthOverflow)
            } else if length <= 0xffff {
                Err(Violation::NonMinimalLength)
            } else {
                Ok(Some((length, rest)))
            }
        }
        short => Ok(Some((short.into(), rest))),
    }
}

/// A whole frame as a server sends it.
pub fn server_frame(opcode: Opcode, payload: &[u8]) -> Bytes {
    frame(opcode, None, payload)
}

/// A whole frame as a client sends it, masked with `key`, which must be unpredictable (§10.3).
pub fn client_frame(opcode: Opcode, payload: &[u8], key: [u8; 4]) -> Bytes {
    frame(opcode, Some(key), payload)
}

fn frame(opcode: Opcode, mask: Option<[u8; 4]>, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(HEADER_BYTES_MAX.saturating_add(payload.len()));
    let length = payload.len() as u64;
    FrameHeader { fin: true, compressed: false, opcode, length, mask }.write(&mut out);
    let header = out.len();
    out.put_slice(payload);
    if let (Some(key), Some(body)) = (mask, out.get_mut(header..)) {
        apply_mask(body, key, 0);
    }
    out.freeze()
}

/// A server's close frame. A reason beyond 123 bytes is cut at a character.
pub fn close_frame(code: u16, reason: &str) -> Bytes {
    let mut body = BytesMut::with_capacity(CONTROL_BYTES_MAX);
    body.put_u16(code);
    let end = reason.floor_char_boundary(CONTROL_BYTES_MAX.saturating_sub(2));
    body.put_slice(reason.as_bytes().get(..end).unwrap_or_default());
    server_frame(Opcode::Close, &body)
}
