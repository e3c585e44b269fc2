//! Publishes that are answered once replicas have them.
//!
//! `WAIT` holds up whatever comes behind it on its connection, so these publishes have one of their own; those that
//! gather while one wait lasts share the next.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::connection::Failure;
use crate::error::{Error, Result};
use crate::link::{Again, Link, Way};
use crate::resp::{Command, Value};

/// Publishes that share one wait.
const TOGETHER: usize = 256;

/// How many replicas must have a publication, and by when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Replicas {
    pub(crate) wanted: u32,
    pub(crate) timeout: Duration,
}

/// A connection for such publishes to one primary.
pub(crate) struct Durable {
    link: Arc<Link>,
    queue: mpsc::Sender<Job>,
    worker: JoinHandle<()>,
}

struct Job {
    command: Command,
    answer: oneshot::Sender<Result<Value>>,
}

// === impl Durable ===

impl Durable {
    pub(crate) fn start(way: Way, replicas: Replicas) -> Self {
        // While it waits for replicas, a server is silent.
        let silence_max = way.silence_max + replicas.timeout;
        let link = Arc::new(Link::start(Way { silence_max, ..way }));
        let (queue, jobs) = mpsc::channel(TOGETHER);
        let worker = tokio::spawn(work(Arc::clone(&link), jobs, replicas));
        Self { link, queue, worker }
    }

    pub(crate) async fn call(&self, command: &Command, deadline: Instant) -> Result<Value> {
        let begun = Instant::now();
        let whole = async {
            // Waits for a connection, so that no batch waits for one.
            self.link.call(&Command::words(&["PING"]), Again::Harmless, deadline).await?;
            let (answer, result) = oneshot::channel();
            let job = Job { command: command.clone(), answer };
            let gone = || Error::Connect { server: "redis".into(), cause: "it is no longer used".into() };
            self.queue.send(job).await.map_err(|_| gone())?;
            result.await.map_err(|_| gone())?
        };
        let result = tokio::time::timeout_at(deadline, whole).await;
        result.unwrap_or_else(|_| Err(Error::Timeout(begun.elapsed())))
    }

    pub(crate) fn stop(&self) {
        self.link.stop();
        self.worker.abort();
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        self.stop();
    }
}

async fn work(link: Arc<Link>, mut jobs: mpsc::Receiver<Job>, replicas: Replicas) {
    let wait = Command::words(&[
        "WAIT",
        &replicas.wanted.to_string(),
        &replicas.timeout.as_millis().max(1).to_string(),
    ]);
    let mut batch = Vec::new();
    while jobs.recv_many(&mut batch, TOGETHER).await > 0 {
        // Whoever gave up meanwhile must not be published for.
        batch.retain(|job| !job.answer.is_closed());
        let all = Command::all(batch.iter().map(|job| &job.command).chain([&wait]));
        let answers = match link.connection() {
            Ok(connection) => connection.call(&all).await,
            Err(error) => Err(Failure::NotSent(error)),
        };
        match answers {
            Ok(mut values) => {
                let kept = values.pop().as_ref().and_then(Value::int).unwrap_or(0);
                let kept = u32::try_from(kept).unwrap_or(0);
                for (job, value) in batch.drain(..).zip(values) {
                    let _ = job.answer.send(judged(value, kept, replicas.wanted));
                }
            }
            Err(failure) => {
                let error = match failure {
                    Failure::NotSent(error) | Failure::Unknown(error) => error,
                };
                for job in batch.drain(..) {
                    let _ = job.answer.send(Err(error.clone()));
                }
            }
        }
    }
}

fn judged(value: Value, kept: u32, wanted: u32) -> Result<Value> {
    match value {
        Value::Error(text) => Err(Error::Server(String::from_utf8_lossy(&text).into())),
        _ if kept < wanted => Err(Error::Replicas { kept, wanted }),
        value => Ok(value),
    }
}
