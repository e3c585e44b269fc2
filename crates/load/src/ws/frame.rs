//! Frames: masked ones out, a server's in.

/// A server's frame larger than this is refused, so that a broken length cannot make this process grow.
pub const FRAME_BYTES_MAX: u64 = 64 << 20;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opcode {
    /// A further part of a message.
    Continuation,
    /// A message of text, or its first part.
    Text,
    /// A message of bytes, or its first part.
    Binary,
    /// The last frame.
    Close,
    /// To be answered with a pong.
    Ping,
    /// The answer to a ping.
    Pong,
}

/// One frame of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Whether the message ends with it.
    pub fin: bool,
    /// What it is.
    pub opcode: Opcode,
    /// The message that begins with it is compressed (RFC 7692 §6).
    pub compressed: bool,
    /// What it carries.
    pub payload: &'a [u8],
    /// Bytes of the whole frame.
    pub bytes: usize,
}

/// How a server broke RFC 6455.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WsError {
    /// A server must not mask.
    #[error("the server masked a frame")]
    Masked,
    /// Bits of extensions that were not agreed on.
    #[error("the server set reserved bits")]
    Reserved,
    /// No such kind of frame.
    #[error("the server sent a frame of unknown kind {0}")]
    Opcode(u8),
    /// See [`FRAME_BYTES_MAX`].
    #[error("the server announced a frame of {0} bytes")]
    TooLarge(u64),
    /// A control frame that is long or a part.
    #[error("the server sent a control frame that is too long or not whole")]
    Control,
    /// What is no deflate data, or more than [`FRAME_BYTES_MAX`] of it.
    #[error("the server sent a compressed message that cannot be inflated")]
    Deflate,
    /// A part of a message that has not begun, or a new message before the end of another.
    #[error("the server mixed up the parts of a message")]
    Fragment,
}

// === impl Opcode ===

impl Opcode {
    fn parse(bits: u8) -> Result<Self, WsError> {
        match bits {
            0 => Ok(Self::Continuation),
            1 => Ok(Self::Text),
            2 => Ok(Self::Binary),
            8 => Ok(Self::Close),
            9 => Ok(Self::Ping),
            10 => Ok(Self::Pong),
            other => Err(WsError::Opcode(other)),
        }
    }

    fn bits(self) -> u8 {
        match self {
            Self::Continuation => 0,
            Self::Text => 1,
            Self::Binary => 2,
            Self::Close => 8,
            Self::Ping => 9,
            Self::Pong => 10,
        }
    }

    fn is_control(self) -> bool {
        self.bits() >= 8
    }
}

// === impl Frame ===

impl<'a> Frame<'a> {
    /// The frame that `input` begins with, `None` while it is not complete. `compression`: it was agreed on.
    ///
    /// # Errors
    /// See [`WsError`]; what is wrong shows in the header already.
    pub fn parse(input: &'a [u8], compression: bool) -> Result<Option<Self>, WsError> {
        let &[first, second, ref rest @ ..] = input else { return Ok(None) };
        let compressed = first & 0x40 != 0;
        // Only the first frame of a message says that it is compressed.
        let may_be = compression && matches!(first & 0x0f, 1 | 2);
        if first & 0x30 != 0 || (compressed && !may_be) {
            return Err(WsError::Reserved);
        }
        if second & 0x80 != 0 {
            return Err(WsError::Masked);
        }
        let (fin, opcode) = (first & 0x80 != 0, Opcode::parse(first & 0x0f)?);
        let (length, length_bytes) = match second {
            126 => match rest.first_chunk() {
                Some(bytes) => (u64::from(u16::from_be_bytes(*bytes)), 2),
                None => return Ok(None),
            },
            127 => match rest.first_chunk() {
                Some(bytes) => (u64::from_be_bytes(*bytes), 8),
                None => return Ok(None),
            },
            short => (u64::from(short), 0),
        };
        if length > FRAME_BYTES_MAX {
            return Err(WsError::TooLarge(length));
        }
        if opcode.is_control() && (!fin || length > 125) {
            return Err(WsError::Control);
        }
        let start = 2 + length_bytes;
        let bytes = start + length as usize;
        Ok(input.get(start..bytes).map(|payload| Self { fin, opcode, compressed, payload, bytes }))
    }
}

/// Appends a whole message or control frame, masked as a client must.
pub fn append_frame(opcode: Opcode, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    out.push(0x80 | opcode.bits());
    match payload.len() {
        short @ 0..126 => out.push(0x80 | short as u8),
        medium @ 126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
    out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

/// Appends a close frame with a code and no reason.
pub fn append_close(code: u16, mask: [u8; 4], out: &mut Vec<u8>) {
    append_frame(Opcode::Close, &code.to_be_bytes(), mask, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server's frame, written the long way round.
    fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            short @ 0..126 => frame.push(short as u8),
            medium @ 126..65_536 => frame.extend([126, (medium >> 8) as u8, medium as u8]),
            long => {
                frame.push(127);
                frame.extend((long as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn frames_of_every_length_form_are_read_once_complete() {
        for length in [0, 1, 125, 126, 65_535, 65_536] {
            let payload = vec![7; length];
            let mut input = server_frame(0x82, &payload);
            let bytes = input.len();
            assert_eq!(Frame::parse(&input[..bytes - 1], false), Ok(None), "{length}");
            input.push(99);
            let plain =
                Frame { fin: true, opcode: Opcode::Binary, compressed: false, payload: &payload, bytes };
            assert_eq!(Frame::parse(&input, false), Ok(Some(plain)), "{length}");
            let mut compressed = input.clone();
            compressed[0] |= 0x40;
            assert_eq!(
                Frame::parse(&compressed, true),
                Ok(Some(Frame { compressed: true, ..plain })),
                "{length}"
            );
        }
    }

    #[test]
    fn a_server_that_breaks_the_rfc_is_found_out() {
        let huge = [&[0x82, 127][..], &u64::MAX.to_be_bytes()].concat();
        let cases: [(&[u8], WsError); 7] = [
            (&[0x81, 0x81], WsError::Masked),
            (&[0xc1, 0], WsError::Reserved),
            (&[0x83, 0], WsError::Opcode(3)),
            (&[0x8b, 0], WsError::Opcode(11)),
            (&[0x09, 0], WsError::Control),
            (&[0x89, 126, 0, 126], WsError::Control),
            (&huge, WsError::TooLarge(u64::MAX)),
        ];
        for (input, error) in cases {
            assert_eq!(Frame::parse(input, false), Err(error), "{input:?}");
        }
        for continuation_or_control in [&[0xc0, 0][..], &[0xc9, 0], &[0xe1, 0]] {
            assert_eq!(Frame::parse(continuation_or_control, true), Err(WsError::Reserved));
        }
    }

    #[test]
    fn what_is_sent_is_masked_and_whole() {
        let mut out = Vec::new();
        // The masked example of RFC 6455 §5.7.
        append_frame(Opcode::Text, b"Hello", [0x37, 0xfa, 0x21, 0x3d], &mut out);
        assert_eq!(out, [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]);
        for (length, header) in
            [(126, &[0x82, 0xfe, 0, 126][..]), (65_536, &[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0])]
        {
            out.clear();
            append_frame(Opcode::Binary, &vec![5; length], [0; 4], &mut out);
            assert!(out.starts_with(header), "{length}");
            assert_eq!(out.len(), header.len() + 4 + length);
        }
    }
}
