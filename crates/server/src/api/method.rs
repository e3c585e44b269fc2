//! The methods of the API, and what each does.

use std::sync::atomic::{AtomicU64, Ordering};

use tidewire::{Disconnect, Refusal, Tidewire};

use super::batch::Batch;
use super::failure::Failure;
use super::request::{self, read, target};
use super::result::{
    Answer, ChannelsResult, HistoryResult, InfoResult, NodeResult, PresenceResult, PresenceStatsResult,
    ProcessResult, PublishResult, RpcResult,
};

/// What one request may ask for.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Commands of a batch, channels of a broadcast, lines of a legacy request.
    pub batch: usize,
    /// Bytes of one publication.
    pub publication_bytes: usize,
}

macro_rules! methods {
    ($($method:ident $name:literal)*) => {
        /// A method that has a name in the API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Method {
            $(
                #[doc = concat!("`", $name, "`")]
                $method,
            )*
        }

        impl Method {
            /// Every method.
            pub const ALL: &'static [Self] = &[$(Self::$method),*];

            /// The method of this name.
            pub fn parse(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$method),)*
                    _ => None,
                }
            }

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$method => $name,)*
                }
            }
        }
    };
}

methods! {
    Publish "publish"
    Broadcast "broadcast"
    Subscribe "subscribe"
    Unsubscribe "unsubscribe"
    Disconnect "disconnect"
    Refresh "refresh"
    Presence "presence"
    PresenceStats "presence_stats"
    History "history"
    HistoryRemove "history_remove"
    Channels "channels"
    Info "info"
    Rpc "rpc"
    Batch "batch"
    MapPublish "map_publish"
    MapRemove "map_remove"
    MapReadState "map_read_state"
    MapReadStream "map_read_stream"
    MapStats "map_stats"
    MapClear "map_clear"
    SharedPollPublish "shared_poll_publish"
}

/// A request that has been read.
pub(super) enum Call {
    Publish(request::Publish),
    Broadcast(request::Publish),
    Subscribe(Box<request::Subscribe>),
    Unsubscribe(request::Unsubscribe),
    Disconnect(request::Disconnect),
    Refresh(request::Refresh),
    Presence(request::Channel),
    PresenceStats(request::Channel),
    History(request::History),
    HistoryRemove(request::Channel),
    Channels(request::Channels),
    Info,
    Rpc(request::Rpc),
    Batch(Batch),
    /// A method whose channels this server does not have.
    NotAvailable,
}

pub(super) type Outcome = Result<Answer, Failure>;

// === impl Method ===

impl Method {
    /// Reads the request of this method.
    pub(super) fn decode(self, body: &[u8]) -> serde_json::Result<Call> {
        Ok(match self {
            Self::Publish => Call::Publish(read(body)?),
            Self::Broadcast => Call::Broadcast(read(body)?),
            Self::Subscribe => Call::Subscribe(read(body)?),
            Self::Unsubscribe => Call::Unsubscribe(read(body)?),
            Self::Disconnect => Call::Disconnect(read(body)?),
            Self::Refresh => Call::Refresh(read(body)?),
            Self::Presence => Call::Presence(read(body)?),
            Self::PresenceStats => Call::PresenceStats(read(body)?),
            Self::History => Call::History(read(body)?),
            Self::HistoryRemove => Call::HistoryRemove(read(body)?),
            Self::Channels => Call::Channels(read(body)?),
            Self::Info => {
                read::<request::Nothing>(body)?;
                Call::Info
            }
            Self::Rpc => Call::Rpc(read(body)?),
            Self::Batch => Call::Batch(Batch::read(body)?),
            Self::MapPublish
            | Self::MapRemove
            | Self::MapReadState
            | Self::MapReadStream
            | Self::MapStats
            | Self::MapClear
            | Self::SharedPollPublish => {
                read::<request::Nothing>(body)?;
                Call::NotAvailable
            }
        })
    }
}

// === impl Call ===

impl Call {
    pub(super) async fn run(self, tidewire: &Tidewire, limits: &Limits) -> Outcome {
        match self {
            // Boxed, because a batch runs calls itself.
            Self::Batch(batch) => Box::pin(batch.run(tidewire, limits)).await,
            other => other.run_single(tidewire, limits).await,
        }
    }

