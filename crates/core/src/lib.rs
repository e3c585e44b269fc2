//! Node, hub and connection: the protocol as state machines without I/O.

pub mod hooks;
pub mod options;
pub mod time;
