//! What expires, and how it is renewed: connections and subscriptions, by tokens (§5.3, §17 and §18 of the protocol).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod harness;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use harness::{START_UNIX_S as NOW, Setup, World, error, with_history};
use serde_json::{Value, json};
use tidewire_core::ConnectionKey;
use tidewire_core::hooks::{ConnectionClaims, SubscribeGrant, SubscriptionClaims, TokenError, TokenVerifier};
use tidewire_core::options::ChannelOptions;
use tidewire_engine::BoxFuture;

/// Tokens that are their claims, as JSON; with `error` they are judged so.
struct ClaimTokens;

fn claims(token: &str) -> Result<Value, TokenError> {
    let claims: Value = serde_json::from_str(token).map_err(|_| TokenError::Invalid("no JSON".into()))?;
    match claims["error"].as_str() {
        Some("expired") => Err(TokenError::Expired),
        Some(_) => Err(TokenError::Invalid("test".into())),
        None => Ok(claims),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn info(value: &Value) -> Bytes {
    if value.is_null() { Bytes::new() } else { value.to_string().into() }
}

impl TokenVerifier for ClaimTokens {
    fn connection<'a>(
        &'a self,
        token: &'a str,
        _: i64,
    ) -> BoxFuture<'a, Result<ConnectionClaims, TokenError>> {
        let told = claims(token).map(|claims| {
            let subs = claims["subs"].as_object().into_iter().flatten().map(|(channel, expire_at)| {
                let grant = SubscribeGrant { expire_at: expire_at.as_i64().unwrap(), ..Default::default() };
                (channel.as_str().into(), grant)
            });
            ConnectionClaims {
                user: text(&claims["user"]),
                expire_at: claims["expire_at"].as_i64().unwrap_or(0),
                info: info(&claims["info"]),
                subs: subs.collect(),
                ..Default::default()
            }
        });
        std::future::ready(told).boxed()
    }

    fn subscription<'a>(
        &'a self,
        token: &'a str,
        _: i64,
    ) -> BoxFuture<'a, Result<SubscriptionClaims, TokenError>> {
        let told = claims(token).map(|claims| SubscriptionClaims {
            user: text(&claims["user"]),
            channel: text(&claims["channel"]),
            client: text(&claims["client"]),
            grant: SubscribeGrant {
                expire_at: claims["expire_at"].as_i64().unwrap_or(0),
                info: info(&claims["info"]),
                ..Default::default()
            },
        });
        std::future::ready(told).boxed()
    }
}

fn world() -> World {
    let mut setup = Setup { tokens: Arc::new(ClaimTokens), ..Default::default() };
    let open = ChannelOptions {
        allow_subscribe_for_client: true,
        allow_subscribe_for_anonymous: true,
        allow_user_limited_channels: true,
        ..with_history()
    };
    setup.options.channel.without_namespace = Arc::new(open.clone());
    let asked = ChannelOptions { subscribe_proxy_enabled: true, ..open };
    setup.options.channel.namespaces.insert("asked".into(), Arc::new(asked));
    setup.options.channel.namespaces.insert("shut".into(), Arc::new(ChannelOptions::default()));
    setup.options.client.insecure = false;
    setup.options.client.allow_anonymous_connect_without_token = true;
    // Nobody answers pings here.
    setup.options.client.pong_timeout = Duration::ZERO;
    setup.options.client.presence_update_interval = Duration::from_secs(2);
    setup.build()
}

fn connect(world: &mut World, claims: &Value) -> (ConnectionKey, Value) {
    connect_with(world, json!({"token": claims.to_string()}))
}

fn connect_with(world: &mut World, request: Value) -> (ConnectionKey, Value) {
    let key = world.open();
    let replies = world.say(key, &json!({"id": 1, "connect": request}).to_string());
    (key, replies.first().cloned().unwrap_or_default())
}

/// The reply to a command, if there is one.
fn ask(world: &mut World, key: ConnectionKey, command: Value) -> Option<Value> {
    let mut command = command;
    command["id"] = json!(9);
    world.say(key, &command.to_string()).into_iter().find(|reply| reply["id"] == 9)
}

fn refresh(world: &mut World, key: ConnectionKey, claims: &Value) -> Option<Value> {
    ask(world, key, json!({"refresh": {"token": claims.to_string()}}))
}

