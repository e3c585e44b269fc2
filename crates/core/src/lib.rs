//! Node, hub and connection: the protocol as state machines without I/O.
//!
//! In reading order: `node` (what all threads share, and the operations of the server API), `worker` (the connections of
//! one thread), `connection` (one client, a file per command), `hub` and `local` (who is subscribed to what), `recovery`
//! (history and live publications joined), `rules` (what channels allow), `frame`, `delta`, `deflate` and `outbox` (what is
//! written), `ready` (to whom next), `cluster` (the other nodes),
//! `hooks` and `options` (what an application and an operator bring), `glob` (patterns with wildcards).
//!
//! Never: a socket, a clock, a thread, a `spawn`, the name of an engine. What waits leaves as a [`Task`] and returns as
//! a [`Completion`].

mod auth;
mod cluster;
mod connection;
mod deflate;
mod delta;
mod frame;
mod glob;
pub mod hooks;
mod hub;
mod inbox;
mod local;
pub mod metrics;
mod node;
pub mod options;
mod outbox;
mod ready;
mod recovery;
mod registry;
mod rules;
mod task;
pub mod time;
mod watch;
mod wheel;
mod worker;

pub use connection::{Closing, Linger};
pub use deflate::{Deflate, Window};
pub use frame::{Framing, Wire};
pub use glob::Glob;
pub use inbox::Inbox;
pub use node::{Node, NodeInfo, NotForwarded, Parts, PublishOptions, Reached, Target};
pub use outbox::{FRAME_OVERHEAD, Outbox};
pub use task::{Completion, Task};
pub use time::Now;
pub use worker::{ConnectionKey, Opening, Worker};
