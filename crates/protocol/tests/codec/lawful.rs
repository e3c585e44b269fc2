//! Odd, but right: what the decoders must accept.

use bytes::Bytes;
use tidewire_protocol::frame::{self, DecodeLimits};
use tidewire_protocol::{
    Command, ConnectRequest, Encoding, PresenceRequest, PublishRequest, Request, SubscribeRequest,
};

fn read(encoding: Encoding, frame: impl Into<Vec<u8>>) -> Vec<Command> {
    let frame = Bytes::from(frame.into());
    let limits = DecodeLimits::default();
    let commands: Result<Vec<_>, _> = frame::commands(encoding, &frame, &limits).collect();
    commands.unwrap_or_else(|error| {
        panic!("{error}: {}", String::from_utf8_lossy(&frame[..frame.len().min(200)]))
    })
}

fn presence(id: u32) -> Command {
    let presence = Some(Box::new(PresenceRequest { channel: "c".to_owned() }));
    Command { id, presence, ..Command::default() }
}

fn publish(data: impl Into<Bytes>) -> Command {
    let publish = PublishRequest { channel: "c".to_owned(), data: data.into(), ..PublishRequest::default() };
    Command { id: 1, publish: Some(Box::new(publish)), ..Command::default() }
}

#[test]
fn json_may_be_spaced_ordered_and_escaped_in_any_way() {
    let frames = [
        r#"{"id":1,"presence":{"channel":"c"}}"#,
        r#"{"presence":{"channel":"c"},"id":1}"#,
        " \t\r{ \"id\" : 1 , \"presence\" : { \"channel\" : \"c\" } } \r",
        "{\"id\":1,\"presence\":{\"channel\":\"c\"}}\n",
        "{\"id\":1,\"presence\":{\"channel\":\"c\"}}\r\n",
        r#"{"\u0069\u0064":1,"presence":{"channel":"\u0063"}}"#,
        r#"{"id":1,"connect":null,"presence":{"channel":"c"},"rpc":null}"#,
        r#"{"id":1,"presence":{"channel":"c","token":5},"method":9,"params":{"channel":[]},"v":1.5e-3}"#,
        r#"{"id":1,"presence":{"channel":"c"},"":{},"ID":2,"Presence":{}}"#,
        r#"{"id":1,"presence":{"channel":"c"},"x":"\ud800"}"#,
        r#"{"id":1,"presence":{"channel":"c"},"x":1,"x":[],"x":{}}"#,
    ];
    for frame in frames {
        assert_eq!(read(Encoding::Json, frame), [presence(1)], "{frame}");
    }
}

#[test]
fn null_says_nothing_but_in_a_payload_it_is_the_payload() {
    let frame = r#"{"id":null,"connect":{"token":null,"data":null,"subs":null,"flag":null}}"#;
    let connect = ConnectRequest { data: Bytes::from_static(b"null"), ..ConnectRequest::default() };
    let command = Command { connect: Some(Box::new(connect)), ..Command::default() };
    assert_eq!(read(Encoding::Json, frame), [command]);
}

