//! Realtime channels inside your own application.
//!
//! Clients connect over WebSocket with any SDK that speaks the client protocol, subscribe to channels, and receive what
//! the application publishes, in order and, where a channel keeps history, without a gap across reconnects. The
//! application decides who may do what in hooks, and acts on clients and channels by calling [`Tidewire`].
//!
//! ```
//! use axum::Router;
//! use tidewire::{ConnectGrant, ErrorCode, Tidewire};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tidewire = Tidewire::builder()
//!     .on_connect(|event| async move {
//!         // The hook sees the HTTP request: headers, and whatever middleware attached to it.
//!         match event.request.headers.get("x-user").and_then(|user| user.to_str().ok()) {
//!             Some(user) => Ok(Some(ConnectGrant { user: user.into(), ..Default::default() })),
//!             None => Err(ErrorCode::Unauthorized.into()),
//!         }
//!     })
//!     .build()?;
//!
//! // The WebSocket endpoint is a route of the application's own router.
//! let app: Router = Router::new().merge(tidewire.router());
//! # drop(app);
//!
//! tidewire.publish("news", r#"{"text":"hello"}"#).await?;
//! # tidewire.shutdown(Default::default()).await;
//! # Ok(())
//! # }
//! ```
//!
//! In reading order: [`Builder`] (options and hooks), [`Tidewire`] (the running node and everything it can be asked),
//! [`hooks`] and [`options`] (what both speak of).
//!
//! Nothing here installs a crypto provider, a logger or a metrics exporter: those belong to the application.

mod background;
mod builder;
mod guard;
mod handle;
mod mount;

pub use builder::{BuildError, Builder, WEBSOCKET_PATH};
pub use handle::{Shutdown, Tidewire, WeakTidewire};

pub use tidewire_core::hooks::{
    self, ClientContext, ConnectEvent, ConnectGrant, DisconnectEvent, HookResult, MessageEvent, ProcessUse,
    PublishEvent, PublishGrant, RefreshEvent, RefreshGrant, Refusal, RpcEvent, SubRefreshEvent,
    SubscribeEvent, SubscribeGrant, TokenVerifier,
};
pub use tidewire_core::metrics::{self, Metrics};
pub use tidewire_core::options::{self, Options};
pub use tidewire_core::{NodeInfo, PublishOptions, Reached, Target};
pub use tidewire_engine as engine;
pub use tidewire_engine::{EngineError, History, PresenceStats, Published};
pub use tidewire_protocol as protocol;
pub use tidewire_protocol::{
    ChannelName, ClientInfo, Disconnect, Epoch, ErrorCode, StreamPosition, Unsubscribed,
};
pub use tidewire_transport as transport;
