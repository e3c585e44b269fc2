//! A small frame cannot be made to take much memory. In a binary of its own, since the count is of the whole process.

use std::alloc::System;

use bytes::Bytes;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tidewire_protocol::Encoding;
use tidewire_protocol::frame::{self, DecodeLimits};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Bytes of a frame, the most a client may send.
const FRAME: usize = 65_536;

/// Bytes that decoding may ask for, lists that grow counted with every size they had.
const ALLOWED: usize = 24 * FRAME;

fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encode_length_delimiter(content.len(), &mut out).expect("a Vec has room");
    out.extend_from_slice(content);
    out
}

fn command(number: u8, body: &[u8]) -> Vec<u8> {
    let body = [vec![8, 1], field(number, body)].concat();
    let mut out = Vec::new();
    prost::encode_length_delimiter(body.len(), &mut out).expect("a Vec has room");
    [out, body].concat()
}

/// `piece` as often as a frame holds it beside the command around it.
fn filled(piece: &[u8]) -> Vec<u8> {
    piece.repeat((FRAME - 40) / piece.len())
}

fn numbered(number: u8, value: &[u8]) -> Vec<u8> {
    let entries =
        (0_u32..).map(|n| field(number, &[field(1, format!("{n:x}").as_bytes()), value.to_vec()].concat()));
    let mut out = Vec::new();
    for entry in entries {
        if out.len() + entry.len() > FRAME - 40 {
            return out;
        }
        out.extend(entry);
    }
    out
}

fn json(head: &str, piece: &str, tail: &str) -> Vec<u8> {
    let pieces = (FRAME - head.len() - tail.len()) / (piece.len() + 1);
    format!("{head}{}{tail}", vec![piece; pieces].join(",")).into_bytes()
}

fn json_map(head: &str, value: &str, tail: &str) -> Vec<u8> {
    let mut text = head.to_owned();
    for n in 0.. {
        let entry = format!("\"{n:x}\":{value},");
        if text.len() + entry.len() + tail.len() > FRAME {
            break;
        }
        text.push_str(&entry);
    }
    text.pop();
    text.push_str(tail);
    text.into_bytes()
}

/// Bytes asked for while the first command of a frame is decoded, and whether it was one.
fn decode(encoding: Encoding, frame: &Bytes, limits: &DecodeLimits) -> (usize, bool) {
    let region = Region::new(ALLOCATOR);
    let decoded = frame::commands(encoding, frame, limits).next().expect("a frame has an answer");
    let change = region.change();
    (change.bytes_allocated + usize::try_from(change.bytes_reallocated).unwrap_or(0), decoded.is_ok())
}

#[test]
fn bad_p1_p2_a_hostile_frame_takes_no_more_than_24_times_its_size() {
    let filter = |piece: &[u8]| command(5, &[field(1, b"c"), field(13, &filled(piece))].concat());
    let protobuf = [
        ("filter nodes", filter(&field(6, &[]))),
        ("filter values", filter(&field(5, &[]))),
        ("filter nodes with values", filter(&field(6, &field(5, &[]).repeat(60)))),
        ("subs", command(4, &numbered(3, &[]))),
        ("subs with filters", command(4, &numbered(3, &field(2, &field(13, &[]))))),
        ("one sub again and again", command(4, &filled(&field(3, &[])))),
        ("headers", command(4, &numbered(6, &[]))),
        ("track", command(15, &filled(&field(4, &[])))),
        ("items", command(15, &field(4, &filled(&field(2, &[]))))),
        ("track of one item", command(15, &filled(&field(4, &field(2, &[]))))),
        ("untrack", command(15, &filled(&field(5, &[])))),
    ];
    let json = [
        ("filter nodes", json(r#"{"id":1,"subscribe":{"channel":"c","tf":{"nodes":["#, "{}", "]}}}")),
        ("filter values", json(r#"{"id":1,"subscribe":{"channel":"c","tf":{"vals":["#, "\"\"", "]}}}")),
        ("subs", json_map(r#"{"id":1,"connect":{"subs":{"#, "{}", "}}}")),
        ("subs with filters", json_map(r#"{"id":1,"connect":{"subs":{"#, r#"{"tf":{}}"#, "}}}")),
        ("headers", json_map(r#"{"id":1,"connect":{"headers":{"#, "\"\"", "}}}")),
        ("track", json(r#"{"id":1,"sub_refresh":{"track":["#, "{}", "]}}")),
        ("items", json(r#"{"id":1,"sub_refresh":{"track":[{"items":["#, "{}", "]}]}}")),
        ("untrack", json(r#"{"id":1,"sub_refresh":{"untrack":["#, "\"\"", "]}}")),
    ];
    let limits = DecodeLimits::default();
    let unlimited = DecodeLimits {
        object_keys: usize::MAX,
        array_items: usize::MAX,
        filter_nodes: usize::MAX,
        ..DecodeLimits::default()
    };
    let frames = protobuf.map(|made| (Encoding::Protobuf, made)).into_iter();
    let mut worst = 0;
    for (encoding, (what, frame)) in frames.chain(json.map(|made| (Encoding::Json, made))) {
        assert!((FRAME * 9 / 10..=FRAME + 3).contains(&frame.len()), "{encoding:?} {what}: {}", frame.len());
        let frame = Bytes::from(frame);
        let (taken, decoded) = decode(encoding, &frame, &limits);
        assert!(taken <= ALLOWED && !decoded, "{encoding:?} {what}: {taken} bytes");
        let (without_limits, decoded) = decode(encoding, &frame, &unlimited);
        assert!(decoded, "{encoding:?} {what}: it is the limits that refuse it");
        worst = worst.max(without_limits);
        println!("{encoding:?} {what}: {taken} bytes, without limits {without_limits}");
    }
    assert!(worst > 4 * ALLOWED, "the frames are as hostile as they can be: {worst}");
}

#[test]
fn bad_p1_p2_what_is_just_allowed_takes_no_more_either() {
    let nodes = field(6, &field(5, &[]).repeat(8)).repeat(1_000);
    let sub = |n: u32, filter: &[u8]| {
        field(3, &[field(1, format!("{n:x}").as_bytes()), field(2, &field(13, filter))].concat())
    };
    let subs: Vec<u8> = (0..1_024).flat_map(|n| if n == 0 { sub(n, &nodes) } else { sub(n, &[]) }).collect();
    let protobuf = [
        ("subs", command(4, &(0..1_024).flat_map(|n| sub(n, &[])).collect::<Vec<_>>()[..]), true),
        ("subs and a filter", command(4, &subs), false),
        ("a filter", command(5, &[field(1, b"c"), field(13, &nodes)].concat()), true),
        ("track", command(15, &field(4, &[]).repeat(8_192)), true),
    ];
    for (what, frame, lawful) in protobuf {
        let (taken, decoded) = decode(Encoding::Protobuf, &Bytes::from(frame), &DecodeLimits::default());
        println!("{what}: {taken} bytes");
        assert!(taken <= ALLOWED, "{what}: {taken} bytes");
        assert_eq!(decoded, lawful, "{what}");
    }
}
