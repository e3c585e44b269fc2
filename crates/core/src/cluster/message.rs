//! What nodes say to each other, as protobuf.
//!
//! Nodes of two versions run side by side during an upgrade: fields are only ever added, unknown ones are ignored, and a
//! request that a node does not know is answered as unknown instead of not at all.

use bytes::Bytes;
use tidewire_protocol::StreamPosition;
use tidewire_protocol::{ChannelName, Disconnect, Unsubscribed};
use uuid::Uuid;

use crate::hooks::{Overrides, SubscribeGrant};
use crate::inbox::{Operation, SubscribeOperation};
use crate::node::Target;

/// Everything that goes over the bus.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Envelope {
    /// The sender's id, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) from: Bytes,
    #[prost(oneof = "Body", tags = "2, 3, 4, 5")]
    pub(crate) body: Option<Body>,
}

#[derive(Clone, PartialEq, ::prost::Oneof)]
pub(crate) enum Body {
    #[prost(message, tag = "2")]
    Heartbeat(Heartbeat),
    #[prost(message, tag = "3")]
    Farewell(Farewell),
    #[prost(message, tag = "4")]
    Request(Request),
    #[prost(message, tag = "5")]
    Answer(Answer),
}

/// A node is there, and this is how it is.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Heartbeat {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) version: String,
    #[prost(uint64, tag = "3")]
    pub(crate) clients: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) users: u64,
    #[prost(uint64, tag = "5")]
    pub(crate) channels: u64,
    #[prost(uint64, tag = "6")]
    pub(crate) subscriptions: u64,
    #[prost(uint64, tag = "7")]
    pub(crate) uptime_ms: u64,
    /// The sender has just come and would like to know the others at once.
    #[prost(bool, tag = "8")]
    pub(crate) introduce_yourself: bool,
    /// Of the sender's process; absent where nobody can tell.
    #[prost(double, optional, tag = "9")]
    pub(crate) cpu_seconds: Option<f64>,
    #[prost(uint64, optional, tag = "10")]
    pub(crate) resident_bytes: Option<u64>,
}

/// A node goes; nothing more is to be expected from it.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Farewell {}

