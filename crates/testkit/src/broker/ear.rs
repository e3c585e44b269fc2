//! What one node is told by its server: which channels it wants, what is confirmed, and what is on its way.
//!
//! One connection carries all of it. Per channel words keep their order; between channels they may not. When the
//! connection is lost, what was on its way is lost with it; every channel that was announced is told to be lost once it
//! is announced again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_channel::oneshot;
use tidewire_engine::{Announcements, BusReceiver, Result};
use tidewire_protocol::{ChannelName, ClientInfo, Epoch, Publication};
use uuid::Uuid;

/// Where messages from node to node go; no channel of clients is called so.
pub(super) const BUS: &str = "\0bus";

/// One word from a server.
#[derive(Debug, Clone)]
pub(super) enum Word {
    Publication(Arc<Publication>, Option<Epoch>, Option<Arc<Publication>>),
    Join(Arc<ClientInfo>),
    Leave(Arc<ClientInfo>),
    /// Announced again after a time it was not.
    Lost,
    /// From another node.
    Message(Bytes),
}

/// Who waits for a confirmation.
pub(super) type Waiter = oneshot::Sender<Result<()>>;

#[derive(Default)]
struct Interest {
    wanted: bool,
    /// The server announces it.
    confirmed: bool,
    /// A confirmation is on its way.
    asked: bool,
    owes_lost: bool,
    waiters: Vec<Waiter>,
}

#[derive(Default)]
struct Line {
    waiting: VecDeque<(Duration, Word)>,
    last_at: Duration,
    silent_until: Duration,
}

/// The receiving end of one node.
#[derive(Default)]
pub(super) struct Ear {
    pub(super) sink: Option<Arc<dyn Announcements>>,
    pub(super) bus: Option<(Uuid, Arc<dyn BusReceiver>)>,
    pub(super) up: bool,
    /// How many connections there were.
    pub(super) generation: u64,
    /// The node's process stands: what arrives stays in its socket.
    pub(super) stands: bool,
    interests: BTreeMap<ChannelName, Interest>,
    lines: BTreeMap<ChannelName, Line>,
}

// === impl Ear: which channels ===

impl Ear {
    /// One whose connection is up.
    pub(super) fn new() -> Self {
        Self { up: true, ..Default::default() }
    }

    /// Notes a wish. Returns whether the server must be asked.
    pub(super) fn wish(&mut self, channel: &ChannelName, wanted: bool, waiter: Waiter) -> bool {
        let interest = self.interests.entry(channel.clone()).or_default();
        interest.wanted = wanted;
        let settled = !interest.asked && interest.confirmed == wanted;
        if settled && (self.up || !wanted) {
            // Whoever asked may have gone.
            let _ = waiter.send(Ok(()));
            if !wanted {
                self.interests.remove(channel);
            }
            return false;
        }
        interest.waiters.push(waiter);
        let ask = self.up && !interest.asked;
        interest.asked |= ask;
        ask
    }

    /// The server has done what it was asked for a channel. Returns whether it must be asked again.
    pub(super) fn confirmed(&mut self, channel: &ChannelName, subscribed: bool, now: Duration) -> bool {
        let Some(interest) = self.interests.get_mut(channel) else { return false };
        interest.confirmed = subscribed;
        if interest.wanted != subscribed {
            return true;
        }
        interest.asked = false;
        for waiter in interest.waiters.drain(..) {
            let _ = waiter.send(Ok(()));
        }
        if !subscribed {
            self.interests.remove(channel);
        } else if std::mem::take(&mut interest.owes_lost) {
            self.put(channel, Word::Lost, now);
        }
        false
    }

    /// What the server is asked for a channel right now.
    pub(super) fn wants(&self, channel: &ChannelName) -> bool {
        self.interests.get(channel).is_some_and(|interest| interest.wanted)
    }

    /// Whether the server announces the channel.
    pub(super) fn hears(&self, channel: &ChannelName) -> bool {
        self.up && self.interests.get(channel).is_some_and(|interest| interest.confirmed)
    }

    /// Channels that are wanted.
    pub(super) fn wanted(&self) -> Vec<ChannelName> {
        let wanted = self.interests.iter().filter(|(_, interest)| interest.wanted);
        wanted.map(|(channel, _)| channel.clone()).collect()
    }

    /// The connection is up. Returns the channels to ask for.
    pub(super) fn connected(&mut self) -> Vec<ChannelName> {
        self.up = true;
        self.generation += 1;
        for interest in self.interests.values_mut() {
            interest.asked = true;
        }
        self.interests.keys().cloned().collect()
    }

    /// The connection is gone, and what was on its way with it.
    pub(super) fn disconnected(&mut self, now: Duration) {
        self.up = false;
        self.generation += 1;
        for interest in self.interests.values_mut() {
            interest.owes_lost |= interest.confirmed;
            interest.confirmed = false;
            interest.asked = false;
            if !interest.wanted {
                for waiter in interest.waiters.drain(..) {
                    let _ = waiter.send(Ok(()));
                }
            }
        }
        self.interests.retain(|_, interest| interest.wanted);
        for (channel, line) in &mut self.lines {
            while line.waiting.back().is_some_and(|(at, _)| *at > now) {
                if let Some((_, Word::Lost)) = line.waiting.pop_back()
                    && let Some(interest) = self.interests.get_mut(channel)
                {
                    interest.owes_lost = true;
                }
            }
            line.last_at = line.last_at.min(now);
        }
    }

    /// For this long nothing arrives of what is on its way.
    pub(super) fn held_up_until(&mut self, now: Duration, until: Duration) {
        for line in self.lines.values_mut() {
            for (at, _) in line.waiting.iter_mut().filter(|(at, _)| *at > now) {
                *at = (*at).max(until);
            }
            line.last_at = line.last_at.max(until);
        }
    }

    /// Nothing of the channel arrives any more until then, and nobody is told.
    pub(super) fn fall_silent(&mut self, channel: &ChannelName, until: Duration) {
        self.lines.entry(channel.clone()).or_default().silent_until = until;
    }

    pub(super) fn is_silent(&self, channel: &ChannelName, now: Duration) -> bool {
        self.lines.get(channel).is_some_and(|line| now < line.silent_until)
    }
}

// === impl Ear: what arrives ===

impl Ear {
    /// A word is on its way and arrives then, behind what is on its way already. Returns when it does.
    pub(super) fn put(&mut self, channel: &ChannelName, word: Word, at: Duration) -> Duration {
        let line = self.lines.entry(channel.clone()).or_default();
        line.last_at = line.last_at.max(at);
        line.waiting.push_back((line.last_at, word));
        line.last_at
    }

    /// Takes a word of the channel that has arrived.
    pub(super) fn take(&mut self, channel: &ChannelName, now: Duration) -> Option<Word> {
        if self.stands {
            return None;
        }
        let waiting = &mut self.lines.get_mut(channel)?.waiting;
        let arrived = waiting.front().is_some_and(|(at, _)| *at <= now);
        if arrived { waiting.pop_front().map(|(_, word)| word) } else { None }
    }

    /// Channels of which something has arrived that the node has not taken.
    pub(super) fn unread(&self, now: Duration) -> Vec<ChannelName> {
        let arrived = |line: &Line| line.waiting.front().is_some_and(|(at, _)| *at <= now);
        self.lines.iter().filter(|(_, line)| arrived(line)).map(|(channel, _)| channel.clone()).collect()
    }
}
