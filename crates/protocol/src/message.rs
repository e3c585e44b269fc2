//! Every message of the protocol.
//!
//! Field numbers and names are those of `schema/client.proto`; a test holds the two against each other. Zero values
//! and empty bytes mean "absent", as in proto3. Payload fields are [`Bytes`] and are never interpreted here.

// The names of the fields are their documentation wherever the protocol gives them no further rule.
#![allow(missing_docs)]

use std::collections::BTreeMap;

use bytes::Bytes;

/// One message from a client. At most one request member is set; see [`Request`] for the order when several are.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Command {
    /// Chosen by the client, unique among its commands in flight; 0 only for `send` and pongs.
    #[prost(uint32, tag = "1")]
    pub id: u32,
    #[prost(message, optional, boxed, tag = "4")]
    pub connect: Option<Box<ConnectRequest>>,
    #[prost(message, optional, boxed, tag = "5")]
    pub subscribe: Option<Box<SubscribeRequest>>,
    #[prost(message, optional, boxed, tag = "6")]
    pub unsubscribe: Option<Box<UnsubscribeRequest>>,
    #[prost(message, optional, boxed, tag = "7")]
    pub publish: Option<Box<PublishRequest>>,
    #[prost(message, optional, boxed, tag = "8")]
    pub presence: Option<Box<PresenceRequest>>,
    #[prost(message, optional, boxed, tag = "9")]
    pub presence_stats: Option<Box<PresenceStatsRequest>>,
    #[prost(message, optional, boxed, tag = "10")]
    pub history: Option<Box<HistoryRequest>>,
    /// Legacy, no SDK sends it.
    #[prost(message, optional, boxed, tag = "11")]
    pub ping: Option<Box<PingRequest>>,
    #[prost(message, optional, boxed, tag = "12")]
    pub send: Option<Box<SendRequest>>,
    #[prost(message, optional, boxed, tag = "13")]
    pub rpc: Option<Box<RpcRequest>>,
    #[prost(message, optional, boxed, tag = "14")]
    pub refresh: Option<Box<RefreshRequest>>,
    #[prost(message, optional, boxed, tag = "15")]
    pub sub_refresh: Option<Box<SubRefreshRequest>>,
}

/// One message to a client: the answer to a command, or a push. Without both it is a ping.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Reply {
    /// The id of the command this answers; 0 with a push.
    #[prost(uint32, tag = "1")]
    pub id: u32,
    #[prost(message, optional, boxed, tag = "2")]
    pub error: Option<Box<Error>>,
    #[prost(message, optional, boxed, tag = "4")]
    pub push: Option<Box<Push>>,
    #[prost(message, optional, boxed, tag = "5")]
    pub connect: Option<Box<ConnectResult>>,
    #[prost(message, optional, boxed, tag = "6")]
    pub subscribe: Option<Box<SubscribeResult>>,
    #[prost(message, optional, boxed, tag = "7")]
    pub unsubscribe: Option<Box<UnsubscribeResult>>,
    #[prost(message, optional, boxed, tag = "8")]
    pub publish: Option<Box<PublishResult>>,
    #[prost(message, optional, boxed, tag = "9")]
    pub presence: Option<Box<PresenceResult>>,
    #[prost(message, optional, boxed, tag = "10")]
    pub presence_stats: Option<Box<PresenceStatsResult>>,
    #[prost(message, optional, boxed, tag = "11")]
    pub history: Option<Box<HistoryResult>>,
    #[prost(message, optional, boxed, tag = "12")]
    pub ping: Option<Box<PingResult>>,
    #[prost(message, optional, boxed, tag = "13")]
    pub rpc: Option<Box<RpcResult>>,
    #[prost(message, optional, boxed, tag = "14")]
    pub refresh: Option<Box<RefreshResult>>,
    #[prost(message, optional, boxed, tag = "15")]
    pub sub_refresh: Option<Box<SubRefreshResult>>,
}

