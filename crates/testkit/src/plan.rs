//! What one seed makes of a world: its size, its rules and its faults.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tidewire_core::options::{ChannelNamespaces, ChannelOptions, ClientOptions, Options, RecoveryMode};
use tidewire_engine::HistoryRetention;

use crate::draw::Draw;
use crate::engine::Lie;
use crate::fault::{Fault, FaultRates};

/// What a channel promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelKind {
    /// Every publication, or a word that some are missing.
    Stream,
    /// The newest publication.
    Cache,
    /// At most once.
    Plain,
}

/// One channel of a world.
#[derive(Debug, Clone)]
pub struct ChannelPlan {
    /// Its name, in a namespace of its own.
    pub name: String,
    /// What it promises.
    pub kind: ChannelKind,
    /// Its rules.
    pub options: ChannelOptions,
}

/// What there is besides, where several nodes share a broker.
#[derive(Debug, Clone, PartialEq)]
pub struct Several {
    /// Nodes at the beginning, and again after each one that ends.
    pub nodes: usize,
    /// A command is given up after this.
    pub io_timeout: Duration,
    /// After this without a sign of it a node counts as dead.
    pub node_lease: Duration,
    /// The longest way between a node and the broker, in milliseconds; 0: nothing takes any time.
    pub latency_ms: u64,
}

impl Default for Several {
    /// One node, right beside its broker.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self { nodes: 1, io_timeout: seconds(4), node_lease: seconds(10), latency_ms: 0 }
    }
}

impl Several {
    fn drawn(nodes: usize, draw: &mut Draw) -> Self {
        Self {
            nodes,
            io_timeout: Duration::from_millis(*draw.pick(&[1_000, 2_000, 4_000])),
            node_lease: Duration::from_secs(draw.between(3, 10)),
            latency_ms: *draw.pick(&[1, 2, 20]),
        }
    }
}

/// A world before it begins.
#[derive(Debug, Clone)]
pub struct Plan {
    /// What it was drawn from.
    pub seed: u64,
    /// Nodes on one broker; `None`: one node with an engine of its own.
    pub several: Option<Several>,
    /// Threads of each node.
    pub workers: usize,
    /// Clients.
    pub clients: usize,
    /// Channels.
    pub channels: Vec<ChannelPlan>,
    /// Limits and timings of the node.
    pub client: ClientOptions,
    /// The engine promises that no announcement gets lost without a word.
    pub lossless: bool,
    /// Bytes that fit between the node and a client that does not read.
    pub window: usize,
    /// Mean time between two publications of the backend.
    pub publish_every: Duration,
    /// Mean time between two actions of a client.
    pub act_every: Duration,
    /// Largest filler of a payload in bytes.
    pub filler: u64,
    /// How long faults happen.
    pub trouble: Duration,
    /// Publishing ends with the faults, so that the last one may have struck the last publication.
    pub falls_silent: bool,
    /// How likely faults are.
    pub rates: FaultRates,
    /// Judged so long after the last fault, in silence, instead of when the last one to come back must be there.
    pub found_within: Option<Duration>,
    /// A deliberate bug of the engine, to test the test.
    pub lie: Option<Lie>,
}

impl Plan {
    /// The world of a seed.
    pub fn drawn(seed: u64) -> Self {
        let root = Draw::new(seed);
        let rates = FaultRates::drawn(&mut root.fork("faults"), false);
        Self::with_rates(seed, rates)
    }

    /// The world of a seed with several nodes.
    pub fn of_nodes(seed: u64, nodes: usize) -> Self {
        let rates = FaultRates::drawn(&mut Draw::new(seed).fork("faults"), true);
        Self::of_nodes_with(seed, nodes, rates)
    }

    /// The world of a seed with several nodes and other faults.
    pub fn of_nodes_with(seed: u64, nodes: usize, rates: FaultRates) -> Self {
        let mut draw = Draw::new(seed).fork("several");
        let mut plan = Self::of_kind(seed, rates, true);
        plan.several = Some(Several::drawn(nodes, &mut draw));
        plan.workers = draw.between(1, 2) as usize;
        plan
    }

