//! Whichever node a client is at, and whichever is asked: all say the same.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tidewire_redis_testkit::{Cluster, Flavour, Replicated, Start};

use crate::fleet::user;
use crate::record::Seen;
use crate::redis_trouble::{on_cluster, under_sentinel};
use crate::rig::{NODES, eventually};
use crate::scene::{CLIENTS, LOGS, PLAIN, Scene};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_d3_nodes_on_one_redis_agree() {
    let redis = Start::new(Flavour::Redis).run();
    all_agree(&json!({ "address": [redis.address()] })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_d3_nodes_that_share_channels_over_two_valkeys_agree() {
    let (one, other) = (Start::new(Flavour::Valkey).run(), Start::new(Flavour::Valkey).run());
    all_agree(&json!({ "address": [one.address(), other.address()] })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_d3_nodes_under_sentinel_agree() {
    let servers = Replicated::start(Flavour::Redis, 2);
    all_agree(&under_sentinel(&servers)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_d3_nodes_on_a_cluster_agree() {
    let cluster = Cluster::start(Flavour::Redis, 3);
    all_agree(&on_cluster(&cluster)).await;
}

async fn all_agree(redis: &Value) {
    let mut scene = Scene::start(redis, false).await;
    presence_is_the_same(&scene).await;
    scene.traffic().await;
    scene.publishing_goes_on().await;
    scene.quiet().await;
    scene.all_arrive().await;
    history_is_the_same(&scene).await;
    lists_are_the_same(&scene).await;
    subscribed_by_a_node(&scene).await;
    unsubscribed_by_a_node(&scene).await;
    disconnected_by_a_node(&scene).await;
    let outcome = scene.finish().await;
    assert_eq!(outcome.report.told.resets, 0, "nothing was done to anyone");
}

/// By every node's API, and as clients of every node are told.
async fn presence_is_the_same(scene: &Scene) {
    for channel in [LOGS[0], PLAIN] {
        let ids = scene.fleet.record.look(|seen| seen.ids_in(channel)).unwrap();
        let users: BTreeSet<String> =
            scene.fleet.record.look(|seen| seen.views_of(channel).map(|(client, _)| user(client)).collect());
        for node in 0..NODES {
            assert_eq!(scene.nodes.presence(node, channel).await.unwrap(), ids);
            let stats = scene.nodes.call(node, "presence_stats", json!({ "channel": channel })).await;
            assert_eq!(stats, json!({ "num_clients": ids.len(), "num_users": users.len() }));
            let told = scene.fleet.ask(node as u32, "presence", PLAIN).await;
            assert_eq!(told["ids"].as_array().map(Vec::len), Some(CLIENTS as usize));
            let told = scene.fleet.ask(node as u32, "presenceStats", PLAIN).await;
            assert_eq!((told["numClients"].as_u64(), told["numUsers"].as_u64()), (Some(9), Some(3)));
        }
    }
}

async fn history_is_the_same(scene: &Scene) {
    for channel in LOGS {
        let all = json!({ "channel": channel, "limit": -1 });
        let first = scene.nodes.call(0, "history", all.clone()).await;
        assert!(!first["publications"].as_array().unwrap().is_empty());
        for node in 1..NODES {
            assert_eq!(scene.nodes.call(node, "history", all.clone()).await, first);
        }
    }
    let read = scene.nodes.call(0, "history", json!({ "channel": LOGS[0], "limit": -1 })).await;
    let count = read["publications"].as_array().map(Vec::len);
    let told = scene.fleet.ask(0, "history", LOGS[0]).await;
    assert_eq!(told["publications"].as_array().map(Vec::len), count);
    assert_eq!(told["position"]["offset"], read["offset"]);
}

async fn lists_are_the_same(scene: &Scene) {
    let subscribers = |channel: &str| scene.fleet.record.look(|seen| seen.views_of(channel).count());
    for node in 0..NODES {
        let info = scene.nodes.call(node, "info", json!({})).await;
        let nodes = info["nodes"].as_array().unwrap();
        let names: BTreeSet<_> = nodes.iter().filter_map(|node| node["name"].as_str()).collect();
        assert_eq!(names, BTreeSet::from(["node-0", "node-1", "node-2"]));
        // What a node says of itself goes round with its heartbeat.
        eventually("every node knows how many clients there are", async || {
            let info = scene.nodes.call(node, "info", json!({})).await;
            let count = |node: &Value| node["num_clients"].as_u64().unwrap_or_default();
            let counts: Vec<_> = info["nodes"].as_array().unwrap().iter().map(count).collect();
            if counts == [3, 3, 3] { Ok(()) } else { Err(counts) }
        })
        .await;
        let channels = scene.nodes.call(node, "channels", json!({})).await;
        for channel in LOGS.iter().chain([&PLAIN]) {
            let count = channels["channels"][channel]["num_clients"].as_u64();
            assert_eq!(count, Some(subscribers(channel) as u64), "{channel}: {channels}");
        }
        assert_eq!(channels["channels"].as_object().map(serde_json::Map::len), Some(LOGS.len() + 1));
        let some = scene.nodes.call(node, "channels", json!({ "pattern": "plain:*" })).await;
        assert_eq!(some, json!({ "channels": { PLAIN: { "num_clients": CLIENTS } } }));
    }
}

/// One node is asked; a user's clients at all nodes are subscribed, and hear what a third node publishes.
async fn subscribed_by_a_node(scene: &Scene) {
    let channel = "log:by-server";
    scene.nodes.call(1, "subscribe", json!({ "user": user(0), "channel": channel })).await;
    let published = scene.nodes.call(2, "publish", json!({ "channel": channel, "data": {} })).await;
    let clients = BTreeSet::from([0, 1, 2]);
    let heard = |seen: &Seen| {
        let of =
            |(client, at, offset): &(u32, String, u64)| (at == channel && *offset == 1).then_some(*client);
        let heard: BTreeSet<u32> = seen.server_side.iter().filter_map(of).collect();
        (heard == clients).then_some(())
    };
    scene.fleet.record.until("clients of one user at all nodes are subscribed", heard).await;
    assert_eq!(published["offset"], 1);
    assert_eq!(scene.nodes.presence(0, channel).await.unwrap().len(), clients.len());
}

async fn unsubscribed_by_a_node(scene: &Scene) {
    scene.nodes.call(2, "unsubscribe", json!({ "user": user(3), "channel": PLAIN })).await;
    let ended = |seen: &Seen| {
        let view = |client: u32| &seen.views[&(client, PLAIN.to_owned())];
        let all_gone = [3, 4, 5].iter().all(|client| view(*client).ends == [2000]);
        assert!([0, 1, 2, 6, 7, 8].iter().all(|client| view(*client).live));
        all_gone.then_some(())
    };
    scene.fleet.record.until("one user's clients are unsubscribed", ended).await;
    for node in 0..NODES {
        let stats = scene.nodes.call(node, "presence_stats", json!({ "channel": PLAIN })).await;
        assert_eq!(stats, json!({ "num_clients": 6, "num_users": 2 }));
    }
}

async fn disconnected_by_a_node(scene: &Scene) {
    scene.nodes.call(0, "disconnect", json!({ "user": user(6) })).await;
    let gone = |seen: &Seen| [6, 7, 8].iter().all(|client| seen.members[client].ends == [3503]).then_some(());
    scene.fleet.record.until("one user's clients are disconnected", gone).await;
    let others =
        |seen: &Seen| (0..6).collect::<Vec<u32>>().iter().all(|client| seen.members[client].ends.is_empty());
    assert!(scene.fleet.record.look(others), "others were disconnected");
}
