//! What an operator can set: client limits, channel rules, RPC.
//!
//! These are the resolved forms, parsed and checked once by whoever reads the configuration; names and defaults are
//! those of Centrifugo v6 for the same things.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use regex::Regex;
use tidewire_engine::HistoryRetention;

/// Everything a node is configured with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The node's name in `info`; empty: host-independent default.
    pub node_name: String,
    /// The version clients are told.
    pub version: String,
    /// Limits and timings of connections.
    pub client: ClientOptions,
    /// Names and rules of channels.
    pub channel: ChannelNamespaces,
    /// Remote procedure calls.
    pub rpc: RpcOptions,
}

/// Limits and timings of connections (`client.*`).
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Everything is allowed: for development only.
    pub insecure: bool,
    /// A connect without a token makes an anonymous connection.
    pub allow_anonymous_connect_without_token: bool,
    /// A token without a user is refused with 3507.
    pub disallow_anonymous_connection_tokens: bool,
    /// The header of the upgrade request that names the user, set by a trusted proxy in front.
    pub user_id_http_header: Option<http::HeaderName>,
    /// Time between pings of the server.
    pub ping_interval: Duration,
    /// How long a client has to answer a ping; zero: no answer is asked for. Shorter than `ping_interval`.
    pub pong_timeout: Duration,
    /// Grace after a connection's expiry for the client to refresh.
    pub expired_close_delay: Duration,
    /// Grace after a subscription's expiry for the client to refresh.
    pub expired_sub_close_delay: Duration,
    /// Time from the upgrade to a connect command.
    pub stale_close_delay: Duration,
    /// Subscriptions per connection.
    pub channel_limit: usize,
    /// Bytes an outbox may hold before the client counts as slow. Worst case per node: connections times this.
    pub queue_max_size: usize,
    /// How often presence is refreshed and expiry of subscriptions is looked at.
    pub presence_update_interval: Duration,
    /// How long a presence entry lives without a refresh.
    pub presence_ttl: Duration,
    /// Commands of one connection that may wait for answers at a time; 0 and 1: one after the other.
    pub concurrency: usize,
    /// Commands per second that one connection may go on sending, ten seconds' worth at once; 0: no limit. Those above it are
    /// refused with 111; twice as many close the connection with 3013.
    pub command_rate_limit: u32,
    /// A channel's position confirmed longer ago than this is checked against the engine; zero: never.
    pub channel_position_check_delay: Duration,
    /// A publication that reaches a positioned subscriber later than this after it was made counts as a sign that others
    /// are lost or late as well: the subscriber must start over. Compares the clock of whoever published with this node's.
    /// Zero: never.
    pub channel_position_max_time_lag: Duration,
    /// Connections of one user on this node; 0: no limit.
    pub user_connection_limit: usize,
    /// Tell the server's time in the connect result.
    pub connect_include_server_time: bool,
    /// Publications a client may read from history in one request; 0: no limit.
    pub history_max_publication_limit: usize,
    /// Publications a recovery may bring; more missed ones are not recovered; 0: no limit.
    pub recovery_max_publication_limit: usize,
    /// A channel of the user's own that each connection is subscribed to.
    pub personal_channel: Option<PersonalChannel>,
    /// A connect proxy is configured that this server cannot ask: connects it would decide are refused with 108.
    pub connect_proxy_missing: bool,
    /// A refresh proxy is configured that this server cannot ask: refreshes it would decide are refused with 108.
    pub refresh_proxy_missing: bool,
    /// Largest command in bytes; a larger one closes the connection with 3501.
    pub command_bytes_max: usize,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            insecure: false,
            allow_anonymous_connect_without_token: false,
            disallow_anonymous_connection_tokens: false,
            user_id_http_header: None,
            ping_interval: Duration::from_secs(25),
            pong_timeout: Duration::from_secs(8),
            expired_close_delay: Duration::from_secs(25),
            expired_sub_close_delay: Duration::from_secs(25),
            stale_close_delay: Duration::from_secs(10),
            channel_limit: 128,
            queue_max_size: 1 << 20,
            presence_update_interval: Duration::from_secs(27),
            presence_ttl: Duration::from_secs(60),
            concurrency: 0,
            command_rate_limit: 0,
            channel_position_check_delay: Duration::from_secs(40),
            channel_position_max_time_lag: Duration::ZERO,
            user_connection_limit: 0,
            connect_include_server_time: false,
            history_max_publication_limit: 300,
            recovery_max_publication_limit: 300,
            personal_channel: None,
            connect_proxy_missing: false,
            refresh_proxy_missing: false,
            command_bytes_max: 65_536,
        }
    }
}

/// `client.subscribe_to_user_personal_channel`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PersonalChannel {
    /// The namespace of the channel; empty: none.
    pub namespace: String,
    /// A new connection of a user closes the user's others with 3504. Needs presence in the namespace.
    pub single_connection: bool,
}

