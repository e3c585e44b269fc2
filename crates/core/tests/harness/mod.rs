//! A node with one worker on a hand-turned clock, and clients that speak JSON to it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]
#![allow(unreachable_pub, missing_docs, reason = "shared by test binaries")]
#![allow(dead_code, unused_imports, reason = "each test binary uses a part of it")]

mod client;
mod lossy;
pub mod together;

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use serde_json::Value;
use tidewire_core::hooks::{Hooks, NoTokens, TokenVerifier, UpgradeRequest};
use tidewire_core::options::{ChannelOptions, Options};
use tidewire_core::{Closing, ConnectionKey, Framing, Node, Now, Opening, Parts, Wire, Worker};
use tidewire_engine::{Clock, Engine, HistoryRetention};
use tidewire_engine_embedded::EmbeddedEngine;
use tidewire_protocol::Encoding;
use uuid::Uuid;

pub use client::{PlainTokens, anonymous, connect_as, error, settle, with_tokens, world};
pub use lossy::{LossyEngine, Wire as Link};

/// Time that passes only when told to.
#[derive(Default)]
pub struct HandClock {
    ms: AtomicU64,
    wall_offset: AtomicI64,
}

pub const START_UNIX_S: i64 = 1_800_000_000;

impl Clock for HandClock {
    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.ms.load(Ordering::Relaxed))
    }

    fn unix_ms(&self) -> i64 {
        START_UNIX_S * 1000
            + self.ms.load(Ordering::Relaxed) as i64
            + self.wall_offset.load(Ordering::Relaxed)
    }
}

pub struct World {
    pub node: Arc<Node>,
    pub worker: Worker,
    pub clock: Arc<HandClock>,
    /// What the node does by itself.
    serving: Pin<Box<dyn Future<Output = ()>>>,
}

pub struct Setup {
    pub options: Options,
    pub hooks: Hooks,
    pub tokens: Arc<dyn TokenVerifier>,
}

impl Default for Setup {
    fn default() -> Self {
        let mut options = Options { version: "test".into(), ..Default::default() };
        options.client.insecure = true;
        options.channel.namespaces.insert("h".into(), Arc::new(with_history()));
        Self { options, hooks: Hooks::default(), tokens: Arc::new(NoTokens) }
    }
}

pub fn with_history() -> ChannelOptions {
    ChannelOptions {
        presence: true,
        join_leave: true,
        history: Some(HistoryRetention {
            size: 10,
            ttl: Duration::from_secs(60),
            meta_ttl: Duration::from_secs(3600),
        }),
        force_recovery: true,
        ..Default::default()
    }
}

impl Setup {
    pub fn build(self) -> World {
        let clock = Arc::new(HandClock::default());
        let engine = Arc::new(EmbeddedEngine::new(Arc::clone(&clock) as Arc<dyn Clock>));
        self.build_on(Uuid::from_u128(1), clock, engine)
    }

    /// With an engine behind a link that a test can cut.
    pub fn build_lossy(self) -> (World, Arc<Link>) {
        let clock = Arc::new(HandClock::default());
        let (engine, link) = LossyEngine::new(EmbeddedEngine::new(Arc::clone(&clock) as Arc<dyn Clock>));
        (self.build_on(Uuid::from_u128(1), clock, Arc::new(engine)), link)
    }

    pub fn build_on(self, id: Uuid, clock: Arc<HandClock>, engine: Arc<dyn Engine>) -> World {
        let node = Node::new(Parts {
            id,
            options: self.options,
            engine,
            hooks: self.hooks,
            tokens: self.tokens,
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
        });
        // Client ids are made of the seed, and must differ from node to node.
        let mut seed = [7; 32];
        seed[..16].copy_from_slice(id.as_bytes());
        let worker = Worker::new(Arc::clone(&node), seed);
        let of_service = Arc::clone(&node);
        let serving = Box::pin(async move { of_service.serve().await });
        World { node, worker, clock, serving }
    }
}

/// Runs a future that must not have to wait.
pub fn now_or_never<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the future had to wait"),
    }
}

impl HandClock {
    pub fn advance(&self, time: Duration) {
        self.ms.fetch_add(time.as_millis() as u64, Ordering::Relaxed);
    }
}

impl World {
    pub fn now(&self) -> Now {
        self.node.now()
    }

    pub fn open(&mut self) -> ConnectionKey {
        self.open_with(UpgradeRequest::default())
    }

