//! What comes by itself: the backend's publications, the operator, lost streams, jumping clocks, and the end of it all.

use std::sync::Arc;
use std::time::Duration;

use tidewire_checker::PayloadId;
use tidewire_core::hooks::SubscribeGrant;
use tidewire_core::{PublishOptions, Target};
use tidewire_engine::{Broker, Clock};
use tidewire_protocol::{ChannelName, Disconnect, Unsubscribed};

use super::{Done, Event, STRICT_AFTER, World};
use crate::fault::Fault;
use crate::record::payload;

/// Faults that do not happen to something that happens anyway.
const BY_THEMSELVES: [Fault; 4] =
    [Fault::StreamLost, Fault::HistoryRemoved, Fault::ClockJump, Fault::Operator];

impl World {
    pub(super) fn begin_trouble(&mut self) {
        for fault in BY_THEMSELVES {
            self.plan_trouble(fault);
        }
    }

    fn plan_trouble(&mut self, fault: Fault) {
        if let Some(mean) = self.plan.rates.mean(fault) {
            let wait = self.draw.around(mean);
            self.env.after(wait, Event::Trouble { fault });
        }
    }

    pub(super) fn trouble(&mut self, fault: Fault) {
        if !self.env.is_troubled() {
            return;
        }
        self.env.fault(fault);
        let channel = self.any_channel();
        self.env.note(format_args!("{} {channel}", fault.name()));
        match fault {
            Fault::StreamLost => self.engine.lose_stream(&channel),
            Fault::HistoryRemoved => {
                let engine = Arc::clone(&self.engine);
                self.spawn(Box::pin(async move {
                    // The operator hears of a failure; the world goes on.
                    let _ = engine.remove_history(&channel).await;
                    Done::Nothing
                }));
            }
            Fault::ClockJump => {
                let hours = self.draw.between(0, 2) as i64 - 1;
                let now = self.env.clock().unix_ms();
                let odd = self.draw.between(0, 5_000) as i64;
                self.env.clock().set_unix_ms(now + hours * 3_600_000 + odd);
            }
            _ => self.operate(channel),
        }
        self.plan_trouble(fault);
    }

    /// The operator does something to a client.
    fn operate(&mut self, channel: ChannelName) {
        let client = self.draw.below(self.clients.len() as u64) as usize;
        let target = Target { user: self.clients[client].user(), ..Default::default() };
        let server_side = self.clients[client].server_side_channels().contains(&channel);
        let node = Arc::clone(&self.node);
        let choice = self.draw.below(5);
        self.env.note(format_args!("operator does {choice} to client {client}"));
        self.spawn(Box::pin(async move {
            match choice {
                0 => node.disconnect(&target, Disconnect::FORCE_RECONNECT).await,
                1 => node.disconnect(&target, Disconnect::STATE_INVALIDATED).await,
                2 => node.unsubscribe(&target, Some(channel), Unsubscribed::SERVER).await,
                3 if !server_side => {
                    node.unsubscribe(&target, Some(channel), Unsubscribed::STATE_INVALIDATED).await
                }
                _ if server_side => {
                    let grant = SubscribeGrant::default();
                    node.subscribe(&target, &channel, grant, None).await.unwrap_or_default()
                }
                _ => node.refresh(&target, false, 0, None).await,
            };
            Done::Nothing
        }));
    }

    fn any_channel(&mut self) -> ChannelName {
        self.draw.pick(&self.plan.channels).name.as_str().into()
    }

    pub(super) fn publish(&mut self, lane: usize) {
        if self.publishing {
            let channel = self.any_channel();
            self.publish_to(lane, &channel);
        }
    }

    fn publish_to(&mut self, number: usize, channel: &ChannelName) {
        let filler = self.draw.below(self.plan.filler + 1) as usize;
        let lane = &mut self.lanes[number];
        lane.sequence += 1;
        let id = PayloadId { publisher: lane.publisher, sequence: lane.sequence };
        let (node, channel) = (Arc::clone(&self.node), channel.clone());
        self.spawn(Box::pin(async move {
            let published = node.publish(&channel, payload(id, filler), PublishOptions::default());
            let ok = published.await.is_ok();
            Done::Published { lane: number, ok }
        }));
    }

    /// One publication after the other. What failed may have happened, or may yet: the next is another publisher's.
    pub(super) fn lane_done(&mut self, lane: usize, ok: bool) {
        if !ok {
            self.lanes[lane].publisher += 1;
        }
        if self.publishing {
            let wait = self.draw.around(self.plan.publish_every);
            self.env.after(wait, Event::Publish { lane });
        }
    }

    pub(super) fn second(&mut self) {
        self.env.after(Duration::from_secs(1), Event::Second);
        self.engine.sweep();
        self.check_writes();
        if !self.ticking {
            self.ticking = true;
            let node = Arc::clone(&self.node);
            self.spawn(Box::pin(async move {
                node.tick().await;
                Done::Ticked
            }));
        }
    }

    /// The faults end.
    pub(super) fn calm_down(&mut self) {
        self.env.note(format_args!("calm"));
        self.env.calm_down();
        self.publishing = !self.plan.falls_silent;
        let strict_from = self.env.now() + STRICT_AFTER;
        for client in &mut self.clients {
            client.expect_order(strict_from);
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
            self.lanes.push(super::Lane { publisher: 90_000 + number as u32, sequence: 0 });
            self.publish_to(self.lanes.len() - 1, channel);
        }
    }
}
