//! What a peer must not send: families P1 (JSON), P2 (protobuf) and, as far as one frame decides it, P3 (order). The
//! answer is 3501 for whatever breaks the protocol and 107 for what passes a limit; nothing panics or recurses.

mod json;
mod protobuf;

use bytes::Bytes;
use tidewire_protocol::frame::{self, DecodeLimits};
use tidewire_protocol::{Command, DecodeError, Encoding, ErrorCode};

use crate::support::examples;

/// What a connection does about a frame.
#[derive(Debug, Clone, PartialEq)]
enum Answer {
    /// Disconnect 3501.
    BadRequest,
    /// Error to this id; the connection stays.
    Refused(u32, ErrorCode),
    Accepted(Box<Command>),
}

fn answers(encoding: Encoding, frame: impl Into<Vec<u8>>) -> Vec<Answer> {
    answers_within(&DecodeLimits::default(), encoding, frame)
}

fn answers_within(limits: &DecodeLimits, encoding: Encoding, frame: impl Into<Vec<u8>>) -> Vec<Answer> {
    let frame = Bytes::from(frame.into());
    let answer = |result| match result {
        Ok(command) => Answer::Accepted(Box::new(command)),
        Err(DecodeError::Refused { id, code }) => Answer::Refused(id, code),
        Err(_) => Answer::BadRequest,
    };
    frame::commands(encoding, &frame, limits).map(answer).collect()
}

/// The last answer: of several commands in a frame the first ones may be lawful.
fn answer(encoding: Encoding, frame: impl Into<Vec<u8>>) -> Answer {
    answers(encoding, frame).pop().expect("every frame has an answer")
}

/// Frames made from the schema: the wrong ones, and for each field a right one, which shows that the wrong ones are
/// wrong for their own sake.
#[derive(Default)]
struct Made<T> {
    wrong: Vec<T>,
    right: Vec<T>,
}

#[track_caller]
fn check_made<T: AsRef<[u8]>>(encoding: Encoding, made: &Made<T>, at_least: usize) {
    for frame in &made.right {
        let answer = answer(encoding, frame.as_ref());
        assert!(
            matches!(answer, Answer::Accepted(_)),
            "{answer:?} {}",
            String::from_utf8_lossy(frame.as_ref())
        );
    }
    refuse_all(encoding, &made.wrong, at_least);
}

#[track_caller]
fn refuse_all<T: AsRef<[u8]>>(encoding: Encoding, frames: &[T], at_least: usize) {
    assert!(frames.len() >= at_least, "only {} inputs", frames.len());
    for frame in frames {
        let frame = frame.as_ref();
        let shown = String::from_utf8_lossy(&frame[..frame.len().min(100)]);
        assert_eq!(answer(encoding, frame), Answer::BadRequest, "{shown}");
    }
}

fn varint(mut number: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while number > 127 {
        out.push(number as u8 | 128);
        number >>= 7;
    }
    out.push(number as u8);
    out
}

/// A field of bytes, text or a message.
fn field(number: u64, content: &[u8]) -> Vec<u8> {
    [varint(number << 3 | 2), varint(content.len() as u64), content.to_vec()].concat()
}

/// A message behind its length, as a frame has it.
fn message(body: &[u8]) -> Vec<u8> {
    [varint(body.len() as u64), body.to_vec()].concat()
}

#[test]
fn bad_p1_p2_a_filter_deeper_than_64_levels_or_of_more_than_1024_nodes_is_answered_with_107() {
    for (encoding, frame) in [filter_chain(64), filter_fan(1024)].concat() {
        assert!(matches!(answer(encoding, frame), Answer::Accepted(_)), "{encoding:?}");
    }
    let refused = Answer::Refused(3, ErrorCode::BadRequest);
    for (encoding, frame) in
        [filter_chain(65), filter_chain(95), filter_fan(1025), filter_fan(5_000)].concat()
    {
        assert_eq!(answer(encoding, frame), refused, "{encoding:?}");
    }
    // The deepest and the widest that fit a command.
    for (encoding, frame) in [filter_chain(3_000), filter_fan(20_000)].concat() {
        assert_eq!(answer(encoding, frame), refused, "{encoding:?}");
    }
}

