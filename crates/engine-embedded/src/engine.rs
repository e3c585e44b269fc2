//! The engine traits over shards.

use std::future::ready;
use std::hash::BuildHasher;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use foldhash::fast::RandomState;
use parking_lot::{Mutex, MutexGuard};
use rand::RngExt;
use rand::distr::Alphabetic;
use tidewire_engine::{
    Announcements, BoxFuture, Broker, Capabilities, Clock, Engine, History, HistoryFilter, NewPublication,
    PresenceStats, PresenceStore, Published, Result,
};
use tidewire_protocol::{ChannelName, ClientInfo, Epoch};

use crate::idempotency::IDEMPOTENCY_BYTES_MAX;
use crate::shard::{Now, PresenceShard, Shard};

/// Locks of each kind. Enough that the threads of one machine seldom meet; an unused shard is a few hundred bytes.
const SHARDS: usize = 64;

/// Streams, keys and presence entries that one [`EmbeddedEngine::sweep`] looks at in each shard: a lock is held for
/// some tens of microseconds.
const SWEEP_WORK_MAX: usize = 256;

/// Letters of an epoch made here: 52^8 possible ones, so a repetition within a channel is out of the question.
const EPOCH_LETTERS: usize = 8;

type Epochs = Box<dyn FnMut() -> String + Send>;

/// The in-memory engine of one node.
///
/// Every operation is done when the call returns; the futures are ready and only carry the result. Whatever runs out at
/// a time is gone at exactly that time, seen or swept.
///
/// Announcements are made while the lock of the channel's shard is held. That makes publish one atomic step and their
/// order the order of offsets, without a queue; in return the sink must be quick and must not call back into the
/// engine (it would wait for itself). Lock order: shard, then epochs, then whatever the sink takes. Presence has locks
/// of its own and never waits for a fan-out.
pub struct EmbeddedEngine {
    clock: Arc<dyn Clock>,
    announcements: OnceLock<Arc<dyn Announcements>>,
    epochs: Mutex<Epochs>,
    // Which shard a channel is in never shows, so random keys do no harm to a reproducible run.
    hasher: RandomState,
    shards: Box<[Mutex<Shard>]>,
    presence: Box<[Mutex<PresenceShard>]>,
}

/// What an engine holds, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Channels with a stream or a subscription of this node.
    pub channels: usize,
    /// Channels with somebody present.
    pub presence_channels: usize,
    /// Idempotency keys remembered.
    pub idempotency_keys: usize,
}

// === impl EmbeddedEngine ===

impl EmbeddedEngine {
    /// An empty engine; epochs come from the randomness of the operating system.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with_epochs(clock, Box::new(random_epoch))
    }

    /// An empty engine that takes the name of each new stream's life from `epochs`: not empty, and never the same twice
    /// for one channel. With a seeded source, a run can be repeated.
    pub fn with_epochs(clock: Arc<dyn Clock>, epochs: Epochs) -> Self {
        let shard = |_| Mutex::new(Shard::new(IDEMPOTENCY_BYTES_MAX / SHARDS));
        Self {
            clock,
            announcements: OnceLock::new(),
            epochs: Mutex::new(epochs),
            hasher: RandomState::default(),
            shards: (0..SHARDS).map(shard).collect(),
            presence: (0..SHARDS).map(|_| Mutex::default()).collect(),
        }
    }

    /// Frees what has run out and nobody has looked at since. To be called about once a second; a call does a bounded
    /// amount of work. Returns whether more is due, for an owner who wants to go on at once.
    pub fn sweep(&self) -> bool {
        let mut more = false;
        for shard in &self.shards {
            let mut shard = shard.lock();
            more |= shard.sweep(self.clock.monotonic(), SWEEP_WORK_MAX);
        }
        for shard in &self.presence {
            let mut shard = shard.lock();
            more |= shard.sweep(self.clock.monotonic(), SWEEP_WORK_MAX);
        }
        more
    }

    /// What is held right now. Takes each lock for a moment.
    pub fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for shard in &self.shards {
            let shard = shard.lock();
            usage.channels += shard.channels();
            usage.idempotency_keys += shard.idempotency_keys();
        }
        usage.presence_channels = self.presence.iter().map(|shard| shard.lock().channels()).sum();
        usage
    }

    fn shard(&self, channel: &ChannelName) -> MutexGuard<'_, Shard> {
        self.shards[self.index(channel)].lock()
    }

    fn presence_shard(&self, channel: &ChannelName) -> MutexGuard<'_, PresenceShard> {
        self.presence[self.index(channel)].lock()
    }

    fn index(&self, channel: &ChannelName) -> usize {
        // The upper half: the tables inside a shard use the lower bits of a hash of the same kind.
        (self.hasher.hash_one(channel.as_str()) >> 32) as usize % SHARDS
    }

    fn new_epoch(&self) -> Epoch {
        Epoch::from((self.epochs.lock())())
    }

    /// Under a shard's lock, so that time within a shard never goes back.
    fn now(&self) -> Now {
        Now { monotonic: self.clock.monotonic(), unix_ms: self.clock.unix_ms() }
    }

    fn publish_now(&self, channel: &ChannelName, new: NewPublication) -> Published {
        let mut shard = self.shard(channel);
        let outcome = shard.publish(channel, new, self.now(), || self.new_epoch());
        if let (Some(made), Some(sink)) = (outcome.announcement, self.announcements.get()) {
            sink.publication(channel, made.publication, made.epoch.as_ref(), made.previous);
        }
        outcome.published
    }

    fn announce(&self, channel: &ChannelName, tell: impl FnOnce(&dyn Announcements)) {
        let shard = self.shard(channel);
        if shard.is_subscribed(channel)
            && let Some(sink) = self.announcements.get()
        {
            tell(&**sink);
        }
    }
}

