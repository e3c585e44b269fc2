//! What outlives a connection and what nodes share: the traits an engine implements.
//!
//! `broker`: publish, history, announcements. `presence`: who is in a channel. `bus`: node to node. `conformance`: the
//! cases every engine passes. An engine is handed its clock and an [`Announcements`] sink; it never names a socket or a
//! runtime, and of nodes it knows the ids.

pub mod broker;
pub mod bus;
pub mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod error;
pub mod presence;

pub use broker::{
    Announcements, Broker, Capabilities, History, HistoryFilter, HistoryRetention, NewPublication, Published,
    Suppressed,
};
pub use bus::{Bus, BusReceiver, Recipients};
pub use clock::{Clock, ManualClock, SystemClock};
pub use error::{EngineError, Result};
pub use presence::{PresenceStats, PresenceStore};

/// A boxed future, since engines are chosen by configuration and used as trait objects.
pub type BoxFuture<'a, T> = futures_util::future::BoxFuture<'a, T>;

/// Everything a node needs from what outlives a connection.
pub trait Engine: Broker + PresenceStore {
    /// What this engine promises, so that a node can leave out what is not needed.
    fn capabilities(&self) -> Capabilities;

    /// How the nodes that share this engine talk to each other; `None` where there is only one.
    fn bus(&self) -> Option<&dyn Bus> {
        None
    }

    /// Asks the engine whether it can serve right now; used by the readiness check.
    fn ready(&self) -> BoxFuture<'_, Result<()>>;
}
