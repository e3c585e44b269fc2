//! Lawful and unlawful byte streams, each fed whole and at every split.

#![allow(clippy::arithmetic_side_effects, reason = "the lint guards what peers reach")]

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

mod deflate;

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What a byte stream decodes to: the events before the end or the violation.
type Outcome = (Vec<Event>, Option<Violation>);

/// Feeds `pieces` as a socket would deliver them.
fn feed<'a>(limits: &Limits, extension: Extension, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut decoder = Decoder::new(extension);
    let mut events = Vec::new();
    for piece in pieces {
        let mut buffer = piece.to_vec();
        let mut at = 0;
        loop {
            match decoder.decode(limits, Duration::ZERO, &mut buffer[at..]) {
                Ok((taken, Some(event))) => {
                    at += taken;
                    let last = matches!(event, Event::Close(_));
                    events.push(event);
                    if last {
                        return (events, None);
                    }
                }
                Ok((taken, None)) => {
                    assert_eq!(at + taken, buffer.len(), "without an event everything is taken");
                    break;
                }
                Err(violation) => return (events, Some(violation)),
            }
        }
    }
    (events, None)
}

/// Decodes whole, byte by byte and cut once at every place; all must agree.
fn decode_as(limits: &Limits, extension: Extension, stream: &[u8]) -> Outcome {
    let whole = feed(limits, extension, [stream]);
    assert_eq!(feed(limits, extension, stream.chunks(1)), whole, "byte by byte");
    // Long streams are cut at the places where headers can be.
    let step = (stream.len() / 512).max(1);
    for cut in (0..stream.len()).step_by(step) {
        let (head, tail) = stream.split_at(cut);
        assert_eq!(feed(limits, extension, [head, tail]), whole, "cut at {cut}");
    }
    whole
}

fn decode_with(limits: &Limits, stream: &[u8]) -> Outcome {
    decode_as(limits, Extension::None, stream)
}

fn decode(stream: &[u8]) -> Outcome {
    decode_with(&Limits::server(), stream)
}

#[track_caller]
fn refused(stream: &[u8], violation: Violation, code: u16) {
    let (_, found) = decode(stream);
    assert_eq!(found, Some(violation), "{stream:02x?}");
    assert_eq!(violation.code(), code);
}

/// A masked frame with any first byte.
fn raw(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![first];
    match payload.len() {
        n @ 0..126 => out.push(0x80 | n as u8),
        n @ 126..0x1_0000 => {
            out.push(0x80 | 126);
            out.extend((n as u16).to_be_bytes());
        }
        n => {
            out.push(0x80 | 127);
            out.extend((n as u64).to_be_bytes());
        }
    }
    out.extend(KEY);
    out.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    out
}

fn text(payload: &str) -> Event {
    Event::Message { kind: MessageKind::Text, payload: Bytes::copy_from_slice(payload.as_bytes()) }
}

fn binary(payload: &[u8]) -> Event {
    Event::Message { kind: MessageKind::Binary, payload: Bytes::copy_from_slice(payload) }
}

// === lawful ===

#[test]
fn the_masked_hello_of_the_rfc() {
    let stream = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    assert_eq!(decode(&stream), (vec![text("Hello")], None));
}

#[test]
fn every_length_form_at_its_edges() {
    for length in [0, 1, 124, 125, 126, 127, 128, 65_535, 65_536] {
        let payload: Vec<u8> = (0..length).map(|n| (n % 251) as u8).collect();
        assert_eq!(decode(&raw(0x82, &payload)), (vec![binary(&payload)], None), "{length}");
    }
}

#[test]
fn fragments_with_control_frames_between() {
    let stream = [
        raw(0x01, b"ca"),
        raw(0x89, b"are you there"),
        raw(0x00, "f\u{e9}".as_bytes()),
        raw(0x8a, b""),
        raw(0x80, b""),
        raw(0x82, b"\xff"),
    ]
    .concat();
    let expected = vec![
        Event::Ping(Bytes::from_static(b"are you there")),
        Event::Pong(Bytes::new()),
        text("caf\u{e9}"),
        binary(b"\xff"),
    ];
    assert_eq!(decode(&stream), (expected, None));
}

