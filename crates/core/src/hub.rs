//! Which worker has subscribers of which channel, and whether the engine announces the channel to this node.
//!
//! Workers share nothing else. A channel is subscribed at the engine when its first subscriber comes and left a while
//! after its last has gone, so that a client that comes right back costs nothing.

use std::hash::BuildHasher;
use std::sync::{Arc, Weak};

use futures_util::FutureExt;
use futures_util::future::{Shared, join_all};
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;
use tidewire_engine::{Announcements, BoxFuture, Engine, EngineError};
use tidewire_protocol::{ChannelName, ClientInfo, Epoch, Publication};

use crate::frame::{Broadcast, Event};
use crate::inbox::{Inbox, Item};
use crate::metrics::Metrics;
use crate::time::Millis;

const SHARDS: usize = 64;
/// How long an unused channel stays subscribed at the engine.
const LINGER_MS: Millis = 1_000;

type Settled = Shared<BoxFuture<'static, Result<(), EngineError>>>;

struct Channel {
    /// Subscriptions per worker that has any.
    workers: SmallVec<[(u16, u32); 2]>,
    /// Resolves when the engine has confirmed what it was last asked for this channel.
    settled: Settled,
    /// The engine was last asked to stop announcing.
    leaving: bool,
    /// Since when nobody is subscribed.
    unused_since: Option<Millis>,
}

type Shard = HashMap<ChannelName, Channel, foldhash::fast::RandomState>;

/// The channels of a node.
pub(crate) struct Hub {
    /// Weak, since the engine holds the hub as the sink of its announcements.
    engine: Weak<dyn Engine>,
    hasher: foldhash::fast::RandomState,
    shards: Vec<Mutex<Shard>>,
    inboxes: RwLock<Vec<Arc<Inbox>>>,
    metrics: Arc<Metrics>,
}

