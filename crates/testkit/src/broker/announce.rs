//! Words on their way from a server to the nodes that are connected to it.

use std::sync::Arc;
use std::time::Duration;

use tidewire_engine::Recipients;
use tidewire_protocol::ChannelName;

use super::ear::{BUS, Waiter, Word};
use super::{Broker, State};
use crate::engine::Lie;
use crate::fault::Fault;

/// Something to be announced.
pub(super) struct Out {
    pub(super) channel: ChannelName,
    pub(super) word: Word,
    /// Nodes by their ids, for messages from node to node.
    pub(super) to: Recipients,
}

// === impl Broker: interest ===

impl Broker {
    pub(super) fn wish(&self, node: usize, channel: &ChannelName, wanted: bool, waiter: Waiter) {
        {
            let state = &mut *self.state();
            if state.links[node].ear.wish(channel, wanted, waiter) {
                self.ask(state, node, channel);
            }
        }
        self.tell(node, channel);
    }

    /// Asks the server for what is wanted of a channel. The answer comes with the announcements.
    pub(super) fn ask(&self, state: &mut State, node: usize, channel: &ChannelName) {
        loop {
            let now = self.env.now();
            let ear = &mut state.links[node].ear;
            let (subscribe, generation) = (ear.wants(channel), ear.generation);
            let wait = state.draw.millis(0, self.manners.several.latency_ms);
            if !wait.is_zero() {
                let channel = channel.clone();
                self.at(now + wait, move |me| me.confirm(node, channel, subscribe, generation));
                return;
            }
            if !state.links[node].ear.confirmed(channel, subscribe, now) {
                return;
            }
        }
    }

    fn confirm(self: &Arc<Self>, node: usize, channel: ChannelName, subscribed: bool, generation: u64) {
        {
            let state = &mut *self.state();
            let now = self.env.now();
            let link = &state.links[node];
            if !link.alive || link.ear.generation != generation {
                return;
            }
            if let Some(until) = state.blocked_until(node, now) {
                return self.at(until, move |me| me.confirm(node, channel, subscribed, generation));
            }
            if state.links[node].ear.confirmed(&channel, subscribed, now) {
                self.ask(state, node, &channel);
            }
        }
        self.tell(node, &channel);
    }
}

// === impl Broker: announcements ===

impl Broker {
    /// Sends a word to every node that is connected to the server and wants it. Returns those that have it already.
    pub(super) fn announce(&self, state: &mut State, server: u64, out: &Out) -> Vec<usize> {
        let mut there = Vec::new();
        for node in 0..state.links.len() {
            let link = &state.links[node];
            let wants = match (&out.word, &link.ear.bus) {
                (Word::Message(_), None) => false,
                (Word::Message(_), Some((id, _))) => {
                    link.ear.up && (out.to == Recipients::Others || out.to == Recipients::One(*id))
                }
                _ => link.ear.hears(&out.channel),
            };
            if wants && link.alive && link.server == server && self.send(state, node, &out.channel, &out.word)
            {
                there.push(node);
            }
        }
        there
    }

    /// Whether it is there at once.
    fn send(&self, state: &mut State, node: usize, channel: &ChannelName, word: &Word) -> bool {
        let now = self.env.now();
        if self.is_dropped(state, node, channel, word) {
            return false;
        }
        let twice = matches!(word, Word::Publication(publication, ..) if publication.offset > 0)
            && self.strikes(state, Fault::AnnouncementDouble);
        if twice && state.draw.chance(0.5) {
            // The same again, but later and behind what has come meanwhile.
            let (channel, word, generation) =
                (channel.clone(), word.clone(), state.links[node].ear.generation);
            let wait = state.draw.millis(1, 1_500);
            self.at(now + wait, move |me| me.repeat(node, &channel, word, generation));
        } else if twice {
            self.post(state, node, channel, word.clone());
        }
        self.post(state, node, channel, word.clone())
    }

