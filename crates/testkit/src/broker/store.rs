//! What one server holds, and the steps that it takes as one: what the scripts of `engine-redis` do. Pure.
//!
//! A stream remembers which server wrote it last, by that server's replication id. A server that finds another id there
//! has been promoted or restarted, so that something acknowledged may be gone, and begins a new epoch before it does
//! anything else. What is still there stays, and offsets go on: so no offset is given out twice in one epoch.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tidewire_engine::{
    History, HistoryFilter, HistoryRetention, NewPublication, PresenceStats, Published, Suppressed,
};
use tidewire_protocol::{ChannelName, ClientInfo, Epoch, Publication, StreamPosition};

use super::Word;

/// How long an idempotency key answers for its publish.
const IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(300);

/// The data of one server. A clone is what a replica would have.
#[derive(Debug, Clone, Default)]
pub(super) struct Store {
    streams: BTreeMap<ChannelName, Stream>,
    keys: BTreeMap<(ChannelName, String), (Duration, Option<StreamPosition>)>,
    present: BTreeMap<ChannelName, BTreeMap<String, Entry>>,
    /// Until when each node counts as alive.
    leases: BTreeMap<u64, Duration>,
}

#[derive(Debug, Clone)]
struct Stream {
    epoch: Epoch,
    top: u64,
    /// The replication id of the server that wrote it last.
    writer: u64,
    version: (u64, String),
    kept: VecDeque<Arc<Publication>>,
    kept_until: Duration,
    until: Duration,
}

#[derive(Debug, Clone)]
struct Entry {
    info: Arc<ClientInfo>,
    until: Duration,
    node: u64,
}

/// When and where a step is taken.
#[derive(Debug, Clone)]
pub(super) struct Moment {
    pub(super) now: Duration,
    pub(super) unix_ms: i64,
    /// The server's replication id.
    pub(super) server: u64,
    /// Taken if a stream begins, or begins anew.
    pub(super) fresh: Epoch,
}

// === impl Store: streams ===

impl Store {
    /// Publishes; what is announced is `None` if nothing was published.
    pub(super) fn publish(
        &mut self,
        at: &Moment,
        channel: &ChannelName,
        new: NewPublication,
    ) -> (Published, Option<Word>) {
        self.expire(at.now);
        let key = (channel.clone(), new.idempotency_key.clone());
        if let Some((_, place)) = self.keys.get(&key) {
            let suppressed = Some(Suppressed::Idempotency);
            return (Published { position: place.clone(), suppressed }, None);
        }
        let mut publication = Publication {
            data: new.data,
            info: new.info,
            tags: new.tags,
            version: new.version,
            time: at.unix_ms,
            ..Default::default()
        };
        let (published, word) = match new.retention {
            None => (Published::default(), Some(Word::Publication(Arc::new(publication), None, None))),
            Some(retention) => {
                let stream = self.open(at, channel);
                let same_life = new.version_epoch.is_empty() || new.version_epoch == stream.version.1;
                if new.version > 0 && new.version <= stream.version.0 && same_life {
                    stream.prolong(at.now, retention.meta_ttl);
                    let position = Some(stream.place());
                    (Published { position, suppressed: Some(Suppressed::Version) }, None)
                } else {
                    if new.version > 0 {
                        stream.version = (new.version, new.version_epoch);
                    }
                    let previous = stream.kept.back().filter(|_| new.delta).cloned();
                    publication.offset = stream.top + 1;
                    let publication = Arc::new(publication);
                    stream.append(at.now, Arc::clone(&publication), retention);
                    let epoch = Some(stream.epoch.clone());
                    let published = Published { position: Some(stream.place()), suppressed: None };
                    (published, Some(Word::Publication(publication, epoch, previous)))
                }
            }
        };
        if !key.1.is_empty() {
            self.keys.insert(key, (at.now + IDEMPOTENCY_WINDOW, published.position.clone()));
        }
        (published, word)
    }

