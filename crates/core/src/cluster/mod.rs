//! The nodes that share an engine: who they are, and what one asks of all.
//!
//! `message`: what goes over the engine's bus. `peers`: who has been heard of. `calls`: who has answered. Here: the node's
//! side of it. An operation on connections is done on this node and asked of every other one; the answers are counted,
//! and who stayed silent is told to the caller.

mod calls;
mod message;
mod peers;

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_channel::mpsc;
use futures_util::future::{BoxFuture, FutureExt, join_all};
use futures_util::stream::{FuturesUnordered, StreamExt};
use parking_lot::Mutex;
use prost::Message as _;
use tidewire_engine::bus::MESSAGE_BYTES_MAX;
use tidewire_engine::{BusReceiver, Recipients};
use tidewire_protocol::ChannelName;
use uuid::Uuid;

use self::calls::{Answers, Calls, Handled, Seen};
use self::message::{
    Action, Answer, Body, ChannelCount, Commands, Envelope, Farewell, Heartbeat, Request, WireTarget,
};
use self::peers::{HEARTBEAT_MS, Peers};
use crate::glob::Glob;
use crate::hooks::ProcessUse;
use crate::inbox::Operation;
use crate::metrics::Metrics;
use crate::node::{Node, NodeInfo, Target};
use crate::time::{Millis, millis};

/// Messages of other nodes that may wait. Above it they are left out: heartbeats come again, requests are repeated.
const MAILBOX_MAX: usize = 16_384;
/// Requests of other nodes that may be under way; while there are as many, the mailbox fills.
const AT_WORK_MAX: usize = 16_384;

/// What a node knows of the others.
pub(crate) struct Cluster {
    me: Uuid,
    state: Mutex<State>,
    mailbox: Mutex<Option<mpsc::Receiver<Bytes>>>,
}

#[derive(Default)]
struct State {
    peers: Peers,
    calls: Calls,
    handled: Handled,
    next_heartbeat: Millis,
    /// This node has said goodbye: a heartbeat now would have the others wait for it.
    has_left: bool,
}

/// What another node asks of this one's connections.
enum Work {
    Operate(WireTarget, Operation),
    /// A message of the client with this session.
    Take(Uuid, Bytes),
}

/// The end of the bus at this node.
pub(crate) struct Mailbox {
    queue: Mutex<mpsc::Sender<Bytes>>,
    metrics: Arc<Metrics>,
}

impl BusReceiver for Mailbox {
    fn receive(&self, message: Bytes) {
        if self.queue.lock().try_send(message).is_err() {
            self.metrics.bus_overflows.increment();
        }
    }
}

// === impl Cluster: what is known ===

impl Cluster {
    /// The node's part, and what the bus hands messages to.
    pub(crate) fn new(me: Uuid, metrics: Arc<Metrics>) -> (Self, Arc<Mailbox>) {
        let (sender, receiver) = mpsc::channel(MAILBOX_MAX);
        let cluster = Self { me, state: Mutex::default(), mailbox: Mutex::new(Some(receiver)) };
        (cluster, Arc::new(Mailbox { queue: Mutex::new(sender), metrics }))
    }

    /// The other nodes.
    pub(crate) fn peers(&self) -> Vec<NodeInfo> {
        self.state.lock().peers.infos().cloned().collect()
    }

    fn gone(&self, node: Uuid) {
        let state = &mut *self.state.lock();
        if state.peers.gone(node) {
            tracing::info!(%node, "node has left");
        }
        state.calls.gone(node);
    }

    /// Forgets who has been silent for too long; whether a heartbeat is due, and what is to be asked again.
    fn tick(&self, now: Millis) -> (bool, Vec<(Uuid, Bytes)>) {
        let state = &mut *self.state.lock();
        for node in state.peers.expire(now) {
            tracing::warn!(%node, "node has not been heard of for too long and is taken for dead");
            state.calls.gone(node);
        }
        let due = now >= state.next_heartbeat && !state.has_left;
        if due {
            state.next_heartbeat = now + HEARTBEAT_MS;
        }
        (due, state.calls.tick(now))
    }
}

// === impl Node: asking the others ===

