//! The client's side of the socket: WebSocket frames out of bytes that come in any pieces.

use bytes::{Buf, Bytes, BytesMut};

/// A complete frame from a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Frame {
    /// A message of the protocol.
    Message { text: bool, payload: Bytes },
    /// The server closes, with this code.
    Close(u16),
}

/// Takes bytes, gives frames. Strict: a server of ours sends whole, unmasked messages with the shortest length.
#[derive(Debug, Default)]
pub(crate) struct FrameReader {
    bytes: BytesMut,
}

impl FrameReader {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next complete frame; an error tells what is wrong with the bytes.
    pub(crate) fn next(&mut self) -> Result<Option<Frame>, String> {
        let Some((header, length)) = self.header()? else {
            return Ok(None);
        };
        if self.bytes.len() < header + length {
            return Ok(None);
        }
        let first = self.bytes.first().copied().unwrap_or_default();
        self.bytes.advance(header);
        let payload = self.bytes.split_to(length).freeze();
        match first {
            0x81 => Ok(Some(Frame::Message { text: true, payload })),
            0x82 => Ok(Some(Frame::Message { text: false, payload })),
            0x88 => match payload.get(..2) {
                Some(&[high, low]) => Ok(Some(Frame::Close(u16::from_be_bytes([high, low])))),
                _ => Err("a close frame without a code".into()),
            },
            other => Err(format!("a frame begins with {other:#04x}")),
        }
    }

    /// Lengths of header and payload.
    fn header(&self) -> Result<Option<(usize, usize)>, String> {
        let Some(&second) = self.bytes.get(1) else {
            return Ok(None);
        };
        let wide: usize = match second {
            0..=125 => return Ok(Some((2, usize::from(second)))),
            126 => 2,
            127 => 8,
            _ => return Err("a server's frame is masked".into()),
        };
        let Some(bytes) = self.bytes.get(2..2 + wide) else {
            return Ok(None);
        };
        let length = bytes.iter().fold(0u64, |length, byte| (length << 8) | u64::from(*byte));
        let shortest = if wide == 2 { length > 125 } else { length > 0xffff };
        if !shortest {
            return Err(format!("length {length} in {wide} bytes"));
        }
        Ok(Some((2 + wide, usize::try_from(length).unwrap_or(usize::MAX))))
    }
}

/// The close frame a driver sends.
pub(crate) fn close_frame(code: u32, reason: &str) -> Bytes {
    let mut frame = vec![0x88, (2 + reason.len()) as u8];
    frame.extend_from_slice(&(code as u16).to_be_bytes());
    frame.extend_from_slice(reason.as_bytes());
    Bytes::from(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_whole_however_the_bytes_come() {
        let mut sent = vec![0x81, 2, b'{', b'}', 0x82, 126, 1, 0];
        sent.extend_from_slice(&[7; 256]);
        sent.extend_from_slice(&close_frame(3001, "shutdown"));
        let expected = [
            Frame::Message { text: true, payload: Bytes::from_static(b"{}") },
            Frame::Message { text: false, payload: Bytes::from(vec![7; 256]) },
            Frame::Close(3001),
        ];
        for size in [1, 2, 3, 100, 1000] {
            let mut reader = FrameReader::default();
            let mut got = Vec::new();
            for piece in sent.chunks(size) {
                reader.push(piece);
                while let Some(frame) = reader.next().unwrap() {
                    got.push(frame);
                }
            }
            assert_eq!(got, expected, "pieces of {size}");
        }
    }

    #[test]
    fn what_no_server_sends_is_refused() {
        for bytes in [&[0x81u8, 0x80][..], &[0x81, 126, 0, 5], &[0x01, 0]] {
            let mut reader = FrameReader::default();
            reader.push(bytes);
            assert!(reader.next().is_err(), "{bytes:?}");
        }
    }
}
