//! A node: what all workers of a process share, and what backends ask of it.
//!
//! [`Node::publish`] and its neighbours are the operations of the server API; the rules of client commands do not apply
//! to them. Nothing here waits by itself, reads a clock or spawns: futures are driven by the caller.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_channel::oneshot;
use futures_util::future::join_all;
use tidewire_engine::{
    Announcements, Clock, Engine, History, HistoryFilter, HistoryRetention, NewPublication, PresenceStats,
    Published,
};
use tidewire_protocol::{ChannelName, ClientInfo, Disconnect, ErrorCode, StreamPosition, Unsubscribed};
use uuid::Uuid;

use crate::auth::engine_refusal;
use crate::hooks::{ClientContext, Hooks, Refusal, SubscribeGrant, TokenVerifier};
use crate::hub::Hub;
use crate::inbox::{Ack, Control, Inbox, Item, Operation, SubscribeOperation};
use crate::metrics::Metrics;
use crate::options::{ChannelOptions, Options};
use crate::registry::{Place, Registry};
use crate::rules;
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

/// Which connections an operation is for: all of a user (an empty one means the anonymous), narrowed by client id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// The user.
    pub user: String,
    /// If not empty, only this connection.
    pub client: String,
    /// Connections that are left alone.
    pub except: Vec<String>,
}

// === impl Target ===

impl Target {
    /// Every connection of a user.
    pub fn user(user: impl Into<String>) -> Self {
        Self { user: user.into(), ..Self::default() }
    }
}

/// The one connection that an event came from.
impl From<&ClientContext> for Target {
    fn from(context: &ClientContext) -> Self {
        Self { user: context.user.to_string(), client: context.client.clone(), except: Vec::new() }
    }
}

/// A publish from the backend.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PublishOptions {
    /// Only deliver.
    pub skip_history: bool,
    /// For tag filters.
    pub tags: BTreeMap<String, String>,
    /// The same key within five minutes publishes once.
    pub idempotency_key: String,
    /// Offer a delta to receivers that negotiated it.
    pub delta: bool,
    /// Not above the stored version publishes nothing; 0: none.
    pub version: u64,
    /// The life of the version counter.
    pub version_epoch: String,
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
}

impl Node {
    /// Makes a node and attaches it to its engine.
    pub fn new(parts: Parts) -> Arc<Self> {
        let Parts { id, options, engine, hooks, tokens, clock } = parts;
        let metrics = Arc::new(Metrics::default());
        let hub = Arc::new(Hub::new(Arc::downgrade(&engine), Arc::clone(&metrics)));
        engine.attach(Arc::clone(&hub) as Arc<dyn Announcements>);
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

    /// What has to be done about once a second: channels without subscribers are left at the engine.
    pub async fn tick(&self) {
        self.hub.tick(millis(self.clock.monotonic())).await;
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

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn add_worker(&self, inbox: Arc<Inbox>) -> u16 {
        self.hub.add_worker(inbox)
    }
}

// === impl Node: publishing and reading, for backends ===

impl Node {
    /// Publishes to a channel by the history rules of its namespace.
    ///
    /// # Errors
    /// 107 for an empty channel or a payload the namespace refuses, 102 for an unknown namespace, 108 for a namespace of a
    /// kind this server does not have, 100 if the engine cannot do it.
    pub async fn publish(
        &self,
        channel: &str,
        data: Bytes,
        options: PublishOptions,
    ) -> Result<Published, Refusal> {
        let rules = self.api_rules(channel)?;
        if rules.unavailable || !rules::data_fits(rules.data_format, &data) {
            return Err(ErrorCode::BadRequest.into());
        }
        let PublishOptions { skip_history, tags, idempotency_key, delta, version, version_epoch } = options;
        let new = NewPublication {
            data,
            info: None,
            tags,
            retention: rules.history.filter(|_| !skip_history),
            idempotency_key,
            version,
            version_epoch,
            delta: delta || rules.delta_publish,
        };
        self.engine.publish(&channel.into(), new).await.map_err(|error| engine_refusal(&error))
    }

    /// Who is in a channel.
    ///
    /// # Errors
    /// As [`Node::publish`], and 108 if the namespace keeps no presence.
    pub async fn presence(&self, channel: &str) -> Result<Vec<Arc<ClientInfo>>, Refusal> {
        self.presence_rules(channel)?;
        self.engine.presence(&channel.into()).await.map_err(|error| engine_refusal(&error))
    }

    /// How many are in a channel.
    ///
    /// # Errors
    /// As [`Node::presence`].
    pub async fn presence_stats(&self, channel: &str) -> Result<PresenceStats, Refusal> {
        self.presence_rules(channel)?;
        self.engine.presence_stats(&channel.into()).await.map_err(|error| engine_refusal(&error))
    }

    /// Reads a channel's history. `limit` `Some(0)` reads the position only, `None` everything.
    ///
    /// # Errors
    /// As [`Node::publish`], 108 without history, 112 if `since` is of another epoch.
    pub async fn history(
        &self,
        channel: &str,
        since: Option<StreamPosition>,
        limit: Option<usize>,
        reverse: bool,
    ) -> Result<History, Refusal> {
        let retention = self.history_rules(channel)?;
        self.read_history(&channel.into(), retention, since, limit, reverse).await
    }

    /// Deletes a channel's publications; its position stays.
    ///
    /// # Errors
    /// As [`Node::history`].
    pub async fn history_remove(&self, channel: &str) -> Result<(), Refusal> {
        self.history_rules(channel)?;
        self.engine.remove_history(&channel.into()).await.map_err(|error| engine_refusal(&error))
    }

    /// Every channel that has subscribers on this node, with their number.
    pub fn channels(&self) -> Vec<(ChannelName, u32)> {
        self.hub.channels()
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
        }
    }

    pub(crate) async fn read_history(
        &self,
        channel: &ChannelName,
        retention: HistoryRetention,
        since: Option<StreamPosition>,
        limit: Option<usize>,
        reverse: bool,
    ) -> Result<History, Refusal> {
        let filter = HistoryFilter { since: since.as_ref().map(|since| since.offset), limit, reverse };
        let history = self
            .engine
            .history(channel, filter, retention.meta_ttl)
            .await
            .map_err(|error| engine_refusal(&error))?;
        match since {
            Some(since) if !since.epoch.is_empty() && since.epoch != history.top.epoch => {
                Err(ErrorCode::UnrecoverablePosition.into())
            }
            _ => Ok(history),
        }
    }

    fn api_rules(&self, channel: &str) -> Result<&Arc<ChannelOptions>, Refusal> {
        if channel.is_empty() {
            return Err(ErrorCode::BadRequest.into());
        }
        Ok(self.options.channel.rules(channel)?)
    }

    fn presence_rules(&self, channel: &str) -> Result<(), Refusal> {
        let on = self.api_rules(channel)?.presence;
        if on { Ok(()) } else { Err(ErrorCode::NotAvailable.into()) }
    }

    fn history_rules(&self, channel: &str) -> Result<HistoryRetention, Refusal> {
        self.api_rules(channel)?.history.ok_or(ErrorCode::NotAvailable.into())
    }
}

// === impl Node: operations on connections, for backends ===

impl Node {
    /// Closes connections. Returns how many, once they have been told.
    pub async fn disconnect(&self, target: &Target, disconnect: Disconnect) -> usize {
        self.control(target, Operation::Disconnect(disconnect)).await
    }