    /// Everything but a batch.
    pub(super) async fn run_single(self, tidewire: &Tidewire, limits: &Limits) -> Outcome {
        match self {
            Self::Publish(request) => publish(tidewire, limits, request).await,
            Self::Broadcast(request) => broadcast(tidewire, limits, request).await,
            Self::Subscribe(request) => subscribe(tidewire, *request).await,
            Self::Unsubscribe(request) => unsubscribe(tidewire, request).await,
            Self::Disconnect(request) => disconnect(tidewire, request).await,
            Self::Refresh(request) => refresh(tidewire, request).await,
            Self::Presence(request) => {
                Ok(Answer::of(&PresenceResult::from(tidewire.presence(&request.channel).await?)))
            }
            Self::PresenceStats(request) => {
                let stats = tidewire.presence_stats(&request.channel).await?;
                Ok(Answer::of(&PresenceStatsResult { num_clients: stats.clients, num_users: stats.users }))
            }
            Self::History(request) => history(tidewire, request).await,
            Self::HistoryRemove(request) => {
                tidewire.history_remove(&request.channel).await?;
                Ok(Answer::empty())
            }
            Self::Channels(request) => {
                Ok(Answer::of(&ChannelsResult::from(tidewire.channels(&request.pattern).await?)))
            }
            Self::Info => Ok(info(tidewire)),
            Self::Rpc(request) => rpc(tidewire, request).await,
            Self::Batch(_) => Err(Failure::not_found()),
            Self::NotAvailable => Err(Failure::not_available()),
        }
    }
}

async fn publish(tidewire: &Tidewire, limits: &Limits, mut request: request::Publish) -> Outcome {
    let channel = std::mem::take(&mut request.channel);
    if channel.is_empty() {
        return Err(Failure::bad_request());
    }
    let (data, options) = request.parts(limits.publication_bytes)?;
    let published = tidewire.publish_with(&channel, data, options).await?;
    Ok(Answer::of(&PublishResult::from(published)))
}

async fn broadcast(tidewire: &Tidewire, limits: &Limits, mut request: request::Publish) -> Outcome {
    let channels = std::mem::take(&mut request.channels);
    if channels.is_empty() {
        return Err(Failure::bad_request());
    }
    if channels.len() > limits.batch {
        return Err(Failure::too_large("channels of one broadcast", channels.len(), limits.batch));
    }
    let (data, options) = request.parts(limits.publication_bytes)?;
    let responses: Vec<String> = tidewire
        .broadcast(&channels, data, options)
        .await
        .into_iter()
        .map(|published| match published {
            Ok(published) => Answer::of(&PublishResult::from(published)).into_whole(),
            Err(refusal) => Failure::from(refusal).to_wrapped_json(),
        })
        .collect();
    Ok(Answer::raw(format!("{{\"responses\":[{}]}}", responses.join(","))))
}

async fn subscribe(tidewire: &Tidewire, mut request: request::Subscribe) -> Outcome {
    if request.channel.is_empty() {
        return Err(Failure::bad_request());
    }
    let grant = tidewire::SubscribeGrant {
        expire_at: request.expire_at,
        info: request.info()?,
        data: request.data()?,
        overrides: request.overrides.take().map(Into::into).unwrap_or_default(),
    };
    check_channel(tidewire, &request.channel)?;
    if let Some(target) = target(request.user, request.client, &request.session, Vec::new()) {
        tidewire.subscribe(&target, &request.channel, grant, request.recover_since.map(Into::into)).await?;
    }
    Ok(Answer::empty())
}

async fn unsubscribe(tidewire: &Tidewire, request: request::Unsubscribe) -> Outcome {
    let channel = Some(request.channel.as_str()).filter(|channel| !channel.is_empty());
    if let Some(channel) = channel {
        check_channel(tidewire, channel)?;
    }
    if let Some(target) = target(request.user, request.client, &request.session, Vec::new()) {
        tidewire.unsubscribe(&target, channel).await;
    }
    Ok(Answer::empty())
}