    pub fn open_with(&mut self, request: UpgradeRequest) -> ConnectionKey {
        let wire = Wire { encoding: Encoding::Json, framing: Framing::WebSocket };
        let now = self.now();
        self.worker.open(Opening { wire, request: Arc::new(request) }, now)
    }

    /// A connection that takes commands by its session as well, once it is connected.
    pub fn open_with_session(&mut self) -> ConnectionKey {
        let wire = Wire { encoding: Encoding::Json, framing: Framing::WebSocket };
        let now = self.now();
        self.worker.open_with_session(Opening { wire, request: Arc::default() }, now)
    }

    /// A connection whose connect command has been answered.
    pub fn connected(&mut self) -> ConnectionKey {
        let key = self.open();
        let replies = self.say(key, r#"{"id":1,"connect":{}}"#);
        assert_eq!(replies.len(), 1, "{replies:?}");
        assert!(replies[0].get("connect").is_some(), "{replies:?}");
        key
    }

    pub fn send(&mut self, key: ConnectionKey, frame: &str) {
        let now = self.now();
        self.worker.message(key, Bytes::copy_from_slice(frame.as_bytes()), now);
        self.run();
    }

    pub fn say(&mut self, key: ConnectionKey, frame: &str) -> Vec<Value> {
        self.send(key, frame);
        self.heard(key)
    }

    /// Runs tasks that are ready and takes in what they cause, until nothing more happens.
    pub fn run(&mut self) {
        loop {
            let _ = self.serving.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            let now = self.now();
            self.worker.advance(now);
            if self.worker.is_behind() {
                // Nobody writes here: what was listed has had its chance.
                while self.worker.next_ready().is_some() {}
                continue;
            }
            let Some(task) = self.worker.next_task() else {
                break;
            };
            let done = now_or_never(task.future);
            self.worker.complete(done, now);
        }
    }

    /// Turns the wall clock alone.
    pub fn turn_wall_clock(&mut self, ms: i64) {
        self.clock.wall_offset.fetch_add(ms, Ordering::Relaxed);
    }

    pub fn pass(&mut self, time: Duration) {
        let target = self.clock.monotonic() + time;
        while self.clock.monotonic() < target {
            let next = self.worker.deadline().unwrap_or(target).clamp(self.clock.monotonic(), target);
            let next = next.max(self.clock.monotonic() + Duration::from_millis(1)).min(target);
            let before = self.clock.monotonic();
            self.clock.ms.store(next.as_millis() as u64, Ordering::Relaxed);
            if before.as_secs() < next.as_secs() {
                now_or_never(self.node.tick());
            }
            self.run();
        }
    }

    /// Every message in the outbox, which is emptied, and those that only waited for that.
    pub fn heard(&mut self, key: ConnectionKey) -> Vec<Value> {
        let mut heard = self.written(key);
        while !self.worker.wants_read(key) {
            let now = self.now();
            self.worker.written(key, now);
            self.run();
            match self.written(key) {
                more if more.is_empty() => break,
                more => heard.extend(more),
            }
        }
        heard
    }

    fn written(&mut self, key: ConnectionKey) -> Vec<Value> {
        let outbox = self.worker.outbox(key);
        let mut slices = Vec::new();
        outbox.slices(&mut slices, usize::MAX);
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        drop(slices);
        outbox.advance(bytes.len());
        frames(&bytes)
            .iter()
            .flat_map(|frame| {
                frame.split(|byte| *byte == b'\n').map(|line| serde_json::from_slice(line).unwrap())
            })
            .collect()
    }

    pub fn closing(&self, key: ConnectionKey) -> Option<u32> {
        self.worker.closing(key).map(|Closing { disconnect, .. }| disconnect.code)
    }

    pub fn leave(&mut self, key: ConnectionKey) {
        let now = self.now();
        self.worker.gone(key, now);
        self.run();
    }

    pub fn publish(&mut self, channel: &str, data: &str) {
        let data = Bytes::copy_from_slice(data.as_bytes());
        now_or_never(self.node.publish(channel, data, Default::default())).unwrap();
        self.run();
    }
}

/// Payloads of unmasked server frames.
pub fn frames(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let [_, len, ..] = bytes {
        let (start, len) = match len {
            126 => (4, u16::from_be_bytes([bytes[2], bytes[3]]) as usize),
            127 => (10, u64::from_be_bytes(bytes[2..10].try_into().unwrap()) as usize),
            len => (2, *len as usize),
        };
        frames.push(bytes[start..start + len].to_vec());
        bytes = &bytes[start + len..];
    }
    assert!(bytes.is_empty());
    frames
}
