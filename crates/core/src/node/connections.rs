//! Operations on connections, on every node, for backends.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_channel::oneshot;
use futures_util::future::{join, join_all};
use tidewire_protocol::{ChannelName, Disconnect, ErrorCode, StreamPosition, Unsubscribed};
use uuid::Uuid;

use super::Node;
use crate::hooks::{ClientContext, Refusal, SubscribeGrant};
use crate::inbox::{Ack, Control, Item, Operation, SubscribeOperation};
use crate::registry::Place;

/// Which connections an operation is for: all of a user (an empty one means the anonymous), narrowed by client id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// The user.
    pub user: String,
    /// If not empty, only this connection.
    pub client: String,
    /// Connections that are left alone.
    pub except: Vec<String>,
}

/// What an operation on connections came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reached {
    /// Connections it was done to, on all nodes that answered.
    pub connections: usize,
    /// Other nodes that were there a moment ago and did not say that they have done it. Its own connections are the
    /// caller's to judge: such a node is dead, or cut off, or very slow.
    pub silent_nodes: usize,
}

// === impl Target ===

impl Target {
    /// Every connection of a user.
    pub fn user(user: impl Into<String>) -> Self {
        Self { user: user.into(), ..Self::default() }
    }
}

/// The one connection that an event came from.
impl From<&ClientContext> for Target {
    fn from(context: &ClientContext) -> Self {
        Self { user: context.user.to_string(), client: context.client.clone(), except: Vec::new() }
    }
}

impl Node {
    /// Closes connections. Returns once they have been told.
    pub async fn disconnect(&self, target: &Target, disconnect: Disconnect) -> Reached {
        self.control(target, Operation::Disconnect(disconnect)).await
    }

    /// Closes connections of this node without waiting until they have been told.
    pub(crate) fn disconnect_soon(&self, target: &Target, disconnect: Disconnect) {
        drop(self.operate_here(target, Operation::Disconnect(disconnect)));
    }

    /// Ends a subscription of connections; `None`: all their subscriptions.
    pub async fn unsubscribe(
        &self,
        target: &Target,
        channel: Option<ChannelName>,
        why: Unsubscribed,
    ) -> Reached {
        self.control(target, Operation::Unsubscribe(channel, why)).await
    }

    /// Subscribes connections to a channel from the server's side. Returns once they follow it. A connection that is
    /// subscribed already counts as done.
    ///
    /// # Errors
    /// 107 for an empty channel, 102 for an unknown namespace.
    pub async fn subscribe(
        &self,
        target: &Target,
        channel: &str,
        grant: SubscribeGrant,
        recover_since: Option<StreamPosition>,
    ) -> Result<Reached, Refusal> {
        let rules = self.api_rules(channel)?;
        if rules.unavailable {
            return Err(ErrorCode::BadRequest.into());
        }
        let operation = SubscribeOperation { channel: channel.into(), grant, recover_since };
        Ok(self.control(target, Operation::Subscribe(Arc::new(operation))).await)
    }

    /// Sets when connections expire (Unix seconds, 0: never), or expires them now.
    pub async fn refresh(
        &self,
        target: &Target,
        expired: bool,
        expire_at: i64,
        info: Option<Bytes>,
    ) -> Reached {
        self.control(target, Operation::Refresh { expired, expire_at, info }).await
    }

    /// Sends a message that belongs to no channel.
    pub async fn send(&self, target: &Target, data: Bytes) -> Reached {
        self.control(target, Operation::Send(data)).await
    }

    async fn control(&self, target: &Target, operation: Operation) -> Reached {
        // Here first, so that this node's connections need not wait for the others.
        let (here, done) = self.operate_here(target, operation.clone());
        let (_, elsewhere) = join(join_all(done), self.ask_to_operate(target, &operation)).await;
        Reached { connections: here + elsewhere.connections(), silent_nodes: elsewhere.failed() }
    }

    /// Hands an operation to this node's connections: how many they are, and what resolves when they are done.
    pub(crate) fn operate_here(
        &self,
        target: &Target,
        operation: Operation,
    ) -> (usize, Vec<oneshot::Receiver<()>>) {
        self.hand_out(self.places(target), operation)
    }

    pub(super) fn hand_out(
        &self,
        places: Vec<(Uuid, Place)>,
        operation: Operation,
    ) -> (usize, Vec<oneshot::Receiver<()>>) {
        let count = places.len();
        let mut by_worker: BTreeMap<u16, Vec<(u32, Uuid)>> = BTreeMap::new();
        for (client, place) in places {
            by_worker.entry(place.worker).or_default().push((place.slot, client));
        }
        let mut done = Vec::new();
        for (worker, connections) in by_worker {
            let Some(inbox) = self.hub().inbox(worker) else {
                continue;
            };
            let (ack, receiver) = Ack::new();
            inbox.push(Item::Control(Control { connections, operation: operation.clone(), ack }));
            done.push(receiver);
        }
        (count, done)
    }

    fn places(&self, target: &Target) -> Vec<(Uuid, Place)> {
        let except: Vec<Uuid> = target.except.iter().filter_map(|id| id.parse().ok()).collect();
        let mut places = self.registry().user(&target.user);
        if !target.client.is_empty() {
            let wanted: Option<Uuid> = target.client.parse().ok();
            places.retain(|(id, _)| Some(*id) == wanted);
        }
        places.retain(|(id, _)| !except.contains(id));
        places
    }
}