    /// The world of a seed with other faults.
    pub fn with_rates(seed: u64, rates: FaultRates) -> Self {
        Self::of_kind(seed, rates, false)
    }

    fn of_kind(seed: u64, rates: FaultRates, several: bool) -> Self {
        let mut draw = Draw::new(seed).fork("plan");
        let lossy = [Fault::AnnouncementDrop, Fault::AnnouncementOutage, Fault::AnnouncementDouble];
        let lossy = lossy.iter().any(|fault| rates.has(*fault));
        // What gets lost on the way may still be told, each time: then positions need no check either.
        let lossless = draw.chance(if lossy { 0.3 } else { 0.9 }) && !several;
        let count = draw.between(1, 4);
        let channels: Vec<ChannelPlan> = (0..count).map(|n| channel(n, lossless, &mut draw)).collect();
        let filler = *draw.pick(&[0, 0, 40, 300]);
        let mut client = client_options(&mut draw);
        client.queue_max_size = client.queue_max_size.max(burst(&channels, filler));
        Self {
            seed,
            several: None,
            workers: draw.between(1, 3) as usize,
            clients: *draw.pick(&[1, 2, 3, 4, 6]),
            channels,
            client,
            lossless,
            window: *draw.pick(&[512, 4096, 65_536, 1 << 20]),
            publish_every: Duration::from_millis(*draw.pick(&[20, 100, 400, 1_500])),
            act_every: Duration::from_millis(*draw.pick(&[500, 2_000, 10_000])),
            filler,
            trouble: Duration::from_secs(draw.between(5, 30)),
            // Without position checks nobody notices a lost stream before its next publication, by design.
            falls_silent: draw.chance(0.3) && !(lossless && rates.has(Fault::StreamLost)),
            rates,
            found_within: None,
            lie: None,
        }
    }

    /// The node's options.
    pub(crate) fn options(&self) -> Options {
        let namespaces = self
            .channels
            .iter()
            .enumerate()
            .map(|(n, channel)| (format!("n{n}"), Arc::new(channel.options.clone())));
        Options {
            client: self.client.clone(),
            channel: ChannelNamespaces { namespaces: namespaces.collect(), ..Default::default() },
            ..Default::default()
        }
    }

    /// Nothing of the channel can get lost between engine and subscribers, so nobody may be told that something was.
    pub(crate) fn loses_nothing(&self, channel: &ChannelPlan) -> bool {
        // A stream that is quiet for longer than its place is kept begins anew.
        let lasts = |history: HistoryRetention| history.meta_ttl >= Duration::from_secs(600);
        let reliable = match self.several {
            Some(_) => self.rates.is_none(),
            None => self.lossless && !self.rates.lose(),
        };
        reliable && channel.options.history.is_none_or(lasts)
    }

    /// Whether a publication may come twice to somebody who follows without a position.
    pub(crate) fn may_repeat(&self) -> bool {
        self.rates.has(Fault::AnnouncementDouble) || self.rates.has(Fault::Failover)
    }

    /// The longest time after the last fault until everything must have been found and repaired: a dead socket noticed
    /// by either side, a command given up, a backoff, a position check whose first read does not end, presence of the
    /// dead run out.
    pub(crate) fn convergence(&self) -> Duration {
        let client = &self.client;
        let noticed = client.ping_interval + client.pong_timeout + Duration::from_secs(20);
        let checked = client.channel_position_check_delay + Duration::from_secs(15);
        // Until the last node has found the primary, has heard of the others, and counts as dead if it is.
        let several = self.several.as_ref().map_or(Duration::ZERO, |several| {
            several.node_lease + several.io_timeout * 2 + Duration::from_secs(15)
        });
        noticed + checked + client.presence_ttl + several + Duration::from_secs(5)
    }
}

/// Bytes of the largest reply: a recovery of everything in all channels at once. A client that may not be sent that
/// much could never come back.
fn burst(channels: &[ChannelPlan], filler: u64) -> usize {
    let kept = channels.iter().filter_map(|channel| channel.options.history);
    let publications: usize = kept.map(|history| history.size).sum();
    4_000 + publications * (filler as usize + 120)
}

