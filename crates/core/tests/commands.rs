//! What a client hears for each command, over the whole core and the embedded engine.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod harness;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use harness::{START_UNIX_S, Setup, connect_as, error, now_or_never, with_history, with_tokens, world};
use serde_json::{Value, json};
use tidewire_core::Target;
use tidewire_core::hooks::UpgradeRequest;
use tidewire_core::options::{ChannelOptions, PersonalChannel, RecoveryMode};
use tidewire_protocol::{Disconnect, ErrorCode};

// === connect ===

#[test]
fn connect_tells_who_and_how_to_ping() {
    let mut world = world();
    let key = world.open();
    let replies = world.say(key, r#"{"id":1,"connect":{}}"#);
    let connect = &replies[0]["connect"];
    assert_eq!(connect["ping"], 25);
    assert_eq!(connect["pong"], true);
    assert_eq!(connect["version"], "test");
    assert_eq!(connect["client"].as_str().unwrap().len(), 36);
    assert_eq!(connect.get("expires"), None);
}

#[test]
fn bad_p3_a_command_before_connect_closes() {
    for frame in [r#"{"id":1,"subscribe":{"channel":"a"}}"#, "{}", r#"{"id":0,"connect":{}}"#, "", "nonsense"]
    {
        let mut world = world();
        let key = world.open();
        assert!(world.say(key, frame).is_empty(), "{frame}");
        assert_eq!(world.closing(key), Some(3501), "{frame}");
    }
}

#[test]
fn bad_p3_a_second_connect_closes() {
    let mut world = world();
    let key = world.connected();
    world.send(key, r#"{"id":2,"connect":{}}"#);
    assert_eq!(world.closing(key), Some(3501));
}

#[test]
fn a_client_that_never_connects_is_stale() {
    let mut world = world();
    let key = world.open();
    world.pass(Duration::from_millis(9_900));
    assert_eq!(world.closing(key), None);
    world.pass(Duration::from_millis(200));
    assert_eq!(world.closing(key), Some(3502));
}

#[test]
fn without_credentials_nobody_gets_in() {
    let mut world = with_tokens(|_| ());
    let (key, replies) = connect_as(&mut world, "");
    assert!(replies.is_empty());
    assert_eq!(world.closing(key), Some(3501));
}

#[test]
fn tokens_decide_who_gets_in() {
    let mut world = with_tokens(|_| ());
    let (key, replies) = connect_as(&mut world, "bad");
    assert!(replies.is_empty());
    assert_eq!(world.closing(key), Some(3500));
    let (_, replies) = connect_as(&mut world, "u@1");
    assert_eq!(error(&replies), 109);
    let (_, replies) = connect_as(&mut world, &format!("u@{}", START_UNIX_S + 60));
    assert_eq!(replies[0]["connect"]["expires"], true);
    assert_eq!(replies[0]["connect"]["ttl"], 60);
    let (_, replies) = connect_as(&mut world, "u+nope:c");
    assert_eq!(error(&replies), 102);
}

#[test]
fn a_connection_refused_with_an_error_is_dropped_after_a_while_without_a_word() {
    let mut world = with_tokens(|_| ());
    let (key, replies) = connect_as(&mut world, "u@1");
    assert_eq!(error(&replies), 109);
    assert!(world.say(key, r#"{"id":2,"connect":{"token":"u"}}"#).is_empty());
    assert_eq!(world.closing(key), None);
    world.pass(Duration::from_secs(6));
    assert_eq!(world.closing(key), Some(3000));
}

#[test]
fn the_user_may_be_named_by_a_trusted_header() {
    let mut world = with_tokens(|setup| {
        setup.options.client.user_id_http_header = Some("x-user".parse().unwrap());
    });
    let mut request = UpgradeRequest::default();
    request.headers.insert("x-user", "ann".parse().unwrap());
    let key = world.open_with(request);
    assert!(world.say(key, r#"{"id":1,"connect":{}}"#)[0].get("connect").is_some());
    let target = Target { user: "ann".into(), ..Default::default() };
    let done = world.node.clone();
    let counted = done.disconnect(&target, Disconnect::FORCE_RECONNECT);
    let mut counted = std::pin::pin!(counted);
    assert!(counted.as_mut().now_or_never().is_none(), "the worker has not been told yet");
    world.run();
    assert_eq!(now_or_never(counted).connections, 1);
    assert_eq!(world.closing(key), Some(3011));
}

#[test]
fn the_user_limit_closes_the_one_too_many() {
    let mut world = with_tokens(|setup| setup.options.client.user_connection_limit = 1);
    let (first, _) = connect_as(&mut world, "u");
    let (second, _) = connect_as(&mut world, "u");
    assert_eq!((world.closing(first), world.closing(second)), (None, Some(3504)));
    let (other, _) = connect_as(&mut world, "v");
    assert_eq!(world.closing(other), None);
    world.leave(first);
    world.leave(second);
    let (third, _) = connect_as(&mut world, "u");
    assert_eq!(world.closing(third), None);
}

#[test]
fn a_new_connection_evicts_the_users_others_where_only_one_is_wanted() {
    let mut world = with_tokens(|setup| {
        setup.options.client.personal_channel =
            Some(PersonalChannel { namespace: "h".into(), single_connection: true });
    });
    let (first, replies) = connect_as(&mut world, "u");
    assert!(replies[0]["connect"]["subs"]["h:#u"].is_object(), "{replies:?}");
    let (second, _) = connect_as(&mut world, "u");
    assert_eq!((world.closing(first), world.closing(second)), (Some(3504), None));
}

/// What the engine did for a call that it did not answer would stay.
#[test]
fn inv_p1_who_was_refused_a_subscription_is_not_present() {
    let (mut world, link) = Setup::default().build_lossy();
    let key = world.connected();
    link.presence_unanswered.store(true, Ordering::Relaxed);
    let replies = world.say(key, r#"{"id":2,"subscribe":{"channel":"h:a"}}"#);
    assert_eq!(replies[0]["error"]["code"], 100, "{replies:?}");
    assert_eq!(now_or_never(world.node.presence("h:a")).unwrap().len(), 0);
    link.presence_unanswered.store(false, Ordering::Relaxed);
    world.say(key, r#"{"id":3,"subscribe":{"channel":"h:a"}}"#);
    assert_eq!(now_or_never(world.node.presence("h:a")).unwrap().len(), 1);
}

#[test]
fn inv_p1_presence_of_a_subscription_made_with_the_connect_is_refreshed() {
    let mut world = with_tokens(|setup| {
        setup.options.client.pong_timeout = Duration::ZERO;
        setup.options.client.presence_update_interval = Duration::from_secs(1);
        setup.options.client.presence_ttl = Duration::from_secs(3);
    });
    connect_as(&mut world, "u+h:a");
    world.pass(Duration::from_secs(10));
    assert_eq!(now_or_never(world.node.presence("h:a")).unwrap().len(), 1);
}

#[test]
fn commands_of_the_connect_frame_are_answered_after_it() {
    let mut world = world();
    let key = world.open();
    let replies = world.say(
        key,
        "{\"id\":1,\"connect\":{}}\n{\"id\":2,\"subscribe\":{\"channel\":\"a\"}}\n{\"id\":3,\"subscribe\":{\"channel\":\"b\"}}",
    );
    let ids: Vec<u64> = replies.iter().map(|reply| reply["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [1, 2, 3]);
}

// === subscribe ===

#[test]
fn subscribe_checks_come_in_the_order_of_the_protocol() {
    let mut world = with_tokens(|setup| {
        let open = ChannelOptions { allow_subscribe_for_client: true, ..Default::default() };
        setup.options.channel.namespaces.insert("open".into(), Arc::new(open));
        setup.options.client.channel_limit = 2;
    });
    let (key, _) = connect_as(&mut world, "u");
    let mut subscribe = |body: Value| {
        let replies = world.say(key, &json!({"id": 2, "subscribe": body}).to_string());
        if replies[0].get("subscribe").is_some() { 0 } else { error(&replies) }
    };
    assert_eq!(subscribe(json!({"channel": "a".repeat(256)})), 107);
    assert_eq!(subscribe(json!({"channel": "nope:a"})), 102);
    assert_eq!(subscribe(json!({"channel": "open:\u{e9}"})), 107);
    assert_eq!(subscribe(json!({"channel": "open:a", "type": 4})), 108);
    assert_eq!(subscribe(json!({"channel": "open:a", "type": 1})), 103);
    assert_eq!(
        subscribe(json!({"channel": "open:a", "tf": {"op": "", "key": "k", "cmp": "eq", "val": "v"}})),
        107
    );
    assert_eq!(subscribe(json!({"channel": "closed"})), 103);
    assert_eq!(subscribe(json!({"channel": "$open:a"})), 103);
    assert_eq!(subscribe(json!({"channel": "closed", "token": "bad"})), 103);
    assert_eq!(subscribe(json!({"channel": "closed", "token": "u/closed@1"})), 109);
    assert_eq!(subscribe(json!({"channel": "closed", "token": "u/closed"})), 0);
    assert_eq!(subscribe(json!({"channel": "open:a"})), 0);
    assert_eq!(subscribe(json!({"channel": "open:a"})), 105);
    assert_eq!(subscribe(json!({"channel": "open:b"})), 106);
}

#[test]
fn a_subscription_token_for_someone_else_closes() {
    for token in ["v/c", "u/other"] {
        let mut world = with_tokens(|_| ());
        let (key, _) = connect_as(&mut world, "u");
        let frame = json!({"id": 2, "subscribe": {"channel": "c", "token": token}}).to_string();
        assert!(world.say(key, &frame).is_empty());
        assert_eq!(world.closing(key), Some(3500), "{token}");
    }
}

#[test]
fn an_empty_channel_or_an_unknown_delta_closes() {
    for body in [json!({}), json!({"channel": "a", "delta": "xdelta"})] {
        let mut world = world();
        let key = world.connected();
        world.send(key, &json!({"id": 2, "subscribe": body}).to_string());
        assert_eq!(world.closing(key), Some(3501), "{body}");
    }
}

#[test]
fn inv_d1_a_reconnect_brings_exactly_what_was_missed() {
    let mut world = world();
    let key = world.connected();
    let replies = world.say(key, r#"{"id":2,"subscribe":{"channel":"h:a"}}"#);
    let subscribe = &replies[0]["subscribe"];
    assert_eq!((&subscribe["recoverable"], &subscribe["positioned"]), (&json!(true), &json!(true)));
    let epoch = subscribe["epoch"].as_str().unwrap().to_owned();
    world.publish("h:a", "1");
    assert_eq!(world.heard(key).last().unwrap()["push"]["pub"], json!({"data": 1, "offset": 1}));
    world.leave(key);

    world.publish("h:a", "2");
    world.publish("h:a", "3");
    let key = world.connected();
    let again =
        json!({"id": 2, "subscribe": {"channel": "h:a", "recover": true, "epoch": epoch, "offset": 1}});
    let replies = world.say(key, &again.to_string());
    let subscribe = &replies[0]["subscribe"];
    assert_eq!((&subscribe["recovered"], &subscribe["was_recovering"]), (&json!(true), &json!(true)));
    assert_eq!(subscribe["offset"], 1, "the offset asked for");
    assert_eq!(subscribe["publications"], json!([{"data": 2, "offset": 2}, {"data": 3, "offset": 3}]));
    world.publish("h:a", "4");
    assert_eq!(world.heard(key).last().unwrap()["push"]["pub"]["offset"], 4);
}

#[test]
fn inv_d2_more_missed_than_kept_is_told() {
    let mut world = world();
    let key = world.connected();
    let replies = world.say(key, r#"{"id":2,"subscribe":{"channel":"h:a"}}"#);
    let epoch = replies[0]["subscribe"]["epoch"].clone();
    world.leave(key);
    for n in 0..11 {
        world.publish("h:a", &n.to_string());
    }
    let key = world.connected();
    let recover = json!({"channel": "h:a", "recover": true, "epoch": epoch, "offset": 0});
    let replies = world.say(key, &json!({"id": 2, "subscribe": recover}).to_string());
    let subscribe = &replies[0]["subscribe"];
    assert_eq!(subscribe.get("recovered"), None);
    assert_eq!(subscribe["was_recovering"], true);
    assert_eq!(subscribe["offset"], 11);
    assert_eq!(subscribe.get("publications"), None);

    world.send(key, r#"{"id":3,"unsubscribe":{"channel":"h:a"}}"#);
    world.heard(key);
    let mut reject = recover.clone();
    reject["flag"] = json!(2);
    assert_eq!(error(&world.say(key, &json!({"id": 4, "subscribe": reject}).to_string())), 112);
    let replies = world.say(key, r#"{"id":5,"subscribe":{"channel":"h:a"}}"#);
    assert!(replies[0].get("subscribe").is_some(), "a refused attempt leaves nothing behind: {replies:?}");
}

#[test]
fn cache_mode_brings_the_newest_at_once() {
    let mut setup = Setup::default();
    let cache = ChannelOptions {
        recovery_mode: RecoveryMode::Cache,
        auto_cache_recover: true,
        join_leave: false,
        ..with_history()
    };
    setup.options.channel.namespaces.insert("cache".into(), Arc::new(cache));
    let mut world = setup.build();
    world.publish("cache:a", "1");
    world.publish("cache:a", "2");
    let key = world.connected();
    let replies = world.say(key, r#"{"id":2,"subscribe":{"channel":"cache:a"}}"#);
    let subscribe = &replies[0]["subscribe"];
    assert_eq!(subscribe["publications"], json!([{"data": 2, "offset": 2}]));
    assert_eq!((&subscribe["recovered"], &subscribe["was_recovering"]), (&json!(true), &json!(true)));
}

#[test]
fn one_sees_oneself_join_after_the_reply() {
    let mut setup = Setup::default();
    let loud = ChannelOptions { force_push_join_leave: true, ..with_history() };
    setup.options.channel.namespaces.insert("loud".into(), Arc::new(loud));
    let mut world = setup.build();
    let first = world.connected();
    let replies = world.say(first, r#"{"id":2,"subscribe":{"channel":"loud:a"}}"#);
    assert!(replies[0].get("subscribe").is_some());
    assert!(replies[1]["push"]["join"]["info"]["client"].is_string(), "{replies:?}");
    let second = world.connected();
    world.send(second, r#"{"id":2,"subscribe":{"channel":"loud:a"}}"#);
    assert!(world.heard(first)[0]["push"].get("join").is_some());
    world.leave(second);
    assert!(world.heard(first)[0]["push"].get("leave").is_some());
}

// === unsubscribe ===

#[test]
fn unsubscribe_always_succeeds_and_stops_deliveries() {
    let mut world = world();
    let key = world.connected();
    assert_eq!(
        world.say(key, r#"{"id":2,"unsubscribe":{"channel":"a"}}"#),
        [json!({"id": 2, "unsubscribe": {}})]
    );
    world.say(key, r#"{"id":3,"subscribe":{"channel":"a"}}"#);
    assert_eq!(
        world.say(key, r#"{"id":4,"unsubscribe":{"channel":"a"}}"#),
        [json!({"id": 4, "unsubscribe": {}})]
    );
    world.publish("a", "1");
    assert!(world.heard(key).is_empty());
    let replies = world.say(key, r#"{"id":5,"subscribe":{"channel":"a"}}"#);
    assert!(replies[0].get("subscribe").is_some(), "{replies:?}");
}

#[test]
fn nothing_is_left_of_a_connection_that_ended() {
    let mut world = world();
    let key = world.connected();
    for channel in ["a", "h:b", "h:c"] {
        world.say(key, &json!({"id": 2, "subscribe": {"channel": channel}}).to_string());
    }
    assert_eq!(now_or_never(world.node.presence("h:b")).unwrap().len(), 1);
    world.leave(key);
    assert!(world.worker.is_empty());
    assert_eq!(now_or_never(world.node.channels("")).unwrap(), []);
    assert!(now_or_never(world.node.presence("h:b")).unwrap().is_empty());
    assert_eq!(world.node.info().clients, 0);
}

// === publish, presence, history ===

#[test]
fn what_a_client_publishes_carries_its_name() {
    let mut world = world();
    let (publisher, reader) = (world.connected(), world.connected());
    world.say(reader, r#"{"id":2,"subscribe":{"channel":"a"}}"#);
    let replies = world.say(publisher, r#"{"id":2,"publish":{"channel":"a","data":{"x":1}}}"#);
    assert_eq!(replies, [json!({"id": 2, "publish": {}})]);
    let push = &world.heard(reader)[0]["push"];
    assert_eq!(push["pub"]["data"], json!({"x": 1}));
    assert_eq!(push["pub"]["info"]["client"].as_str().unwrap().len(), 36);
    assert_eq!(error(&world.say(publisher, r#"{"id":3,"publish":{"channel":"a"}}"#)), 107);
    assert_eq!(error(&world.say(publisher, r#"{"id":4,"publish":{"channel":"nope:a","data":1}}"#)), 102);
}

#[test]
fn inv_d3_all_subscribers_see_one_order() {
    let mut world = world();
    let readers = [world.connected(), world.connected()];
    for key in readers {
        world.say(key, r#"{"id":2,"subscribe":{"channel":"h:a"}}"#);
    }
    for n in 1..=30 {
        world.publish("h:a", &n.to_string());
    }
    for key in readers {
        let offsets: Vec<u64> =
            world.heard(key).iter().filter_map(|message| message["push"]["pub"]["offset"].as_u64()).collect();
        assert_eq!(offsets, (1..=30).collect::<Vec<_>>());
    }
}

#[test]
fn presence_and_history_answer_where_they_are_on() {
    let mut world = world();
    let key = world.connected();
    assert_eq!(error(&world.say(key, r#"{"id":2,"presence":{"channel":"a"}}"#)), 108);
    assert_eq!(error(&world.say(key, r#"{"id":2,"history":{"channel":"a"}}"#)), 108);
    world.say(key, r#"{"id":3,"subscribe":{"channel":"h:a"}}"#);
    let replies = world.say(key, r#"{"id":4,"presence":{"channel":"h:a"}}"#);
    assert_eq!(replies[0]["presence"]["presence"].as_object().unwrap().len(), 1);
    let replies = world.say(key, r#"{"id":5,"presence_stats":{"channel":"h:a"}}"#);
    assert_eq!(replies[0]["presence_stats"], json!({"num_clients": 1, "num_users": 1}));
    for n in 1..=3 {
        world.publish("h:a", &n.to_string());
    }
    world.heard(key);
    let replies = world.say(key, r#"{"id":6,"history":{"channel":"h:a","limit":2,"reverse":true}}"#);
    let offsets: Vec<_> = replies[0]["history"]["publications"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| p["offset"].clone())
        .collect();
    assert_eq!(offsets, [json!(3), json!(2)]);
    let replies = world.say(key, r#"{"id":7,"history":{"channel":"h:a"}}"#);
    assert_eq!(
        (&replies[0]["history"]["offset"], &replies[0]["history"]["publications"]),
        (&json!(3), &json!([]))
    );
    let other = r#"{"id":8,"history":{"channel":"h:a","since":{"offset":1,"epoch":"zz"}}}"#;
    assert_eq!(error(&world.say(key, other)), 112);
    let reverse = r#"{"id":9,"history":{"channel":"h:a","reverse":true,"since":{"offset":0,"epoch":""}}}"#;
    assert_eq!(error(&world.say(key, reverse)), 107);
}

// === rpc, send ===

#[test]
fn without_handlers_rpc_is_not_available_and_send_closes() {
    let mut world = world();
    let key = world.connected();
    assert_eq!(error(&world.say(key, r#"{"id":2,"rpc":{"method":"m"}}"#)), 108);
    world.send(key, r#"{"send":{"data":1}}"#);
    assert_eq!(world.closing(key), Some(3508));
}

#[test]
fn handlers_answer_rpc_and_take_messages() {
    let mut setup = Setup::default();
    setup.hooks.rpc = Some(Arc::new(|event| {
        std::future::ready(match event.method.as_str() {
            "echo" => Ok(event.data),
            _ => Err(ErrorCode::MethodNotFound.into()),
        })
        .boxed()
    }));
    let (sender, receiver) = std::sync::mpsc::channel();
    setup.hooks.message = Some(Arc::new(move |event| {
        sender.send(event.data).unwrap();
        std::future::ready(Ok(())).boxed()
    }));
    let mut world = setup.build();
    let key = world.connected();
    let replies = world.say(key, r#"{"id":2,"rpc":{"method":"echo","data":[1,2]}}"#);
    assert_eq!(replies, [json!({"id": 2, "rpc": {"data": [1, 2]}})]);
    assert_eq!(error(&world.say(key, r#"{"id":3,"rpc":{"method":"other"}}"#)), 104);
    assert!(world.say(key, r#"{"send":{"data":{"k":1}}}"#).is_empty());
    assert_eq!(receiver.try_recv().unwrap(), Bytes::from_static(br#"{"k":1}"#));
    assert_eq!(world.closing(key), None);
}

/// A client that comes back asks for all its channels in one frame. It was cut off as slow for what it got, came back and
/// asked again.
#[test]
fn inv_b1_what_a_client_asked_for_at_once_does_not_make_it_slow() {
    let mut setup = Setup::default();
    setup.options.client.queue_max_size = 1 << 20;
    let mut world = setup.build();
    let payload = serde_json::to_string(&"x".repeat(10_000)).unwrap();
    for channel in 0..100 {
        for _ in 0..5 {
            world.publish(&format!("h:{channel}"), &payload);
        }
    }
    let key = world.connected();
    let frame: Vec<String> = (0..100)
        .map(|n| {
            let subscribe = json!({"channel": format!("h:{n}"), "recover": true});
            json!({"id": n + 2, "subscribe": subscribe}).to_string()
        })
        .collect();
    let replies = world.say(key, &frame.join("\n"));
    assert_eq!(world.closing(key), None);
    let recovered =
        replies.iter().filter(|reply| reply["subscribe"]["publications"].as_array().map(Vec::len) == Some(5));
    assert_eq!(recovered.count(), 100);
    assert!(world.worker.wants_read(key));
    assert_eq!(world.node.metrics().slow_consumers.total(), 0);
}

#[test]
fn inv_b2_commands_wait_while_their_answers_are_not_read() {
    let mut setup = Setup::default();
    setup.options.client.queue_max_size = 100_000;
    let mut world = setup.build();
    world.publish("h:a", &serde_json::to_string(&"x".repeat(10_000)).unwrap());
    let key = world.connected();
    let ask = r#"{"id":2,"history":{"channel":"h:a","limit":1}}"#;
    world.send(key, &[ask; 50].join("\n"));
    assert!(!world.worker.wants_read(key), "nothing more is taken in");
    assert_eq!(world.closing(key), None);
    let waiting = world.worker.outbox(key).bytes();
    assert!((25_000..60_000).contains(&waiting), "{waiting}");
    assert_eq!(world.heard(key).len(), 50);
    assert!(world.worker.wants_read(key));
}

#[test]
fn bad_a_flood_of_commands_is_refused_and_then_closed() {
    let mut setup = Setup::default();
    setup.options.client.command_rate_limit = 10;
    // An answer to each refusal must not be what ends it.
    setup.options.client.pong_timeout = Duration::ZERO;
    let mut world = setup.build();
    let key = world.connected();
    let other = world.connected();
    let publish = |id: u32| json!({"id": id, "publish": {"channel": "a", "data": 1}}).to_string();
    let codes = |replies: &[Value]| replies[0]["error"]["code"].as_u64();

    // Connecting was the first of a hundred.
    for id in 2..=100 {
        assert_eq!(codes(&world.say(key, &publish(id))), None, "command {id}");
    }
    for id in 101..=200 {
        assert_eq!(codes(&world.say(key, &publish(id))), Some(111), "command {id}");
    }
    assert_eq!(world.closing(key), None);
    world.send(key, &publish(201));
    assert_eq!(world.closing(key), Some(3013));
    assert_eq!(codes(&world.say(other, &publish(2))), None, "another one is not concerned");

    // Who heeds it goes on.
    let patient = world.connected();
    for id in 2..=101 {
        world.say(patient, &publish(id));
    }
    world.pass(Duration::from_secs(1));
    world.heard(patient);
    assert_eq!(codes(&world.say(patient, &publish(102))), None);
}

#[test]
fn bad_a_flood_of_messages_without_answer_is_closed() {
    let mut setup = Setup::default();
    setup.options.client.command_rate_limit = 1;
    setup.hooks.message = Some(Arc::new(|_| Box::pin(std::future::ready(Ok(())))));
    let mut world = setup.build();
    let key = world.connected();
    for _ in 0..9 {
        world.send(key, r#"{"send":{"data":1}}"#);
        assert_eq!(world.closing(key), None);
    }
    world.send(key, r#"{"send":{"data":1}}"#);
    assert_eq!(world.closing(key), Some(3013));
}
