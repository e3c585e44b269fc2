//! Who is in a channel.

use std::sync::Arc;
use std::time::Duration;

use tidewire_protocol::{ChannelName, ClientInfo};

use crate::{BoxFuture, Result};

/// How many connections and users are in a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PresenceStats {
    /// Connections.
    pub clients: u32,
    /// Distinct users; all anonymous connections count as one.
    pub users: u32,
}

/// Keeps the presence set of every channel: client id to [`ClientInfo`], each entry with a time to live.
pub trait PresenceStore: Send + Sync + 'static {
    /// Adds the entry of `info.client`, or replaces it, to live for `ttl` from now.
    fn presence_add(
        &self,
        channel: &ChannelName,
        info: Arc<ClientInfo>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<()>>;

    /// Removes the entry of a client; no entry is no error.
    fn presence_remove(&self, channel: &ChannelName, client: &str) -> BoxFuture<'_, Result<()>>;

    /// Sees to it that there will be no entry of a client whose [`PresenceStore::presence_add`] failed and who is not going
    /// to be here: it may have been made all the same. Does not wait for it. A later add is not undone.
    fn presence_forget(&self, _channel: &ChannelName, _client: &str) {
        // Where a call that fails has done nothing, there is nothing to do.
    }

    /// Everyone whose entry has not run out, ordered by client id.
    fn presence(&self, channel: &ChannelName) -> BoxFuture<'_, Result<Vec<Arc<ClientInfo>>>>;

    /// The numbers alone; never dearer than [`PresenceStore::presence`].
    fn presence_stats(&self, channel: &ChannelName) -> BoxFuture<'_, Result<PresenceStats>>;
}
