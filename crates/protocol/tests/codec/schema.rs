//! The crate's messages are those of `schema/client.proto`: same numbers, types and names, in both encodings.

use std::collections::BTreeSet;

use crate::support::{DecodeOf, Everything, descriptor, make, schema};
use bytes::Bytes;
use prost_reflect::prost::Message as _;
use prost_reflect::{DynamicMessage, MapKey, ReflectMessage as _, Value};
use serde_json::{Map, Value as Json};
use tidewire_protocol as ours;
use tidewire_protocol::{Encoding, frame};

#[test]
fn every_field_of_a_command_has_the_schemas_number_type_and_name() {
    let full = make(&descriptor("Command"), &mut Everything::default());
    let command = ours::Command::decode_of(&full);
    assert_eq!(again(&full, &command.encode_to_vec()), full);
    let mut json = Vec::new();
    frame::append_command(Encoding::Json, &command, &mut json).unwrap();
    assert_eq!(serde_json::from_slice::<Json>(&json).unwrap(), json_of(&full));
    let frame = Bytes::from(json);
    let read: Vec<_> = frame::commands(Encoding::Json, &frame, &limits()).collect();
    assert_eq!(read, [Ok(command)]);
}

#[test]
fn every_field_of_a_reply_has_the_schemas_number_type_and_name() {
    let full = make(&descriptor("Reply"), &mut Everything::default());
    let reply = ours::Reply::decode_of(&full);
    assert_eq!(again(&full, &reply.encode_to_vec()), full);
    let mut json = Vec::new();
    frame::append_reply(Encoding::Json, &reply, &mut json).unwrap();
    assert_eq!(serde_json::from_slice::<Json>(&json).unwrap(), json_of(&full));
    let frame = Bytes::from(json);
    let read: Vec<_> = frame::replies(Encoding::Json, &frame).collect();
    assert_eq!(read, [Ok(reply)]);
}

/// The two tests above cannot see a member that the schema lacks; the names in the debug text can.
#[test]
fn no_message_has_a_member_that_the_schema_lacks() {
    let mut checked = BTreeSet::new();
    macro_rules! check {
        ($($type:ident $(as $name:literal)?),*) => {$({
            let name = [$($name,)? stringify!($type)][0];
            let full = make(&descriptor(name), &mut Everything::default());
            let message = ours::$type::decode_of(&full);
            assert_eq!(again(&full, &message.encode_to_vec()), full, "{name}");
            assert_eq!(members(&format!("{message:#?}")), names(&full), "{name}");
            checked.insert(format!("centrifugal.centrifuge.protocol.{name}"));
        })*};
    }
    check!(
        Command, Reply, Error, Push, ConnectRequest, ConnectResult, Connect, DisconnectPush as "Disconnect",
        RefreshRequest, RefreshResult, Refresh, PingRequest, PingResult, EmulationRequest, Dictionary,
        SubscribeRequest, SubscribeResult, Subscribe, UnsubscribeRequest, UnsubscribeResult, Unsubscribe,
        SubRefreshRequest, SubRefreshResult, TrackBatch, KeyedItem, FilterNode, Publication, ClientInfo, Join,
        Leave, Message, PublishRequest, PublishResult, PresenceRequest, PresenceResult, PresenceStatsRequest,
        PresenceStatsResult, HistoryRequest, HistoryResult, WirePosition as "StreamPosition",
        RpcRequest as "RPCRequest", RpcResult as "RPCResult", SendRequest
    );
    let all = schema().all_messages().filter(|message| !message.is_map_entry());
    assert_eq!(checked, all.map(|message| message.full_name().to_owned()).collect());
}

#[test]
fn what_stays_inside_a_node_is_in_neither_encoding() {
    let publication = ours::Publication {
        data: Bytes::from_static(b"1"),
        time: 1_700_000_000_000,
        prev_data: Bytes::from_static(b"0"),
        ..Default::default()
    };
    let bare = ours::Publication { data: publication.data.clone(), ..Default::default() };
    for encoding in [Encoding::Json, Encoding::Protobuf] {
        let mut with = Vec::new();
        frame::append_publication(encoding, "c", &publication, &mut with).unwrap();
        let mut without = Vec::new();
        frame::append_publication(encoding, "c", &bare, &mut without).unwrap();
        assert_eq!(with, without);
    }
    let reserved = descriptor("Publication");
    assert!(reserved.reserved_names().any(|name| name == "time"));
    // A peer that sends them all the same is understood without them.
    let sent = [0x22, 1, b'1', 9 << 3, 5, 15 << 3 | 2, 1, b'0'];
    assert_eq!(ours::Publication::decode(&sent[..]).unwrap(), bare);
}

fn limits() -> frame::DecodeLimits {
    frame::DecodeLimits::default()
}

fn again(like: &DynamicMessage, bytes: &[u8]) -> DynamicMessage {
    DynamicMessage::decode(like.descriptor(), bytes).unwrap()
}

fn names(message: &DynamicMessage) -> BTreeSet<String> {
    message.descriptor().fields().map(|field| field.name().to_owned()).collect()
}

/// The member names of the outermost level of a debug text.
fn members(debug: &str) -> BTreeSet<String> {
    let lines = debug.lines().filter_map(|line| line.strip_prefix("    "));
    let names = lines.filter(|line| line.starts_with(|c: char| c.is_ascii_lowercase()));
    names
        .map(|line| match line.split(':').next().unwrap() {
            "publication" => "pub",
            name => name.trim_start_matches("r#"),
        })
        .filter(|name| !["time", "prev_data"].contains(name) || !debug.starts_with("Publication"))
        .map(str::to_owned)
        .collect()
}

/// What the protocol's rules make of a message as JSON, from the schema alone.
fn json_of(message: &DynamicMessage) -> Json {
    let set = message.fields();
    Json::Object(set.map(|(field, value)| (field.name().to_owned(), json_of_value(value))).collect())
}

fn json_of_value(value: &Value) -> Json {
    match value {
        Value::Bool(value) => Json::from(*value),
        Value::I32(value) => Json::from(*value),
        Value::I64(value) => Json::from(*value),
        Value::U32(value) => Json::from(*value),
        Value::U64(value) => Json::from(*value),
        Value::String(value) => Json::from(value.clone()),
        Value::Bytes(value) => serde_json::from_slice(value).unwrap(),
        Value::Message(value) => json_of(value),
        Value::List(values) => values.iter().map(json_of_value).collect(),
        Value::Map(entries) => {
            let key = |key: &MapKey| key.as_str().unwrap().to_owned();
            Json::Object(entries.iter().map(|(k, v)| (key(k), json_of_value(v))).collect::<Map<_, _>>())
        }
        other => panic!("the protocol has no {other:?}"),
    }
}
