//! What comes by itself: the operator, lost streams, jumping clocks, what happens to nodes and to their broker, and the
//! end of it all.

use std::sync::Arc;

use tidewire_core::Target;
use tidewire_core::hooks::SubscribeGrant;
use tidewire_engine::Clock;
use tidewire_protocol::{ChannelName, Disconnect, Unsubscribed};

use super::{Done, Event, STRICT_AFTER, World};
use crate::fault::Fault;

/// Faults that do not happen to something that happens anyway.
const BY_THEMSELVES: [Fault; 11] = [
    Fault::StreamLost,
    Fault::HistoryRemoved,
    Fault::ClockJump,
    Fault::Operator,
    Fault::EarLost,
    Fault::NodeCut,
    Fault::BrokerStands,
    Fault::Failover,
    Fault::NodeKilled,
    Fault::NodeStands,
    Fault::NodeDrained,
];

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
            Fault::StreamLost => self.backend.lose_stream(&channel),
            Fault::HistoryRemoved => self.remove_history(channel),
            Fault::ClockJump => {
                let hours = self.draw.between(0, 2) as i64 - 1;
                let now = self.env.clock().unix_ms();
                let odd = self.draw.between(0, 5_000) as i64;
                self.env.clock().set_unix_ms(now + hours * 3_600_000 + odd);
            }
            Fault::Operator => self.operate(channel),
            Fault::NodeKilled => self.kill(),
            Fault::NodeStands => self.stand(),
            Fault::NodeDrained => self.drain(),
            _ => self.trouble_broker(fault),
        }
        self.plan_trouble(fault);
    }

    /// Something happens to the broker, or between it and one node or all.
    fn trouble_broker(&mut self, fault: Fault) {
        let mut nodes = self.alive();
        if self.draw.chance(0.8) {
            nodes = vec![*self.draw.pick(&nodes)];
        }
        let Some(broker) = self.backend.broker() else { return };
        match fault {
            Fault::EarLost => nodes.into_iter().for_each(|node| broker.lose_ear(node)),
            Fault::NodeCut => nodes.into_iter().for_each(|node| broker.cut(node)),
            Fault::BrokerStands => broker.stand_still(),
            _ => broker.fail_over(),
        }
    }

    fn remove_history(&mut self, channel: ChannelName) {
        let Some(host) = self.any_host() else { return };
        let engine = Arc::clone(self.hosts[host].node.engine());
        let remove = async move {
            // The operator hears of a failure; the world goes on.
            let _ = engine.remove_history(&channel).await;
            Done::Nothing
        };
        self.spawn(host, Box::pin(remove));
    }

    /// The operator does something to a client.
    fn operate(&mut self, channel: ChannelName) {
        let client = self.draw.below(self.clients.len() as u64) as usize;
        let target = Target { user: self.clients[client].user(), ..Default::default() };
        let server_side = self.clients[client].server_side_channels().contains(&channel);
        let Some(host) = self.any_host() else { return };
        let node = Arc::clone(&self.hosts[host].node);
        let choice = self.draw.below(5);
        self.env.note(format_args!("operator does {choice} to client {client}"));
        let operate = async move {
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
        };
        self.spawn(host, Box::pin(operate));
    }

    /// The faults end.
    pub(super) fn calm_down(&mut self) {
        self.env.note(format_args!("calm"));
        self.env.calm_down();
        if let Some(broker) = self.backend.broker() {
            broker.calm_down();
        }
        self.publishing = !self.plan.falls_silent;
        let strict_from = self.env.now() + STRICT_AFTER;
        for client in &mut self.clients {
            client.expect_order(strict_from);
        }
    }
}
