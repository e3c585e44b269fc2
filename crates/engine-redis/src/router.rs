//! Which server a channel lives on.

use std::sync::Arc;

use tidewire_protocol::ChannelName;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::connection::Connection;
use crate::durable::Durable;
use crate::error::{Error, Result};
use crate::keys::Keys;
use crate::link::{Again, Link, Way};
use crate::pubsub::{Ear, PubSub};
use crate::resp::{Command, Value};
use crate::sharding;

/// Servers by channel. Targets are numbers: of a server, or of a part of a cluster.
pub(crate) enum Router {
    /// Independent servers share the channels.
    Servers(Vec<Node>),
    /// A cluster.
    Cluster(Arc<Cluster>),
}

/// The connections to one server.
pub(crate) struct Node {
    link: Link,
    pub(crate) pubsub: PubSub,
    /// For publishes that wait for replicas, if they do.
    durable: Option<Durable>,
}

/// How a command is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) again: Again,
    /// It is answered once replicas have it, where that is asked for.
    pub(crate) durable: bool,
}

// === impl Router ===

impl Router {
    pub(crate) fn target(&self, keys: &Keys, channel: &str) -> u16 {
        match self {
            Self::Servers(nodes) => sharding::shard_of(channel, nodes.len()) as u16,
            Self::Cluster(_) => keys.partition(channel).unwrap_or(0),
        }
    }

    /// How many targets there are.
    pub(crate) fn targets(&self) -> u16 {
        match self {
            Self::Servers(nodes) => nodes.len() as u16,
            Self::Cluster(cluster) => cluster.partitions(),
        }
    }

    pub(crate) async fn call(
        &self,
        target: u16,
        command: &Command,
        manner: Manner,
        deadline: Instant,
    ) -> Result<Value> {
        match self {
            Self::Servers(nodes) => match nodes.get(usize::from(target)) {
                Some(node) => node.call(command, manner, deadline).await,
                None => Err(Error::protocol("no such server")),
            },
            // A future is as large as the largest that it may wait for, and is moved as a whole at each level of calls:
            // what is not the usual way lies elsewhere, here and below.
            Self::Cluster(cluster) => Box::pin(cluster.call(target, command, manner, deadline)).await,
        }
    }

    /// Wishes announcements of channels, or none.
    pub(crate) fn wish(
        &self,
        keys: &Keys,
        channels: &[ChannelName],
        wanted: bool,
    ) -> Vec<oneshot::Receiver<Result<()>>> {
        match self {
            Self::Servers(nodes) => {
                let wish = |channel: &ChannelName| {
                    nodes[sharding::shard_of(channel, nodes.len())].pubsub.wish(channel, wanted)
                };
                channels.iter().map(wish).collect()
            }
            Self::Cluster(cluster) => {
                channels.iter().map(|channel| cluster.wish(keys, channel, wanted)).collect()
            }
        }
    }

    /// Why not all of it can be used right now.
    pub(crate) fn down(&self) -> Option<Error> {
        match self {
            Self::Servers(nodes) => nodes.iter().find_map(Node::down),
            Self::Cluster(cluster) => cluster.down(),
        }
    }

    /// Asks every server for a sign of life.
    pub(crate) async fn ping(&self, deadline: Instant) -> Result<()> {
        match self {
            Self::Servers(nodes) => {
                let pings = nodes.iter().map(|node| node.ping(deadline));
                futures_util::future::try_join_all(pings).await.map(drop)
            }
            Self::Cluster(cluster) => cluster.ping(deadline).await,
        }
    }

    /// Channels this node has subscribed.
    pub(crate) fn channels(&self) -> usize {
        match self {
            Self::Servers(nodes) => nodes.iter().map(|node| node.pubsub.channels()).sum(),
            Self::Cluster(cluster) => cluster.channels(),
        }
    }
}

// === impl Manner ===

impl Manner {
    /// Doing it twice is doing it once.
    pub(crate) const HARMLESS: Self = Self { again: Again::Harmless, durable: false };
    /// It happens at most once.
    pub(crate) const ONCE: Self = Self { again: Again::Never, durable: false };
}

// === impl Node ===

impl Node {
    pub(crate) fn start(way: Way, ear: Ear) -> Self {
        let durable = ear.replicas.map(|replicas| Durable::start(way.clone(), replicas));
        Self { link: Link::start(way.clone()), pubsub: PubSub::start(way, ear), durable }
    }

    pub(crate) async fn call(&self, command: &Command, manner: Manner, deadline: Instant) -> Result<Value> {
        match &self.durable {
            Some(durable) if manner.durable => Box::pin(durable.call(command, deadline)).await,
            _ => self.link.call(command, manner.again, deadline).await,
        }
    }

    /// The connection of right now.
    pub(crate) fn connection(&self) -> Result<Connection> {
        self.link.connection()
    }

    /// Sends a command that another server has sent here.
    pub(crate) async fn call_redirected(
        &self,
        command: &Command,
        again: Again,
        deadline: Instant,
    ) -> Result<Value> {
        let both = Command::all([&Command::words(&["ASKING"]), command]);
        let mut values = self.link.call_all(&both, again, deadline).await?;
        values.pop().ok_or_else(|| Error::protocol("no answer"))
    }

    pub(crate) fn down(&self) -> Option<Error> {
        self.link.connection().err().or_else(|| self.pubsub.down())
    }

    pub(crate) async fn ping(&self, deadline: Instant) -> Result<()> {
        self.link.call(&Command::words(&["PING"]), Again::Harmless, deadline).await.map(drop)
    }

    /// Ends both connections, whoever still holds the node.
    pub(crate) fn stop(&self) {
        self.link.stop();
        self.pubsub.stop();
        if let Some(durable) = &self.durable {
            durable.stop();
        }
    }
}
