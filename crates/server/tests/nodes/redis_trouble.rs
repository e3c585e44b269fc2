//! Things done to Redis while clients publish and subscribe at three nodes.
//!
//! After each, no node has been restarted, all are ready, publications flow everywhere, presence is who is there, and
//! what a client has missed of a channel with history it was told of: the checker finds no hole without a word.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidewire_redis_testkit::{Answer, Cluster, Flavour, Replicated, Server, Start};

use crate::SLACK;
use crate::rig::{Metrics, NODES, PRESENCE_EVERY, eventually};
use crate::scene::{LOGS, Outcome, PLAIN, Scene};
use crate::watch::Watch;

pub(crate) fn under_sentinel(servers: &Replicated) -> Value {
    let sentinels: Vec<_> = servers.sentinels.iter().map(Server::address).collect();
    json!({ "sentinel_address": sentinels, "sentinel_master_name": servers.name() })
}

pub(crate) fn on_cluster(cluster: &Cluster) -> Value {
    // Any of them will do; the others are found by them.
    json!({ "cluster_address": [cluster.servers[0].address(), cluster.servers[1].address()] })
}

fn on(redis: &Server) -> Value {
    json!({ "address": [redis.address()] })
}

/// How often the trouble comes in one run.
fn rounds() -> usize {
    let text = std::env::var("TIDEWIRE_NODES_ROUNDS").unwrap_or_default();
    if text.is_empty() { 1 } else { text.parse().expect("TIDEWIRE_NODES_ROUNDS is a number") }
}

/// Runs a trouble under traffic, once for each round. `counted`: counters that rise with it, all nodes together.
async fn survive(redis: &Value, counted: &[&str], mut trouble: impl AsyncFnMut(&Scene, &Watch)) -> Outcome {
    let mut scene = Scene::start(redis, false).await;
    scene.traffic().await;
    for round in 0..rounds() {
        let before = scene.nodes.metrics().await;
        let watch = Watch::start(&scene.nodes.addresses);
        trouble(&scene, &watch).await;
        let over = Instant::now();
        scene.nodes.all_ready(200).await;
        let ready = over.elapsed();
        scene.publishing_goes_on().await;
        println!("round {round}: ready {ready:?} and publishing {:?} after the trouble", over.elapsed());
        watch.finish().await;
        let after = scene.nodes.metrics().await;
        for name in counted {
            assert!(after.sum(name) > before.sum(name), "{name} has not risen");
        }
    }
    scene.quiet().await;
    scene.all_live().await;
    presence_converges(&scene).await;
    let metrics = scene.nodes.metrics().await;
    let refused = scene.fleet.record.look(|seen| seen.views.values().map(|view| view.refused).sum::<usize>());
    let failed = scene.fleet.record.look(|seen| seen.failed);
    let outcome = scene.finish().await;
    what_was_told_is_counted(&metrics, refused);
    println!("{}refused to the API {}, to clients {failed}", outcome.report, outcome.refused);
    outcome
}

async fn presence_converges(scene: &Scene) {
    let begun = Instant::now();
    for channel in LOGS.into_iter().chain([PLAIN]) {
        let ids = scene.fleet.record.look(|seen| seen.ids_in(channel)).unwrap();
        for node in 0..NODES {
            eventually("presence is who is there", async || {
                let present = scene.nodes.presence(node, channel).await?;
                if present == ids { Ok(()) } else { Err(format!("{present:?} instead of {ids:?}")) }
            })
            .await;
        }
    }
    assert!(begun.elapsed() < PRESENCE_EVERY + SLACK, "{:?}", begun.elapsed());
}

/// Whoever was told that something is missing has been counted by a node.
fn what_was_told_is_counted(metrics: &Metrics, refused: usize) {
    let counted = metrics.sum("tidewire_unrecovered_total");
    assert!(counted >= refused as f64, "{refused} were told, {counted} are counted");
    assert_eq!(metrics.sum("tidewire_bus_unreadable_total"), 0.0);
    assert_eq!(metrics.sum("tidewire_redis_announcements_malformed_total"), 0.0);
}