    pub(super) fn history(
        &mut self,
        at: &Moment,
        channel: &ChannelName,
        filter: &HistoryFilter,
        meta_ttl: Duration,
    ) -> History {
        self.expire(at.now);
        let stream = self.open(at, channel);
        stream.prolong(at.now, meta_ttl);
        let asked = |publication: &&Arc<Publication>| match (filter.since, filter.reverse) {
            (None, _) => true,
            (Some(since), false) => publication.offset > since,
            (Some(since), true) => publication.offset < since,
        };
        let limit = filter.limit.unwrap_or(usize::MAX);
        let found = stream.kept.iter().filter(asked).cloned();
        let publications: Vec<_> = match filter.reverse {
            false => found.take(limit).collect(),
            true => found.rev().take(limit).collect(),
        };
        History { publications, top: stream.place() }
    }

    pub(super) fn remove_history(&mut self, channel: &ChannelName) {
        if let Some(stream) = self.streams.get_mut(channel) {
            stream.kept.clear();
        }
    }

    /// The stream is gone without a word: somebody deleted its keys.
    pub(super) fn lose_stream(&mut self, channel: &ChannelName) {
        self.streams.remove(channel);
    }

    /// The stream as every step finds it.
    fn open(&mut self, at: &Moment, channel: &ChannelName) -> &mut Stream {
        let stream = self.streams.entry(channel.clone()).or_insert_with(|| Stream {
            epoch: at.fresh.clone(),
            top: 0,
            writer: at.server,
            version: (0, String::new()),
            kept: VecDeque::new(),
            kept_until: Duration::ZERO,
            until: Duration::ZERO,
        });
        if stream.writer != at.server {
            stream.writer = at.server;
            stream.epoch = at.fresh.clone();
        }
        stream
    }

    /// What ends now is gone.
    fn expire(&mut self, now: Duration) {
        self.keys.retain(|_, (until, _)| *until > now);
        self.streams.retain(|_, stream| {
            if stream.kept_until <= now {
                stream.kept.clear();
            }
            stream.until > now
        });
    }
}

// === impl Stream ===

impl Stream {
    fn place(&self) -> StreamPosition {
        StreamPosition { offset: self.top, epoch: self.epoch.clone() }
    }

    fn append(&mut self, now: Duration, publication: Arc<Publication>, retention: HistoryRetention) {
        self.top = publication.offset;
        self.kept.push_back(publication);
        while self.kept.len() > retention.size.max(1) {
            self.kept.pop_front();
        }
        self.kept_until = now + retention.ttl;
        self.prolong(now, retention.meta_ttl);
    }

    fn prolong(&mut self, now: Duration, meta_ttl: Duration) {
        let kept_until = if self.kept.is_empty() { now } else { self.kept_until };
        self.until = kept_until.max(now + meta_ttl);
    }
}

// === impl Store: presence ===

impl Store {
    pub(super) fn enter(
        &mut self,
        now: Duration,
        node: u64,
        lease: Duration,
        channel: &ChannelName,
        info: Arc<ClientInfo>,
        ttl: Duration,
    ) {
        let entry = Entry { info, until: now + ttl, node };
        self.present.entry(channel.clone()).or_default().insert(entry.info.client.clone(), entry);
        self.prolong(now, node, lease);
    }

    pub(super) fn leave(&mut self, channel: &ChannelName, client: &str) {
        if let Some(entries) = self.present.get_mut(channel) {
            entries.remove(client);
        }
    }

    /// The node is alive for so long from now.
    pub(super) fn prolong(&mut self, now: Duration, node: u64, lease: Duration) {
        self.leases.insert(node, now + lease);
    }

