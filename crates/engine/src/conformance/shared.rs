//! Several nodes on one engine: each sees what the others do, and they can talk to each other.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tidewire_protocol::ChannelName;
use tokio::sync::Notify;
use uuid::Uuid;

use super::bench::{channel, client, passing, text};
use super::{Announced, Recorder};
use crate::{
    Bus, BusReceiver, Engine, HistoryFilter, HistoryRetention, NewPublication, Published, Recipients,
    Suppressed,
};

/// How long a message may take before a case gives up on it.
const PATIENCE: Duration = Duration::from_secs(10);
/// A node whose greeting was not heard greets again.
const GREET_AGAIN: Duration = Duration::from_millis(20);

const KEEP: HistoryRetention =
    HistoryRetention { size: 1_000, ttl: Duration::from_secs(3_600), meta_ttl: Duration::from_secs(7_200) };

/// Nodes that share an engine and have heard of each other.
pub struct Nodes(Vec<Peer>);

/// One of them.
struct Peer {
    id: Uuid,
    engine: Arc<dyn Engine>,
    recorder: Arc<Recorder>,
    mail: Arc<Mail>,
}

/// What a node was sent.
#[derive(Default)]
struct Mail {
    messages: Mutex<Vec<Bytes>>,
    changed: Notify,
}

// === impl Nodes ===

impl Nodes {
    /// Gives each engine an ear, has it join the bus, and waits until each node hears every other.
    ///
    /// # Panics
    /// If they do not within ten seconds.
    pub async fn meet(engines: Vec<Arc<dyn Engine>>) -> Self {
        assert!(engines.len() >= 3, "whether a third node hears something cannot be asked of two");
        let peer = |(number, engine): (usize, Arc<dyn Engine>)| {
            let (recorder, mail) = (Arc::new(Recorder::default()), Arc::new(Mail::default()));
            let id = Uuid::from_u128(number as u128 + 1);
            engine.attach(recorder.clone());
            engine.bus().expect("a bus").join(id, mail.clone());
            Peer { id, engine, recorder, mail }
        };
        let nodes = Self(engines.into_iter().enumerate().map(peer).collect());
        let greetings: BTreeSet<Bytes> = nodes.0.iter().map(Peer::greeting).collect();
        let met = async {
            for peer in &nodes.0 {
                while !greetings.is_subset(&peer.mail.all().into_iter().chain([peer.greeting()]).collect()) {
                    for other in &nodes.0 {
                        // Not connected yet, perhaps.
                        let _ = other.bus().send(Recipients::Others, other.greeting()).await;
                    }
                    tokio::time::sleep(GREET_AGAIN).await;
                }
            }
        };
        assert!(tokio::time::timeout(PATIENCE, met).await.is_ok(), "the nodes do not hear each other");
        nodes
    }

    fn first(&self) -> &Peer {
        &self.0[0]
    }

    fn second(&self) -> &Peer {
        &self.0[1]
    }

    fn third(&self) -> &Peer {
        &self.0[2]
    }
}

// === impl Peer ===

impl Peer {
    fn bus(&self) -> &dyn Bus {
        self.engine.bus().expect("a bus")
    }

    fn greeting(&self) -> Bytes {
        Bytes::from(format!("greeting of {}", self.id))
    }

    async fn send(&self, to: Recipients, message: impl Into<Bytes>) {
        self.bus().send(to, message.into()).await.unwrap();
    }

    async fn subscribe(&self, channel: &ChannelName) {
        self.engine.subscribe(std::slice::from_ref(channel)).await.unwrap();
    }

    async fn publish(&self, channel: &ChannelName, new: NewPublication) -> Published {
        self.engine.publish(channel, new).await.unwrap()
    }

    /// What is kept, and where it stands.
    async fn kept(&self, channel: &ChannelName) -> Vec<(u64, String)> {
        let history = self.engine.history(channel, HistoryFilter::default(), KEEP.meta_ttl).await.unwrap();
        history.publications.iter().map(|publication| (publication.offset, text(publication))).collect()
    }

    async fn present(&self, channel: &ChannelName) -> Vec<String> {
        let present = self.engine.presence(channel).await.unwrap();
        present.iter().map(|info| info.client.clone()).collect()
    }

