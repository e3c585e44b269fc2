//! Data and announcements that are gone: told, never papered over.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidewire_engine::{Announcements, Broker, PresenceStore};
use tidewire_engine_redis::{Options, RedisEngine};
use tidewire_protocol::{ChannelName, ClientInfo, Epoch, Publication};
use tidewire_redis_testkit::{Flavour, Start};
use tokio::sync::Notify;

use crate::rig::{Node, PATIENCE, only};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_d1_a_restart_without_data_begins_another_epoch_and_tells_subscribers() {
    let mut server = Start::new(Flavour::Redis).run();
    let node = Node::on(&server).await;
    let c = ChannelName::from("c");
    node.subscribe(&c).await;
    let before = node.publish(&c, "before").await;
    server.kill();
    server.start_again();
    let after = node.publish_until_it_works(&c, "after").await;
    assert_eq!(after.offset, 1);
    assert_ne!(after.epoch, before.epoch);
    node.lost(&c, 1).await;
    node.publish(&c, "heard").await;
    node.hears(&c, "heard").await;
}

/// The heart of it: what was acknowledged is gone, another node publishes first, and the offset it gets was seen before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_d2_a_restart_from_an_old_snapshot_never_gives_an_offset_out_twice_in_one_epoch() {
    for flavour in [Flavour::Redis, Flavour::Valkey] {
        let mut server = Start::new(flavour).run();
        let node = Node::on(&server).await;
        let (read_first, published_first) = (ChannelName::from("read"), ChannelName::from("published"));
        let mut positions = Vec::new();
        for channel in [&read_first, &published_first] {
            node.publish(channel, "1").await;
            node.publish(channel, "2").await;
        }
        server.ask(&["SAVE"]);
        for channel in [&read_first, &published_first] {
            positions.push(node.publish(channel, "lost").await);
        }
        server.kill();
        server.start_again();
        let (texts, top) = node.read(&read_first).await;
        assert_eq!((texts, top.offset), (vec!["1".to_owned(), "2".to_owned()], 2));
        assert_ne!(top.epoch, positions[0].epoch, "the position of what was lost would count as current");
        let other = Node::on(&server).await;
        let reused = other.publish(&published_first, "another").await;
        assert_eq!(reused.offset, positions[1].offset);
        assert_ne!(reused.epoch, positions[1].epoch);
        // Once is enough: from here on the stream goes on as ever.
        assert_eq!(node.publish(&published_first, "next").await.epoch, reused.epoch);
        assert_eq!(node.read(&published_first).await.0, ["1", "2", "another", "next"]);
        let renewed = node.engine.counters().epochs_renewed + other.engine.counters().epochs_renewed;
        assert_eq!(renewed, 2);
    }
}

