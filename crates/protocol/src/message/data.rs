//! What is published, who is there, what was published before, and calls.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::Publication;

/// Who a connection is, as other clients may see it.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ClientInfo {
    #[prost(string, tag = "1")]
    pub user: String,
    #[prost(string, tag = "2")]
    pub client: String,
    #[prost(bytes = "bytes", tag = "3")]
    pub conn_info: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    pub chan_info: Bytes,
}

/// `Join` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Join {
    #[prost(message, optional, tag = "1")]
    pub info: Option<ClientInfo>,
}

/// `Leave` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Leave {
    #[prost(message, optional, tag = "1")]
    pub info: Option<ClientInfo>,
}

/// `Message` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Message {
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
}

/// `PublishRequest` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct PublishRequest {
    #[prost(string, tag = "1")]
    pub channel: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub data: Bytes,
    #[prost(int32, tag = "3")]
    pub r#type: i32,
    #[prost(string, tag = "4")]
    pub key: String,
    #[prost(bool, tag = "5")]
    pub removed: bool,
}

/// `PublishResult` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct PublishResult {}

/// `PresenceRequest` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct PresenceRequest {
    #[prost(string, tag = "1")]
    pub channel: String,
}

/// `PresenceResult` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct PresenceResult {
    /// Client id to who it is.
    #[prost(btree_map = "string, message", tag = "1")]
    pub presence: BTreeMap<String, ClientInfo>,
}

/// `PresenceStatsRequest` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct PresenceStatsRequest {
    #[prost(string, tag = "1")]
    pub channel: String,
}

/// `PresenceStatsResult` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct PresenceStatsResult {
    #[prost(uint32, tag = "1")]
    pub num_clients: u32,
    #[prost(uint32, tag = "2")]
    pub num_users: u32,
}

/// `HistoryRequest` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct HistoryRequest {
    #[prost(string, tag = "1")]
    pub channel: String,
    /// 0: the position only; negative: everything.
    #[prost(int32, tag = "7")]
    pub limit: i32,
    #[prost(message, optional, tag = "8")]
    pub since: Option<WirePosition>,
    #[prost(bool, tag = "9")]
    pub reverse: bool,
}

/// `HistoryResult` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct HistoryResult {
    #[prost(message, repeated, tag = "1")]
    pub publications: Vec<Publication>,
    #[prost(string, tag = "2")]
    pub epoch: String,
    #[prost(uint64, tag = "3")]
    pub offset: u64,
}

/// [`crate::StreamPosition`] as it travels (`StreamPosition` in the schema).
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct WirePosition {
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    #[prost(string, tag = "2")]
    pub epoch: String,
}

/// `RpcRequest` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct RpcRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
    #[prost(string, tag = "2")]
    pub method: String,
}

/// `RpcResult` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct RpcResult {
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
}

/// `SendRequest` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SendRequest {
    #[prost(bytes = "bytes", tag = "1")]
    pub data: Bytes,
}