fn channel(n: u64, lossless: bool, draw: &mut Draw) -> ChannelPlan {
    // At least one channel of every world is a stream: that is where the promises are.
    let kind = match draw.below(10) {
        _ if n == 0 => ChannelKind::Stream,
        0..6 => ChannelKind::Stream,
        6..8 => ChannelKind::Cache,
        _ => ChannelKind::Plain,
    };
    let ttl = Duration::from_secs(*draw.pick(&[2, 10, 60, 600]));
    // Where positions are checked, a place that is forgotten between two checks would end every quiet subscription.
    let shortest = if lossless { 5 } else { 30 };
    let meta_ttl = ttl.max(Duration::from_secs(*draw.pick(&[shortest, 30, 3_600, 3_600])));
    let size = *draw.pick(&[1, 2, 5, 20, 100]);
    let forced = draw.chance(0.5);
    let kept = kind != ChannelKind::Plain;
    let join_leave = draw.chance(0.4);
    let options = ChannelOptions {
        presence: draw.chance(0.5),
        join_leave,
        force_push_join_leave: join_leave && draw.chance(0.5),
        history: kept.then_some(HistoryRetention { size, ttl, meta_ttl }),
        force_recovery: kept && forced,
        allow_recovery: kept,
        allow_positioning: kept,
        recovery_mode: if kind == ChannelKind::Cache { RecoveryMode::Cache } else { RecoveryMode::Stream },
        auto_cache_recover: kind == ChannelKind::Cache && draw.chance(0.5),
        allow_subscribe_for_client: true,
        allow_publish_for_client: true,
        allow_presence_for_client: true,
        allow_history_for_client: true,
        ..Default::default()
    };
    ChannelPlan { name: format!("n{n}:c"), kind, options }
}

fn client_options(draw: &mut Draw) -> ClientOptions {
    let seconds = Duration::from_secs;
    let ping_interval = seconds(draw.between(4, 12));
    let presence_update_interval = seconds(draw.between(2, 8));
    ClientOptions {
        ping_interval,
        pong_timeout: ping_interval / 2,
        queue_max_size: *draw.pick(&[2_000, 20_000, 1 << 20, 1 << 20]),
        presence_update_interval,
        presence_ttl: presence_update_interval * 3,
        concurrency: *draw.pick(&[0, 0, 2, 8]),
        channel_position_check_delay: seconds(draw.between(1, 10)),
        history_max_publication_limit: 50,
        recovery_max_publication_limit: *draw.pick(&[0, 1, 10, 300, 300]),
        ..Default::default()
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<String> = self
            .channels
            .iter()
            .map(|channel| match channel.options.history {
                Some(kept) => format!(
                    "{:?}({} kept {}s, place {}s)",
                    channel.kind,
                    kept.size,
                    kept.ttl.as_secs(),
                    kept.meta_ttl.as_secs()
                ),
                None => format!("{:?}", channel.kind),
            })
            .collect();
        write!(
            f,
            "seed {}: {}{} workers, {} clients, channels {}, concurrency {}, recovery limit {}, queue {}, window {}, {}; \
             trouble for {:?}{}; faults: {}",
            self.seed,
            self.several.as_ref().map_or_else(String::new, |several| format!(
                "{} nodes (patience {:?}, lease {:?}, latency {} ms), each of ",
                several.nodes, several.io_timeout, several.node_lease, several.latency_ms
            )),
            self.workers,
            self.clients,
            kinds.join(" "),
            self.client.concurrency,
            self.client.recovery_max_publication_limit,
            self.client.queue_max_size,
            self.window,
            if self.lossless { "lossless" } else { "lossy" },
            self.trouble,
            if self.falls_silent { ", then silence" } else { "" },
            self.rates,
        )?;
        match self.lie {
            Some(lie) => write!(f, "; the engine lies: {lie:?}"),
            None => Ok(()),
        }
    }
}