    /// Puts a word on its way; whether it is there at once.
    fn post(&self, state: &mut State, node: usize, channel: &ChannelName, word: Word) -> bool {
        let now = self.env.now();
        let mut wait = state.draw.millis(0, self.manners.several.latency_ms);
        if self.strikes(state, Fault::AnnouncementDelay) {
            let longest = *state.draw.pick(&[2, 40, 1_500]);
            wait += state.draw.millis(0, longest);
        }
        let link = &mut state.links[node];
        let at = link.ear.put(channel, word, (now + wait).max(link.cut_until));
        if at > now {
            let channel = channel.clone();
            self.at(at, move |me| me.tell(node, &channel));
        }
        at <= now
    }

    fn repeat(&self, node: usize, channel: &ChannelName, word: Word, generation: u64) {
        {
            let state = &mut *self.state();
            let ear = &state.links[node].ear;
            if ear.generation != generation || !ear.hears(channel) {
                return;
            }
            self.post(state, node, channel, word);
        }
        self.tell(node, channel);
    }

    fn is_dropped(&self, state: &mut State, node: usize, channel: &ChannelName, word: &Word) -> bool {
        if matches!(word, Word::Message(_)) {
            return self.lies(Lie::DropsMessages) || self.strikes(state, Fault::BusLoss);
        }
        let now = self.env.now();
        let silent = self.env.is_troubled() && state.links[node].ear.is_silent(channel, now);
        let dropped = silent || self.falls_silent(state, node, channel) || {
            self.strikes(state, Fault::AnnouncementDrop)
        };
        if dropped {
            self.env.note(format_args!("announcement of {channel} to node {node} is lost"));
        }
        dropped
    }

    /// Rarer than other faults: each lasts long.
    fn falls_silent(&self, state: &mut State, node: usize, channel: &ChannelName) -> bool {
        let falls = state.draw.chance(0.1) && self.strikes(state, Fault::AnnouncementOutage);
        if falls {
            let until = self.env.now() + state.draw.millis(10, 6_000);
            state.links[node].ear.fall_silent(channel, until);
        }
        falls
    }

    /// Tells the node what has arrived for it.
    pub(super) fn tell(&self, node: usize, channel: &ChannelName) {
        let telling = Arc::clone(&self.state().links[node].telling);
        let _turn = telling.lock();
        loop {
            let (word, sink, bus) = {
                let ear = &mut self.state().links[node].ear;
                let Some(word) = ear.take(channel, self.env.now()) else { return };
                (word, ear.sink.clone(), ear.bus.clone())
            };
            if let (Word::Message(message), Some((_, receiver))) = (&word, bus) {
                receiver.receive(message.clone());
                continue;
            }
            let Some(sink) = sink else { continue };
            match word {
                Word::Publication(publication, epoch, previous) => {
                    self.env.note(format_args!("node {node} hears {channel} {}", publication.offset));
                    sink.publication(channel, publication, epoch.as_ref(), previous);
                }
                Word::Join(info) => sink.join(channel, info),
                Word::Leave(info) => sink.leave(channel, info),
                Word::Lost if self.lies(Lie::LosesUntold) => {}
                Word::Lost => {
                    self.env.note(format_args!("node {node} has lost {channel}"));
                    sink.lost(channel);
                }
                Word::Message(_) => {}
            }
        }
    }
}

// === impl State ===

impl State {
    /// Until when nothing gets from the node to its server, or back; `None` if it does now. A server that is gone is not
    /// in the way: its node will find the next one.
    pub(super) fn blocked_until(&self, node: usize, now: Duration) -> Option<Duration> {
        let link = &self.links[node];
        let stands = self.servers.get(&link.server).map_or(Duration::ZERO, |server| server.stands_until);
        Some(link.cut_until.max(stands)).filter(|until| *until > now)
    }
}

/// The name that messages from node to node go under.
pub(super) fn bus() -> ChannelName {
    ChannelName::from(BUS)
}
