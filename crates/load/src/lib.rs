//! Load for servers of the client protocol, and a judgement of every delivery.
//!
//! `cli`: the command line, `arguments`: options of several scenarios. `scenario`: what it can run. `fleet`: many clients on
//! one readiness loop, `socket` and `client` (without I/O) one of them, `ws` its WebSocket. `publisher`: a thread that
//! publishes by a `schedule` through `api` or `publishing_client`. `judge`: what clients saw against what was published.
//! `process`: the server's memory and processor time. `outcome`: table and JSON.
//!
//! It knows the protocol and nothing of the server behind it.

pub mod api;
pub mod arguments;
pub mod cli;
pub mod client;
pub mod fleet;
pub mod judge;
pub mod limits;
pub mod outcome;
pub mod payload;
pub mod process;
pub mod progress;
pub mod publisher;
pub mod publishing_client;
pub mod scenario;
pub mod schedule;
pub mod socket;
pub mod stats;
pub mod target;
pub mod token;
pub mod ws;
