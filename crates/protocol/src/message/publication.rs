//! A publication, and its protobuf form.

use std::collections::BTreeMap;

use bytes::{Buf, BufMut, Bytes};
use prost::DecodeError;
use prost::encoding::{self, DecodeContext, WireType};

use super::ClientInfo;

/// One message of a channel.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Publication {
    /// The payload. On JSON connections the raw JSON value.
    pub data: Bytes,
    /// Who published, if a client did.
    pub info: Option<ClientInfo>,
    /// Its number in the stream; 0 in a channel without one.
    pub offset: u64,
    pub tags: BTreeMap<String, String>,
    /// `data` is a patch of the previous publication.
    pub delta: bool,
    /// Unix milliseconds. Stays inside a node: no encoding writes or reads it.
    pub time: i64,
    pub channel: String,
    pub key: String,
    pub removed: bool,
    pub score: i64,
    pub epoch: String,
    /// The payload before this one. Stays inside a node, as `time` does.
    pub prev_data: Bytes,
    pub version: u64,
}

// === impl Publication ===

/// By hand what the derive makes of other messages, because a derive can leave no field out: members that stay inside
/// a node must have no way onto a wire, whoever forgets to clear them.
impl prost::Message for Publication {
    fn encode_raw(&self, buf: &mut impl BufMut) {
        macro_rules! put {
            ($($tag:literal $kind:ident $field:ident),*) => {$(
                if !is_zero(&self.$field) {
                    encoding::$kind::encode($tag, &self.$field, buf);
                }
            )*};
        }
        put!(4 bytes data);
        if let Some(info) = &self.info {
            encoding::message::encode(5, info, buf);
        }
        put!(6 uint64 offset);
        encoding::btree_map::encode(
            encoding::string::encode,
            encoding::string::encoded_len,
            encoding::string::encode,
            encoding::string::encoded_len,
            7,
            &self.tags,
            buf,
        );
        put!(8 bool delta, 10 string channel, 11 string key, 12 bool removed, 13 sint64 score, 14 string epoch);
        put!(16 uint64 version);
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
        let string = encoding::string::merge;
        let (merged, name) = match tag {
            4 => merge!(bytes data),
            5 => (encoding::message::merge(wire_type, self.info.get_or_insert_default(), buf, ctx), "info"),
            6 => merge!(uint64 offset),
            7 => (
                encoding::btree_map::merge(string, encoding::string::merge, &mut self.tags, buf, ctx),
                "tags",
            ),
            8 => merge!(bool delta),
            10 => merge!(string channel),
            11 => merge!(string key),
            12 => merge!(bool removed),
            13 => merge!(sint64 score),
            14 => merge!(string epoch),
            16 => merge!(uint64 version),
            _ => return encoding::skip_field(wire_type, tag, buf, ctx),
        };
        merged.map_err(|mut error| {
            error.push("Publication", name);
            error
        })
    }

    fn encoded_len(&self) -> usize {
        macro_rules! len {
            ($tag:literal $kind:ident $field:ident) => {
                if is_zero(&self.$field) { 0 } else { encoding::$kind::encoded_len($tag, &self.$field) }
            };
        }
        let string = encoding::string::encoded_len;
        let fields = [
            len!(4 bytes data),
            self.info.as_ref().map_or(0, |info| encoding::message::encoded_len(5, info)),
            len!(6 uint64 offset),
            encoding::btree_map::encoded_len(string, encoding::string::encoded_len, 7, &self.tags),
            len!(8 bool delta),
            len!(10 string channel),
            len!(11 string key),
            len!(12 bool removed),
            len!(13 sint64 score),
            len!(14 string epoch),
            len!(16 uint64 version),
        ];
        fields.into_iter().fold(0, usize::saturating_add)
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Whether proto3 leaves the field out.
pub(super) fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