const DISCONNECTS: &str = "tidewire_redis_disconnects_total";
const CHANNELS_LOST: &str = "tidewire_redis_channels_lost_total";
const EPOCHS_RENEWED: &str = "tidewire_redis_epochs_renewed_total";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_d2_redis_is_killed_and_comes_back_with_nothing() {
    let mut redis = Start::new(Flavour::Redis).run();
    let outcome = survive(&on(&redis), &[DISCONNECTS, CHANNELS_LOST], async |_, watch| {
        redis.kill();
        watch.all_fall().await;
        redis.start_again();
    })
    .await;
    assert!(outcome.report.told.resets > 0, "what is gone was not told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_d2_valkey_is_killed_and_comes_back_with_its_log() {
    let mut redis =
        Start::new(Flavour::Valkey).with(&["--appendonly", "yes", "--appendfsync", "always"]).run();
    survive(&on(&redis), &[DISCONNECTS, CHANNELS_LOST, EPOCHS_RENEWED], async |scene, watch| {
        let before = scene.nodes.head(0, LOGS[0]).await;
        redis.kill();
        watch.all_fall().await;
        // Its presence is owed to the others.
        scene.fleet.leave(8);
        redis.start_again();
        scene.nodes.all_ready(200).await;
        let after = scene.nodes.head(0, LOGS[0]).await;
        assert_ne!(after.epoch, before.epoch, "nobody can know that nothing was lost");
        assert!(after.offset >= before.offset, "what had been acknowledged is not in the log");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_d2_redis_stands_still_for_ten_seconds() {
    let redis = Start::new(Flavour::Redis).run();
    let counted = [DISCONNECTS, CHANNELS_LOST, "tidewire_redis_timeouts_total"];
    let outcome = survive(&on(&redis), &counted, async |_, watch| {
        redis.pause();
        tokio::time::sleep(Duration::from_secs(10)).await;
        watch.all_fall().await;
        redis.resume();
    })
    .await;
    assert_eq!(outcome.report.told.resets, 0, "nothing was lost:\n{}", outcome.report);
}

/// Longer than a call may take: connections are given up, and made again while nobody answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_d1_clients_of_redis_are_paused() {
    let redis = Start::new(Flavour::Redis).run();
    let counted = [DISCONNECTS, CHANNELS_LOST, "tidewire_redis_timeouts_total"];
    let outcome = survive(&on(&redis), &counted, async |_, watch| {
        redis.ask(&["CLIENT", "PAUSE", "5000", "ALL"]);
        watch.all_fall().await;
    })
    .await;
    assert_eq!(outcome.report.told.resets, 0, "nothing was lost:\n{}", outcome.report);
}

/// Only the connections that bring announcements: what is published meanwhile is read from history.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_d4_announcements_are_cut_off_again_and_again() {
    let redis = Start::new(Flavour::Valkey).run();
    let outcome = survive(&on(&redis), &[DISCONNECTS, CHANNELS_LOST], async |scene, _| {
        for _ in 0..5 {
            redis.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
            scene.publishing_goes_on().await;
        }
    })
    .await;
    assert_eq!(outcome.report.told.resets, 0, "nothing was lost:\n{}", outcome.report);
}

/// No connection breaks, and everything is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_d2_redis_is_emptied_under_its_nodes() {
    let redis = Start::new(Flavour::Redis).run();
    let outcome = survive(&on(&redis), &["tidewire_redis_scripts_loaded_again_total"], async |scene, _| {
        redis.ask(&["FLUSHALL"]);
        redis.ask(&["SCRIPT", "FLUSH"]);
        scene.publishing_goes_on().await;
    })
    .await;
    assert!(outcome.report.told.resets > 0, "what is gone was not told");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_d2_sentinel_promotes_a_replica() {
    let mut servers = Replicated::start(Flavour::Redis, 2);
    let redis = under_sentinel(&servers);
    // Nobody is to be promoted but for our doing, however busy the machine is.
    let (never, at_once) = (Duration::from_secs(3_600), Duration::from_millis(500));
    servers.set_patience(never);
    survive(&redis, &[DISCONNECTS, CHANNELS_LOST, EPOCHS_RENEWED], async |_, watch| {
        let old = servers.primary();
        // Else it may be over before a busy machine has noticed.
        servers.sentinels[0].pause();
        servers.servers[old].kill();
        watch.all_fall().await;
        servers.sentinels[0].resume();
        servers.set_patience(at_once);
        let new = tokio::task::block_in_place(|| servers.wait_for_another(old));
        servers.set_patience(never);
        // It comes back as the primary that it was, and Sentinel or we make a replica of it.
        servers.servers[old].start_again();
        let port = servers.servers[new].port().to_string();
        servers.servers[old].ask(&["REPLICAOF", "127.0.0.1", &port]);
        becomes_a_replica(&servers.servers[old]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_d2_a_primary_of_a_cluster_is_lost() {
    let mut cluster = Cluster::start(Flavour::Redis, 3);
    let redis = on_cluster(&cluster);
    survive(&redis, &[DISCONNECTS, CHANNELS_LOST, EPOCHS_RENEWED], async |_, watch| {
        let key = log_of(LOGS[0], &cluster);
        let old = cluster.owner(&key);
        // Else it may be over before a busy machine has noticed.
        let replica = cluster.replica_of(old);
        cluster.servers[replica].pause();
        cluster.servers[old].kill();
        watch.all_fall().await;
        cluster.servers[replica].resume();
        eventually("another owns the slot", async || match cluster.owner(&key) {
            same if same == old => Err(same),
            other => Ok(other),
        })
        .await;
        cluster.servers[old].start_again();
        becomes_a_replica(&cluster.servers[old]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_d2_slots_of_a_cluster_move_during_traffic() {
    let cluster = Cluster::start(Flavour::Valkey, 3);
    let redis = on_cluster(&cluster);
    let counted = [CHANNELS_LOST, EPOCHS_RENEWED, "tidewire_redis_redirections_total"];
    survive(&redis, &counted, async |scene, _| {
        for log in [LOGS[0], LOGS[1]] {
            let key = log_of(log, &cluster);
            let from = cluster.owner(&key);
            let to = (0..3).find(|server| *server != from).unwrap();
            cluster.migrate(&key, from, to);
            assert_eq!(cluster.owner(&key), to);
            scene.publishing_goes_on().await;
        }
    })
    .await;
}

/// A server that was a primary finds its place, so that the next round has somebody to fail over to.
fn becomes_a_replica(server: &Server) {
    server.wait_for(&["INFO", "replication"], |info| {
        info.info("role") == "slave" && info.info("master_link_status") == "up"
    });
}

/// The name of a channel's history in a cluster, as it stands there.
fn log_of(channel: &str, cluster: &Cluster) -> String {
    let pattern = format!("centrifugo.tw.*.l.{channel}");
    let keys = cluster.servers.iter().filter_map(|server| {
        match tidewire_redis_testkit::ask(server.port(), &["KEYS", &pattern]) {
            Ok(Answer::List(keys)) => keys.first().map(|key| key.text().to_owned()),
            _ => None,
        }
    });
    keys.into_iter().next().expect("a channel with history")
}
