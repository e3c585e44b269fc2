//! A Redis Cluster: who owns which part of the channels.
//!
//! A part lies in one slot, so a map from parts to primaries is all that is kept of the slots. There are two connections
//! to each primary that owns a part, however many parts and channels there are.
//!
//! The map is asked for again when a server says that something lies elsewhere, while a server cannot be reached, and
//! every few seconds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;
use parking_lot::RwLock;
use tidewire_protocol::ChannelName;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::dial::Dialer;
use crate::error::{Error, Result};
use crate::keys::Keys;
use crate::link::{Again, Way};
use crate::locate::Locator;
use crate::metrics::Metrics;
use crate::options::Address;
use crate::pubsub::Ear;
use crate::resp::{Command, Value};
use crate::router::{Manner, Node};

/// How often the map is asked for when all is well.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// The same, while a server cannot be reached.
const ASK_AGAIN: Duration = Duration::from_millis(250);

pub(crate) struct Cluster {
    shared: Arc<Shared>,
    keeper: JoinHandle<()>,
}

struct Shared {
    seeds: Vec<Address>,
    dialer: Arc<Dialer>,
    silence_max: Duration,
    metrics: Arc<Metrics>,
    ear: Ear,
    slots: Vec<u16>,
    map: RwLock<Map>,
    /// Rises with every change of the map, and with every attempt to learn it.
    asked: watch::Sender<u64>,
    ask: Arc<Notify>,
}

#[derive(Default)]
struct Map {
    nodes: HashMap<String, Arc<Node>, foldhash::fast::RandomState>,
    /// The owner of each part.
    owners: Vec<Option<Arc<Node>>>,
    /// Wishes for parts whose owner nobody knows.
    homeless: Vec<(ChannelName, bool, oneshot::Sender<Result<()>>)>,
    /// Why the map could not be learnt.
    error: Option<Error>,
}

// === impl Cluster ===

impl Cluster {
    /// Begins to connect. `ear.misplaced` must be `ask`.
    pub(crate) fn start(
        seeds: Vec<Address>,
        dialer: Arc<Dialer>,
        silence_max: Duration,
        metrics: Arc<Metrics>,
        ear: Ear,
        partitions: u16,
        ask: Arc<Notify>,
    ) -> Self {
        let shared = Arc::new(Shared {
            seeds,
            dialer,
            silence_max,
            metrics,
            ear,
            slots: (0..partitions).map(Keys::slot).collect(),
            map: RwLock::new(Map { owners: vec![None; partitions.into()], ..Map::default() }),
            asked: watch::Sender::new(0),
            ask,
        });
        Self { keeper: tokio::spawn(keep(Arc::clone(&shared))), shared }
    }

    pub(crate) fn partitions(&self) -> u16 {
        self.shared.slots.len() as u16
    }

    pub(crate) async fn call(
        &self,
        partition: u16,
        command: &Command,
        manner: Manner,
        deadline: Instant,
    ) -> Result<Value> {
        let mut asked = self.shared.asked.subscribe();
        loop {
            asked.mark_unchanged();
            let owner = self.shared.map.read().owners.get(usize::from(partition)).cloned().flatten();
            let result = match owner {
                Some(node) => node.call(command, manner, deadline).await,
                None => Err(self.shared.unknown()),
            };
            let result = match result {
                Err(error) if error.code() == "ASK" => {
                    Box::pin(self.elsewhere(&error, command, manner.again, deadline)).await
                }
                other => other,
            };
            let reason = match result {
                // Nothing was executed: whoever owns the part next is asked.
                Err(error) if error.code() == "MOVED" || matches!(error, Error::Connect { .. }) => {
                    Metrics::count(&self.shared.metrics.redirections);
                    error
                }
                Err(error @ Error::Broken { .. }) if manner.again == Again::Harmless => error,
                other => return other,
            };
            self.shared.ask.notify_one();
            if tokio::time::timeout_at(deadline, asked.changed()).await.is_err() {
                return Err(reason);
            }
        }
    }

