//! Several nodes: who they are, and what is asked of one and done by all.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "a test may fail loudly")]

mod harness;

use std::sync::Arc;

use bytes::Bytes;
use harness::together::Together;
use harness::{Setup, connect_as};
use proptest::prelude::*;
use serde_json::{Value, json};
use tidewire_core::hooks::{Overrides, ProcessUse, SubscribeGrant};
use tidewire_core::{ConnectionKey, Reached, Target};
use tidewire_engine::Recipients;
use tidewire_protocol::{Disconnect, ErrorCode, Unsubscribed};
use uuid::Uuid;

fn setup() -> Setup {
    let mut setup = Setup { tokens: Arc::new(harness::PlainTokens), ..Setup::default() };
    setup.options.node_name = "n".into();
    setup.hooks.process = Some(Arc::new(|| Some(ProcessUse { cpu_seconds: 1.5, resident_bytes: 4096 })));
    setup
}

fn reached(connections: usize, silent_nodes: usize) -> Reached {
    Reached { connections, silent_nodes }
}

/// A connection of the user on each node.
fn one_each(together: &mut Together, user: &str) -> Vec<ConnectionKey> {
    together.worlds.iter_mut().map(|world| connect_as(world, user).0).collect()
}

fn heard(together: &mut Together, keys: &[ConnectionKey]) -> Vec<Vec<Value>> {
    together.worlds.iter_mut().zip(keys).map(|(world, key)| world.heard(*key)).collect()
}

fn uids(together: &Together, node: usize) -> Vec<String> {
    let mut uids: Vec<String> = together.worlds[node].node.nodes().into_iter().map(|info| info.uid).collect();
    uids.sort();
    uids
}

#[test]
fn nodes_know_each_other_as_soon_as_they_come_and_what_each_carries() {
    let mut together = Together::new(3, setup);
    let all: Vec<String> = (1..=3).map(|id| Uuid::from_u128(id).to_string()).collect();
    for node in 0..3 {
        assert_eq!(uids(&together, node), all, "node {node}");
    }
    one_each(&mut together, "ann");
    connect_as(&mut together.worlds[2], "bob");
    together.pass(4);
    let third = together.worlds[0].node.nodes().into_iter().find(|info| info.uid == all[2]).unwrap();
    assert_eq!((third.clients, third.users, &*third.name, &*third.version), (2, 2, "n", "test"));
    assert_eq!(third.process, Some(ProcessUse { cpu_seconds: 1.5, resident_bytes: 4096 }));
    assert!(third.uptime.as_secs() >= 3, "{third:?}");
}

#[test]
fn a_silent_node_is_forgotten_and_comes_back() {
    let mut together = Together::new(2, setup);
    together.wires.cut.lock().insert(Uuid::from_u128(2));
    together.pass(9);
    assert_eq!(uids(&together, 0).len(), 2);
    together.pass(2);
    assert_eq!(uids(&together, 0).len(), 1);
    together.wires.cut.lock().clear();
    together.pass(3);
    assert_eq!(uids(&together, 0).len(), 2);
}

#[test]
fn a_node_that_says_goodbye_is_gone_at_once() {
    let mut together = Together::new(2, setup);
    let second = Arc::clone(&together.worlds[1].node);
    together.finish(async move { second.leave_cluster().await });
    together.run();
    assert_eq!(uids(&together, 0).len(), 1);
}

/// It may still be driven for a moment: while it says so, and until it is dropped.
#[test]
fn a_node_that_has_said_goodbye_is_not_heard_again() {
    let mut together = Together::new(2, setup);
    let second = Arc::clone(&together.worlds[1].node);
    together.finish(async move { second.leave_cluster().await });
    together.pass(4);
    assert_eq!(uids(&together, 0).len(), 1, "no heartbeat");
    together.add(Uuid::from_u128(3), setup());
    assert_eq!(uids(&together, 2).len(), 2, "no answer to who has just come");
    together.pass(4);
    assert_eq!((uids(&together, 0).len(), uids(&together, 2).len()), (2, 2));
}

