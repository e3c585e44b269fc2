//! Publishing on a thread of its own, by a schedule or as fast as answers come.
//!
//! Each worker is one sequential publisher with one connection: to the HTTP API, or as a client. The workers share the
//! schedule, so that one that waits for an answer holds up only its own publications.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use tidewire_checker::{ChannelKey, PayloadId, Position};

use crate::api::{Api, ApiError, ApiOptions};
use crate::judge::Note;
use crate::payload::{Filler, Payload};
use crate::publishing_client::{PublishingClient, PublishingClientOptions};
use crate::schedule::{Pacer, Schedule};
use crate::stats::Latency;

/// Publications of one run at most: the checker remembers each.
pub const PUBLICATIONS_MAX: u64 = 20_000_000;

/// By which way publications reach the server.
#[derive(Debug, Clone)]
pub enum Via {
    /// `POST …/publish`.
    Api(ApiOptions),
    /// A publish command of a client.
    Client(PublishingClientOptions),
}

/// What a publisher does.
#[derive(Debug, Clone)]
pub struct PublisherOptions {
    /// By which way.
    pub via: Via,
    /// Sequential publishers.
    pub workers: u32,
    /// Where to, in turn. Never empty.
    pub channels: Vec<(Arc<str>, ChannelKey)>,
    /// Bytes of a payload.
    pub payload_bytes: usize,
    /// What fills it.
    pub filler: Filler,
    /// `None`: each worker publishes again as soon as it is answered.
    pub schedule: Option<Schedule>,
    /// Publications in all, at most.
    pub count: u64,
    /// Nothing that is due later is published.
    pub until: Instant,
    /// What payloads count their time from.
    pub start: Instant,
}

/// A publisher at work.
pub struct Publisher {
    thread: JoinHandle<anyhow::Result<Published>>,
    stop: Arc<AtomicBool>,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Published {
    /// Publishes that were answered well.
    pub acknowledged: u64,
    /// Publishes that failed, by the reason.
    pub errors: BTreeMap<String, u64>,
    /// From sending to the answer.
    pub service: Latency,
    /// From when it was due to the answer.
    pub from_due: Latency,
    /// Publishes that were due and not made, since the ones before them took too long.
    pub skipped: u64,
    /// From the first that was sent to the last answer.
    pub took: Duration,
}

enum Line {
    Api(Api),
    Client(Box<PublishingClient>),
}

// === impl Publisher ===

impl Publisher {
    /// Starts publishing. Notes go out before what they speak of.
    ///
    /// # Errors
    /// There can be no further thread.
    pub fn start(options: PublisherOptions, notes: SyncSender<Note>) -> std::io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("publisher".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run(options, notes, asked))
        })?;
        Ok(Self { thread, stop })
    }

    /// Whether it has come to its end.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Asks it to end after what is under way.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// It could not publish at all.
    pub fn join(self) -> anyhow::Result<Published> {
        self.thread.join().map_err(|_| anyhow::anyhow!("the publisher panicked"))?
    }
}

async fn run(
    options: PublisherOptions,
    notes: SyncSender<Note>,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Published> {
    let options = Arc::new(options);
    let began = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for number in 0..options.workers {
        workers.spawn(work(number, Arc::clone(&options), notes.clone(), Arc::clone(&stop)));
    }
    let mut published = Published::default();
    while let Some(worker) = workers.join_next().await {
        published.add(worker??);
    }
    published.took = began.elapsed();
    Ok(published)
}

/// One sequential publisher.
async fn work(
    number: u32,
    options: Arc<PublisherOptions>,
    notes: SyncSender<Note>,
    stop: Arc<AtomicBool>,
) -> anyhow::Result<Published> {
    let mut line = Line::open(&options.via).await?;
    let mut pacer = Pacer::new()?;
    let mut published = Published::default();
    let mut data = Vec::new();
    let mut index = u64::from(number);
    while index < options.count && !stop.load(Ordering::Relaxed) {
        let due = options.schedule.map(|schedule| schedule.due(index));
        if due.unwrap_or_else(Instant::now) >= options.until {
            break;
        }
        if let Some(due) = due {
            line.wait(&mut pacer, due).await?;
        }
        let sent = Instant::now();
        let due = due.unwrap_or(sent);
        let (channel, key) = options
            .channels
            .get(index as usize % options.channels.len())
            .context("no channel to publish to")?;
        // One checker's publisher per worker and channel: what strays between channels must not pass for its own.
        let lane = key_number(&options, index) * options.workers + number;
        let id = PayloadId { publisher: lane, sequence: index + 1 };
        data.clear();
        Payload { id, due: due.saturating_duration_since(options.start) }.append(
            options.payload_bytes,
            options.filler,
            &mut data,
        );
        notes.send(Note::Published(*key, id)).context("the run is over")?;
        match line.publish(channel, &data).await {
            Ok(position) => {
                let now = Instant::now();
                published.acknowledged += 1;
                published.service.record(now - sent);
                published.from_due.record(now.saturating_duration_since(due));
                notes.send(Note::Acknowledged(*key, id, position)).context("the run is over")?;
            }
            Err(error) => {
                *published.errors.entry(error.to_string()).or_default() += 1;
                // Against a server that is away, or refuses everything, going round at full speed helps nobody.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        index += u64::from(options.workers);
    }
    if options.schedule.is_some() {
        published.skipped = options.count.saturating_sub(index).div_ceil(u64::from(options.workers));
    }
    Ok(published)
}

fn key_number(options: &PublisherOptions, index: u64) -> u32 {
    (index % options.channels.len() as u64) as u32
}

// === impl Line ===

impl Line {
    async fn open(via: &Via) -> anyhow::Result<Self> {
        Ok(match via {
            Via::Api(options) => Self::Api(Api::new(options.clone())),
            Via::Client(options) => Self::Client(Box::new(PublishingClient::connect(options.clone()).await?)),
        })
    }

    async fn wait(&mut self, pacer: &mut Pacer, until: Instant) -> anyhow::Result<()> {
        match self {
            Self::Api(_) => pacer.until(until).await?,
            Self::Client(client) => client.idle(pacer.until(until)).await??,
        }
        Ok(())
    }

    async fn publish(&mut self, channel: &str, data: &[u8]) -> Result<Option<Position>, ApiError> {
        match self {
            Self::Api(api) => api.publish(channel, data).await,
            Self::Client(client) => {
                client.publish(channel, Bytes::copy_from_slice(data)).await.map(|()| None)
            }
        }
    }
}

// === impl Published ===

impl Published {
    fn add(&mut self, other: Self) {
        self.acknowledged += other.acknowledged;
        self.skipped += other.skipped;
        self.service.add(&other.service);
        self.from_due.add(&other.from_due);
        for (reason, count) in other.errors {
            *self.errors.entry(reason).or_default() += count;
        }
    }

    /// Publishes that failed.
    pub fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}