    async fn hear(&self, channel: &ChannelName, count: usize) -> Vec<String> {
        let told = |announced: &Announced| match announced {
            Announced::Publication { publication, .. } => text(publication),
            other => panic!("{channel}: a publication was expected, heard {other:?}"),
        };
        self.recorder.hear(channel, count).await.iter().map(told).collect()
    }
}

// === impl Mail ===

impl BusReceiver for Mail {
    fn receive(&self, message: Bytes) {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).push(message);
        self.changed.notify_waiters();
    }
}

impl Mail {
    fn all(&self) -> Vec<Bytes> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Everything but greetings, once this message is among it.
    async fn up_to(&self, last: &[u8]) -> Vec<Bytes> {
        let found = async {
            loop {
                let changed = self.changed.notified();
                let mut all = self.all();
                all.retain(|message| !message.starts_with(b"greeting"));
                if all.iter().any(|message| message == last) {
                    return all;
                }
                changed.await;
            }
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(found) => found,
            Err(_) => panic!("a message does not come"),
        }
    }
}

fn kept(data: &str) -> NewPublication {
    NewPublication { retention: Some(KEEP), ..passing(data) }
}

// === Cases: streams and presence ===

/// Whoever publishes, each node has the same stream.
pub async fn a_stream_is_the_same_from_every_node(nodes: Nodes) {
    let c = channel("c");
    for (at, peer) in nodes.0.iter().enumerate() {
        let published = peer.publish(&c, kept(&at.to_string())).await;
        assert_eq!(published.position.unwrap().offset, at as u64 + 1);
    }
    let expected: Vec<_> = (0..nodes.0.len()).map(|at| (at as u64 + 1, at.to_string())).collect();
    for peer in &nodes.0 {
        assert_eq!(peer.kept(&c).await, expected);
    }
    nodes.second().engine.remove_history(&c).await.unwrap();
    assert_eq!(nodes.first().kept(&c).await, []);
}

/// All nodes publish at once; all hear the same, in the order of the stream.
pub async fn inv_d3_every_node_hears_one_order(nodes: Nodes) {
    const EACH: usize = 100;
    let c = channel("c");
    for peer in &nodes.0 {
        peer.subscribe(&c).await;
    }
    let publisher = |(number, peer): (usize, &Peer)| {
        let (engine, c) = (Arc::clone(&peer.engine), c.clone());
        tokio::spawn(async move {
            for n in 0..EACH {
                engine.publish(&c, kept(&format!("{number}.{n}"))).await.unwrap();
                tokio::task::yield_now().await;
            }
        })
    };
    let tasks: Vec<_> = nodes.0.iter().enumerate().map(publisher).collect();
    for task in tasks {
        task.await.unwrap();
    }
    let stream: Vec<String> = nodes.first().kept(&c).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(stream.len(), EACH * nodes.0.len());
    for peer in &nodes.0 {
        assert_eq!(peer.hear(&c, stream.len()).await, stream);
    }
}

/// Interest is each node's own.
pub async fn a_node_that_leaves_a_channel_takes_it_from_no_other(nodes: Nodes) {
    let c = channel("c");
    for peer in [nodes.first(), nodes.second()] {
        peer.subscribe(&c).await;
    }
    nodes.third().publish(&c, kept("1")).await;
    assert_eq!(nodes.first().hear(&c, 1).await, ["1"]);
    nodes.first().engine.unsubscribe(std::slice::from_ref(&c)).await.unwrap();
    nodes.third().publish(&c, kept("2")).await;
    assert_eq!(nodes.second().hear(&c, 2).await, ["1", "2"]);
    nodes.first().subscribe(&c).await;
    nodes.third().publish(&c, kept("3")).await;
    assert_eq!(nodes.first().hear(&c, 2).await, ["1", "3"]);
    assert_eq!(nodes.second().hear(&c, 3).await, ["1", "2", "3"]);
}

/// A publish that is tried again goes to any node.
pub async fn inv_d5_a_key_that_one_node_has_used_answers_on_another(nodes: Nodes) {
    let c = channel("c");
    nodes.third().subscribe(&c).await;
    let keyed = |data| NewPublication { idempotency_key: "k".into(), ..kept(data) };
    let first = nodes.first().publish(&c, keyed("first")).await;
    let again = nodes.second().publish(&c, keyed("again")).await;
    assert_eq!((first.suppressed, again.suppressed), (None, Some(Suppressed::Idempotency)));
    assert_eq!(first.position, again.position);
    nodes.second().publish(&c, kept("last")).await;
    assert_eq!(nodes.third().hear(&c, 2).await, ["first", "last"]);
}

