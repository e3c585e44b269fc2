//! A running node, and everything it can be asked from code.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use tidewire_core::hooks::{Refusal, SubscribeGrant};
use tidewire_core::metrics::Metrics;
use tidewire_core::options::Options;
use tidewire_core::{Node, NodeInfo, PublishOptions, Reached, Target};
use tidewire_engine::{EngineError, History, PresenceStats, Published};
use tidewire_engine_embedded::EmbeddedEngine;
use tidewire_protocol::{ChannelName, ClientInfo, Disconnect, ErrorCode, StreamPosition, Unsubscribed};
use tidewire_transport::{Reactors, WebSocketEndpoint};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::background;
use crate::builder::{Builder, Procedures};

/// A running node. Clones are the same node.
///
/// Its calls are those of a backend: the permissions of channels, which are rules for clients, do not apply to them.
#[derive(Clone)]
pub struct Tidewire(pub(crate) Arc<Inner>);

/// A [`Tidewire`] that keeps nothing alive, for use inside hooks.
#[derive(Clone)]
pub struct WeakTidewire(pub(crate) Arc<OnceLock<Weak<Inner>>>);

/// How a node stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shutdown {
    /// Connections are closed with 3001, each at a random moment within this time, so that they do not all come back
    /// to another node at once.
    pub spread: Duration,
    /// How long it may take in all; connections that are left by then are dropped.
    pub timeout: Duration,
}

pub(crate) struct Inner {
    node: Arc<Node>,
    reactors: Reactors,
    endpoint: WebSocketEndpoint,
    websocket_path: String,
    procedures: Procedures,
    runtime: Handle,
    stop: CancellationToken,
    tasks: TaskTracker,
}

// === impl Shutdown ===

impl Default for Shutdown {
    /// At once, with five seconds for the closing handshakes.
    fn default() -> Self {
        Self { spread: Duration::ZERO, timeout: Duration::from_secs(5) }
    }
}

// === impl WeakTidewire ===

impl WeakTidewire {
    /// The node; `None` before it is built and after its last handle is gone.
    pub fn upgrade(&self) -> Option<Tidewire> {
        self.0.get()?.upgrade().map(Tidewire)
    }
}

// === impl Inner ===

impl Inner {
    pub(crate) fn start(
        node: Arc<Node>,
        embedded: Option<Arc<EmbeddedEngine>>,
        reactors: Reactors,
        endpoint: WebSocketEndpoint,
        websocket_path: String,
        procedures: Procedures,
        runtime: Handle,
    ) -> Arc<Self> {
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        tasks.spawn_on(background::run(Arc::clone(&node), embedded, stop.clone()), &runtime);
        tasks.close();
        Arc::new(Self { node, reactors, endpoint, websocket_path, procedures, runtime, stop, tasks })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
        let reactors = self.reactors.clone();
        self.runtime.spawn(async move { reactors.shutdown(Duration::ZERO).await });
    }
}

// === impl Tidewire: channels ===

impl Tidewire {
    /// Begins to build a node.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Publishes to a channel by the rules of its namespace. JSON clients need `data` to be JSON.
    ///
    /// Returns when the engine has taken it: where the channel keeps history, with the publication's position.
    ///
    /// # Errors
    /// 102 for an unknown namespace, 107 for an empty channel or a payload the namespace refuses, 100 if the engine
    /// cannot do it.
    pub async fn publish(&self, channel: &str, data: impl Into<Bytes>) -> Result<Published, Refusal> {
        self.publish_with(channel, data, PublishOptions::default()).await
    }

    /// Publishes with an idempotency key, tags, or other [`PublishOptions`].
    ///
    /// # Errors
    /// As [`Tidewire::publish`].
    pub async fn publish_with(
        &self,
        channel: &str,
        data: impl Into<Bytes>,
        options: PublishOptions,
    ) -> Result<Published, Refusal> {
        self.0.node.publish(channel, data.into(), options).await
    }

    /// Publishes the same to many channels. The results are in the order of the channels; one that fails does not stop
    /// the others.
    pub async fn broadcast<C: AsRef<str>>(
        &self,
        channels: &[C],
        data: impl Into<Bytes>,
        options: PublishOptions,
    ) -> Vec<Result<Published, Refusal>> {
        let data = data.into();
        let publish = |channel: &C| {
            let (channel, data, options) = (channel.as_ref().to_owned(), data.clone(), options.clone());
            async move { self.0.node.publish(&channel, data, options).await }
        };
        join_all(channels.iter().map(publish)).await
    }

    /// Who is in a channel.
    ///
    /// # Errors
    /// 102 for an unknown namespace, 108 if the namespace keeps no presence, 100 if the engine cannot say.
    pub async fn presence(&self, channel: &str) -> Result<Vec<Arc<ClientInfo>>, Refusal> {
        self.0.node.presence(channel).await
    }

    /// How many are in a channel.
    ///
    /// # Errors
    /// As [`Tidewire::presence`].
    pub async fn presence_stats(&self, channel: &str) -> Result<PresenceStats, Refusal> {
        self.0.node.presence_stats(channel).await
    }

