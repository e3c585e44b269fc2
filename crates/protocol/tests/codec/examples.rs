//! Frames frozen in `schema/examples`, each as JSON (`.json`) and as the hex of its protobuf form (`.hex`). A change
//! that moves one byte of them changes the protocol for every client out there.

use std::collections::BTreeSet;

use bytes::Bytes;
use tidewire_protocol::frame::{self, DecodeLimits};
use tidewire_protocol::{Command, EncodeError, Encoding, Reply};

use crate::support::{Example, descriptor, examples, unhex};

#[test]
fn commands_decode_and_encode_byte_for_byte() {
    let limits = DecodeLimits::default();
    let read = |encoding, frame: &Bytes| frame::commands(encoding, frame, &limits).collect();
    for (name, example) in examples("command") {
        check(&name, &example, read, frame::append_command);
    }
}

#[test]
fn replies_and_pushes_decode_and_encode_byte_for_byte() {
    let read = |encoding, frame: &Bytes| frame::replies(encoding, frame).collect();
    for (name, example) in examples("reply") {
        check(&name, &example, read, frame::append_reply);
    }
}

#[test]
fn borrowed_pushes_are_the_same_bytes() {
    let mut seen = 0;
    for (name, example) in examples("reply") {
        for reply in frame::replies(Encoding::Json, &example.json) {
            let Some(push) = reply.unwrap().push.filter(|push| push.id == 0) else {
                continue;
            };
            for encoding in [Encoding::Json, Encoding::Protobuf] {
                let mut whole = Vec::new();
                let reply = Reply { push: Some(push.clone()), ..Reply::default() };
                frame::append_reply(encoding, &reply, &mut whole).unwrap();
                let mut parts = Vec::new();
                let info = push.join.as_ref().and_then(|join| join.info.as_ref());
                let left = push.leave.as_ref().and_then(|leave| leave.info.as_ref());
                match (&push.publication, info, left) {
                    (Some(publication), ..) => {
                        frame::append_publication(encoding, &push.channel, publication, &mut parts)
                    }
                    (_, Some(info), _) => frame::append_join(encoding, &push.channel, info, &mut parts),
                    (.., Some(info)) => frame::append_leave(encoding, &push.channel, info, &mut parts),
                    _ => continue,
                }
                .unwrap();
                assert_eq!(whole, parts, "{name}");
                seen += 1;
            }
        }
    }
    assert!(seen >= 8, "{seen}");
}

#[test]
fn there_is_an_example_of_every_command_result_and_push() {
    let text = |kind| examples(kind).values().flat_map(|example| example.json.to_vec()).collect::<Vec<_>>();
    let (commands, replies) = (text("command"), text("reply"));
    let mut missing = BTreeSet::new();
    for (message, text) in [("Command", &commands), ("Reply", &replies), ("Push", &replies)] {
        for field in descriptor(message).fields() {
            let key = format!("\"{}\":", field.name());
            if memchr::memmem::find(text, key.as_bytes()).is_none() {
                missing.insert(format!("{message}.{}", field.name()));
            }
        }
    }
    assert_eq!(missing, BTreeSet::new());
}

fn check<M: PartialEq + std::fmt::Debug>(
    name: &str,
    example: &Example,
    read: impl Fn(Encoding, &Bytes) -> Vec<Result<M, tidewire_protocol::DecodeError>>,
    append: impl Fn(Encoding, &M, &mut Vec<u8>) -> Result<(), EncodeError>,
) {
    let from_json = read(Encoding::Json, &example.json);
    assert!(from_json.iter().all(Result::is_ok), "{name}: {from_json:?}");
    let write = |encoding| {
        let mut out = Vec::new();
        for message in &from_json {
            append(encoding, message.as_ref().unwrap(), &mut out).unwrap();
        }
        out
    };
    let mut json = write(Encoding::Json);
    json.push(b'\n'); // each file ends with one, as a frame may
    assert_eq!(Bytes::from(json), example.json, "{name}");
    let hex: String = write(Encoding::Protobuf).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(unhex(&hex), example.protobuf, "{name}: {hex}");
    assert_eq!(read(Encoding::Protobuf, &example.protobuf), from_json, "{name}");
}

#[test]
fn an_example_of_nothing_is_a_pong() {
    let pong = &examples("command")["pong"];
    assert_eq!(pong.protobuf, [0][..]);
    let read: Vec<_> = frame::commands(Encoding::Json, &pong.json, &DecodeLimits::default()).collect();
    assert_eq!(read, [Ok(Command::default())]);
}
