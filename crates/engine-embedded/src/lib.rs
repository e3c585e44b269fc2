//! The default engine: everything one node needs from what outlives a connection, in its memory.
//!
//! `engine`: the traits over shards, one short lock each. `shard`: the channels under one lock. Below them, pure state
//! that takes `now` and knows no lock: `stream` (one channel's history and position), `presence` (who is in one
//! channel), `idempotency` (keys already used), `deadline` (what runs out next). A disk store goes underneath
//! `stream`: its transitions are the records to write.
//!
//! Never reads a clock but the one it was given, never awaits, never starts a thread: the owner calls
//! [`EmbeddedEngine::sweep`] about once a second.
//!
//! # Memory
//!
//! | what | bound |
//! |---|---|
//! | publications of a channel | [`HistoryRetention::size`](tidewire_engine::HistoryRetention), given up after `ttl` |
//! | offset and epoch of a channel | about 200 bytes, given up after `meta_ttl` |
//! | channels this node is subscribed to | one small entry each, until unsubscribed |
//! | presence | one entry per client and channel (the caller bounds both), given up after its `ttl` |
//! | idempotency keys | five minutes and [`IDEMPOTENCY_BYTES_MAX`] in all; beyond it the oldest keys are forgotten first |
//!
//! A channel with none of these leaves nothing behind. Nothing here bounds the number of channels: the caller limits who
//! may publish with history.

mod deadline;
mod engine;
mod idempotency;
pub mod presence;
mod shard;
pub mod stream;

pub use engine::{EmbeddedEngine, Usage};
pub use idempotency::{IDEMPOTENCY_BYTES_MAX, IDEMPOTENCY_WINDOW};