#[test]
fn an_operation_reaches_the_users_connections_on_every_node() {
    let mut together = Together::new(3, setup);
    let keys = one_each(&mut together, "ann");
    let others = one_each(&mut together, "bob");
    let node = Arc::clone(&together.worlds[0].node);
    let ann = Target::user("ann");

    let overrides = Overrides { force_recovery: Some(true), ..Default::default() };
    let grant = SubscribeGrant { data: Bytes::from_static(b"7"), overrides, ..Default::default() };
    let call = {
        let (node, ann) = (node.clone(), ann.clone());
        async move { node.subscribe(&ann, "h:news", grant, None).await }
    };
    assert_eq!(together.finish(call).unwrap(), reached(3, 0));
    for told in heard(&mut together, &keys) {
        let push = &told.iter().find(|reply| reply["push"].get("subscribe").is_some()).unwrap()["push"];
        assert_eq!((&push["channel"], &push["subscribe"]["data"]), (&json!("h:news"), &json!(7)));
        assert_eq!(push["subscribe"]["recoverable"], json!(true));
    }

    let call = {
        let (node, ann) = (node.clone(), ann.clone());
        async move { node.send(&ann, Bytes::from_static(b"\"hi\"")).await }
    };
    assert_eq!(together.finish(call), reached(3, 0));
    for told in heard(&mut together, &keys) {
        assert!(told.contains(&json!({"push": {"message": {"data": "hi"}}})), "{told:?}");
    }

    let call = {
        let (node, ann) = (node.clone(), ann.clone());
        async move { node.unsubscribe(&ann, Some("h:news".into()), Unsubscribed::SERVER).await }
    };
    assert_eq!(together.finish(call), reached(3, 0));
    for told in heard(&mut together, &keys) {
        assert!(told.iter().any(|reply| reply["push"]["unsubscribe"]["code"] == json!(2000)), "{told:?}");
    }

    let expire_at = harness::START_UNIX_S + 60;
    let call = {
        let (node, ann) = (node.clone(), ann.clone());
        async move { node.refresh(&ann, false, expire_at, None).await }
    };
    assert_eq!(together.finish(call), reached(3, 0));
    for told in heard(&mut together, &keys) {
        assert!(told.iter().any(|reply| reply["push"]["refresh"]["ttl"] == json!(60)), "{told:?}");
    }

    let call = async move { node.disconnect(&ann, Disconnect::FORCE_RECONNECT).await };
    assert_eq!(together.finish(call), reached(3, 0));
    for (world, (ann, bob)) in together.worlds.iter().zip(keys.iter().zip(&others)) {
        assert_eq!((world.closing(*ann), world.closing(*bob)), (Some(3011), None));
    }
    assert!(heard(&mut together, &others).iter().all(Vec::is_empty));
}

#[test]
fn one_client_is_found_on_whichever_node_it_is() {
    let mut together = Together::new(2, setup);
    let (key, replies) = connect_as(&mut together.worlds[1], "ann");
    let client = replies[0]["connect"]["client"].as_str().unwrap().to_owned();
    connect_as(&mut together.worlds[1], "ann");
    let target = Target { user: "ann".into(), client, ..Default::default() };
    let node = Arc::clone(&together.worlds[0].node);
    let call = async move { node.disconnect(&target, Disconnect::FORCE_NO_RECONNECT).await };
    assert_eq!(together.finish(call), reached(1, 0));
    assert_eq!(together.worlds[1].closing(key), Some(3503));
}

