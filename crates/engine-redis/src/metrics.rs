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
    /// Milliseconds from publish to receipt of the last announcement, by the clocks of both nodes.
    lag_ms,
}

// === impl Metrics ===

impl Metrics {
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}
