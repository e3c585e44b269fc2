//! Messages from node to node: two channels of names that no client can have.

use std::sync::Arc;

use bytes::Bytes;
use tidewire_engine::{BoxFuture, Bus, BusReceiver, EngineError, Recipients};
use tidewire_protocol::ChannelName;
use uuid::Uuid;

use crate::engine::RedisEngine;

/// Begins the names; channels of clients that begin so are refused.
const RESERVED: char = '\0';

/// Whether a name is one of the bus.
pub(crate) fn is_reserved(channel: &ChannelName) -> bool {
    channel.starts_with(RESERVED)
}

fn of_all() -> ChannelName {
    ChannelName::from(format!("{RESERVED}bus"))
}

fn of_one(node: Uuid) -> ChannelName {
    ChannelName::from(format!("{RESERVED}bus.{node}"))
}

impl Bus for RedisEngine {
    fn join(&self, node: Uuid, receiver: Arc<dyn BusReceiver>) {
        if self.shared.bus.set(receiver).is_ok() {
            // Nobody waits for the answers: they come when there is a connection, and again after each one.
            drop(self.shared.router.wish(&self.shared.keys, &[of_all(), of_one(node)], true));
        }
    }

    fn send(&self, to: Recipients, message: Bytes) -> BoxFuture<'_, Result<(), EngineError>> {
        let channel = match to {
            Recipients::Others => of_all(),
            Recipients::One(node) => of_one(node),
        };
        Box::pin(async move { Ok(self.shared.announce(&channel, &message).await?) })
    }
}
