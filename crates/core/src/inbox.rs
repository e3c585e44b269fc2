//! What other threads tell a worker.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures_channel::oneshot;
use parking_lot::Mutex;
use tidewire_protocol::{ChannelName, Disconnect, Unsubscribed};
use uuid::Uuid;

use crate::frame::Broadcast;
use crate::hooks::SubscribeGrant;
use crate::task::Completion;

/// Bytes of broadcasts a worker may have waiting. Above it broadcasts are left out and their channels are marked lost,
/// so that positioned subscribers are told and others miss a message, as at-most-once allows. The worker may have as many
/// under way.
const BROADCAST_BYTES_MAX: usize = 128 << 20;

/// Room for this many items is kept when a queue has been emptied.
const KEPT_ITEMS: usize = 1024;

/// One thing for a worker to do.
pub(crate) enum Item {
    Broadcast(Arc<Broadcast>),
    /// Announcements of this channel may have been lost.
    Lost(ChannelName),
    Completed(Completion),
    Control(Control),
    /// Close every connection with 3001 within this time.
    Drain(Duration),
}

/// An operation on connections, from the server API or the library.
pub(crate) struct Control {
    /// Slot and client id; a slot that has passed to another client is left alone.
    pub(crate) connections: Vec<(u32, Uuid)>,
    pub(crate) operation: Operation,
    pub(crate) ack: Ack,
}

/// What is done to each connection a [`Control`] addresses.
#[derive(Debug, Clone)]
pub(crate) enum Operation {
    Disconnect(Disconnect),
    /// `None`: every channel.
    Unsubscribe(Option<ChannelName>, Unsubscribed),
    Subscribe(Arc<SubscribeOperation>),
    /// `expired` or the new expiry in Unix seconds (0: never), and the new info if any.
    Refresh {
        expired: bool,
        expire_at: i64,
        info: Option<bytes::Bytes>,
    },
    Send(bytes::Bytes),
    /// A message of the client that another request brought: commands, as in a message of the transport.
    Commands(bytes::Bytes),
}

#[derive(Debug)]
pub(crate) struct SubscribeOperation {
    pub(crate) channel: ChannelName,
    pub(crate) grant: SubscribeGrant,
    pub(crate) recover_since: Option<tidewire_protocol::StreamPosition>,
}

/// Tells the caller of an operation that it is done, when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Ack(#[allow(dead_code, reason = "held for its drop")] Arc<AckSender>);

struct AckSender(Option<oneshot::Sender<()>>);

impl Drop for AckSender {
    fn drop(&mut self) {
        if let Some(sender) = self.0.take() {
            // A caller that no longer waits is no error.
            let _ = sender.send(());
        }
    }
}

impl Ack {
    pub(crate) fn new() -> (Self, oneshot::Receiver<()>) {
        let (sender, receiver) = oneshot::channel();
        (Self(Arc::new(AckSender(Some(sender)))), receiver)
    }
}

type Waker = Box<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct State {
    items: VecDeque<Item>,
    broadcast_bytes: usize,
    /// Channels whose loss is already in `items`, while the inbox is full.
    lost: Vec<ChannelName>,
    waker: Option<Arc<Waker>>,
}

/// The queue in front of a worker. Pushing wakes the worker's thread if it may be asleep.
#[derive(Default)]
pub struct Inbox {
    state: Mutex<State>,
}

impl Inbox {
    /// Names what wakes the thread that drives the worker; it is called after a push into an empty inbox.
    pub fn set_waker(&self, waker: Waker) {
        self.state.lock().waker = Some(Arc::new(waker));
    }

    /// Hands back the result of a task that had to wait.
    pub fn push_completion(&self, completion: Completion) {
        self.push(Item::Completed(completion));
    }

    pub(crate) fn push(&self, item: Item) {
        let mut state = self.state.lock();
        let asleep = state.items.is_empty();
        state.items.push_back(item);
        let waker = asleep.then(|| state.waker.clone()).flatten();
        drop(state);
        if let Some(wake) = waker {
            wake();
        }
    }

    /// Queues a broadcast; returns false if there was no room and the channel is marked lost instead.
    pub(crate) fn push_broadcast(&self, broadcast: &Arc<Broadcast>) -> bool {
        let mut state = self.state.lock();
        if state.broadcast_bytes > BROADCAST_BYTES_MAX {
            let known = state.lost.contains(&broadcast.channel);
            if !known {
                state.lost.push(broadcast.channel.clone());
                state.items.push_back(Item::Lost(broadcast.channel.clone()));
            }
            return false;
        }
        state.broadcast_bytes += broadcast.weight();
        drop(state);
        self.push(Item::Broadcast(Arc::clone(broadcast)));
        true
    }

    /// Takes everything; `into` must be empty. The two queues change places, so that nothing is allocated for most takes.
    pub(crate) fn take(&self, into: &mut VecDeque<Item>) {
        debug_assert!(into.is_empty(), "what was taken before is not done");
        if into.capacity() > KEPT_ITEMS {
            *into = VecDeque::new();
        }
        let mut state = self.state.lock();
        state.broadcast_bytes = 0;
        state.lost.clear();
        std::mem::swap(&mut state.items, into);
    }
}
