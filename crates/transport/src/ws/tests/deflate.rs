//! Messages that came compressed.

use flate2::{Compress, Compression, FlushCompress};

use super::*;

/// What `decode` of the parent does, with permessage-deflate agreed on.
fn decode_deflate(stream: &[u8]) -> Outcome {
    decode_as(&Limits::server(), Extension::Deflate, stream)
}

#[track_caller]
fn refused_deflate(stream: &[u8], violation: Violation, code: u16) {
    let (_, found) = decode_deflate(stream);
    assert_eq!(found, Some(violation), "{stream:02x?}");
    assert_eq!(violation.code(), code);
}

/// The payload of a compressed message, without its tail.
fn deflated(message: &[u8]) -> Vec<u8> {
    let mut out = flushed(message, FlushCompress::Sync);
    out.truncate(out.len() - 4);
    out
}

fn flushed(message: &[u8], flush: FlushCompress) -> Vec<u8> {
    let mut state = Compress::new(Compression::default(), false);
    let mut out = Vec::with_capacity(message.len() + 1000);
    state.compress_vec(message, &mut out, flush).unwrap();
    assert_eq!(state.total_in(), message.len() as u64);
    out
}

/// One compressed text in `count` frames.
fn fragments(payload: &[u8], count: usize) -> Vec<Vec<u8>> {
    let size = payload.len().div_ceil(count).max(1);
    let mut pieces: Vec<&[u8]> = payload.chunks(size).collect();
    pieces.resize(count, b"");
    let first = |at| if at == 0 { 0x41 } else { 0x00 };
    let fin = |at| if at + 1 == count { 0x80 } else { 0x00 };
    pieces.iter().enumerate().map(|(at, piece)| raw(first(at) | fin(at), piece)).collect()
}

// === lawful ===

