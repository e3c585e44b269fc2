//! A node with one worker on a clock that stands, and clients that are only outboxes.

use std::future::Future;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use smallvec::SmallVec;
use tidewire_core::hooks::{Hooks, NoTokens, UpgradeRequest};
use tidewire_core::options::{ChannelOptions, Options};
use tidewire_core::{ConnectionKey, Node, Opening, Parts, PublishOptions, Task, Wire, Worker};
use tidewire_engine::{Clock, Engine, HistoryRetention, ManualClock};
use tidewire_engine_embedded::EmbeddedEngine;
use tidewire_protocol::{Command, ConnectRequest, Encoding, SubscribeRequest, frame};
use uuid::Uuid;

/// A channel that keeps nothing.
pub(crate) const PLAIN: &str = "plain:news";
/// A channel that keeps its last 200 publications and recovers them.
pub(crate) const LOG: &str = "log:news";
/// What is published: 128 bytes of JSON.
pub(crate) const PAYLOAD: &[u8; 128] = br#"{"id":12345678,"kind":"message","user":"ann","at":1800000000,"text":"Something of the usual length was said here & \"quoted\"."}"#;

/// JSON of records like those of applications, of about as many bytes: keys that come again, numbers that do not.
pub(crate) fn records(bytes: usize) -> Bytes {
    const WORDS: [&str; 8] = ["harbour", "lights", "were", "seen", "from", "the", "northern", "pier"];
    let mut text = String::from("[");
    let mut seed = 1_u32;
    while text.len() + 2 < bytes {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let (id, word) = (seed >> 8, |at: u32| WORDS[(seed >> at) as usize % WORDS.len()]);
        let record = format!(
            r#"{{"id":{id},"kind":"message","at":18{:011},"text":"{} {} {} {}"}},"#,
            seed >> 2,
            word(9),
            word(13),
            word(17),
            word(21)
        );
        text.push_str(&record);
    }
    text.pop();
    text.push(']');
    text.into()
}

pub(crate) struct World {
    pub(crate) node: Arc<Node>,
    pub(crate) worker: Worker,
    clock: Arc<ManualClock>,
    request: Arc<UpgradeRequest>,
}

/// Runs a future that need not wait.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().unwrap()
}

// === impl World ===

impl World {
    pub(crate) fn new() -> Self {
        let mut options = Options { version: "guard".into(), ..Default::default() };
        options.client.insecure = true;
        let history = HistoryRetention {
            size: 200,
            ttl: Duration::from_secs(3_600),
            meta_ttl: Duration::from_secs(86_400),
        };
        let log = ChannelOptions { history: Some(history), force_recovery: true, ..Default::default() };
        options.channel.namespaces.insert("log".into(), Arc::new(log));
        options.channel.namespaces.insert("plain".into(), Arc::default());
        let clock = Arc::new(ManualClock::new());
        clock.set_unix_ms(1_800_000_000_000);
        let clock_for = || Arc::clone(&clock) as Arc<dyn Clock>;
        let engine: Arc<dyn Engine> = Arc::new(EmbeddedEngine::new(clock_for()));
        let node = Node::new(Parts {
            id: Uuid::from_u128(1),
            options,
            engine,
            hooks: Hooks::default(),
            tokens: Arc::new(NoTokens),
            clock: clock_for(),
        });
        let worker = Worker::new(Arc::clone(&node), [7; 32]);
        Self { node, worker, clock, request: Arc::default() }
    }

    /// A connection whose connect command has been answered.
    pub(crate) fn connected(&mut self, wire: Wire) -> ConnectionKey {
        let encoding = wire.encoding;
        let opening = Opening { wire, request: Arc::clone(&self.request) };
        let key = self.worker.open(opening, self.node.now());
        let connect = ConnectRequest { name: "guard".into(), ..Default::default() };
        let connect = Command { id: 1, connect: Some(Box::new(connect)), ..Default::default() };
        self.message(key, &command(encoding, &connect));
        self.settle();
        key
    }

    /// As many connections that are subscribed to a channel.
    pub(crate) fn crowd(&mut self, wire: Wire, channel: &str, size: usize) -> Vec<ConnectionKey> {
        let subscribe =
            subscribe(wire.encoding, SubscribeRequest { channel: channel.into(), ..Default::default() });
        let member = |_| {
            let key = self.connected(wire);
            self.message(key, &subscribe);
            self.settle();
            key
        };
        let members = (0..size).map(member).collect();
        self.drain();
        members
    }

    pub(crate) fn message(&mut self, key: ConnectionKey, frame: &Bytes) {
        let now = self.node.now();
        self.worker.message(key, frame.clone(), now);
    }

    pub(crate) fn publish(&self, channel: &str) {
        self.publish_data(channel, Bytes::from_static(PAYLOAD));
    }

    pub(crate) fn publish_data(&self, channel: &str, data: Bytes) {
        now(self.node.publish(channel, data, PublishOptions::default())).unwrap();
    }

    pub(crate) fn pass(&mut self, time: Duration) {
        self.clock.advance(time);
        self.advance();
    }

    pub(crate) fn advance(&mut self) {
        let now = self.node.now();
        self.worker.advance(now);
    }

    /// Runs tasks until there are none.
    pub(crate) fn settle(&mut self) {
        self.advance();
        while let Some(Task { future }) = self.worker.next_task() {
            let done = now(future);
            let at = self.node.now();
            self.worker.complete(done, at);
            self.advance();
        }
    }

    /// Takes everything from the outboxes, as a reactor does whose sockets take all they are given. Returns how many
    /// connections had something, and the bytes of all of it.
    pub(crate) fn drain(&mut self) -> (usize, usize) {
        self.drain_with(|_, _| {})
    }

    /// The same, with a word on each connection that had something.
    pub(crate) fn drain_with(
        &mut self,
        mut meanwhile: impl FnMut(&mut Worker, ConnectionKey),
    ) -> (usize, usize) {
        let (mut connections, mut total) = (0, 0);
        while let Some(key) = self.worker.next_ready() {
            let outbox = self.worker.outbox(key);
            while !outbox.is_empty() {
                let mut slices = SmallVec::<[IoSlice<'_>; 64]>::new();
                outbox.slices(&mut slices, 64);
                let bytes = slices.iter().map(|slice: &IoSlice<'_>| slice.len()).sum();
                drop(slices);
                outbox.advance(bytes);
                total += bytes;
            }
            connections += 1;
            meanwhile(&mut self.worker, key);
        }
        (connections, total)
    }
}

/// A frame of one command.
pub(crate) fn command(encoding: Encoding, command: &Command) -> Bytes {
    let mut out = Vec::new();
    frame::append_command(encoding, command, &mut out).unwrap();
    out.into()
}

/// A frame with a subscribe command.
pub(crate) fn subscribe(encoding: Encoding, request: SubscribeRequest) -> Bytes {
    command(encoding, &Command { id: 2, subscribe: Some(Box::new(request)), ..Default::default() })
}
