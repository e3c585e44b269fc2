//! What the nodes say of their health while things happen.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::rig::{eventually, request};

const EVERY: Duration = Duration::from_millis(100);

/// Asks every node again and again.
pub(crate) struct Watch {
    stop: Arc<AtomicBool>,
    seen: Vec<Arc<Seen>>,
    tasks: Vec<JoinHandle<()>>,
}

/// How often a node said what.
#[derive(Default)]
struct Seen {
    alive: AtomicU64,
    dead: AtomicU64,
    unready: AtomicU64,
}

// === impl Watch ===

impl Watch {
    pub(crate) fn start(addresses: &[SocketAddr]) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let seen: Vec<Arc<Seen>> = addresses.iter().map(|_| Arc::default()).collect();
        let tasks = addresses
            .iter()
            .zip(&seen)
            .map(|(address, seen)| tokio::spawn(ask(*address, Arc::clone(seen), Arc::clone(&stop))))
            .collect();
        Self { stop, seen, tasks }
    }

    /// Waits until every node has said that it is not ready.
    pub(crate) async fn all_fall(&self) {
        let unready = |seen: &Arc<Seen>| seen.unready.load(Ordering::Relaxed);
        eventually("every node says that it is not ready", async || {
            let counts: Vec<u64> = self.seen.iter().map(unready).collect();
            if counts.iter().all(|count| *count > 0) { Ok(()) } else { Err(counts) }
        })
        .await;
    }

    /// Ends it. Every node must have said all the time that it lives.
    pub(crate) async fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
        for seen in self.seen {
            assert_eq!(seen.dead.load(Ordering::Relaxed), 0, "a node said that its process does not live");
            assert!(seen.alive.load(Ordering::Relaxed) > 0);
        }
    }
}

async fn ask(address: SocketAddr, seen: Arc<Seen>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let status = async |path| request(address, "GET", path, "").await.map_or(0, |answer| answer.status);
        let alive = if status("/health").await == 200 { &seen.alive } else { &seen.dead };
        alive.fetch_add(1, Ordering::Relaxed);
        if status("/health/ready").await != 200 {
            seen.unready.fetch_add(1, Ordering::Relaxed);
        }
        tokio::time::sleep(EVERY).await;
    }
}
