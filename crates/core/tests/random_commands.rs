//! Random commands, garbage, answers in any order, cuts and operations of the server API, at random moments.
//!
//! Whatever comes, nothing panics, and once every socket is gone and every answer is there, nothing is left: no slot, no
//! subscription, no presence, no registry entry.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use proptest::prelude::*;
use tidewire_core::hooks::{Hooks, NoTokens, Refusal, SubscribeEvent, SubscribeGrant};
use tidewire_core::options::{ChannelOptions, Options, RecoveryMode};
use tidewire_core::{ConnectionKey, Framing, Node, Opening, Parts, Target, Task, Wire, Worker};
use tidewire_engine::{Engine, HistoryRetention, ManualClock, PresenceStore};
use tidewire_engine_embedded::EmbeddedEngine;
use tidewire_protocol::frame::append_command;
use tidewire_protocol::{
    Command, ConnectRequest, Disconnect, Encoding, ErrorCode, HistoryRequest, PresenceRequest,
    PresenceStatsRequest, PublishRequest, RefreshRequest, RpcRequest, SendRequest, StreamPosition,
    SubRefreshRequest, SubscribeRequest, UnsubscribeRequest, Unsubscribed, WirePosition,
};
use uuid::Uuid;

/// Of an unknown namespace and with a bad name too.
const CHANNELS: [&str; 7] = ["a", "h:a", "h:b", "c:a", "x:a", "bad\u{7}", ""];

/// How long a subscription that the hook grants lasts.
const GRANT_S: i64 = 3;

#[derive(Debug, Clone)]
enum Step {
    Open {
        json: bool,
    },
    /// Commands in one frame, to the connection with this number (of those that are there).
    Say {
        to: usize,
        commands: Vec<Command>,
    },
    Garbage {
        to: usize,
        bytes: Vec<u8>,
    },
    /// The task with this number (of those that wait) is done.
    Answer {
        which: usize,
    },
    Cut {
        which: usize,
    },
    Close {
        which: usize,
        code: bool,
    },
    Read {
        which: usize,
    },
    Pass {
        ms: u64,
    },
    Publish {
        channel: usize,
    },
    Trim {
        channel: usize,
    },
    Operate {
        what: u8,
        user: u8,
        channel: usize,
    },
}

struct World {
    clock: Arc<ManualClock>,
    engine: Arc<EmbeddedEngine>,
    node: Arc<Node>,
    worker: Worker,
    open: Vec<ConnectionKey>,
    encodings: Vec<Encoding>,
    tasks: Vec<Task>,
}

impl World {
    fn new(concurrency: usize, queue: usize) -> Self {
        let clock = Arc::new(ManualClock::new());
        let engine = Arc::new(EmbeddedEngine::new(clock.clone()));
        let mut options = Options::default();
        options.client.insecure = true;
        options.client.concurrency = concurrency;
        options.client.queue_max_size = queue;
        options.client.channel_limit = 3;
        options.client.ping_interval = Duration::from_secs(5);
        options.client.pong_timeout = Duration::from_secs(2);
        options.client.presence_update_interval = Duration::from_secs(2);
        options.client.expired_sub_close_delay = Duration::from_secs(1);
        let kept = ChannelOptions {
            presence: true,
            join_leave: true,
            force_push_join_leave: true,
            history: Some(HistoryRetention {
                size: 3,
                ttl: Duration::from_secs(10),
                meta_ttl: Duration::from_secs(20),
            }),
            force_recovery: true,
            ..Default::default()
        };
        let cache = ChannelOptions {
            recovery_mode: RecoveryMode::Cache,
            auto_cache_recover: true,
            subscribe_proxy_enabled: true,
            ..kept.clone()
        };
        options.channel.namespaces.insert("h".into(), Arc::new(kept));
        options.channel.namespaces.insert("c".into(), Arc::new(cache));
        let hooks = Hooks {
            subscribe: Some(Arc::new(|event| std::future::ready(grant(&event)).boxed())),
            rpc: Some(Arc::new(|event| std::future::ready(Ok(event.data)).boxed())),
            ..Default::default()
        };
        let node = Node::new(Parts {
            id: Uuid::from_u128(1),
            options,
            engine: Arc::clone(&engine) as Arc<dyn Engine>,
            hooks,
            tokens: Arc::new(NoTokens),
            clock: clock.clone(),
        });
        let worker = Worker::new(Arc::clone(&node), [3; 32]);
        let (open, encodings, tasks) = (Vec::new(), Vec::new(), Vec::new());
        Self { clock, engine, node, worker, open, encodings, tasks }
    }

