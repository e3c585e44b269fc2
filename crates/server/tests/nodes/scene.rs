//! Three nodes, nine clients, and publishers on every node: through the HTTP API and through clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use tidewire_checker::{PayloadId, Position, Report};
use tokio::task::JoinHandle;

use crate::fleet::Fleet;
use crate::record::{Record, Seen};
use crate::rig::{NODES, Nodes, eventually, position, try_call};

/// Channels with history. Many enough to lie on every primary of a cluster.
pub(crate) const LOGS: [&str; 6] = ["log:0", "log:1", "log:2", "log:3", "log:4", "log:5"];
/// A channel without.
pub(crate) const PLAIN: &str = "plain:x";
/// How many clients there are: the same number on every node, at first.
pub(crate) const CLIENTS: u32 = 9;

/// Publishers of the API have numbers from here on.
const API: u32 = 1_000;
/// Those of last words too.
const LAST: u32 = 2_000;
const PUBLISH_EVERY: Duration = Duration::from_millis(50);

/// Everything under traffic.
pub(crate) struct Scene {
    pub(crate) nodes: Nodes,
    pub(crate) fleet: Fleet,
    publishers: Vec<Publisher>,
    /// API calls of publishers that have ended.
    refused: u64,
    last_words: AtomicU64,
}

struct Publisher {
    progress: Arc<Progress>,
    task: JoinHandle<()>,
}

/// How far a publisher has come.
#[derive(Default)]
pub(crate) struct Progress {
    stop: AtomicBool,
    accepted: AtomicU64,
    refused: AtomicU64,
}

/// What came of it.
pub(crate) struct Outcome {
    pub(crate) report: Report,
    /// API calls that were refused and made again.
    pub(crate) refused: u64,
}

// === impl Scene ===

impl Scene {
    /// Starts everything, with this below `engine.redis`, and waits until publications come to every client. `anywhere`:
    /// clients go to any node, and to another when they lose one.
    pub(crate) async fn start(redis: &Value, anywhere: bool) -> Self {
        let nodes = Nodes::start(redis).await;
        let fleet = Fleet::start();
        for client in 0..CLIENTS {
            let at = client as usize;
            let home = [nodes.addresses[at % NODES]];
            let choice = if anywhere { nodes.addresses.as_slice() } else { home.as_slice() };
            let logs = [at, at + 1, at + 3].map(|log| LOGS[log % LOGS.len()]);
            fleet.join(client, choice, &[logs[0], logs[1], logs[2], PLAIN]);
        }
        let scene = Self { nodes, fleet, publishers: Vec::new(), refused: 0, last_words: AtomicU64::new(0) };
        scene.all_live().await;
        scene
    }

    /// Has every node publish, through its API and through one of its clients, until [`Scene::quiet`].
    pub(crate) async fn traffic(&mut self) {
        let record = &self.fleet.record;
        for (node, address) in self.nodes.addresses.iter().enumerate() {
            let progress = Arc::<Progress>::default();
            let number = API + node as u32;
            let task = publish(*address, number, Arc::clone(record), Arc::clone(&progress));
            self.publishers.push(Publisher { progress, task: tokio::spawn(task) });
            let channels = [LOGS[node], LOGS[node + 3], PLAIN];
            self.fleet.publish(node as u32, &channels, PUBLISH_EVERY.as_millis() as u64);
        }
        let enough = |seen: &Seen| seen.views.values().all(|view| view.deliveries >= 10).then_some(());
        self.fleet.record.until("publications come to every client", enough).await;
    }

    /// Waits until every client has every subscription.
    pub(crate) async fn all_live(&self) {
        let live = |seen: &Seen| seen.all_live().then_some(());
        self.fleet.record.until("everyone is subscribed", live).await;
    }

    /// Waits until the API of every node that lives has taken publications from now on.
    pub(crate) async fn publishing_goes_on(&self) {
        for (node, publisher) in
            self.publishers.iter().enumerate().filter(|(node, _)| self.nodes.is_alive(*node))
        {
            let accepted = || publisher.progress.accepted.load(Ordering::Relaxed);
            let enough = accepted() + LOGS.len() as u64;
            eventually(&format!("node {node} publishes"), async || {
                assert!(!publisher.task.is_finished(), "node {node} does not answer any more");
                if accepted() >= enough { Ok(()) } else { Err(accepted()) }
            })
            .await;
        }
    }

