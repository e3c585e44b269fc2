//! A node: what all workers of a process share, and what backends ask of it.
//!
//! `channels` and `connections` are the operations of the server API; the rules of client commands do not apply to them.
//! `forward`: what clients send to a node that does not have their connection.
//! Nothing here waits by itself, reads a clock or spawns: futures are driven by the caller.

mod channels;
mod connections;
mod forward;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join;
use tidewire_engine::{Announcements, BusReceiver, Clock, Engine};
use uuid::Uuid;

pub use self::channels::PublishOptions;
pub use self::connections::{Reached, Target};
pub use self::forward::NotForwarded;
use crate::cluster::Cluster;
use crate::hooks::{Hooks, ProcessUse, TokenVerifier};
use crate::hub::Hub;
use crate::inbox::{Inbox, Item};
use crate::metrics::Metrics;
use crate::options::Options;
use crate::registry::Registry;
use crate::time::{Now, millis};

/// What all workers of a process share.
pub struct Node {
    id: Uuid,
    options: Options,
    engine: Arc<dyn Engine>,
    hooks: Hooks,
    tokens: Arc<dyn TokenVerifier>,
    clock: Arc<dyn Clock>,
    hub: Arc<Hub>,
    registry: Registry,
    cluster: Cluster,
    metrics: Arc<Metrics>,
    draining: AtomicBool,
    started: Duration,
}

/// What a node is made of.
pub struct Parts {
    /// The node's unique id.
    pub id: Uuid,
    /// What the operator set.
    pub options: Options,
    /// Where streams and presence are kept.
    pub engine: Arc<dyn Engine>,
    /// Where the application takes part.
    pub hooks: Hooks,
    /// Who judges tokens.
    pub tokens: Arc<dyn TokenVerifier>,
    /// Where time comes from for calls that are not driven by a worker.
    pub clock: Arc<dyn Clock>,
}

/// What a node says about itself.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeInfo {
    /// Its id.
    pub uid: String,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Connections.
    pub clients: usize,
    /// Distinct users.
    pub users: usize,
    /// Channels with subscribers.
    pub channels: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// How long it has been running.
    pub uptime: Duration,
    /// What its process uses, if that is known.
    pub process: Option<ProcessUse>,
}

impl Node {
    /// Makes a node and attaches it to its engine.
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { id, options, engine, hooks, tokens, clock } = parts;
        let metrics = Arc::new(Metrics::default());
        let hub = Arc::new(Hub::new(Arc::downgrade(&engine), Arc::clone(&metrics), Arc::clone(&clock)));
        let (cluster, mailbox) = Cluster::new(id, Arc::clone(&metrics));
        engine.attach(Arc::clone(&hub) as Arc<dyn Announcements>);
        if let Some(bus) = engine.bus() {
            bus.join(id, mailbox as Arc<dyn BusReceiver>);
        }
        let started = clock.monotonic();
        Arc::new(Self {
            id,
            options,
            engine,
            hooks,
            tokens,
            clock,
            hub,
            registry: Registry::default(),
            cluster,
            metrics,
            draining: AtomicBool::new(false),
            started,
        })
    }

    /// Its unique id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// What the operator set.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Where streams and presence are kept.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// What has been counted.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// This moment, by the node's clock.
    pub fn now(&self) -> Now {
        Now { mono: self.clock.monotonic(), unix_ms: self.clock.unix_ms() }
    }

    /// What has to be done about once a second: channels without subscribers are left at the engine, positions that
    /// nothing has confirmed for long are checked, the other nodes hear from this one.
    pub async fn tick(&self) {
        let lossless = self.engine.capabilities().lossless_announcements;
        let delay = self.options.client.channel_position_check_delay;
        self.hub.look_after_positions(if lossless { 0 } else { millis(delay) });
        join(self.hub.tick(millis(self.clock.monotonic())), self.tick_cluster()).await;
    }

    /// What the node does by itself between ticks, until dropped: it hears the other nodes, and reads what it has missed.
    /// To be driven for as long as the node lives.
    pub async fn serve(&self) {
        join(self.serve_cluster(), self.hub.serve_repairs()).await;
    }

    /// What the node says about itself.
    pub fn info(&self) -> NodeInfo {
        let (clients, users) = self.registry.counts();
        let (channels, subscriptions) = self.hub.counts();
        NodeInfo {
            uid: self.id.to_string(),
            name: self.options.node_name.clone(),
            version: self.options.version.clone(),
            clients,
            users,
            channels,
            subscriptions,
            uptime: self.clock.monotonic().saturating_sub(self.started),
            process: self.hooks.process.as_ref().and_then(|ask| ask()),
        }
    }

    /// Whether the node is stopping.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Begins to stop: connections are closed with 3001, each at a random moment within `spread`, and new ones at once.
    pub fn drain(&self, spread: Duration) {
        self.draining.store(true, Ordering::Relaxed);
        for worker in 0.. {
            let Some(inbox) = self.hub.inbox(worker) else {
                break;
            };
            inbox.push(Item::Drain(spread));
        }
    }

    pub(crate) fn hooks(&self) -> &Hooks {
        &self.hooks
    }

    pub(crate) fn tokens(&self) -> &dyn TokenVerifier {
        &*self.tokens
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn add_worker(&self, inbox: Arc<Inbox>) -> u16 {
        self.hub.add_worker(inbox)
    }
}
