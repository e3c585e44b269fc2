//! How many clients the server has, asked again and again on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::api::{Api, ApiOptions};
use crate::stats::Latency;

/// How often.
const PERIOD: Duration = Duration::from_millis(50);

/// Each time the number changed, and to what.
pub(super) type Changes = Vec<(Instant, u64)>;

/// A thread that asks.
pub(super) struct Watch {
    thread: JoinHandle<anyhow::Result<Changes>>,
    clients: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

// === impl Watch ===

impl Watch {
    /// Begins to ask; returns once there is a first answer.
    pub(super) fn start(options: ApiOptions) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut api = Api::new(options);
        let first = runtime.block_on(api.clients()).context("how many clients there are")?;
        let clients = Arc::new(AtomicU64::new(first));
        let stop = Arc::new(AtomicBool::new(false));
        let (known, asked) = (Arc::clone(&clients), Arc::clone(&stop));
        let watch = async move {
            let mut changes = vec![(Instant::now(), first)];
            let mut ticks = tokio::time::interval(PERIOD);
            while !asked.load(Ordering::Relaxed) {
                ticks.tick().await;
                let now = api.clients().await.context("how many clients there are")?;
                if known.swap(now, Ordering::Relaxed) != now {
                    changes.push((Instant::now(), now));
                }
            }
            Ok(changes)
        };
        let thread =
            std::thread::Builder::new().name("watch".into()).spawn(move || runtime.block_on(watch))?;
        Ok(Self { thread, clients, stop })
    }

    /// How many there were when last asked.
    pub(super) fn clients(&self) -> u64 {
        self.clients.load(Ordering::Relaxed)
    }

    /// Ends it and says what it saw.
    pub(super) fn finish(self) -> anyhow::Result<Changes> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow::anyhow!("the watch panicked"))?
    }
}

/// When each of `slow` clients was cut, counted from `stopped`: there were `before` clients then, and each one less is one
/// cut.
pub(super) fn cuts(changes: &Changes, stopped: Instant, before: u64, slow: usize) -> Latency {
    let mut cuts = Latency::default();
    let mut fewest = before;
    for (at, clients) in changes.iter().filter(|(at, _)| *at >= stopped) {
        for _ in *clients..fewest {
            if (cuts.count() as usize) < slow {
                cuts.record(at.saturating_duration_since(stopped));
            }
        }
        fewest = fewest.min(*clients);
    }
    cuts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_less_is_a_cut_at_the_moment_it_was_noticed() {
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        // One comes and goes meanwhile; what was before the stop does not count.
        let changes = vec![(start, 12), (after(1), 10), (after(3), 8), (after(4), 9), (after(5), 6)];
        let cuts = cuts(&changes, after(2), 10, 4);
        assert_eq!(cuts.count(), 4);
        let seconds = |share| cuts.quantile(share).as_secs_f64().round();
        assert_eq!((seconds(0.5), seconds(0.75), cuts.max().as_secs_f64().round()), (1.0, 3.0, 3.0));
    }
}
