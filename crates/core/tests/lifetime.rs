//! What happens to a connection without a command of its own: time passes, the server acts, things go wrong.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod harness;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use harness::{
    START_UNIX_S, Setup, World, anonymous, connect_as, error, now_or_never, settle, with_history,
    with_tokens, world,
};
use serde_json::{Value, json};
use tidewire_core::hooks::SubscribeGrant;
use tidewire_core::options::ChannelOptions;
use tidewire_protocol::Unsubscribed;

// === ping, expiry ===

#[test]
fn pings_are_answered_or_the_connection_ends() {
    let mut world = world();
    let (lively, dead) = (world.connected(), world.connected());
    let mut pings = 0;
    for _ in 0..1_000 {
        world.pass(Duration::from_millis(100));
        for ping in world.heard(lively) {
            assert_eq!(ping, json!({}));
            pings += 1;
            world.send(lively, "{}");
        }
    }
    assert_eq!(world.closing(lively), None);
    assert!((3..=4).contains(&pings), "{pings}");
    assert_eq!(world.closing(dead), Some(3012));
}

#[test]
fn bad_p3_a_pong_nobody_asked_for_closes() {
    let mut world = world();
    let key = world.connected();
    world.send(key, "{}");
    assert_eq!(world.closing(key), Some(3501));
}

#[test]
fn an_expired_connection_has_a_grace_to_refresh() {
    let token = |after: i64| format!("u@{}", START_UNIX_S + after);
    let mut world = with_tokens(|setup| setup.options.client.pong_timeout = Duration::ZERO);
    let (silent, _) = connect_as(&mut world, &token(60));
    let (diligent, _) = connect_as(&mut world, &token(60));
    world.pass(Duration::from_secs(84));
    assert_eq!(world.closing(silent), None);
    world.heard(diligent);
    let refresh = json!({"id": 2, "refresh": {"token": token(200)}}).to_string();
    let replies = world.say(diligent, &refresh);
    assert_eq!(
        (&replies[0]["refresh"]["expires"], &replies[0]["refresh"]["ttl"]),
        (&json!(true), &json!(116))
    );
    world.pass(Duration::from_secs(2));
    assert_eq!((world.closing(silent), world.closing(diligent)), (Some(3005), None));
    let other_user = json!({"id": 3, "refresh": {"token": "someone"}}).to_string();
    world.send(diligent, &other_user);
    assert_eq!(world.closing(diligent), Some(3500));
}

