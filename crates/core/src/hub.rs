//! Which worker has subscribers of which channel, and whether the engine announces the channel to this node.
//!
//! Workers share nothing else. A channel is subscribed at the engine when its first subscriber comes and left a while
//! after its last has gone, so that a client that comes right back costs nothing.

use std::hash::BuildHasher;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_channel::mpsc;
use futures_util::future::{Shared, join_all};
use futures_util::{FutureExt, StreamExt};
use hashbrown::HashMap;
use parking_lot::{Mutex, RwLock};
use smallvec::SmallVec;
use tidewire_engine::{Announcements, BoxFuture, Clock, Engine, EngineError, History, HistoryFilter};
use tidewire_protocol::{ChannelName, ClientInfo, Epoch, Publication, StreamPosition};

use crate::frame::{Broadcast, Event};
use crate::inbox::{Inbox, Item};
use crate::metrics::Metrics;
use crate::time::{Millis, millis};
use crate::watch::{Heard, Passed, Read, Watch};

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
    /// Kept while somebody follows the channel by position.
    watch: Option<Box<Watch>>,
    /// Kept until somebody does.
    passed: Option<Box<Passed>>,
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
    clock: Arc<dyn Clock>,
    /// Channels whose history must be read, each once until it has been.
    repairs: mpsc::UnboundedSender<ChannelName>,
    repairs_to_do: Mutex<Option<mpsc::UnboundedReceiver<ChannelName>>>,
}

impl Hub {
    pub(crate) fn new(engine: Weak<dyn Engine>, metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let (repairs, to_do) = mpsc::unbounded();
        Self {
            engine,
            hasher: Default::default(),
            shards,
            inboxes: RwLock::default(),
            metrics,
            clock,
            repairs,
            repairs_to_do: Mutex::new(Some(to_do)),
        }
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
            watch: None,
            passed: None,
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
            // What is published while nobody listens is nobody's loss.
            known.watch = None;
            known.passed = None;
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

    /// Hands an event out, unless the channel's repair keeps it. The shard stays locked meanwhile: that keeps the order
    /// between announcements and repairs.
    fn broadcast(&self, broadcast: Broadcast) {
        let mut shard = self.shard(&broadcast.channel).lock();
        let Some(known) = shard.get_mut(&broadcast.channel).filter(|known| !known.workers.is_empty()) else {
            return;
        };
        let broadcast = Arc::new(broadcast);
        let heard = match known.watch.as_deref_mut() {
            Some(watch) => watch.hear(broadcast, self.now()),
            None => {
                if broadcast.offset() > 0 {
                    known.passed.get_or_insert_default().note(&broadcast);
                }
                Heard::Pass(broadcast)
            }
        };
        match heard {
            Heard::Pass(broadcast) => self.hand_out(&known.workers, &broadcast),
            Heard::Taken => {}
            Heard::Gap(channel) => self.repair_soon(channel),
        }
    }

    fn hand_out(&self, workers: &[(u16, u32)], broadcast: &Arc<Broadcast>) {
        let inboxes = self.inboxes.read();
        for inbox in workers.iter().filter_map(|(worker, _)| inboxes.get(usize::from(*worker))) {
            if !inbox.push_broadcast(broadcast) {
                self.metrics.inbox_overflows.increment();
            }
        }
    }

    fn now(&self) -> Millis {
        millis(self.clock.monotonic())
    }
}

// === impl Hub: catching up ===

/// Histories that are read at a time.
const REPAIRS_AT_ONCE: usize = 64;

impl Hub {
    /// Somebody follows the channel from here on.
    pub(crate) fn follow(&self, channel: &ChannelName, position: &StreamPosition, meta_ttl: Duration) {
        if let Some(known) = self.shard(channel).lock().get_mut(channel)
            && known.watch.is_none()
            && !position.epoch.is_empty()
        {
            let passed = known.passed.take();
            let watch = Watch::new(position.clone(), passed.as_deref(), meta_ttl, self.now());
            known.watch = Some(Box::new(watch));
        }
    }

    /// Begins to look for what may be missing of the channels whose position nothing has confirmed for `delay` (0: of
    /// none), and again where that failed. To be called about once a second.
    pub(crate) fn look_after_positions(&self, delay: Millis) {
        let now = self.now();
        let mut due = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            let watched =
                shard.iter_mut().filter_map(|(name, known)| Some((name, known.watch.as_deref_mut()?)));
            due.extend(watched.filter_map(|(name, watch)| watch.take_due(now, delay).then(|| name.clone())));
        }
        // The tables are in random order; the engine is asked in an order that a simulation can repeat.
        due.sort();
        due.into_iter().for_each(|channel| self.repair_soon(channel));
    }

    fn repair_soon(&self, channel: ChannelName) {
        // Without a receiver the node is going down.
        let _ = self.repairs.unbounded_send(channel);
    }

    /// Reads what is missing and hands it out, channel by channel, until dropped. To be driven while the node lives.
    pub(crate) async fn serve_repairs(&self) {
        let to_do = self.repairs_to_do.lock().take();
        if let Some(to_do) = to_do {
            to_do.for_each_concurrent(REPAIRS_AT_ONCE, |channel| self.repair(channel)).await;
        }
    }

    async fn repair(&self, channel: ChannelName) {
        loop {
            let read =
                match self.shard(&channel).lock().get_mut(&channel).and_then(|known| known.watch.as_mut()) {
                    Some(watch) => watch.read(self.now()),
                    None => return,
                };
            let everything = HistoryFilter { since: Some(read.since.offset), limit: None, reverse: false };
            let history = match live(&self.engine) {
                Ok(engine) => engine.history(&channel, everything, read.meta_ttl).await,
                Err(error) => Err(error),
            };
            if let Err(error) = &history {
                tracing::warn!(%error, "what a channel may have missed could not be read");
            }
            if !self.repaired(&channel, &read, history) {
                return;
            }
        }
    }

    /// Hands out what a read has brought; whether another one is needed.
    fn repaired(&self, channel: &ChannelName, read: &Read, history: Result<History, EngineError>) -> bool {
        let mut shard = self.shard(channel).lock();
        let Some(known) = shard.get_mut(channel) else { return false };
        let Some(watch) = known.watch.as_deref_mut() else { return false };
        let Some(repaired) = watch.repaired(channel, read, history, self.now()) else { return false };
        self.metrics.repaired.add(repaired.found as u64);
        if repaired.lost {
            self.metrics.unrepaired.increment();
            self.tell_lost(channel);
        }
        for broadcast in repaired.broadcasts {
            self.hand_out(&known.workers, &broadcast);
        }
        repaired.again
    }

    fn tell_lost(&self, channel: &ChannelName) {
        for inbox in self.inboxes.read().iter() {
            inbox.push(Item::Lost(channel.clone()));
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
        let mut shard = self.shard(channel).lock();
        let Some(known) = shard.get_mut(channel) else { return };
        match known.watch.as_deref_mut().map(Watch::doubt) {
            Some(true) => self.repair_soon(channel.clone()),
            Some(false) => {}
            // Nobody follows by position yet; but somebody may be about to.
            None => self.tell_lost(channel),
        }
    }
}