/// How channel names are read and which rules each namespace has (`channel.*`).
#[derive(Debug, Clone)]
pub struct ChannelNamespaces {
    /// Rules of channels without a namespace.
    pub without_namespace: Arc<ChannelOptions>,
    /// Rules by namespace name.
    pub namespaces: BTreeMap<String, Arc<ChannelOptions>>,
    /// Longest name in bytes.
    pub max_length: usize,
    /// A channel that starts with it needs a subscription token. Empty: off.
    pub private_prefix: String,
    /// What ends the namespace in a name. Empty: off.
    pub namespace_boundary: String,
    /// What begins the list of allowed users in a name. Empty: off.
    pub user_boundary: String,
    /// What separates users in that list. Empty: one user.
    pub user_separator: String,
}

impl Default for ChannelNamespaces {
    fn default() -> Self {
        Self {
            without_namespace: Arc::default(),
            namespaces: BTreeMap::new(),
            max_length: 255,
            private_prefix: "$".into(),
            namespace_boundary: ":".into(),
            user_boundary: "#".into(),
            user_separator: ",".into(),
        }
    }
}

/// What a publication's payload must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DataFormat {
    /// Anything but nothing.
    #[default]
    NotEmpty,
    /// One JSON value.
    Json,
    /// One JSON object.
    JsonObject,
    /// Anything, also nothing.
    Binary,
}

/// How missed publications are brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecoveryMode {
    /// Every one of them, or the client is told that it cannot be done.
    #[default]
    Stream,
    /// Only the newest matters.
    Cache,
}

/// Rules of the channels of one namespace (`channel.namespaces[]`, `channel.without_namespace`).
#[derive(Debug, Clone, Default)]
pub struct ChannelOptions {
    /// Keep who is in the channel.
    pub presence: bool,
    /// Announce who joins and leaves.
    pub join_leave: bool,
    /// Send joins and leaves to every subscriber, asked for or not.
    pub force_push_join_leave: bool,
    /// Keep publications; `None`: no history.
    pub history: Option<HistoryRetention>,
    /// Watch every subscription for gaps.
    pub force_positioning: bool,
    /// Let clients ask for that.
    pub allow_positioning: bool,
    /// Make every subscription recoverable.
    pub force_recovery: bool,
    /// Let clients ask for that.
    pub allow_recovery: bool,
    /// What recovery brings back.
    pub recovery_mode: RecoveryMode,
    /// With cache recovery: send the newest publication to every new subscriber.
    pub auto_cache_recover: bool,
    /// Clients may ask for Fossil deltas (`fossil` in `allowed_delta_types`); only positioned subscriptions get them.
    pub allow_fossil_delta: bool,
    /// Mark publications for receivers that negotiated deltas.
    pub delta_publish: bool,
    /// Signed-in clients may subscribe.
    pub allow_subscribe_for_client: bool,
    /// Anonymous clients may too.
    pub allow_subscribe_for_anonymous: bool,
    /// Clients may publish.
    pub allow_publish_for_client: bool,
    /// Subscribers may publish.
    pub allow_publish_for_subscriber: bool,
    /// Anonymous clients too, where the two above allow.
    pub allow_publish_for_anonymous: bool,
    /// Clients may ask for presence.
    pub allow_presence_for_client: bool,
    /// Subscribers may.
    pub allow_presence_for_subscriber: bool,
    /// Anonymous clients too, where the two above allow.
    pub allow_presence_for_anonymous: bool,
    /// Clients may read history.
    pub allow_history_for_client: bool,
    /// Subscribers may.
    pub allow_history_for_subscriber: bool,
    /// Anonymous clients too, where the two above allow.
    pub allow_history_for_anonymous: bool,
    /// Users named in the channel name may subscribe.
    pub allow_user_limited_channels: bool,
    /// Names that are allowed, matched against what follows the namespace; without one, names are ASCII.
    pub channel_regex: Option<Regex>,
    /// What payloads must be.
    pub data_format: DataFormat,
    /// The subscribe hook decides (108 without one).
    pub subscribe_proxy_enabled: bool,
    /// The publish hook decides (108 without one).
    pub publish_proxy_enabled: bool,
    /// The sub-refresh hook, not the client, renews subscriptions that expire.
    pub sub_refresh_proxy_enabled: bool,
    /// The namespace is configured for something this server does not have (its `subscription_type` or its subscribe stream
    /// proxy): subscribing and publishing are refused with 108.
    pub unavailable: bool,
}

/// Remote procedure calls (`rpc.*`).
#[derive(Debug, Clone)]
pub struct RpcOptions {
    /// Method namespaces; a method of another namespace is unknown (104).
    pub namespaces: Vec<String>,
    /// What ends the namespace in a method name.
    pub namespace_boundary: String,
    /// The name of the built-in method that answers with nothing.
    pub ping_method: Option<String>,
}

impl Default for RpcOptions {
    fn default() -> Self {
        Self { namespaces: Vec::new(), namespace_boundary: ":".into(), ping_method: None }
    }
}
