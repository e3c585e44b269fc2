//! The engine's traits as one node sees them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_channel::oneshot;
use futures_util::future::{Either, join_all, select};
use tidewire_engine::{
    Announcements, BoxFuture, Broker as EngineBroker, Bus, BusReceiver, Capabilities, Engine, EngineError,
    History, HistoryFilter, NewPublication, PresenceStats, PresenceStore, Published, Recipients, Result,
};
use tidewire_protocol::{ChannelName, ClientInfo};
use uuid::Uuid;

use super::Broker;
use super::announce::{Out, bus};
use super::command::{Again, Step};
use super::ear::Word;
use crate::engine::Lie;

/// How much longer entries last if they are meant to last for ever.
const FOR_EVER: u32 = 1_000;

/// When replication stops, where stale data are read.
const STALE_FROM: Duration = Duration::from_secs(4);

/// The broker as one node has it.
pub(crate) struct BrokerEngine {
    pub(super) broker: Arc<Broker>,
    pub(super) node: usize,
}

impl BrokerEngine {
    pub(super) fn new(broker: Arc<Broker>, node: usize) -> Self {
        Self { broker, node }
    }

    /// Says that the node is alive. To be called a few times in each lease.
    pub(crate) async fn prolong(&self) -> Result<()> {
        let (node, lease) = (self.node as u64, self.lease());
        let step: Step<()> = Box::new(move |store, at| {
            store.prolong(at.now, node, lease);
            ((), Vec::new())
        });
        self.broker.call(self.node, "prolong", Again::Harmless, step).await
    }

    fn lease(&self) -> Duration {
        let lease = self.broker.manners.several.node_lease;
        if self.broker.lies(Lie::DeadStayPresent) { lease * FOR_EVER } else { lease }
    }

    fn announce(&self, what: &str, out: Out) -> BoxFuture<'_, Result<()>> {
        let what = format!("{what} {}", out.channel.escape_debug());
        let step: Step<()> = Box::new(move |_, _| ((), vec![out]));
        Box::pin(async move { self.broker.call(self.node, &what, Again::Never, step).await })
    }

    fn wish(&self, channels: &[ChannelName], wanted: bool) -> BoxFuture<'_, Result<()>> {
        let channels = channels.to_vec();
        Box::pin(async move {
            let mut answers = Vec::new();
            for channel in &channels {
                let (waiter, answer) = oneshot::channel();
                self.broker.wish(self.node, channel, wanted, waiter);
                answers.push(answer);
            }
            let patience = self.broker.env.sleep(self.broker.manners.several.io_timeout);
            let silent = || EngineError::Unavailable("simulated: not confirmed".into());
            match select(join_all(answers), patience).await {
                Either::Left((answers, _)) => {
                    answers.into_iter().try_for_each(|answer| answer.unwrap_or_else(|_| Err(silent())))
                }
                Either::Right(_) => Err(silent()),
            }
        })
    }
}

// === impl Broker for BrokerEngine ===

impl EngineBroker for BrokerEngine {
    fn attach(&self, announcements: Arc<dyn Announcements>) {
        self.broker.state().links[self.node].ear.sink.get_or_insert(announcements);
    }

    fn subscribe(&self, channels: &[ChannelName]) -> BoxFuture<'_, Result<()>> {
        self.wish(channels, true)
    }

    fn unsubscribe(&self, channels: &[ChannelName]) -> BoxFuture<'_, Result<()>> {
        self.wish(channels, false)
    }

    fn publish(&self, channel: &ChannelName, mut new: NewPublication) -> BoxFuture<'_, Result<Published>> {
        let (channel, env) = (channel.clone(), Arc::clone(&self.broker.env));
        let what = format!("publish {channel}");
        // A key makes the second time harmless.
        let again = if new.idempotency_key.is_empty() { Again::Never } else { Again::Harmless };
        if self.broker.lies(Lie::ForgetsKeys) {
            new.idempotency_key.clear();
        }
        let forgets = self.broker.lies(Lie::AnnouncesOnly);
        let step: Step<Published> = Box::new(move |store, at| {
            let data = new.data.clone();
            let before = forgets.then(|| store.clone());
            let (published, word) = store.publish(at, &channel, new);
            if word.is_some() {
                let place = published.position.as_ref();
                env.note(format_args!("published {channel} {place:?} {data:?}"));
                env.record().published(&channel, &data, place);
            }
            let is_seventh = published.position.as_ref().is_some_and(|place| place.offset % 7 == 0);
            if let Some(before) = before.filter(|_| is_seventh) {
                *store = before;
            }
            let out = |word| Out { channel, word, to: Recipients::Others };
            (published, word.map(out).into_iter().collect())
        });
        Box::pin(async move { self.broker.call(self.node, &what, again, step).await })
    }

    fn publish_join(&self, channel: &ChannelName, info: Arc<ClientInfo>) -> BoxFuture<'_, Result<()>> {
        let out = Out { channel: channel.clone(), word: Word::Join(info), to: Recipients::Others };
        self.announce("join", out)
    }

    fn publish_leave(&self, channel: &ChannelName, info: Arc<ClientInfo>) -> BoxFuture<'_, Result<()>> {
        let out = Out { channel: channel.clone(), word: Word::Leave(info), to: Recipients::Others };
        self.announce("leave", out)
    }

    fn history(
        &self,
        channel: &ChannelName,
        filter: HistoryFilter,
        meta_ttl: Duration,
    ) -> BoxFuture<'_, Result<History>> {
        let channel = channel.clone();
        let what = format!("history {channel} {filter:?}");
        let stale = self.broker.lies(Lie::ReadsStale).then(|| Arc::clone(&self.broker));
        let step: Step<History> = Box::new(move |store, at| {
            let history = match stale.filter(|_| at.now >= STALE_FROM) {
                Some(broker) => {
                    let mut stale = broker.stale.lock();
                    stale.get_or_insert_with(|| store.clone()).history(at, &channel, &filter, meta_ttl)
                }
                None => store.history(at, &channel, &filter, meta_ttl),
            };
            (history, Vec::new())
        });
        Box::pin(async move { self.broker.call(self.node, &what, Again::Harmless, step).await })
    }

    fn remove_history(&self, channel: &ChannelName) -> BoxFuture<'_, Result<()>> {
        let channel = channel.clone();
        let what = format!("remove history {channel}");
        let step: Step<()> = Box::new(move |store, _| (store.remove_history(&channel), Vec::new()));
        Box::pin(async move { self.broker.call(self.node, &what, Again::Harmless, step).await })
    }
}