#[test]
fn bad_p1_p2_filters_of_a_connect_count_together() {
    let subs: Vec<_> =
        (0..5).map(|n| format!(r#""c{n}":{{"tf":{{"nodes":[{}]}}}}"#, ["{}"; 300].join(","))).collect();
    let json = format!(r#"{{"id":4,"connect":{{"subs":{{{}}}}}}}"#, subs.join(","));
    assert_eq!(answer(Encoding::Json, json), Answer::Refused(4, ErrorCode::BadRequest));
    let filter = field(13, &field(6, &[]).repeat(300));
    let subs: Vec<u8> =
        (0..5_u8).flat_map(|n| field(3, &[field(1, &[b'a' + n]), field(2, &filter)].concat())).collect();
    let frame = message(&[vec![8, 4], field(4, &subs)].concat());
    assert_eq!(answer(Encoding::Protobuf, frame), Answer::Refused(4, ErrorCode::BadRequest));
}

#[test]
fn bad_p1_p2_more_items_or_keys_than_any_client_sends() {
    for (what, items) in [("untrack", 8_192), ("track", 8_192), ("subs", 1_024), ("headers", 1_024)] {
        for (encoding, frame) in many(what, items) {
            assert!(matches!(answer(encoding, frame), Answer::Accepted(_)), "{encoding:?} {what}");
        }
        for (encoding, frame) in many(what, items + 1) {
            assert_eq!(answer(encoding, frame), Answer::BadRequest, "{encoding:?} {what}");
        }
    }
    // Spread over several lists they count together.
    let half = |item: &str| vec![item; 4_097].join(",");
    let json =
        format!(r#"{{"id":1,"sub_refresh":{{"untrack":[{}],"track":[{}]}}}}"#, half("\"\""), half("{}"));
    assert_eq!(answer(Encoding::Json, json), Answer::BadRequest);
    let track = field(4, &field(2, &[]).repeat(4_096));
    let frame = message(&[vec![8, 1], field(15, &track.repeat(2))].concat());
    assert_eq!(answer(Encoding::Protobuf, frame), Answer::BadRequest);
    // Groups hide nothing: what is in one is stepped over.
    let group = [vec![0xF3, 6], field(4, &field(3, &[]).repeat(2_000)), vec![0xF4, 6]].concat();
    let frame = message(&[vec![8, 1], group, field(6, &field(1, b"c"))].concat());
    assert!(matches!(answer(Encoding::Protobuf, frame), Answer::Accepted(_)));
}

#[test]
fn bad_p1_p2_a_command_above_the_limit() {
    let json = |size: usize| {
        let frame = format!(r#"{{"id":1,"publish":{{"channel":"c","data":"{}"}}}}"#, "x".repeat(size - 44));
        assert_eq!(frame.len(), size);
        frame.into_bytes()
    };
    let protobuf = |size: usize| message(&[vec![8, 1], field(7, &field(2, &vec![b'x'; size - 10]))].concat());
    for (encoding, fits, passes) in [
        (Encoding::Json, json(65_536), json(65_537)),
        (Encoding::Protobuf, protobuf(65_536), protobuf(65_537)),
    ] {
        assert!(matches!(answer(encoding, fits), Answer::Accepted(_)), "{encoding:?}");
        let frame = Bytes::from(passes);
        let limits = DecodeLimits::default();
        let mut commands = frame::commands(encoding, &frame, &limits);
        assert_eq!(commands.next(), Some(Err(DecodeError::TooLarge { size: 65_537, max: 65_536 })));
        assert_eq!(commands.next(), None);
    }
}

#[test]
fn bad_p3_json_on_a_protobuf_connection_and_the_reverse() {
    for example in examples("command").values().chain(examples("reply").values()) {
        assert_eq!(answers(Encoding::Protobuf, example.json.to_vec()), [Answer::BadRequest]);
        assert_eq!(answers(Encoding::Json, example.protobuf.to_vec()), [Answer::BadRequest]);
    }
}

#[test]
fn bad_p3_a_reply_in_place_of_a_command_asks_for_nothing() {
    for frame in [r#"{"id":5,"error":{"code":100,"message":""}}"#, r#"{"id":5,"result":{}}"#, r#"{"id":5}"#] {
        let answer = answer(Encoding::Json, frame);
        let Answer::Accepted(command) = answer else { panic!("{answer:?}") };
        // An id and no request: the connection answers 3501.
        assert_eq!((command.id, command.into_request()), (5, None));
    }
    // What a result and a request share by name has members of the wrong type or none that say something.
    let push = r#"{"push":{"channel":"c","pub":{"data":1}}}"#;
    assert_eq!(answer(Encoding::Json, push), Answer::Accepted(Box::default()));
}

#[test]
fn bad_p1_p2_no_error_repeats_what_the_peer_sent() {
    let secret = "s3cr3t";
    let frames = [
        (Encoding::Json, format!(r#"{{"id":1,"connect":{{"token":"{secret}" "{secret}"}}}}"#).into_bytes()),
        (Encoding::Json, format!(r#"{{"id":"{secret}"}}"#).into_bytes()),
        (Encoding::Json, format!(r#"{{"{secret}":{secret}}}"#).into_bytes()),
        (Encoding::Json, format!(r#"{{"id":1,"publish":{{"data":{secret}}}}}"#).into_bytes()),
        (Encoding::Protobuf, message(&field(4, &[field(1, secret.as_bytes()), vec![0x0A, 50]].concat()))),
        (Encoding::Protobuf, message(&field(4, &field(1, &[secret.as_bytes(), b"\xFF"].concat())))),
        (Encoding::Protobuf, secret.as_bytes().to_vec()),
    ];
    for (encoding, frame) in frames {
        let frame = Bytes::from(frame);
        let limits = DecodeLimits::default();
        let error = frame::commands(encoding, &frame, &limits).next().unwrap().unwrap_err();
        assert!(!format!("{error} {error:?}").contains(secret), "{error}");
    }
}

/// A filter of `levels` nodes, each inside the one before, as a command in both encodings.
fn filter_chain(levels: usize) -> Vec<(Encoding, Vec<u8>)> {
    let nodes = "{\"nodes\":[".repeat(levels - 1);
    let json =
        format!(r#"{{"id":3,"subscribe":{{"channel":"c","tf":{nodes}{{}}{}}}}}"#, "]}".repeat(levels - 1));
    let mut filter = Vec::new();
    for _ in 1..levels {
        filter = field(6, &filter);
    }
    vec![(Encoding::Json, json.into_bytes()), (Encoding::Protobuf, subscribe_with(&filter))]
}

/// A filter of one node around `nodes - 1` others.
fn filter_fan(nodes: usize) -> Vec<(Encoding, Vec<u8>)> {
    let leaves = vec!["{}"; nodes - 1].join(",");
    let json = format!(r#"{{"subscribe":{{"tf":{{"nodes":[{leaves}]}},"channel":"c"}},"id":3}}"#);
    let filter = field(6, &[]).repeat(nodes - 1);
    vec![(Encoding::Json, json.into_bytes()), (Encoding::Protobuf, subscribe_with(&filter))]
}

/// A command with a list or map of `n` entries, each as short as can be.
fn many(what: &str, n: usize) -> Vec<(Encoding, Vec<u8>)> {
    let list = |item: &str| vec![item; n].join(",");
    let map = |value: &str| (0..n).map(|n| format!(r#""{n:x}":{value}"#)).collect::<Vec<_>>().join(",");
    let entries = |number| -> Vec<u8> {
        (0..n).flat_map(|n| field(number, &field(1, format!("{n:x}").as_bytes()))).collect()
    };
    let (json, body) = match what {
        "untrack" => {
            (format!(r#""sub_refresh":{{"untrack":[{}]}}"#, list("\"\"")), (15, field(5, &[]).repeat(n)))
        }
        "track" => (format!(r#""sub_refresh":{{"track":[{}]}}"#, list("{}")), (15, field(4, &[]).repeat(n))),
        "subs" => (format!(r#""connect":{{"subs":{{{}}}}}"#, map("{}")), (4, entries(3))),
        _ => (format!(r#""connect":{{"headers":{{{}}}}}"#, map("\"\"")), (4, entries(6))),
    };
    let protobuf = message(&[vec![8, 1], field(body.0, &body.1)].concat());
    vec![(Encoding::Json, format!(r#"{{"id":1,{json}}}"#).into_bytes()), (Encoding::Protobuf, protobuf)]
}

fn subscribe_with(filter: &[u8]) -> Vec<u8> {
    message(&[vec![8, 3], field(5, &[field(1, b"c"), field(13, filter)].concat())].concat())
}
