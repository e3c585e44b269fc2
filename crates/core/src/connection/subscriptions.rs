//! The subscriptions of one connection: what each of them is doing.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use tidewire_protocol::{ChannelName, StreamPosition, Unsubscribed};

use crate::delta::DeltaState;
use crate::frame::Broadcast;
use crate::inbox::Ack;
use crate::local::Seat;
use crate::options::ChannelOptions;
use crate::recovery::Resume;
use crate::rules::{Features, Wishes};
use crate::task::SubKey;

/// One channel of one connection, from the moment its name is reserved to the moment its traces are gone.
pub(crate) struct Subscription {
    pub(crate) channel: ChannelName,
    pub(crate) attempt: u32,
    pub(crate) stage: SubStage,
    pub(crate) rules: Arc<ChannelOptions>,
    pub(crate) features: Features,
    /// Made by the server: its failures are the connection's.
    pub(crate) server_side: bool,
    /// Named by the connect token, so a new token must name it too.
    pub(crate) from_token: bool,
    /// A task about this subscription is under way; leaving waits for it, so that the engine sees them in order.
    pub(crate) busy: bool,
    pub(crate) delta: DeltaState,
    /// Where the subscriber stands, if positioned.
    pub(crate) position: StreamPosition,
    /// Unix seconds; 0: never.
    pub(crate) expire_at: i64,
    /// Who the client is in this channel.
    pub(crate) info: Bytes,
}

/// What a subscription is doing.
pub(crate) enum SubStage {
    /// Being judged. Nothing outside the connection knows of it.
    Authorizing(Box<Attempt>),
    /// Seated; publications gather while the engine is asked.
    Joining { seat: Seat, attempt: Box<Attempt>, gathered: Vec<Arc<Broadcast>>, gathered_bytes: usize },
    /// Following.
    Live { seat: Seat },
    /// Given up; leaves when the task under way is done.
    LeavingWhenIdle(Leaving),
    /// Presence, leave and interest are being taken back.
    Leaving(Leaving),
}

/// What an attempt to subscribe was asked for, and by whom.
pub(crate) struct Attempt {
    pub(crate) origin: Origin,
    pub(crate) wishes: Wishes,
    pub(crate) since: Option<StreamPosition>,
    pub(crate) resume: Resume,
    pub(crate) reject_unrecovered: bool,
    /// The client asks for deltas.
    pub(crate) wants_delta: bool,
    /// Custom data of the result.
    pub(crate) data: Bytes,
    pub(crate) expires_in: Option<u32>,
    /// What the engine said, kept while the other subscriptions of a connect are not there yet.
    pub(crate) history: Option<tidewire_engine::History>,
    /// Too much was published meanwhile to keep it: what gathered is incomplete.
    pub(crate) overflowed: bool,
    /// The server API ended the subscription before it was live.
    pub(crate) taken_away: Option<Unsubscribed>,
}

/// Who waits for the outcome of an attempt.
pub(crate) enum Origin {
    /// A subscribe command with this id.
    Command(u32),
    /// The connect command, together with its other server-side subscriptions.
    Connect,
    /// The server API, which is told when this is dropped.
    Api(#[allow(dead_code, reason = "held for its drop")] Ack),
}

/// Who waits until a subscription is gone, and whether others ever heard of it.
pub(crate) struct Leaving {
    /// An unsubscribe command with this id.
    pub(crate) reply_to: Option<u32>,
    /// Its Join was published.
    pub(crate) announced: bool,
}

impl Subscription {
    /// Whether the client counts as subscribed: for permissions and for 105.
    pub(crate) fn is_live(&self) -> bool {
        matches!(self.stage, SubStage::Live { .. })
    }

    pub(crate) fn is_leaving(&self) -> bool {
        matches!(self.stage, SubStage::Leaving(_) | SubStage::LeavingWhenIdle(_))
    }

    pub(crate) fn is_starting(&self) -> bool {
        matches!(self.stage, SubStage::Authorizing(_) | SubStage::Joining { .. })
    }

    /// Whether the periodic tick has anything to do for it.
    pub(crate) fn needs_tending(&self) -> bool {
        self.features.presence || self.expire_at > 0
    }
}

/// The subscriptions of a connection. Indexes are stable; most connections have few, so searching is a short scan.
#[derive(Default)]
pub(crate) struct Subscriptions {
    slots: SmallVec<[Option<Box<Subscription>>; 2]>,
    attempts: u32,
}

impl Subscriptions {
    /// A number no attempt of this connection had before.
    pub(crate) fn next_attempt(&mut self) -> u32 {
        self.attempts = self.attempts.wrapping_add(1);
        self.attempts
    }

    pub(crate) fn insert(&mut self, subscription: Subscription) -> SubKey {
        let attempt = subscription.attempt;
        let index = self.slots.iter().position(Option::is_none).unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[index] = Some(Box::new(subscription));
        SubKey { index: index as u32, attempt }
    }

    /// The subscription of an attempt, unless it is gone.
    pub(crate) fn of(&mut self, key: SubKey) -> Option<&mut Subscription> {
        self.at(key.index).filter(|sub| sub.attempt == key.attempt)
    }

    pub(crate) fn at(&mut self, index: u32) -> Option<&mut Subscription> {
        self.slots.get_mut(index as usize)?.as_deref_mut()
    }

    pub(crate) fn find(&self, channel: &str) -> Option<(SubKey, &Subscription)> {
        self.iter().find(|(_, sub)| *sub.channel == *channel)
    }

    pub(crate) fn is_live(&self, channel: &str) -> bool {
        self.find(channel).is_some_and(|(_, sub)| sub.is_live())
    }

    pub(crate) fn remove(&mut self, key: SubKey) -> Option<Subscription> {
        self.of(key)?;
        let removed = self.slots[key.index as usize].take();
        while self.slots.last().is_some_and(Option::is_none) {
            self.slots.pop();
        }
        if self.slots.is_empty() {
            self.slots = SmallVec::new();
        }
        removed.map(|sub| *sub)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SubKey, &Subscription)> {
        self.slots.iter().enumerate().filter_map(|(index, sub)| {
            let sub = sub.as_deref()?;
            Some((SubKey { index: index as u32, attempt: sub.attempt }, sub))
        })
    }

    pub(crate) fn keys(&self) -> Vec<SubKey> {
        self.iter().map(|(key, _)| key).collect()
    }

    /// Subscriptions that count against the channel limit.
    pub(crate) fn len(&self) -> usize {
        self.iter().filter(|(_, sub)| !sub.is_leaving()).count()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }
}