    fn step(&mut self, step: Step) {
        let now = self.node.now();
        match step {
            Step::Open { json } => {
                let encoding = if json { Encoding::Json } else { Encoding::Protobuf };
                let wire = Wire { encoding, framing: Framing::WebSocket };
                let key = self.worker.open(Opening { wire, request: Arc::default() }, now);
                self.open.push(key);
                self.encodings.push(encoding);
            }
            Step::Say { to, commands } => {
                let Some(at) = self.at(to) else { return };
                let mut frame = Vec::new();
                for command in &commands {
                    // What JSON cannot carry is left out.
                    let _ = append_command(self.encodings[at], command, &mut frame);
                }
                self.worker.message(self.open[at], frame.into(), now);
            }
            Step::Garbage { to, bytes } => {
                let Some(at) = self.at(to) else { return };
                self.worker.message(self.open[at], bytes.into(), now);
            }
            Step::Answer { which } => self.answer(which),
            Step::Cut { which } => {
                let Some(at) = self.at(which) else { return };
                self.encodings.remove(at);
                let key = self.open.remove(at);
                self.worker.gone(key, now);
            }
            Step::Close { which, code } => {
                let Some(at) = self.at(which) else { return };
                let why = if code { Disconnect::WRITE_ERROR } else { Disconnect::SERVER_ERROR };
                self.worker.close(self.open[at], why, now);
            }
            Step::Read { which } => {
                let Some(at) = self.at(which) else { return };
                let outbox = self.worker.outbox(self.open[at]);
                let bytes = outbox.bytes();
                outbox.advance(bytes);
                self.worker.written(self.open[at], now);
            }
            Step::Pass { ms } => self.clock.advance(Duration::from_millis(ms)),
            Step::Publish { channel } => {
                let published =
                    self.node.publish(CHANNELS[channel], Bytes::from_static(b"1"), Default::default());
                drop(published.now_or_never());
            }
            Step::Trim { channel } => drop(self.node.history_remove(CHANNELS[channel]).now_or_never()),
            Step::Operate { what, user, channel } => self.operate(what, user, CHANNELS[channel]),
        }
        let now = self.node.now();
        self.worker.advance(now);
        while let Some(task) = self.worker.next_task() {
            self.tasks.push(task);
        }
        while self.worker.next_ready().is_some() {}
        let _ = self.node.tick().now_or_never();
    }

    fn at(&self, number: usize) -> Option<usize> {
        number.checked_rem(self.open.len())
    }

    fn answer(&mut self, which: usize) {
        let Some(at) = which.checked_rem(self.tasks.len()) else {
            return;
        };
        let task = self.tasks.swap_remove(at);
        let now = self.node.now();
        if let Some(done) = task.future.now_or_never() {
            self.worker.complete(done, now);
        }
    }

    /// The caller of the operation does not wait: it is polled once and given up.
    fn operate(&self, what: u8, user: u8, channel: &str) {
        let target =
            Target { user: if user == 0 { String::new() } else { "u".into() }, ..Default::default() };
        match what {
            0 => drop(self.node.disconnect(&target, Disconnect::FORCE_RECONNECT).now_or_never()),
            1 => drop(
                self.node
                    .unsubscribe(&target, Some(channel.into()), Unsubscribed::INSUFFICIENT_STATE)
                    .now_or_never(),
            ),
            2 => drop(self.node.unsubscribe(&target, None, Unsubscribed::SERVER).now_or_never()),
            3 => {
                let since = Some(StreamPosition { offset: 1, epoch: "".into() });
                let grant = SubscribeGrant::default();
                drop(self.node.subscribe(&target, channel, grant, since).now_or_never());
            }
            4 => drop(self.node.send(&target, Bytes::from_static(b"1")).now_or_never()),
            _ => {
                let expire_at = self.node.now().unix_ms / 1000 + 2;
                let _ = self.node.refresh(&target, false, expire_at, None).now_or_never();
            }
        }
    }

    /// Everyone goes, every answer comes.
    fn end(&mut self) {
        while !self.open.is_empty() {
            self.step(Step::Cut { which: 0 });
        }
        while !self.tasks.is_empty() {
            self.step(Step::Answer { which: 0 });
        }
    }

    fn check_empty(&self) -> Result<(), TestCaseError> {
        prop_assert!(self.worker.is_empty(), "the worker keeps something");
        prop_assert_eq!(self.node.channels("").now_or_never().unwrap().unwrap(), []);
        prop_assert_eq!(self.node.info().clients, 0);
        for channel in CHANNELS {
            let present = self.engine.presence(&channel.into()).now_or_never().unwrap().unwrap();
            prop_assert!(present.is_empty(), "{:?} is still in {}", present, channel);
        }
        prop_assert_eq!(self.node.metrics().contained_panics.total(), 0);
        Ok(())
    }
}

/// Some are granted for a while, some refused, some sent away.
fn grant(event: &SubscribeEvent) -> Result<Option<SubscribeGrant>, Refusal> {
    match event.data.first() {
        Some(b'1') => Err(ErrorCode::PermissionDenied.into()),
        Some(b'2') => Err(Disconnect::FORCE_RECONNECT.into()),
        Some(b'3') => Ok(Some(SubscribeGrant { expire_at: GRANT_S, ..Default::default() })),
        _ => Ok(None),
    }
}

// === what is tried ===

fn channel() -> impl Strategy<Value = String> {
    (0..CHANNELS.len()).prop_map(|index| CHANNELS[index].to_owned())
}

fn payload() -> impl Strategy<Value = Bytes> {
    prop_oneof![Just(Bytes::new()), "[0-3]{1,40}".prop_map(Bytes::from)]
}

