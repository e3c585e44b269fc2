//! Where an application takes part: hooks that may be asynchronous, and the token verifier.
//!
//! A hook receives an event and answers with a grant, with "no opinion" where the rules can decide instead, or with a
//! [`Refusal`]. Without a hook the configured rules decide alone.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use tidewire_engine::BoxFuture;
use tidewire_protocol::{ChannelName, Disconnect, Encoding, Error, ErrorCode};

/// An answer that is not what the client hoped for.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// The command is answered with this error; the connection stays.
    #[error("{} (error {})", .0.message, .0.code)]
    Error(Error),
    /// The connection is closed.
    #[error("{} (disconnect {})", .0.reason, .0.code)]
    Disconnect(Disconnect),
}

impl From<ErrorCode> for Refusal {
    fn from(code: ErrorCode) -> Self {
        Self::Error(code.into())
    }
}

impl From<Disconnect> for Refusal {
    fn from(disconnect: Disconnect) -> Self {
        Self::Disconnect(disconnect)
    }
}

/// What a hook answers.
pub type HookResult<T> = Result<T, Refusal>;

/// A hook: any asynchronous function from an event to an answer.
pub type Hook<E, T> = Arc<dyn Fn(E) -> BoxFuture<'static, HookResult<T>> + Send + Sync>;

/// The hooks of an application. Each is optional.
#[derive(Clone, Default)]
pub struct Hooks {
    /// Asked for a connect without a token; `None` leaves it to the rules for anonymous connections.
    pub connect: Option<Hook<ConnectEvent, Option<ConnectGrant>>>,
    /// Asked when the connection's time is over and its credentials came from the connect hook.
    pub refresh: Option<Hook<RefreshEvent, RefreshGrant>>,
    /// Asked for a subscribe without a token; `None` leaves it to the channel rules.
    pub subscribe: Option<Hook<SubscribeEvent, Option<SubscribeGrant>>>,
    /// Asked when a subscription's time is over in a namespace with `sub_refresh_proxy_enabled`.
    pub sub_refresh: Option<Hook<SubRefreshEvent, RefreshGrant>>,
    /// Asked for each publish of a client; `None` leaves it to the channel rules.
    pub publish: Option<Hook<PublishEvent, Option<PublishGrant>>>,
    /// Answers remote procedure calls.
    pub rpc: Option<Hook<RpcEvent, Bytes>>,
    /// Receives `send` messages of clients.
    pub message: Option<Hook<MessageEvent, ()>>,
    /// Told when a connection that had been accepted ends. Its answer is ignored.
    pub disconnect: Option<Hook<DisconnectEvent, ()>>,
    /// Asked about every three seconds what the process uses, for the other nodes and for `info`.
    pub process: Option<Arc<dyn Fn() -> Option<ProcessUse> + Send + Sync>>,
}

/// What a node's process uses of its machine.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct ProcessUse {
    /// Processor time since its start, user and system.
    pub cpu_seconds: f64,
    /// Memory in RAM.
    pub resident_bytes: u64,
}

/// The HTTP request a connection began with.
#[derive(Debug, Clone, Default)]
pub struct UpgradeRequest {
    /// Its headers.
    pub headers: http::HeaderMap,
    /// Its path and query.
    pub uri: http::Uri,
    /// Who sent it, if known.
    pub peer: Option<SocketAddr>,
    /// What middleware of the application attached to it, such as a verified session.
    pub extensions: http::Extensions,
}

/// Who a connection is, in events.
#[derive(Debug, Clone)]
pub struct ClientContext {
    /// The id of the connection.
    pub client: String,
    /// The user; empty if anonymous (and in a connect event).
    pub user: Arc<str>,
    /// How the connection's messages are written.
    pub encoding: Encoding,
    /// The transport, such as `websocket`.
    pub transport: &'static str,
    /// What the credentials carried for the server side only.
    pub meta: Bytes,
}

/// A client wants to connect.
#[derive(Debug, Clone)]
pub struct ConnectEvent {
    /// The connection; its user is not known yet.
    pub client: ClientContext,
    /// The HTTP request it came with.
    pub request: Arc<UpgradeRequest>,
    /// The client library's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What the client sent along.
    pub data: Bytes,
    /// Channels the client remembers as server-side subscriptions.
    pub channels: Vec<String>,
}

/// Who a connection is from now on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConnectGrant {
    /// The user; empty: anonymous.
    pub user: String,
    /// Unix seconds at which the connection must be refreshed; 0: never.
    pub expire_at: i64,
    /// What other clients see of the connection (JSON for JSON clients).
    pub info: Bytes,
    /// Custom data of the connect result.
    pub data: Bytes,
    /// Kept for hooks, never sent to clients.
    pub meta: Bytes,
    /// Server-side subscriptions.
    pub subs: Vec<(ChannelName, SubscribeGrant)>,
}

/// A connection's or subscription's time is over.
#[derive(Debug, Clone)]
pub struct RefreshEvent {
    /// The connection.
    pub client: ClientContext,
}