#[test]
fn an_envelope_may_be_32_levels_deep_and_a_payload_512() {
    let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let frame = format!(r#"{{"id":1,"presence":{{"channel":"c"}},"x":{}}}"#, nested(31));
    assert_eq!(read(Encoding::Json, frame), [presence(1)]);
    let payload = nested(512);
    let frame = format!(r#"{{"id":1,"publish":{{"channel":"c","data":{payload}}}}}"#);
    assert_eq!(read(Encoding::Json, frame), [publish(payload)]);
}

#[test]
fn a_payload_is_any_json_value_and_stays_as_it_was_sent() {
    let payloads = [
        "null",
        "true",
        "0",
        "-0",
        "1e400",
        "-1E-999",
        "123456789012345678901234567890.5",
        "\"\"",
        r#""\ud800""#,
        r#""\u0000\/""#,
        "[]",
        "{}",
        "[ ]",
        "{ }",
        r#"{"a":1,"a":2}"#,
        r#"{"":{"":[]}}"#,
        "[[],[[]],{}]",
        "\"\u{7f}é\u{2028}😀\"",
        "[1,\t2 ,\r3]",
    ];
    for payload in payloads {
        let frame = format!("{{\"id\":1,\"publish\":{{\"data\": {payload} ,\"channel\":\"c\"}}}}");
        assert_eq!(read(Encoding::Json, frame), [publish(payload)], "{payload}");
    }
}

#[test]
fn strings_are_unescaped() {
    let frame = r#"{"connect":{"token":"\"\\\/\b\f\n\r\t\u0041\u00e9\u20ac\ud83d\ude00é€😀\u0000"}}"#;
    let connect = read(Encoding::Json, frame).remove(0).connect.unwrap();
    assert_eq!(connect.token, "\"\\/\u{8}\u{c}\n\r\tAé€😀é€😀\0");
}

#[test]
fn numbers_reach_the_ends_of_their_range() {
    let frame = r#"{"id":4294967295,"subscribe":{"offset":18446744073709551615,"flag":-9223372036854775808,"limit":-2147483648,"type":-0}}"#;
    let command = read(Encoding::Json, frame).remove(0);
    let subscribe =
        SubscribeRequest { offset: u64::MAX, flag: i64::MIN, limit: i32::MIN, ..Default::default() };
    assert_eq!((command.id, command.subscribe), (u32::MAX, Some(Box::new(subscribe))));
}

#[test]
fn several_messages_share_a_frame_and_pongs_are_messages() {
    let json = "{}\n{\"id\":1,\"presence\":{\"channel\":\"c\"}}\n {} \n{\"id\":2,\"presence\":{\"channel\":\"c\"}}\n";
    let pong = Command::default();
    assert_eq!(read(Encoding::Json, json), [pong.clone(), presence(1), pong.clone(), presence(2)]);
    let one = [7, 8, 1, 0x42, 3, 10, 1, b'c'];
    let frame = [&[0][..], &one, &[0, 0], &one].concat();
    assert_eq!(read(Encoding::Protobuf, frame), [pong.clone(), presence(1), pong.clone(), pong, presence(1)]);
}

#[test]
fn protobuf_may_be_longer_than_needed() {
    let bodies: [&[u8]; 9] = [
        &[8, 1, 0x42, 3, 10, 1, b'c'],
        &[0x42, 3, 10, 1, b'c', 8, 1],
        &[0x88, 0, 0x81, 0x80, 0, 0x42, 0x84, 0, 10, 0x81, 0, b'c'], // varints with empty groups of seven bits
        &[8, 9, 8, 1, 0x42, 3, 10, 1, b'c'],                         // the last number counts
        &[8, 1, 0x42, 3, 10, 1, b'x', 0x42, 3, 10, 1, b'c'],         // messages merge
        &[8, 1, 0x42, 0, 0x42, 3, 10, 1, b'c'],
        &[8, 1, 0x42, 5, 10, 1, b'c', 0x18, 7, 0xF0, 6, 1], // unknown fields, inside and outside
        &[8, 1, 0xF3, 6, 8, 5, 0xF4, 6, 0x42, 3, 10, 1, b'c'], // an unknown group
        &[8, 1, 0x12, 1, 0xFF, 0x1A, 0, 0x42, 3, 10, 1, b'c'], // reserved fields
    ];
    for body in bodies {
        let frame = [&[body.len() as u8][..], body].concat();
        assert_eq!(read(Encoding::Protobuf, frame), [presence(1)], "{body:?}");
    }
    // An id beyond 32 bits keeps the low ones, as protobuf has it.
    assert_eq!(read(Encoding::Protobuf, [6, 8, 0x81, 0x80, 0x80, 0x80, 0x10])[0].id, 1);
    // The length too may be longer than needed.
    assert_eq!(read(Encoding::Protobuf, [0x87, 0, 8, 1, 0x42, 3, 10, 1, b'c']), [presence(1)]);
}

#[test]
fn ten_thousand_unknown_fields_are_stepped_over() {
    let body = [[0xF0, 6, 1].repeat(10_000), vec![8, 1, 0x42, 3, 10, 1, b'c']].concat();
    let frame = [
        vec![
            0x80 | (body.len() as u8 & 0x7F),
            0x80 | ((body.len() >> 7) as u8 & 0x7F),
            (body.len() >> 14) as u8,
        ],
        body,
    ];
    assert_eq!(read(Encoding::Protobuf, frame.concat()), [presence(1)]);
}

#[test]
fn of_several_requests_the_first_in_the_protocols_order_counts() {
    let in_order = [
        "connect",
        "subscribe",
        "unsubscribe",
        "publish",
        "presence",
        "presence_stats",
        "history",
        "rpc",
        "send",
        "refresh",
        "sub_refresh",
    ];
    for (at, first) in in_order.iter().enumerate() {
        let members: Vec<_> = in_order[at..].iter().rev().map(|name| format!("\"{name}\":{{}}")).collect();
        let frame = format!("{{\"id\":1,\"ping\":{{}},{}}}", members.join(","));
        let request = read(Encoding::Json, frame).remove(0).into_request().unwrap();
        let name = match request {
            Request::Connect(_) => "connect",
            Request::Subscribe(_) => "subscribe",
            Request::Unsubscribe(_) => "unsubscribe",
            Request::Publish(_) => "publish",
            Request::Presence(_) => "presence",
            Request::PresenceStats(_) => "presence_stats",
            Request::History(_) => "history",
            Request::Rpc(_) => "rpc",
            Request::Send(_) => "send",
            Request::Refresh(_) => "refresh",
            Request::SubRefresh(_) => "sub_refresh",
        };
        assert_eq!(name, *first);
    }
    // The legacy ping is a member and no request.
    assert_eq!(read(Encoding::Json, r#"{"id":1,"ping":{}}"#).remove(0).into_request(), None);
}
