//! Messages of clients that reach a node by a request of their own: each is taken by the connection it is for.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "a test may fail loudly")]

mod harness;

use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use futures_util::future::join_all;
use harness::together::Together;
use harness::{Setup, World};
use serde_json::{Value, json};
use tidewire_core::{ConnectionKey, NotForwarded};
use uuid::Uuid;

/// A connected client as the transports without a WebSocket have it.
struct Remote {
    key: ConnectionKey,
    node: Uuid,
    session: Uuid,
}

impl Remote {
    fn connect(world: &mut World) -> Self {
        let key = world.open_with_session();
        let replies = world.say(key, r#"{"id":1,"connect":{}}"#);
        let id = |name: &str| replies[0]["connect"][name].as_str().unwrap().parse().unwrap();
        Self { key, node: id("node"), session: id("session") }
    }

    /// What becomes of a message that this node is asked to forward.
    fn by(&self, world: &World, message: &Value) -> impl Future<Output = Result<(), NotForwarded>> + use<> {
        let (node, to, session) = (Arc::clone(&world.node), self.node, self.session);
        let message = Bytes::from(message.to_string());
        async move { node.forward(to, session, message).await }
    }
}

fn subscribe(id: u32, channel: &str) -> Value {
    json!({"id": id, "subscribe": {"channel": channel}})
}

#[test]
fn a_message_reaches_its_connection_by_way_of_any_node() {
    let mut together = Together::new(3, Setup::default);
    let remote = Remote::connect(&mut together.worlds[1]);
    assert_eq!(remote.node, Uuid::from_u128(2));
    let other = Remote::connect(&mut together.worlds[1]);
    for (number, node) in [(2, 0), (3, 1), (4, 2)] {
        let channel = format!("by-{node}");
        let call = remote.by(&together.worlds[node], &subscribe(number, &channel));
        assert_eq!(together.finish(call), Ok(()));
        let told = together.worlds[1].heard(remote.key);
        assert_eq!(told, [json!({"id": number, "subscribe": {}})], "by way of node {node}");
    }
    assert!(together.worlds[1].heard(other.key).is_empty());
}

#[test]
fn messages_by_way_of_one_node_are_taken_in_their_order() {
    let mut together = Together::new(2, Setup::default);
    let remote = Remote::connect(&mut together.worlds[1]);
    let calls: Vec<_> = (2..50)
        .map(|id| {
            let turn = if id % 2 == 0 { "subscribe" } else { "unsubscribe" };
            remote.by(&together.worlds[0], &json!({"id": id, turn: {"channel": "flap"}}))
        })
        .collect();
    assert!(together.finish(join_all(calls)).iter().all(Result::is_ok));
    let told = together.worlds[1].heard(remote.key);
    let ids: Vec<_> = told.iter().map(|reply| reply["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, (2..50).collect::<Vec<_>>());
    assert!(told.iter().all(|reply| reply.get("error").is_none()), "{told:?}");
}

#[test]
fn what_the_bus_loses_is_sent_again_and_the_message_is_taken_once() {
    let mut together = Together::new(2, Setup::default);
    let remote = Remote::connect(&mut together.worlds[1]);
    for (id, what) in [(7, "request"), (8, "answer")] {
        let message = json!({"id": id, "publish": {"channel": "h:once", "data": id}});
        let mut call = Box::pin(remote.by(&together.worlds[0], &message));
        if what == "answer" {
            // The request is on its way.
            assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        *together.wires.lose.lock() = 1;
        assert_eq!(together.finish(call), Ok(()), "a lost {what}");
        let told = together.worlds[1].heard(remote.key);
        assert_eq!(
            told.iter().filter(|reply| reply["id"] == json!(id)).count(),
            1,
            "a lost {what}: {told:?}"
        );
    }
    *together.wires.lose.lock() = 2;
    let call = remote.by(&together.worlds[0], &subscribe(9, "news"));
    assert_eq!(together.finish(call), Err(NotForwarded::NoAnswer));
    assert!(together.worlds[1].heard(remote.key).is_empty());
}

#[test]
fn what_cannot_be_forwarded_is_told_apart() {
    let mut together = Together::new(2, Setup::default);
    let remote = Remote::connect(&mut together.worlds[1]);
    let message = subscribe(2, "news");
    let stranger = Remote { session: Uuid::from_u128(99), ..remote };
    for node in 0..2 {
        let call = stranger.by(&together.worlds[node], &message);
        assert_eq!(together.finish(call), Err(NotForwarded::UnknownSession), "by way of node {node}");
    }
    let nowhere = Remote { node: Uuid::from_u128(9), ..remote };
    let call = nowhere.by(&together.worlds[0], &message);
    assert_eq!(together.finish(call), Err(NotForwarded::UnknownNode));

    together.wires.cut.lock().insert(Uuid::from_u128(2));
    let call = remote.by(&together.worlds[0], &message);
    assert_eq!(together.finish(call), Err(NotForwarded::NoAnswer));
    together.wires.cut.lock().clear();
    together.pass(4);

    together.worlds[1].leave(remote.key);
    let call = remote.by(&together.worlds[0], &message);
    assert_eq!(together.finish(call), Err(NotForwarded::UnknownSession), "its connection is gone");
}

#[test]
fn a_client_with_a_socket_is_told_no_session() {
    let mut together = Together::new(1, Setup::default);
    let world = &mut together.worlds[0];
    let key = world.open();
    let replies = world.say(key, r#"{"id":1,"connect":{}}"#);
    assert_eq!(
        (&replies[0]["connect"]["session"], &replies[0]["connect"]["node"]),
        (&Value::Null, &Value::Null)
    );
}

#[test]
fn a_refused_client_is_told_no_session() {
    let mut setup = Setup { tokens: Arc::new(harness::PlainTokens), ..Setup::default() };
    setup.options.client.insecure = false;
    let mut world = setup.build();
    let key = world.open_with_session();
    let expired = format!(r#"{{"id":1,"connect":{{"token":"ann@{}"}}}}"#, harness::START_UNIX_S - 1);
    let replies = world.say(key, &expired);
    assert_eq!(harness::error(&replies), 109);
    assert!(replies[0].get("connect").is_none(), "{replies:?}");
}

#[test]
fn inv_b2_forwarded_commands_that_wait_are_bounded() {
    let mut together = Together::new(1, Setup::default);
    let remote = Remote::connect(&mut together.worlds[0]);
    let world = &mut together.worlds[0];
    let long = format!("{}{}", subscribe(2, "waits"), " ".repeat(60_000));
    let mut taken = 0;
    // Tasks are not run here: the first command is never answered, and all others wait for it.
    while world.closing(remote.key).is_none() {
        assert!(taken < 100, "{taken} messages of 60 kB wait");
        let call = world.node.forward(remote.node, remote.session, Bytes::from(long.clone()));
        let mut call = Box::pin(call);
        let mut context = Context::from_waker(Waker::noop());
        assert!(call.as_mut().poll(&mut context).is_pending());
        let now = world.now();
        world.worker.advance(now);
        assert!(call.as_mut().poll(&mut context).is_ready());
        taken += 1;
    }
    assert!(taken > 10, "only {taken}");
    assert_eq!(world.closing(remote.key), Some(3013));
}
