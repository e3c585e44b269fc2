//! A node is killed under its clients.

use std::time::Instant;

use serde_json::json;
use tidewire_redis_testkit::{Flavour, Server, Start};

use crate::rig::{LEASE, NODES, PRESENCE_EVERY, eventually};
use crate::scene::{PLAIN, Scene};
use crate::{PATIENCE, SLACK};

/// Its clients go on at other nodes with nothing lost and nothing twice; to everybody else nothing happens.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_d1_clients_of_a_killed_node_come_back_on_others_without_loss() {
    let redis = Start::new(Flavour::Redis).run();
    let mut scene = Scene::start(&json!({ "address": [redis.address()] }), true).await;
    scene.traffic().await;
    let ids = |scene: &Scene| scene.fleet.record.look(|seen| seen.ids_in(PLAIN)).unwrap();
    let before = ids(&scene);
    scene.nodes.kill(1);
    // Three of nine were there, and nobody else has to connect again.
    let connects = |seen: &crate::record::Seen| {
        let moved: Vec<_> = seen.members.iter().filter(|(_, member)| member.connects > 1).collect();
        (moved.len() == 3 && seen.all_live())
            .then(|| moved.iter().map(|(client, _)| **client).collect::<Vec<_>>())
    };
    let moved = scene.fleet.record.until("three clients are back", connects).await;
    scene.publishing_goes_on().await;
    let recovered = scene.fleet.record.look(|seen| {
        let views =
            seen.views.iter().filter(|((client, channel), _)| moved.contains(client) && channel != PLAIN);
        views.map(|(_, view)| view.recovered).collect::<Vec<_>>()
    });
    assert!(recovered.iter().all(|count| *count > 0), "{recovered:?}");
    let after = ids(&scene);
    assert_eq!(before.iter().filter(|id| !after.contains(id)).count(), 3);
    // The registry forgets it, and what is asked of all is answered without it.
    scene.nodes.know_each_other(NODES - 1).await;
    let outcome = scene.finish().await;
    assert_eq!(outcome.report.told.resets, 0, "nobody has lost anything:\n{}", outcome.report);
    println!("{}", outcome.report);
}

/// Entries of the dead node are seen as long as its lease lasts by the clock of Redis, and not a moment longer or less.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_p1_presence_of_a_killed_node_is_gone_with_its_lease_and_not_before() {
    let redis = Start::new(Flavour::Redis).run();
    let mut scene = Scene::start(&json!({ "address": [redis.address()] }), false).await;
    let channel = PLAIN;
    let ids = scene.fleet.record.look(|seen| {
        seen.views_of(channel)
            .map(|(client, _)| (client, seen.members[&client].id.clone().unwrap()))
            .collect::<Vec<_>>()
    });
    let (dead, alive): (Vec<_>, Vec<_>) = ids.into_iter().partition(|(client, _)| client % 3 == 1);
    assert!(!dead.is_empty() && !alive.is_empty());
    let node = node_of(&redis, channel, &dead[0].1);
    let killed = Instant::now();
    scene.nodes.kill(1);
    // Nobody prolongs it any more.
    let lease = lease_of(&redis, &node);
    let gone = loop {
        let asked = now(&redis);
        let present = scene.nodes.presence(0, channel).await.unwrap();
        let answered = now(&redis);
        assert!(alive.iter().all(|(_, id)| present.contains(id)), "entries of a living node are gone");
        let seen = dead.iter().filter(|(_, id)| present.contains(id)).count();
        if seen == 0 {
            assert!(answered >= lease, "gone {} ms before the lease was over", lease - answered);
            break killed.elapsed();
        }
        assert_eq!(seen, dead.len(), "entries of one node go together");
        assert!(asked < lease, "seen {} ms after the lease was over", asked - lease);
    };
    assert!(gone < LEASE + SLACK, "{gone:?} after its death entries of a node are still seen");
    println!("gone {gone:?} after the node was killed; its lease is {LEASE:?}");
    assert_eq!(scene.nodes.presence(2, channel).await.unwrap().len(), alive.len());
    let stats = scene.nodes.call(2, "presence_stats", json!({ "channel": channel })).await;
    assert_eq!(stats["num_clients"], alive.len());
}

/// A node that stood still for longer than its lease is present again, with no client having noticed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_p1_presence_of_a_node_that_stood_still_comes_back() {
    let redis = Start::new(Flavour::Redis).run();
    let scene = Scene::start(&json!({ "address": [redis.address()] }), false).await;
    let all = scene.fleet.record.look(|seen| seen.ids_in(PLAIN)).unwrap();
    scene.nodes.signal(1, "STOP");
    eventually("the node counts as dead", async || {
        let present = scene.nodes.presence(0, PLAIN).await?;
        if present.len() == 6 { Ok(()) } else { Err(format!("{present:?}")) }
    })
    .await;
    scene.nodes.signal(1, "CONT");
    let begun = Instant::now();
    eventually("all are present again", async || {
        let present = scene.nodes.presence(0, PLAIN).await?;
        if present == all { Ok(()) } else { Err(format!("{present:?}")) }
    })
    .await;
    assert!(begun.elapsed() < PRESENCE_EVERY + SLACK && begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    assert!(scene.fleet.record.look(|seen| seen.members.values().all(|member| member.connects == 1)));
    scene.finish().await;
}

/// The node that has made an entry, by what is kept in Redis: its letters come first.
fn node_of(redis: &Server, channel: &str, client: &str) -> String {
    let key = format!("centrifugo.tw.p.{channel}");
    redis.ask(&["HGET", &key, client]).text()[..16].to_owned()
}

/// Until when a node counts as alive, in milliseconds by the clock of Redis.
fn lease_of(redis: &Server, node: &str) -> u64 {
    redis.ask(&["ZSCORE", "centrifugo.tw.leases", node]).text().parse().unwrap()
}

/// That clock.
fn now(redis: &Server) -> u64 {
    let tidewire_redis_testkit::Answer::List(parts) = redis.ask(&["TIME"]) else { panic!("no time") };
    let part = |at: usize| parts[at].text().parse::<u64>().unwrap();
    part(0) * 1_000 + part(1) / 1_000
}