impl Hub {
    pub(crate) fn new(engine: Weak<dyn Engine>, metrics: Arc<Metrics>) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { engine, hasher: Default::default(), shards, inboxes: RwLock::default(), metrics }
    }

    /// Adds a worker; the number it goes by.
    pub(crate) fn add_worker(&self, inbox: Arc<Inbox>) -> u16 {
        let mut inboxes = self.inboxes.write();
        inboxes.push(inbox);
        u16::try_from(inboxes.len() - 1).unwrap_or(u16::MAX)
    }

    /// The inbox of a worker.
    pub(crate) fn inbox(&self, worker: u16) -> Option<Arc<Inbox>> {
        self.inboxes.read().get(worker as usize).cloned()
    }

    /// Counts one subscription of a worker and waits until the engine announces the channel.
    ///
    /// # Errors
    /// If the engine could not subscribe; the subscription is not counted then.
    pub(crate) async fn acquire(&self, worker: u16, channel: &ChannelName) -> Result<(), EngineError> {
        let settled = self.count_in(worker, channel);
        let outcome = settled.await;
        if outcome.is_err() {
            self.release(worker, channel, 0);
        }
        outcome
    }

    fn count_in(&self, worker: u16, channel: &ChannelName) -> Settled {
        let mut shard = self.shard(channel).lock();
        let known = shard.entry(channel.clone()).or_insert_with(|| Channel {
            workers: SmallVec::new(),
            settled: self.ask_to_subscribe(channel, None),
            leaving: false,
            unused_since: None,
        });
        let failed = matches!(known.settled.peek(), Some(Err(_)));
        if known.leaving || failed {
            known.settled = self.ask_to_subscribe(channel, Some(known.settled.clone()));
            known.leaving = false;
        }
        known.unused_since = None;
        match known.workers.iter_mut().find(|(id, _)| *id == worker) {
            Some((_, count)) => *count += 1,
            None => known.workers.push((worker, 1)),
        }
        known.settled.clone()
    }

    /// Takes one subscription of a worker out again.
    pub(crate) fn release(&self, worker: u16, channel: &ChannelName, now: Millis) {
        let mut shard = self.shard(channel).lock();
        let Some(known) = shard.get_mut(channel) else {
            return;
        };
        if let Some(at) = known.workers.iter().position(|(id, _)| *id == worker) {
            known.workers[at].1 -= 1;
            if known.workers[at].1 == 0 {
                known.workers.swap_remove(at);
            }
        }
        if known.workers.is_empty() {
            known.unused_since = Some(now);
        }
    }

    /// Asks the engine to stop announcing the channels that have been unused for a while. To be called about once a
    /// second.
    pub(crate) async fn tick(&self, now: Millis) {
        let mut leaving = Vec::new();
        for shard in &self.shards {
            leaving.extend(self.start_leaving(&mut shard.lock(), now));
        }
        // The tables are in random order; the engine is asked in an order that a simulation can repeat.
        leaving.sort_by(|(one, _), (other, _)| one.cmp(other));
        join_all(leaving.into_iter().map(|(channel, settled)| async move {
            let left = settled.await.is_ok();
            let mut shard = self.shard(&channel).lock();
            match shard.get_mut(&channel) {
                Some(known) if known.leaving && left => drop(shard.remove(&channel)),
                // The engine may go on announcing: it is asked again after a while.
                Some(known) if known.leaving => {
                    known.leaving = false;
                    known.unused_since = Some(now);
                }
                _ => {}
            }
        }))
        .await;
    }

    fn start_leaving(&self, shard: &mut Shard, now: Millis) -> Vec<(ChannelName, Settled)> {
        let unused = |known: &Channel| known.unused_since.is_some_and(|since| now >= since + LINGER_MS);
        let mut started = Vec::new();
        for (channel, known) in shard.iter_mut().filter(|(_, known)| !known.leaving && unused(known)) {
            let (engine, name, before) = (self.engine.clone(), channel.clone(), known.settled.clone());
            known.leaving = true;
            known.settled = async move {
                let _ = before.await;
                live(&engine)?.unsubscribe(&[name]).await
            }
            .boxed()
            .shared();
            started.push((channel.clone(), known.settled.clone()));
        }
        started
    }

    fn ask_to_subscribe(&self, channel: &ChannelName, after: Option<Settled>) -> Settled {
        let (engine, channel) = (self.engine.clone(), channel.clone());
        async move {
            if let Some(before) = after {
                let _ = before.await;
            }
            live(&engine)?.subscribe(&[channel]).await
        }
        .boxed()
        .shared()
    }

    /// Every channel with subscribers here and how many.
    pub(crate) fn channels(&self) -> Vec<(ChannelName, u32)> {
        let mut all = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let used = shard.iter().filter(|(_, known)| !known.workers.is_empty());
            all.extend(used.map(|(name, known)| (name.clone(), known.workers.iter().map(|(_, n)| n).sum())));
        }
        all
    }

    /// How many channels have subscribers here, and how many subscriptions there are.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let mut counts = (0, 0);
        for shard in &self.shards {
            for known in shard.lock().values().filter(|known| !known.workers.is_empty()) {
                counts.0 += 1;
                counts.1 += known.workers.iter().map(|(_, n)| *n as usize).sum::<usize>();
            }
        }
        counts
    }

    fn shard(&self, channel: &str) -> &Mutex<Shard> {
        let hash = self.hasher.hash_one(channel);
        &self.shards[(hash >> 32) as usize % SHARDS]
    }

    fn broadcast(&self, broadcast: Broadcast) {
        let workers: SmallVec<[u16; 8]> = match self.shard(&broadcast.channel).lock().get(&broadcast.channel)
        {
            Some(known) => known.workers.iter().map(|(id, _)| *id).collect(),
            None => return,
        };
        if workers.is_empty() {
            return;
        }
        let broadcast = Arc::new(broadcast);
        for inbox in workers.iter().filter_map(|worker| self.inbox(*worker)) {
            if !inbox.push_broadcast(&broadcast) {
                self.metrics.inbox_overflows.increment();
            }
        }
    }
}

fn live(engine: &Weak<dyn Engine>) -> Result<Arc<dyn Engine>, EngineError> {
    engine.upgrade().ok_or_else(|| EngineError::Unavailable("the node is gone".into()))
}

// === impl Announcements for Hub: from the engine, per channel one call after the other ===

impl Announcements for Hub {
    fn publication(
        &self,
        channel: &ChannelName,
        publication: Arc<Publication>,
        epoch: Option<&Epoch>,
        previous: Option<Arc<Publication>>,
    ) {
        self.metrics.publications.increment();
        let epoch = epoch.cloned().unwrap_or_default();
        let broadcast = Broadcast::new(channel.clone(), Event::Publication(publication), epoch);
        self.broadcast(broadcast.with_previous(previous));
    }

    fn join(&self, channel: &ChannelName, info: Arc<ClientInfo>) {
        self.broadcast(Broadcast::new(channel.clone(), Event::Join(info), Epoch::default()));
    }

    fn leave(&self, channel: &ChannelName, info: Arc<ClientInfo>) {
        self.broadcast(Broadcast::new(channel.clone(), Event::Leave(info), Epoch::default()));
    }

    fn lost(&self, channel: &ChannelName) {
        for inbox in self.inboxes.read().iter() {
            inbox.push(Item::Lost(channel.clone()));
        }
    }
}