#[test]
fn a_character_may_be_cut_by_a_frame() {
    let whole = "\u{3ba}\u{1f30a}\u{5d0}";
    for cut in 0..=whole.len() {
        let (head, tail) = whole.as_bytes().split_at(cut);
        let stream = [raw(0x01, head), raw(0x80, tail)].concat();
        assert_eq!(decode(&stream), (vec![text(whole)], None), "{cut}");
    }
}

#[test]
fn sixteen_empty_frames_and_1024_frames_are_allowed() {
    let mut stream = raw(0x01, b"");
    stream.extend((0..14).flat_map(|_| raw(0x00, b"")));
    stream.extend(raw(0x80, b""));
    assert_eq!(decode(&stream), (vec![text("")], None));

    let mut stream = raw(0x01, b"x");
    stream.extend((0..1022).flat_map(|_| raw(0x00, b"x")));
    stream.extend(raw(0x80, b"x"));
    assert_eq!(decode(&stream), (vec![text(&"x".repeat(1024))], None));
}

#[test]
fn a_message_of_exactly_the_limit_in_two_frames() {
    let half = "x".repeat(32_768);
    let stream = [raw(0x01, half.as_bytes()), raw(0x80, half.as_bytes())].concat();
    assert_eq!(decode(&stream), (vec![text(&half.repeat(2))], None));
}

#[test]
fn lawful_close_frames() {
    assert_eq!(decode(&raw(0x88, b"")), (vec![Event::Close(None)], None));
    for code in
        [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999]
    {
        for reason in ["", "going away", &"\u{e9}".repeat(61)] {
            let body = [&u16::to_be_bytes(code), reason.as_bytes()].concat();
            let expected = Event::Close(Some(CloseReason { code, text: reason.to_owned() }));
            assert_eq!(decode(&raw(0x88, &body)), (vec![expected], None));
        }
    }
}

#[test]
fn an_idle_decoder_holds_nothing() {
    // Part of what an idle connection costs: the figure is in the budget of the reactor's socket entry.
    assert_eq!(size_of::<Decoder>(), 16);
    let mut decoder = Decoder::new(Extension::None);
    let mut stream = [raw(0x01, b"a"), raw(0x80, b"b")].concat();
    let (head, tail) = stream.split_at_mut(9);
    decoder.decode(&Limits::server(), Duration::ZERO, head).unwrap();
    assert!(!decoder.is_idle());
    decoder.decode(&Limits::server(), Duration::ZERO, tail).unwrap();
    assert!(decoder.is_idle());
}

#[test]
fn control_frames_are_counted_per_window() {
    let limits = Limits::server();
    let mut decoder = Decoder::new(Extension::None);
    for second in 0..100 {
        for _ in 0..3 {
            let mut ping = raw(0x89, b"");
            decoder.decode(&limits, Duration::from_secs(second), &mut ping).unwrap();
        }
    }
}

#[test]
fn frames_of_a_server_are_read_by_a_client() {
    let stream = [&server_frame(Opcode::Text, b"hi")[..], &close_frame(3501, "bad request")].concat();
    let close = CloseReason { code: 3501, text: "bad request".to_owned() };
    assert_eq!(decode_with(&Limits::client(), &stream), (vec![text("hi"), Event::Close(Some(close))], None));
}

#[test]
fn a_long_close_reason_is_cut_at_a_character() {
    let frame = close_frame(3000, &"\u{20ac}".repeat(100));
    let (events, _) = decode_with(&Limits::client(), &frame);
    let expected = CloseReason { code: 3000, text: "\u{20ac}".repeat(41) };
    assert_eq!(events, [Event::Close(Some(expected))]);
}

// === bad inputs ===

#[test]
fn bad_w1_unmasked() {
    for (first, payload) in
        [(0x81, &b"hello"[..]), (0x82, b""), (0x88, b"\x03\xe8"), (0x89, b"x"), (0x8a, b"")]
    {
        let stream = [&[first, payload.len() as u8], payload].concat();
        refused(&stream, Violation::Unmasked, 1002);
    }
    // The first frame of a message is masked, the second is not.
    refused(&[&raw(0x01, b"a")[..], &[0x80, 1, b'b']].concat(), Violation::Unmasked, 1002);
    assert_eq!(decode_with(&Limits::client(), &raw(0x81, b"a")), (vec![], Some(Violation::Masked)));
}

