//! The connections of one thread, and everything that happens to them.
//!
//! A worker has no socket, no clock and no thread of its own: a driver (the reactor, or the simulator) hands it messages,
//! answers and the time, and takes frames and tasks away. Every entry point settles what it touched: replies in the
//! outbox, timers set, connections with news listed.
//!
//! A panic while one connection takes its turn closes that connection, is counted, and leaves the others alone.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use slab::Slab;
use tidewire_protocol::Disconnect;
use uuid::Uuid;

use crate::connection::{Closing, Connection, Delivery, Turn};
use crate::frame::{Broadcast, Framing, Wire};
use crate::hooks::UpgradeRequest;
use crate::inbox::{Control, Inbox, Item};
use crate::local::LocalChannels;
use crate::node::Node;
use crate::outbox::Outbox;
use crate::ready::{Line, Ready};
use crate::task::{Completion, Task};
use crate::time::{NEVER, Now, millis};
use crate::wheel::TimerWheel;

/// Names a connection of a worker from [`Worker::open`] until [`Worker::gone`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionKey(u32);

impl ConnectionKey {
    /// The key with this number: for a driver of something that is not a [`Worker`], such as an echo in a test.
    pub fn new(index: u32) -> Self {
        Self(index)
    }

    /// A small dense number: keys of a worker that are in use never share one.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A socket that speaks the client protocol from here on.
#[derive(Debug, Clone)]
pub struct Opening {
    /// How it is written to.
    pub wire: Wire,
    /// The HTTP request it began with.
    pub request: Arc<UpgradeRequest>,
}

/// The connections of one thread.
pub struct Worker {
    connections: Slab<Connection>,
    shared: Shared,
    wheel: TimerWheel,
    ready: Ready,
    inbox: Arc<Inbox>,
    /// Taken from the inbox and not done yet.
    pending: VecDeque<Item>,
    /// What was broadcast since the driver last had nothing left to take, in bytes of one connection's outbox at most.
    unoffered: usize,
    generations: u32,
    due: Vec<u32>,
}

/// What a connection may reach while it takes its turn, apart from itself.
struct Shared {
    node: Arc<Node>,
    number: u16,
    channels: LocalChannels,
    tasks: VecDeque<Task>,
    rng: StdRng,
    replies: Vec<u8>,
}

// === impl Worker: what the driver hands in ===

impl Worker {
    /// A worker of a node. `seed` must come from the operating system's randomness: client ids are made of it.
    pub fn new(node: Arc<Node>, seed: [u8; 32]) -> Self {
        let inbox = Arc::new(Inbox::default());
        let number = node.add_worker(Arc::clone(&inbox));
        let wheel = TimerWheel::new(node.now().ms());
        Self {
            connections: Slab::new(),
            shared: Shared {
                node,
                number,
                channels: LocalChannels::default(),
                tasks: VecDeque::new(),
                rng: StdRng::from_seed(seed),
                replies: Vec::new(),
            },
            wheel,
            ready: Ready::default(),
            inbox,
            pending: VecDeque::new(),
            unoffered: 0,
            generations: 0,
            due: Vec::new(),
        }
    }

    /// Where other threads leave work for this worker.
    pub fn inbox(&self) -> Arc<Inbox> {
        Arc::clone(&self.inbox)
    }

    /// Takes a new socket.
    pub fn open(&mut self, opening: Opening, now: Now) -> ConnectionKey {
        let node = Arc::clone(&self.shared.node);
        node.metrics().opened.increment();
        if matches!(opening.wire.framing, Framing::WebSocketDeflate(_)) {
            node.metrics().opened_deflate.increment();
        }
        self.generations = self.generations.wrapping_add(1);
        let stale_at = now.ms() + millis(node.options().client.stale_close_delay);
        let client = self.random_uuid();
        let connection = Connection::new(opening.wire, opening.request, client, self.generations, stale_at);
        let key = ConnectionKey(self.connections.insert(connection) as u32);
        self.turn(key.0, now, |connection, turn| {
            if turn.node.is_draining() {
                connection.close(Disconnect::SHUTDOWN, turn);
            }
        });
        key
    }

    /// Takes a new connection whose commands may also come by other requests, to any node, as those of HTTP fallbacks do.
    /// Its client is told a session, and whoever names it to [`Node::forward`] speaks for the client: it is random, and
    /// must not be logged.
    pub fn open_with_session(&mut self, opening: Opening, now: Now) -> ConnectionKey {
        let key = self.open(opening, now);
        let session = self.random_uuid();
        if let Some(connection) = self.connections.get_mut(key.index()) {
            connection.set_session(session);
        }
        key
    }

    /// Takes one complete message of a connection.
    pub fn message(&mut self, key: ConnectionKey, payload: Bytes, now: Now) {
        self.turn(key.0, now, |connection, turn| connection.message(payload, turn));
    }