async fn disconnect(tidewire: &Tidewire, request: request::Disconnect) -> Outcome {
    let why = match request.disconnect {
        Some(request::CodeAndReason { code, reason }) => custom_disconnect(code, reason)?,
        None => Disconnect::FORCE_NO_RECONNECT,
    };
    if let Some(target) = target(request.user, request.client, &request.session, request.whitelist) {
        tidewire.disconnect(&target, why).await;
    }
    Ok(Answer::empty())
}

/// A close code that WebSocket allows (RFC 6455 §7.4.2) and SDKs understand, with a reason that fits a close frame.
fn custom_disconnect(code: u32, reason: String) -> Result<Disconnect, Failure> {
    let code = if code == 0 { Disconnect::FORCE_NO_RECONNECT.code } else { code };
    if !(3000..5000).contains(&code) || reason.len() > Disconnect::REASON_BYTES_MAX {
        return Err(Failure::bad_request());
    }
    if !reason.is_empty() {
        return Ok(Disconnect::custom(code, reason));
    }
    let known = Disconnect::ALL.iter().find(|known| known.code == code);
    Ok(known.cloned().unwrap_or_else(|| Disconnect::custom(code, Disconnect::FORCE_NO_RECONNECT.reason)))
}

async fn refresh(tidewire: &Tidewire, request: request::Refresh) -> Outcome {
    let info = request.info()?;
    if let Some(target) = target(request.user, request.client, &request.session, Vec::new()) {
        tidewire.refresh(&target, request.expired, request.expire_at, info).await;
    }
    Ok(Answer::empty())
}

async fn history(tidewire: &Tidewire, request: request::History) -> Outcome {
    if request.reverse && request.since.as_ref().is_some_and(|since| since.offset == 0) {
        return Err(Failure::bad_request());
    }
    // Negative: everything.
    let limit = usize::try_from(request.limit).ok();
    let since = request.since.map(Into::into);
    let history = tidewire.history(&request.channel, since, limit, request.reverse).await?;
    Ok(Answer::of(&HistoryResult::from(history)))
}

fn info(tidewire: &Tidewire) -> Answer {
    let nodes = tidewire.nodes().into_iter().map(|node| NodeResult {
        uid: node.uid,
        name: node.name,
        version: node.version,
        num_clients: node.clients,
        num_users: node.users,
        num_channels: node.channels,
        num_subs: node.subscriptions,
        uptime: node.uptime.as_secs(),
        process: node
            .process
            .map(|process| ProcessResult { cpu: process.cpu_seconds, rss: process.resident_bytes }),
    });
    Answer::of(&InfoResult { nodes: nodes.collect() })
}

async fn rpc(tidewire: &Tidewire, request: request::Rpc) -> Outcome {
    if request.method.is_empty() {
        return Err(Failure::bad_request());
    }
    let data = tidewire.rpc(&request.method, request.params()?).await?;
    Ok(Answer::of(&RpcResult::of(&data)))
}

/// Whether the channel's namespace is configured, and for something this server has.
fn check_channel(tidewire: &Tidewire, channel: &str) -> Result<(), Failure> {
    let rules = tidewire.options().channel.rules(channel).map_err(Refusal::from)?;
    if rules.unavailable { Err(Failure::bad_request()) } else { Ok(()) }
}

/// How often each method was called, and how often it failed.
#[derive(Debug, Default)]
pub struct Calls {
    calls: [AtomicU64; Method::ALL.len()],
    failures: [AtomicU64; Method::ALL.len()],
}

// === impl Calls ===

impl Calls {
    pub(super) fn count(&self, method: Method, outcome: Outcome) -> Outcome {
        let index = method as usize;
        let add = |counters: &[AtomicU64], by| {
            counters.get(index).map(|counter| counter.fetch_add(by, Ordering::Relaxed))
        };
        add(&self.calls, 1);
        add(&self.failures, u64::from(outcome.is_err()));
        outcome
    }

    /// Each method with the number of its calls and of those that failed.
    pub fn totals(&self) -> impl Iterator<Item = (Method, u64, u64)> {
        let counters = Method::ALL.iter().zip(&self.calls).zip(&self.failures);
        counters.map(|((method, calls), failures)| {
            (*method, calls.load(Ordering::Relaxed), failures.load(Ordering::Relaxed))
        })
    }
}
