//! The engine traits over Redis.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use rand::RngExt;
use rand::distr::Alphanumeric;
use tidewire_engine::{
    Announcements, BoxFuture, Broker, Bus, BusReceiver, Capabilities, Engine, EngineError, History,
    HistoryFilter, HistoryRetention, NewPublication, Published, Suppressed,
};
use tidewire_protocol::{ChannelName, ClientInfo, Epoch, Publication, StreamPosition};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::bus;
use crate::cluster::Cluster;
use crate::dial::{Dialer, DialerOptions, Wanted};
use crate::durable::Replicas;
use crate::envelope;
use crate::error::{Error, Result};
use crate::keys::Keys;
use crate::link::{Again, Way};
use crate::locate::{Locator, Sentinels};
use crate::metrics::{Counters, Lag, Metrics};
use crate::options::{Options, Topology};
use crate::presence::Leases;
use crate::pubsub::Ear;
use crate::resp::{Command, Value};
use crate::router::{Manner, Node, Router};
use crate::script;

/// How long an idempotency key answers for its publish.
const IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(300);
/// Letters of an epoch and of the name a node goes by in presence.
const EPOCH_LETTERS: usize = 8;
pub(crate) const NODE_LETTERS: usize = 16;
/// How long a readiness check waits for an answer.
const READY_WITHIN: Duration = Duration::from_secs(1);

/// The engine of several nodes.
///
/// Every call ends within [`Options::io_timeout`]. A call that is safe to repeat is repeated while there is time; a
/// publish whose connection broke after it was sent is not, since it may have been made: its caller repeats it with an
/// idempotency key.
///
/// Connections come up in the background and are kept until the engine is dropped.
pub struct RedisEngine {
    pub(crate) shared: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

pub(crate) struct Shared {
    pub(crate) keys: Arc<Keys>,
    pub(crate) router: Router,
    pub(crate) io_timeout: Duration,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) leases: Leases,
    sink: Arc<OnceLock<Arc<dyn Announcements>>>,
    pub(crate) bus: Arc<OnceLock<Arc<dyn BusReceiver>>>,
    announce: &'static [u8],
}

// === impl RedisEngine ===

impl RedisEngine {
    /// Begins to connect. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// [`Error::Topology`] if the options contradict each other or name no server.
    pub fn start(options: &Options) -> Result<Self> {
        let metrics = Arc::<Metrics>::default();
        let shared = Arc::new(Shared::new(options, &metrics)?);
        let tasks = vec![tokio::spawn(crate::presence::keep_leases(Arc::clone(&shared)))];
        Ok(Self { shared, tasks })
    }