#[test]
fn bad_w2_reserved_bits() {
    for bits in 1..8_u8 {
        for first in [0x81, 0x82, 0x89, 0x88, 0x01] {
            refused(&raw(first | bits << 4, b"x"), Violation::ReservedBits, 1002);
        }
        refused(&[raw(0x01, b"x"), raw(0x80 | bits << 4, b"x")].concat(), Violation::ReservedBits, 1002);
    }
}

#[test]
fn bad_w3_reserved_opcodes() {
    for opcode in (3..8).chain(11..16) {
        for payload in [&b""[..], b"x", &[0; 200]] {
            refused(&raw(0x80 | opcode, payload), Violation::ReservedOpcode(opcode), 1002);
        }
        refused(
            &[raw(0x01, b"x"), raw(0x80 | opcode, b"")].concat(),
            Violation::ReservedOpcode(opcode),
            1002,
        );
    }
}

#[test]
fn bad_w4_control_frames() {
    for opcode in [8, 9, 10] {
        for length in [126, 127, 65_536] {
            refused(&raw(0x80 | opcode, &vec![0; length]), Violation::LongControl, 1002);
        }
        refused(&raw(opcode, b""), Violation::FragmentedControl, 1002);
        refused(&[raw(0x01, b"x"), raw(opcode, b"y")].concat(), Violation::FragmentedControl, 1002);
    }
}

#[test]
fn bad_w5_fragments_out_of_place() {
    for first in [0x00, 0x80] {
        for payload in [&b""[..], b"x"] {
            refused(&raw(first, payload), Violation::UnexpectedContinuation, 1002);
            let after = [raw(0x01, b"a"), raw(0x80, b"b"), raw(first, payload)].concat();
            refused(&after, Violation::UnexpectedContinuation, 1002);
        }
    }
    for first in [0x01, 0x81, 0x02, 0x82] {
        refused(&[raw(0x01, b"a"), raw(first, b"b")].concat(), Violation::InterruptedMessage, 1002);
    }
}

#[test]
fn bad_w5_endless_fragments() {
    let limits = Limits::server();
    for (frame, frames, violation) in [
        (raw(0x00, b""), 100_000, Violation::TooManyEmptyFrames),
        (raw(0x00, b"x"), 65_536, Violation::TooManyFrames),
        (raw(0x00, &[b'x'; 1000]), 1000, Violation::MessageTooLarge),
    ] {
        let begin = raw(0x01, b"");
        let stream = std::iter::once(&begin[..]).chain(std::iter::repeat_n(&frame[..], frames));
        assert_eq!(feed(&limits, Extension::None, stream), (vec![], Some(violation)));
    }
    assert_eq!(Violation::TooManyEmptyFrames.code(), 1008);
    assert_eq!(Violation::TooManyFrames.code(), 1008);
}

#[test]
fn bad_w6_lengths() {
    let header = |seven: u8, length: &[u8]| [&[0x82, 0x80 | seven], length, &KEY].concat();
    for length in [0_u16, 1, 125] {
        refused(&header(126, &length.to_be_bytes()), Violation::NonMinimalLength, 1002);
    }
    for length in [0_u64, 125, 126, 65_535] {
        refused(&header(127, &length.to_be_bytes()), Violation::NonMinimalLength, 1002);
    }
    for length in [1 << 63, u64::MAX, (1 << 63) | 5] {
        refused(&header(127, &length.to_be_bytes()), Violation::LengthOverflow, 1002);
    }
    for length in [65_537, 1 << 31, 1 << 32, (1 << 63) - 1] {
        refused(&header(127, &u64::to_be_bytes(length)), Violation::MessageTooLarge, 1009);
    }
    refused(&[raw(0x02, &[0; 40_000]), raw(0x80, &[0; 25_537])].concat(), Violation::MessageTooLarge, 1009);
}

