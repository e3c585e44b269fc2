//! P1: JSON.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use tidewire_protocol::frame::DecodeLimits;
use tidewire_protocol::{Encoding, ErrorCode};

use super::{Answer, Made, answer, answers_within, check_made, refuse_all};
use crate::support::descriptor;

#[test]
fn bad_p1_a_frame_that_is_not_one_object_a_line() {
    let frames: &[&[u8]] = &[
        b"",
        b"\n",
        b"\n\n",
        b" ",
        b" \n",
        b"\r\n",
        b"null",
        b"[]",
        b"[{}]",
        b"1",
        b"\"{}\"",
        b"true",
        b"{",
        b"}",
        b"{]",
        b"{}}",
        b"{}{}",
        b"{} {}",
        b"{},{}",
        b"{,}",
        b"{}\n\n",
        b"{}\n\n{}",
        b"\n{}",
        b"{}\n \n{}",
        b"{}\nnull",
        b"{\"id\":1,}",
        b"{,\"id\":1}",
        b"{\"id\" 1}",
        b"{\"id\"}",
        b"{\"id\":}",
        b"{\"id\"::1}",
        b"{\"id\":1 \"a\":1}",
        b"{id:1}",
        b"{'id':1}",
        b"{1:1}",
        b"{null:1}",
        b"{\"id\":1",
        b"{\"id",
        b"{\"id\\",
        b"{\"id\":1}//",
        b"/**/{}",
        b"{/**/}",
        b"#\n{}",
        b"\xEF\xBB\xBF{}",
        b"\0{}",
        b"{}\0",
        b"{\0}",
        b"{\"\0\":1}",
        b"{\"a\":\"\n\"}",
        b"{\"a\":\"\t\"}",
        b"{\"a\":\"\x1f\"}",
        b"{\"a\":\"\\x41\"}",
        b"{\"a\":\"\\u12\"}",
        b"{\"a\":\"\\u12g4\"}",
        b"{\"a\":\"\\U0041\"}",
        b"{\"a\":\"\\\"}",
        b"{\"a\":\"}",
        b"{\"a\":tru}",
        b"{\"a\":True}",
        b"{\"a\":nul}",
        b"{\"a\":undefined}",
        b"{\"a\":NaN}",
        b"{\"a\":Infinity}",
        b"{\"a\":-Infinity}",
        b"{\"a\":-}",
        b"{\"a\":+1}",
        b"{\"a\":.5}",
        b"{\"a\":1.}",
        b"{\"a\":1.e5}",
        b"{\"a\":1e}",
        b"{\"a\":1e+}",
        b"{\"a\":01}",
        b"{\"a\":-01}",
        b"{\"a\":0x10}",
        b"{\"a\":1_000}",
        b"{\"a\":[1,]}",
        b"{\"a\":[,1]}",
        b"{\"a\":[1 2]}",
        b"{\"a\":[1}",
        b"{\"a\":[}",
        b"{\"a\":{]}",
        b"{\"a\":[{]}}",
        b"\xC0\xAF",
        b"{\"\xC0\x80\":1}",
        b"{\"a\":\"\xED\xA0\x80\"}",
        b"{\"a\":\"\xFF\"}",
        b"{\"a\":\"\xF4\x90\x80\x80\"}",
        b"{\"a\":\"\xE2\x82\"}",
        b"{\"publish\":{\"data\":\"\x80\"}}",
        b"{\xA0}",
    ];
    refuse_all(Encoding::Json, frames, 80);
}

#[test]
fn bad_p1_an_id_that_is_not_a_32_bit_number() {
    let ids = [
        "-1",
        "-0",
        "4294967296",
        "9007199254740993",
        "18446744073709551616",
        "1e1",
        "1E2",
        "1.0",
        "1.5",
        "1e400",
        "-1e400",
        "1e-999999999",
        "01",
        "\"1\"",
        "\"\"",
        "true",
        "false",
        "[]",
        "[1]",
        "{}",
        "{\"a\":1}",
        "99999999999999999999999999999999999999999999999999",
    ];
    let frames = ids.map(|id| format!("{{\"id\":{id},\"publish\":{{\"channel\":\"c\",\"data\":1}}}}"));
    refuse_all(Encoding::Json, &frames, 20);
}