impl Broker for EmbeddedEngine {
    /// A second sink is ignored.
    fn attach(&self, announcements: Arc<dyn Announcements>) {
        let _ = self.announcements.set(announcements);
    }

    fn subscribe(&self, channels: &[ChannelName]) -> BoxFuture<'_, Result<()>> {
        for channel in channels {
            self.shard(channel).subscribe(channel);
        }
        done(())
    }

    fn unsubscribe(&self, channels: &[ChannelName]) -> BoxFuture<'_, Result<()>> {
        for channel in channels {
            self.shard(channel).unsubscribe(channel);
        }
        done(())
    }

    fn publish(&self, channel: &ChannelName, new: NewPublication) -> BoxFuture<'_, Result<Published>> {
        done(self.publish_now(channel, new))
    }

    fn publish_join(&self, channel: &ChannelName, info: Arc<ClientInfo>) -> BoxFuture<'_, Result<()>> {
        self.announce(channel, |sink| sink.join(channel, info));
        done(())
    }

    fn publish_leave(&self, channel: &ChannelName, info: Arc<ClientInfo>) -> BoxFuture<'_, Result<()>> {
        self.announce(channel, |sink| sink.leave(channel, info));
        done(())
    }

    fn history(
        &self,
        channel: &ChannelName,
        filter: HistoryFilter,
        meta_ttl: Duration,
    ) -> BoxFuture<'_, Result<History>> {
        let mut shard = self.shard(channel);
        done(shard.history(channel, &filter, meta_ttl, self.clock.monotonic(), || self.new_epoch()))
    }

    fn remove_history(&self, channel: &ChannelName) -> BoxFuture<'_, Result<()>> {
        self.shard(channel).remove_history(channel);
        done(())
    }
}

impl PresenceStore for EmbeddedEngine {
    fn presence_add(
        &self,
        channel: &ChannelName,
        info: Arc<ClientInfo>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<()>> {
        let mut shard = self.presence_shard(channel);
        let now = self.clock.monotonic();
        shard.with_set(channel, now, |set| {
            set.add(info, ttl, now);
            // A ttl of zero: the entry is gone already.
            set.expire(now, usize::MAX);
        });
        done(())
    }

    fn presence_remove(&self, channel: &ChannelName, client: &str) -> BoxFuture<'_, Result<()>> {
        let mut shard = self.presence_shard(channel);
        shard.with_set(channel, self.clock.monotonic(), |set| set.remove(client));
        done(())
    }

    fn presence(&self, channel: &ChannelName) -> BoxFuture<'_, Result<Vec<Arc<ClientInfo>>>> {
        let mut shard = self.presence_shard(channel);
        done(shard.with_set(channel, self.clock.monotonic(), |set| set.all()))
    }

    fn presence_stats(&self, channel: &ChannelName) -> BoxFuture<'_, Result<PresenceStats>> {
        let mut shard = self.presence_shard(channel);
        done(shard.with_set(channel, self.clock.monotonic(), |set| set.stats()))
    }
}

impl Engine for EmbeddedEngine {
    fn capabilities(&self) -> Capabilities {
        Capabilities { lossless_announcements: true, shared: false }
    }

    fn ready(&self) -> BoxFuture<'_, Result<()>> {
        done(())
    }
}

fn done<'a, T: Send + 'a>(result: T) -> BoxFuture<'a, Result<T>> {
    Box::pin(ready(Ok(result)))
}

fn random_epoch() -> String {
    rand::rng().sample_iter(Alphabetic).take(EPOCH_LETTERS).map(char::from).collect()
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