/// Something is asked of the receivers.
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Request {
    /// Distinguishes the requests of one sender. The same one may come twice and is done once.
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    /// Whose connections it is about.
    #[prost(message, optional, tag = "2")]
    pub(crate) target: Option<WireTarget>,
    #[prost(oneof = "Action", tags = "3, 4, 5, 6, 7, 8, 9")]
    pub(crate) action: Option<Action>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct WireTarget {
    #[prost(string, tag = "1")]
    pub(crate) user: String,
    #[prost(string, tag = "2")]
    pub(crate) client: String,
    #[prost(string, repeated, tag = "3")]
    pub(crate) except: Vec<String>,
}

#[derive(Clone, PartialEq, ::prost::Oneof)]
pub(crate) enum Action {
    #[prost(message, tag = "3")]
    Disconnect(Reason),
    #[prost(message, tag = "4")]
    Unsubscribe(Unsubscribe),
    #[prost(message, tag = "5")]
    Subscribe(Subscribe),
    #[prost(message, tag = "6")]
    Refresh(Refresh),
    #[prost(bytes = "bytes", tag = "7")]
    Send(Bytes),
    /// Which channels have subscribers; a pattern, empty: all.
    #[prost(string, tag = "8")]
    Channels(String),
    /// A message of a client whose connection the receiver has.
    #[prost(message, tag = "9")]
    Commands(Commands),
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Commands {
    /// Which connection: its session, 16 bytes.
    #[prost(bytes = "bytes", tag = "1")]
    pub(crate) session: Bytes,
    /// As the client's transport frames them.
    #[prost(bytes = "bytes", tag = "2")]
    pub(crate) frame: Bytes,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Reason {
    #[prost(uint32, tag = "1")]
    pub(crate) code: u32,
    #[prost(string, tag = "2")]
    pub(crate) reason: String,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Unsubscribe {
    /// Empty: every channel.
    #[prost(string, tag = "1")]
    pub(crate) channel: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) why: Option<Reason>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Subscribe {
    #[prost(string, tag = "1")]
    pub(crate) channel: String,
    #[prost(int64, tag = "2")]
    pub(crate) expire_at: i64,
    #[prost(bytes = "bytes", tag = "3")]
    pub(crate) info: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    pub(crate) data: Bytes,
    #[prost(bool, optional, tag = "5")]
    pub(crate) presence: Option<bool>,
    #[prost(bool, optional, tag = "6")]
    pub(crate) join_leave: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    pub(crate) force_push_join_leave: Option<bool>,
    #[prost(bool, optional, tag = "8")]
    pub(crate) force_positioning: Option<bool>,
    #[prost(bool, optional, tag = "9")]
    pub(crate) force_recovery: Option<bool>,
    #[prost(message, optional, tag = "10")]
    pub(crate) recover_since: Option<Position>,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Position {
    #[prost(uint64, tag = "1")]
    pub(crate) offset: u64,
    #[prost(string, tag = "2")]
    pub(crate) epoch: String,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Refresh {
    #[prost(bool, tag = "1")]
    pub(crate) expired: bool,
    #[prost(int64, tag = "2")]
    pub(crate) expire_at: i64,
    /// Absent: as it was.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub(crate) info: Option<Bytes>,
}

/// What one node says to a [`Request`].
#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct Answer {
    /// The request's.
    #[prost(uint64, tag = "1")]
    pub(crate) id: u64,
    /// Connections it was done to.
    #[prost(uint64, tag = "2")]
    pub(crate) connections: u64,
    #[prost(message, repeated, tag = "3")]
    pub(crate) channels: Vec<ChannelCount>,
    /// The node is of another version and does not know this request, or could not do it.
    #[prost(bool, tag = "4")]
    pub(crate) failed: bool,
}

#[derive(Clone, PartialEq, ::prost::Message)]
pub(crate) struct ChannelCount {
    #[prost(string, tag = "1")]
    pub(crate) channel: String,
    #[prost(uint32, tag = "2")]
    pub(crate) subscribers: u32,
}

// === impl Envelope ===

impl Envelope {
    pub(super) fn new(from: Uuid, body: Body) -> Self {
        Self { from: Bytes::copy_from_slice(from.as_bytes()), body: Some(body) }
    }

    /// Who sent it; `None` if it does not say so as it should.
    pub(super) fn sender(&self) -> Option<Uuid> {
        Uuid::from_slice(&self.from).ok()
    }
}

// === Targets and operations ===

impl From<&Target> for WireTarget {
    fn from(target: &Target) -> Self {
        let Target { user, client, except } = target.clone();
        Self { user, client, except }
    }
}

impl From<WireTarget> for Target {
    fn from(target: WireTarget) -> Self {
        let WireTarget { user, client, except } = target;
        Self { user, client, except }
    }
}

impl Action {
    /// What asks other nodes for this operation. Commands are not asked of everyone: see [`Commands`].
    pub(super) fn of(operation: &Operation) -> Option<Self> {
        Some(match operation {
            Operation::Disconnect(Disconnect { code, reason }) => {
                Self::Disconnect(Reason { code: *code, reason: reason.to_string() })
            }
            Operation::Unsubscribe(channel, Unsubscribed { code, reason }) => {
                Self::Unsubscribe(Unsubscribe {
                    channel: channel.as_ref().map(ToString::to_string).unwrap_or_default(),
                    why: Some(Reason { code: *code, reason: reason.to_string() }),
                })
            }
            Operation::Subscribe(operation) => Self::Subscribe(Subscribe::from(&**operation)),
            Operation::Refresh { expired, expire_at, info } => {
                Self::Refresh(Refresh { expired: *expired, expire_at: *expire_at, info: info.clone() })
            }
            Operation::Send(data) => Self::Send(data.clone()),
            Operation::Commands(_) => return None,
        })
    }
}

impl From<&SubscribeOperation> for Subscribe {
    fn from(operation: &SubscribeOperation) -> Self {
        let SubscribeOperation { channel, grant, recover_since } = operation;
        let SubscribeGrant { expire_at, info, data, overrides } = grant.clone();
        let Overrides { presence, join_leave, force_push_join_leave, force_positioning, force_recovery } =
            overrides;
        let recover_since = recover_since
            .as_ref()
            .map(|since| Position { offset: since.offset, epoch: since.epoch.as_str().to_owned() });
        Self {
            channel: channel.to_string(),
            expire_at,
            info,
            data,
            presence,
            join_leave,
            force_push_join_leave,
            force_positioning,
            force_recovery,
            recover_since,
        }
    }
}

impl From<Subscribe> for SubscribeOperation {
    fn from(wire: Subscribe) -> Self {
        let overrides = Overrides {
            presence: wire.presence,
            join_leave: wire.join_leave,
            force_push_join_leave: wire.force_push_join_leave,
            force_positioning: wire.force_positioning,
            force_recovery: wire.force_recovery,
        };
        let grant = SubscribeGrant { expire_at: wire.expire_at, info: wire.info, data: wire.data, overrides };
        let recover_since = wire
            .recover_since
            .map(|Position { offset, epoch }| StreamPosition { offset, epoch: epoch.as_str().into() });
        Self { channel: ChannelName::from(wire.channel.as_str()), grant, recover_since }
    }
}

impl Action {
    /// The operation on connections that this is; `None` for what is none.
    pub(super) fn into_operation(self) -> Option<Operation> {
        Some(match self {
            Self::Disconnect(Reason { code, reason }) => {
                Operation::Disconnect(Disconnect { code, reason: reason.into() })
            }
            Self::Unsubscribe(Unsubscribe { channel, why }) => {
                let channel = Some(channel.as_str()).filter(|name| !name.is_empty()).map(ChannelName::from);
                let why = match why {
                    Some(Reason { code, reason }) => Unsubscribed { code, reason: reason.into() },
                    None => Unsubscribed::SERVER,
                };
                Operation::Unsubscribe(channel, why)
            }
            Self::Subscribe(subscribe) => Operation::Subscribe(std::sync::Arc::new(subscribe.into())),
            Self::Refresh(Refresh { expired, expire_at, info }) => {
                Operation::Refresh { expired, expire_at, info }
            }
            Self::Send(data) => Operation::Send(data),
            Self::Channels(_) | Self::Commands(_) => return None,
        })
    }
}
