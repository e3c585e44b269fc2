//! An engine under test, with short words for what the cases do to it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewire_protocol::{ChannelName, ClientInfo, Publication, StreamPosition};

use super::{Announced, Recorder};
use crate::{
    BoxFuture, Engine, History, HistoryFilter, HistoryRetention, NewPublication, PresenceStats, Published,
};

/// Lets time pass for an engine.
pub type Advance = Box<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>;

/// What an engine's tests hand to a case.
pub struct Subject {
    /// An engine with nothing in it and no sink attached.
    pub engine: Arc<dyn Engine>,
    /// Turns the engine's clock on, or waits if it cannot be turned.
    pub advance: Advance,
    /// Whether time passes only by `advance`. Without it, boundaries to the nanosecond, the five-minute window and
    /// time in random histories are left out.
    pub exact: bool,
    /// The shortest time the cases reckon with: things meant to last one unit are looked at well within it, and again
    /// after another half. A second on a turned clock; on a real one as short as its scheduling allows.
    pub unit: Duration,
}

/// An engine with a recorder attached.
pub struct Bench {
    /// The engine under test.
    pub engine: Arc<dyn Engine>,
    /// What it announced.
    pub recorder: Arc<Recorder>,
    advance: Advance,
    exact: bool,
    unit: Duration,
}

// === impl Bench ===

impl Bench {
    /// Attaches a recorder to the engine.
    pub fn new(subject: Subject) -> Self {
        let Subject { engine, advance, exact, unit } = subject;
        let recorder = Arc::new(Recorder::default());
        engine.attach(recorder.clone());
        Self { engine, recorder, advance, exact, unit }
    }

    pub(super) fn is_exact(&self) -> bool {
        self.exact
    }

    /// So many units of time.
    pub(super) fn units(&self, count: f64) -> Duration {
        self.unit.mul_f64(count)
    }

    pub(super) async fn advance(&self, by: Duration) {
        (self.advance)(by).await;
    }

    /// Keeps ten publications for far longer than any case takes.
    pub(super) fn keep(&self) -> HistoryRetention {
        HistoryRetention { size: 10, ttl: self.units(1000.0), meta_ttl: self.units(10_000.0) }
    }

    /// A publication with history.
    pub(super) fn kept(&self, data: &str) -> NewPublication {
        NewPublication { retention: Some(self.keep()), ..passing(data) }
    }

    pub(super) async fn subscribe(&self, channel: &ChannelName) {
        self.engine.subscribe(std::slice::from_ref(channel)).await.unwrap();
    }

    pub(super) async fn unsubscribe(&self, channel: &ChannelName) {
        self.engine.unsubscribe(std::slice::from_ref(channel)).await.unwrap();
    }

    pub(super) async fn publish(&self, channel: &ChannelName, new: NewPublication) -> Published {
        self.engine.publish(channel, new).await.unwrap()
    }

    /// Publishes what must get a position, and returns it.
    pub(super) async fn place(&self, channel: &ChannelName, new: NewPublication) -> StreamPosition {
        let published = self.publish(channel, new).await;
        assert_eq!(published.suppressed, None, "{channel}");
        published.position.unwrap_or_else(|| panic!("{channel}: a publication with history has no position"))
    }

    pub(super) async fn read(&self, channel: &ChannelName, filter: HistoryFilter) -> History {
        self.engine.history(channel, filter, self.keep().meta_ttl).await.unwrap()
    }

    /// The payloads kept, oldest first.
    pub(super) async fn texts(&self, channel: &ChannelName) -> Vec<String> {
        let history = self.read(channel, HistoryFilter::default()).await;
        history.publications.iter().map(|publication| text(publication)).collect()
    }

    pub(super) async fn top(&self, channel: &ChannelName) -> StreamPosition {
        self.read(channel, HistoryFilter { limit: Some(0), ..Default::default() }).await.top
    }

    pub(super) async fn remove_history(&self, channel: &ChannelName) {
        self.engine.remove_history(channel).await.unwrap();
    }

    /// The payloads announced, once there are `count` announcements.
    pub(super) async fn hear(&self, channel: &ChannelName, count: usize) -> Vec<String> {
        let heard = self.recorder.hear(channel, count).await;
        let text_of = |announced: &Announced| match announced {
            Announced::Publication { publication, .. } => text(publication),
            other => panic!("{channel}: a publication was expected, heard {other:?}"),
        };
        heard.iter().map(text_of).collect()
    }

    pub(super) async fn enter(&self, channel: &ChannelName, info: &Arc<ClientInfo>, ttl: Duration) {
        self.engine.presence_add(channel, info.clone(), ttl).await.unwrap();
    }

    pub(super) async fn leave(&self, channel: &ChannelName, client: &str) {
        self.engine.presence_remove(channel, client).await.unwrap();
    }

    /// Everyone present, after making sure that the numbers agree.
    pub(super) async fn present(&self, channel: &ChannelName) -> Vec<Arc<ClientInfo>> {
        let present = self.engine.presence(channel).await.unwrap();
        let stats = self.engine.presence_stats(channel).await.unwrap();
        let users: std::collections::BTreeSet<_> = present.iter().map(|info| info.user.as_str()).collect();
        let expected = PresenceStats { clients: present.len() as u32, users: users.len() as u32 };
        assert_eq!(stats, expected, "{channel}: the numbers of {present:?}");
        present
    }
}

/// A publication without history.
pub(super) fn passing(data: &str) -> NewPublication {
    NewPublication { data: Bytes::copy_from_slice(data.as_bytes()), ..Default::default() }
}

pub(super) fn text(publication: &Publication) -> String {
    String::from_utf8_lossy(&publication.data).into_owned()
}

pub(super) fn channel(name: &str) -> ChannelName {
    ChannelName::from(name)
}

pub(super) fn client(client: &str, user: &str) -> Arc<ClientInfo> {
    Arc::new(ClientInfo { client: client.into(), user: user.into(), ..Default::default() })
}