/// Whoever adds an entry, each node sees it and any may take it away.
pub async fn inv_p1_presence_is_the_same_from_every_node(nodes: Nodes) {
    let (c, hour) = (channel("c"), Duration::from_secs(3_600));
    for (at, peer) in nodes.0.iter().enumerate() {
        peer.engine.presence_add(&c, client(&at.to_string(), "u"), hour).await.unwrap();
    }
    for peer in &nodes.0 {
        assert_eq!(peer.present(&c).await, ["0", "1", "2"]);
        let stats = peer.engine.presence_stats(&c).await.unwrap();
        assert_eq!((stats.clients, stats.users), (3, 1));
    }
    // It has come back, on another node.
    nodes.second().engine.presence_add(&c, client("0", "u"), hour).await.unwrap();
    nodes.third().engine.presence_remove(&c, "1").await.unwrap();
    for peer in &nodes.0 {
        assert_eq!(peer.present(&c).await, ["0", "2"]);
    }
}

// === Cases: the bus ===

/// Each of the others, that is; the sender may hear itself.
pub async fn a_message_for_others_reaches_all_of_them(nodes: Nodes) {
    nodes.first().send(Recipients::Others, "hello").await;
    for peer in [nodes.second(), nodes.third()] {
        assert_eq!(peer.mail.up_to(b"hello").await, ["hello"]);
    }
}

/// And nobody else.
pub async fn a_message_for_one_node_reaches_that_node_alone(nodes: Nodes) {
    nodes.first().send(Recipients::One(nodes.second().id), "for the second").await;
    nodes.first().send(Recipients::One(nodes.third().id), "for the third").await;
    assert_eq!(nodes.second().mail.up_to(b"for the second").await, ["for the second"]);
    assert_eq!(nodes.third().mail.up_to(b"for the third").await, ["for the third"]);
    nodes.first().send(Recipients::Others, "last").await;
    assert_eq!(nodes.second().mail.up_to(b"last").await.len(), 2);
    assert_eq!(nodes.third().mail.up_to(b"last").await.len(), 2);
}

/// Of those that one sender has for the same recipients.
pub async fn messages_of_one_sender_keep_their_order(nodes: Nodes) {
    let expected: Vec<Bytes> = (0..500).map(|n: u32| n.to_string().into()).collect();
    for message in &expected {
        nodes.first().send(Recipients::Others, message.clone()).await;
    }
    for peer in [nodes.second(), nodes.third()] {
        assert_eq!(peer.mail.up_to(b"499").await, expected);
    }
}

/// Nor is it an error.
pub async fn a_message_for_a_node_that_is_not_there_reaches_nobody(nodes: Nodes) {
    nodes.first().send(Recipients::One(Uuid::from_u128(99)), "for nobody").await;
    nodes.first().send(Recipients::Others, "last").await;
    for peer in [nodes.second(), nodes.third()] {
        assert_eq!(peer.mail.up_to(b"last").await, ["last"]);
    }
}

/// Every byte there is, and many of each.
pub async fn a_large_message_arrives_whole(nodes: Nodes) {
    let message: Bytes = (0..1 << 20).map(|n: u32| (n % 251) as u8).collect::<Vec<_>>().into();
    nodes.first().send(Recipients::One(nodes.second().id), message.clone()).await;
    assert!(nodes.second().mail.up_to(&message).await == [message]);
}

/// No name that a client can give a channel is heard on the bus, or takes from it.
pub async fn channels_and_messages_do_not_meet(nodes: Nodes) {
    let channels = ["bus", "\0bus", "", "bus.00000000-0000-0000-0000-000000000002"].map(channel);
    for c in &channels {
        // An engine may refuse a name of its own.
        let _ = nodes.second().engine.subscribe(std::slice::from_ref(c)).await;
        let _ = nodes.first().engine.publish(c, kept("stray")).await;
    }
    nodes.first().send(Recipients::Others, "last").await;
    assert_eq!(nodes.second().mail.up_to(b"last").await, ["last"]);
    assert_eq!(nodes.third().mail.up_to(b"last").await, ["last"]);
}