// === impl PresenceStore for BrokerEngine ===

impl PresenceStore for BrokerEngine {
    fn presence_add(
        &self,
        channel: &ChannelName,
        info: Arc<ClientInfo>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<()>> {
        let (channel, node, lease) = (channel.clone(), self.node as u64, self.lease());
        let ttl = if self.broker.lies(Lie::DeadStayPresent) { ttl * FOR_EVER } else { ttl };
        let what = format!("presence add {channel} {}", info.client);
        let step: Step<()> =
            Box::new(move |store, at| (store.enter(at.now, node, lease, &channel, info, ttl), Vec::new()));
        Box::pin(async move { self.broker.call(self.node, &what, Again::Harmless, step).await })
    }

    fn presence_remove(&self, channel: &ChannelName, client: &str) -> BoxFuture<'_, Result<()>> {
        let (channel, client) = (channel.clone(), client.to_owned());
        let what = format!("presence remove {channel} {client}");
        let step: Step<()> = Box::new(move |store, _| (store.leave(&channel, &client), Vec::new()));
        Box::pin(async move { self.broker.call(self.node, &what, Again::Harmless, step).await })
    }

    fn presence(&self, channel: &ChannelName) -> BoxFuture<'_, Result<Vec<Arc<ClientInfo>>>> {
        let channel = channel.clone();
        let step: Step<Vec<Arc<ClientInfo>>> =
            Box::new(move |store, at| (store.present(at.now, &channel), Vec::new()));
        Box::pin(async move { self.broker.call(self.node, "presence", Again::Harmless, step).await })
    }

    fn presence_stats(&self, channel: &ChannelName) -> BoxFuture<'_, Result<PresenceStats>> {
        let channel = channel.clone();
        let step: Step<PresenceStats> =
            Box::new(move |store, at| (store.presence_stats(at.now, &channel), Vec::new()));
        Box::pin(async move { self.broker.call(self.node, "presence stats", Again::Harmless, step).await })
    }
}

// === impl Engine, Bus for BrokerEngine ===

impl Engine for BrokerEngine {
    fn capabilities(&self) -> Capabilities {
        Capabilities { lossless_announcements: self.broker.lies(Lie::LosesUntold), shared: true }
    }

    fn bus(&self) -> Option<&dyn Bus> {
        Some(self)
    }

    fn ready(&self) -> BoxFuture<'_, Result<()>> {
        let step: Step<()> = Box::new(|_, _| ((), Vec::new()));
        Box::pin(async move { self.broker.call(self.node, "ready", Again::Harmless, step).await })
    }
}

impl Bus for BrokerEngine {
    fn join(&self, node: Uuid, receiver: Arc<dyn BusReceiver>) {
        self.broker.state().links[self.node].ear.bus.get_or_insert((node, receiver));
    }

    fn send(&self, to: Recipients, message: Bytes) -> BoxFuture<'_, Result<()>> {
        self.announce("send", Out { channel: bus(), word: Word::Message(message), to })
    }
}

#[cfg(test)]
mod tests {
    use tidewire_engine::ManualClock;
    use tidewire_engine::conformance::Subject;

    use super::super::Manners;
    use super::*;
    use crate::draw::Draw;
    use crate::env::Env;
    use crate::trace::{Trace, Tracing};

    tidewire_engine::conformance!(tests: quiet);

    mod of_several_nodes {
        tidewire_engine::shared_conformance!(tests: super::three);
    }

    async fn three() -> Vec<Arc<dyn Engine>> {
        let (broker, _) = broker();
        (0..3).map(|_| broker.connect() as Arc<dyn Engine>).collect()
    }

    fn broker() -> (Arc<Broker>, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::new());
        let env = Env::new(clock.clone(), Trace::new(Tracing::Hash));
        // As long as the suite lets time pass at once: nobody says that the node is alive.
        let mut manners = Manners::default();
        manners.several.node_lease = Duration::from_secs(1_000_000);
        (Broker::new(env, &Draw::new(1), manners), clock)
    }

    async fn quiet() -> Subject {
        let (broker, clock) = broker();
        Subject {
            engine: broker.connect(),
            advance: Box::new(move |by: Duration| {
                clock.advance(by);
                Box::pin(std::future::ready(()))
            }),
            exact: true,
            unit: Duration::from_secs(1),
        }
    }
}