impl Node {
    /// This node and every other that shares its engine, as far as they have been heard of in the last ten seconds.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        let mut nodes = vec![self.info()];
        nodes.extend(self.cluster().peers());
        nodes
    }

    /// Asks every other node to carry out an operation.
    pub(crate) async fn ask_to_operate(&self, target: &Target, operation: &Operation) -> Answers {
        match Action::of(operation) {
            Some(action) => self.ask(Some(target), action).await,
            None => Answers::default(),
        }
    }

    /// Hands a client's message to the node that has its connection; `None` if no such node is known.
    pub(crate) async fn ask_to_take(&self, node: Uuid, session: Uuid, frame: Bytes) -> Option<Answers> {
        let known = self.cluster().state.lock().peers.ids().any(|id| id == node);
        if !known {
            return None;
        }
        let session = Bytes::copy_from_slice(session.as_bytes());
        Some(self.ask_nodes([node].into(), None, Action::Commands(Commands { session, frame })).await)
    }

    /// Asks every other node which of its channels match.
    pub(crate) async fn ask_for_channels(&self, pattern: &str) -> Answers {
        self.ask(None, Action::Channels(pattern.to_owned())).await
    }

    /// Asks every other node.
    async fn ask(&self, target: Option<&Target>, action: Action) -> Answers {
        let peers = self.cluster().state.lock().peers.ids().collect();
        self.ask_nodes(peers, target, action).await
    }

    /// Asks these nodes: all others, or one.
    async fn ask_nodes(&self, nodes: BTreeSet<Uuid>, target: Option<&Target>, action: Action) -> Answers {
        let (Some(bus), Some(first)) = (self.engine().bus(), nodes.first().copied()) else {
            return Answers::default();
        };
        let to = match action {
            Action::Commands(_) => Recipients::One(first),
            _ => Recipients::Others,
        };
        let target = target.map(WireTarget::from);
        let encode = |id| self.envelope(Body::Request(Request { id, target, action: Some(action) }));
        let (message, answers) =
            self.cluster().state.lock().calls.begin(nodes, millis(self.now().mono), encode);
        if message.len() > MESSAGE_BYTES_MAX {
            tracing::warn!(bytes = message.len(), "an operation is too large for the other nodes");
        } else if let Err(error) = bus.send(to, message).await {
            // Asked again on a later tick.
            tracing::warn!(%error, "other nodes could not be asked");
        }
        let answers = answers.await.unwrap_or_default();
        if answers.failed() > 0 {
            tracing::warn!(
                nodes = answers.failed(),
                "nodes did not do, or did not say that they did, what they were asked"
            );
        }
        self.metrics().silent_nodes.add(answers.silent as u64);
        answers
    }

    /// What has to be done about once a second: heartbeat, dead nodes, requests without an answer.
    pub(crate) async fn tick_cluster(&self) {
        let Some(bus) = self.engine().bus() else { return };
        let (heartbeat, again) = self.cluster().tick(millis(self.now().mono));
        if heartbeat {
            self.say(Recipients::Others, Body::Heartbeat(self.heartbeat(false))).await;
        }
        for (node, message) in again.into_iter().filter(|(_, message)| message.len() <= MESSAGE_BYTES_MAX) {
            if let Err(error) = bus.send(Recipients::One(node), message).await {
                tracing::warn!(%node, %error, "a node could not be asked again");
            }
        }
    }

    async fn say(&self, to: Recipients, body: Body) {
        let Some(bus) = self.engine().bus() else { return };
        if let Err(error) = bus.send(to, self.envelope(body)).await {
            tracing::debug!(%error, "a message to other nodes was not sent");
        }
    }

    fn envelope(&self, body: Body) -> Bytes {
        Envelope::new(self.cluster().me, body).encode_to_vec().into()
    }

    fn heartbeat(&self, introduce_yourself: bool) -> Heartbeat {
        let NodeInfo { uid: _, name, version, clients, users, channels, subscriptions, uptime, process } =
            self.info();
        Heartbeat {
            name,
            version,
            clients: clients as u64,
            users: users as u64,
            channels: channels as u64,
            subscriptions: subscriptions as u64,
            uptime_ms: millis(uptime),
            introduce_yourself,
            cpu_seconds: process.map(|process| process.cpu_seconds),
            resident_bytes: process.map(|process| process.resident_bytes),
        }
    }
}

// === impl Node: being asked ===

/// What has to wait before a message is done with.
type Rest<'a> = BoxFuture<'a, ()>;

impl Node {
    /// Takes part in the cluster: introduces this node, then hears the others, until dropped. To be driven for as long as
    /// the node lives; ends at once where the engine has no bus, and on a second call.
    pub(crate) async fn serve_cluster(&self) {
        let mailbox = self.cluster().mailbox.lock().take();
        let (Some(mut mailbox), Some(_)) = (mailbox, self.engine().bus()) else { return };
        self.say(Recipients::Others, Body::Heartbeat(self.heartbeat(true))).await;
        let mut at_work: FuturesUnordered<Rest<'_>> = FuturesUnordered::new();
        loop {
            let message = poll_fn(|context| {
                while let Poll::Ready(Some(())) = at_work.poll_next_unpin(context) {}
                if at_work.len() >= AT_WORK_MAX { Poll::Pending } else { mailbox.poll_next_unpin(context) }
            });
            match message.await {
                Some(message) => at_work.extend(self.hear(message)),
                None => return,
            }
        }
    }

    /// Tells the others that nothing more is to be expected from this node.
    pub async fn leave_cluster(&self) {
        self.cluster().state.lock().has_left = true;
        self.say(Recipients::Others, Body::Farewell(Farewell {})).await;
    }

