//! The backend's publications, through any node.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewire_checker::PayloadId;
use tidewire_core::PublishOptions;
use tidewire_protocol::ChannelName;

use super::{Done, Event, World};
use crate::record::payload;

/// How often a publish is tried.
const TRIES_MAX: u32 = 5;

/// One publisher of the backend: one publication after the other.
pub(super) struct Lane {
    publisher: u32,
    sequence: u64,
    /// What has been asked for and is not answered, or is to be tried again.
    attempt: Option<Attempt>,
}

#[derive(Clone)]
struct Attempt {
    channel: ChannelName,
    data: Bytes,
    /// With one, failing is not the end.
    key: String,
    tries: u32,
    /// The node asked, while it has not answered.
    host: Option<usize>,
}

// === impl Lane ===

impl Lane {
    pub(super) fn of(publisher: u32) -> Self {
        Self { publisher, sequence: 0, attempt: None }
    }
}

// === impl World ===

impl World {
    pub(super) fn publish(&mut self, lane: usize) {
        if self.publishing {
            let channel = self.any_channel();
            self.publish_to(lane, &channel);
        }
    }

    pub(super) fn any_channel(&mut self) -> ChannelName {
        self.draw.pick(&self.plan.channels).name.as_str().into()
    }

    /// The next publication of a lane, or the last one once more.
    fn publish_to(&mut self, number: usize, channel: &ChannelName) {
        let filler = self.draw.below(self.plan.filler + 1) as usize;
        let keyed = self.keeps(channel) && self.draw.chance(0.7);
        let Some(host) = self.any_host() else {
            // Every node stands: nobody takes it.
            return self.env.after(Duration::from_millis(500), Event::Publish { lane: number });
        };
        let lane = &mut self.lanes[number];
        if lane.attempt.is_none() {
            lane.sequence += 1;
            let id = PayloadId { publisher: lane.publisher, sequence: lane.sequence };
            let key = if keyed { format!("{}/{}", id.publisher, id.sequence) } else { String::new() };
            let (channel, data) = (channel.clone(), payload(id, filler));
            lane.attempt = Some(Attempt { channel, data, key, tries: 0, host: None });
        }
        let Some(attempt) = lane.attempt.as_mut() else { return };
        attempt.tries += 1;
        attempt.host = Some(host);
        let Attempt { channel, data, key, .. } = attempt.clone();
        let node = Arc::clone(&self.hosts[host].node);
        let options = PublishOptions { idempotency_key: key, ..Default::default() };
        let publish = async move {
            let ok = node.publish(&channel, data, options).await.is_ok();
            Done::Published { lane: number, ok }
        };
        self.spawn(host, Box::pin(publish));
    }

    /// Whether the channel has a stream. Where it has none, a repetition may reach somebody twice once a broker has lost
    /// the keys that it had seen.
    fn keeps(&self, channel: &ChannelName) -> bool {
        let plan = self.plan.channels.iter().find(|plan| plan.name == channel.as_str());
        self.plan.several.is_some() && plan.is_some_and(|plan| plan.options.history.is_some())
    }

    /// One publication after the other. What failed may have happened, or may yet: with a key it is tried again, by the
    /// way of any node; without one the next is another publisher's.
    pub(super) fn lane_done(&mut self, number: usize, ok: bool) {
        let lane = &mut self.lanes[number];
        let again = lane.attempt.take().filter(|attempt| !ok && !attempt.key.is_empty());
        let again = again.filter(|attempt| attempt.tries < TRIES_MAX);
        if !ok && again.is_none() {
            lane.publisher += 1;
        }
        let retries = again.is_some();
        lane.attempt = again.map(|attempt| Attempt { host: None, ..attempt });
        if self.publishing {
            let mean = if retries { Duration::from_millis(300) } else { self.plan.publish_every };
            let wait = self.draw.around(mean);
            self.env.after(wait, Event::Publish { lane: number });
        }
    }

    /// A node is gone, and its answers with it.
    pub(super) fn lanes_lost(&mut self, host: usize) {
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].attempt.as_ref().is_some_and(|attempt| attempt.host == Some(host)) {
                self.lane_done(lane, false);
            }
        }
    }

    /// One more publication in every channel, so that each ends after the last fault; then silence.
    pub(super) fn publish_last(&mut self) {
        if !std::mem::replace(&mut self.publishing, false) {
            return;
        }
        let channels: Vec<ChannelName> =
            self.plan.channels.iter().map(|channel| channel.name.as_str().into()).collect();
        // A publisher of its own: the others' last may still be under way.
        for (number, channel) in channels.iter().enumerate() {
            self.lanes.push(Lane::of(90_000 + number as u32));
            self.publish_to(self.lanes.len() - 1, channel);
        }
    }
}