    /// Whose entry lasts, of a node whose lease does. Ordered by client.
    pub(super) fn present(&self, now: Duration, channel: &ChannelName) -> Vec<Arc<ClientInfo>> {
        let lasts = |entry: &&Entry| {
            entry.until > now && self.leases.get(&entry.node).is_some_and(|until| *until > now)
        };
        let entries = self.present.get(channel).into_iter().flat_map(BTreeMap::values);
        entries.filter(lasts).map(|entry| Arc::clone(&entry.info)).collect()
    }

    pub(super) fn presence_stats(&self, now: Duration, channel: &ChannelName) -> PresenceStats {
        let present = self.present(now, channel);
        let users: BTreeSet<&str> = present.iter().map(|info| info.user.as_str()).collect();
        PresenceStats { clients: present.len() as u32, users: users.len() as u32 }
    }

    /// Whether nobody is present anywhere.
    pub(super) fn is_deserted(&self, now: Duration) -> bool {
        self.present.keys().all(|channel| self.present(now, channel).is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(server: u64, fresh: &str) -> Moment {
        Moment { now: Duration::from_secs(1), unix_ms: 0, server, fresh: fresh.into() }
    }

    fn publish(store: &mut Store, at: &Moment, data: &str) -> StreamPosition {
        let hour = Duration::from_secs(3_600);
        let retention = Some(HistoryRetention { size: 10, ttl: hour, meta_ttl: hour });
        let new = NewPublication { data: data.to_owned().into(), retention, ..Default::default() };
        store.publish(at, &"c".into(), new).0.position.unwrap()
    }

    fn read(store: &mut Store, at: &Moment) -> (Vec<String>, StreamPosition) {
        let history = store.history(at, &"c".into(), &HistoryFilter::default(), Duration::from_secs(60));
        let text = |publication: &Arc<Publication>| String::from_utf8_lossy(&publication.data).into_owned();
        (history.publications.iter().map(text).collect(), history.top)
    }

    /// As `engine-redis` does on real servers: see its faults/loss.rs.
    #[test]
    fn inv_d2_a_copy_that_takes_over_never_gives_an_offset_out_twice_in_one_epoch() {
        let mut store = Store::default();
        let first = moment(1, "e1");
        publish(&mut store, &first, "1");
        publish(&mut store, &first, "2");
        let (mut read_first, mut published_first) = (store.clone(), store.clone());
        let lost = publish(&mut store, &first, "lost");
        let (texts, top) = read(&mut read_first, &moment(2, "e2"));
        assert_eq!((texts, top.offset), (vec!["1".to_owned(), "2".to_owned()], 2));
        assert_ne!(top.epoch, lost.epoch, "the position of what was lost would count as current");
        let reused = publish(&mut published_first, &moment(2, "e2"), "another");
        assert_eq!(reused.offset, lost.offset);
        assert_ne!(reused.epoch, lost.epoch);
        // Once is enough: from here on the stream goes on as ever.
        assert_eq!(publish(&mut published_first, &moment(2, "e3"), "next").epoch, reused.epoch);
        assert_eq!(read(&mut published_first, &moment(2, "e4")).0, ["1", "2", "another", "next"]);
    }

    #[test]
    fn inv_p1_entries_of_a_dead_node_are_not_seen_and_come_back_with_it() {
        let second = Duration::from_secs;
        let mut store = Store::default();
        for (node, client) in [(1, "stays"), (2, "goes")] {
            let info = Arc::new(ClientInfo { client: client.into(), ..Default::default() });
            store.enter(second(0), node, second(5), &"c".into(), info, second(3_600));
        }
        store.prolong(second(4), 1, second(5));
        let seen = |store: &Store, at| store.present(second(at), &"c".into()).len();
        assert_eq!((seen(&store, 4), seen(&store, 5)), (2, 1));
        assert_eq!(store.presence_stats(second(5), &"c".into()).clients, 1);
        store.prolong(second(6), 2, second(5));
        assert_eq!(seen(&store, 6), 2);
        assert!(store.is_deserted(second(20)));
    }
}
