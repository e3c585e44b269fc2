//! The engine of several nodes: streams, presence and announcements in Redis or Valkey.
//!
//! From the outside in:
//!
//! * `options`: what to connect to and how. `engine` and `presence`: the traits.
//! * `bus`: messages from node to node. `durable`: publishes that wait for replicas.
//! * `script/`: each step that must be atomic is one script in a file of its own; `keys` names what they touch,
//!   `envelope` is what an announcement looks like inside Redis.
//! * `router`: which server a channel lives on. `link`: one primary, found again whenever it is lost (`locate`).
//!   `cluster`: who owns which slot.
//! * `pubsub/`: which channels this node wants announced, and the bounded inbox between Redis and the node.
//! * `connection`: one socket that many callers share. `dial`: how it comes up. `resp/`: the bytes on it.
//!
//! # What is promised
//!
//! A publish with history is one script: idempotency, version, next offset, append, trim, announcement. Announcements
//! of a channel reach the node in the order of their offsets. Whenever announcements may have been missed — the
//! connection broke, the inbox overflowed, a slot moved — every channel concerned is told to be
//! [`lost`](tidewire_engine::Announcements::lost), after it is announced again.
//!
//! Redis may lose what it acknowledged: a restart from an old snapshot, a failover to a copy that lagged behind. Each
//! script therefore compares the replication id of the server it runs on with the one that last wrote the stream. A
//! restart and a promotion both draw a new id; where it differs, the stream goes on under a new epoch, before anything
//! is read or written. So an offset is never given out twice in one epoch, and no position from before counts as
//! current after.

mod backoff;
mod bus;
mod cluster;
mod connection;
mod dial;
mod durable;
mod engine;
mod envelope;
mod error;
mod keys;
mod link;
mod locate;
mod metrics;
mod options;
mod presence;
mod pubsub;
pub mod resp;
mod router;
mod script;
mod sharding;

pub use engine::RedisEngine;
pub use error::Error;
pub use metrics::{Counters, Lag};
pub use options::{Address, AddressError, Login, Options, Secret, Tls, Topology};