#[test]
fn pongs_of_all_pings_that_came_while_a_command_waited_are_lawful() {
    let mut world = world();
    let key = world.connected();
    let now = world.now();
    world.worker.message(key, Bytes::from_static(br#"{"id":2,"publish":{"channel":"h:a","data":1}}"#), now);
    let slow = world.worker.next_task().unwrap();
    // The first pong waits behind the command, and from then on nothing is read.
    world.pass(Duration::from_secs(25));
    assert_eq!(world.heard(key), [json!({})]);
    world.send(key, "{}");
    world.pass(Duration::from_secs(25));
    assert_eq!((world.heard(key), world.worker.wants_read(key)), (vec![json!({})], false));
    let now = world.now();
    world.worker.complete(now_or_never(slow.future), now);
    world.send(key, "{}");
    assert_eq!((world.heard(key).len(), world.closing(key)), (1, None));
    world.send(key, "{}");
    assert_eq!(world.closing(key), Some(3501));
}

#[test]
fn an_expired_subscription_is_taken_away_unless_refreshed() {
    let mut world = with_tokens(|setup| {
        setup.options.client.pong_timeout = Duration::ZERO;
        setup.options.client.presence_update_interval = Duration::from_secs(1);
        setup.options.client.expired_sub_close_delay = Duration::from_secs(5);
    });
    let (key, _) = connect_as(&mut world, "u");
    for channel in ["a", "b"] {
        let token = format!("u/{channel}@{}", START_UNIX_S + 10);
        let frame = json!({"id": 2, "subscribe": {"channel": channel, "token": token}}).to_string();
        let replies = world.say(key, &frame);
        assert_eq!(
            (&replies[0]["subscribe"]["expires"], &replies[0]["subscribe"]["ttl"]),
            (&json!(true), &json!(10))
        );
    }
    world.pass(Duration::from_secs(9));
    let refresh =
        json!({"id": 3, "sub_refresh": {"channel": "a", "token": format!("u/a@{}", START_UNIX_S + 100)}});
    let replies = world.say(key, &refresh.to_string());
    assert_eq!(replies.last().unwrap()["sub_refresh"], json!({"expires": true, "ttl": 91}));
    world.pass(Duration::from_secs(8));
    let gone: Vec<Value> = world.heard(key).into_iter().filter(|m| m.get("push").is_some()).collect();
    assert_eq!(gone.len(), 1, "{gone:?}");
    assert_eq!(
        (&gone[0]["push"]["channel"], &gone[0]["push"]["unsubscribe"]["code"]),
        (&json!("b"), &json!(2501))
    );
}

// === server side ===

#[test]
fn the_server_subscribes_and_unsubscribes() {
    let mut world = world();
    let key = world.connected();
    let node = Arc::clone(&world.node);
    let count =
        settle(&mut world, node.subscribe(&anonymous(), "h:a", SubscribeGrant::default(), None)).unwrap();
    assert_eq!(count.connections, 1);
    let push = world.heard(key).remove(0)["push"].clone();
    assert_eq!((&push["channel"], &push["subscribe"]["recoverable"]), (&json!("h:a"), &json!(true)));
    world.publish("h:a", "1");
    assert_eq!(world.heard(key).last().unwrap()["push"]["pub"]["offset"], 1);
    assert_eq!(error(&world.say(key, r#"{"id":2,"subscribe":{"channel":"h:a"}}"#)), 105);
    settle(&mut world, node.unsubscribe(&anonymous(), None, Unsubscribed::SERVER));
    let push = &world.heard(key)[0]["push"];
    assert_eq!(push["unsubscribe"], json!({"code": 2000, "reason": "server unsubscribe"}));
}

#[test]
fn inv_d1_server_side_subscriptions_recover_in_the_connect() {
    let mut world = with_tokens(|_| ());
    let (key, replies) = connect_as(&mut world, "u+h:a");
    let epoch = replies[0]["connect"]["subs"]["h:a"]["epoch"].clone();
    world.leave(key);
    world.publish("h:a", "1");
    let key = world.open();
    let subs = json!({"h:a": {"recover": true, "epoch": epoch, "offset": 0}});
    let replies = world.say(key, &json!({"id": 1, "connect": {"token": "u+h:a", "subs": subs}}).to_string());
    let sub = &replies[0]["connect"]["subs"]["h:a"];
    assert_eq!((&sub["recovered"], &sub["publications"]), (&json!(true), &json!([{"data": 1, "offset": 1}])));
}

#[test]
fn a_slow_consumer_is_cut_and_others_are_not() {
    let mut setup = Setup::default();
    setup.options.client.queue_max_size = 2_000;
    let mut world = setup.build();
    let (slow, quick) = (world.connected(), world.connected());
    for key in [slow, quick] {
        world.say(key, r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    }
    for n in 0..100 {
        world.publish("a", &n.to_string());
        assert_eq!(world.heard(quick).len(), 1);
    }
    assert_eq!((world.closing(slow), world.closing(quick)), (Some(3008), None));
    assert_eq!(world.node.metrics().slow_consumers.total(), 1);
}

#[test]
fn who_was_not_offered_anything_yet_is_not_slow() {
    let mut setup = Setup::default();
    setup.options.client.queue_max_size = 2_000;
    let mut world = setup.build();
    let key = world.connected();
    world.say(key, r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    while world.worker.next_ready().is_some() {}
    // Ten times what an outbox may hold, all before the worker's thread gets to run.
    for n in 0..250 {
        let data = Bytes::from(n.to_string());
        assert!(
            world.node.publish("a", data, Default::default()).now_or_never().is_some_and(|done| done.is_ok())
        );
    }
    let mut heard = 0;
    loop {
        let now = world.now();
        world.worker.advance(now);
        let Some(ready) = world.worker.next_ready() else { break };
        assert_eq!((ready, world.closing(key)), (key, None), "cut although it reads all it is offered");
        heard += world.heard(key).len();
    }
    assert_eq!(heard, 250);
    assert!(!world.worker.is_behind());
}

#[test]
fn an_answer_overtakes_a_broadcast_to_others() {
    let mut world = world();
    let crowd: Vec<_> = (0..20).map(|_| world.connected()).collect();
    for key in &crowd {
        world.say(*key, r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    }
    let asking = world.connected();
    while world.worker.next_ready().is_some() {}
    world.publish("a", "1");
    world.send(asking, r#"{"id":3,"rpc":{"method":"x"}}"#);
    let served: Vec<_> = std::iter::from_fn(|| world.worker.next_ready()).collect();
    assert!(served[..2].contains(&asking), "{served:?}");
    assert_eq!(served.len(), 21);
}

#[test]
fn what_is_not_json_closes_json_clients_only_when_it_reaches_them() {
    let mut world = world();
    let key = world.connected();
    world.say(key, r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    world.publish("b", "not json");
    assert_eq!(world.closing(key), None);
    world.publish("a", "not json");
    assert_eq!(world.closing(key), Some(3506));
}

#[test]
fn inv_g1_draining_closes_everyone_within_the_spread() {
    let mut world = world();
    let keys: Vec<_> = (0..20).map(|_| world.connected()).collect();
    world.node.drain(Duration::from_secs(10));
    world.run();
    let closed = |world: &World| keys.iter().filter(|key| world.closing(**key) == Some(3001)).count();
    world.pass(Duration::from_secs(5));
    let half = closed(&world);
    assert!((1..20).contains(&half), "{half}");
    world.pass(Duration::from_millis(5_100));
    assert_eq!(closed(&world), 20);
    let late = world.open();
    assert_eq!(world.closing(late), Some(3001));
}

#[test]
fn the_server_may_end_a_subscription_that_is_still_being_made() {
    let mut setup = Setup::default();
    let (allow, wait) = futures_channel::oneshot::channel::<()>();
    let wait = std::sync::Mutex::new(Some(wait));
    setup.hooks.subscribe = Some(Arc::new(move |_| {
        let wait = wait.lock().unwrap().take();
        async move {
            if let Some(wait) = wait {
                let _ = wait.await;
            }
            Ok(None)
        }
        .boxed()
    }));
    let mut world = setup.build();
    let key = world.connected();
    let now = world.now();
    world.worker.message(key, Bytes::from_static(br#"{"id":2,"subscribe":{"channel":"a"}}"#), now);
    let mut task = world.worker.next_task().unwrap();
    assert!((&mut task.future).now_or_never().is_none());
    let node = Arc::clone(&world.node);
    settle(&mut world, node.unsubscribe(&anonymous(), Some("a".into()), Unsubscribed::SERVER));
    assert!(world.heard(key).is_empty());
    allow.send(()).unwrap();
    let now = world.now();
    world.worker.complete(now_or_never(task.future), now);
    world.run();
    let heard = world.heard(key);
    assert!(heard[0].get("subscribe").is_some(), "{heard:?}");
    assert_eq!(heard[1]["push"]["unsubscribe"]["code"], 2000);
    assert_eq!(now_or_never(world.node.channels("")).unwrap(), []);
}

#[test]
fn a_connection_that_ends_while_it_subscribes_leaves_nothing() {
    let mut world = world();
    let key = world.connected();
    let now = world.now();
    world.worker.message(key, Bytes::from_static(br#"{"id":2,"subscribe":{"channel":"h:a"}}"#), now);
    let join = world.worker.next_task().unwrap();
    world.worker.gone(key, now);
    assert!(!world.worker.is_empty(), "the engine may know of it");
    world.worker.complete(now_or_never(join.future), now);
    world.run();
    assert!(world.worker.is_empty());
    assert!(now_or_never(world.node.presence("h:a")).unwrap().is_empty());
}

#[test]
fn commands_wait_for_the_one_before_and_reading_stops() {
    let mut setup = Setup::default();
    let (answer, wait) = futures_channel::oneshot::channel::<()>();
    let wait = std::sync::Mutex::new(Some(wait));
    setup.hooks.rpc = Some(Arc::new(move |_| {
        let wait = wait.lock().unwrap().take();
        async move {
            if let Some(wait) = wait {
                let _ = wait.await;
            }
            Ok(Bytes::from_static(b"1"))
        }
        .boxed()
    }));
    let mut world = setup.build();
    let key = world.connected();
    let now = world.now();
    let frame =
        b"{\"id\":2,\"rpc\":{\"method\":\"m\"}}\n{\"id\":3,\"publish\":{\"channel\":\"a\",\"data\":1}}";
    world.worker.message(key, Bytes::from_static(frame), now);
    let mut task = world.worker.next_task().unwrap();
    assert!((&mut task.future).now_or_never().is_none());
    assert!(world.worker.next_task().is_none(), "the publish waits");
    assert!(!world.worker.wants_read(key));
    answer.send(()).unwrap();
    world.worker.complete(now_or_never(task.future), now);
    world.run();
    assert!(world.worker.wants_read(key));
    assert_eq!(world.worker.next_ready(), Some(key), "the driver is told to read again");
    let ids: Vec<_> = world.heard(key).iter().map(|reply| reply["id"].clone()).collect();
    assert_eq!(ids, [json!(2), json!(3)]);
}

/// What a client that negotiated deltas holds after each message.
fn undelta(held: &mut Vec<u8>, publication: &Value) {
    let data = publication["data"].as_str().unwrap().as_bytes();
    *held = match publication["delta"] {
        Value::Bool(true) => {
            let limits = tidewire_delta::Limits { target_bytes_max: 1 << 20 };
            tidewire_delta::apply(held, data, limits).unwrap()
        }
        _ => data.to_vec(),
    };
}

#[test]
fn inv_d6_deltas_give_back_every_payload_live_and_recovered() {
    let mut setup = Setup::default();
    let rules = ChannelOptions {
        allow_fossil_delta: true,
        delta_publish: true,
        join_leave: false,
        presence: false,
        ..with_history()
    };
    setup.options.channel.namespaces.insert("d".into(), Arc::new(rules));
    let mut world = setup.build();
    let (plain, key) = (world.connected(), world.connected());
    world.say(plain, r#"{"id":2,"subscribe":{"channel":"d:a"}}"#);
    let replies = world.say(key, r#"{"id":2,"subscribe":{"channel":"d:a","delta":"fossil"}}"#);
    assert_eq!(replies[0]["subscribe"]["delta"], true);
    let epoch = replies[0]["subscribe"]["epoch"].clone();
    let payload = |n: u32| format!("{{\"table\":\"{}\",\"count\":{n},\"é\":\"日本\"}}", "row ".repeat(40));

    let mut held = Vec::new();
    let mut patches = 0;
    for n in 1..=3 {
        world.publish("d:a", &payload(n));
        let push = world.heard(key).remove(0)["push"]["pub"].clone();
        patches += usize::from(push["delta"] == true);
        undelta(&mut held, &push);
        assert_eq!(held, payload(n).as_bytes());
        assert_eq!(world.heard(plain)[0]["push"]["pub"]["data"]["count"], n, "others get it as it is");
    }
    assert_eq!(patches, 2, "all but the first");

    world.leave(key);
    for n in 4..=6 {
        world.publish("d:a", &payload(n));
    }
    let key = world.connected();
    let again = json!({"channel": "d:a", "delta": "fossil", "recover": true, "epoch": epoch, "offset": 3});
    let replies = world.say(key, &json!({"id": 2, "subscribe": again}).to_string());
    let recovered = replies[0]["subscribe"]["publications"].as_array().unwrap().clone();
    assert_eq!(recovered.len(), 3);
    assert_eq!((recovered[0].get("delta"), recovered[1].get("delta")), (None, Some(&json!(true))));
    held.clear();
    for (n, publication) in (4..).zip(&recovered) {
        undelta(&mut held, publication);
        assert_eq!(held, payload(n).as_bytes());
    }
    world.publish("d:a", &payload(7));
    let push = world.heard(key).remove(0)["push"]["pub"].clone();
    assert_eq!(push["delta"], true, "the recovered list is a base");
    undelta(&mut held, &push);
    assert_eq!(held, payload(7).as_bytes());
}

#[test]
fn deltas_are_not_given_where_they_are_not_allowed() {
    let mut world = world();
    let key = world.connected();
    let replies = world.say(key, r#"{"id":2,"subscribe":{"channel":"h:a","delta":"fossil"}}"#);
    assert_eq!(replies[0]["subscribe"].get("delta"), None);
    world.publish("h:a", "{\"a\":1}");
    assert_eq!(world.heard(key).last().unwrap()["push"]["pub"]["data"], json!({"a": 1}));
}

#[test]
fn inv_g6_a_task_that_panics_ends_its_connection_and_leaves_no_slot() {
    let mut setup = Setup::default();
    setup.hooks.rpc = Some(Arc::new(|event| match event.method.as_str() {
        "now" => panic!("before the first await"),
        _ => async { panic!("later") }.boxed(),
    }));
    let mut world = setup.build();
    for method in ["now", "later"] {
        let (key, other) = (world.connected(), world.connected());
        world.say(key, r#"{"id":2,"subscribe":{"channel":"h:a"}}"#);
        world.send(key, &json!({"id": 3, "rpc": {"method": method}}).to_string());
        assert_eq!((world.closing(key), world.closing(other)), (Some(3004), None), "{method}");
        world.leave(key);
        world.leave(other);
    }
    assert!(world.worker.is_empty());
    assert_eq!(world.node.metrics().contained_panics.total(), 2);
}

#[test]
fn inv_a1_a_missing_refresh_proxy_lets_nobody_refresh() {
    let mut world = with_tokens(|setup| setup.options.client.refresh_proxy_missing = true);
    let (key, _) = connect_as(&mut world, &format!("u@{}", START_UNIX_S + 60));
    let refresh = json!({"id": 2, "refresh": {"token": format!("u@{}", START_UNIX_S + 200)}});
    assert_eq!(error(&world.say(key, &refresh.to_string())), 108);
}

#[test]
fn an_unsubscribe_waits_five_seconds_for_the_subscribe_before_it() {
    let mut setup = Setup::default();
    setup.options.client.concurrency = 4;
    setup.hooks.subscribe = Some(Arc::new(|_| std::future::pending().boxed()));
    let mut world = setup.build();
    let key = world.connected();
    let now = world.now();
    world.worker.message(key, Bytes::from_static(br#"{"id":2,"subscribe":{"channel":"a"}}"#), now);
    let _never = world.worker.next_task().unwrap();
    assert!(world.say(key, r#"{"id":3,"unsubscribe":{"channel":"a"}}"#).is_empty());
    world.pass(Duration::from_millis(4_900));
    assert_eq!((world.closing(key), world.heard(key)), (None, vec![]));
    world.pass(Duration::from_millis(200));
    assert_eq!(world.heard(key), [json!({"id": 3, "unsubscribe": {}})]);
    assert_eq!(world.closing(key), Some(3004));
}
