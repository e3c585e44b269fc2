//! The answer to a connect, and its protobuf form.

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

const SUBS: u32 = 6;

// === impl ConnectResult ===

/// By hand what the derive makes of other messages, because of `subs`: the derive leaves the value out of an entry whose
/// value is all zero, as a subscription without history is, and decoders of JavaScript take an absent value for null.
impl prost::Message for ConnectResult {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        macro_rules! put {
            ($($tag:literal $kind:ident $field:ident),*) => {$(
                if !is_zero(&self.$field) {
                    encoding::$kind::encode($tag, &self.$field, buf);
                }
            )*};
        }
        put!(1 string client, 2 string version, 3 bool expires, 4 uint32 ttl, 5 bytes data);
        for (channel, result) in &self.subs {
            encoding::encode_key(SUBS, WireType::LengthDelimited, buf);
            encoding::encode_varint(entry_len(channel, result) as u64, buf);
            encoding::string::encode(1, channel, buf);
            encoding::message::encode(2, result, buf);
        }
        put!(7 uint32 ping, 8 bool pong, 9 string session, 10 string node, 11 int64 time, 12 int64 flag);
        if let Some(dict) = &self.dict {
            encoding::message::encode(13, dict, buf);
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buf: &mut impl Buf,
        ctx: DecodeContext,
    ) -> Result<(), DecodeError> {
        macro_rules! merge {
            ($kind:ident $field:ident) => {
                (encoding::$kind::merge(wire_type, &mut self.$field, buf, ctx), stringify!($field))
            };
        }
        let (string, message) = (encoding::string::merge, encoding::message::merge);
        let (merged, name) = match tag {
            1 => merge!(string client),
            2 => merge!(string version),
            3 => merge!(bool expires),
            4 => merge!(uint32 ttl),
            5 => merge!(bytes data),
            SUBS => (encoding::btree_map::merge(string, message, &mut self.subs, buf, ctx), "subs"),
            7 => merge!(uint32 ping),
            8 => merge!(bool pong),
            9 => merge!(string session),
            10 => merge!(string node),
            11 => merge!(int64 time),
            12 => merge!(int64 flag),
            13 => (encoding::message::merge(wire_type, self.dict.get_or_insert_default(), buf, ctx), "dict"),
            _ => return encoding::skip_field(wire_type, tag, buf, ctx),
        };
        merged.map_err(|mut error| {
            error.push("ConnectResult", name);
            error
        })
    }

    fn encoded_len(&self) -> usize {
        macro_rules! len {
            ($tag:literal $kind:ident $field:ident) => {
                if is_zero(&self.$field) { 0 } else { encoding::$kind::encoded_len($tag, &self.$field) }
            };
        }
        let subs = self.subs.iter().map(|(channel, result)| {
            let entry = entry_len(channel, result);
            encoding::key_len(SUBS).saturating_add(prost::length_delimiter_len(entry)).saturating_add(entry)
        });
        let fields = [
            len!(1 string client),
            len!(2 string version),
            len!(3 bool expires),
            len!(4 uint32 ttl),
            len!(5 bytes data),
            len!(7 uint32 ping),
            len!(8 bool pong),
            len!(9 string session),
            len!(10 string node),
            len!(11 int64 time),
            len!(12 int64 flag),
            self.dict.as_ref().map_or(0, |dict| encoding::message::encoded_len(13, dict)),
        ];
        fields.into_iter().chain(subs).fold(0, usize::saturating_add)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

fn entry_len(channel: &String, result: &SubscribeResult) -> usize {
    encoding::string::encoded_len(1, channel).saturating_add(encoding::message::encoded_len(2, result))
}