    /// Follows a redirection for one command: the slot is on its way.
    async fn elsewhere(
        &self,
        redirection: &Error,
        command: &Command,
        again: Again,
        deadline: Instant,
    ) -> Result<Value> {
        Metrics::count(&self.shared.metrics.redirections);
        let Error::Server(text) = redirection else {
            return Err(redirection.clone());
        };
        let place = text.rsplit(' ').next().unwrap_or_default();
        let address = Address::parse(place).map_err(|_| Error::protocol("a redirection to nowhere"))?;
        let node = self.shared.map.write().node(&self.shared, &address);
        node.call_redirected(command, again, deadline).await
    }

    pub(crate) fn wish(
        &self,
        keys: &Keys,
        channel: &ChannelName,
        wanted: bool,
    ) -> oneshot::Receiver<Result<()>> {
        let partition = usize::from(keys.partition(channel).unwrap_or(0));
        // Under the lock, so that the channel cannot be moved away from where the wish goes.
        if let Some(Some(node)) = self.shared.map.read().owners.get(partition) {
            return node.pubsub.wish(channel, wanted);
        }
        let (waiter, answer) = oneshot::channel();
        self.shared.map.write().homeless.push((channel.clone(), wanted, waiter));
        self.shared.ask.notify_one();
        answer
    }

    pub(crate) fn down(&self) -> Option<Error> {
        let map = self.shared.map.read();
        if map.owners.iter().any(Option::is_none) {
            return Some(map.error.clone().unwrap_or_else(unknown));
        }
        map.nodes.values().find_map(|node| node.down())
    }

    pub(crate) async fn ping(&self, deadline: Instant) -> Result<()> {
        let nodes: Vec<_> = self.shared.map.read().nodes.values().cloned().collect();
        if nodes.is_empty() {
            return Err(self.shared.unknown());
        }
        let pings = nodes.iter().map(|node| node.ping(deadline));
        futures_util::future::try_join_all(pings).await.map(drop)
    }

    pub(crate) fn channels(&self) -> usize {
        self.shared.map.read().nodes.values().map(|node| node.pubsub.channels()).sum()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.keeper.abort();
        for node in self.shared.map.read().nodes.values() {
            node.stop();
        }
    }
}

// === impl Shared ===

impl Shared {
    fn unknown(&self) -> Error {
        self.map.read().error.clone().unwrap_or_else(unknown)
    }

    /// Asks servers until one knows the map: first those in use.
    async fn learn(&self) -> Result<BTreeMap<u16, Address>> {
        let nodes: Vec<_> = self.map.read().nodes.values().cloned().collect();
        let command = Command::words(&["CLUSTER", "SLOTS"]);
        for node in nodes {
            let Ok(connection) = node.connection() else {
                continue;
            };
            let answer = tokio::time::timeout(self.silence_max / 4, connection.call(&command)).await;
            if let Ok(Ok(values)) = answer
                && let Some(Ok(found)) = values.first().map(|value| self.owners(value, connection.server()))
            {
                return Ok(found);
            }
        }
        let mut reason = Error::protocol("no address of a cluster is configured");
        for seed in &self.seeds {
            let found = match self.dialer.dial(seed, &[]).await {
                Ok(mut socket) => {
                    let answer = tokio::time::timeout(self.silence_max, socket.ask(&command)).await;
                    let answer = answer.unwrap_or(Err(Error::Timeout(self.silence_max)));
                    answer.and_then(|value| self.owners(&value, &socket.server))
                }
                Err(error) => Err(error),
            };
            match found {
                Ok(found) => return Ok(found),
                Err(error) if !reason.is_permanent() => reason = error,
                Err(_) => {}
            }
        }
        Err(reason)
    }

    /// Reads the answer to CLUSTER SLOTS: the primary of each of our slots.
    fn owners(&self, slots: &Value, asked: &str) -> Result<BTreeMap<u16, Address>> {
        if let Value::Error(text) = slots {
            return Err(Error::Server(String::from_utf8_lossy(text).into()));
        }
        let mut found = BTreeMap::new();
        for range in slots.list().unwrap_or_default() {
            let [from, to, primary, ..] = range.list().unwrap_or_default() else {
                return Err(Error::protocol("a map of slots that is none"));
            };
            let (Some(from), Some(to), Some(address)) = (from.int(), to.int(), address_of(primary, asked))
            else {
                return Err(Error::protocol("a map of slots that is none"));
            };
            for slot in self.slots.iter().filter(|slot| (from..=to).contains(&i64::from(**slot))) {
                found.insert(*slot, address.clone());
            }
        }
        match found.is_empty() {
            true => Err(Error::Server("CLUSTERDOWN no slot is served".into())),
            false => Ok(found),
        }
    }