// === the connection ===

#[test]
fn a_connect_says_when_its_token_must_be_renewed() {
    let mut world = world();
    const YEAR: i64 = 365 * 24 * 3600;
    for (expire_at, told) in [
        (json!(NOW + 60), (json!(true), json!(60))),
        (json!(NOW + 10 * YEAR), (json!(true), json!(YEAR))),
        (json!(0), (Value::Null, Value::Null)),
    ] {
        let (_, reply) = connect(&mut world, &json!({"user": "u", "expire_at": expire_at}));
        let connect = &reply["connect"];
        assert_eq!((connect["expires"].clone(), connect["ttl"].clone()), told, "{expire_at}");
    }
    for past in [NOW, NOW - 1, 1] {
        let (_, reply) = connect(&mut world, &json!({"user": "u", "expire_at": past}));
        assert_eq!(reply["error"]["code"], 110, "{past}");
    }
}

#[test]
fn a_refresh_is_judged_as_the_protocol_says() {
    let user = |more: Value| {
        let mut claims = json!({"user": "u", "expire_at": NOW + 600});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims
    };
    // The token, and the code of the disconnect (3000 and above) or error that follows; 0: done.
    for (token, code) in [
        (user(json!({})), 0),
        (user(json!({"expire_at": 0})), 0),
        (user(json!({"error": "expired"})), 3005),
        (user(json!({"error": "invalid"})), 3500),
        (json!("no claims"), 3500),
        (user(json!({"user": "other"})), 3500),
        (user(json!({"user": ""})), 3500),
        (user(json!({"expire_at": NOW})), 110),
        (user(json!({"expire_at": NOW - 5})), 110),
        (user(json!({"subs": {"news": 0}})), 3010),
    ] {
        let mut world = world();
        let (key, _) = connect(&mut world, &user(json!({"expire_at": NOW + 60})));
        let reply = refresh(&mut world, key, &token);
        match code {
            0 => {
                let result = &reply.unwrap()["refresh"];
                let expires = token["expire_at"] != 0;
                assert_eq!(result["expires"].as_bool().unwrap_or(false), expires, "{token}");
                assert_eq!(result["ttl"].as_i64().unwrap_or(0), if expires { 600 } else { 0 });
                // The new time counts, not the old one.
                world.pass(Duration::from_secs(100));
                assert_eq!(world.closing(key), None, "{token}");
                world.pass(Duration::from_secs(600));
                assert_eq!(world.closing(key), expires.then_some(3005), "{token}");
            }
            110 => {
                assert_eq!(error(&[reply.unwrap()]), 110, "{token}");
                assert_eq!(world.closing(key), None);
            }
            code => assert_eq!((reply, world.closing(key)), (None, Some(code)), "{token}"),
        }
    }
    let mut world = world();
    let (key, _) = connect(&mut world, &user(json!({})));
    assert_eq!(ask(&mut world, key, json!({"refresh": {"token": ""}})), None);
    assert_eq!(world.closing(key), Some(3501));
}