    /// Does at once what can be done at once, so that a sender's messages take effect in its order.
    fn hear(&self, message: Bytes) -> Option<Rest<'_>> {
        let envelope = Envelope::decode(message).ok();
        let sender = envelope.as_ref().and_then(Envelope::sender);
        let (Some(Envelope { body: Some(body), .. }), Some(from)) = (envelope, sender) else {
            // Also a kind of message that only newer nodes know.
            self.metrics().bus_unreadable.increment();
            return None;
        };
        if from == self.cluster().me {
            return None;
        }
        match body {
            Body::Heartbeat(heartbeat) => self.hear_heartbeat(from, heartbeat),
            Body::Farewell(Farewell {}) => {
                self.cluster().gone(from);
                None
            }
            Body::Answer(answer) => {
                self.cluster().state.lock().calls.answered(from, answer);
                None
            }
            Body::Request(request) => self.hear_request(from, request),
        }
    }

    fn hear_heartbeat(&self, from: Uuid, heartbeat: Heartbeat) -> Option<Rest<'_>> {
        let info = NodeInfo {
            uid: from.to_string(),
            name: heartbeat.name,
            version: heartbeat.version,
            clients: heartbeat.clients as usize,
            users: heartbeat.users as usize,
            channels: heartbeat.channels as usize,
            subscriptions: heartbeat.subscriptions as usize,
            uptime: Duration::from_millis(heartbeat.uptime_ms),
            process: heartbeat
                .cpu_seconds
                .zip(heartbeat.resident_bytes)
                .map(|(cpu_seconds, resident_bytes)| ProcessUse { cpu_seconds, resident_bytes }),
        };
        let name = info.name.clone();
        let (is_new, has_left) = {
            let state = &mut *self.cluster().state.lock();
            (state.peers.heard(from, info, millis(self.now().mono)), state.has_left)
        };
        if is_new {
            tracing::info!(node = %from, name, "node has come");
        }
        (heartbeat.introduce_yourself && !has_left).then(|| {
            let mine = self.heartbeat(false);
            async move { self.say(Recipients::One(from), Body::Heartbeat(mine)).await }.boxed()
        })
    }

    fn hear_request(&self, from: Uuid, request: Request) -> Option<Rest<'_>> {
        let Request { id, target, action } = request;
        let work = match action {
            Some(Action::Channels(pattern)) => {
                return Some(self.answer(from, self.channels_here(id, &pattern)).boxed());
            }
            Some(Action::Commands(Commands { session, frame })) => {
                Uuid::from_slice(&session).ok().map(|session| Work::Take(session, frame))
            }
            Some(action) => action
                .into_operation()
                .zip(target)
                .map(|(operation, target)| Work::Operate(target, operation)),
            None => None,
        };
        let Some(work) = work else {
            return Some(self.answer(from, Answer { id, failed: true, ..Default::default() }).boxed());
        };
        match self.cluster().state.lock().handled.begin(from, id) {
            Seen::Never => {}
            Seen::UnderWay => return None,
            Seen::Answered(answer) => return Some(self.answer(from, answer).boxed()),
        }
        let (count, done) = match work {
            Work::Operate(target, operation) => self.operate_here(&target.into(), operation),
            Work::Take(session, frame) => self.take_here(session, frame),
        };
        Some(
            async move {
                join_all(done).await;
                let answer = Answer { id, connections: count as u64, ..Default::default() };
                self.cluster().state.lock().handled.answered(from, &answer);
                self.answer(from, answer).await;
            }
            .boxed(),
        )
    }

    fn channels_here(&self, id: u64, pattern: &str) -> Answer {
        let Some(pattern) = Glob::parse_or_all(pattern) else {
            return Answer { id, failed: true, ..Default::default() };
        };
        let matching = self.hub().channels().into_iter().filter(|(name, _)| pattern.matches(name));
        let channels = matching
            .map(|(name, subscribers)| ChannelCount { channel: name.to_string(), subscribers })
            .collect();
        let answer = Answer { id, channels, ..Default::default() };
        if answer.encoded_len() > MESSAGE_BYTES_MAX - 64 {
            tracing::warn!("this node has too many channels to list them for another node; use a pattern");
            return Answer { id, failed: true, ..Default::default() };
        }
        answer
    }

    async fn answer(&self, to: Uuid, answer: Answer) {
        self.say(Recipients::One(to), Body::Answer(answer)).await;
    }
}

// === impl Answers ===

impl Answers {
    /// Connections it was done to on other nodes.
    pub(crate) fn connections(&self) -> usize {
        self.answers.iter().map(|answer| answer.connections as usize).sum()
    }

    /// Nodes that did not answer, or said that they could not.
    pub(crate) fn failed(&self) -> usize {
        self.silent + self.answers.iter().filter(|answer| answer.failed).count()
    }

    /// Channels with subscribers on other nodes.
    pub(crate) fn into_channels(self) -> impl Iterator<Item = (ChannelName, u32)> {
        let counts = self.answers.into_iter().flat_map(|answer| answer.channels);
        counts.map(|count| (ChannelName::from(count.channel), count.subscribers))
    }
}
