//! From options and hooks to a running node.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tidewire_core::hooks::{
    ConnectEvent, ConnectGrant, DisconnectEvent, Hook, HookResult, Hooks, MessageEvent, NoTokens, ProcessUse,
    PublishEvent, PublishGrant, RefreshEvent, RefreshGrant, RpcEvent, SubRefreshEvent, SubscribeEvent,
    SubscribeGrant, TokenVerifier,
};
use tidewire_core::options::{ClientOptions, Options};
use tidewire_core::{Node, Parts, Worker};
use tidewire_engine::{Clock, Engine, SystemClock};
use tidewire_engine_embedded::EmbeddedEngine;
use tidewire_transport::{ReactorOptions, Reactors, WebSocketEndpoint, WebSocketOptions};
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::guard::hook;
use crate::handle::{Inner, Tidewire, WeakTidewire};

/// Where [`Tidewire::router`] serves WebSocket clients unless told otherwise.
pub const WEBSOCKET_PATH: &str = "/connection/websocket";

/// Collects what a node is made of. Everything has a default: no tokens, no anonymous clients, channels without history
/// or presence, an engine in memory, one reactor thread per core.
#[derive(Default)]
pub struct Builder {
    options: Options,
    hooks: Hooks,
    procedures: Procedures,
    tokens: Option<Arc<dyn TokenVerifier>>,
    engine: Option<Arc<dyn Engine>>,
    reactors: ReactorOptions,
    websocket: WebSocketOptions,
    websocket_path: Option<String>,
    runtime: Option<Handle>,
    handle: Arc<OnceLock<std::sync::Weak<Inner>>>,
}

/// What backends call by name.
pub(crate) type Procedures = HashMap<String, Hook<Bytes, Bytes>>;

/// Why a node was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Built outside a tokio runtime, and none was given.
    #[error("no tokio runtime: build inside one, or hand one over with Builder::runtime")]
    NoRuntime,
    /// The operating system refused a thread or a poll.
    #[error("reactors could not be started: {0}")]
    Reactors(#[source] io::Error),
}

// === impl Builder: options ===

impl Builder {
    /// Limits, channel namespaces and everything else an operator sets.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use tidewire::Tidewire;
    /// use tidewire::options::{ChannelOptions, Options};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tidewire::BuildError> {
    /// let mut options = Options::default();
    /// let chat = ChannelOptions { presence: true, allow_subscribe_for_client: true, ..Default::default() };
    /// options.channel.namespaces.insert("chat".into(), Arc::new(chat));
    /// let tidewire = Tidewire::builder().options(options).build()?;
    /// # tidewire.shutdown(Default::default()).await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Limits and timings of connections alone.
    pub fn client_options(mut self, options: ClientOptions) -> Self {
        self.options.client = options;
        self
    }

    /// Where streams and presence are kept; by default in memory.
    pub fn engine(mut self, engine: Arc<dyn Engine>) -> Self {
        self.engine = Some(engine);
        self
    }

    /// Who judges the tokens of clients; by default every token is refused.
    pub fn tokens(mut self, tokens: impl TokenVerifier) -> Self {
        self.tokens = Some(Arc::new(tokens));
        self
    }

    /// Threads that look after client sockets, and what they accept.
    pub fn reactors(mut self, options: ReactorOptions) -> Self {
        self.reactors = options;
        self
    }

    /// Which web pages may connect, and how many connections there may be. By default pages may not: list the origins of
    /// yours in [`WebSocketOptions::origins`].
    pub fn websocket(mut self, options: WebSocketOptions) -> Self {
        self.websocket = options;
        self
    }

    /// Where [`Tidewire::router`] serves WebSocket clients; by default at [`WEBSOCKET_PATH`].
    pub fn websocket_path(mut self, path: impl Into<String>) -> Self {
        self.websocket_path = Some(path.into());
        self
    }

    /// The runtime for hooks and everything else that waits; by default the one `build` is called in.
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.runtime = Some(runtime);
        self
    }

    /// The node that will be built, for use inside hooks. It can be had before the node is there, and it keeps nothing
    /// alive: a hook that held a [`Tidewire`] would keep the node, which holds the hook, forever.
    pub fn weak(&self) -> WeakTidewire {
        WeakTidewire(Arc::clone(&self.handle))
    }
}

// === impl Builder: hooks ===

impl Builder {
    /// Decides about connects without a token. `None` leaves it to the rules for anonymous clients. The event has the
    /// HTTP request: headers, peer, and the extensions that middleware in front attached to it.
    pub fn on_connect<F, Answer>(mut self, function: F) -> Self
    where
        F: Fn(ConnectEvent) -> Answer + Send + Sync + 'static,
        Answer: Future<Output = HookResult<Option<ConnectGrant>>> + Send + 'static,
    {
        self.hooks.connect = Some(hook("connect", function));
        self
    }

    /// Says how long a connection goes on whose time is over and which the connect hook let in.
    pub fn on_refresh<F, Answer>(mut self, function: F) -> Self
    where
        F: Fn(RefreshEvent) -> Answer + Send + Sync + 'static,
        Answer: Future<Output = HookResult<RefreshGrant>> + Send + 'static,
    {
        self.hooks.refresh = Some(hook("refresh", function));
        self
    }

