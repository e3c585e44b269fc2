//! The answer to a connect, the push that stands for it where nobody asked, and the protobuf form of both.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};
use prost::DecodeError;
use prost::encoding::{self, DecodeContext, WireType};

use super::publication::is_zero;
use super::{Dictionary, SubscribeResult};

/// `ConnectResult` of the schema.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConnectResult {
    /// The id of this connection.
    pub client: String,
    pub version: String,
    /// The client must refresh its token.
    pub expires: bool,
    /// Seconds until then.
    pub ttl: u32,
    pub data: Bytes,
    pub subs: BTreeMap<String, SubscribeResult>,
    /// Seconds between pings of the server.
    pub ping: u32,
    /// The client must answer pings.
    pub pong: bool,
    pub session: String,
    pub node: String,
    /// Unix milliseconds.
    pub time: i64,
    pub flag: i64,
    pub dict: Option<Dictionary>,
}

/// The connect push of unidirectional transports, with the members of [`ConnectResult`] that mean something there.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Connect {
    pub client: String,
    pub version: String,
    pub data: Bytes,
    pub subs: BTreeMap<String, SubscribeResult>,
    pub expires: bool,
    pub ttl: u32,
    pub ping: u32,
    pub pong: bool,
    pub session: String,
    pub node: String,
    pub time: i64,
}

/// By hand what the derive makes of other messages, because of `subs`: the derive leaves the value out of an entry whose
/// value is all zero, as a subscription without history is, and decoders of JavaScript take an absent value for null.
///
/// The fields in the order of their numbers: those before `subs`, its number, those after it, and messages.
macro_rules! message_with_subs {
    (
        $name:ident
        { $($tag:literal $kind:ident $field:ident),* }
        $subs:literal subs
        { $($tag_after:literal $kind_after:ident $field_after:ident),* }
        { $($tag_message:literal $message:ident),* }
    ) => {
        impl prost::Message for $name {
            fn encode_raw(&self, buf: &mut impl BufMut) {
                $(if !is_zero(&self.$field) {
                    encoding::$kind::encode($tag, &self.$field, buf);
                })*
                encode_subs($subs, &self.subs, buf);
                $(if !is_zero(&self.$field_after) {
                    encoding::$kind_after::encode($tag_after, &self.$field_after, buf);
                })*
                $(if let Some(message) = &self.$message {
                    encoding::message::encode($tag_message, message, buf);
                })*
            }

            fn merge_field(
                &mut self,
                tag: u32,
                wire_type: WireType,
                buf: &mut impl Buf,
                ctx: DecodeContext,
            ) -> Result<(), DecodeError> {
                let (string, message) = (encoding::string::merge, encoding::message::merge);
                let (merged, name) = match tag {
                    $($tag => (
                        encoding::$kind::merge(wire_type, &mut self.$field, buf, ctx), stringify!($field)
                    ),)*
                    $subs => (encoding::btree_map::merge(string, message, &mut self.subs, buf, ctx), "subs"),
                    $($tag_after => (
                        encoding::$kind_after::merge(wire_type, &mut self.$field_after, buf, ctx),
                        stringify!($field_after)
                    ),)*
                    $($tag_message => (
                        encoding::message::merge(wire_type, self.$message.get_or_insert_default(), buf, ctx),
                        stringify!($message)
                    ),)*
                    _ => return encoding::skip_field(wire_type, tag, buf, ctx),
                };
                merged.map_err(|mut error| {
                    error.push(stringify!($name), name);
                    error
                })
            }

            fn encoded_len(&self) -> usize {
                let mut len = subs_len($subs, &self.subs);
                $(if !is_zero(&self.$field) {
                    len = len.saturating_add(encoding::$kind::encoded_len($tag, &self.$field));
                })*
                $(if !is_zero(&self.$field_after) {
                    len = len.saturating_add(encoding::$kind_after::encoded_len($tag_after, &self.$field_after));
                })*
                $(if let Some(message) = &self.$message {
                    len = len.saturating_add(encoding::message::encoded_len($tag_message, message));
                })*
                len
            }

            fn clear(&mut self) {
                *self = Self::default();
            }
        }
    };
}

message_with_subs! {
    ConnectResult
    { 1 string client, 2 string version, 3 bool expires, 4 uint32 ttl, 5 bytes data }
    6 subs
    { 7 uint32 ping, 8 bool pong, 9 string session, 10 string node, 11 int64 time, 12 int64 flag }
    { 13 dict }
}

message_with_subs! {
    Connect
    { 1 string client, 2 string version, 3 bytes data }
    4 subs
    {
        5 bool expires, 6 uint32 ttl, 7 uint32 ping, 8 bool pong, 9 string session, 10 string node,
        11 int64 time
    }
    {}
}

/// Every entry with its value, whatever that is.
fn encode_subs(field: u32, subs: &BTreeMap<String, SubscribeResult>, buf: &mut impl BufMut) {
    for (channel, result) in subs {
        encoding::encode_key(field, WireType::LengthDelimited, buf);
        encoding::encode_varint(entry_len(channel, result) as u64, buf);
        encoding::string::encode(1, channel, buf);
        encoding::message::encode(2, result, buf);
    }
}

fn subs_len(field: u32, subs: &BTreeMap<String, SubscribeResult>) -> usize {
    let entry = |(channel, result)| {
        let entry = entry_len(channel, result);
        encoding::key_len(field).saturating_add(prost::length_delimiter_len(entry)).saturating_add(entry)
    };
    subs.iter().map(entry).fold(0, usize::saturating_add)
}

fn entry_len(channel: &String, result: &SubscribeResult) -> usize {
    encoding::string::encoded_len(1, channel).saturating_add(encoding::message::encoded_len(2, result))
}
