//! What a client does by itself.

use tidewire_protocol::{
    Command, HistoryRequest, PresenceRequest, PresenceStatsRequest, PublishRequest, RpcRequest,
};

use super::{Asked, Client, Phase, SubState};
use crate::record::payload;

/// What becomes of the socket after an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whim {
    Stay,
    /// The application closes and opens again.
    Reconnect,
}

impl Client {
    /// One action of the application, whatever comes to its mind.
    pub(crate) fn act(&mut self) -> Whim {
        if self.phase != Phase::Connected {
            return Whim::Stay;
        }
        for _ in 0..self.draw.between(1, 3) {
            let index = self.draw.below(self.subs.len() as u64) as usize;
            match self.draw.below(20) {
                0..8 => self.publish(index),
                8..11 => self.change_mind(index),
                11..19 => self.query(index),
                _ => return Whim::Reconnect,
            }
        }
        Whim::Stay
    }

    /// One publish after the other, so that their order means something.
    fn publish(&mut self, index: usize) {
        if self.publishing {
            return;
        }
        self.publishing = true;
        let filler = self.draw.below(self.filler + 1) as usize;
        let data = payload(self.next_payload(), filler);
        let Some(channel) = self.subs.get(index).map(|sub| sub.channel.to_string()) else {
            return;
        };
        let request = PublishRequest { channel, data, ..Default::default() };
        self.ask(Asked::Publish, Command { publish: Some(request.into()), ..Default::default() });
    }

    /// Unsubscribes, and perhaps subscribes again before the answer is there.
    fn change_mind(&mut self, index: usize) {
        let Some(sub) = self.subs.get_mut(index).filter(|sub| !sub.server_side) else {
            return;
        };
        match sub.state {
            SubState::On => {
                self.unsubscribe(index);
                let again = self.draw.chance(0.7);
                if let Some(sub) = self.subs.get_mut(index) {
                    sub.wanted = again;
                }
            }
            SubState::Off => {
                sub.wanted = true;
                self.subscribe_all();
            }
            SubState::Subscribing(_) | SubState::Leaving(_) => {}
        }
    }

    fn query(&mut self, index: usize) {
        let Some(channel) = self.subs.get(index).map(|sub| sub.channel.to_string()) else {
            return;
        };
        let mut command = Command::default();
        match self.draw.below(4) {
            0 => command.presence = Some(PresenceRequest { channel }.into()),
            1 => command.presence_stats = Some(PresenceStatsRequest { channel }.into()),
            2 => {
                let limit = self.draw.between(0, 11) as i32 - 1;
                let reverse = self.draw.chance(0.5);
                command.history = Some(HistoryRequest { channel, limit, reverse, since: None }.into());
            }
            _ => {
                command.rpc = Some(RpcRequest { method: "nothing".into(), ..Default::default() }.into());
            }
        }
        self.ask(Asked::Query, command);
    }
}
