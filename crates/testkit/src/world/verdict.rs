//! What must hold once everything has come to rest, and once everyone has left.

use std::collections::BTreeSet;

use futures_util::FutureExt;
use tidewire_checker::Report;
use tidewire_protocol::{ChannelName, StreamPosition};

use super::World;
use crate::client::Phase;

impl World {
    /// Everyone is there again, stands at the head, and presence says so.
    pub(super) fn judge(&mut self) -> Report {
        self.env.note(format_args!("judgement"));
        let mut complaints: Vec<String> =
            self.clients.iter().flat_map(crate::client::Client::complaints).collect();
        complaints.extend(self.judge_presence());
        let heads: Vec<(ChannelName, StreamPosition)> = self
            .plan
            .channels
            .iter()
            .map(|channel| ChannelName::from(channel.name.as_str()))
            .filter_map(|channel| {
                let head = self.engine.head(&channel);
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
            let seen = self.engine.look_presence(&name);
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

    /// Nothing is left of anybody.
    pub(super) fn judge_emptiness(&mut self) {
        let mut complaints = Vec::new();
        for (number, worker) in self.workers.iter().enumerate() {
            if !worker.is_empty() {
                complaints
                    .push(format!("worker {number} is not empty: {} connections", worker.connections()));
            }
        }
        if self.clients.iter().any(|client| client.phase != Phase::Left) {
            complaints.push("a client has not left".into());
        }
        match self.node.channels("").now_or_never() {
            Some(Ok(channels)) if channels.is_empty() => {}
            other => complaints.push(format!("the hub still has {other:?}")),
        }
        let connections = self.node.info().clients;
        if connections > 0 {
            complaints.push(format!("the registry still has {connections} connections"));
        }
        if !self.engine.is_deserted() {
            complaints.push("somebody is still present".into());
        }
        let wanted = self.engine.wanted();
        if !wanted.is_empty() {
            complaints.push(format!("the node still wants announcements of {wanted:?}"));
        }
        // The node's own service goes on for as long as the node lives.
        if self.executor.len() != 1 {
            complaints.push(format!("{} futures are left instead of one", self.executor.len()));
        }
        let panics = self.node.metrics().contained_panics.total();
        if panics > 0 {
            complaints.push(format!("{panics} panics were contained"));
        }
        self.env.record().violations.extend(complaints);
    }
}
