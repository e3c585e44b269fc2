//! Every message with its members, in the order of their field numbers.
//!
//! A member is left out of the text while it has its zero value, unless it is marked `[always]`. A test holds the table
//! against `schema/client.proto`. `Publication::time` and `prev_data` have no place here: they never leave a node.

use super::read::Reader;
use super::scan::Fault;
use super::value::{Object, Value};
use super::write::Members;
use crate::EncodeError;
use crate::message::*;

macro_rules! key {
    ($field:ident) => {
        stringify!($field)
    };
    ($field:ident $key:literal) => {
        $key
    };
}

macro_rules! write {
    ($members:ident, $key:expr, $value:expr) => {
        $members.member($key, $value)?
    };
    ($members:ident, $key:expr, $value:expr, always) => {
        $members.always($key, $value)?
    };
}

/// A message as a value. `FilterNode` has its own way of being one.
macro_rules! value {
    (FilterNode) => {};
    ($name:ident) => {
        impl Value for $name {
            fn is_absent(&self) -> bool {
                false
            }

            fn write(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
                self.write_object(out)
            }

            fn read(reader: &mut Reader<'_>) -> Result<Self, Fault> {
                Self::read_object(reader)
            }
        }
    };
}

macro_rules! objects {
    ($($name:ident { $($([$always:ident])? $field:ident $(as $key:literal)?),* })*) => {$(
        impl Object for $name {
            #[allow(unused_variables)] // in a message without members
            fn write_members(&self, members: &mut Members<'_>) -> Result<(), EncodeError> {
                $(write!(members, concat!("\"", key!($field $($key)?), "\":"), &self.$field $(, $always)?);)*
                Ok(())
            }

            #[allow(unused_variables)] // in a message without members
            fn read_member(&mut self, key: &str, reader: &mut Reader<'_>, seen: &mut u64) -> Result<(), Fault> {
                #[allow(non_camel_case_types, dead_code)]
                enum Bit { $($field),* }
                match key {
                    $(key!($field $($key)?) => reader.member(&mut self.$field, seen, Bit::$field as u32),)*
                    _ => reader.skip(),
                }
            }
        }
        value! { $name }
    )*};
}

objects! {
    Command {
        id, connect, subscribe, unsubscribe, publish, presence, presence_stats, history, ping, send, rpc,
        refresh, sub_refresh
    }
    Reply {
        id, error, push, connect, subscribe, unsubscribe, publish, presence, presence_stats, history, ping,
        rpc, refresh, sub_refresh
    }
    Error { code, message, temporary }
    Push {
        id, channel, publication as "pub", join, leave, unsubscribe, message, subscribe, connect,
        disconnect, refresh
    }
    ConnectRequest { token, data, subs, name, version, headers, flag, dict, profile }
    ConnectResult { client, version, expires, ttl, data, subs, ping, pong, session, node, time, flag, dict }
    Dictionary { id, data, data_b64 }
    RefreshRequest { token }
    RefreshResult { client, version, expires, ttl }
    EmulationRequest { node, session, data }
    SubscribeRequest {
        channel, token, recover, epoch, offset, data, positioned, recoverable, join_leave, delta, tf, flag,
        r#type as "type", phase, cursor, limit, asc
    }
    SubscribeResult {
        expires, ttl, recoverable, epoch, publications, recovered, offset, positioned, data, was_recovering,
        delta, id, r#type as "type", phase, cursor, state, publish_debounce
    }
    UnsubscribeRequest { channel }
    UnsubscribeResult {}
    SubRefreshRequest { channel, token, r#type as "type", track, untrack }
    TrackBatch { signature, items }
    KeyedItem { key, version }
    SubRefreshResult { expires, ttl, items }
    FilterNode { op, key, cmp, val, vals, nodes }
    Publication { data, info, offset, tags, delta, channel, key, removed, score, epoch, version }
    ClientInfo { [always] user, [always] client, conn_info, chan_info }
    Join { info }
    Leave { info }
    Message { data }
    Unsubscribe { code, reason }
    DisconnectPush { code, reason, reconnect }
    Subscribe { recoverable, epoch, offset, positioned, data }
    Connect { client, version, data, subs, expires, ttl, ping, pong, session, node, time }
    Refresh { expires, ttl }
    PublishRequest { channel, data, r#type as "type", key, removed }
    PublishResult {}
    PresenceRequest { channel }
    PresenceResult { [always] presence }
    PresenceStatsRequest { channel }
    PresenceStatsResult { [always] num_clients, [always] num_users }
    HistoryRequest { channel, limit, since, reverse }
    WirePosition { offset, epoch }
    HistoryResult { [always] publications, [always] epoch, [always] offset }
    PingRequest {}
    PingResult {}
    RpcRequest { data, method }
    RpcResult { data }
    SendRequest { data }
}
