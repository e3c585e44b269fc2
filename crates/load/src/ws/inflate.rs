//! permessage-deflate (RFC 7692) for what a server sends without context takeover: every message by itself.

use flate2::{Decompress, FlushDecompress, Status};

use super::WsError;
use super::frame::FRAME_BYTES_MAX;

/// What senders leave out (§7.2.2), then a last block, with which the data is at its end.
const TAIL: [u8; 6] = [0x00, 0x00, 0xff, 0xff, 0x03, 0x00];

/// Inflates a message. The tool decodes what is the same for all clients once, so it need not be quick.
///
/// # Errors
/// [`WsError::Deflate`].
pub fn inflate(payload: &[u8]) -> Result<Vec<u8>, WsError> {
    let input = [payload, &TAIL].concat();
    let mut state = Decompress::new(false);
    let mut out = Vec::with_capacity(payload.len().saturating_mul(4).max(512));
    loop {
        let taken = usize::try_from(state.total_in()).unwrap_or(usize::MAX);
        let rest = input.get(taken..).unwrap_or_default();
        match state.decompress_vec(rest, &mut out, FlushDecompress::None).map_err(|_| WsError::Deflate)? {
            Status::StreamEnd => return Ok(out),
            _ if out.len() as u64 > FRAME_BYTES_MAX => return Err(WsError::Deflate),
            _ if out.len() == out.capacity() => out.reserve(out.len()),
            _ => return Err(WsError::Deflate),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_are_inflated() {
        // §7.2.3.1 and §7.2.3.3.
        assert_eq!(inflate(&[0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00]).as_deref(), Ok(&b"Hello"[..]));
        let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
        assert_eq!(inflate(&stored).as_deref(), Ok(&b"Hello"[..]));
    }

    #[test]
    fn what_is_no_deflate_data_is_found_out() {
        for wrong in [&[0xff; 8][..], &[0xf2, 0x48], &[0x00, 0x05, 0x00]] {
            assert_eq!(inflate(wrong), Err(WsError::Deflate), "{wrong:02x?}");
        }
    }

    #[test]
    fn a_long_message_comes_back() {
        let message = b"tide ".repeat(100_000);
        let mut state = flate2::Compress::new(flate2::Compression::fast(), false);
        let mut out = Vec::with_capacity(message.len());
        state.compress_vec(&message, &mut out, flate2::FlushCompress::Sync).unwrap();
        assert_eq!(inflate(&out[..out.len() - 4]), Ok(message));
    }
}
