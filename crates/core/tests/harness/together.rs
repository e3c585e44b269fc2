//! Several nodes that talk over a bus in memory. They share no streams: what is tested with them is the bus.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use parking_lot::Mutex;
use tidewire_engine::{
    Announcements, BoxFuture, Broker, Bus, BusReceiver, Capabilities, Clock, Engine, EngineError, History,
    HistoryFilter, NewPublication, PresenceStats, PresenceStore, Published, Recipients,
};
use tidewire_engine_embedded::EmbeddedEngine;
use tidewire_protocol::{ChannelName, ClientInfo};
use uuid::Uuid;

use super::{HandClock, Setup, World};

/// What carries messages from node to node, and loses them when told to.
#[derive(Default)]
pub struct Wires {
    receivers: Mutex<BTreeMap<Uuid, Arc<dyn BusReceiver>>>,
    /// Nodes that nothing reaches and that reach nobody.
    pub cut: Mutex<BTreeSet<Uuid>>,
    /// So many of the next messages to one node are lost.
    pub lose: Mutex<usize>,
    /// Everything that was sent.
    pub sent: Mutex<Vec<(Recipients, Bytes)>>,
}

impl Wires {
    pub fn deliver(&self, from: Option<Uuid>, to: Recipients, message: &Bytes) {
        let cut = self.cut.lock().clone();
        if from.is_some_and(|from| cut.contains(&from)) {
            return;
        }
        if matches!(to, Recipients::One(_)) && *self.lose.lock() > 0 {
            *self.lose.lock() -= 1;
            return;
        }
        for (node, receiver) in self.receivers.lock().iter().filter(|(node, _)| !cut.contains(*node)) {
            // As over a shared channel, the sender hears itself.
            if matches!(to, Recipients::Others) || to == Recipients::One(*node) {
                receiver.receive(message.clone());
            }
        }
    }
}

/// An embedded engine with an end of the wires.
pub struct Wired {
    engine: EmbeddedEngine,
    wires: Arc<Wires>,
    node: Uuid,
}

impl Bus for Wired {
    fn join(&self, node: Uuid, receiver: Arc<dyn BusReceiver>) {
        assert_eq!(node, self.node);
        self.wires.receivers.lock().insert(node, receiver);
    }

    fn send(&self, to: Recipients, message: Bytes) -> BoxFuture<'_, Result<(), EngineError>> {
        self.wires.sent.lock().push((to, message.clone()));
        self.wires.deliver(Some(self.node), to, &message);
        std::future::ready(Ok(())).boxed()
    }
}

impl Engine for Wired {
    fn capabilities(&self) -> Capabilities {
        Capabilities { shared: true, ..self.engine.capabilities() }
    }

    fn bus(&self) -> Option<&dyn Bus> {
        Some(self)
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        self.engine.ready()
    }
}

impl Broker for Wired {
    fn attach(&self, announcements: Arc<dyn Announcements>) {
        self.engine.attach(announcements);
    }

    fn subscribe(&self, channels: &[ChannelName]) -> BoxFuture<'_, Result<(), EngineError>> {
        self.engine.subscribe(channels)
    }

    fn unsubscribe(&self, channels: &[ChannelName]) -> BoxFuture<'_, Result<(), EngineError>> {
        self.engine.unsubscribe(channels)
    }

    fn publish(
        &self,
        channel: &ChannelName,
        new: NewPublication,
    ) -> BoxFuture<'_, Result<Published, EngineError>> {
        self.engine.publish(channel, new)
    }

    fn publish_join(
        &self,
        channel: &ChannelName,
        info: Arc<ClientInfo>,
    ) -> BoxFuture<'_, Result<(), EngineError>> {
        self.engine.publish_join(channel, info)
    }

    fn publish_leave(
        &self,
        channel: &ChannelName,
        info: Arc<ClientInfo>,
    ) -> BoxFuture<'_, Result<(), EngineError>> {
        self.engine.publish_leave(channel, info)
    }

    fn history(
        &self,
        channel: &ChannelName,
        filter: HistoryFilter,
        meta_ttl: Duration,
    ) -> BoxFuture<'_, Result<History, EngineError>> {
        self.engine.history(channel, filter, meta_ttl)
    }

    fn remove_history(&self, channel: &ChannelName) -> BoxFuture<'_, Result<(), EngineError>> {
        self.engine.remove_history(channel)
    }
}

impl PresenceStore for Wired {
    fn presence_add(
        &self,
        channel: &ChannelName,
        info: Arc<ClientInfo>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<(), EngineError>> {
        self.engine.presence_add(channel, info, ttl)
    }

    fn presence_remove(&self, channel: &ChannelName, client: &str) -> BoxFuture<'_, Result<(), EngineError>> {
        self.engine.presence_remove(channel, client)
    }

    fn presence(&self, channel: &ChannelName) -> BoxFuture<'_, Result<Vec<Arc<ClientInfo>>, EngineError>> {
        self.engine.presence(channel)
    }

    fn presence_stats(&self, channel: &ChannelName) -> BoxFuture<'_, Result<PresenceStats, EngineError>> {
        self.engine.presence_stats(channel)
    }
}

/// Nodes on one clock and one bus.
pub struct Together {
    pub wires: Arc<Wires>,
    pub clock: Arc<HandClock>,
    pub worlds: Vec<World>,
}

impl Together {
    /// So many nodes, with the ids 1, 2, ….
    pub fn new(nodes: u128, setup: impl Fn() -> Setup) -> Self {
        let mut together = Self { wires: Arc::default(), clock: Arc::default(), worlds: Vec::new() };
        for id in 1..=nodes {
            together.add(Uuid::from_u128(id), setup());
        }
        together
    }

    /// One more node.
    pub fn add(&mut self, id: Uuid, setup: Setup) {
        let clock = Arc::clone(&self.clock);
        let engine = EmbeddedEngine::new(Arc::clone(&clock) as Arc<dyn Clock>);
        let engine = Arc::new(Wired { engine, wires: Arc::clone(&self.wires), node: id });
        let world = setup.build_on(id, clock, engine);
        self.worlds.push(world);
        self.run();
    }

    /// Lets all nodes act until none has anything to do.
    pub fn run(&mut self) {
        let mut before = None;
        while before != Some(self.wires.sent.lock().len()) {
            before = Some(self.wires.sent.lock().len());
            // Once more than needed to hand an answer on: served, carried out, answered.
            for _ in 0..3 {
                self.worlds.iter_mut().for_each(World::run);
            }
        }
    }

    /// Drives a call and the nodes, second by second if it takes so long.
    pub fn finish<T>(&mut self, call: impl Future<Output = T>) -> T {
        let mut call = Box::pin(call);
        for _ in 0..20 {
            for _ in 0..4 {
                if let Poll::Ready(result) = call.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                    return result;
                }
                self.run();
            }
            self.pass(1);
        }
        panic!("the call does not end");
    }

    /// Lets seconds pass, with what each node does every second.
    pub fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.clock.advance(Duration::from_secs(1));
            for index in 0..self.worlds.len() {
                let node = Arc::clone(&self.worlds[index].node);
                super::now_or_never(node.tick());
            }
            self.run();
        }
    }
}