#[test]
fn a_refresh_keeps_the_channels_of_the_token_and_may_bring_other_info() {
    let mut world = world();
    let with =
        |subs: Value, info: Value| json!({"user": "u", "expire_at": NOW + 60, "subs": subs, "info": info});
    let (key, reply) = connect(&mut world, &with(json!({"a": 0, "b": 0}), json!({"name": "old"})));
    assert_eq!(reply["connect"]["subs"].as_object().unwrap().len(), 2);
    assert!(
        refresh(&mut world, key, &with(json!({"a": 0, "b": 0}), Value::Null))
            .unwrap()
            .get("refresh")
            .is_some()
    );
    let told = |world: &mut World| {
        let (looker, _) = connect(world, &json!({"user": "looker"}));
        world.say(looker, r#"{"id":2,"subscribe":{"channel":"a"}}"#);
        let all = harness::now_or_never(world.node.presence("a")).unwrap();
        let of_user = all.iter().find(|info| info.user == "u").unwrap();
        String::from_utf8(of_user.conn_info.to_vec()).unwrap()
    };
    assert_eq!(told(&mut world), r#"{"name":"old"}"#, "without info it stays");
    refresh(&mut world, key, &with(json!({"a": 0, "b": 0}), json!({"name": "new"}))).unwrap();
    // The next renewal of presence tells it.
    world.pass(Duration::from_secs(3));
    assert_eq!(told(&mut world), r#"{"name":"new"}"#);
    assert_eq!(world.closing(key), None);
    assert_eq!(refresh(&mut world, key, &with(json!({"a": 0}), Value::Null)), None);
    assert_eq!(world.closing(key), Some(3010), "one is missing in the new token");
}

// === a subscription ===

#[test]
fn a_sub_refresh_is_judged_as_the_protocol_says() {
    let token = |more: Value| {
        let mut claims = json!({"user": "u", "channel": "$c", "expire_at": NOW + 600});
        claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        claims.to_string()
    };
    for (channel, token, code) in [
        ("$c", token(json!({})), 0),
        ("$c", token(json!({"expire_at": 0})), 0),
        // One SDK leaves the channel out.
        ("", token(json!({})), 0),
        ("$c", token(json!({"error": "expired"})), 110),
        ("$c", token(json!({"expire_at": NOW})), 110),
        ("$c", token(json!({"error": "invalid"})), 3500),
        ("$c", token(json!({"user": "other"})), 3500),
        ("$c", token(json!({"channel": "$d"})), 3500),
        ("$c", token(json!({"client": "another"})), 3500),
        ("$c", String::new(), 107),
        ("$d", token(json!({"channel": "$d"})), 103),
        ("", token(json!({"channel": "$d"})), 103),
        ("", String::new(), 3501),
    ] {
        let mut world = world();
        let (key, _) = connect(&mut world, &json!({"user": "u"}));
        let first = json!({"user": "u", "channel": "$c", "expire_at": NOW + 60}).to_string();
        let made = ask(&mut world, key, json!({"subscribe": {"channel": "$c", "token": first}})).unwrap();
        assert_eq!((&made["subscribe"]["expires"], &made["subscribe"]["ttl"]), (&json!(true), &json!(60)));
        let reply = ask(&mut world, key, json!({"sub_refresh": {"channel": channel, "token": token}}));
        match code {
            0 => {
                assert!(reply.unwrap().get("sub_refresh").is_some(), "{token}");
                world.pass(Duration::from_secs(100));
                let pushed = world.heard(key);
                assert!(
                    pushed.iter().all(|message| message["push"].get("unsubscribe").is_none()),
                    "{pushed:?}"
                );
            }
            3000.. => assert_eq!((reply, world.closing(key)), (None, Some(code)), "{channel} {token}"),
            code => {
                assert_eq!(error(&[reply.unwrap()]), u64::from(code), "{channel} {token}");
                assert_eq!(world.closing(key), None);
            }
        }
    }
}

#[test]
fn a_server_side_subscription_that_expires_takes_its_connection_along() {
    let mut world = world();
    let (key, reply) = connect(&mut world, &json!({"user": "u", "subs": {"a": NOW + 10}}));
    assert_eq!(reply["connect"]["subs"]["a"]["ttl"], 10);
    world.pass(Duration::from_secs(34));
    assert_eq!(world.closing(key), None, "within the grace");
    world.pass(Duration::from_secs(5));
    assert_eq!(world.closing(key), Some(3006));
}

// === server-side subscriptions that the client names ===

#[test]
fn channels_that_the_client_names_are_those_it_could_have_itself() {
    let mut world = world();
    let named = json!({
        "news": {}, "list#u,v": {}, "list#v": {}, "$private": {}, "asked:a": {}, "shut:a": {}, "bad\u{1}": {},
    });
    let names = |reply: &Value| -> Vec<String> {
        reply["connect"]["subs"].as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect()
    };
    let token = json!({"user": "u"}).to_string();
    let (_, reply) = connect_with(&mut world, json!({"token": token, "subs": named}));
    assert_eq!(names(&reply), ["list#u,v", "news"]);
    let (_, reply) = connect_with(&mut world, json!({"subs": named}));
    assert_eq!(names(&reply), ["news"], "an anonymous client is on no list");
    let (key, _) = connect_with(&mut world, json!({"token": token, "subs": {"nowhere:a": {}}}));
    assert_eq!(world.closing(key), Some(3501));
}