/// A primary that was a replica for a while has the data of another, under its own process and its old connections.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_d2_a_primary_that_was_a_replica_meanwhile_begins_another_epoch() {
    let quick = Start::new(Flavour::Redis).with(&["--repl-diskless-sync-delay", "0"]);
    let (first, second) = (quick.clone().run(), quick.run());
    let node = Node::on(&first).await;
    let c = ChannelName::from("c");
    node.publish(&c, "1").await;
    let port = first.port().to_string();
    second.ask(&["REPLICAOF", "127.0.0.1", &port]);
    second.wait_for(&["INFO", "replication"], |info| info.info("master_link_status") == "up");
    // The first replica makes a server draw a new id: an epoch more than needed, and only then.
    let settled = node.publish(&c, "2").await;
    assert_eq!(node.publish(&c, "3").await.epoch, settled.epoch);
    second.wait_for(&["INFO", "replication"], |info| {
        info.info("slave_repl_offset") == first.ask(&["INFO", "replication"]).info("master_repl_offset")
    });
    second.ask(&["REPLICAOF", "NO", "ONE"]);
    let lost = node.publish(&c, "lost").await;
    let port = second.port().to_string();
    first.ask(&["REPLICAOF", "127.0.0.1", &port]);
    first.wait_for(&["INFO", "replication"], |info| info.info("master_link_status") == "up");
    first.ask(&["REPLICAOF", "NO", "ONE"]);
    let (texts, top) = node.read(&c).await;
    assert_eq!((texts, top.offset), (vec!["1".into(), "2".into(), "3".to_owned()], 3));
    assert_ne!(top.epoch, lost.epoch);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_d4_channels_are_lost_and_heard_again_when_their_connection_is_killed() {
    let server = Start::new(Flavour::Redis).run();
    let node = Node::on(&server).await;
    let channels: Vec<_> = (0..50).map(|n| ChannelName::from(n.to_string())).collect();
    node.engine.subscribe(&channels).await.expect("subscribed");
    for time in 1..=3 {
        server.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        for channel in &channels {
            node.lost(channel, time).await;
        }
        let text = format!("after {time}");
        for channel in &channels {
            node.publish(channel, &text).await;
            node.hears(channel, &text).await;
        }
    }
    assert_eq!(node.engine.counters().channels_lost, 150);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_b1_garbage_on_our_channels_is_counted_and_its_channel_is_lost() {
    let server = Start::new(Flavour::Redis).run();
    let node = Node::on(&server).await;
    let c = ChannelName::from("c");
    node.subscribe(&c).await;
    for garbage in ["", "garbage", "p1 x 999\n", "p99999999999999999999 x 0\n", "nshort"] {
        server.ask(&["PUBLISH", "centrifugo.tw.c.c", garbage]);
    }
    node.lost(&c, 5).await;
    node.publish(&c, "good").await;
    node.hears(&c, "good").await;
    assert_eq!(node.engine.counters().announcements_malformed, 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_p1_entries_of_a_dead_node_vanish_with_its_lease() {
    let server = Start::new(Flavour::Redis).run();
    let lease = Duration::from_millis(600);
    let options = Options { topology: only(&server), node_lease: lease, ..Options::default() };
    let (alive, dying) = (Node::with(options.clone()).await, Node::with(options).await);
    let c = ChannelName::from("c");
    let client =
        |client: &str| Arc::new(ClientInfo { client: client.into(), user: "u".into(), ..Default::default() });
    let hour = Duration::from_secs(3_600);
    alive.engine.presence_add(&c, client("stays"), hour).await.expect("added");
    dying.engine.presence_add(&c, client("goes"), hour).await.expect("added");
    let seen = async || {
        let present = alive.engine.presence(&c).await.expect("read");
        present.iter().map(|info| info.client.clone()).collect::<Vec<_>>()
    };
    let numbers = async || {
        let stats = alive.engine.presence_stats(&c).await.expect("read");
        (stats.clients, stats.users)
    };
    // Leases are prolonged while their nodes live.
    tokio::time::sleep(2 * lease).await;
    // A busy machine may be late for once, which hides a node's entries until its lease is prolonged.
    let begun = Instant::now();
    while (seen().await, numbers().await) != (vec!["goes".to_owned(), "stays".to_owned()], (2, 1)) {
        assert!(begun.elapsed() < PATIENCE, "the leases of living nodes are over");
    }
    drop(dying);
    let died = Instant::now();
    while seen().await != ["stays"] {
        assert!(died.elapsed() < PATIENCE, "the entry of a dead node is still seen");
    }
    assert!(died.elapsed() < lease + Duration::from_secs(2), "{:?}", died.elapsed());
    assert_eq!(numbers().await, (1, 1));
}

fn present(client: &str) -> Arc<ClientInfo> {
    Arc::new(ClientInfo { client: client.into(), user: "u".into(), ..Default::default() })
}

/// Waits until those are present, and nobody else.
async fn presence_is(node: &Node, channel: &ChannelName, clients: &[&str]) {
    let begun = Instant::now();
    loop {
        let seen = node.engine.presence(channel).await.unwrap_or_default();
        let seen: Vec<_> = seen.iter().map(|info| info.client.as_str()).collect();
        if seen == clients {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "{seen:?} are present instead of {clients:?}");
    }
}

/// A client that left while Redis was down would be present until its entry's own time is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_p1_who_leaves_while_redis_is_down_is_gone_once_it_is_back() {
    let mut server =
        Start::new(Flavour::Redis).with(&["--appendonly", "yes", "--appendfsync", "always"]).run();
    let lease = Duration::from_millis(600);
    let options = Options {
        topology: only(&server),
        node_lease: lease,
        io_timeout: Duration::from_millis(300),
        ..Options::default()
    };
    let node = Node::with(options).await;
    let c = ChannelName::from("c");
    let hour = Duration::from_secs(3_600);
    for client in ["comes back", "leaves", "stays"] {
        node.engine.presence_add(&c, present(client), hour).await.expect("added");
    }
    server.kill();
    for client in ["comes back", "leaves"] {
        node.engine.presence_remove(&c, client).await.expect_err("nobody can be asked");
    }
    server.start_again();
    let begun = Instant::now();
    while let Err(error) = node.engine.presence_add(&c, present("comes back"), hour).await {
        assert!(begun.elapsed() < PATIENCE, "{error}");
    }
    presence_is(&node, &c, &["comes back", "stays"]).await;
    // Through several rounds of making up for removals.
    tokio::time::sleep(2 * lease).await;
    presence_is(&node, &c, &["comes back", "stays"]).await;
}

/// A server that stood still does what it was asked long ago, for callers who were told that it failed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_p1_who_was_refused_is_not_present_after_all() {
    let server = Start::new(Flavour::Redis).run();
    let soon = Duration::from_millis(300);
    let lease = Duration::from_millis(600);
    let options =
        Options { topology: only(&server), node_lease: lease, io_timeout: soon, ..Options::default() };
    let node = Node::with(options).await;
    let c = ChannelName::from("c");
    let hour = Duration::from_secs(3_600);
    node.engine.presence_add(&c, present("stays"), hour).await.expect("added");
    server.pause();
    node.engine.presence_add(&c, present("refused"), hour).await.expect_err("nobody answers");
    node.engine.presence_forget(&c, "refused");
    server.resume();
    presence_is(&node, &c, &["stays"]).await;
    tokio::time::sleep(2 * lease).await;
    presence_is(&node, &c, &["stays"]).await;
}

/// Counts; a recorder would make a hundred thousand notes.
#[derive(Default)]
struct Losses {
    channels: Mutex<HashSet<ChannelName>>,
    changed: Notify,
}

impl Announcements for Losses {
    fn publication(
        &self,
        _: &ChannelName,
        _: Arc<Publication>,
        _: Option<&Epoch>,
        _: Option<Arc<Publication>>,
    ) {
    }
    fn join(&self, _: &ChannelName, _: Arc<ClientInfo>) {}
    fn leave(&self, _: &ChannelName, _: Arc<ClientInfo>) {}
    fn lost(&self, channel: &ChannelName) {
        self.channels.lock().expect("no panic").insert(channel.clone());
        self.changed.notify_one();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_channels_are_subscribed_again_in_seconds() {
    const COUNT: usize = 100_000;
    let server = Start::new(Flavour::Redis).run();
    let engine =
        RedisEngine::start(&Options { topology: only(&server), io_timeout: PATIENCE, ..Options::default() })
            .expect("an engine");
    let losses = Arc::new(Losses::default());
    engine.attach(losses.clone());
    engine.connected(PATIENCE).await.expect("a server");
    let channels: Vec<_> = (0..COUNT).map(|n| ChannelName::from(format!("channel:{n}"))).collect();
    let begun = Instant::now();
    engine.subscribe(&channels).await.expect("subscribed");
    let subscribed = begun.elapsed();
    let commands = |server: &tidewire_redis_testkit::Server| {
        let stats = server.ask(&["INFO", "commandstats"]);
        let calls =
            stats.info("cmdstat_subscribe").split(',').next().and_then(|calls| calls.strip_prefix("calls="));
        calls.and_then(|calls| calls.parse::<usize>().ok()).expect("a number of calls")
    };
    let before = commands(&server);
    let begun = Instant::now();
    server.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    while losses.channels.lock().expect("no panic").len() < COUNT {
        losses.changed.notified().await;
        assert!(begun.elapsed() < PATIENCE, "not all are back");
    }
    println!("subscribed in {subscribed:?}, again in {:?}", begun.elapsed());
    assert!(commands(&server) - before <= COUNT / 500, "{} commands", commands(&server) - before);
}
