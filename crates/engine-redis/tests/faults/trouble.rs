//! Servers that do not answer, or refuse.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidewire_engine::{Broker, Bus, BusReceiver, Engine, PresenceStore, Recipients};
use tidewire_engine_redis::{Error, Options};
use tidewire_protocol::{ChannelName, ClientInfo};
use tidewire_redis_testkit::{Flavour, Replicated, Start};

use crate::rig::{Node, PATIENCE, kept, only};

const SOON: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stands_still_fails_calls_in_time_and_needs_no_restart_after() {
    let server = Start::new(Flavour::Redis).run();
    let options =
        Options { topology: only(&server), io_timeout: SOON, connect_timeout: SOON, ..Options::default() };
    let node = Node::with(options).await;
    let c = ChannelName::from("c");
    node.subscribe(&c).await;
    let position = node.publish(&c, "before").await;
    server.pause();
    let begun = Instant::now();
    let error = node.try_publish(&c, "never").await.expect_err("nobody answers");
    assert!(begun.elapsed() < 4 * SOON, "{:?}: {error}", begun.elapsed());
    assert!(node.engine.ready().await.is_err());
    let refused = node.engine.subscribe(&["other".into()]).await;
    assert!(refused.is_err());
    server.resume();
    let after = node.publish_until_it_works(&c, "after").await;
    assert_eq!(after.epoch, position.epoch, "nothing was lost in between");
    node.lost(&c, 1).await;
    node.publish(&c, "heard").await;
    node.hears(&c, "heard").await;
    node.engine.ready().await.expect("all is well again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_d3_publishes_during_a_pause_come_after_it_in_order() {
    let server = Start::new(Flavour::Redis).run();
    let node = Node::on(&server).await;
    let c = ChannelName::from("c");
    node.subscribe(&c).await;
    server.ask(&["CLIENT", "PAUSE", "300", "ALL"]);
    for n in 1..=5 {
        assert_eq!(node.publish(&c, &n.to_string()).await.offset, n);
    }
    node.recorder.hear(&c, 5).await;
    node.hears(&c, "5").await;
    assert_eq!(node.engine.counters().channels_lost, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_takes_no_writes_is_found_before_it_is_used() {
    for flavour in [Flavour::Redis, Flavour::Valkey] {
        let server = Start::new(flavour).with(&["--maxmemory-policy", "noeviction"]).run();
        let node = Node::on(&server).await;
        node.engine.writable().await.expect("there is room");
        server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
        let error = node.engine.writable().await.expect_err("there is no room");
        assert_eq!(error.code(), "OOM");
        assert!(error.next_step().is_some_and(|step| step.contains("maxmemory")), "{error}");
        server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
        server.ask(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
        let error = node.engine.writable().await.expect_err("there are no replicas");
        assert_eq!(error.code(), "NOREPLICAS");
    }
}

/// A lease is a few bytes and a renewal none, but the commands that write them are among those that a full server refuses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_p1_who_is_present_stays_so_while_the_server_is_full() {
    for flavour in [Flavour::Redis, Flavour::Valkey] {
        let server = Start::new(flavour).with(&["--maxmemory-policy", "noeviction"]).run();
        let lease = Duration::from_millis(600);
        let options = Options { topology: only(&server), node_lease: lease, ..Options::default() };
        let node = Node::with(options).await;
        let c = ChannelName::from("c");
        let client = |client: &str| {
            Arc::new(ClientInfo { client: client.into(), user: client.into(), ..Default::default() })
        };
        let ttl = Duration::from_secs(1);
        node.engine.presence_add(&c, client("stays"), ttl).await.expect("added");
        node.engine.presence_add(&c, client("leaves"), ttl).await.expect("added");
        server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
        node.engine.presence_remove(&c, "leaves").await.expect("removed");
        let begun = Instant::now();
        while begun.elapsed() < 3 * ttl {
            node.engine.presence_add(&c, client("stays"), ttl).await.expect("renewed");
            let refused = node.engine.presence_add(&c, client("new"), ttl).await;
            assert!(refused.is_err_and(|error| error.to_string().contains("OOM")));
            tokio::time::sleep(ttl / 5).await;
        }
        // A busy machine may be late for once, which hides entries until the next time.
        let begun = Instant::now();
        loop {
            node.engine.presence_add(&c, client("stays"), ttl).await.expect("renewed");
            let stats = node.engine.presence_stats(&c).await.expect("read");
            if (stats.clients, stats.users) == (1, 1) {
                break;
            }
            assert!(begun.elapsed() < PATIENCE, "who is present is not seen any more: {stats:?}");
        }
    }
}

/// Nobody asks for the channel again but the node itself: its subscribers do not know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_d4_a_channel_whose_announcements_are_refused_for_a_while_is_heard_again() {
    let server = Start::new(Flavour::Redis).run();
    let node = Node::on(&server).await;
    let c = ChannelName::from("c");
    node.subscribe(&c).await;
    // Redis cuts whoever listens to what he may not any more; the node comes back and is refused.
    let errors = node.engine.counters().errors;
    server.ask(&["ACL", "SETUSER", "default", "resetchannels"]);
    let begun = Instant::now();
    while node.engine.counters().errors == errors {
        assert!(begun.elapsed() < PATIENCE, "no subscription was refused");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    server.ask(&["ACL", "SETUSER", "default", "allchannels"]);
    node.lost(&c, 1).await;
    node.publish(&c, "heard").await;
    node.hears(&c, "heard").await;
}

/// Its streams go on in a new epoch, which is written down when they are read first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_d2_streams_of_a_server_that_comes_back_full_can_be_read() {
    for flavour in [Flavour::Redis, Flavour::Valkey] {
        let options = ["--maxmemory-policy", "noeviction", "--appendonly", "yes", "--appendfsync", "always"];
        let mut server = Start::new(flavour).with(&options).run();
        let node = Node::on(&server).await;
        let c = ChannelName::from("c");
        let before = node.publish(&c, "before").await;
        server.kill();
        server.start_again();
        server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
        let (texts, top) = node.read(&c).await;
        assert_eq!((texts, top.offset), (vec!["before".to_owned()], before.offset));
        assert_ne!(top.epoch, before.epoch);
        let error = node.try_publish(&c, "too much").await.expect_err("there is no room");
        assert!(error.to_string().contains("OOM"), "{error}");
        assert_eq!(node.read(&c).await.1, top, "once is enough");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_refuses_publishes_with_its_reason_and_reads_go_on() {
    let server = Start::new(Flavour::Redis).with(&["--maxmemory-policy", "noeviction"]).run();
    let node = Node::on(&server).await;
    let c = ChannelName::from("c");
    node.subscribe(&c).await;
    let before = node.publish(&c, "before").await;
    server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    let error = node.try_publish(&c, "too much").await.expect_err("there is no room");
    assert!(error.to_string().contains("OOM"), "{error}");
    assert_eq!(node.read(&c).await, (vec!["before".to_owned()], before.clone()));
    server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    let next = node.publish(&c, "after").await;
    assert_eq!((next.offset, next.epoch), (before.offset + 1, before.epoch));
    node.recorder.hear(&c, 2).await;
    node.hears(&c, "after").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_a_server_forgot_are_loaded_again() {
    let server = Start::new(Flavour::Redis).run();
    let node = Node::on(&server).await;
    let c = ChannelName::from("c");
    assert_eq!(node.publish(&c, "1").await.offset, 1);
    server.ask(&["SCRIPT", "FLUSH"]);
    assert_eq!(node.publish(&c, "2").await.offset, 2);
    assert_eq!(node.engine.counters().scripts_loaded_again, 1);
}

/// It was asked again and again, for as long as the call lasted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn scripts_that_may_not_be_loaded_again_are_asked_for_once() {
    let server = Start::new(Flavour::Redis).run();
    let node = Node::on(&server).await;
    let c = ChannelName::from("c");
    node.publish(&c, "1").await;
    server.ask(&["SCRIPT", "FLUSH"]);
    server.ask(&["ACL", "SETUSER", "default", "-script"]);
    let error = node.try_publish(&c, "2").await.expect_err("there is no script");
    assert!(error.to_string().contains("NOSCRIPT"), "{error}");
    assert_eq!(node.engine.counters().scripts_loaded_again, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_d5_a_publish_with_a_key_is_repeated_over_a_broken_connection_and_made_once() {
    let server = Start::new(Flavour::Redis).run();
    let node = Node::on(&server).await;
    let c = ChannelName::from("c");
    for n in 1..=8 {
        let new = tidewire_engine::NewPublication { idempotency_key: n.to_string(), ..kept(&n.to_string()) };
        let publish = node.engine.publish(&c, new);
        let break_it = async { server.ask(&["CLIENT", "KILL", "TYPE", "normal"]) };
        let (published, _) = tokio::join!(publish, break_it);
        let published = published.unwrap_or_else(|error| panic!("{n}: {error}"));
        assert_eq!(published.position.expect("a position").offset, n);
    }
    assert_eq!(node.read(&c).await.0.len(), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_that_waits_for_replicas_is_told_when_they_do_not_have_it() {
    let servers = Replicated::start(Flavour::Redis, 1);
    let options = Options {
        topology: only(&servers.servers[0]),
        replicas_min: 1,
        replicas_timeout: Duration::from_secs(1),
        ..Options::default()
    };
    let node = Node::with(options).await;
    let c = ChannelName::from("c");
    for n in 1..=5 {
        assert_eq!(node.publish(&c, "kept twice").await.offset, n);
    }
    servers.servers[1].pause();
    let error = node.try_publish(&c, "kept once").await.expect_err("the replica stands still");
    assert!(error.to_string().contains("kept by 0 of 1 replicas"), "{error}");
    servers.servers[1].resume();
    assert_eq!(node.publish_until_it_works(&c, "kept twice again").await.offset, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_hear_each_other_and_clients_cannot_speak_there() {
    #[derive(Default)]
    struct Heard(tokio::sync::Notify, std::sync::Mutex<Vec<bytes::Bytes>>);
    impl BusReceiver for Heard {
        fn receive(&self, message: bytes::Bytes) {
            self.1.lock().expect("no panic").push(message);
            self.0.notify_one();
        }
    }
    let server = Start::new(Flavour::Redis).run();
    let (one, other) = (Node::on(&server).await, Node::on(&server).await);
    let (to_one, to_other) = (std::sync::Arc::new(Heard::default()), std::sync::Arc::new(Heard::default()));
    let (id_one, id_other) = (uuid::Uuid::from_u128(1), uuid::Uuid::from_u128(2));
    let bus = |node: &Node| -> std::sync::Arc<Heard> {
        if std::ptr::eq(node, &one) { to_one.clone() } else { to_other.clone() }
    };
    one.engine.join(id_one, bus(&one));
    other.engine.join(id_other, bus(&other));
    let heard = async |by: &Heard, message: &'static [u8]| {
        let begun = Instant::now();
        while !by.1.lock().expect("no panic").iter().any(|heard| heard == message) {
            // Joining is not waited for, so the first words may come too early.
            one.engine.send(Recipients::Others, "to all".into()).await.expect("sent");
            one.engine.send(Recipients::One(id_other), "to one".into()).await.expect("sent");
            let _ = tokio::time::timeout(Duration::from_millis(50), by.0.notified()).await;
            assert!(begun.elapsed() < PATIENCE, "{message:?} is not heard");
        }
    };
    heard(&to_other, b"to one").await;
    heard(&to_other, b"to all").await;
    assert!(!to_one.1.lock().expect("no panic").iter().any(|heard| heard == &b"to one"[..]));
    assert!(one.engine.publish(&"\0bus".into(), kept("forged")).await.is_err());
    assert!(one.engine.subscribe(&["\0bus".into()]).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_never_answers_is_given_up_on_in_time() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("bound").port();
    let options = Options {
        topology: tidewire_engine_redis::Topology::Servers(vec![tidewire_engine_redis::Address::tcp(
            "127.0.0.1",
            port,
        )]),
        connect_timeout: Duration::from_millis(100),
        io_timeout: SOON,
        ..Options::default()
    };
    let engine = tidewire_engine_redis::RedisEngine::start(&options).expect("options that can be used");
    let begun = Instant::now();
    let error = engine.connected(SOON).await.expect_err("nobody answers");
    assert!(matches!(error, Error::Connect { .. }) && !error.is_permanent(), "{error}");
    assert!(engine.publish(&"c".into(), kept("x")).await.is_err());
    assert!(begun.elapsed() < 8 * SOON, "{:?}", begun.elapsed());
}