#[test]
fn bad_p1_a_member_or_key_that_appears_twice() {
    let frames = [
        r#"{"id":1,"id":1}"#,
        r#"{"id":1,"id":2}"#,
        r#"{"id":1,"\u0069d":2}"#,
        r#"{"id":null,"id":2}"#,
        r#"{"id":1,"connect":{},"connect":{}}"#,
        r#"{"id":1,"connect":null,"connect":{"token":"t"}}"#,
        r#"{"id":1,"subscribe":{"channel":"a","channel":"b"}}"#,
        r#"{"id":1,"publish":{"channel":"a","data":1,"data":2}}"#,
        r#"{"id":1,"connect":{"headers":{"a":"1","a":"2"}}}"#,
        r#"{"id":1,"connect":{"headers":{"a":"1","\u0061":"2"}}}"#,
        r#"{"id":1,"connect":{"subs":{"c":{},"c":{"recover":true}}}}"#,
        r#"{"id":1,"subscribe":{"channel":"a","tf":{"op":"and","op":"or"}}}"#,
    ];
    refuse_all(Encoding::Json, &frames, 12);
}

#[test]
fn bad_p1_half_of_a_surrogate_pair_in_a_string_that_is_read() {
    let halves = [
        r"\ud800",
        r"\udbff",
        r"\udc00",
        r"\udfff",
        r"\ud800\ud800",
        r"\ud800A",
        r"\ud800\u0041",
        r"\ud800\n",
    ];
    let frames = halves.map(|half| format!("{{\"id\":1,\"connect\":{{\"token\":\"{half}\"}}}}"));
    refuse_all(Encoding::Json, &frames, 8);
}

#[test]
fn bad_p1_every_field_of_every_command_with_every_wrong_type() {
    let mut made = Made::default();
    for field in descriptor("Command").fields() {
        // The id stands beside the others; with wrong types it has a table of its own.
        if field.name() != "id" {
            let around = |inner: &str| format!("{{\"id\":7,\"{}\":{inner}}}", field.name());
            make_field(&field, &around, 0, &mut made);
        }
    }
    check_made(Encoding::Json, &made, 500);
}

/// Frames with values for `field`, or for a field inside it. `around` puts a value for `field` into a frame.
fn make_field(
    field: &FieldDescriptor,
    around: &dyn Fn(&str) -> String,
    level: usize,
    made: &mut Made<String>,
) {
    let (right, wrong) = values(field);
    made.right.extend(right.iter().map(|value| around(value)));
    made.wrong.extend(wrong.iter().map(|value| around(value)));
    match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            let around = |inner: &str| around(&format!("{{\"k\":{inner}}}"));
            make_field(&entry.map_entry_value_field(), &around, level, made);
        }
        Kind::Message(message) if field.is_list() => {
            make_members(&message, &|inner| around(&format!("[{{}},{inner}]")), level, made);
        }
        Kind::Message(message) => make_members(&message, around, level, made),
        _ => {}
    }
}

fn make_members(
    message: &MessageDescriptor,
    around: &dyn Fn(&str) -> String,
    level: usize,
    made: &mut Made<String>,
) {
    // Deep enough for a filter inside a filter inside a subscription inside a connect.
    if level < 5 {
        for field in message.fields() {
            let around = |inner: &str| around(&format!("{{\"{}\":{inner}}}", field.name()));
            make_field(&field, &around, level + 1, made);
        }
    }
}

/// Right and wrong values of a field.
fn values(field: &FieldDescriptor) -> (&'static [&'static str], &'static [&'static str]) {
    match field.kind() {
        _ if field.is_map() => {
            (&["{}"], &["[]", "1", "true", "\"\"", "[{}]", "{\"a\"}", "{\"a\":null}", "{1:1}"])
        }
        _ if field.is_list() => {
            (&["[]"], &["{}", "1", "true", "\"\"", "[null]", "[1]", "[[]]", "[true]", "[", "[{]"])
        }
        Kind::Message(_) => (&["{}"], &["[]", "[{}]", "1", "0", "true", "false", "\"\"", "\"{}\""]),
        Kind::Bytes => {
            (&["1", "{}", "[]", "null", "\"\"", "true", "1e400"], &["", "nil", "{1}", "\"", "{}{}"])
        }
        Kind::String => (&["\"s\"", "\"\""], &["1", "0", "true", "false", "{}", "[]", "[\"a\"]", "1e3"]),
        Kind::Bool => (&["true", "false"], &["1", "0", "\"true\"", "\"\"", "{}", "[]", "[true]", "True"]),
        Kind::Uint32 => {
            (&["0", "4294967295"], &["-1", "-0", "4294967296", "\"1\"", "true", "{}", "[1]", "1.0", "1e3"])
        }
        Kind::Uint64 => (
            &["0", "18446744073709551615"],
            &["-1", "-0", "18446744073709551616", "\"1\"", "true", "{}", "[1]", "1.0", "1e3"],
        ),
        Kind::Int32 => (
            &["-2147483648", "2147483647", "-0"],
            &["2147483648", "-2147483649", "\"1\"", "true", "{}", "[1]", "1.0", "1e3"],
        ),
        _ => (
            &["-9223372036854775808", "9223372036854775807"],
            &["9223372036854775808", "-9223372036854775809", "\"1\"", "false", "{}", "[1]", "0.5", "1e3"],
        ),
    }
}

fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

fn nested_objects(levels: usize) -> String {
    format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels))
}

#[test]
fn bad_p1_an_envelope_deeper_than_32_levels() {
    let frames = |deep: &str, deep_in_connect: &str| {
        [
            format!("{{\"id\":1,\"unknown\":{deep}}}"),
            format!("{{\"unknown\":{deep},\"id\":1}}"),
            format!("{{\"id\":1,\"connect\":{{\"unknown\":{deep_in_connect}}}}}"),
            format!("{{\"id\":1,\"connect\":{{\"unknown\":[0,{{\"a\":{deep_in_connect}}}]}}}}"),
        ]
    };
    for frame in &frames(&nested(31), &nested(30))[..3] {
        assert!(matches!(answer(Encoding::Json, frame.as_str()), Answer::Accepted(_)), "{frame}");
    }
    refuse_all(Encoding::Json, &frames(&nested(32), &nested(31)), 4);
    refuse_all(Encoding::Json, &frames(&nested_objects(32), &nested_objects(31)), 4);
    refuse_all(Encoding::Json, &frames(&nested(20_000), &nested_objects(10_000)), 4);
}

#[test]
fn bad_p1_a_filter_member_nobody_knows_that_is_too_deep() {
    let frame = |levels| {
        format!(
            r#"{{"id":1,"subscribe":{{"channel":"c","tf":{{"op":"and","unknown":{}}}}}}}"#,
            nested(levels)
        )
    };
    assert!(matches!(answer(Encoding::Json, frame(10)), Answer::Accepted(_)));
    assert_eq!(answer(Encoding::Json, frame(40)), Answer::BadRequest);
}

#[test]
fn bad_p1_more_than_1024_keys_in_an_object() {
    let keys =
        |count, value| (0..count).map(|key| format!("\"k{key}\":{value}")).collect::<Vec<_>>().join(",");
    let unknown = |count| format!("{{{}}}", keys(count, "0"));
    let headers = |count| format!("{{\"id\":1,\"connect\":{{\"headers\":{{{}}}}}}}", keys(count, "\"\""));
    let subs = |count| format!("{{\"id\":1,\"connect\":{{\"subs\":{{{}}}}}}}", keys(count, "{}"));
    for frame in [unknown(1024), headers(1024), subs(1024)] {
        assert!(matches!(answer(Encoding::Json, frame), Answer::Accepted(_)));
    }
    refuse_all(Encoding::Json, &[unknown(1025), headers(1025), subs(1025), unknown(7_000)], 4);
}

#[test]
fn bad_p1_a_payload_deeper_than_512_levels_is_answered_with_107() {
    let roomy = DecodeLimits { command_bytes: 1 << 20, ..DecodeLimits::default() };
    for deep in [nested(513), nested_objects(513), nested(100_000), format!("[1,{}]", nested_objects(512))] {
        for frame in [
            format!(r#"{{"id":9,"publish":{{"channel":"c","data":{deep}}}}}"#),
            format!(r#"{{"publish":{{"data":{deep},"channel":"c"}},"id":9}}"#),
            format!(r#"{{"id":9,"rpc":{{"data":{deep}}}}}"#),
            format!(r#"{{"id":9,"connect":{{"data":{deep}}}}}"#),
            format!(r#"{{"id":9,"connect":{{"subs":{{"c":{{"data":{deep}}}}}}}}}"#),
        ] {
            let answers = answers_within(&roomy, Encoding::Json, format!("{frame}\n{{}}"));
            let goes_on = Answer::Accepted(Box::default());
            assert_eq!(answers, [Answer::Refused(9, ErrorCode::BadRequest), goes_on], "{}", &frame[..60]);
        }
        // Without an id nobody can be told.
        let send = format!(r#"{{"send":{{"data":{deep}}}}}"#);
        assert_eq!(answers_within(&roomy, Encoding::Json, send), [Answer::BadRequest]);
        // A payload may nest too deeply and be no JSON besides.
        let broken = format!(r#"{{"id":9,"publish":{{"data":{deep}]}}}}"#);
        assert_eq!(answers_within(&roomy, Encoding::Json, broken), [Answer::BadRequest]);
    }
}