    /// The driver has written some of a connection's outbox. To be told while the connection does not want to be read:
    /// commands that wait for room there go on if there is enough.
    pub fn written(&mut self, key: ConnectionKey, now: Now) {
        let limit = self.shared.node.options().client.queue_max_size;
        if self.connections.get(key.index()).is_some_and(|connection| connection.has_room_again(limit)) {
            self.turn(key.0, now, |connection, turn| connection.continue_intake(turn));
        }
    }

    /// The socket is gone, by the peer or by the driver. The key is not valid any more.
    pub fn gone(&mut self, key: ConnectionKey, now: Now) {
        self.turn(key.0, now, |connection, turn| connection.gone(turn));
    }

    /// Closes a connection on the driver's judgement, such as a write that makes no progress.
    pub fn close(&mut self, key: ConnectionKey, why: Disconnect, now: Now) {
        self.turn(key.0, now, |connection, turn| connection.close(why, turn));
    }

    /// The driver has contained a panic; it is counted with those of connections' turns.
    pub fn panicked(&mut self) {
        self.shared.node.metrics().contained_panics.increment();
    }

    /// Takes the result of a task.
    pub fn complete(&mut self, done: Completion, now: Now) {
        let current = self.connections.get(done.slot as usize).map(Connection::generation);
        if current == Some(done.generation) {
            self.turn(done.slot, now, |connection, turn| connection.complete(done.answer, turn));
        }
    }

    /// Does what has come from other threads and what is due by the clock.
    ///
    /// Broadcasts are taken in portions: after half of what an outbox may hold, the rest waits until the driver has taken
    /// every connection with news. So an outbox overflows only because its socket does not take what it is offered, never
    /// because too much came at once.
    pub fn advance(&mut self, now: Now) {
        if self.ready.is_empty() {
            self.unoffered = 0;
        }
        if self.pending.is_empty() {
            self.inbox.take(&mut self.pending);
        }
        let portion = self.shared.node.options().client.queue_max_size / 2;
        while let Some(item) = self.pending.pop_front() {
            if let Item::Broadcast(broadcast) = &item {
                if self.unoffered > portion {
                    self.pending.push_front(item);
                    break;
                }
                self.unoffered += broadcast.weight();
            }
            self.take(item, now);
        }
        let mut due = std::mem::take(&mut self.due);
        self.wheel.expire(now.ms(), &mut due);
        for slot in due.drain(..) {
            self.turn(slot, now, |connection, turn| connection.tick(turn));
        }
        self.due = due;
    }
}

// === impl Worker: what the driver takes away ===

impl Worker {
    /// When [`Worker::advance`] has something to do at the latest, in monotonic time.
    pub fn deadline(&self) -> Option<Duration> {
        if self.is_behind() {
            return Some(Duration::ZERO);
        }
        self.wheel.next_deadline().map(Duration::from_millis)
    }

    /// Whether more has come than [`Worker::advance`] takes before the driver has served everyone with news.
    pub fn is_behind(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Work that waits for something.
    pub fn next_task(&mut self) -> Option<Task> {
        self.shared.tasks.pop_front()
    }

    /// A connection with news: something to write, a reason to close, or reading wanted again. Whoever takes it serves it
    /// before asking for the next one.
    pub fn next_ready(&mut self) -> Option<ConnectionKey> {
        while let Some((slot, line)) = self.ready.next() {
            if let Some(connection) = self.connections.get_mut(slot as usize)
                && connection.listed == Some(line)
                && !connection.gone
            {
                connection.listed = None;
                return Some(ConnectionKey(slot));
            }
        }
        None
    }

    /// Whether [`Worker::next_ready`] may have one.
    pub fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    /// What is to be written.
    ///
    /// # Panics
    /// If the key is not valid any more.
    #[allow(clippy::indexing_slicing, reason = "the key's validity is the contract")]
    pub fn outbox(&mut self, key: ConnectionKey) -> &mut Outbox {
        &mut self.connections[key.index()].outbox
    }

    /// Whether the driver should read from the socket. Not while commands wait for answers: the rest stays in the
    /// socket's own buffer.
    pub fn wants_read(&self, key: ConnectionKey) -> bool {
        self.connections.get(key.index()).is_some_and(Connection::wants_read)
    }

    /// Why and how the connection is to be closed, if it is.
    pub fn closing(&self, key: ConnectionKey) -> Option<&Closing> {
        self.connections.get(key.index())?.closing()
    }

    /// Connections the driver has not let go of.
    pub fn connections(&self) -> usize {
        self.connections.iter().filter(|(_, connection)| !connection.gone).count()
    }

    /// Whether nothing is left of any connection: no slot, no subscriber, no task. For tests of leaks.
    pub fn is_empty(&self) -> bool {
        self.connections.is_empty() && self.shared.channels.is_empty() && self.shared.tasks.is_empty()
    }
}

// === impl Worker: within ===

impl Worker {
    fn random_uuid(&mut self) -> Uuid {
        let mut bytes = [0; 16];
        self.shared.rng.fill_bytes(&mut bytes);
        uuid::Builder::from_random_bytes(bytes).into_uuid()
    }