    /// Waits until every server has been reached, at most for `patience`.
    ///
    /// # Errors
    /// What is wrong. [`Error::is_permanent`] tells whether it is the configuration, which ends the wait at once.
    pub async fn connected(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let error = match self.shared.router.down() {
                None => match self.shared.router.ping(deadline).await {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                },
                Some(error) => error,
            };
            if error.is_permanent() || Instant::now() >= deadline {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Asks every server, or every part of a cluster, to write something: one that answers may still have no room, no
    /// disk, or no right for this user. To be called once connected.
    ///
    /// # Errors
    /// What the first one said that refuses.
    pub async fn writable(&self) -> Result<()> {
        let shared = &self.shared;
        let deadline = Instant::now() + shared.io_timeout;
        let write = async |target: u16| {
            let command = Command::words(&["SET", &shared.probe(target), "", "PX", "1000"]);
            shared.router.call(target, &command, Manner::HARMLESS, deadline).await.map(drop)
        };
        try_join_all((0..shared.router.targets()).map(write)).await.map(drop)
    }

    /// What happened so far, and what is under way.
    pub fn counters(&self) -> Counters {
        self.shared.metrics.read()
    }

    /// How late publications were received.
    pub fn lag(&self) -> Lag {
        self.shared.metrics.lag.read()
    }

    /// Channels whose announcements this node wants.
    pub fn channels(&self) -> usize {
        self.shared.router.channels()
    }
}

impl Drop for RedisEngine {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

// === impl Shared ===

impl Shared {
    fn new(options: &Options, metrics: &Arc<Metrics>) -> Result<Self> {
        let refused = |cause: &str| Error::Topology { server: "options".into(), cause: cause.into() };
        let sink = Arc::<OnceLock<Arc<dyn Announcements>>>::default();
        let bus = Arc::<OnceLock<Arc<dyn BusReceiver>>>::default();
        let is_cluster = matches!(options.topology, Topology::Cluster(_));
        if is_cluster && options.prefix.contains(['{', '}']) {
            return Err(refused("the prefix of a cluster cannot hold braces: they choose the slot"));
        }
        if is_cluster && options.cluster_partitions == 0 {
            return Err(refused("a cluster needs one partition at least"));
        }
        let keys = Arc::new(Keys::new(&options.prefix, is_cluster.then_some(options.cluster_partitions)));
        let ask = Arc::new(Notify::new());
        let ear = Ear {
            keys: Arc::clone(&keys),
            sink: Arc::clone(&sink),
            inbox_bytes_max: options.inbox_bytes_max,
            bus: Arc::clone(&bus),
            replicas: (options.replicas_min > 0)
                .then_some(Replicas { wanted: options.replicas_min, timeout: options.replicas_timeout }),
            misplaced: is_cluster.then(|| Arc::clone(&ask)),
        };
        let wanted = if is_cluster { Wanted::ClusterNode } else { Wanted::Primary };
        let dialer = Arc::new(dialer(options, wanted)?);
        let node = |locator| {
            let way = Way {
                locator: Arc::new(locator),
                dialer: Arc::clone(&dialer),
                silence_max: options.io_timeout,
                metrics: Arc::clone(metrics),
            };
            Node::start(way, ear.clone())
        };
        let router = match &options.topology {
            Topology::Servers(addresses) if addresses.is_empty() => {
                return Err(refused("no address of a server is given"));
            }
            Topology::Servers(addresses) => {
                Router::Servers(addresses.iter().cloned().map(Locator::Fixed).map(node).collect())
            }
            Topology::Sentinel { sentinels, names } if sentinels.is_empty() || names.is_empty() => {
                return Err(refused("Sentinels need their addresses and the name of a primary"));
            }
            Topology::Sentinel { sentinels, names } => {
                let dialer = sentinel_dialer(options)?;
                let sentinels = Arc::new(Sentinels { addresses: sentinels.clone(), dialer });
                let locator = |name: &String| Locator::Sentinels(Arc::clone(&sentinels), name.clone());
                Router::Servers(names.iter().map(locator).map(node).collect())
            }
            Topology::Cluster(seeds) if seeds.is_empty() => {
                return Err(refused("no address of the cluster is given"));
            }
            Topology::Cluster(seeds) => Router::Cluster(Arc::new(Cluster::start(
                seeds.clone(),
                Arc::clone(&dialer),
                options.io_timeout,
                Arc::clone(metrics),
                ear,
                options.cluster_partitions,
                ask,
            ))),
        };
        Ok(Self {
            leases: Leases::new(letters(NODE_LETTERS), options.node_lease, router.targets()),
            keys,
            router,
            io_timeout: options.io_timeout,
            metrics: Arc::clone(metrics),
            sink,
            bus,
            announce: if is_cluster { b"SPUBLISH" } else { b"PUBLISH" },
        })
    }

    fn probe(&self, target: u16) -> String {
        self.keys.probe(matches!(self.router, Router::Cluster(_)).then_some(target))
    }

    /// Sends a command to where a channel lives.
    pub(crate) async fn call(&self, channel: &str, command: &Command, manner: Manner) -> Result<Value> {
        let target = self.router.target(&self.keys, channel);
        self.router.call(target, command, manner, Instant::now() + self.io_timeout).await
    }

    async fn publish(&self, channel: &ChannelName, new: NewPublication) -> Result<Published> {
        let publication = Publication {
            data: new.data,
            info: new.info,
            tags: new.tags,
            version: new.version,
            time: unix_ms(),
            ..Default::default()
        };
        let announcements = self.keys.announcements(channel);
        let key =
            (!new.idempotency_key.is_empty()).then(|| self.keys.idempotency(channel, &new.idempotency_key));
        let window = ms(IDEMPOTENCY_WINDOW);
        let command = match (new.retention, &key) {
            (None, None) => {
                let announcement = envelope::passing(&publication);
                let command = Command::new(&[self.announce, announcements.as_bytes(), &announcement]);
                self.call(channel, &command, Manner::ONCE).await?;
                return Ok(Published::default());
            }
            (None, Some(key)) => script::DELIVER.call(
                std::slice::from_ref(key),
                &[
                    &envelope::passing(&publication),
                    announcements.as_bytes(),
                    self.announce,
                    window.as_bytes(),
                ],
            ),
            (Some(HistoryRetention { size, ttl, meta_ttl }), _) => {
                let mut keys = vec![self.keys.meta(channel), self.keys.log(channel)];
                keys.extend(key.clone());
                // Of equal length, so that a script compares them as text: it has no whole numbers of 64 bits.
                let version = if new.version > 0 { format!("{:020}", new.version) } else { String::new() };
                script::PUBLISH.call(
                    &keys,
                    &[
                        &envelope::body(&publication),
                        size.max(1).to_string().as_bytes(),
                        ms(ttl).as_bytes(),
                        ms(meta_ttl).as_bytes(),
                        letters(EPOCH_LETTERS).as_bytes(),
                        announcements.as_bytes(),
                        self.announce,
                        version.as_bytes(),
                        new.version_epoch.as_bytes(),
                        if new.delta { b"1" } else { b"0" },
                        window.as_bytes(),
                    ],
                )
            }
        };
        // A key makes the second time harmless: it answers what the first one did.
        let again = if key.is_some() { Again::Harmless } else { Again::Never };
        let manner = Manner { again, durable: new.retention.is_some() };
        let answer = self.call(channel, &command, manner).await?;
        self.published(&answer).ok_or_else(|| Error::protocol("to a publish"))
    }

    fn published(&self, answer: &Value) -> Option<Published> {
        let [outcome, place, began] = answer.list()? else {
            return None;
        };
        self.count_renewal(began);
        let suppressed = match outcome.int()? {
            0 => None,
            1 => Some(Suppressed::Idempotency),
            _ => Some(Suppressed::Version),
        };
        let position = match place.text()? {
            "" => None,
            place => {
                let (offset, epoch) = place.split_once(' ')?;
                Some(StreamPosition { offset: offset.parse().ok()?, epoch: Epoch::from(epoch) })
            }
        };
        Some(Published { position, suppressed })
    }

    async fn history(
        &self,
        channel: &ChannelName,
        filter: HistoryFilter,
        meta_ttl: Duration,
    ) -> Result<History> {
        let keys = [self.keys.meta(channel), self.keys.log(channel)];
        let (read, from, to) = range(&filter);
        let limit = filter.limit.map(|limit| limit.to_string()).unwrap_or_default();
        let command = script::HISTORY.call(
            &keys,
            &[
                ms(meta_ttl).as_bytes(),
                letters(EPOCH_LETTERS).as_bytes(),
                read.as_bytes(),
                from.as_bytes(),
                to.as_bytes(),
                limit.as_bytes(),
            ],
        );
        let answer = self.call(channel, &command, Manner::HARMLESS).await?;
        self.read(&answer).ok_or_else(|| Error::protocol("to a read of history"))
    }

    fn read(&self, answer: &Value) -> Option<History> {
        let [epoch, top, began, entries] = answer.list()? else {
            return None;
        };
        self.count_renewal(began);
        let offset = top.text()?.parse().ok()?;
        let top = StreamPosition { offset, epoch: Epoch::from(epoch.text()?) };
        let publications = entries.list()?.iter().map(entry).collect::<Option<_>>()?;
        Some(History { publications, top })
    }

    fn count_renewal(&self, began: &Value) {
        if began.int() == Some(2) {
            Metrics::count(&self.metrics.epochs_renewed);
        }
    }

    pub(crate) async fn announce(&self, channel: &ChannelName, word: &[u8]) -> Result<()> {
        let name = self.keys.announcements(channel);
        let command = Command::new(&[self.announce, name.as_bytes(), word]);
        self.call(channel, &command, Manner::ONCE).await.map(drop)
    }

    pub(crate) async fn wish(&self, channels: &[ChannelName], wanted: bool) -> Result<()> {
        let answers = self.router.wish(&self.keys, channels, wanted);
        let all = async {
            for answer in join_all(answers).await {
                match answer {
                    Ok(result) => result?,
                    Err(_) => return Err(self.router.down().unwrap_or(Error::Timeout(self.io_timeout))),
                }
            }
            Ok(())
        };
        match tokio::time::timeout(self.io_timeout, all).await {
            Ok(result) => result,
            Err(_) => {
                Metrics::count(&self.metrics.timeouts);
                Err(self.router.down().unwrap_or(Error::Timeout(self.io_timeout)))
            }
        }
    }
}

/// One entry of a stream: `[id, [field, body]]`.
fn entry(entry: &Value) -> Option<Arc<Publication>> {
    let [id, fields] = entry.list()? else {
        return None;
    };
    let offset = id.text()?.split('-').next()?.parse().ok()?;
    let body: &Bytes = fields.list()?.get(1)?.bytes()?;
    envelope::kept(body.clone(), offset).ok()
}

/// The command that reads what a filter asks for, and its bounds; an empty command if that is nothing.
fn range(filter: &HistoryFilter) -> (&'static str, String, String) {
    let none = ("", String::new(), String::new());
    if filter.limit == Some(0) {
        return none;
    }
    match (filter.reverse, filter.since) {
        (false, None) => ("xrange", "-".into(), "+".into()),
        (false, Some(u64::MAX)) | (true, Some(0)) => none,
        (false, Some(since)) => ("xrange", (since + 1).to_string(), "+".into()),
        (true, None) => ("xrevrange", "+".into(), "-".into()),
        (true, Some(since)) => ("xrevrange", (since - 1).to_string(), "-".into()),
    }
}

fn dialer(options: &Options, wanted: Wanted) -> Result<Dialer> {
    Dialer::new(DialerOptions {
        wanted,
        login: &options.login,
        db: options.db,
        client_name: &options.client_name,
        timeout: options.connect_timeout,
        tls: options.tls.as_ref(),
    })
}

fn sentinel_dialer(options: &Options) -> Result<Dialer> {
    Dialer::new(DialerOptions {
        wanted: Wanted::Sentinel,
        login: &options.sentinel_login,
        db: 0,
        client_name: &options.sentinel_client_name,
        timeout: options.connect_timeout,
        tls: options.sentinel_tls.as_ref(),
    })
}

/// Milliseconds as Redis reads them: rounded up, so that nothing ends early, and within what it can add to its clock.
pub(crate) fn ms(duration: Duration) -> String {
    const LONGEST: u128 = 100 * 365 * 24 * 3_600_000;
    duration.as_nanos().div_ceil(1_000_000).min(LONGEST).to_string()
}

fn letters(count: usize) -> String {
    rand::rng().sample_iter(Alphanumeric).take(count).map(char::from).collect()
}

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

// === impl Broker, Engine ===

impl Broker for RedisEngine {
    fn attach(&self, announcements: Arc<dyn Announcements>) {
        let _ = self.shared.sink.set(announcements);
    }

    fn subscribe(&self, channels: &[ChannelName]) -> BoxFuture<'_, Result<(), EngineError>> {
        let channels = channels.to_vec();
        Box::pin(async move {
            if channels.iter().any(bus::is_reserved) {
                return Err(EngineError::Unsupported);
            }
            Ok(self.shared.wish(&channels, true).await?)
        })
    }

    fn unsubscribe(&self, channels: &[ChannelName]) -> BoxFuture<'_, Result<(), EngineError>> {
        let channels = channels.to_vec();
        Box::pin(async move { Ok(self.shared.wish(&channels, false).await?) })
    }

    fn publish(
        &self,
        channel: &ChannelName,
        new: NewPublication,
    ) -> BoxFuture<'_, Result<Published, EngineError>> {
        let channel = channel.clone();
        Box::pin(async move {
            if bus::is_reserved(&channel) {
                return Err(EngineError::Unsupported);
            }
            Ok(self.shared.publish(&channel, new).await?)
        })
    }

