//! How frames are taken apart: lazily, without copies, with errors that say where.

use bytes::Bytes;
use tidewire_protocol::frame::{self, DecodeLimits};
use tidewire_protocol::{DecodeError, Encoding, ErrorCode, Reply};

#[test]
fn payloads_are_slices_of_the_frame() {
    let text = r#"{"id":1,"publish":{"channel":"c","data":{"a":1}}}"#;
    let json = Bytes::from(text);
    let protobuf = Bytes::from_static(b"\x0D\x08\x01\x3A\x09\x12\x07{\"a\":1}");
    let limits = DecodeLimits::default();
    for (encoding, frame) in [(Encoding::Json, &json), (Encoding::Protobuf, &protobuf)] {
        let command = frame::commands(encoding, frame, &limits).next().unwrap().unwrap();
        let data = command.publish.unwrap().data;
        assert_eq!(data, r#"{"a":1}"#);
        assert!(frame.as_ptr_range().contains(&data.as_ptr()), "{encoding:?}");
    }
}

#[test]
fn a_later_command_is_not_looked_at_before_it_is_asked_for() {
    let frame = Bytes::from("{\"id\":1,\"rpc\":{}}\n{\"id\":2,\"rpc\":{}}\nbroken");
    let limits = DecodeLimits::default();
    let mut commands = frame::commands(Encoding::Json, &frame, &limits);
    assert_eq!(commands.next().unwrap().unwrap().id, 1);
    assert_eq!(commands.rest(), "{\"id\":2,\"rpc\":{}}\nbroken");
    assert_eq!(commands.rest().as_ptr(), frame[18..].as_ptr());
    assert_eq!(commands.next().unwrap().unwrap().id, 2);
    assert!(!commands.is_done());
    assert!(commands.next().unwrap().is_err());
    assert!(commands.is_done() && commands.rest().is_empty() && commands.next().is_none());
}

#[test]
fn nothing_is_left_behind_the_last_command_and_its_newline() {
    let limits = DecodeLimits::default();
    for (encoding, frame) in
        [(Encoding::Json, &b"{}"[..]), (Encoding::Json, b"{}\n"), (Encoding::Protobuf, b"\0")]
    {
        let frame = Bytes::from_static(frame);
        let mut commands = frame::commands(encoding, &frame, &limits);
        assert!(!commands.is_done());
        assert!(commands.next().unwrap().is_ok());
        assert!(commands.is_done() && commands.rest().is_empty() && commands.next().is_none());
    }
}

#[test]
fn the_parts_of_a_frame_are_frames_of_one_message_each() {
    for encoding in [Encoding::Json, Encoding::Protobuf] {
        let reply = |id| Reply { id, ..Reply::default() };
        let mut whole = Vec::new();
        // The second one is a ping, which has no bytes of its own in protobuf.
        for id in [7, 0, 300] {
            frame::append_reply(encoding, &reply(id), &mut whole).unwrap();
        }
        let parts: Vec<_> = frame::parts(encoding, &whole).map(Result::unwrap).collect();
        let decoded = parts.iter().map(|part| {
            let part = Bytes::copy_from_slice(part);
            let replies: Vec<_> = frame::replies(encoding, &part).map(Result::unwrap).collect();
            assert_eq!(replies.len(), 1, "{encoding:?}");
            replies[0].id
        });
        assert_eq!(decoded.collect::<Vec<_>>(), [7, 0, 300], "{encoding:?}");
        let mut alone = Vec::new();
        frame::append_reply(encoding, &reply(300), &mut alone).unwrap();
        assert_eq!(parts[2], alone, "the same message is the same part wherever it stands");
    }
    let with_newline = frame::parts(Encoding::Json, b"{}\n").collect::<Vec<_>>();
    assert_eq!(with_newline, [Ok(&b"{}"[..])]);
    // A length that more was announced by than came ends it, as an empty line does.
    let mut cut = frame::parts(Encoding::Protobuf, &[0, 2, 8]);
    assert_eq!(cut.next(), Some(Ok(&[0][..])));
    assert!(cut.next().is_some_and(|part| part.is_err()) && cut.next().is_none());
    let mut hole = frame::parts(Encoding::Json, b"{}\n\n{}");
    assert!(hole.next().is_some_and(|part| part.is_ok()));
    assert_eq!((hole.next(), hole.next()), (Some(Err(DecodeError::Empty)), None));
}

#[test]
fn an_empty_frame_is_one_error() {
    let limits = DecodeLimits::default();
    for encoding in [Encoding::Json, Encoding::Protobuf] {
        let frame = Bytes::new();
        let mut commands = frame::commands(encoding, &frame, &limits);
        assert_eq!(commands.next(), Some(Err(DecodeError::Empty)));
        assert_eq!(commands.next(), None);
        assert_eq!(frame::replies(encoding, &frame).next(), Some(Err(DecodeError::Empty)));
        let parts: Vec<_> = frame::parts(encoding, &frame).collect();
        assert_eq!(parts, [Err(DecodeError::Empty)]);
    }
}

#[test]
fn an_error_names_the_place_in_its_own_message() {
    let at = |frame: &'static str| {
        let frame = Bytes::from(frame);
        let error = frame::commands(Encoding::Json, &frame, &DecodeLimits::default()).find_map(Result::err);
        error.unwrap().to_string()
    };
    assert_eq!(at("{\"id\":x}"), "malformed message at byte 6: not a number");
    assert_eq!(at("{}\n{\"id\":1} x"), "malformed message at byte 9: text behind the message");
    assert_eq!(at("{\"connect\":[]}"), "malformed message at byte 11: not an object");
    assert_eq!(at("{\"rpc\":{\"data\":[1,]}}"), "malformed message at byte 18: not a value");
    let frame = Bytes::from_static(b"\x02\x22\x05");
    let error = frame::commands(Encoding::Protobuf, &frame, &DecodeLimits::default()).find_map(Result::err);
    assert!(error.unwrap().to_string().contains("Command.connect"));
}

