//! The publishers' side of a run, and which publication stands where.
//!
//! A place becomes known by the first who tells, be it an acknowledgement or a delivery; whoever tells otherwise later
//! is a violation. So all subscribers are held to one order without their histories being kept.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::report::{Kind, Report, Violation};
use crate::{PayloadId, Position};

/// Whom a publication is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// Every subscriber of its channel.
    Channel,
    /// These subscribers, by the number that their subscription was given.
    Only(Arc<BTreeSet<u32>>),
}

/// Stands for a channel of a [`Ledger`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelKey(u32);

/// Stands for an epoch of one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EpochKey(u32);

/// What was published, and where it stands.
#[derive(Debug, Default)]
pub struct Ledger {
    by_name: HashMap<Arc<str>, ChannelKey>,
    channels: Vec<Channel>,
}

#[derive(Debug)]
struct Channel {
    name: Arc<str>,
    published: HashMap<PayloadId, Published>,
    publishers: HashMap<u32, Publisher>,
    streams: Vec<Stream>,
}

#[derive(Debug)]
struct Published {
    audience: Audience,
    acknowledged: bool,
    place: Option<(EpochKey, u64)>,
    // What its publisher had been answered when it was sent: this one comes after.
    after: Publisher,
}

/// The latest answers of one publisher in one channel.
#[derive(Debug, Clone, Copy, Default)]
struct Publisher {
    sequence: Option<u64>,
    place: Option<(EpochKey, u64)>,
}

#[derive(Debug)]
struct Stream {
    epoch: Arc<str>,
    ids: BTreeMap<u64, PayloadId>,
    acknowledged_top: u64,
}

/// Whether a publication may reach a subscriber.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Intended,
    ForOthers,
    OtherChannel,
    Unknown,
}

// === impl Ledger ===

impl Ledger {
    /// The key of a channel; a new one if the name is new.
    pub fn channel(&mut self, name: &str) -> ChannelKey {
        if let Some(key) = self.by_name.get(name) {
            return *key;
        }
        let (key, name) = (ChannelKey(self.channels.len() as u32), Arc::<str>::from(name));
        self.by_name.insert(name.clone(), key);
        self.channels.push(Channel {
            name,
            published: HashMap::new(),
            publishers: HashMap::new(),
            streams: Vec::new(),
        });
        key
    }

    /// Notes a publish before it is sent. The same again is a retry.
    pub fn published(&mut self, channel: ChannelKey, id: PayloadId, audience: Audience, report: &mut Report) {
        let at = self.at_mut(channel);
        let after = at.publishers.get(&id.publisher).copied().unwrap_or_default();
        at.published.entry(id).or_insert_with(|| {
            report.published += 1;
            Published { audience, acknowledged: false, place: None, after }
        });
    }

    /// Notes what a publish was answered: its place, or `None` without history. An answer that comes after its publisher
    /// gave up and went on is not noted.
    pub fn acknowledged(
        &mut self,
        channel: ChannelKey,
        id: PayloadId,
        position: Option<Position>,
        report: &mut Report,
    ) {
        report.acknowledged += 1;
        let at = self.at_mut(channel);
        if let Some(published) = at.published.get_mut(&id) {
            published.acknowledged = true;
        }
        let publisher = at.publishers.entry(id.publisher).or_default();
        publisher.sequence = publisher.sequence.max(Some(id.sequence));
        let Some(position) = position else { return };
        let epoch = self.epoch(channel, &position.epoch);
        self.place(channel, epoch, position.offset, id, None, report);
        let at = self.at_mut(channel);
        let stream = &mut at.streams[epoch.0 as usize];
        stream.acknowledged_top = stream.acknowledged_top.max(position.offset);
        let publisher = at.publishers.entry(id.publisher).or_default();
        if publisher.place.is_none_or(|(known, offset)| known != epoch || offset < position.offset) {
            publisher.place = Some((epoch, position.offset));
        }
    }

    pub(crate) fn epoch(&mut self, channel: ChannelKey, epoch: &Arc<str>) -> EpochKey {
        let streams = &mut self.at_mut(channel).streams;
        // The newest first: a channel has few epochs and mostly the last one is meant.
        let known = streams.iter().rposition(|stream| stream.epoch == *epoch);
        let index = known.unwrap_or_else(|| {
            streams.push(Stream { epoch: epoch.clone(), ids: BTreeMap::new(), acknowledged_top: 0 });
            streams.len() - 1
        });
        EpochKey(index as u32)
    }

