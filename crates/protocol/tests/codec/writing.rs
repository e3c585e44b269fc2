//! What the encoders write, where the examples do not show it.

use bytes::Bytes;
use tidewire_protocol::frame::{append_join, append_publication, append_reply};
use tidewire_protocol::{
    ClientInfo, Connect, ConnectResult, EncodeError, Encoding, Error, ErrorCode, HistoryResult,
    PresenceResult, PresenceStatsResult, Publication, PublishResult, Push, Reply, RpcResult, SubscribeResult,
    payload,
};

fn json(reply: &Reply) -> String {
    let mut out = Vec::new();
    append_reply(Encoding::Json, reply, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn publication(data: &'static [u8]) -> Publication {
    Publication { data: Bytes::from_static(data), ..Publication::default() }
}

#[test]
fn an_empty_result_is_there_and_a_success_has_no_error() {
    let reply = Reply { id: 7, publish: Some(Box::new(PublishResult {})), ..Reply::default() };
    assert_eq!(json(&reply), r#"{"id":7,"publish":{}}"#);
    let error = Error::from(ErrorCode::TooManyRequests);
    let reply = Reply { id: 7, error: Some(Box::new(error)), ..Reply::default() };
    assert_eq!(
        json(&reply),
        r#"{"id":7,"error":{"code":111,"message":"too many requests","temporary":true}}"#
    );
}

#[test]
fn members_that_clients_read_unasked_are_written_even_if_zero() {
    let reply = |reply: Reply| json(&Reply { id: 1, ..reply });
    let history = Reply { history: Some(Box::new(HistoryResult::default())), ..Reply::default() };
    assert_eq!(reply(history), r#"{"id":1,"history":{"publications":[],"epoch":"","offset":0}}"#);
    let stats = Reply { presence_stats: Some(Box::new(PresenceStatsResult::default())), ..Reply::default() };
    assert_eq!(reply(stats), r#"{"id":1,"presence_stats":{"num_clients":0,"num_users":0}}"#);
    let presence = Reply { presence: Some(Box::new(PresenceResult::default())), ..Reply::default() };
    assert_eq!(reply(presence), r#"{"id":1,"presence":{"presence":{}}}"#);
    let mut out = Vec::new();
    append_join(Encoding::Json, "c", &ClientInfo::default(), &mut out).unwrap();
    assert_eq!(out, br#"{"push":{"channel":"c","join":{"info":{"user":"","client":""}}}}"#);
}

/// centrifuge-js in protobuf read such a subscription as null and threw.
#[test]
fn a_server_side_subscription_without_history_is_written_with_its_empty_result() {
    let subs = [("c".to_owned(), SubscribeResult::default())].into();
    let connect = Some(Box::new(ConnectResult { subs, ..ConnectResult::default() }));
    let reply = Reply { id: 1, connect, ..Reply::default() };
    assert_eq!(json(&reply), r#"{"id":1,"connect":{"subs":{"c":{}}}}"#);
    let mut out = Vec::new();
    append_reply(Encoding::Protobuf, &reply, &mut out).unwrap();
    // Length, id 1; connect: an entry of subs, "c" and a message of no bytes.
    assert_eq!(out, [11, 8, 1, 0x2a, 7, 0x32, 5, 0x0a, 1, b'c', 0x12, 0]);

    // The same in the push that unidirectional clients get instead.
    let subs = [("c".to_owned(), SubscribeResult::default())].into();
    let push = Push { connect: Some(Box::new(Connect { subs, ..Connect::default() })), ..Push::default() };
    let reply = Reply { push: Some(Box::new(push)), ..Reply::default() };
    assert_eq!(json(&reply), r#"{"push":{"connect":{"subs":{"c":{}}}}}"#);
    let mut out = Vec::new();
    append_reply(Encoding::Protobuf, &reply, &mut out).unwrap();
    // Length; push: connect: as above, as field 4.
    assert_eq!(out, [11, 0x22, 9, 0x52, 7, 0x22, 5, 0x0a, 1, b'c', 0x12, 0]);
}

#[test]
fn a_ping_is_two_bytes_or_one() {
    for (encoding, ping) in [(Encoding::Json, &b"{}"[..]), (Encoding::Protobuf, b"\0")] {
        let mut out = Vec::new();
        append_reply(encoding, &Reply::default(), &mut out).unwrap();
        assert_eq!(out, ping);
    }
}

#[test]
fn raw_newlines_of_a_payload_are_dropped_and_nothing_else() {
    let data = b"\n{\n  \"a\": [1,\n\n2],\r\n  \"b\\n\": \"x\\ny\"\n}\n";
    let mut out = Vec::new();
    append_publication(Encoding::Json, "c", &publication(data), &mut out).unwrap();
    let expected =
        "{\"push\":{\"channel\":\"c\",\"pub\":{\"data\":{  \"a\": [1,2],\r  \"b\\n\": \"x\\ny\"}}}}";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
    let mut out = Vec::new();
    append_publication(Encoding::Protobuf, "c", &publication(data), &mut out).unwrap();
    assert!(out.ends_with(data));
}

#[test]
fn strings_are_escaped_where_they_must_be() {
    let message = "\"\\/\u{0}\u{1}\u{8}\t\n\u{b}\u{c}\r\u{1f} \u{7f}é\u{2028}😀</";
    let error = Error { code: 400, message: message.to_owned(), temporary: false };
    let text = json(&Reply { id: 1, error: Some(Box::new(error)), ..Reply::default() });
    let inner = r#"\"\\/\u0000\u0001\b\t\n\u000b\f\r\u001f "#;
    assert_eq!(
        text,
        format!("{{\"id\":1,\"error\":{{\"code\":400,\"message\":\"{inner}\u{7f}é\u{2028}😀</\"}}}}")
    );
    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(parsed["error"]["message"], message);
}

#[test]
fn a_payload_that_is_not_json_leaves_the_frame_as_it_was() {
    let payloads: [&[u8]; 12] = [
        b" ",
        b"\n",
        b"{",
        b"{}{}",
        b"1 2",
        b"{\"a\":1,}",
        b"\xFF",
        b"\"\xED\xA0\x80\"",
        b"tru",
        b"01",
        b"\"\n\"",
        b"\0",
    ];
    for data in payloads {
        assert!(!payload::is_json(data));
        let mut out = Vec::new();
        append_reply(Encoding::Json, &Reply::default(), &mut out).unwrap();
        assert_eq!(
            append_publication(Encoding::Json, "c", &publication(data), &mut out),
            Err(EncodeError::NotJson)
        );
        let rpc = RpcResult { data: Bytes::from_static(data) };
        let reply = Reply { id: 1, rpc: Some(Box::new(rpc)), ..Reply::default() };
        assert_eq!(append_reply(Encoding::Json, &reply, &mut out), Err(EncodeError::NotJson));
        assert_eq!(out, b"{}");
        append_publication(Encoding::Protobuf, "c", &publication(data), &mut out).unwrap();
        assert!(out.ends_with(data));
    }
}

#[test]
fn is_json_knows_the_grammar_as_another_parser_does() {
    let texts = [
        "",
        " ",
        "null",
        " null\n",
        "nul",
        "nulll",
        "true",
        "false",
        "truefalse",
        "0",
        "-0",
        "-",
        "00",
        "-01",
        "1.",
        "1.0",
        ".1",
        "1e1",
        "1e",
        "1e+",
        "1E-07",
        "1e1.5",
        "+1",
        "\"",
        "\"\"",
        "\"\\\"",
        "\"\\\"\"",
        "\"\\u00\"",
        "\"\\u00zz\"",
        "\"\\u00Ff\"",
        "\"\\ud800\"",
        "\"a\tb\"",
        "'a'",
        "[",
        "]",
        "[]",
        "[ ]",
        "[,]",
        "[1,]",
        "[1,2]",
        "[1 2]",
        "[[]]",
        "[[]",
        "[]]",
        "[}",
        "{",
        "{}",
        "{ }",
        "{,}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1}",
        "{\"a\":1,}",
        "{\"a\":1,\"a\":1}",
        "{1:1}",
        "{\"a\":1]",
        "{[]}",
        "{\"a\":{\"b\":[{\"c\":[]}]}}",
        "// x\n1",
        "1 // x",
        "\u{feff}1",
        "1\0",
        "\u{a0}1",
        "\r\n\t 1 \t\r\n",
        "\u{b}1",
    ];
    for text in texts {
        let other = serde_json::from_str::<&serde_json::value::RawValue>(text).is_ok();
        assert_eq!(payload::is_json(text.as_bytes()), other, "{text:?}");
        let object = serde_json::from_str::<serde_json::Map<_, _>>(text).is_ok();
        assert_eq!(payload::is_json_object(text.as_bytes()), object, "{text:?}");
    }
}

#[test]
fn is_json_stops_at_512_levels_and_survives_any() {
    let nested = |levels| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    // Around each multiple of 64 a further word of brackets begins.
    for levels in (2..=512).filter(|levels| levels % 64 < 3 || levels % 64 == 63) {
        assert!(payload::is_json(nested(levels).as_bytes()), "{levels}");
        let mixed = format!("{}0{}", "[{\"a\":".repeat(levels / 2), "}]".repeat(levels / 2));
        assert!(payload::is_json(mixed.as_bytes()), "{levels}");
        assert!(!payload::is_json(mixed.replacen("}]", "]}", 1).as_bytes()), "{levels}");
    }
    assert!(!payload::is_json(nested(513).as_bytes()));
    assert!(!payload::is_json(nested(1_000_000).as_bytes()));
    assert!(!payload::is_json("[".repeat(1_000_000).as_bytes()));
}
