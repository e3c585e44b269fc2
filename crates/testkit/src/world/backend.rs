//! What the nodes keep their streams and presence in: an engine of one node's own, or a broker that several share.

use std::sync::Arc;

use tidewire_engine::Engine;
use tidewire_protocol::{ChannelName, ClientInfo, StreamPosition};

use crate::broker::{self, Broker, BrokerEngine};
use crate::draw::Draw;
use crate::engine::{Manners, SimEngine};
use crate::env::Env;
use crate::plan::Plan;

pub(super) enum Backend {
    Own(Arc<SimEngine>),
    Shared(Arc<Broker>),
}

impl Backend {
    pub(super) fn new(env: &Arc<Env>, draw: &Draw, plan: &Plan) -> Self {
        let (env, rates, lie) = (Arc::clone(env), plan.rates.clone(), plan.lie);
        match &plan.several {
            None => Self::Own(SimEngine::new(env, draw, Manners { rates, lossless: plan.lossless, lie })),
            Some(several) => {
                let manners = broker::Manners { rates, several: several.clone(), lie };
                Self::Shared(Broker::new(env, draw, manners))
            }
        }
    }

    /// The engine of one more node, and its connection with the broker if there is one.
    pub(super) fn connect(&self) -> (Arc<dyn Engine>, Option<Arc<BrokerEngine>>) {
        match self {
            Self::Own(engine) => (Arc::clone(engine) as Arc<dyn Engine>, None),
            Self::Shared(broker) => {
                let engine = broker.connect();
                (Arc::clone(&engine) as Arc<dyn Engine>, Some(engine))
            }
        }
    }

    /// The broker, where there is one.
    pub(super) fn broker(&self) -> Option<&Arc<Broker>> {
        match self {
            Self::Own(_) => None,
            Self::Shared(broker) => Some(broker),
        }
    }

    /// Frees what has run out.
    pub(super) fn sweep(&self) {
        if let Self::Own(engine) = self {
            engine.sweep();
        }
    }

    /// The stream is gone without a word.
    pub(super) fn lose_stream(&self, channel: &ChannelName) {
        match self {
            Self::Own(engine) => engine.lose_stream(channel),
            Self::Shared(broker) => broker.lose_stream(channel),
        }
    }

    /// Where the stream ends, without faults.
    pub(super) fn head(&self, channel: &ChannelName) -> StreamPosition {
        match self {
            Self::Own(engine) => engine.head(channel),
            Self::Shared(broker) => broker.head(channel),
        }
    }

    /// Who is present, without faults.
    pub(super) fn look_presence(&self, channel: &ChannelName) -> Vec<Arc<ClientInfo>> {
        match self {
            Self::Own(engine) => engine.look_presence(channel),
            Self::Shared(broker) => broker.look_presence(channel),
        }
    }

    /// Whether nobody is present anywhere.
    pub(super) fn is_deserted(&self) -> bool {
        match self {
            Self::Own(engine) => engine.is_deserted(),
            Self::Shared(broker) => broker.is_deserted(),
        }
    }

    /// Channels that a node wants announcements of.
    pub(super) fn wanted(&self, node: usize) -> Vec<ChannelName> {
        match self {
            Self::Own(engine) => engine.wanted(),
            Self::Shared(broker) => broker.wanted(node),
        }
    }
}
