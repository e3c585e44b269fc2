//! What a node counts. Plain atomics, read by whoever exports them; no labels that grow with users or channels.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn total(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything a node counts.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Connections accepted (connect answered with a result).
    pub connects: Counter,
    /// Sockets handed to the node.
    pub opened: Counter,
    /// Those of them that agreed to permessage-deflate.
    pub opened_deflate: Counter,
    /// Messages compressed: a broadcast once, however many get it.
    pub compressions: Counter,
    /// Bytes of those before.
    pub compression_input_bytes: Counter,
    /// And after.
    pub compression_output_bytes: Counter,
    /// Commands received.
    pub commands: Counter,
    /// Commands answered with an error.
    pub errors: Counter,
    /// Subscriptions made.
    pub subscribes: Counter,
    /// Subscribes that recovered everything missed.
    pub recovered: Counter,
    /// Subscribes that asked to recover and could not.
    pub unrecovered: Counter,
    /// Publications received from the engine.
    pub publications: Counter,
    /// Pushes put into outboxes.
    pub deliveries: Counter,
    /// Connections closed by the node, of all reasons.
    pub disconnects: Counter,
    /// Connections closed because they read too slowly.
    pub slow_consumers: Counter,
    /// Subscriptions ended because continuity could not be promised.
    pub insufficient_states: Counter,
    /// Broadcasts a worker did not take because its inbox was full; the channels' positioned subscribers were told.
    pub inbox_overflows: Counter,
    /// Publications that this node had missed and has read from history for its subscribers.
    pub repaired: Counter,
    /// Times that what this node had missed was not to be had; the channels' positioned subscribers were told.
    pub unrepaired: Counter,
    /// Messages of other nodes that were left out because too many were waiting.
    pub bus_overflows: Counter,
    /// Messages of other nodes that could not be read, as from a much newer version.
    pub bus_unreadable: Counter,
    /// Nodes that did not answer, over all that was asked of the others.
    pub silent_nodes: Counter,
    /// Panics contained in a connection's turn, or by the driver. Anything but 0 is a bug.
    pub contained_panics: Counter,
}
