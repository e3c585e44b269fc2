//! Publishing, history and announcements.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewire_protocol::{ChannelName, ClientInfo, Epoch, Publication, StreamPosition};

use crate::{BoxFuture, Result};

/// What an engine promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Announcements of a subscribed channel cannot get lost between engine and node, so positions need no periodic check.
    pub lossless_announcements: bool,
    /// Several nodes can share this engine.
    pub shared: bool,
}

/// How much of a channel's stream is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryRetention {
    /// Publications kept, the newest; at least 1.
    pub size: usize,
    /// How long after the last publication the stream is kept.
    pub ttl: Duration,
    /// How long offset and epoch outlive the last use of the stream: a publish (one suppressed by its version too) or a
    /// read. The last use decides; but they never end before the publications.
    pub meta_ttl: Duration,
}

/// A publication about to be made.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct NewPublication {
    /// The payload.
    pub data: Bytes,
    /// Who publishes, if a client does.
    pub info: Option<ClientInfo>,
    /// For tag filters.
    pub tags: BTreeMap<String, String>,
    /// Keep in history and number it; `None` only delivers.
    pub retention: Option<HistoryRetention>,
    /// The same key within five minutes of its first use in the same channel publishes once: a repetition answers with
    /// the first one's position, whatever it carries, and prolongs nothing. Empty: no key. Looked at before `version`.
    pub idempotency_key: String,
    /// With history only: not above the stored version (and `version_epoch` empty or the stored one) publishes nothing. 0: none.
    pub version: u64,
    /// The life of the version counter.
    pub version_epoch: String,
    /// Receivers that negotiated deltas get a patch against the previous publication of the stream.
    pub delta: bool,
}

/// Why a publish published nothing although it succeeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Suppressed {
    /// The idempotency key was seen before.
    Idempotency,
    /// The version is not newer.
    Version,
}

/// What became of a publish.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Published {
    /// Where the publication stands (the earlier one's place, or the stream's, if suppressed). `None` without history.
    pub position: Option<StreamPosition>,
    /// Set if nothing was published.
    pub suppressed: Option<Suppressed>,
}

/// Which part of a stream is read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HistoryFilter {
    /// Only publications after this position (before it with `reverse`). Its epoch is not compared: the caller sees the
    /// top's epoch in [`History`] and decides.
    pub since: Option<u64>,
    /// At most this many; `Some(0)` reads the position only; `None` reads all.
    pub limit: Option<usize>,
    /// From the newest to the oldest.
    pub reverse: bool,
}

/// A part of a stream and where the stream ends, read in one atomic step.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct History {
    /// In the order asked for. Trimmed history shows as a first offset above `since + 1`.
    pub publications: Vec<Arc<Publication>>,
    /// The newest position of the stream.
    pub top: StreamPosition,
}

/// What an engine tells its node, on any thread. Calls for one channel come one after the other, in offset order.
///
/// A sink is quick, never waits and never calls the engine: an engine may hold the channel's lock meanwhile, since that
/// is what keeps the order.
pub trait Announcements: Send + Sync + 'static {
    /// A publication was made in a channel this node has subscribed. Without history `epoch` is `None` and the offset 0.
    /// `previous` is the stream's entry before it, the base of a delta: `None` if the publisher asked for no delta
    /// ([`NewPublication::delta`]), if there is no history, or if that entry is no longer kept.
    fn publication(
        &self,
        channel: &ChannelName,
        publication: Arc<Publication>,
        epoch: Option<&Epoch>,
        previous: Option<Arc<Publication>>,
    );

    /// A client joined.
    fn join(&self, channel: &ChannelName, info: Arc<ClientInfo>);

    /// A client left.
    fn leave(&self, channel: &ChannelName, info: Arc<ClientInfo>);

    /// Announcements of this channel may have been lost: its subscribers must check their positions.
    fn lost(&self, channel: &ChannelName);
}

/// Publishes and keeps streams.
///
/// Publish is one atomic step: idempotency, version, next offset, append, trim, announcement. Offsets start at 1 and
/// rise by 1 within an epoch. The first access to an unused channel with history creates its stream: offset 0, new epoch.
pub trait Broker: Send + Sync + 'static {
    /// Names the sink for announcements. Called once, before anything else; a second sink is ignored.
    fn attach(&self, announcements: Arc<dyn Announcements>);

    /// Starts announcing these channels to this node. When it returns, every later publish will be announced.
    fn subscribe(&self, channels: &[ChannelName]) -> BoxFuture<'_, Result<()>>;

    /// Stops announcing these channels.
    fn unsubscribe(&self, channels: &[ChannelName]) -> BoxFuture<'_, Result<()>>;

    /// Publishes. See the trait for what is atomic.
    fn publish(&self, channel: &ChannelName, new: NewPublication) -> BoxFuture<'_, Result<Published>>;

    /// Announces a join; not kept.
    fn publish_join(&self, channel: &ChannelName, info: Arc<ClientInfo>) -> BoxFuture<'_, Result<()>>;

    /// Announces a leave; not kept.
    fn publish_leave(&self, channel: &ChannelName, info: Arc<ClientInfo>) -> BoxFuture<'_, Result<()>>;

    /// Reads a part of the stream and its top in one step. `meta_ttl` refreshes how long offset and epoch are kept.
    fn history(
        &self,
        channel: &ChannelName,
        filter: HistoryFilter,
        meta_ttl: Duration,
    ) -> BoxFuture<'_, Result<History>>;

    /// Deletes the publications; offset, epoch and version stay. Creates nothing and prolongs nothing.
    fn remove_history(&self, channel: &ChannelName) -> BoxFuture<'_, Result<()>>;
}