/// Why a command was refused; see [`crate::ErrorCode`].
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Error {
    #[prost(uint32, tag = "1")]
    pub code: u32,
    #[prost(string, tag = "2")]
    pub message: String,
    /// The same request may succeed later.
    #[prost(bool, tag = "3")]
    pub temporary: bool,
}

/// Something the client did not ask for. Exactly one of the members after `channel` is set.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Push {
    /// Compacted channel id, if one was negotiated.
    #[prost(int64, tag = "1")]
    pub id: i64,
    #[prost(string, tag = "2")]
    pub channel: String,
    #[prost(message, optional, boxed, tag = "4")]
    pub publication: Option<Box<Publication>>,
    #[prost(message, optional, boxed, tag = "5")]
    pub join: Option<Box<Join>>,
    #[prost(message, optional, boxed, tag = "6")]
    pub leave: Option<Box<Leave>>,
    #[prost(message, optional, boxed, tag = "7")]
    pub unsubscribe: Option<Box<Unsubscribe>>,
    #[prost(message, optional, boxed, tag = "8")]
    pub message: Option<Box<Message>>,
    #[prost(message, optional, boxed, tag = "9")]
    pub subscribe: Option<Box<Subscribe>>,
    #[prost(message, optional, boxed, tag = "10")]
    pub connect: Option<Box<Connect>>,
    #[prost(message, optional, boxed, tag = "11")]
    pub disconnect: Option<Box<DisconnectPush>>,
    #[prost(message, optional, boxed, tag = "12")]
    pub refresh: Option<Box<Refresh>>,
}

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

/// `ConnectResult` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct ConnectResult {
    /// The id of this connection.
    #[prost(string, tag = "1")]
    pub client: String,
    #[prost(string, tag = "2")]
    pub version: String,
    /// The client must refresh its token.
    #[prost(bool, tag = "3")]
    pub expires: bool,
    /// Seconds until then.
    #[prost(uint32, tag = "4")]
    pub ttl: u32,
    #[prost(bytes = "bytes", tag = "5")]
    pub data: Bytes,
    #[prost(btree_map = "string, message", tag = "6")]
    pub subs: BTreeMap<String, SubscribeResult>,
    /// Seconds between pings of the server.
    #[prost(uint32, tag = "7")]
    pub ping: u32,
    /// The client must answer pings.
    #[prost(bool, tag = "8")]
    pub pong: bool,
    #[prost(string, tag = "9")]
    pub session: String,
    #[prost(string, tag = "10")]
    pub node: String,
    /// Unix milliseconds.
    #[prost(int64, tag = "11")]
    pub time: i64,
    #[prost(int64, tag = "12")]
    pub flag: i64,
    #[prost(message, optional, tag = "13")]
    pub dict: Option<Dictionary>,
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

/// `SubscribeRequest` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SubscribeRequest {
    #[prost(string, tag = "1")]
    pub channel: String,
    #[prost(string, tag = "2")]
    pub token: String,
    /// Continue from `epoch` and `offset`.
    #[prost(bool, tag = "3")]
    pub recover: bool,
    #[prost(string, tag = "6")]
    pub epoch: String,
    #[prost(uint64, tag = "7")]
    pub offset: u64,
    #[prost(bytes = "bytes", tag = "8")]
    pub data: Bytes,
    #[prost(bool, tag = "9")]
    pub positioned: bool,
    #[prost(bool, tag = "10")]
    pub recoverable: bool,
    #[prost(bool, tag = "11")]
    pub join_leave: bool,
    #[prost(string, tag = "12")]
    pub delta: String,
    #[prost(message, optional, tag = "13")]
    pub tf: Option<FilterNode>,
    /// Bit 0: channel-id compaction. Bit 1: refuse with 112 instead of `recovered: false`.
    #[prost(int64, tag = "14")]
    pub flag: i64,
    /// 0 stream, 1 map, 2 map of clients, 3 map of users, 4 shared poll.
    #[prost(int32, tag = "15")]
    pub r#type: i32,
    #[prost(int32, tag = "16")]
    pub phase: i32,
    #[prost(string, tag = "17")]
    pub cursor: String,
    #[prost(int32, tag = "18")]
    pub limit: i32,
    #[prost(bool, tag = "19")]
    pub asc: bool,
}

