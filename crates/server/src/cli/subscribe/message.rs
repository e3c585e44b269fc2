//! The client protocol in JSON, as far as one subscriber needs it.

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// A message of the server; one without members is a ping.
#[derive(Deserialize)]
pub(super) struct Reply<'m> {
    #[serde(default)]
    pub(super) id: u32,
    #[serde(default)]
    pub(super) error: Option<ErrorReply>,
    #[serde(default)]
    pub(super) connect: Option<ConnectResult>,
    #[serde(default, borrow)]
    pub(super) subscribe: Option<SubscribeResult<'m>>,
    #[serde(default, borrow)]
    pub(super) push: Option<Push<'m>>,
}

#[derive(Deserialize)]
pub(super) struct ErrorReply {
    pub(super) code: u32,
    #[serde(default)]
    pub(super) message: String,
    #[serde(default)]
    pub(super) temporary: bool,
}

#[derive(Deserialize)]
pub(super) struct ConnectResult {
    #[serde(default)]
    pub(super) ping: u64,
    #[serde(default)]
    pub(super) pong: bool,
}

#[derive(Deserialize)]
pub(super) struct SubscribeResult<'m> {
    #[serde(default)]
    pub(super) recoverable: bool,
    #[serde(default)]
    pub(super) epoch: String,
    #[serde(default)]
    pub(super) offset: u64,
    #[serde(default)]
    pub(super) recovered: bool,
    #[serde(default)]
    pub(super) was_recovering: bool,
    #[serde(default, borrow)]
    pub(super) publications: Vec<Publication<'m>>,
}

#[derive(Deserialize)]
pub(super) struct Push<'m> {
    #[serde(default)]
    pub(super) channel: String,
    #[serde(default, borrow, rename = "pub")]
    pub(super) publication: Option<Publication<'m>>,
    #[serde(default, borrow)]
    pub(super) join: Option<Presence<'m>>,
    #[serde(default, borrow)]
    pub(super) leave: Option<Presence<'m>>,
    #[serde(default)]
    pub(super) unsubscribe: Option<Unsubscribe>,
}

/// Payloads stay as they were sent: read and written again, numbers in them could change.
#[derive(Deserialize)]
pub(super) struct Publication<'m> {
    #[serde(default, borrow)]
    data: Option<&'m RawValue>,
    #[serde(default)]
    pub(super) offset: u64,
    #[serde(default, borrow)]
    tags: Option<&'m RawValue>,
    #[serde(default, borrow)]
    info: Option<&'m RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Presence<'m> {
    #[serde(default, borrow)]
    info: Option<&'m RawValue>,
}

#[derive(Deserialize)]
pub(super) struct Unsubscribe {
    #[serde(default)]
    pub(super) code: u32,
    #[serde(default)]
    pub(super) reason: String,
}

// === writing ===

pub(super) fn connect(token: Option<&str>) -> Value {
    let mut connect = json!({"name": "tidewire", "version": env!("CARGO_PKG_VERSION")});
    if let Some(token) = token {
        connect["token"] = token.into();
    }
    json!({"id": 1, "connect": connect})
}

pub(super) fn subscribe(args: &super::Args, position: Option<&(u64, String)>) -> Value {
    let mut subscribe = json!({"channel": args.channel});
    if let Some(token) = &args.subscription_token {
        subscribe["token"] = token.as_str().into();
    }
    if args.join_leave {
        subscribe["join_leave"] = true.into();
    }
    // Asked for in any case: it is granted where the channel allows, and ignored elsewhere.
    subscribe["recoverable"] = true.into();
    if let Some((offset, epoch)) = position {
        subscribe["recover"] = true.into();
        subscribe["offset"] = (*offset).into();
        subscribe["epoch"] = epoch.as_str().into();
    }
    json!({"id": 2, "subscribe": subscribe})
}

// === printing ===

impl Publication<'_> {
    /// One line of output.
    pub(super) fn line(&self, channel: &str) -> String {
        let mut line = head("publication", channel);
        line.push_str(&format!(",\"data\":{}", self.data.map_or("null", RawValue::get)));
        if self.offset > 0 {
            line.push_str(&format!(",\"offset\":{}", self.offset));
        }
        for (name, value) in [("tags", self.tags), ("info", self.info)] {
            if let Some(value) = value {
                line.push_str(&format!(",\"{name}\":{value}"));
            }
        }
        line.push('}');
        one_line(line)
    }
}

impl Presence<'_> {
    /// One line of output; `what` is `join` or `leave`.
    pub(super) fn line(&self, what: &str, channel: &str) -> String {
        let info = self.info.map_or("null", RawValue::get);
        one_line(format!("{},\"info\":{info}}}", head(what, channel)))
    }
}

fn head(what: &str, channel: &str) -> String {
    format!("{{\"type\":\"{what}\",\"channel\":{}", Value::from(channel))
}

/// Raw line ends in JSON are white space between tokens: a line is one all the same.
fn one_line(text: String) -> String {
    if text.contains(['\n', '\r']) { text.replace(['\n', '\r'], " ") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_publication_is_one_line_with_its_payload_untouched() {
        let text = r#"{"push":{"channel":"a\"b","pub":{"data":{"n":1.10,"big":12345678901234567890123},"offset":7,"tags":{"k":"v"}}}}"#;
        let reply: Reply<'_> = serde_json::from_str(text).unwrap();
        let push = reply.push.unwrap();
        assert_eq!(
            push.publication.unwrap().line(&push.channel),
            r#"{"type":"publication","channel":"a\"b","data":{"n":1.10,"big":12345678901234567890123},"offset":7,"tags":{"k":"v"}}"#
        );
        let publication: Publication<'_> = serde_json::from_str("{\"data\":[1,\n2]}").unwrap();
        assert_eq!(publication.line("c"), r#"{"type":"publication","channel":"c","data":[1, 2]}"#);
    }
}
