//! What happens to servers and to the nodes' connections with them.

use std::sync::Arc;
use std::time::Duration;

use tidewire_protocol::ChannelName;

use super::store::Store;
use super::{Broker, Server};
use crate::engine::Lie;

/// How long the longest obstacle lasts.
const LONGEST_MS: u64 = 8_000;

// === impl Broker: what the world has happen ===

impl Broker {
    /// The stream is gone without a word; the channel's next use begins a new one.
    pub(crate) fn lose_stream(&self, channel: &ChannelName) {
        for server in self.state().servers.values_mut() {
            server.store.lose_stream(channel);
        }
    }

    /// A node's connections break, and it notices.
    pub(crate) fn lose_ear(self: &Arc<Self>, node: usize) {
        let now = self.env.now();
        let again = {
            let state = &mut *self.state();
            state.links[node].ear.disconnected(now);
            now + state.draw.millis(10, 2_000)
        };
        self.hear_again(node, again);
    }

    /// Nothing gets through between a node and its server for a while. If that is long, both give the connection up.
    pub(crate) fn cut(self: &Arc<Self>, node: usize) {
        let now = self.env.now();
        let until = {
            let state = &mut *self.state();
            let longest = *state.draw.pick(&[300, 2_000, LONGEST_MS]);
            let until = now + state.draw.millis(10, longest);
            let link = &mut state.links[node];
            link.cut_until = until;
            link.ear.held_up_until(now, until);
            until
        };
        self.env.note(format_args!("node {node} is cut off until {until:?}"));
        let given_up_at = now + self.manners.several.io_timeout;
        if until > given_up_at {
            self.at(given_up_at, move |me| me.give_up(node));
        }
    }

    /// The primary's process stands for a while. Nodes give up on it if that is long; what they had sent is done later.
    pub(crate) fn stand_still(self: &Arc<Self>) {
        let now = self.env.now();
        let (until, nodes) = {
            let state = &mut *self.state();
            let longest = *state.draw.pick(&[300, 2_000, LONGEST_MS]);
            let until = now + state.draw.millis(10, longest);
            state.primary().stands_until = until;
            let primary = state.primary;
            let links = state.links.iter().enumerate();
            let nodes: Vec<usize> = links
                .filter(|(_, link)| link.alive && link.server == primary)
                .map(|(node, _)| node)
                .collect();
            (until, nodes)
        };
        self.env.note(format_args!("the primary stands until {until:?}"));
        let given_up_at = now + self.manners.several.io_timeout;
        if until > given_up_at {
            for node in nodes {
                self.at(given_up_at, move |me| me.give_up(node));
            }
        }
    }

    /// A copy takes over which lacks what has been done for a while. The old primary dies, or goes on until the last node
    /// has found the new one.
    pub(crate) fn fail_over(&self) {
        let now = self.env.now();
        let state = &mut *self.state();
        let copy = state.primary().store.clone();
        let lag = *state.draw.pick(&[0, 0, 50, 700, 3_000]);
        let lag = state.draw.millis(0, lag);
        let dies = state.draw.chance(0.5);
        self.at(now + lag, move |me| me.promote(copy, dies));
    }

    /// Everything that is broken is whole again.
    pub(crate) fn calm_down(&self) {
        let now = self.env.now();
        let state = &mut *self.state();
        for server in state.servers.values_mut() {
            server.stands_until = server.stands_until.min(now);
        }
        for link in &mut state.links {
            link.cut_until = link.cut_until.min(now);
        }
    }
}

// === impl Broker: what follows from it ===

impl Broker {
    fn promote(self: &Arc<Self>, copy: Store, dies: bool) {
        let now = self.env.now();
        let mut moves = Vec::new();
        {
            let state = &mut *self.state();
            let before = (state.primary, state.primary().replication_id);
            state.last_server += 1;
            state.primary = state.last_server;
            let id = if self.lies(Lie::KeepsReplicationId) { before.1 } else { state.primary };
            state.servers.insert(state.primary, Server::new(copy, id));
            let end = if dies { "died" } else { "goes on" };
            self.env.note(format_args!("server {} takes over; {} {end}", state.primary, before.0));
            if dies {
                state.servers.remove(&before.0);
            }
            for (node, link) in state.links.iter_mut().enumerate().filter(|(_, link)| link.alive) {
                if dies && link.server == before.0 {
                    link.ear.disconnected(now);
                }
                moves.push((node, now + state.draw.millis(5, 4_000)));
            }
        }
        for (node, at) in moves {
            self.at(at, move |me| me.find_primary(node));
        }
    }

    /// A node finds that the primary is another one.
    fn find_primary(self: &Arc<Self>, node: usize) {
        let now = self.env.now();
        {
            let state = &mut *self.state();
            let primary = state.primary;
            let link = &mut state.links[node];
            if !link.alive || link.server == primary {
                return;
            }
            link.server = primary;
            link.ear.disconnected(now);
            state.retire();
        }
        self.env.note(format_args!("node {node} finds the new primary"));
        self.hear_again(node, now);
    }

    /// A node has waited long enough for a word.
    fn give_up(self: &Arc<Self>, node: usize) {
        let now = self.env.now();
        {
            let state = &mut *self.state();
            if !state.links[node].alive || state.blocked_until(node, now).is_none() {
                return;
            }
            state.links[node].ear.disconnected(now);
        }
        self.env.note(format_args!("node {node} gives its connection up"));
        self.hear_again(node, now);
    }

    /// Connects a node's ear as soon as that is possible.
    fn hear_again(self: &Arc<Self>, node: usize, at: Duration) {
        self.at(at, move |me| me.connect_ear(node));
    }

    fn connect_ear(self: &Arc<Self>, node: usize) {
        let now = self.env.now();
        let channels = self.ask_again(node, now);
        for channel in channels {
            self.tell(node, &channel);
        }
    }

    /// Asks for every channel that is wanted, if a connection can be made. Returns those channels.
    fn ask_again(self: &Arc<Self>, node: usize, now: Duration) -> Vec<ChannelName> {
        let state = &mut *self.state();
        let link = &state.links[node];
        // Where there is no server the node still has to find another one.
        if !link.alive || link.ear.up || !state.servers.contains_key(&link.server) {
            return Vec::new();
        }
        if let Some(until) = state.blocked_until(node, now) {
            let wait = state.draw.millis(1, 200);
            self.hear_again(node, until + wait);
            return Vec::new();
        }
        self.env.note(format_args!("node {node} hears again"));
        let channels = state.links[node].ear.connected();
        for channel in &channels {
            self.ask(state, node, channel);
        }
        channels
    }
}