fn command() -> impl Strategy<Value = Command> {
    let connect = (any::<bool>(), any::<bool>()).prop_map(|(token, subs)| {
        let remembered =
            subs.then(|| ("h:a".to_owned(), SubscribeRequest { recover: true, ..Default::default() }));
        ConnectRequest {
            token: if token { "bad".into() } else { String::new() },
            subs: remembered.into_iter().collect(),
            ..Default::default()
        }
    });
    let subscribe = (channel(), any::<bool>(), 0u64..5, payload(), 0i64..3, any::<bool>()).prop_map(
        |(channel, recover, offset, data, flag, positioned)| SubscribeRequest {
            channel,
            recover,
            offset,
            data,
            flag,
            positioned,
            recoverable: recover,
            ..Default::default()
        },
    );
    let history = (channel(), -2i32..9, any::<bool>(), proptest::option::of(0u64..4)).prop_map(
        |(channel, limit, reverse, since)| HistoryRequest {
            channel,
            limit,
            reverse,
            since: since.map(|offset| WirePosition { offset, epoch: String::new() }),
        },
    );
    let body = prop_oneof![
        2 => connect.prop_map(|it| Command { connect: Some(it.into()), ..Default::default() }),
        8 => subscribe.prop_map(|it| Command { subscribe: Some(it.into()), ..Default::default() }),
        5 => channel().prop_map(|channel| Command {
            unsubscribe: Some(UnsubscribeRequest { channel }.into()),
            ..Default::default()
        }),
        3 => (channel(), payload()).prop_map(|(channel, data)| Command {
            publish: Some(PublishRequest { channel, data, ..Default::default() }.into()),
            ..Default::default()
        }),
        1 => channel().prop_map(|channel| Command {
            presence: Some(PresenceRequest { channel }.into()),
            ..Default::default()
        }),
        1 => channel().prop_map(|channel| Command {
            presence_stats: Some(PresenceStatsRequest { channel }.into()),
            ..Default::default()
        }),
        1 => history.prop_map(|it| Command { history: Some(it.into()), ..Default::default() }),
        1 => payload().prop_map(|data| Command {
            rpc: Some(RpcRequest { data, method: "m".into() }.into()),
            ..Default::default()
        }),
        1 => payload().prop_map(|data| Command { send: Some(SendRequest { data }.into()), ..Default::default() }),
        1 => Just(Command { refresh: Some(RefreshRequest { token: "bad".into() }.into()), ..Default::default() }),
        1 => channel().prop_map(|channel| Command {
            sub_refresh: Some(SubRefreshRequest { channel, token: "bad".into(), ..Default::default() }.into()),
            ..Default::default()
        }),
        2 => Just(Command::default()),
    ];
    (prop_oneof![1 => Just(0u32), 20 => 1u32..9], body).prop_map(|(id, body)| {
        let id = if body == Command::default() { 0 } else { id };
        Command { id, ..body }
    })
}

fn step() -> impl Strategy<Value = Step> {
    let garbage = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..12),
        Just(b"{\"id\":1,\"subscribe\":{\"channel\":".to_vec()),
        Just(b"{\"id\":7,\"nothing\":{}}".to_vec()),
        Just(b"\n\n".to_vec()),
        Just(vec![0xff; 11]),
    ];
    let number = 0usize..8;
    prop_oneof![
        3 => any::<bool>().prop_map(|json| Step::Open { json }),
        20 => (number.clone(), proptest::collection::vec(command(), 1..4))
            .prop_map(|(to, commands)| Step::Say { to, commands }),
        1 => (number.clone(), garbage).prop_map(|(to, bytes)| Step::Garbage { to, bytes }),
        20 => number.clone().prop_map(|which| Step::Answer { which }),
        2 => number.clone().prop_map(|which| Step::Cut { which }),
        1 => (number.clone(), any::<bool>()).prop_map(|(which, code)| Step::Close { which, code }),
        3 => number.prop_map(|which| Step::Read { which }),
        4 => (0u64..4_000).prop_map(|ms| Step::Pass { ms }),
        5 => (0..CHANNELS.len()).prop_map(|channel| Step::Publish { channel }),
        1 => (0..CHANNELS.len()).prop_map(|channel| Step::Trim { channel }),
        3 => (0u8..6, 0u8..2, 0..CHANNELS.len())
            .prop_map(|(what, user, channel)| Step::Operate { what, user, channel }),
    ]
}

/// Every connection begins with a connect, as most do, so that what follows is looked at.
fn opening(json: bool) -> [Step; 3] {
    let connect = Command { id: 1, connect: Some(Box::default()), ..Default::default() };
    [Step::Open { json }, Step::Say { to: 0, commands: vec![connect] }, Step::Answer { which: 0 }]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn inv_g6_random_command_sequences_neither_panic_nor_leak(
        json in any::<bool>(),
        concurrency in 0usize..4,
        queue in prop_oneof![Just(500usize), Just(1 << 20)],
        steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut world = World::new(concurrency, queue);
        for step in opening(json).into_iter().chain(steps) {
            world.step(step);
        }
        world.end();
        world.check_empty()?;
    }
}