    /// Decides about subscribes without a token, in namespaces with `subscribe_proxy_enabled`. `None` leaves it to the
    /// channel rules.
    pub fn on_subscribe<F, Answer>(mut self, function: F) -> Self
    where
        F: Fn(SubscribeEvent) -> Answer + Send + Sync + 'static,
        Answer: Future<Output = HookResult<Option<SubscribeGrant>>> + Send + 'static,
    {
        self.hooks.subscribe = Some(hook("subscribe", function));
        self
    }

    /// Says how long a subscription goes on whose time is over, in namespaces with `sub_refresh_proxy_enabled`.
    pub fn on_sub_refresh<F, Answer>(mut self, function: F) -> Self
    where
        F: Fn(SubRefreshEvent) -> Answer + Send + Sync + 'static,
        Answer: Future<Output = HookResult<RefreshGrant>> + Send + 'static,
    {
        self.hooks.sub_refresh = Some(hook("sub_refresh", function));
        self
    }

    /// Decides about publishes of clients, in namespaces with `publish_proxy_enabled`. `None` leaves it to the channel
    /// rules; a grant may change what is published.
    pub fn on_publish<F, Answer>(mut self, function: F) -> Self
    where
        F: Fn(PublishEvent) -> Answer + Send + Sync + 'static,
        Answer: Future<Output = HookResult<Option<PublishGrant>>> + Send + 'static,
    {
        self.hooks.publish = Some(hook("publish", function));
        self
    }

    /// Answers remote procedure calls of clients.
    pub fn on_rpc<F, Answer>(mut self, function: F) -> Self
    where
        F: Fn(RpcEvent) -> Answer + Send + Sync + 'static,
        Answer: Future<Output = HookResult<Bytes>> + Send + 'static,
    {
        self.hooks.rpc = Some(hook("rpc", function));
        self
    }

    /// Receives what clients `send` without asking for an answer. Without it such a client is closed with 3508.
    pub fn on_message<F, Answer>(mut self, function: F) -> Self
    where
        F: Fn(MessageEvent) -> Answer + Send + Sync + 'static,
        Answer: Future<Output = HookResult<()>> + Send + 'static,
    {
        self.hooks.message = Some(hook("message", function));
        self
    }

    /// Is told that a connection which had been let in has ended.
    pub fn on_disconnect<F, Answer>(mut self, function: F) -> Self
    where
        F: Fn(DisconnectEvent) -> Answer + Send + Sync + 'static,
        Answer: Future<Output = ()> + Send + 'static,
    {
        self.hooks.disconnect = Some(hook("disconnect", move |event| {
            let told = function(event);
            async move {
                told.await;
                Ok(())
            }
        }));
        self
    }

    /// What the process uses of its machine, for `info` and for other nodes. Called about every three seconds.
    pub fn process_use(mut self, function: impl Fn() -> Option<ProcessUse> + Send + Sync + 'static) -> Self {
        self.hooks.process = Some(Arc::new(function));
        self
    }

    /// A procedure that backends call by name, with [`Tidewire::rpc`] or over the server API. Clients call
    /// [`Builder::on_rpc`] instead.
    pub fn procedure<F, Answer>(mut self, name: impl Into<String>, function: F) -> Self
    where
        F: Fn(Bytes) -> Answer + Send + Sync + 'static,
        Answer: Future<Output = HookResult<Bytes>> + Send + 'static,
    {
        self.procedures.insert(name.into(), hook("procedure", function));
        self
    }
}

// === impl Builder: building ===

impl Builder {
    /// Starts the node: its reactor threads and its background task run until [`Tidewire::shutdown`], or until the last
    /// handle is dropped.
    ///
    /// # Errors
    /// Outside a tokio runtime, or if the operating system refuses a thread.
    pub fn build(mut self) -> Result<Tidewire, BuildError> {
        let runtime = match self.runtime.take() {
            Some(runtime) => runtime,
            None => Handle::try_current().map_err(|_| BuildError::NoRuntime)?,
        };
        if self.options.version.is_empty() {
            env!("CARGO_PKG_VERSION").clone_into(&mut self.options.version);
        }
        if self.options.node_name.is_empty() {
            "tidewire".clone_into(&mut self.options.node_name);
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let (engine, embedded) = match self.engine.take() {
            Some(engine) => (engine, None),
            None => {
                let embedded = Arc::new(EmbeddedEngine::new(Arc::clone(&clock)));
                (Arc::clone(&embedded) as Arc<dyn Engine>, Some(embedded))
            }
        };
        let node = Node::new(Parts {
            id: Uuid::from_bytes(uuid::Builder::from_random_bytes(rand::random()).into_uuid().into_bytes()),
            options: self.options,
            engine,
            hooks: self.hooks,
            tokens: self.tokens.unwrap_or_else(|| Arc::new(NoTokens)),
            clock: Arc::clone(&clock),
        });
        let of_worker = Arc::clone(&node);
        let make = move |_| Worker::new(Arc::clone(&of_worker), rand::random());
        let reactors = Reactors::start(self.reactors, &runtime, clock, make).map_err(BuildError::Reactors)?;
        let endpoint = WebSocketEndpoint::new(reactors.clone(), self.websocket);
        let path = self.websocket_path.unwrap_or_else(|| WEBSOCKET_PATH.to_owned());
        let inner = Inner::start(node, embedded, reactors, endpoint, path, self.procedures, runtime);
        // The cell is this builder's own, so it is set once.
        let _ = self.handle.set(Arc::downgrade(&inner));
        Ok(Tidewire(inner))
    }
}