#[test]
fn bad_w6_a_claimed_length_allocates_nothing() {
    let limits = Limits { message_bytes_max: usize::MAX, ..Limits::server() };
    let mut stream = [&[0x82, 0xff][..], &u64::to_be_bytes((1 << 63) - 1), &KEY, b"few"].concat();
    let mut decoder = Decoder::new(Extension::None);
    assert_eq!(decoder.decode(&limits, Duration::ZERO, &mut stream), Ok((stream.len(), None)));
    assert!(decoder.buffered() <= 6, "{}", decoder.buffered());
}

#[test]
fn bad_w7_invalid_utf8() {
    let sequences: &[&[u8]] = &[
        b"\x80",
        b"\xbf",
        b"\xc0\xaf",
        b"\xc1\xbf",
        b"\xc0\x80",
        b"\xe0\x80\xaf",
        b"\xe0\x9f\xbf",
        b"\xe0\x80\x80",
        b"\xf0\x80\x80\xaf",
        b"\xf0\x8f\xbf\xbf",
        b"\xf8\x80\x80\x80\xaf",
        b"\xfc\x80\x80\x80\x80\xaf",
        b"\xed\xa0\x80",
        b"\xed\xad\xbf",
        b"\xed\xae\x80",
        b"\xed\xbf\xbf",
        b"\xed\xa0\x80\xed\xb0\x80",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xf7\xbf\xbf\xbf",
        b"\xfe",
        b"\xff",
        b"\xfe\xfe\xff\xff",
        b"\xc3\x28",
        b"\xe2\x28\xa1",
        b"\xe2\x82\x28",
        b"\xf0\x28\x8c\xbc",
        b"\xf0\x90\x28\xbc",
        b"\xf0\x28\x8c\x28",
    ];
    for bad in sequences {
        for around in ["", "k", "\u{3ba}\u{1f79}\u{3c3}"] {
            let payload = [around.as_bytes(), bad, around.as_bytes()].concat();
            refused(&raw(0x81, &payload), Violation::InvalidUtf8, 1007);
            for cut in 0..=payload.len() {
                let stream = [raw(0x01, &payload[..cut]), raw(0x80, &payload[cut..])].concat();
                refused(&stream, Violation::InvalidUtf8, 1007);
            }
        }
    }
    // The text ends inside a character.
    for cut in [&b"\xc3"[..], b"\xe2\x82", b"\xf0\x9f\x8c"] {
        refused(&raw(0x81, cut), Violation::InvalidUtf8, 1007);
        refused(&[raw(0x01, b"a"), raw(0x80, cut)].concat(), Violation::InvalidUtf8, 1007);
    }
}

#[test]
fn bad_w7_fails_before_the_message_ends() {
    let mut frame = raw(0x01, b"ok \xf4\x90\x80\x80 and a lot more");
    let mut decoder = Decoder::new(Extension::None);
    let cut = 6 + 5;
    let result = decoder.decode(&Limits::server(), Duration::ZERO, &mut frame[..cut]);
    assert_eq!(result, Err(Violation::InvalidUtf8));
}

#[test]
fn bad_w8_close_frames() {
    for byte in [0, 3, 255] {
        refused(&raw(0x88, &[byte]), Violation::ShortClose, 1002);
    }
    for code in [
        0, 1, 500, 999, 1004, 1005, 1006, 1015, 1016, 1099, 1100, 1999, 2000, 2500, 2999, 5000, 9999, 32_768,
        65_535,
    ] {
        for reason in [&b""[..], b"because"] {
            refused(
                &raw(0x88, &[&u16::to_be_bytes(code), reason].concat()),
                Violation::CloseCode(code),
                1002,
            );
        }
    }
    for reason in [&b"\xff"[..], b"ok \xed\xa0\x80", b"cut \xe2\x82"] {
        refused(&raw(0x88, &[&1000_u16.to_be_bytes(), reason].concat()), Violation::InvalidUtf8, 1007);
    }
}

