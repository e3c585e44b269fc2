//! The other nodes, as far as they have been heard of lately.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::node::NodeInfo;
use crate::time::Millis;

/// How often a node says that it is there.
pub(super) const HEARTBEAT_MS: Millis = 3_000;
/// How long a node is believed to be there without being heard: three heartbeats lost, and a little for delay.
pub(super) const SILENCE_MS: Millis = 10_000;

struct Peer {
    info: NodeInfo,
    heard_at: Millis,
}

/// The other nodes.
#[derive(Default)]
pub(super) struct Peers {
    known: BTreeMap<Uuid, Peer>,
}

impl Peers {
    /// A node has said how it is; true if it was not known.
    pub(super) fn heard(&mut self, id: Uuid, info: NodeInfo, now: Millis) -> bool {
        self.known.insert(id, Peer { info, heard_at: now }).is_none()
    }

    /// A node has said that it goes; true if it was known.
    pub(super) fn gone(&mut self, id: Uuid) -> bool {
        self.known.remove(&id).is_some()
    }

    /// Forgets the nodes that have been silent for too long, and names them.
    pub(super) fn expire(&mut self, now: Millis) -> Vec<Uuid> {
        self.known.extract_if(.., |_, peer| now >= peer.heard_at + SILENCE_MS).map(|(id, _)| id).collect()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = Uuid> {
        self.known.keys().copied()
    }

    pub(super) fn infos(&self) -> impl Iterator<Item = &NodeInfo> {
        self.known.values().map(|peer| &peer.info)
    }
}
