//! The channels under one lock: their streams and whether this node wants their announcements; and, under locks of their
//! own, their presence sets. Pure: takes `now`, the lock is the caller's.

use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tidewire_engine::{History, HistoryFilter, HistoryRetention, NewPublication, Published, Suppressed};
use tidewire_protocol::{ChannelName, Epoch, Publication};

use crate::deadline::Deadlines;
use crate::idempotency::IdempotencyWindow;
use crate::presence::PresenceSet;
use crate::stream::Stream;

/// Some of the channels. One without a stream that nobody on this node is subscribed to has no entry.
#[derive(Debug)]
pub(crate) struct Shard {
    channels: HashMap<ChannelName, Channel, RandomState>,
    deadlines: Deadlines<ChannelName>,
    idempotency: IdempotencyWindow,
}

#[derive(Debug, Default)]
struct Channel {
    subscribed: bool,
    stream: Option<Box<ScheduledStream>>,
}

#[derive(Debug)]
struct ScheduledStream {
    stream: Stream,
    scheduled: Option<Duration>,
}

/// What a publish did and what there is to announce.
#[derive(Debug)]
pub(crate) struct PublishOutcome {
    pub(crate) published: Published,
    pub(crate) announcement: Option<Announcement>,
}

/// The arguments of [`tidewire_engine::Announcements::publication`].
#[derive(Debug)]
pub(crate) struct Announcement {
    pub(crate) publication: Arc<Publication>,
    pub(crate) epoch: Option<Epoch>,
    pub(crate) previous: Option<Arc<Publication>>,
}

/// The time of a step.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    pub(crate) monotonic: Duration,
    pub(crate) unix_ms: i64,
}

/// The presence sets of some of the channels; an empty set has no entry.
#[derive(Debug, Default)]
pub(crate) struct PresenceShard {
    sets: HashMap<ChannelName, ScheduledSet, RandomState>,
    deadlines: Deadlines<ChannelName>,
}

#[derive(Debug, Default)]
struct ScheduledSet {
    set: PresenceSet,
    scheduled: Option<Duration>,
}

// === impl Shard ===

impl Shard {
    pub(crate) fn new(idempotency_bytes_max: usize) -> Self {
        Self {
            channels: HashMap::default(),
            deadlines: Deadlines::default(),
            idempotency: IdempotencyWindow::new(idempotency_bytes_max),
        }
    }

    pub(crate) fn subscribe(&mut self, channel: &ChannelName) {
        self.channels.entry(channel.clone()).or_default().subscribed = true;
    }

    pub(crate) fn unsubscribe(&mut self, channel: &ChannelName) {
        if let Some(entry) = self.channels.get_mut(channel) {
            entry.subscribed = false;
            if entry.stream.is_none() {
                self.channels.remove(channel);
            }
        }
    }

    pub(crate) fn is_subscribed(&self, channel: &ChannelName) -> bool {
        self.channels.get(channel).is_some_and(|entry| entry.subscribed)
    }

    /// The whole publish but the announcement: idempotency, version, next offset, append, trim.
    pub(crate) fn publish(
        &mut self,
        channel: &ChannelName,
        new: NewPublication,
        now: Now,
        new_epoch: impl FnOnce() -> Epoch,
    ) -> PublishOutcome {
        let key = new.idempotency_key.clone();
        if !key.is_empty()
            && let Some(position) = self.idempotency.find(channel, &key, now.monotonic)
        {
            return PublishOutcome::suppressed(Published {
                position,
                suppressed: Some(Suppressed::Idempotency),
            });
        }
        let outcome = match new.retention {
            Some(retention) => self.append(channel, new, &retention, now, new_epoch),
            None => self.deliver(channel, new, now),
        };
        if !key.is_empty() {
            self.idempotency.remember(channel, &key, outcome.published.position.clone(), now.monotonic);
        }
        outcome
    }

    /// Reads a part of the stream, which starts here if there is none.
    pub(crate) fn history(
        &mut self,
        channel: &ChannelName,
        filter: &HistoryFilter,
        meta_ttl: Duration,
        now: Duration,
        new_epoch: impl FnOnce() -> Epoch,
    ) -> History {
        self.with_stream(channel, meta_ttl, now, new_epoch, |stream, _| {
            stream.touch(meta_ttl, now);
            History { publications: stream.read(filter), top: stream.position() }
        })
    }

    pub(crate) fn remove_history(&mut self, channel: &ChannelName) {
        if let Some(scheduled) = self.channels.get_mut(channel).and_then(|entry| entry.stream.as_mut()) {
            scheduled.stream.clear();
        }
    }

    /// Lets go of what has run out: looks at no more than `work_max` streams and as many keys. Returns whether more is
    /// due.
    pub(crate) fn sweep(&mut self, now: Duration, work_max: usize) -> bool {
        for _ in 0..work_max {
            let Some(channel) = self.deadlines.pop_due(now) else {
                break;
            };
            self.expire(&channel, now);
        }
        if self.channels.capacity() > 64 && self.channels.capacity() / 4 > self.channels.len() {
            self.channels.shrink_to_fit();
        }
        self.idempotency.expire(now, work_max);
        self.idempotency.shrink();
        self.idempotency.is_due(now) || self.deadlines.is_due(now)
    }

    pub(crate) fn channels(&self) -> usize {
        self.channels.len()
    }

    pub(crate) fn idempotency_keys(&self) -> usize {
        self.idempotency.len()
    }