/// `SubscribeResult` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SubscribeResult {
    #[prost(bool, tag = "1")]
    pub expires: bool,
    #[prost(uint32, tag = "2")]
    pub ttl: u32,
    #[prost(bool, tag = "3")]
    pub recoverable: bool,
    #[prost(string, tag = "6")]
    pub epoch: String,
    #[prost(message, repeated, tag = "7")]
    pub publications: Vec<Publication>,
    #[prost(bool, tag = "8")]
    pub recovered: bool,
    #[prost(uint64, tag = "9")]
    pub offset: u64,
    #[prost(bool, tag = "10")]
    pub positioned: bool,
    #[prost(bytes = "bytes", tag = "11")]
    pub data: Bytes,
    #[prost(bool, tag = "12")]
    pub was_recovering: bool,
    #[prost(bool, tag = "13")]
    pub delta: bool,
    #[prost(int64, tag = "14")]
    pub id: i64,
    #[prost(int32, tag = "15")]
    pub r#type: i32,
    #[prost(int32, tag = "16")]
    pub phase: i32,
    #[prost(string, tag = "17")]
    pub cursor: String,
    #[prost(message, repeated, tag = "18")]
    pub state: Vec<Publication>,
    #[prost(uint32, tag = "19")]
    pub publish_debounce: u32,
}

/// `UnsubscribeRequest` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct UnsubscribeRequest {
    #[prost(string, tag = "1")]
    pub channel: String,
}

/// `UnsubscribeResult` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct UnsubscribeResult {}

/// `SubRefreshRequest` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SubRefreshRequest {
    #[prost(string, tag = "1")]
    pub channel: String,
    #[prost(string, tag = "2")]
    pub token: String,
    #[prost(int32, tag = "3")]
    pub r#type: i32,
    #[prost(message, repeated, tag = "4")]
    pub track: Vec<TrackBatch>,
    #[prost(string, repeated, tag = "5")]
    pub untrack: Vec<String>,
}

/// Keys of a shared poll with the signature that allows them.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct TrackBatch {
    #[prost(string, tag = "1")]
    pub signature: String,
    #[prost(message, repeated, tag = "2")]
    pub items: Vec<KeyedItem>,
}

/// `KeyedItem` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct KeyedItem {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(uint64, tag = "2")]
    pub version: u64,
}

/// `SubRefreshResult` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct SubRefreshResult {
    #[prost(bool, tag = "1")]
    pub expires: bool,
    #[prost(uint32, tag = "2")]
    pub ttl: u32,
    #[prost(message, repeated, tag = "3")]
    pub items: Vec<Publication>,
}

/// One node of a filter over publication tags: a leaf compares one tag, an inner node combines.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct FilterNode {
    #[prost(string, tag = "1")]
    pub op: String,
    #[prost(string, tag = "2")]
    pub key: String,
    #[prost(string, tag = "3")]
    pub cmp: String,
    #[prost(string, tag = "4")]
    pub val: String,
    #[prost(string, repeated, tag = "5")]
    pub vals: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    pub nodes: Vec<FilterNode>,
}

/// One message of a channel.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Publication {
    /// The payload. On JSON connections the raw JSON value.
    #[prost(bytes = "bytes", tag = "4")]
    pub data: Bytes,
    /// Who published, if a client did.
    #[prost(message, optional, tag = "5")]
    pub info: Option<ClientInfo>,
    /// Its number in the stream; 0 in a channel without one.
    #[prost(uint64, tag = "6")]
    pub offset: u64,
    #[prost(btree_map = "string, string", tag = "7")]
    pub tags: BTreeMap<String, String>,
    /// `data` is a patch of the previous publication.
    #[prost(bool, tag = "8")]
    pub delta: bool,
    /// Unix milliseconds; not sent to clients.
    #[prost(int64, tag = "9")]
    pub time: i64,
    #[prost(string, tag = "10")]
    pub channel: String,
    #[prost(string, tag = "11")]
    pub key: String,
    #[prost(bool, tag = "12")]
    pub removed: bool,
    #[prost(sint64, tag = "13")]
    pub score: i64,
    #[prost(string, tag = "14")]
    pub epoch: String,
    #[prost(bytes = "bytes", tag = "15")]
    pub prev_data: Bytes,
    #[prost(uint64, tag = "16")]
    pub version: u64,
}

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