    fn publish_join(
        &self,
        channel: &ChannelName,
        info: Arc<ClientInfo>,
    ) -> BoxFuture<'_, Result<(), EngineError>> {
        let channel = channel.clone();
        Box::pin(async move { Ok(self.shared.announce(&channel, &envelope::join(&info)).await?) })
    }

    fn publish_leave(
        &self,
        channel: &ChannelName,
        info: Arc<ClientInfo>,
    ) -> BoxFuture<'_, Result<(), EngineError>> {
        let channel = channel.clone();
        Box::pin(async move { Ok(self.shared.announce(&channel, &envelope::leave(&info)).await?) })
    }

    fn history(
        &self,
        channel: &ChannelName,
        filter: HistoryFilter,
        meta_ttl: Duration,
    ) -> BoxFuture<'_, Result<History, EngineError>> {
        let channel = channel.clone();
        Box::pin(async move { Ok(self.shared.history(&channel, filter, meta_ttl).await?) })
    }

    fn remove_history(&self, channel: &ChannelName) -> BoxFuture<'_, Result<(), EngineError>> {
        let channel = channel.clone();
        Box::pin(async move {
            let command = Command::words(&["UNLINK", &self.shared.keys.log(&channel)]);
            self.shared.call(&channel, &command, Manner::HARMLESS).await?;
            Ok(())
        })
    }
}

impl Engine for RedisEngine {
    fn capabilities(&self) -> Capabilities {
        Capabilities { lossless_announcements: false, shared: true }
    }

    fn bus(&self) -> Option<&dyn Bus> {
        Some(self)
    }

    /// Fails at once while a server cannot be reached or brings no announcements.
    fn ready(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        Box::pin(async move {
            match self.shared.router.down() {
                Some(error) => Err(error.into()),
                None => Ok(self.shared.router.ping(Instant::now() + READY_WITHIN).await?),
            }
        })
    }
}
