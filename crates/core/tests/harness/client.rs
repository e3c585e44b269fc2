//! Short forms of what most tests do: a node, a client with a token, the error in an answer.

use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt;
use serde_json::{Value, json};
use tidewire_core::hooks::{ConnectionClaims, SubscribeGrant, SubscriptionClaims, TokenError, TokenVerifier};
use tidewire_core::{ConnectionKey, Target};
use tidewire_engine::BoxFuture;

use super::{Setup, World, now_or_never};

pub fn world() -> World {
    Setup::default().build()
}

pub fn error(replies: &[Value]) -> u64 {
    assert_eq!(replies.len(), 1, "{replies:?}");
    replies[0]["error"]["code"].as_u64().unwrap_or_else(|| panic!("no error: {replies:?}"))
}

pub fn anonymous() -> Target {
    Target::default()
}

/// Tokens are `user`, `user@expiry` and, for subscriptions, `user/channel` or `user/channel@expiry`; `bad` is invalid.
pub struct PlainTokens;

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

pub fn with_tokens(change: impl FnOnce(&mut Setup)) -> World {
    let mut setup = Setup { tokens: Arc::new(PlainTokens), ..Default::default() };
    setup.options.client.insecure = false;
    change(&mut setup);
    setup.build()
}

pub fn connect_as(world: &mut World, token: &str) -> (ConnectionKey, Vec<Value>) {
    let key = world.open();
    let replies = world.say(key, &json!({"id": 1, "connect": {"token": token}}).to_string());
    (key, replies)
}

/// Runs an operation of the server API to its end, letting the worker do its part.
pub fn settle<T>(world: &mut World, future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let first = future.as_mut().now_or_never();
    world.run();
    first.unwrap_or_else(|| now_or_never(future))
}