    /// Ends all publishing and waits until the last one is answered.
    pub(crate) async fn quiet(&mut self) {
        for Publisher { progress, task } in self.publishers.drain(..) {
            progress.stop.store(true, Ordering::Relaxed);
            task.await.unwrap();
            self.refused += progress.refused.load(Ordering::Relaxed);
        }
        self.fleet.quiet().await;
    }

    /// Publishes through every node that lives, and waits until everyone has come as far as each channel's end, by every
    /// node. Returns those ends.
    pub(crate) async fn all_arrive(&self) -> Vec<(String, Position)> {
        let record = &self.fleet.record;
        let nodes: Vec<usize> = (0..NODES).filter(|node| self.nodes.is_alive(*node)).collect();
        let mut heads = Vec::new();
        for channel in LOGS {
            // A machine so busy that a cluster takes one of its own for dead may be in the middle of a failover.
            let head = eventually("a channel ends at one place for all nodes", async || {
                let mut ends = Vec::new();
                for node in &nodes {
                    self.last_word(*node, channel).await;
                }
                for node in &nodes {
                    ends.push(self.nodes.head(*node, channel).await);
                }
                let head = ends[0].clone();
                if ends.iter().all(|end| *end == head) { Ok(head) } else { Err(ends) }
            })
            .await;
            heads.push((channel.to_owned(), head));
        }
        for (channel, head) in &heads {
            let there = |seen: &Seen| {
                let at = |view: &crate::record::View| view.live && view.position.as_ref() == Some(head);
                seen.views_of(channel).all(|(_, view)| at(view)).then_some(())
            };
            record.until(&format!("everyone in {channel} is at {head:?}"), there).await;
        }
        // Without history it may take several.
        for node in nodes {
            loop {
                let id = self.last_word(node, PLAIN).await;
                let has_come = |seen: &Seen| {
                    seen.views_of(PLAIN).all(|(_, view)| view.newest.get(&id.publisher) >= Some(&id.sequence))
                };
                let wait = record
                    .until("everyone hears a channel without history", |seen| has_come(seen).then_some(()));
                if tokio::time::timeout(Duration::from_secs(5), wait).await.is_ok() {
                    break;
                }
            }
        }
        heads
    }

    /// Ends it, with everyone subscribed and at the end of every channel, and judges it.
    pub(crate) async fn finish(mut self) -> Outcome {
        self.quiet().await;
        self.all_live().await;
        let heads = self.all_arrive().await;
        let report = self.fleet.record.finish(&heads);
        for node in 0..NODES {
            let log = self.nodes.written(node);
            assert!(!log.contains("panicked"), "{log}");
        }
        assert_eq!(self.nodes.metrics().await.sum("tidewire_contained_panics_total"), 0.0);
        Outcome { report, refused: self.refused }
    }

    async fn last_word(&self, node: usize, channel: &str) -> PayloadId {
        let sequence = self.last_words.fetch_add(1, Ordering::Relaxed) + 1;
        let id = PayloadId { publisher: LAST, sequence };
        self.fleet.record.published(channel, id);
        let result = self.nodes.call(node, "publish", publication(channel, id)).await;
        self.fleet.record.acknowledged(channel, id, place(&result));
        id
    }
}

/// Publishes through the API of one node, to one channel after the other, each again until it is accepted: its key makes
/// that harmless. Ends with the node.
async fn publish(address: SocketAddr, number: u32, record: Arc<Record>, progress: Arc<Progress>) {
    for sequence in 1.. {
        if progress.stop.load(Ordering::Relaxed) {
            return;
        }
        let channel = LOGS[sequence as usize % LOGS.len()];
        let id = PayloadId { publisher: number, sequence };
        record.published(channel, id);
        let result = loop {
            match try_call(address, "publish", &publication(channel, id)).await {
                Ok(result) => break result,
                Err(refused) if refused.starts_with('{') => progress.refused.fetch_add(1, Ordering::Relaxed),
                Err(_) => return,
            };
            tokio::time::sleep(PUBLISH_EVERY).await;
        };
        record.acknowledged(channel, id, place(&result));
        progress.accepted.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PUBLISH_EVERY).await;
    }
}

fn publication(channel: &str, id: PayloadId) -> Value {
    let PayloadId { publisher, sequence } = id;
    json!({
        "channel": channel, "data": { "p": publisher, "s": sequence },
        "idempotency_key": format!("{publisher}-{sequence}"),
    })
}

fn place(result: &Value) -> Option<Position> {
    result["offset"].is_u64().then(|| position(result))
}
