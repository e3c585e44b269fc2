//! What goes on by itself while a node runs: tidying about once a second, and what the node does in between.

use std::sync::Arc;
use std::time::Duration;

use tidewire_core::Node;
use tidewire_engine_embedded::EmbeddedEngine;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

const PERIOD: Duration = Duration::from_secs(1);

/// Keeps node and engine tidy until `stop`.
pub(crate) async fn run(node: Arc<Node>, engine: Option<Arc<EmbeddedEngine>>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let tidy = async {
        loop {
            ticks.tick().await;
            node.tick().await;
            // Each sweep is short; the runtime may run others between two of them.
            while engine.as_ref().is_some_and(|engine| engine.sweep()) {
                tokio::task::yield_now().await;
            }
        }
    };
    stop.run_until_cancelled(async { tokio::join!(tidy, node.serve()) }).await;
}
