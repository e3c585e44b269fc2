//! The channels that connections of one worker are subscribed to, and who they are.

use hashbrown::HashMap;
use slab::Slab;
use tidewire_protocol::ChannelName;

/// A subscription of a connection of this worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subscriber {
    /// The connection.
    pub(crate) slot: u32,
    /// Its subscription.
    pub(crate) sub: u32,
}

/// Where a subscriber sits, so that it leaves without being searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seat {
    channel: u32,
    seat: u32,
}

struct Channel {
    name: ChannelName,
    subscribers: Slab<Subscriber>,
}

/// Channels and their subscribers, of one worker.
#[derive(Default)]
pub(crate) struct LocalChannels {
    by_name: HashMap<ChannelName, u32, foldhash::fast::RandomState>,
    channels: Slab<Channel>,
}

impl LocalChannels {
    /// Seats a subscriber; the channel's name as shared by all its subscribers.
    pub(crate) fn add(&mut self, name: &ChannelName, subscriber: Subscriber) -> (Seat, ChannelName) {
        let channel = match self.by_name.get(name.as_str()) {
            Some(id) => *id,
            None => {
                let entry = Channel { name: name.clone(), subscribers: Slab::new() };
                let id = self.channels.insert(entry) as u32;
                self.by_name.insert(name.clone(), id);
                id
            }
        };
        let entry = &mut self.channels[channel as usize];
        let seat = entry.subscribers.insert(subscriber) as u32;
        (Seat { channel, seat }, entry.name.clone())
    }

    /// Takes a subscriber out; an empty channel goes with its last one.
    pub(crate) fn remove(&mut self, seat: Seat) {
        let Some(entry) = self.channels.get_mut(seat.channel as usize) else {
            return;
        };
        entry.subscribers.try_remove(seat.seat as usize);
        if entry.subscribers.is_empty() {
            let entry = self.channels.remove(seat.channel as usize);
            self.by_name.remove(entry.name.as_str());
        }
    }

    /// Everyone in a channel.
    pub(crate) fn subscribers(&self, name: &str) -> impl Iterator<Item = Subscriber> {
        let entry = self.by_name.get(name).and_then(|id| self.channels.get(*id as usize));
        entry.into_iter().flat_map(|entry| entry.subscribers.iter().map(|(_, subscriber)| *subscriber))
    }

    /// Whether nobody of this worker is subscribed to anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}