    /// Notes that the publication stands there. If that contradicts what is known, reports it.
    pub(crate) fn place(
        &mut self,
        channel: ChannelKey,
        epoch: EpochKey,
        offset: u64,
        id: PayloadId,
        subscriber: Option<u32>,
        report: &mut Report,
    ) {
        let at = self.at_mut(channel);
        let known = *at.streams[epoch.0 as usize].ids.entry(offset).or_insert(id);
        let mut contradiction = (known != id)
            .then_some((Kind::Reordered, "another publication stands at this offset for somebody else"));
        if let Some(published) = at.published.get_mut(&id) {
            match published.place {
                // At a free offset it is a second entry; at a taken one two have changed places.
                Some((known, elsewhere)) if known == epoch => {
                    let twice = (Kind::Duplicated, "stands at two offsets of one epoch");
                    contradiction = contradiction.or((elsewhere != offset).then_some(twice));
                }
                _ => {
                    published.place = Some((epoch, offset));
                    let too_early =
                        published.after.place.is_some_and(|(known, floor)| known == epoch && offset < floor);
                    let why = (Kind::Reordered, "stands before what its publisher had been answered already");
                    contradiction = contradiction.or(too_early.then_some(why));
                }
            }
        }
        if let Some((kind, why)) = contradiction {
            let violation = self.violation(kind, channel, Some((epoch, offset)), Some(id), why);
            report.violation(Violation { subscriber, ..violation });
        }
    }

    /// The highest sequence that the publication's publisher had been answered when it was sent.
    pub(crate) fn settled_before(&self, channel: ChannelKey, id: PayloadId) -> Option<u64> {
        self.at(channel).published.get(&id)?.after.sequence
    }

    pub(crate) fn is_acknowledged(&self, channel: ChannelKey, id: PayloadId) -> bool {
        self.at(channel).published.get(&id).is_some_and(|published| published.acknowledged)
    }

    /// What the subscriber has to do with the publication.
    pub(crate) fn standing(&self, channel: ChannelKey, id: PayloadId, subscriber: u32) -> Standing {
        match self.at(channel).published.get(&id) {
            Some(published) if published.audience.contains(subscriber) => Standing::Intended,
            Some(_) => Standing::ForOthers,
            None if self.channels.iter().any(|other| other.published.contains_key(&id)) => {
                Standing::OtherChannel
            }
            None => Standing::Unknown,
        }
    }

    /// The publication at a place, if anybody told.
    pub(crate) fn id_at(&self, channel: ChannelKey, epoch: EpochKey, offset: u64) -> Option<PayloadId> {
        self.at(channel).streams[epoch.0 as usize].ids.get(&offset).copied()
    }

    /// The publications between two places, both included, as far as anybody told.
    pub(crate) fn ids_between(
        &self,
        channel: ChannelKey,
        epoch: EpochKey,
        first: u64,
        last: u64,
    ) -> impl Iterator<Item = (u64, PayloadId)> {
        let ids = &self.at(channel).streams[epoch.0 as usize].ids;
        ids.range(first..=last).map(|(offset, id)| (*offset, *id))
    }

    pub(crate) fn acknowledged_top(&self, channel: ChannelKey, epoch: EpochKey) -> u64 {
        self.at(channel).streams[epoch.0 as usize].acknowledged_top
    }

    /// A violation about one publication, to be completed by the caller.
    pub(crate) fn violation(
        &self,
        kind: Kind,
        channel: ChannelKey,
        place: Option<(EpochKey, u64)>,
        id: Option<PayloadId>,
        why: &'static str,
    ) -> Violation {
        let at = self.at(channel);
        let epoch =
            place.map_or_else(|| Arc::from(""), |(epoch, _)| at.streams[epoch.0 as usize].epoch.clone());
        let offset = place.map_or(0, |(_, offset)| offset);
        Violation {
            kind,
            channel: at.name.clone(),
            subscriber: None,
            epoch,
            offset,
            id,
            publications: 1,
            why,
        }
    }

    fn at(&self, channel: ChannelKey) -> &Channel {
        &self.channels[channel.0 as usize]
    }

    fn at_mut(&mut self, channel: ChannelKey) -> &mut Channel {
        &mut self.channels[channel.0 as usize]
    }
}

// === impl Audience ===

impl Audience {
    fn contains(&self, subscriber: u32) -> bool {
        match self {
            Self::Channel => true,
            Self::Only(subscribers) => subscribers.contains(&subscriber),
        }
    }
}