#[test]
fn channels_are_summed_over_the_nodes() {
    let mut together = Together::new(3, setup);
    for (world, channel) in together.worlds.iter_mut().zip(["news", "news", "other"]) {
        let (key, _) = connect_as(world, "ann");
        world.say(key, &json!({"id": 2, "subscribe": {"channel": channel}}).to_string());
    }
    let node = Arc::clone(&together.worlds[2].node);
    let all = {
        let node = node.clone();
        async move { node.channels("").await }
    };
    assert_eq!(together.finish(all).unwrap(), [("news".into(), 2), ("other".into(), 1)]);
    let some = {
        let node = node.clone();
        async move { node.channels("n*").await }
    };
    assert_eq!(together.finish(some).unwrap(), [("news".into(), 2)]);
    together.wires.cut.lock().insert(Uuid::from_u128(1));
    let holes = async move { node.channels("").await };
    assert_eq!(together.finish(holes).unwrap_err(), ErrorCode::Internal.into());
}

#[test]
fn a_lost_answer_is_asked_for_again_and_nothing_is_done_twice() {
    let mut together = Together::new(2, setup);
    let keys = one_each(&mut together, "ann");
    *together.wires.lose.lock() = 1;
    let node = Arc::clone(&together.worlds[0].node);
    let call = async move { node.send(&Target::user("ann"), Bytes::from_static(b"1")).await };
    assert_eq!(together.finish(call), reached(2, 0));
    let told = heard(&mut together, &keys);
    let message = json!({"push": {"message": {"data": 1}}});
    assert!(told.iter().all(|told| told.iter().filter(|push| **push == message).count() == 1), "{told:?}");
}

#[test]
fn a_node_that_does_not_answer_is_counted_and_waited_for_no_longer_than_six_seconds() {
    let mut together = Together::new(3, setup);
    one_each(&mut together, "ann");
    together.wires.cut.lock().insert(Uuid::from_u128(3));
    let node = Arc::clone(&together.worlds[0].node);
    let before = node.now().mono;
    let call = {
        let node = node.clone();
        async move { node.disconnect(&Target::user("ann"), Disconnect::FORCE_RECONNECT).await }
    };
    assert_eq!(together.finish(call), reached(2, 1));
    assert!((node.now().mono - before).as_secs() <= 6);
    assert_eq!(node.metrics().silent_nodes.total(), 1);
}

#[test]
fn bad_bus_what_cannot_be_read_is_counted_and_changes_nothing() {
    let mut together = Together::new(2, setup);
    let keys = one_each(&mut together, "ann");
    let garbage: [&'static [u8]; 5] =
        [b"", b"\xff\xff\xff", b"\x0a\x03abc", &[0; 64], b"\x0a\x10aaaaaaaaaaaaaaaa"];
    for message in garbage {
        together.wires.deliver(None, Recipients::Others, &Bytes::from_static(message));
    }
    together.run();
    assert_eq!(together.worlds[0].node.metrics().bus_unreadable.total(), 5);
    assert!(heard(&mut together, &keys).iter().all(Vec::is_empty));
    assert_eq!(uids(&together, 0).len(), 2);
}

#[test]
fn inv_b2_the_mailbox_is_bounded_and_what_it_leaves_out_is_counted() {
    let mut together = Together::new(1, setup);
    let message = Bytes::from_static(b"\xff");
    for _ in 0..20_000 {
        together.wires.deliver(None, Recipients::Others, &message);
    }
    let dropped = together.worlds[0].node.metrics().bus_overflows.total();
    assert!((3_000..4_000).contains(&dropped), "{dropped}");
    together.run();
    assert_eq!(together.worlds[0].node.metrics().bus_unreadable.total() + dropped, 20_000);
}

proptest! {
    #[test]
    fn bad_bus_no_bytes_make_a_node_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), prefixed: bool) {
        let mut together = Together::new(2, setup);
        let mut message = if prefixed { b"\x0a\x10aaaaaaaaaaaaaaaa".to_vec() } else { Vec::new() };
        message.extend(bytes);
        together.wires.deliver(None, Recipients::Others, &message.into());
        together.pass(1);
        prop_assert!(uids(&together, 0).len() >= 2);
    }
}
