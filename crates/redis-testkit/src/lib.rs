//! Starts Redis and Valkey servers for tests, on loopback, each in a folder of its own.
//!
//! `server`: one process. `topology`: a primary with replicas under a Sentinel, and a cluster. `ask`: one question to a
//! server, without a client library.
//!
//! Servers end with their handle, by their own process id, and also when the test process dies. Everything blocks. For
//! tests only: what cannot be started is a panic with the reason.

// A test that cannot start its server has failed.
#![allow(clippy::panic, clippy::unwrap_used)]

mod ask;
mod server;
mod topology;

pub use ask::{Answer, ask};
pub use server::{Flavour, Server, Start};
pub use topology::{Cluster, Replicated};