#[test]
fn the_examples_of_the_rfc() {
    // RFC 7692 §7.2.3.1, in one frame and in two.
    let hello = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(decode_deflate(&raw(0xc1, &hello)), (vec![text("Hello")], None));
    let two = [raw(0x41, &hello[..3]), raw(0x80, &hello[3..])].concat();
    assert_eq!(decode_deflate(&two), (vec![text("Hello")], None));
    // §7.2.3.3: a block without compression.
    let stored = [0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00];
    assert_eq!(decode_deflate(&raw(0xc1, &stored)), (vec![text("Hello")], None));
    // §7.2.3.4: a last block, then an empty one.
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    assert_eq!(decode_deflate(&raw(0xc1, &last)), (vec![text("Hello")], None));
    // §7.2.3.5: two blocks.
    let two = [0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(decode_deflate(&raw(0xc1, &two)), (vec![text("Hello")], None));
    // §7.2.3.6: nothing.
    assert_eq!(decode_deflate(&raw(0xc1, &[0x00])), (vec![text("")], None));
}

#[test]
fn odd_but_lawful_ways_to_end() {
    for (what, payload) in [
        ("no tail after a last block", flushed(b"Hello", FlushCompress::Finish)),
        ("a last block in the middle", [flushed(b"He", FlushCompress::Finish), deflated(b"llo")].concat()),
        ("a hundred last blocks", [[3, 0].repeat(100), deflated(b"Hello")].concat()),
        ("a hundred empty blocks", [[0, 0, 0, 0xff, 0xff].repeat(100), deflated(b"Hello")].concat()),
        ("an empty fixed block at the end", [flushed(b"Hello", FlushCompress::Sync), vec![3, 0]].concat()),
    ] {
        assert_eq!(decode_deflate(&raw(0xc1, &payload)), (vec![text("Hello")], None), "{what}");
    }
    for empty in [&b""[..], &[0x00], &[0x02, 0x00], &[0x03, 0x00], &[0x01, 0x00, 0x00, 0xff, 0xff]] {
        assert_eq!(decode_deflate(&raw(0xc2, empty)), (vec![binary(b"")], None), "{empty:02x?}");
    }
}

#[test]
fn control_frames_and_plain_messages_between_compressed_ones() {
    let payload = deflated(&b"{\"a\":1}".repeat(50));
    let expected = String::from_utf8(b"{\"a\":1}".repeat(50)).unwrap();
    let mut stream = Vec::new();
    for fragment in fragments(&payload, 4) {
        stream.extend(fragment);
        stream.extend(raw(0x89, b"p"));
    }
    stream.extend(raw(0x81, b"plain"));
    stream.extend(raw(0xc2, &deflated(b"\xff\x00")));
    let ping = || Event::Ping(Bytes::from_static(b"p"));
    let events = vec![ping(), ping(), ping(), text(&expected), ping(), text("plain"), binary(b"\xff\x00")];
    assert_eq!(decode_deflate(&stream), (events, None));
}

#[test]
fn a_fragment_may_be_empty_or_cut_a_block_and_a_character() {
    let whole = "\u{3ba}\u{1f30a}\u{5d0}".repeat(20);
    for count in [1, 2, 3, 7, 16] {
        let stream = fragments(&deflated(whole.as_bytes()), count).concat();
        assert_eq!(decode_deflate(&stream), (vec![text(&whole)], None), "{count}");
    }
    let stream = [raw(0x41, b""), raw(0x00, &deflated(whole.as_bytes())), raw(0x80, b"")].concat();
    assert_eq!(decode_deflate(&stream), (vec![text(&whole)], None));
}

#[test]
fn nothing_is_carried_over_from_one_message_to_the_next() {
    let payload = deflated(&[b'x'; 300]);
    let stream = [raw(0xc2, &payload), raw(0xc2, &payload)].concat();
    assert_eq!(decode_deflate(&stream), (vec![binary(&[b'x'; 300]), binary(&[b'x'; 300])], None));
    // A compressor that goes on with its context: refused, since what it refers to is gone.
    let mut state = Compress::new(Compression::default(), false);
    let mut second = Vec::with_capacity(1000);
    let noise: Vec<u8> = (0..=255).collect();
    state.compress_vec(&noise, &mut second, FlushCompress::Sync).unwrap();
    second.clear();
    state.compress_vec(&noise, &mut second, FlushCompress::Sync).unwrap();
    refused_deflate(&raw(0xc2, &second[..second.len() - 4]), Violation::BadDeflate, 1007);
}

#[test]
fn a_message_as_large_as_the_limit_passes_and_one_byte_more_does_not() {
    let limits = Limits { inflated_bytes_max: 1000, ..Limits::server() };
    let decode =
        |bytes: usize| decode_as(&limits, Extension::Deflate, &raw(0xc2, &deflated(&vec![7; bytes])));
    assert_eq!(decode(1000), (vec![binary(&[7; 1000])], None));
    assert_eq!(decode(1001), (vec![], Some(Violation::MessageTooLarge)));
    // What was allowed plain is allowed if a little larger compressed.
    let limits = Limits { message_bytes_max: 100, inflated_bytes_max: 1000, ..Limits::server() };
    let plain = decode_as(&limits, Extension::Deflate, &raw(0x82, &[7; 101]));
    assert_eq!(plain, (vec![], Some(Violation::MessageTooLarge)));
}

#[test]
fn an_idle_decoder_holds_nothing() {
    let mut decoder = Decoder::new(Extension::Deflate);
    let mut stream = raw(0xc2, &deflated(&[7; 60_000]));
    assert!(decoder.decode(&Limits::server(), Duration::ZERO, &mut stream).unwrap().1.is_some());
    assert!(decoder.is_idle());
    assert_eq!(size_of::<Decoder>(), 16);
}

// === unlawful ===

#[test]
fn bad_w11_reserved_bits_where_they_mean_nothing() {
    let payload = deflated(b"Hello");
    // Not agreed on.
    refused(&raw(0xc1, &payload), Violation::ReservedBits, 1002);
    refused(&raw(0xc2, &payload), Violation::ReservedBits, 1002);
    refused(&raw(0x41, &payload), Violation::ReservedBits, 1002);
    // Agreed on, but not for these.
    for first in [0xc8, 0xc9, 0xca] {
        refused_deflate(&raw(first, b""), Violation::ReservedBits, 1002);
    }
    for first in [0x40, 0xc0] {
        refused_deflate(&[raw(0x01, b"a"), raw(first, b"b")].concat(), Violation::ReservedBits, 1002);
        refused_deflate(&[raw(0x41, b"a"), raw(first, b"b")].concat(), Violation::ReservedBits, 1002);
        refused_deflate(&raw(first, b"b"), Violation::ReservedBits, 1002);
    }
    for first in [0xa1, 0x91, 0xb1, 0xe1, 0xd1, 0xf1, 0xa9, 0x99] {
        refused_deflate(&raw(first, &payload), Violation::ReservedBits, 1002);
    }
    refused_deflate(&raw(0xc3, &payload), Violation::ReservedOpcode(3), 1002);
    refused_deflate(&raw(0xcb, &payload), Violation::ReservedOpcode(11), 1002);
}

#[test]
fn bad_w11_data_that_is_not_deflate() {
    let good = deflated(&b"a longer text that needs more than one symbol ".repeat(30));
    for (what, payload) in [
        ("a reserved kind of block", vec![0x06]),
        ("the same, marked as the last", vec![0x07]),
        ("a stored block whose length is wrong", vec![0x00, 0x05, 0x00, 0x00, 0x00, b'h']),
        ("a stored block that is cut", vec![0x00, 0x50, 0x00, 0xaf, 0xff, b'h']),
        ("a distance before the beginning", vec![0x4b, 0x04, 0x22, 0x00]),
        ("plain text", b"{\"id\":1,\"ping\":{}}".to_vec()),
        ("zlib's header", [&[0x78, 0x9c][..], &good].concat()),
        ("gzip's header", [&[0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 3][..], &good].concat()),
        ("the tail that is to be left out", flushed(b"Hello", FlushCompress::Sync)),
        ("cut in the middle", good[..good.len() / 2].to_vec()),
        ("one byte missing", good[..good.len() - 1].to_vec()),
        ("garbage after a last block", [flushed(b"Hello", FlushCompress::Finish), vec![0xff; 4]].concat()),
    ] {
        let (events, found) = decode_deflate(&raw(0xc2, &payload));
        assert_eq!((events, found), (vec![], Some(Violation::BadDeflate)), "{what}");
    }
    assert_eq!(Violation::BadDeflate.code(), 1007);
}

#[test]
fn bad_w11_text_that_is_not_utf_8() {
    for bad in [&b"\xff"[..], b"\xc3", b"caf\xe9", b"\xed\xa0\x80", b"ok so far \xf4\x90\x80\x80"] {
        refused_deflate(&raw(0xc1, &deflated(bad)), Violation::InvalidUtf8, 1007);
        refused_deflate(&fragments(&deflated(bad), 2).concat(), Violation::InvalidUtf8, 1007);
    }
}

#[test]
fn bad_w11_bombs_in_every_wrapping() {
    let zeros = vec![0; 40 << 20];
    let bomb = deflated(&zeros);
    assert!(bomb.len() < 65_536 && zeros.len() / bomb.len() > 900, "{}", bomb.len());
    refused_deflate(&raw(0xc2, &bomb), Violation::MessageTooLarge, 1009);
    refused_deflate(&fragments(&bomb, 1000).concat(), Violation::MessageTooLarge, 1009);
    // Of many small ones behind each other, each marked as the last.
    let many = flushed(&zeros[..100_000], FlushCompress::Finish).repeat(100);
    refused_deflate(&raw(0xc2, &many), Violation::MessageTooLarge, 1009);
    // A bomb in a bomb is data like any other: nothing is inflated twice.
    let inner = deflated(&zeros[..600_000]);
    let nested = raw(0xc2, &deflated(&inner));
    assert_eq!(decode_deflate(&nested), (vec![binary(&inner)], None));
    // Too long before it is inflated.
    refused_deflate(&raw(0xc2, &vec![0; 65_537]), Violation::MessageTooLarge, 1009);
}

#[test]
fn bad_w11_as_many_empty_blocks_as_fit_cost_little() {
    let started = std::time::Instant::now();
    for empty in [&[0x03, 0x00][..], &[0x00, 0x00, 0x00, 0xff, 0xff], &[0x02, 0x00]] {
        let payload = empty.repeat(65_535 / empty.len());
        let limits = Limits::server();
        let (events, violation) = feed(&limits, Extension::Deflate, [&raw(0xc2, &payload)[..]]);
        assert!(violation.is_some_and(|found| found == Violation::BadDeflate) || events == [binary(b"")]);
    }
    // Milliseconds in a release build; anything worse than linear would take minutes.
    assert!(started.elapsed() < Duration::from_secs(2));
}

proptest! {
    #[test]
    fn inv_d6_any_message_comes_back(
        message in proptest::collection::vec(0_u8..5, 0..3000),
        level in 0_u32..10,
        bits in 9_u8..=15,
        count in 1_usize..20,
    ) {
        let mut state = Compress::new_with_window_bits(Compression::new(level), false, bits);
        let mut payload = Vec::with_capacity(message.len() + 1000);
        state.compress_vec(&message, &mut payload, FlushCompress::Sync).unwrap();
        payload.truncate(payload.len() - 4);
        let stream = fragments(&payload, count).concat();
        prop_assert_eq!(feed(&Limits::server(), Extension::Deflate, [&stream[..]]), (vec![text(std::str::from_utf8(&message).unwrap())], None));
    }

    #[test]
    fn inv_g6_any_bytes_are_read_the_same_in_any_pieces(payload in proptest::collection::vec(any::<u8>(), 0..200)) {
        let limits = Limits { inflated_bytes_max: 5000, ..Limits::server() };
        let (events, violation) = decode_as(&limits, Extension::Deflate, &raw(0xc2, &payload));
        prop_assert_eq!(events.len() + usize::from(violation.is_some()), 1);
        for event in events {
            let Event::Message { payload, .. } = event else { panic!("{event:?}") };
            prop_assert!(payload.len() <= 5000);
        }
    }
}