/// A subscription's time is over.
#[derive(Debug, Clone)]
pub struct SubRefreshEvent {
    /// The connection.
    pub client: ClientContext,
    /// The channel.
    pub channel: ChannelName,
}

/// How long it goes on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RefreshGrant {
    /// It does not.
    pub expired: bool,
    /// Unix seconds of the next refresh; 0: never.
    pub expire_at: i64,
    /// Replaces the info, if not empty.
    pub info: Bytes,
}

/// A client wants to subscribe.
#[derive(Debug, Clone)]
pub struct SubscribeEvent {
    /// The connection.
    pub client: ClientContext,
    /// The channel.
    pub channel: ChannelName,
    /// What the client sent along.
    pub data: Bytes,
}

/// What a subscription is given beyond the rules of its namespace.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SubscribeGrant {
    /// Unix seconds at which the subscription must be refreshed; 0: never.
    pub expire_at: i64,
    /// What other subscribers see of this one in the channel.
    pub info: Bytes,
    /// Custom data of the subscribe result.
    pub data: Bytes,
    /// Channel options that this subscription has differently.
    pub overrides: Overrides,
}

/// Channel options that one subscription has differently; `None`: as the namespace says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overrides {
    /// [`crate::options::ChannelOptions::presence`].
    pub presence: Option<bool>,
    /// [`crate::options::ChannelOptions::join_leave`].
    pub join_leave: Option<bool>,
    /// [`crate::options::ChannelOptions::force_push_join_leave`].
    pub force_push_join_leave: Option<bool>,
    /// [`crate::options::ChannelOptions::force_positioning`].
    pub force_positioning: Option<bool>,
    /// [`crate::options::ChannelOptions::force_recovery`].
    pub force_recovery: Option<bool>,
}

/// A client wants to publish.
#[derive(Debug, Clone)]
pub struct PublishEvent {
    /// The connection.
    pub client: ClientContext,
    /// The channel.
    pub channel: ChannelName,
    /// The payload.
    pub data: Bytes,
}

/// What is published instead of exactly what the client sent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PublishGrant {
    /// Replaces the payload.
    pub data: Option<Bytes>,
    /// Only deliver.
    pub skip_history: bool,
}

/// A client calls a procedure.
#[derive(Debug, Clone)]
pub struct RpcEvent {
    /// The connection.
    pub client: ClientContext,
    /// The method.
    pub method: String,
    /// Its parameters.
    pub data: Bytes,
}

/// A client sent a message without asking for an answer.
#[derive(Debug, Clone)]
pub struct MessageEvent {
    /// The connection.
    pub client: ClientContext,
    /// The message.
    pub data: Bytes,
}

/// An accepted connection ended.
#[derive(Debug, Clone)]
pub struct DisconnectEvent {
    /// The connection.
    pub client: ClientContext,
    /// Why.
    pub disconnect: Disconnect,
}

/// What a valid connection token says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ConnectionClaims {
    /// The user; empty: anonymous.
    pub user: String,
    /// Unix seconds; 0: never expires.
    pub expire_at: i64,
    /// What other clients see of the connection.
    pub info: Bytes,
    /// Kept for hooks.
    pub meta: Bytes,
    /// Server-side subscriptions.
    pub subs: Vec<(ChannelName, SubscribeGrant)>,
}

/// What a valid subscription token says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SubscriptionClaims {
    /// Must be the user of the connection.
    pub user: String,
    /// Must be the channel asked for.
    pub channel: String,
    /// If not empty, must be the client id.
    pub client: String,
    /// What the subscription is given.
    pub grant: SubscribeGrant,
}

/// Why a token is not good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Its time is over or has not come; a new token helps.
    #[error("token expired")]
    Expired,
    /// It is not a token of ours. The text is for the log and holds nothing of the token.
    #[error("invalid token: {0}")]
    Invalid(String),
    /// The keys to judge it cannot be had now.
    #[error("token keys unavailable: {0}")]
    Unavailable(String),
}

/// Judges tokens.
pub trait TokenVerifier: Send + Sync + 'static {
    /// Judges a connection token. `now_unix_s` is the time to judge expiry by.
    fn connection<'a>(
        &'a self,
        token: &'a str,
        now_unix_s: i64,
    ) -> BoxFuture<'a, Result<ConnectionClaims, TokenError>>;

    /// Judges a subscription token.
    fn subscription<'a>(
        &'a self,
        token: &'a str,
        now_unix_s: i64,
    ) -> BoxFuture<'a, Result<SubscriptionClaims, TokenError>>;
}

/// Accepts no token: what a node has until it is given keys.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoTokens;

impl TokenVerifier for NoTokens {
    fn connection<'a>(&'a self, _: &'a str, _: i64) -> BoxFuture<'a, Result<ConnectionClaims, TokenError>> {
        Box::pin(std::future::ready(Err(TokenError::Invalid("no token keys are configured".into()))))
    }

    fn subscription<'a>(
        &'a self,
        _: &'a str,
        _: i64,
    ) -> BoxFuture<'a, Result<SubscriptionClaims, TokenError>> {
        Box::pin(std::future::ready(Err(TokenError::Invalid("no token keys are configured".into()))))
    }
}
