//! Which channels this node wants announced, what Redis was asked, and what it has confirmed. Pure.

use std::collections::VecDeque;

use hashbrown::HashMap;
use tidewire_protocol::ChannelName;
use tokio::sync::oneshot;

use crate::error::{Error, Result};

/// Where an answer goes once wish and confirmation agree.
pub(crate) type Waiter = oneshot::Sender<Result<()>>;

/// The channels of one connection.
#[derive(Default)]
pub(crate) struct Table {
    channels: HashMap<ChannelName, Entry, foldhash::fast::RandomState>,
    /// Whose wish differs from what was asked last; may hold channels that agree by now.
    unsettled: VecDeque<ChannelName>,
    /// To be asked for again when it is time; may hold channels that are not refused any more.
    refused: Vec<ChannelName>,
    connected: bool,
}

#[derive(Default)]
struct Entry {
    wanted: bool,
    /// What was asked last on this connection.
    asked: bool,
    /// Confirmations still to come.
    outstanding: u32,
    /// It was announced once and is not, or was not for a while: tell when it is again.
    owes_lost: bool,
    /// The server says it belongs elsewhere; not asked for again before it is settled where.
    misplaced: bool,
    /// The server does not announce it any more and refused to again; asked once more when it is time.
    refused: bool,
    waiters: Vec<Waiter>,
}

/// What to ask next.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Wishes {
    pub(crate) subscribe: Vec<ChannelName>,
    pub(crate) unsubscribe: Vec<ChannelName>,
}

/// A wanted channel on its way to another connection.
pub(crate) struct Moving {
    pub(crate) channel: ChannelName,
    owes_lost: bool,
    waiters: Vec<Waiter>,
}

/// What a confirmation means.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// As asked.
    Settled,
    /// As asked, after a time without announcements.
    Lost,
    /// Nobody asked: the server does not announce the channel any more.
    Misplaced,
}

// === impl Table ===

impl Table {
    /// Notes a wish. The waiter is answered when Redis has confirmed it, or at once if there is nothing to do.
    pub(crate) fn wish(&mut self, channel: &ChannelName, wanted: bool, waiter: Waiter) {
        let connected = self.connected;
        let entry = match self.channels.get_mut(channel) {
            Some(entry) => entry,
            // Not announced anyway.
            None if !wanted => {
                let _ = waiter.send(Ok(()));
                return;
            }
            None => self.channels.entry(channel.clone()).or_default(),
        };
        entry.wanted = wanted;
        entry.refused = false;
        let settled = entry.asked == wanted && entry.outstanding == 0;
        if settled && (connected || !wanted) {
            let _ = waiter.send(Ok(()));
            if !wanted {
                self.channels.remove(channel);
            }
            return;
        }
        entry.waiters.push(waiter);
        if entry.asked != wanted {
            self.unsettled.push_back(channel.clone());
        }
    }

    /// What to ask now: at most `count` channels. They count as asked.
    pub(crate) fn wishes(&mut self, count: usize) -> Wishes {
        let mut wishes = Wishes::default();
        while self.connected && wishes.subscribe.len() + wishes.unsubscribe.len() < count {
            let Some(channel) = self.unsettled.pop_front() else {
                break;
            };
            let Some(entry) = self.channels.get_mut(&channel) else {
                continue;
            };
            if entry.asked == entry.wanted || entry.misplaced || entry.refused {
                continue;
            }
            entry.asked = entry.wanted;
            entry.outstanding += 1;
            match entry.wanted {
                true => wishes.subscribe.push(channel),
                false => wishes.unsubscribe.push(channel),
            }
        }
        wishes
    }

    /// Redis confirms that it announces a channel, or no longer does.
    pub(crate) fn confirmed(&mut self, channel: &str, subscribed: bool) -> Meaning {
        let Some((channel, entry)) = self.channels.get_key_value_mut(channel) else {
            return Meaning::Settled;
        };
        let channel = channel.clone();
        if entry.outstanding == 0 {
            if !subscribed && entry.asked {
                entry.asked = false;
                entry.owes_lost = true;
                entry.misplaced = true;
                return Meaning::Misplaced;
            }
            return Meaning::Settled;
        }
        entry.outstanding -= 1;
        if entry.outstanding > 0 || entry.asked != entry.wanted {
            return Meaning::Settled;
        }
        for waiter in entry.waiters.drain(..) {
            let _ = waiter.send(Ok(()));
        }
        if !entry.wanted {
            self.channels.remove(&channel);
            return Meaning::Settled;
        }
        match std::mem::take(&mut entry.owes_lost) {
            true => Meaning::Lost,
            false => Meaning::Settled,
        }
    }