    /// Makes the map the one learnt, and moves channels to where they belong.
    fn adopt(&self, learnt: Result<BTreeMap<u16, Address>>) {
        let mut map = self.map.write();
        match learnt {
            Err(error) => map.error = Some(error),
            Ok(found) => {
                map.error = None;
                for (partition, slot) in self.slots.iter().enumerate() {
                    let owner = found.get(slot).map(|address| map.node(self, address));
                    // Without an owner in the map, the last one known is still the best guess.
                    if owner.is_some() {
                        map.owners[partition] = owner;
                    }
                }
                map.settle(&self.ear.keys);
            }
        }
        drop(map);
        self.asked.send_modify(|asked| *asked += 1);
    }
}

// === impl Map ===

impl Map {
    fn node(&mut self, shared: &Shared, address: &Address) -> Arc<Node> {
        let start = || {
            let way = Way {
                locator: Arc::new(Locator::Fixed(address.clone())),
                dialer: Arc::clone(&shared.dialer),
                silence_max: shared.silence_max,
                metrics: Arc::clone(&shared.metrics),
            };
            Arc::new(Node::start(way, shared.ear.clone()))
        };
        Arc::clone(self.nodes.entry(address.to_string()).or_insert_with(start))
    }

    /// Brings every channel to the owner of its part, and lets go of servers that own none.
    fn settle(&mut self, keys: &Keys) {
        let owners = &self.owners;
        let owner = |channel: &ChannelName| {
            owners.get(usize::from(keys.partition(channel).unwrap_or(0))).and_then(Option::as_ref)
        };
        for node in self.nodes.values() {
            let elsewhere =
                |channel: &ChannelName| owner(channel).is_some_and(|owner| !Arc::ptr_eq(owner, node));
            for moving in node.pubsub.move_out(elsewhere) {
                if let Some(owner) = owner(&moving.channel) {
                    owner.pubsub.move_in(moving);
                }
            }
        }
        for (channel, wanted, waiter) in std::mem::take(&mut self.homeless) {
            match owner(&channel) {
                Some(node) => node.pubsub.wish_for(&channel, wanted, waiter),
                None => drop(waiter.send(Err(unknown()))),
            }
        }
        self.nodes.retain(|_, node| {
            let owns = owners.iter().flatten().any(|owner| Arc::ptr_eq(owner, node));
            // A redirection may be using it right now.
            let in_use = Arc::strong_count(node) > 1 && node.down().is_none();
            if !owns && !in_use {
                node.stop();
            }
            owns || in_use
        });
    }
}

fn unknown() -> Error {
    Error::Connect { server: "cluster".into(), cause: "no server is known to own this part yet".into() }
}

/// Host and port of a node in CLUSTER SLOTS; without a host it is the one that was asked.
fn address_of(node: &Value, asked: &str) -> Option<Address> {
    let [host, port, ..] = node.list()? else {
        return None;
    };
    let port = u16::try_from(port.int()?).ok()?;
    match host.text() {
        Some(host) if !host.is_empty() && host != "?" => Some(Address::tcp(host, port)),
        _ => Some(Address { port, ..Address::parse(asked).ok()? }),
    }
}

/// Learns the map, for ever.
async fn keep(shared: Arc<Shared>) {
    loop {
        let learnt = shared.learn().await;
        if let Err(error) = &learnt {
            Metrics::count(&shared.metrics.connect_failures);
            tracing::warn!(%error, "cannot learn who owns what in the cluster");
        }
        shared.adopt(learnt);
        let troubled = {
            let map = shared.map.read();
            map.error.is_some() || map.nodes.values().any(|node| node.down().is_some())
        };
        if troubled {
            tokio::time::sleep(ASK_AGAIN).await;
            continue;
        }
        // Redirections come in crowds: one look answers all that came before it.
        tokio::select! {
            () = shared.ask.notified() => tokio::time::sleep(ASK_AGAIN / 10).await,
            () = tokio::time::sleep(ASK_EVERY) => {}
        }
    }
}