    /// Lets one connection act, and settles what it did.
    fn turn(&mut self, slot: u32, now: Now, act: impl FnOnce(&mut Connection, &mut Turn<'_>)) {
        let Some(connection) = self.connections.get_mut(slot as usize) else {
            return;
        };
        let wanted_read = connection.wants_read();
        let Shared { node, number, channels, tasks, rng, replies } = &mut self.shared;
        let mut turn = Turn { node, now, worker: *number, slot, channels, tasks, rng, replies };
        let acted = catch_unwind(AssertUnwindSafe(|| {
            act(connection, &mut turn);
            connection.flush(&mut turn);
        }));
        if acted.is_err() {
            turn.replies.clear();
            turn.node.metrics().contained_panics.increment();
            tracing::error!(client = %connection.client(), "a connection's turn panicked and is closed; please report this");
            let closed =
                catch_unwind(AssertUnwindSafe(|| connection.close(Disconnect::SERVER_ERROR, &mut turn)));
            if closed.is_err() {
                connection.close_after_panic();
            }
        }
        self.settle(slot, wanted_read, now);
    }

    /// Sets timers, checks the outbox bound, lists the connection if the driver has to look at it.
    fn settle(&mut self, slot: u32, wanted_read: bool, now: Now) {
        let Some(connection) = self.connections.get_mut(slot as usize) else {
            return;
        };
        if connection.is_over() {
            self.connections.remove(slot as usize);
            self.wheel.set(slot, NEVER);
            self.shrink();
            return;
        }
        let limit = self.shared.node.options().client.queue_max_size;
        if connection.outbox.weight() > limit && !connection.is_closed() {
            return self.turn(slot, now, |connection, turn| connection.close(Disconnect::SLOW, turn));
        }
        self.wheel.set(slot, connection.deadline());
        let resumed = !wanted_read && connection.wants_read();
        let news = !connection.outbox.is_empty() || connection.closing().is_some() || resumed;
        if news && !connection.gone {
            self.ready.list(slot, Line::Answer, &mut connection.listed);
        }
    }

    /// Gives memory back after a crowd has left.
    fn shrink(&mut self) {
        if self.connections.is_empty() {
            self.connections = Slab::new();
            self.ready.shrink();
        }
    }

    /// Does one thing that came from another thread.
    fn take(&mut self, item: Item, now: Now) {
        match item {
            Item::Broadcast(broadcast) => self.broadcast(&broadcast, now),
            Item::Completed(done) => self.complete(done, now),
            Item::Control(control) => self.control(&control, now),
            Item::Lost(channel) => {
                let subscribers: Vec<_> = self.shared.channels.subscribers(&channel).collect();
                for subscriber in subscribers {
                    self.turn(subscriber.slot, now, |connection, turn| connection.lost(subscriber.sub, turn));
                }
            }
            Item::Drain(spread) => {
                let slots: Vec<u32> = self.connections.iter().map(|(slot, _)| slot as u32).collect();
                for slot in slots {
                    self.turn(slot, now, |connection, turn| connection.drain(spread, turn));
                }
            }
        }
    }

    /// Hands one event to every subscriber of its channel. The only work per subscriber is the position check and a
    /// reference to the shared frame.
    fn broadcast(&mut self, broadcast: &Arc<Broadcast>, now: Now) {
        let options = &self.shared.node.options().client;
        let (limit, lag) = (options.queue_max_size, options.channel_position_max_time_lag);
        let late = !lag.is_zero() && broadcast.is_older(lag, now);
        let mut trouble: Vec<(u32, Delivery)> = Vec::new();
        let mut queued = 0;
        let metrics = self.shared.node.metrics();
        for subscriber in self.shared.channels.subscribers(&broadcast.channel) {
            let Some(connection) = self.connections.get_mut(subscriber.slot as usize) else {
                continue;
            };
            match connection.deliver(subscriber.sub, broadcast, late, metrics) {
                Delivery::Queued => {
                    queued += 1;
                    self.ready.list(subscriber.slot, Line::Broadcast, &mut connection.listed);
                    if connection.outbox.weight() > limit {
                        trouble.push((subscriber.slot, Delivery::Queued));
                    }
                }
                Delivery::Skipped => {}
                other => trouble.push((subscriber.slot, other)),
            }
        }
        metrics.deliveries.add(queued);
        for (slot, what) in trouble {
            self.turn(slot, now, |connection, turn| match what {
                Delivery::Insufficient(sub) => connection.missed(sub, turn),
                Delivery::Unencodable => connection.close(Disconnect::INAPPROPRIATE_PROTOCOL, turn),
                // Too much is queued: settling closes it.
                Delivery::Queued | Delivery::Skipped => {}
            });
        }
    }

    fn control(&mut self, control: &Control, now: Now) {
        for (slot, client) in &control.connections {
            let current = self.connections.get(*slot as usize).map(Connection::client);
            if current == Some(*client) {
                let ack = control.ack.clone();
                self.turn(*slot, now, |connection, turn| connection.control(&control.operation, ack, turn));
            }
        }
    }
}
