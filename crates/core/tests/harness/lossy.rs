//! An engine between which and the node publications can get lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidewire_engine::{
    Announcements, BoxFuture, Broker, Capabilities, Engine, EngineError, History, HistoryFilter,
    NewPublication, PresenceStats, PresenceStore, Published, Result,
};
use tidewire_engine_embedded::EmbeddedEngine;
use tidewire_protocol::{ChannelName, ClientInfo, Epoch, Publication};

/// The embedded engine behind a link.
pub struct LossyEngine {
    inner: EmbeddedEngine,
    wire: Arc<Wire>,
}

/// What a test does to the link, and sees of it.
#[derive(Default)]
pub struct Wire {
    /// Publications are dropped on their way to the node.
    pub muffled: AtomicBool,
    /// Nobody answers who enters presence, though it is done.
    pub presence_unanswered: AtomicBool,
    /// Channels the node has subscribed (`+`) and left (`-`).
    pub interest: Mutex<Vec<String>>,
}

struct Link {
    node: Arc<dyn Announcements>,
    wire: Arc<Wire>,
}

impl LossyEngine {
    pub fn new(inner: EmbeddedEngine) -> (Self, Arc<Wire>) {
        let wire = Arc::<Wire>::default();
        (Self { inner, wire: Arc::clone(&wire) }, wire)
    }

    fn note(&self, what: &str, channels: &[ChannelName]) {
        let mut interest = self.wire.interest.lock().unwrap();
        interest.extend(channels.iter().map(|channel| format!("{what}{channel}")));
    }
}

impl Announcements for Link {
    fn publication(
        &self,
        channel: &ChannelName,
        publication: Arc<Publication>,
        epoch: Option<&Epoch>,
        previous: Option<Arc<Publication>>,
    ) {
        if !self.wire.muffled.load(Ordering::Relaxed) {
            self.node.publication(channel, publication, epoch, previous);
        }
    }

    fn join(&self, channel: &ChannelName, info: Arc<ClientInfo>) {
        self.node.join(channel, info);
    }

    fn leave(&self, channel: &ChannelName, info: Arc<ClientInfo>) {
        self.node.leave(channel, info);
    }

    fn lost(&self, channel: &ChannelName) {
        self.node.lost(channel);
    }
}

impl Engine for LossyEngine {
    fn capabilities(&self) -> Capabilities {
        Capabilities { lossless_announcements: false, ..self.inner.capabilities() }
    }

    fn ready(&self) -> BoxFuture<'_, Result<()>> {
        self.inner.ready()
    }
}

impl Broker for LossyEngine {
    fn attach(&self, node: Arc<dyn Announcements>) {
        self.inner.attach(Arc::new(Link { node, wire: Arc::clone(&self.wire) }));
    }

    fn subscribe(&self, channels: &[ChannelName]) -> BoxFuture<'_, Result<()>> {
        self.note("+", channels);
        self.inner.subscribe(channels)
    }

    fn unsubscribe(&self, channels: &[ChannelName]) -> BoxFuture<'_, Result<()>> {
        self.note("-", channels);
        self.inner.unsubscribe(channels)
    }

    fn publish(&self, channel: &ChannelName, new: NewPublication) -> BoxFuture<'_, Result<Published>> {
        self.inner.publish(channel, new)
    }

    fn publish_join(&self, channel: &ChannelName, info: Arc<ClientInfo>) -> BoxFuture<'_, Result<()>> {
        self.inner.publish_join(channel, info)
    }

    fn publish_leave(&self, channel: &ChannelName, info: Arc<ClientInfo>) -> BoxFuture<'_, Result<()>> {
        self.inner.publish_leave(channel, info)
    }

    fn history(
        &self,
        channel: &ChannelName,
        filter: HistoryFilter,
        meta_ttl: Duration,
    ) -> BoxFuture<'_, Result<History>> {
        self.inner.history(channel, filter, meta_ttl)
    }

    fn remove_history(&self, channel: &ChannelName) -> BoxFuture<'_, Result<()>> {
        self.inner.remove_history(channel)
    }
}

impl PresenceStore for LossyEngine {
    fn presence_add(
        &self,
        channel: &ChannelName,
        info: Arc<ClientInfo>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<()>> {
        let added = self.inner.presence_add(channel, info, ttl);
        if self.wire.presence_unanswered.load(Ordering::Relaxed) {
            let unanswered = EngineError::Unavailable("no answer".into());
            return Box::pin(async move { added.await.and(Err(unanswered)) });
        }
        added
    }

    fn presence_forget(&self, channel: &ChannelName, client: &str) {
        let removed = self.inner.presence_remove(channel, client);
        futures_util::FutureExt::now_or_never(removed).unwrap().unwrap();
    }

    fn presence_remove(&self, channel: &ChannelName, client: &str) -> BoxFuture<'_, Result<()>> {
        self.inner.presence_remove(channel, client)
    }

    fn presence(&self, channel: &ChannelName) -> BoxFuture<'_, Result<Vec<Arc<ClientInfo>>>> {
        self.inner.presence(channel)
    }

    fn presence_stats(&self, channel: &ChannelName) -> BoxFuture<'_, Result<PresenceStats>> {
        self.inner.presence_stats(channel)
    }
}
