//! What a client hears for each command, over the whole core and the embedded engine.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod harness;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use harness::{START_UNIX_S, Setup, World, now_or_never, with_history};
use serde_json::{Value, json};
use tidewire_core::hooks::{
    ConnectionClaims, SubscribeGrant, SubscriptionClaims, TokenError, TokenVerifier, UpgradeRequest,
};
use tidewire_core::options::{ChannelOptions, PersonalChannel, RecoveryMode};
use tidewire_core::{ConnectionKey, Target};
use tidewire_engine::BoxFuture;
use tidewire_protocol::{Disconnect, ErrorCode, Unsubscribed};

fn world() -> World {
    Setup::default().build()
}

fn error(replies: &[Value]) -> u64 {
    assert_eq!(replies.len(), 1, "{replies:?}");
    replies[0]["error"]["code"].as_u64().unwrap_or_else(|| panic!("no error: {replies:?}"))
}

fn anonymous() -> Target {
    Target::default()
}

/// Tokens are `user`, `user@expiry` and, for subscriptions, `user/channel` or `user/channel@expiry`; `bad` is invalid.
struct PlainTokens;

impl PlainTokens {
    fn parse(token: &str, now: i64) -> Result<(String, i64), TokenError> {
        let (name, expire_at) = match token.split_once('@') {
            Some((name, expiry)) => (name, expiry.parse().unwrap()),
            None => (token, 0),
        };
        match name {
            "bad" => Err(TokenError::Invalid("test".into())),
            _ if expire_at != 0 && expire_at <= now => Err(TokenError::Expired),
            _ => Ok((name.to_owned(), expire_at)),
        }
    }
}

impl TokenVerifier for PlainTokens {
    fn connection<'a>(
        &'a self,
        token: &'a str,
        now: i64,
    ) -> BoxFuture<'a, Result<ConnectionClaims, TokenError>> {
        let claims = Self::parse(token, now).map(|(name, expire_at)| {
            let (user, subs) = match name.split_once('+') {
                Some((user, channel)) => (user, vec![(channel.into(), SubscribeGrant::default())]),
                None => (name.as_str(), Vec::new()),
            };
            ConnectionClaims { user: user.to_owned(), expire_at, subs, ..Default::default() }
        });
        std::future::ready(claims).boxed()
    }

    fn subscription<'a>(
        &'a self,
        token: &'a str,
        now: i64,
    ) -> BoxFuture<'a, Result<SubscriptionClaims, TokenError>> {
        let claims = Self::parse(token, now).map(|(name, expire_at)| {
            let (user, channel) = name.split_once('/').unwrap();
            SubscriptionClaims {
                user: user.into(),
                channel: channel.into(),
                grant: SubscribeGrant { expire_at, ..Default::default() },
                ..Default::default()
            }
        });
        std::future::ready(claims).boxed()
    }
}

fn with_tokens(change: impl FnOnce(&mut Setup)) -> World {
    let mut setup = Setup { tokens: Arc::new(PlainTokens), ..Default::default() };
    setup.options.client.insecure = false;
    change(&mut setup);
    setup.build()
}

fn connect_as(world: &mut World, token: &str) -> (ConnectionKey, Vec<Value>) {
    let key = world.open();
    let replies = world.say(key, &json!({"id": 1, "connect": {"token": token}}).to_string());
    (key, replies)
}

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
    assert_eq!(now_or_never(counted), 1);
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
    assert!(world.node.channels().is_empty());
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

fn settle<T>(world: &mut World, future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let first = future.as_mut().now_or_never();
    world.run();
    first.unwrap_or_else(|| now_or_never(future))
}

#[test]
fn the_server_subscribes_and_unsubscribes() {
    let mut world = world();
    let key = world.connected();
    let node = Arc::clone(&world.node);
    let count =
        settle(&mut world, node.subscribe(&anonymous(), "h:a", SubscribeGrant::default(), None)).unwrap();
    assert_eq!(count, 1);
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
    assert!(world.node.channels().is_empty());
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
