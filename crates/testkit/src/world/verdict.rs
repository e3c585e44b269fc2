//! What must hold once everything has come to rest, and once everyone has left.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tidewire_checker::Report;
use tidewire_core::{Reached, Target};
use tidewire_protocol::{ChannelName, StreamPosition};

use super::{Done, World};
use crate::client::{Client, Phase};

/// What one node says of all.
#[derive(Debug)]
pub(super) struct Survey {
    /// Channels and their subscribers; `None` if somebody did not answer.
    channels: Option<Vec<(ChannelName, u32)>>,
    /// How many connections of the first client's user there are.
    reached: Reached,
}

impl World {
    /// Asks any node which channels have subscribers, and to do something harmless to a client.
    pub(super) fn survey(&mut self) {
        let Some(host) = self.any_host() else { return };
        let node = Arc::clone(&self.hosts[host].node);
        let first = Target::user(self.clients.first().map(Client::user).unwrap_or_default());
        let ask = async move {
            let channels = node.channels("").await.ok();
            let reached = node.refresh(&first, false, 0, None).await;
            Done::Surveyed(Survey { channels, reached })
        };
        self.spawn(host, Box::pin(ask));
    }

    /// Everyone is there again, stands at the head, and presence says so.
    pub(super) fn judge(&mut self) -> Report {
        self.env.note(format_args!("judgement"));
        let mut complaints: Vec<String> = self.clients.iter().flat_map(Client::complaints).collect();
        complaints.extend(self.judge_presence());
        complaints.extend(self.judge_nodes());
        complaints.extend(self.judge_survey());
        let heads: Vec<(ChannelName, StreamPosition)> = self
            .plan
            .channels
            .iter()
            .map(|channel| ChannelName::from(channel.name.as_str()))
            .filter_map(|channel| {
                let head = self.backend.head(&channel);
                // A stream that has run out since the last publication has no head to stand at.
                (head.offset > 0).then_some((channel, head))
            })
            .collect();
        let mut record = self.env.record();
        let report = record.finish(heads);
        if !report.is_clean() {
            complaints.extend(report.violations().iter().map(ToString::to_string));
        }
        record.violations.extend(complaints);
        report
    }

    /// Who is present is who follows the channel, no more and no fewer.
    fn judge_presence(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        for channel in self.plan.channels.iter().filter(|channel| channel.options.presence) {
            let name = ChannelName::from(channel.name.as_str());
            let following: BTreeSet<&str> = self
                .clients
                .iter()
                .filter(|client| client.follows(&name))
                .map(|client| client.id.as_str())
                .collect();
            let seen = self.backend.look_presence(&name);
            let present: BTreeSet<&str> = seen.iter().map(|info| info.client.as_str()).collect();
            if following != present {
                complaints.push(format!(
                    "presence of {name}: missing {:?}, too many {:?}",
                    following.difference(&present).collect::<Vec<_>>(),
                    present.difference(&following).collect::<Vec<_>>()
                ));
            }
        }
        complaints
    }

    /// Every node knows who is there.
    fn judge_nodes(&self) -> Vec<String> {
        let alive = self.alive();
        let ids: BTreeSet<String> =
            alive.iter().map(|host| self.hosts[*host].node.id().to_string()).collect();
        let mut complaints = Vec::new();
        for host in alive {
            let known: BTreeSet<String> =
                self.hosts[host].node.nodes().into_iter().map(|info| info.uid).collect();
            if known != ids {
                complaints.push(format!("node {host} knows the nodes {known:?}, there are {ids:?}"));
            }
        }
        complaints
    }

    /// What one node says of all is what the clients see.
    fn judge_survey(&self) -> Vec<String> {
        let mut expected = BTreeMap::new();
        for channel in &self.plan.channels {
            let name = ChannelName::from(channel.name.as_str());
            let following = self.clients.iter().filter(|client| client.follows(&name)).count() as u32;
            if following > 0 {
                expected.insert(name, following);
            }
        }
        if self.plan.found_within.is_some() {
            return Vec::new();
        }
        let Some(Survey { channels, reached }) = &self.surveyed else {
            return vec!["a node does not say who is there".into()];
        };
        let mut complaints = Vec::new();
        let found = channels.clone().map(BTreeMap::from_iter);
        if found.as_ref() != Some(&expected) {
            complaints.push(format!("channels are said to have {found:?} subscribers and have {expected:?}"));
        }
        if *reached != (Reached { connections: 1, silent_nodes: 0 }) {
            complaints.push(format!("an operation on the one connection of a user came to {reached:?}"));
        }
        complaints
    }

    /// Nothing is left of anybody.
    pub(super) fn judge_emptiness(&mut self) {
        let mut complaints = Vec::new();
        for (number, thread) in self.threads.iter().enumerate() {
            let connections = thread.worker.connections();
            if self.hosts[thread.host].is_alive() && !thread.worker.is_empty() {
                complaints.push(format!("worker {number} is not empty: {connections} connections"));
            }
        }
        if self.clients.iter().any(|client| client.phase != Phase::Left) {
            complaints.push("a client has not left".into());
        }
        let alive = self.alive();
        for host in &alive {
            complaints.extend(self.left_of(*host));
        }
        if !self.backend.is_deserted() {
            complaints.push("somebody is still present".into());
        }
        // A node's own service goes on for as long as the node lives.
        if self.executor.len() != alive.len() {
            complaints.push(format!("{} futures are left of {} nodes", self.executor.len(), alive.len()));
        }
        for host in &self.hosts {
            let panics = host.node.metrics().contained_panics.total();
            if panics > 0 {
                complaints.push(format!("{panics} panics were contained"));
            }
        }
        self.env.record().violations.extend(complaints);
    }

    /// What a node still has of those who have left.
    fn left_of(&self, host: usize) -> Vec<String> {
        let mut complaints = Vec::new();
        let info = self.hosts[host].node.info();
        if (info.clients, info.channels, info.subscriptions) != (0, 0, 0) {
            complaints.push(format!("node {host} still has {info:?}"));
        }
        let wanted = self.backend.wanted(host);
        if !wanted.is_empty() {
            complaints.push(format!("node {host} still wants announcements of {wanted:?}"));
        }
        complaints
    }
}