    /// Reads a channel's history after `since` (with `reverse`, before it), and the stream's newest position.
    /// `limit` `Some(0)` reads the position only, `None` everything.
    ///
    /// # Errors
    /// 102 for an unknown namespace, 108 without history, 112 if `since` is of another epoch, 100 if the engine cannot
    /// say.
    pub async fn history(
        &self,
        channel: &str,
        since: Option<StreamPosition>,
        limit: Option<usize>,
        reverse: bool,
    ) -> Result<History, Refusal> {
        self.0.node.history(channel, since, limit, reverse).await
    }

    /// Deletes a channel's publications; its position stays.
    ///
    /// # Errors
    /// As [`Tidewire::history`].
    pub async fn history_remove(&self, channel: &str) -> Result<(), Refusal> {
        self.0.node.history_remove(channel).await
    }

    /// Channels with subscribers on any node, and how many those are, by name. In `pattern`, `*` stands for any characters,
    /// `?` for one, `[ab]` and `[!ab]` for one of a set, `{one,two}` for one of several; an empty one matches everything.
    ///
    /// It looks at every channel of every node.
    ///
    /// # Errors
    /// 107 if the pattern cannot be read, 100 if another node does not answer.
    pub async fn channels(&self, pattern: &str) -> Result<Vec<(ChannelName, u32)>, Refusal> {
        self.0.node.channels(pattern).await
    }
}

// === impl Tidewire: connections ===

impl Tidewire {
    /// Subscribes connections to a channel from the server's side, from `recover_since` on if given. Returns once they
    /// follow the channel; one that does already counts as done.
    ///
    /// # Errors
    /// 107 for an empty channel, 102 for an unknown namespace.
    pub async fn subscribe(
        &self,
        target: &Target,
        channel: &str,
        grant: SubscribeGrant,
        recover_since: Option<StreamPosition>,
    ) -> Result<Reached, Refusal> {
        self.0.node.subscribe(target, channel, grant, recover_since).await
    }

    /// Ends a subscription of connections; `None`: all their subscriptions. Returns once it is done.
    pub async fn unsubscribe(&self, target: &Target, channel: Option<&str>) -> Reached {
        let channel = channel.map(ChannelName::from);
        self.0.node.unsubscribe(target, channel, Unsubscribed::SERVER).await
    }

    /// Closes connections. Returns once it is done.
    pub async fn disconnect(&self, target: &Target, why: Disconnect) -> Reached {
        self.0.node.disconnect(target, why).await
    }

    /// Sets when connections expire (Unix seconds, 0: never) and, if given, what others see of them; or expires them now.
    /// Returns once it is done.
    pub async fn refresh(
        &self,
        target: &Target,
        expired: bool,
        expire_at: i64,
        info: Option<Bytes>,
    ) -> Reached {
        self.0.node.refresh(target, expired, expire_at, info).await
    }

    /// Sends connections a message that belongs to no channel. Returns once it is done.
    pub async fn send(&self, target: &Target, data: impl Into<Bytes>) -> Reached {
        self.0.node.send(target, data.into()).await
    }
}

// === impl Tidewire: the node ===

impl Tidewire {
    /// Calls a procedure that was given to [`Builder::procedure`].
    ///
    /// # Errors
    /// 104 if there is none of this name; otherwise what the procedure answers.
    pub async fn rpc(&self, method: &str, params: Bytes) -> Result<Bytes, Refusal> {
        let procedure = self.0.procedures.get(method).ok_or(ErrorCode::MethodNotFound)?;
        procedure(params).await
    }

    /// This node and every other that shares its engine, as far as they were heard of in the last ten seconds.
    pub fn nodes(&self) -> Vec<NodeInfo> {
        self.0.node.nodes()
    }

    /// What this node says about itself.
    pub fn info(&self) -> NodeInfo {
        self.0.node.info()
    }

    /// What it was configured with.
    pub fn options(&self) -> &Options {
        self.0.node.options()
    }

    /// What has been counted since the start.
    pub fn metrics(&self) -> &Metrics {
        self.0.node.metrics()
    }

    /// Client sockets that are open now, those included that have not sent a connect command.
    pub fn sockets(&self) -> usize {
        self.0.reactors.connections()
    }

    /// Asks the engine whether it can serve.
    ///
    /// # Errors
    /// It cannot, or has not answered within `patience`; or this node is stopping.
    pub async fn ready(&self, patience: Duration) -> Result<(), EngineError> {
        if self.0.node.is_draining() {
            return Err(EngineError::Unavailable("this node is stopping".into()));
        }
        let ready = self.0.node.engine().ready();
        match tokio::time::timeout(patience, ready).await {
            Ok(answer) => answer,
            Err(_) => Err(EngineError::Unavailable(format!("no answer within {patience:?}"))),
        }
    }

    /// Stops the node: no new connections, those there are told to reconnect (3001), threads and tasks ended. A second
    /// call waits for the first.
    pub async fn shutdown(&self, how: Shutdown) {
        self.0.node.drain(how.spread);
        self.0.reactors.shutdown(how.timeout).await;
        self.0.node.leave_cluster().await;
        self.0.stop.cancel();
        self.0.tasks.wait().await;
    }

    pub(crate) fn websocket_path(&self) -> &str {
        &self.0.websocket_path
    }

    pub(crate) fn endpoint(&self) -> &WebSocketEndpoint {
        &self.0.endpoint
    }
}
