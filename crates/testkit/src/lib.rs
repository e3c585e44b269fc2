//! The deterministic simulator: nodes and many clients on a hand-turned clock, with seeded faults.
//!
//! A seed makes a [`Plan`]: how many nodes, workers, clients and channels, which rules, which faults at which rates.
//! [`run`] plays it on one thread without a socket, a clock or a runtime of the machine's, and judges what happened:
//! invariants D1, D2 and D3 by the history checker; that everything converges once the faults have stopped (D4, P1); that
//! nothing is left when all clients have gone; that every command was answered once; that nothing panicked. The same seed
//! gives the same trace, to the byte.
//!
//! In reading order: `plan` and `fault`, what is drawn; `world`, what happens when; `client`, the simulated SDK; `link`
//! and `frames`, the socket between; `engine`, the engine of one node that misbehaves; `broker`, the broker of several; `env`, clock and agenda; `record`, what the
//! checker hears; `outcome`, what is reported.
//!
//! For tests alone: nothing but tests depends on it.

mod broker;
mod client;
mod draw;
mod engine;
mod env;
mod executor;
mod fault;
mod frames;
mod link;
mod outcome;
mod plan;
mod record;
mod trace;
mod world;

pub use draw::Draw;
pub use engine::Lie;
pub use fault::{Fault, FaultCounts, FaultRates};
pub use outcome::{Outcome, Summary};
pub use plan::{ChannelKind, ChannelPlan, Plan, Several};
pub use trace::Tracing;
pub use world::run;
