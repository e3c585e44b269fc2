//! An engine on servers that things are done to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidewire_engine::conformance::{Announced, Recorder};
use tidewire_engine::{Broker, HistoryFilter, HistoryRetention, NewPublication, Published};
use tidewire_engine_redis::{Address, Options, RedisEngine, Topology};
use tidewire_protocol::{ChannelName, StreamPosition};
use tidewire_redis_testkit::Server;

/// How long anything may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const KEEP: HistoryRetention =
    HistoryRetention { size: 100, ttl: Duration::from_secs(3_600), meta_ttl: Duration::from_secs(7_200) };

/// One node: an engine and what it was told.
pub(crate) struct Node {
    pub(crate) engine: RedisEngine,
    pub(crate) recorder: Arc<Recorder>,
}

// === impl Node ===

impl Node {
    pub(crate) async fn on(server: &Server) -> Self {
        Self::with(Options { topology: only(server), ..Options::default() }).await
    }

    pub(crate) async fn with(options: Options) -> Self {
        let engine = RedisEngine::start(&options).expect("options that can be used");
        let recorder = Arc::new(Recorder::default());
        engine.attach(recorder.clone());
        engine.connected(PATIENCE).await.expect("servers that can be used");
        Self { engine, recorder }
    }

    pub(crate) async fn subscribe(&self, channel: &ChannelName) {
        self.engine.subscribe(std::slice::from_ref(channel)).await.expect("subscribed");
    }

    pub(crate) async fn publish(&self, channel: &ChannelName, data: &str) -> StreamPosition {
        self.try_publish(channel, data).await.expect("published").position.expect("a position")
    }

    pub(crate) async fn try_publish(
        &self,
        channel: &ChannelName,
        data: &str,
    ) -> tidewire_engine::Result<Published> {
        self.engine.publish(channel, kept(data)).await
    }

    /// Publishes until it works: what a caller does who can afford a second copy.
    pub(crate) async fn publish_until_it_works(&self, channel: &ChannelName, data: &str) -> StreamPosition {
        let begun = Instant::now();
        loop {
            match self.try_publish(channel, data).await {
                Ok(published) => return published.position.expect("a position"),
                Err(error) => assert!(begun.elapsed() < PATIENCE, "publishing never works again: {error}"),
            }
        }
    }

    /// The texts kept and the position, once the server answers.
    pub(crate) async fn read(&self, channel: &ChannelName) -> (Vec<String>, StreamPosition) {
        let begun = Instant::now();
        loop {
            match self.engine.history(channel, HistoryFilter::default(), KEEP.meta_ttl).await {
                Ok(history) => {
                    let text = |data: &[u8]| String::from_utf8_lossy(data).into_owned();
                    return (history.publications.iter().map(|p| text(&p.data)).collect(), history.top);
                }
                Err(error) => assert!(begun.elapsed() < PATIENCE, "reading never works again: {error}"),
            }
        }
    }

    /// Waits until the channel was told to be lost for the `count`th time; all that was heard until then.
    pub(crate) async fn lost(&self, channel: &ChannelName, count: usize) -> Vec<Announced> {
        let mut enough = 1;
        loop {
            let heard = self.recorder.hear(channel, enough).await;
            if heard.iter().filter(|announced| **announced == Announced::Lost).count() >= count {
                return heard;
            }
            enough = heard.len() + 1;
        }
    }

    /// Waits until the last that was heard is a publication of this text.
    pub(crate) async fn hears(&self, channel: &ChannelName, text: &str) {
        let mut enough = 1;
        loop {
            let heard = self.recorder.hear(channel, enough).await;
            match heard.last() {
                Some(Announced::Publication { publication, .. }) if publication.data == text => return,
                _ => enough = heard.len() + 1,
            }
        }
    }
}

pub(crate) fn kept(data: &str) -> NewPublication {
    NewPublication { data: data.to_owned().into(), retention: Some(KEEP), ..Default::default() }
}

pub(crate) fn address(server: &Server) -> Address {
    Address::tcp("127.0.0.1", server.port())
}

pub(crate) fn only(server: &Server) -> Topology {
    Topology::Servers(vec![address(server)])
}
