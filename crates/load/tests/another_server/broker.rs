//! Channels, their subscribers and their history, and the lies that are told about them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::protocol::{Place, Publication, Tell};

/// What is done to the third publication of each channel whose name ends with `0`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Lie {
    None,
    /// Nobody gets it.
    Lose,
    /// Everybody gets it twice.
    Double,
    /// Everybody gets it ten times, and what comes later comes late.
    Repeat,
    /// It comes after the fourth.
    Swap,
    /// The subscribers of other channels get it, too, as if it were of theirs.
    Stray,
    /// The same under the name of its own channel.
    Misaddress,
    /// Not that one: the first client that recovers several does not get the first of them, and is told that nothing is
    /// missing.
    Forget,
}

/// How often the server did what it may do.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) frames: u64,
    pub(crate) gathered: u64,
    pub(crate) fragmented: u64,
    pub(crate) pongs: u64,
    pub(crate) uninvited_pongs: u64,
    pub(crate) personal: u64,
    pub(crate) recovered_in_pieces: u64,
    pub(crate) forgotten: u64,
    pub(crate) closed_when_idle: u64,
    pub(crate) api_requests: u64,
    pub(crate) api_connections: u64,
}

#[derive(Debug)]
pub(crate) struct Broker {
    lie: Lie,
    channels: Mutex<BTreeMap<String, Channel>>,
    pub(crate) counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Channel {
    published: u64,
    history: Vec<Vec<u8>>,
    held: Option<Tell>,
    subscribers: BTreeMap<usize, UnboundedSender<Tell>>,
}

pub(crate) const EPOCH: &str = "życie";

/// Whether a channel keeps its publications.
pub(crate) fn keeps(channel: &str) -> bool {
    channel.starts_with("log:")
}

// === impl Broker ===

impl Broker {
    pub(crate) fn new(lie: Lie) -> Self {
        Self { lie, channels: Mutex::default(), counts: Mutex::default() }
    }

    /// For so long messages wait for others to share a frame with.
    pub(crate) fn gathers_for(&self) -> Duration {
        Duration::from_millis(if self.lie == Lie::Repeat { 200 } else { 3 })
    }

    /// Hands it to all subscribers; its offset, if it has one.
    pub(crate) fn publish(&self, name: &str, data: &[u8]) -> Option<u64> {
        let mut channels = self.channels.lock().unwrap();
        let channel = channels.entry(name.to_owned()).or_default();
        channel.published += 1;
        let offset = keeps(name).then_some(channel.published);
        if offset.is_some() {
            channel.history.push(data.to_vec());
        }
        let publication = Publication { offset, data: data.to_vec() };
        let tell = Tell::Publication { channel: name.to_owned(), publication: publication.clone() };
        let lie = if name.ends_with('0') { self.lie } else { Lie::None };
        match (lie, channel.published) {
            (Lie::Lose, 3) => {}
            (Lie::Double, 3) => [&tell, &tell].into_iter().for_each(|tell| channel.tell(tell)),
            (Lie::Repeat, 3) => (0..10).for_each(|_| channel.tell(&tell)),
            (Lie::Swap, 3) => channel.held = Some(tell),
            (Lie::Swap, 4) => {
                [tell].into_iter().chain(channel.held.take()).for_each(|tell| channel.tell(&tell))
            }
            _ => channel.tell(&tell),
        }
        if let (Lie::Stray | Lie::Misaddress, 3) = (lie, channel.published) {
            for (other, channel) in channels.iter().filter(|(other, _)| *other != name) {
                let named = if lie == Lie::Stray { other } else { name };
                channel
                    .tell(&Tell::Publication { channel: named.to_owned(), publication: publication.clone() });
            }
        }
        offset
    }

    /// Answers a subscribe command and subscribes, without anything between the two.
    pub(crate) fn subscribe(
        &self,
        (client, sender): (usize, &UnboundedSender<Tell>),
        (id, name): (u64, &str),
        since: Option<(String, u64)>,
        manner: super::protocol::Manner,
    ) {
        let mut channels = self.channels.lock().unwrap();
        let channel = channels.entry(name.to_owned()).or_default();
        let top = channel.published;
        let since = since.filter(|_| keeps(name));
        let recovered = since.as_ref().map(|(epoch, offset)| epoch == EPOCH && *offset <= top);
        let mut missed = Vec::new();
        let mut offset = top;
        if let (Some((_, since)), Some(true)) = (&since, recovered) {
            offset = *since;
            missed.extend((since + 1..=top).zip(channel.history.iter().skip(*since as usize)));
            let mut counts = self.counts.lock().unwrap();
            if self.lie == Lie::Forget && counts.forgotten == 0 && missed.len() > 1 {
                counts.forgotten = 1;
                missed.remove(0);
            }
        }
        let mut missed: Vec<_> = missed
            .into_iter()
            .map(|(offset, data)| Publication { offset: Some(offset), data: data.clone() })
            .collect();
        let now = if manner.recovers_in_pieces() { missed.len().div_ceil(2) } else { missed.len() };
        let later = missed.split_off(now);
        self.counts.lock().unwrap().recovered_in_pieces += u64::from(!later.is_empty());
        if let (true, Some(last)) = (manner.advances(), missed.last()) {
            offset = last.offset.unwrap_or_default();
        }
        let place = keeps(name).then(|| Place { epoch: EPOCH.into(), offset, recovered });
        // Who has gone needs no answer.
        let _ = sender.send(Tell::Subscribed { id, place, publications: missed });
        for publication in later {
            let _ = sender.send(Tell::Publication { channel: name.to_owned(), publication });
        }
        channel.subscribers.insert(client, sender.clone());
    }

    pub(crate) fn leave(&self, client: usize) {
        for channel in self.channels.lock().unwrap().values_mut() {
            channel.subscribers.remove(&client);
        }
    }

    /// The last offset of a channel, `None` without history.
    pub(crate) fn top(&self, name: &str) -> Option<u64> {
        keeps(name).then(|| self.channels.lock().unwrap().get(name).map_or(0, |channel| channel.published))
    }

    pub(crate) fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.counts.lock().unwrap());
    }
}

impl Channel {
    fn tell(&self, tell: &Tell) {
        for subscriber in self.subscribers.values() {
            let _ = subscriber.send(tell.clone());
        }
    }
}