#[test]
fn a_refused_command_is_followed_by_the_next() {
    let limits = DecodeLimits { payload_depth: 1, ..DecodeLimits::default() };
    let frame = Bytes::from("{\"id\":1,\"rpc\":{\"data\":[[]]}}\n{\"id\":2,\"rpc\":{\"data\":[1]}}");
    let mut commands = frame::commands(Encoding::Json, &frame, &limits);
    let refused = DecodeError::Refused { id: 1, code: ErrorCode::BadRequest };
    assert_eq!(commands.next(), Some(Err(refused)));
    assert_eq!(commands.rest(), frame[29..]);
    assert_eq!(commands.next().unwrap().unwrap().id, 2);
}

#[test]
fn limits_are_those_that_are_given() {
    let frame = Bytes::from(r#"{"id":1,"a":[[0]],"b":0}"#);
    let decode = |limits: DecodeLimits| frame::commands(Encoding::Json, &frame, &limits).next().unwrap();
    let limits = DecodeLimits::default();
    assert_eq!(limits.command_bytes, 65_536);
    assert!(
        decode(DecodeLimits { command_bytes: 24, envelope_depth: 3, object_keys: 3, ..limits.clone() })
            .is_ok()
    );
    assert!(decode(DecodeLimits { command_bytes: 23, ..limits.clone() }).is_err());
    assert!(decode(DecodeLimits { envelope_depth: 2, ..limits.clone() }).is_err());
    assert!(decode(DecodeLimits { object_keys: 2, ..limits }).is_err());
}

#[test]
fn replies_of_any_size_are_read() {
    let people: Vec<_> = (0..3_000).map(|n| format!(r#""{n}":{{"user":"u","client":"{n}"}}"#)).collect();
    let frame = Bytes::from(format!(r#"{{"id":1,"presence":{{"presence":{{{}}}}}}}"#, people.join(",")));
    assert!(frame.len() > 65_536);
    let reply = frame::replies(Encoding::Json, &frame).next().unwrap().unwrap();
    assert_eq!(reply.presence.unwrap().presence.len(), 3_000);
}