/// `Unsubscribe` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Unsubscribe {
    #[prost(uint32, tag = "2")]
    pub code: u32,
    #[prost(string, tag = "3")]
    pub reason: String,
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

/// `Subscribe` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Subscribe {
    #[prost(bool, tag = "1")]
    pub recoverable: bool,
    #[prost(string, tag = "4")]
    pub epoch: String,
    #[prost(uint64, tag = "5")]
    pub offset: u64,
    #[prost(bool, tag = "6")]
    pub positioned: bool,
    #[prost(bytes = "bytes", tag = "7")]
    pub data: Bytes,
}

/// The connect push of unidirectional transports.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Connect {
    #[prost(string, tag = "1")]
    pub client: String,
    #[prost(string, tag = "2")]
    pub version: String,
    #[prost(bytes = "bytes", tag = "3")]
    pub data: Bytes,
    #[prost(btree_map = "string, message", tag = "4")]
    pub subs: BTreeMap<String, SubscribeResult>,
    #[prost(bool, tag = "5")]
    pub expires: bool,
    #[prost(uint32, tag = "6")]
    pub ttl: u32,
    #[prost(uint32, tag = "7")]
    pub ping: u32,
    #[prost(bool, tag = "8")]
    pub pong: bool,
    #[prost(string, tag = "9")]
    pub session: String,
    #[prost(string, tag = "10")]
    pub node: String,
    #[prost(int64, tag = "11")]
    pub time: i64,
}

/// `Refresh` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct Refresh {
    #[prost(bool, tag = "1")]
    pub expires: bool,
    #[prost(uint32, tag = "2")]
    pub ttl: u32,
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

/// [`crate::StreamPosition`] as it travels (`StreamPosition` in the schema).
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct WirePosition {
    #[prost(uint64, tag = "1")]
    pub offset: u64,
    #[prost(string, tag = "2")]
    pub epoch: String,
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

/// `PingRequest` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct PingRequest {}

/// `PingResult` of the schema.
#[derive(Clone, PartialEq, ::prost::Message)]
pub struct PingResult {}

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

/// What a command asks for: the one member of [`Command`] that counts.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    Connect(Box<ConnectRequest>),
    Subscribe(Box<SubscribeRequest>),
    Unsubscribe(Box<UnsubscribeRequest>),
    Publish(Box<PublishRequest>),
    Presence(Box<PresenceRequest>),
    PresenceStats(Box<PresenceStatsRequest>),
    History(Box<HistoryRequest>),
    Rpc(Box<RpcRequest>),
    Send(Box<SendRequest>),
    Refresh(Box<RefreshRequest>),
    SubRefresh(Box<SubRefreshRequest>),
}

impl Command {
    /// Takes the request out. Of several members the first in the order of [`Request`] counts; `None` is a pong if
    /// `id` is 0, otherwise a command this protocol does not know.
    pub fn into_request(self) -> Option<Request> {
        self.connect
            .map(Request::Connect)
            .or_else(|| self.subscribe.map(Request::Subscribe))
            .or_else(|| self.unsubscribe.map(Request::Unsubscribe))
            .or_else(|| self.publish.map(Request::Publish))
            .or_else(|| self.presence.map(Request::Presence))
            .or_else(|| self.presence_stats.map(Request::PresenceStats))
            .or_else(|| self.history.map(Request::History))
            .or_else(|| self.rpc.map(Request::Rpc))
            .or_else(|| self.send.map(Request::Send))
            .or_else(|| self.refresh.map(Request::Refresh))
            .or_else(|| self.sub_refresh.map(Request::SubRefresh))
    }
}