    /// Redis refuses what it was asked for a channel. Whoever waits is told, and a wish to subscribe is given up with it. Where
    /// nobody waits the channel was announced before, and its subscribers rely on it: it will be asked for again.
    pub(crate) fn refused(&mut self, channel: &ChannelName, error: &Error) {
        let Some(entry) = self.channels.get_mut(channel) else { return };
        if entry.wanted && entry.owes_lost && entry.waiters.is_empty() {
            entry.asked = false;
            entry.outstanding = entry.outstanding.saturating_sub(1);
            entry.refused = true;
            self.refused.push(channel.clone());
            return;
        }
        for waiter in entry.waiters.drain(..) {
            let _ = waiter.send(Err(error.clone()));
        }
        self.channels.remove(channel);
    }

    /// It is time to ask again for what was refused.
    pub(crate) fn ask_refused_again(&mut self) {
        for channel in self.refused.drain(..) {
            let entry = self.channels.get_mut(&channel);
            if entry.is_some_and(|entry| std::mem::take(&mut entry.refused)) {
                self.unsettled.push_back(channel);
            }
        }
    }

    /// Redis says that a channel is to be asked for elsewhere.
    pub(crate) fn misplaced(&mut self, channel: &ChannelName) {
        if let Some(entry) = self.channels.get_mut(channel) {
            entry.asked = false;
            entry.outstanding = entry.outstanding.saturating_sub(1);
            entry.misplaced = true;
        }
    }

    /// The connection is up: everything wanted is to be asked for.
    pub(crate) fn connected(&mut self) {
        self.connected = true;
        self.unsettled = self.channels.keys().cloned().collect();
    }

    /// The connection is gone, and with it whatever was announced.
    pub(crate) fn disconnected(&mut self) {
        self.connected = false;
        self.unsettled.clear();
        self.refused.clear();
        self.channels.retain(|_, entry| {
            entry.owes_lost |= entry.asked && entry.outstanding == 0;
            entry.asked = false;
            entry.outstanding = 0;
            entry.misplaced = false;
            entry.refused = false;
            if !entry.wanted {
                for waiter in entry.waiters.drain(..) {
                    let _ = waiter.send(Ok(()));
                }
            }
            entry.wanted
        });
    }

    /// Takes the wanted channels that belong elsewhere. The others are asked for here again, if they were thought
    /// misplaced.
    pub(crate) fn move_out(&mut self, belongs_elsewhere: impl Fn(&ChannelName) -> bool) -> Vec<Moving> {
        let mut moving = Vec::new();
        for (channel, entry) in &mut self.channels {
            if entry.wanted && belongs_elsewhere(channel) {
                moving.push(Moving {
                    channel: channel.clone(),
                    owes_lost: entry.owes_lost || (entry.asked && entry.outstanding == 0),
                    waiters: std::mem::take(&mut entry.waiters),
                });
                // Here it is asked to stop, if it was asked for.
                entry.wanted = false;
                self.unsettled.push_back(channel.clone());
            } else if std::mem::take(&mut entry.misplaced) {
                self.unsettled.push_back(channel.clone());
            }
        }
        self.channels.retain(|_, entry| entry.wanted || entry.asked || entry.outstanding > 0);
        moving
    }

    /// Takes in what comes from another connection.
    pub(crate) fn move_in(&mut self, moving: Moving) {
        let Moving { channel, owes_lost, waiters } = moving;
        let entry = self.channels.entry(channel.clone()).or_default();
        entry.wanted = true;
        entry.owes_lost |= owes_lost;
        entry.waiters.extend(waiters);
        self.unsettled.push_back(channel);
    }

    /// The wanted channel of this name.
    pub(crate) fn find(&self, channel: &str) -> Option<ChannelName> {
        let (channel, entry) = self.channels.get_key_value(channel)?;
        entry.wanted.then(|| channel.clone())
    }

    /// How many channels there are.
    pub(crate) fn len(&self) -> usize {
        self.channels.len()
    }
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
