//! Every message of the protocol.
//!
//! Here the envelope: commands, replies, errors and pushes. `connection`, `subscription`, `data`: what they carry.
//! `publication` and `connect_result`: those whose protobuf form is written by hand.
//!
//! Field numbers and names are those of `schema/client.proto`; a test holds the two against each other. Zero values
//! and empty bytes mean "absent", as in proto3. Payload fields are [`Bytes`](bytes::Bytes) and are never interpreted
//! here.

// The names of the fields are their documentation wherever the protocol gives them no further rule.
#![allow(missing_docs)]

mod connect_result;
mod connection;
mod data;
mod publication;
mod subscription;

pub use connect_result::{Connect, ConnectResult};
pub use connection::*;
pub use data::*;
pub use publication::Publication;
pub use subscription::*;

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