    fn append(
        &mut self,
        channel: &ChannelName,
        new: NewPublication,
        retention: &HistoryRetention,
        now: Now,
        new_epoch: impl FnOnce() -> Epoch,
    ) -> PublishOutcome {
        self.with_stream(channel, retention.meta_ttl, now.monotonic, new_epoch, |stream, subscribed| {
            if stream.suppresses(new.version, &new.version_epoch) {
                stream.touch(retention.meta_ttl, now.monotonic);
                return PublishOutcome::suppressed(Published {
                    position: Some(stream.position()),
                    suppressed: Some(Suppressed::Version),
                });
            }
            let delta = new.delta;
            let version_epoch = new.version_epoch.clone();
            let publication = publication(new, now);
            let appended = stream.append(publication, &version_epoch, retention, now.monotonic);
            let announcement = subscribed.then(|| Announcement {
                publication: appended.publication,
                epoch: Some(stream.epoch().clone()),
                previous: appended.previous.filter(|_| delta),
            });
            let published = Published { position: Some(stream.position()), suppressed: None };
            PublishOutcome { published, announcement }
        })
    }

    /// Publishes without history: nothing is kept.
    fn deliver(&self, channel: &ChannelName, new: NewPublication, now: Now) -> PublishOutcome {
        let announcement = self.is_subscribed(channel).then(|| Announcement {
            publication: Arc::new(publication(new, now)),
            epoch: None,
            previous: None,
        });
        PublishOutcome { published: Published::default(), announcement }
    }

    /// Runs a step on the live stream of the channel, a new one if need be, and plans its end. The step is also told
    /// whether the channel is subscribed.
    fn with_stream<R>(
        &mut self,
        channel: &ChannelName,
        meta_ttl: Duration,
        now: Duration,
        new_epoch: impl FnOnce() -> Epoch,
        step: impl FnOnce(&mut Stream, bool) -> R,
    ) -> R {
        let Self { channels, deadlines, .. } = self;
        let Channel { subscribed, stream } = channels.entry(channel.clone()).or_default();
        let scheduled = match stream {
            Some(scheduled) => {
                if !scheduled.stream.expire(now) {
                    scheduled.stream = Stream::new(new_epoch(), meta_ttl, now);
                }
                scheduled
            }
            None => {
                let fresh = Stream::new(new_epoch(), meta_ttl, now);
                stream.insert(Box::new(ScheduledStream { stream: fresh, scheduled: None }))
            }
        };
        let result = step(&mut scheduled.stream, *subscribed);
        deadlines.schedule(channel, &mut scheduled.scheduled, scheduled.stream.deadline());
        result
    }

    fn expire(&mut self, channel: &ChannelName, now: Duration) {
        let Some(entry) = self.channels.get_mut(channel) else {
            return;
        };
        let Some(scheduled) = &mut entry.stream else {
            return;
        };
        scheduled.scheduled = None;
        if scheduled.stream.expire(now) {
            self.deadlines.schedule(channel, &mut scheduled.scheduled, scheduled.stream.deadline());
        } else if entry.subscribed {
            entry.stream = None;
        } else {
            self.channels.remove(channel);
        }
    }
}

// === impl PublishOutcome ===

impl PublishOutcome {
    fn suppressed(published: Published) -> Self {
        Self { published, announcement: None }
    }
}

fn publication(new: NewPublication, now: Now) -> Publication {
    Publication {
        data: new.data,
        info: new.info,
        tags: new.tags,
        version: new.version,
        time: now.unix_ms,
        ..Default::default()
    }
}

// === impl PresenceShard ===

impl PresenceShard {
    /// Runs a step on the live set of the channel; one that stays empty leaves nothing behind.
    pub(crate) fn with_set<R>(
        &mut self,
        channel: &ChannelName,
        now: Duration,
        step: impl FnOnce(&mut PresenceSet) -> R,
    ) -> R {
        let Some(scheduled) = self.sets.get_mut(channel) else {
            let mut set = PresenceSet::default();
            let result = step(&mut set);
            if !set.is_empty() {
                let scheduled =
                    self.sets.entry(channel.clone()).insert(ScheduledSet { set, scheduled: None });
                Self::plan(&mut self.deadlines, channel, scheduled.into_mut());
            }
            return result;
        };
        scheduled.set.expire(now, usize::MAX);
        let result = step(&mut scheduled.set);
        if scheduled.set.is_empty() {
            self.deadlines.cancel(channel, scheduled.scheduled);
            self.sets.remove(channel);
        } else {
            Self::plan(&mut self.deadlines, channel, scheduled);
        }
        result
    }

    /// Lets go of at most `work_max` entries that have run out. Returns whether more is due.
    pub(crate) fn sweep(&mut self, now: Duration, work_max: usize) -> bool {
        let mut left = work_max;
        while left > 0 {
            let Some(channel) = self.deadlines.pop_due(now) else {
                break;
            };
            left -= 1;
            let Some(scheduled) = self.sets.get_mut(&channel) else {
                continue;
            };
            scheduled.scheduled = None;
            left = scheduled.set.expire(now, left);
            if scheduled.set.is_empty() {
                self.sets.remove(&channel);
            } else {
                Self::plan(&mut self.deadlines, &channel, scheduled);
            }
        }
        if self.sets.capacity() > 64 && self.sets.capacity() / 4 > self.sets.len() {
            self.sets.shrink_to_fit();
        }
        self.deadlines.is_due(now)
    }

    pub(crate) fn channels(&self) -> usize {
        self.sets.len()
    }

    fn plan(deadlines: &mut Deadlines<ChannelName>, channel: &ChannelName, scheduled: &mut ScheduledSet) {
        if let Some(at) = scheduled.set.deadline() {
            deadlines.schedule(channel, &mut scheduled.scheduled, at);
        }
    }
}
