//! What waits between Redis and the node, with a bound.
//!
//! The socket is always read on: a Redis whose words nobody takes drops the whole connection, and with it every channel.
//! So what finds no room is dropped here, and only its channel is lost.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use hashbrown::HashSet;
use parking_lot::Mutex;
use tidewire_protocol::ChannelName;
use tokio::sync::Notify;

use crate::metrics::Metrics;

/// What an item counts besides its bytes.
const ITEM_COST: usize = 64;

/// One word from Redis.
#[derive(Debug, PartialEq)]
pub(crate) enum Item {
    /// An announcement, and where it was made.
    Message(Bytes, Bytes),
    /// The channel is announced again after a time it was not.
    Lost(ChannelName),
}

pub(crate) struct Inbox {
    state: Mutex<State>,
    wake: Notify,
    bytes_max: usize,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    bytes: usize,
    /// Where something was dropped.
    dropped: HashSet<Bytes, foldhash::fast::RandomState>,
}

// === impl Inbox ===

impl Inbox {
    pub(crate) fn new(bytes_max: usize, metrics: Arc<Metrics>) -> Self {
        Self { state: Mutex::default(), wake: Notify::new(), bytes_max, metrics }
    }

    /// Puts items in, as far as there is room. That a channel was lost is never dropped.
    pub(crate) fn put(&self, items: &mut Vec<Item>) {
        if items.is_empty() {
            return;
        }
        let mut overflows = 0;
        let mut state = self.state.lock();
        for item in items.drain(..) {
            let cost = item.cost();
            match item {
                Item::Message(name, _) if state.bytes + cost > self.bytes_max => {
                    overflows += 1;
                    // A slice would keep the whole read buffer alive.
                    if !state.dropped.contains(&name) {
                        state.dropped.insert(Bytes::copy_from_slice(&name));
                    }
                }
                item => {
                    state.bytes += cost;
                    state.items.push_back(item);
                }
            }
        }
        self.metrics.inbox_bytes.store(state.bytes as u64, Ordering::Relaxed);
        drop(state);
        if overflows > 0 {
            self.metrics.inbox_overflows.fetch_add(overflows, Ordering::Relaxed);
        }
        self.wake.notify_one();
    }

    /// Waits for items: at most `count` of them, in order, and where something was dropped.
    pub(crate) async fn take(&self, count: usize) -> (Vec<Item>, Vec<Bytes>) {
        loop {
            {
                let mut state = self.state.lock();
                if !state.items.is_empty() || !state.dropped.is_empty() {
                    let count = count.min(state.items.len());
                    let items: Vec<Item> = state.items.drain(..count).collect();
                    state.bytes -= items.iter().map(Item::cost).sum::<usize>();
                    self.metrics.inbox_bytes.store(state.bytes as u64, Ordering::Relaxed);
                    let dropped = state.dropped.drain().collect();
                    return (items, dropped);
                }
            }
            self.wake.notified().await;
        }
    }
}

// === impl Item ===

impl Item {
    fn cost(&self) -> usize {
        match self {
            Self::Message(name, payload) => ITEM_COST + name.len() + payload.len(),
            Self::Lost(_) => ITEM_COST,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &'static str, size: usize) -> Item {
        Item::Message(Bytes::from_static(name.as_bytes()), vec![0; size].into())
    }

    #[tokio::test]
    async fn inv_b2_what_finds_no_room_is_dropped_and_only_its_channel_is_told() {
        let inbox = Inbox::new(2 * (ITEM_COST + 101), Arc::default());
        inbox.put(&mut vec![message("a", 100), message("b", 100), message("c", 100), message("c", 1)]);
        inbox.put(&mut vec![Item::Lost("d".into())]);
        let (items, dropped) = inbox.take(10).await;
        assert_eq!(items, [message("a", 100), message("b", 100), Item::Lost("d".into())]);
        assert_eq!(dropped, [Bytes::from_static(b"c")]);
        // There is room again, and what was told is not told again.
        inbox.put(&mut vec![message("c", 100)]);
        assert_eq!(inbox.take(10).await, (vec![message("c", 100)], vec![]));
        let state = inbox.state.lock();
        assert_eq!((state.bytes, state.items.len()), (0, 0));
    }
}
