//! Other servers take over.

use tidewire_engine::Broker;
use tidewire_engine::conformance::Announced;
use tidewire_engine_redis::{Options, Topology};
use tidewire_protocol::ChannelName;
use tidewire_redis_testkit::{Answer, Cluster, Flavour, Replicated};

use crate::rig::{Node, address};

fn under_sentinel(servers: &Replicated) -> Options {
    let sentinels = servers.sentinels.iter().map(address).collect();
    let topology = Topology::Sentinel { sentinels, names: vec![servers.name().to_owned()] };
    Options { topology, ..Options::default() }
}

fn on_cluster(cluster: &Cluster) -> Options {
    let seeds = cluster.servers.iter().map(address).collect();
    Options { topology: Topology::Cluster(seeds), ..Options::default() }
}

/// The replicas do not get the last publications, and one of them takes over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_d2_a_failover_that_lost_publications_is_told() {
    let mut servers = Replicated::start(Flavour::Redis, 2);
    let node = Node::with(under_sentinel(&servers)).await;
    let c = ChannelName::from("c");
    node.subscribe(&c).await;
    node.publish(&c, "1").await;
    for replica in &servers.servers[1..] {
        let offset = servers.servers[0].ask(&["INFO", "replication"]).info("master_repl_offset").to_owned();
        replica.wait_for(&["INFO", "replication"], |info| {
            info.info("slave_repl_offset").parse::<u64>().ok() >= offset.parse().ok()
        });
        replica.pause();
    }
    // A stopped process still gets what is on its way.
    servers.servers[0].ask(&["CLIENT", "KILL", "TYPE", "replica"]);
    let lost = node.publish(&c, "lost").await;
    servers.servers[0].kill();
    for replica in &servers.servers[1..] {
        replica.resume();
    }
    let next = node.publish_until_it_works(&c, "next").await;
    assert_ne!(servers.primary(), 0);
    assert_eq!(next.offset, lost.offset, "what was lost is given out again");
    assert_ne!(next.epoch, lost.epoch);
    assert_eq!(node.read(&c).await.0, ["1", "next"]);
    node.lost(&c, 1).await;
    node.publish(&c, "heard").await;
    node.hears(&c, "heard").await;
}

/// The primary stays where it is and answers, but is none any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_failover_is_followed() {
    let servers = Replicated::start(Flavour::Redis, 1);
    let node = Node::with(under_sentinel(&servers)).await;
    let c = ChannelName::from("c");
    node.subscribe(&c).await;
    node.publish(&c, "1").await;
    let sentinel = &servers.sentinels[0];
    sentinel
        .wait_for(&["SENTINEL", "FAILOVER", servers.name()], |answer| *answer == Answer::Text("OK".into()));
    sentinel.wait_for(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", servers.name()], |answer| match answer {
        Answer::List(parts) => parts[1].text() == servers.servers[1].port().to_string(),
        _ => false,
    });
    // Sentinel does not stop the old primary first: it may take this one and lose it.
    let second = node.publish_until_it_works(&c, "2").await;
    node.lost(&c, 1).await;
    let (texts, top) = node.read(&c).await;
    assert!(texts == ["1", "2"] || top.epoch != second.epoch, "{texts:?}");
    node.publish(&c, "heard").await;
    node.hears(&c, "heard").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_d2_the_loss_of_a_primary_of_a_cluster_is_survived_and_told() {
    let mut cluster = Cluster::start(Flavour::Redis, 3);
    let node = Node::with(on_cluster(&cluster)).await;
    let channels: Vec<_> = (0..60).map(|n| ChannelName::from(n.to_string())).collect();
    node.engine.subscribe(&channels).await.expect("subscribed");
    let mut before = Vec::new();
    for channel in &channels {
        before.push(node.publish(channel, "before").await);
    }
    cluster.servers[0].kill();
    let mut renewed = 0;
    for (channel, before) in channels.iter().zip(&before) {
        let after = node.publish_until_it_works(channel, "after").await;
        assert!(after.epoch != before.epoch || after.offset > before.offset, "{channel}");
        renewed += usize::from(after.epoch != before.epoch);
    }
    assert!((5..45).contains(&renewed), "a third of the channels was there: {renewed}");
    // All are heard, and those that were there were told to be lost before.
    for (channel, before) in channels.iter().zip(&before) {
        let now = node.publish(channel, "heard").await;
        if now.epoch != before.epoch {
            node.lost(channel, 1).await;
            node.publish(channel, "heard").await;
        }
        node.hears(channel, "heard").await;
    }
}

/// A slot goes to another primary, key by key, while it is published in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn inv_d2_a_slot_that_moves_is_followed_and_its_channels_are_told() {
    let cluster = Cluster::start(Flavour::Redis, 3);
    // One part: every channel lies in the slot that moves.
    let node = Node::with(Options { cluster_partitions: 1, ..on_cluster(&cluster) }).await;
    let channels: Vec<_> = (0..20).map(|n| ChannelName::from(n.to_string())).collect();
    node.engine.subscribe(&channels).await.expect("subscribed");
    let mut before = Vec::new();
    for channel in &channels {
        before.push(node.publish(channel, "before").await);
    }
    let from = cluster.owner("{0}");
    let to = (from + 1) % 3;
    let publishing = async {
        for channel in channels.iter().cycle().take(200) {
            node.publish_until_it_works(channel, "during").await;
        }
    };
    let moving = tokio::task::spawn_blocking(move || {
        cluster.migrate("{0}", from, to);
        cluster
    });
    let ((), cluster) = tokio::join!(publishing, moving);
    let _cluster = cluster.expect("moved");
    for (channel, before) in channels.iter().zip(&before) {
        let now = node.publish_until_it_works(channel, "moved").await;
        assert_ne!(now.epoch, before.epoch);
        let heard = node.lost(channel, 1).await;
        assert!(heard.contains(&Announced::Lost));
        node.publish(channel, "heard").await;
        node.hears(channel, "heard").await;
        assert!(node.read(channel).await.0.starts_with(&["before".to_owned()]), "data moves along");
    }
}
