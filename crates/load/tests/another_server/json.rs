//! The JSON encoding, with members that nobody knows.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::protocol::{Ask, Manner, PERSONAL, Publication, Tell};

#[derive(Deserialize)]
struct Publish {
    channel: String,
    data: Box<RawValue>,
}

/// The commands of one message.
pub(crate) fn asks(message: &[u8]) -> Vec<Ask> {
    let text = std::str::from_utf8(message).unwrap();
    text.trim_end_matches('\n').split('\n').map(ask).collect()
}

fn ask(line: &str) -> Ask {
    let command: Value = serde_json::from_str(line).unwrap();
    let id = command["id"].as_u64().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some(connect) = command.get("connect") {
        return Ask::Connect { id, token: text(&connect["token"]) };
    }
    if let Some(subscribe) = command.get("subscribe") {
        let since = (text(&subscribe["epoch"]), subscribe["offset"].as_u64().unwrap_or_default());
        let since = (subscribe["recover"] == true).then_some(since);
        return Ask::Subscribe { id, channel: text(&subscribe["channel"]), since };
    }
    if command.get("publish").is_some() {
        // The data is to be handed on as it is, byte for byte.
        let command: std::collections::BTreeMap<String, Box<RawValue>> = serde_json::from_str(line).unwrap();
        let Publish { channel, data } = serde_json::from_str(command["publish"].get()).unwrap();
        return Ask::Publish { id, channel, data: data.get().as_bytes().to_vec() };
    }
    assert_eq!(command, json!({}), "a pong is empty");
    Ask::Pong
}

/// One message, in a line.
pub(crate) fn tell(tell: &Tell, manner: Manner) -> String {
    match tell {
        Tell::Ping => "{}".into(),
        Tell::Connected { id, manner } => {
            object(*manner, &[("id", id.to_string()), ("connect", connected(*manner))])
        }
        Tell::Subscribed { id, place, publications } => {
            let mut result = vec![("x_seen", "null".into())];
            if let Some(place) = place {
                result
                    .extend([("epoch", string(&place.epoch, manner)), ("offset", place.offset.to_string())]);
                result.extend([("positioned", "true".into()), ("recoverable", "true".into())]);
                result.push(("was_recovering", place.recovered.is_some().to_string()));
                result.push(("recovered", (place.recovered == Some(true)).to_string()));
            }
            let publications: Vec<String> = publications.iter().map(|one| publication(one, manner)).collect();
            result.push(("publications", format!("[{}]", publications.join(" , "))));
            object(manner, &[("id", id.to_string()), ("subscribe", object(manner, &result))])
        }
        Tell::Published { id } => json!({"id": id, "publish": {"x_at": "here"}}).to_string(),
        Tell::Refused { id, code } => {
            json!({"id": id, "error": {"code": code, "message": "no", "x_why": [1, 2]}}).to_string()
        }
        Tell::Publication { channel, publication: one } => {
            push(channel, manner, "pub", publication(one, manner))
        }
        Tell::Join { channel } => {
            push(channel, manner, "join", json!({"info": {"user": "u", "client": "c"}}).to_string())
        }
        Tell::Given { channel, offset } => {
            let given = json!({"recoverable": true, "positioned": true, "epoch": "mine", "offset": offset});
            push(channel, manner, "subscribe", given.to_string())
        }
        Tell::Taken { channel } => {
            push(channel, manner, "unsubscribe", json!({"code": 2000, "reason": "taken away"}).to_string())
        }
    }
}

fn connected(manner: Manner) -> String {
    let mut result = json!({"client": "c-1", "version": "0", "x_node": {"a": [{}, []]}});
    if manner.pings() {
        result["ping"] = 1.into();
    }
    if manner.wants_pongs() {
        result["pong"] = true.into();
    }
    if manner.has_personal_channel() {
        result["subs"] =
            json!({PERSONAL: {"recoverable": true, "positioned": true, "epoch": "mine", "offset": 70}});
    }
    result.to_string()
}

fn push(channel: &str, manner: Manner, kind: &str, body: String) -> String {
    let members = [("channel", string(channel, manner)), ("x_shard", "17".into()), (kind, body)];
    object(manner, &[("push", object(manner, &members))])
}

fn publication(publication: &Publication, manner: Manner) -> String {
    let data = String::from_utf8(publication.data.clone()).unwrap();
    let mut members = vec![("data", data), ("x_time", "1e3".into()), ("tags", json!({"a": "b"}).to_string())];
    members.extend(publication.offset.map(|offset| ("offset", offset.to_string())));
    object(manner, &members)
}

/// An object with these members, in this order or the other, tightly or loosely.
fn object(manner: Manner, members: &[(&str, String)]) -> String {
    let space = if manner.reverses() { " " } else { "" };
    let member = |(name, value): &(&str, String)| format!("\"{name}\"{space}:{space}{value}");
    let mut members: Vec<String> = members.iter().map(member).collect();
    if manner.reverses() {
        members.reverse();
    }
    format!("{{{space}{}}}", members.join(&format!("{space},{space}")))
}

/// A string, with its first letter escaped for some.
fn string(text: &str, manner: Manner) -> String {
    match text.chars().next() {
        Some(first) if manner.reverses() => {
            format!("\"\\u{:04X}{}\"", u32::from(first), &text[first.len_utf8()..])
        }
        _ => Value::from(text).to_string(),
    }
}
