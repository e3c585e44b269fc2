//! What happened between this node and Redis, as counters that only rise and gauges of right now.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[doc = $doc:literal])* $name:ident,)*) => {
        /// What happened so far, and what is under way.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
        pub struct Counters {
            $($(#[doc = $doc])* pub $name: u64,)*
        }

        #[derive(Debug, Default)]
        pub(crate) struct Metrics {
            $(pub(crate) $name: AtomicU64,)*
            pub(crate) lag: LagCounts,
        }

        impl Metrics {
            pub(crate) fn read(&self) -> Counters {
                Counters { $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Connections that came up, of every kind.
    connects,
    /// Connections that broke.
    disconnects,
    /// Attempts to connect that failed.
    connect_failures,
    /// Commands sent.
    commands,
    /// Commands sent and not answered yet: how deep the pipelines are.
    commands_in_flight,
    /// Calls that ended without an answer in time.
    timeouts,
    /// Answers that were errors, redirections apart.
    errors,
    /// Scripts that a server did not have any more.
    scripts_loaded_again,
    /// Commands a cluster sent elsewhere.
    redirections,
    /// Streams that went on under a new epoch because the server has another replication id than the one that wrote
    /// them: after a restart, a failover or the migration of a slot.
    epochs_renewed,
    /// Announcements received.
    announcements,
    /// Announcements that could not be read.
    announcements_malformed,
    /// Announcements dropped because the inbox was full.
    inbox_overflows,
    /// Bytes waiting in inboxes.
    inbox_bytes,
    /// Channels told to be lost.
    channels_lost,
}

/// Bounds of the parts that lags are counted in, in milliseconds, each included.
const LAG_BOUNDS_MS: [u64; 11] = [1, 2, 5, 10, 25, 50, 100, 250, 1_000, 5_000, 30_000];

/// How late publications were received, by the clocks of both nodes: one that lags behind makes them later or, as far as
/// zero, earlier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// How many took at most so many milliseconds, and more than the part before. The last part has no bound.
    pub parts: [(Option<u64>, u64); LAG_BOUNDS_MS.len() + 1],
    /// The milliseconds of all of them.
    pub sum_ms: u64,
}

#[derive(Debug, Default)]
pub(crate) struct LagCounts {
    parts: [AtomicU64; LAG_BOUNDS_MS.len() + 1],
    sum_ms: AtomicU64,
}

// === impl LagCounts ===

impl LagCounts {
    pub(crate) fn count(&self, ms: u64) {
        let part = LAG_BOUNDS_MS.partition_point(|&bound| bound < ms);
        self.parts[part].fetch_add(1, Ordering::Relaxed);
        self.sum_ms.fetch_add(ms, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Lag {
        let count = |part: usize| self.parts[part].load(Ordering::Relaxed);
        Lag {
            parts: std::array::from_fn(|part| (LAG_BOUNDS_MS.get(part).copied(), count(part))),
            sum_ms: self.sum_ms.load(Ordering::Relaxed),
        }
    }
}

// === impl Lag ===

impl Default for Lag {
    /// Of nothing.
    fn default() -> Self {
        LagCounts::default().read()
    }
}

// === impl Metrics ===

impl Metrics {
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lags_are_counted_by_their_bounds() {
        let counts = LagCounts::default();
        for ms in [0, 1, 2, 3, 5, 6, 30_000, 30_001, 1 << 40] {
            counts.count(ms);
        }
        let lag = counts.read();
        let wanted = [(Some(1), 2), (Some(2), 1), (Some(5), 2), (Some(10), 1)];
        assert_eq!(lag.parts[..4], wanted);
        assert_eq!(lag.parts[10..], [(Some(30_000), 1), (None, 2)]);
        assert_eq!(lag.sum_ms, 17 + 60_001 + (1 << 40));
        assert_eq!(lag.parts.iter().map(|(_, count)| count).sum::<u64>(), 9);
    }
}
