//! Compressed messages: of strangers, and of any bytes.
#![no_main]

use std::time::Duration;

use flate2::{Compress, Compression, FlushCompress};
use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress, inflate_flags};
use tidewire_fuzz::ws::{Decoder, Event, Extension, Limits, Violation};

/// What a message may be inflated to; small, so that a bomb needs few bytes.
const INFLATED_MAX: usize = 4 << 10;
/// Where a bomb goes off that the first limit has stopped.
const WIDE_MAX: usize = 128 << 10;
/// What a sync flush ends with and a message leaves out.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let Some((&pieces, payload)) = bytes.split_first() else { return };
    let received = inflated(payload, 1, INFLATED_MAX);
    assert_eq!(inflated(payload, 1 + usize::from(pieces), INFLATED_MAX), received, "frames make no difference");
    let wide = inflated(payload, 1, WIDE_MAX);
    match &received {
        Ok(message) => {
            assert!(message.len() <= INFLATED_MAX);
            assert_eq!(wide.as_ref(), Ok(message));
        }
        Err(Violation::MessageTooLarge) => {
            assert!(wide.as_ref().map_or(true, |message| message.len() > INFLATED_MAX));
        }
        Err(violation) => assert_eq!(wide, Err(*violation)),
    }
    if let Some(message) = second_opinion(payload) {
        assert_eq!(wide, Ok(message));
    }
    assert_eq!(inflated(&deflated(payload), 1, WIDE_MAX).as_deref(), Ok(payload), "any bytes come back");
});

/// What a server makes of a compressed message of bytes, sent in so many frames and read in as many pieces.
fn inflated(payload: &[u8], frames: usize, inflated_bytes_max: usize) -> Result<Vec<u8>, Violation> {
    let limits = Limits { inflated_bytes_max, empty_frames_max: u32::MAX, ..Limits::server() };
    let mut stream = message(payload, frames);
    let size = stream.len().div_ceil(frames).max(1);
    let mut decoder = Decoder::new(Extension::Deflate);
    for piece in stream.chunks_mut(size) {
        let (taken, event) = decoder.decode(&limits, Duration::ZERO, piece)?;
        match event {
            Some(Event::Message { payload, .. }) => {
                assert!(taken == piece.len() && decoder.is_idle());
                return Ok(payload.into());
            }
            Some(other) => panic!("{other:?} was never sent"),
            // At most as much again as has come.
            None => assert!(decoder.buffered() <= 2 * payload.len().max(32)),
        }
    }
    panic!("a whole message was sent");
}

/// A compressed message of bytes in `frames` frames, masked with zeroes.
fn message(payload: &[u8], frames: usize) -> Vec<u8> {
    let mut stream = Vec::new();
    let size = payload.len().div_ceil(frames).max(1);
    let mut pieces: Vec<&[u8]> = payload.chunks(size).collect();
    pieces.resize(frames, b"");
    for (at, piece) in pieces.iter().enumerate() {
        // RSV1 and binary, or a continuation; FIN with the last.
        let first = if at == 0 { 0x42 } else { 0x00 };
        let fin = if at + 1 == frames { 0x80 } else { 0x00 };
        let length = u16::try_from(piece.len()).expect("inputs are short").to_be_bytes();
        match piece.len() {
            short @ 0..126 => stream.extend([first | fin, 0x80 | short as u8]),
            _ => stream.extend([first | fin, 0xfe, length[0], length[1]]),
        }
        stream.extend([0; 4]);
        stream.extend_from_slice(piece);
    }
    stream
}

/// The payload of a compressed message, as we send it.
fn deflated(message: &[u8]) -> Vec<u8> {
    let mut state = Compress::new(Compression::fast(), false);
    let mut out = Vec::with_capacity(message.len() + message.len() / 8 + 256);
    state.compress_vec(message, &mut out, FlushCompress::Sync).expect("any bytes can be deflated");
    out.truncate(out.strip_suffix(&TAIL).expect("a sync flush ends so").len());
    out
}

/// What another library makes of it, if it is sure: one stream that ends with the input.
fn second_opinion(payload: &[u8]) -> Option<Vec<u8>> {
    let input = [payload, &TAIL, &[0x03, 0x00]].concat();
    let mut out = vec![0; WIDE_MAX];
    let flags = inflate_flags::TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
    let (status, taken, made) = decompress(&mut DecompressorOxide::new(), &input, &mut out, 0, flags);
    (status == TINFLStatus::Done && taken == input.len()).then(|| {
        out.truncate(made);
        out
    })
}
