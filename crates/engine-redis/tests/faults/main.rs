//! What happens when Redis goes away, comes back with less, is full, slow or wrong.
//!
//! `loss`: data and announcements that are gone. `trouble`: servers that do not answer or refuse. `start`: wrong
//! configurations. `failover`: other servers take over.

mod failover;
mod loss;
mod rig;
mod start;
mod trouble;