    /// Closes connections without waiting until they have been told.
    pub(crate) fn disconnect_soon(&self, target: &Target, disconnect: Disconnect) {
        drop(self.send_control(target, Operation::Disconnect(disconnect)));
    }

    /// Ends a subscription of connections; `None`: all their subscriptions.
    pub async fn unsubscribe(
        &self,
        target: &Target,
        channel: Option<ChannelName>,
        why: Unsubscribed,
    ) -> usize {
        self.control(target, Operation::Unsubscribe(channel, why)).await
    }

    /// Subscribes connections to a channel from the server's side. Returns once they follow it. A connection that is
    /// subscribed already counts as done.
    ///
    /// # Errors
    /// 107 for an empty channel, 102 for an unknown namespace.
    pub async fn subscribe(
        &self,
        target: &Target,
        channel: &str,
        grant: SubscribeGrant,
        recover_since: Option<StreamPosition>,
    ) -> Result<usize, Refusal> {
        let rules = self.api_rules(channel)?;
        if rules.unavailable {
            return Err(ErrorCode::BadRequest.into());
        }
        let operation = SubscribeOperation { channel: channel.into(), grant, recover_since };
        Ok(self.control(target, Operation::Subscribe(Arc::new(operation))).await)
    }

    /// Sets when connections expire (Unix seconds, 0: never), or expires them now.
    pub async fn refresh(
        &self,
        target: &Target,
        expired: bool,
        expire_at: i64,
        info: Option<Bytes>,
    ) -> usize {
        self.control(target, Operation::Refresh { expired, expire_at, info }).await
    }

    /// Sends a message that belongs to no channel.
    pub async fn send(&self, target: &Target, data: Bytes) -> usize {
        self.control(target, Operation::Send(data)).await
    }

    async fn control(&self, target: &Target, operation: Operation) -> usize {
        let (count, done) = self.send_control(target, operation);
        join_all(done).await;
        count
    }

    fn send_control(&self, target: &Target, operation: Operation) -> (usize, Vec<oneshot::Receiver<()>>) {
        let places = self.places(target);
        let count = places.len();
        let mut by_worker: BTreeMap<u16, Vec<(u32, Uuid)>> = BTreeMap::new();
        for (client, place) in places {
            by_worker.entry(place.worker).or_default().push((place.slot, client));
        }
        let mut done = Vec::new();
        for (worker, connections) in by_worker {
            let Some(inbox) = self.hub.inbox(worker) else {
                continue;
            };
            let (ack, receiver) = Ack::new();
            inbox.push(Item::Control(Control { connections, operation: operation.clone(), ack }));
            done.push(receiver);
        }
        (count, done)
    }

    fn places(&self, target: &Target) -> Vec<(Uuid, Place)> {
        let except: Vec<Uuid> = target.except.iter().filter_map(|id| id.parse().ok()).collect();
        let mut places = self.registry.user(&target.user);
        if !target.client.is_empty() {
            let wanted: Option<Uuid> = target.client.parse().ok();
            places.retain(|(id, _)| Some(*id) == wanted);
        }
        places.retain(|(id, _)| !except.contains(id));
        places
    }
}
