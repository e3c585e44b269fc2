//! Three real nodes on one real Redis, Sentinel, Cluster or Valkey, and official clients spread over them.
//!
//! `rig`: the nodes. `fleet`: the clients. `record`: what they saw, and its judgement by the same checker as everywhere.
//! `scene`: all of it under traffic. `watch`: what the nodes say of their health meanwhile. The tests: `agree`,
//! `killed_node`, `redis_trouble`, `refused`.
//!
//! Needs `npm ci` in `tests/clients/js`; `scripts/test nodes` does it. `TIDEWIRE_NODES_ROUNDS` (1) is how often each
//! trouble comes in one run.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests a panic is a failure with a place")]

#[path = "../serving/support/binary.rs"]
#[allow(dead_code, reason = "shared with other tests, which use more of it")]
mod binary;

mod fleet;
mod record;
mod rig;
mod scene;
mod watch;

mod agree;
mod killed_node;
mod redis_trouble;
mod refused;

use std::time::Duration;

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// What may come on top of a bound that is stated, on a busy machine.
pub(crate) const SLACK: Duration = Duration::from_secs(20);
