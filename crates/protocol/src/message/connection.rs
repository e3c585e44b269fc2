//! Connecting, staying connected and being told to leave.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::SubscribeRequest;

/// The first command of a connection.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ConnectRequest {
    #[prost(string, tag = "1")]
    pub token: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub data: Bytes,
    /// Server-side subscriptions the client remembers, with their positions.
    #[prost(btree_map = "string, message", tag = "3")]
    pub subs: BTreeMap<String, SubscribeRequest>,
    #[prost(string, tag = "4")]
    pub name: String,
    #[prost(string, tag = "5")]
    pub version: String,
    /// Emulated headers, never trusted.
    #[prost(btree_map = "string, string", tag = "6")]
    pub headers: BTreeMap<String, String>,
    #[prost(int64, tag = "7")]
    pub flag: i64,
    #[prost(string, tag = "8")]
    pub dict: String,
    #[prost(string, tag = "9")]
    pub profile: String,
}

/// `DisconnectPush` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct DisconnectPush {
    #[prost(uint32, tag = "1")]
    pub code: u32,
    #[prost(string, tag = "2")]
    pub reason: String,
    #[prost(bool, tag = "3")]
    pub reconnect: bool,
}

/// `RefreshRequest` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct RefreshRequest {
    #[prost(string, tag = "1")]
    pub token: String,
}

/// `RefreshResult` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct RefreshResult {
    #[prost(string, tag = "1")]
    pub client: String,
    #[prost(string, tag = "2")]
    pub version: String,
    #[prost(bool, tag = "3")]
    pub expires: bool,
    #[prost(uint32, tag = "4")]
    pub ttl: u32,
}

/// `Refresh` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Refresh {
    #[prost(bool, tag = "1")]
    pub expires: bool,
    #[prost(uint32, tag = "2")]
    pub ttl: u32,
}

/// `PingRequest` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct PingRequest {}

/// `PingResult` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct PingResult {}

/// Commands of a client whose connection only carries data downwards.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct EmulationRequest {
    #[prost(string, tag = "1")]
    pub node: String,
    #[prost(string, tag = "2")]
    pub session: String,
    #[prost(bytes = "bytes", tag = "3")]
    pub data: Bytes,
}

/// A compression dictionary. Reserved: never sent yet.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Dictionary {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub data: Bytes,
    #[prost(string, tag = "3")]
    pub data_b64: String,
}