#[test]
fn bad_w12_control_flood() {
    for opcode in [0x89, 0x8a] {
        for payload in [&b""[..], &[0; 125]] {
            let stream: Vec<u8> = (0..31).flat_map(|_| raw(opcode, payload)).collect();
            let (events, violation) = decode(&stream);
            assert_eq!((events.len(), violation), (30, Some(Violation::ControlFlood)));
        }
    }
    assert_eq!(Violation::ControlFlood.code(), 1008);
}

// === random streams ===

/// One lawful or nearly lawful frame.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![8 => 0..3_u8, 2 => 8..11_u8, 1 => 0..16_u8];
    let payload = prop_oneof![
        4 => "[a-z\u{e9}\u{20ac}\u{1f30a}]{0,40}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => (120..135_usize).prop_map(|length| vec![b'x'; length]),
    ];
    (opcode, prop::bool::weighted(0.7), prop::bool::weighted(0.02), payload).prop_map(
        |(opcode, fin, reserved, payload)| {
            raw(opcode | if fin { 0x80 } else { 0 } | if reserved { 0x40 } else { 0 }, &payload)
        },
    )
}

/// The messages and the final error-or-close that tungstenite reads from the same bytes.
fn oracle(stream: &[u8]) -> (Vec<Event>, bool) {
    use tungstenite::protocol::{Message, Role, WebSocket, WebSocketConfig};
    struct Input<'a>(&'a [u8]);
    impl std::io::Read for Input<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            if self.0.is_empty() {
                return Err(std::io::ErrorKind::WouldBlock.into());
            }
            self.0.read(into)
        }
    }
    impl std::io::Write for Input<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut socket =
        WebSocket::from_raw_socket(Input(stream), Role::Server, Some(WebSocketConfig::default()));
    let mut events = Vec::new();
    loop {
        match socket.read() {
            Ok(Message::Text(payload)) => events.push(text(payload.as_str())),
            Ok(Message::Binary(payload)) => events.push(binary(&payload)),
            Ok(Message::Ping(payload)) => events.push(Event::Ping(payload)),
            Ok(Message::Pong(payload)) => events.push(Event::Pong(payload)),
            Ok(_) => return (events, true),
            Err(tungstenite::Error::Io(_)) => return (events, false),
            Err(_) => return (events, true),
        }
    }
}

proptest! {
    #[test]
    fn agrees_with_tungstenite_at_any_split(
        frames in prop::collection::vec(any_frame(), 0..12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let stream = frames.concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let limits = Limits { control_frames_max: u16::MAX, ..Limits::server() };
        let (mut events, violation) = feed(&limits, Extension::None, cuts.windows(2).map(|ends| &stream[ends[0]..ends[1]]));
        let closed = matches!(events.last(), Some(Event::Close(_)));
        if closed {
            events.pop();
        }
        let (expected, ended) = oracle(&stream);
        prop_assert_eq!(events, expected);
        prop_assert_eq!(closed || violation.is_some(), ended);
    }

    #[test]
    fn any_bytes_never_panic_and_split_alike(stream in prop::collection::vec(any::<u8>(), 0..300)) {
        let limits = Limits::server();
        prop_assert_eq!(feed(&limits, Extension::None, stream.chunks(1)), feed(&limits, Extension::None, [&stream[..]]));
    }

    #[test]
    fn what_a_client_writes_is_read_back(
        messages in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..1000), 0..5),
        key: [u8; 4],
    ) {
        let stream: Vec<u8> = messages.iter().flat_map(|message| client_frame(Opcode::Binary, message, key)).collect();
        let (events, violation) = feed(&Limits::server(), Extension::None, stream.chunks(7));
        prop_assert_eq!(violation, None);
        prop_assert_eq!(events, messages.iter().map(|message| binary(message)).collect::<Vec<_>>());
    }

    #[test]
    fn masking_is_the_same_in_pieces(payload in prop::collection::vec(any::<u8>(), 0..100), key: [u8; 4], cut: prop::sample::Index) {
        let expected: Vec<u8> = payload.iter().zip(key.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        let cut = cut.index(payload.len() + 1);
        let mut masked = payload.clone();
        let (head, tail) = masked.split_at_mut(cut);
        apply_mask(head, key, 0);
        apply_mask(tail, key, cut as u64);
        prop_assert_eq!(masked, expected);
    }
}
