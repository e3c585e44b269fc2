//! Tokens good and bad. Keys are made anew in each run; the clock is a number.

mod bad;
mod oracle;
mod published;
pub(super) mod support;

use serde_json::json;
use tidewire_core::hooks::{ConnectionClaims, Overrides, SubscribeGrant, TokenError, TokenVerifier};
use tidewire_protocol::ChannelName;

use super::Algorithm;
use crate::config::Secret;
use crate::config::model::{Expected, PreviousSecret, TokenRules, Tokens};
use support::{NOW, Pair, SECRET, connect, subscribe, verifier};

fn hmac_rules() -> TokenRules {
    TokenRules { hmac: Some(Secret::new(SECRET)), ..TokenRules::default() }
}

fn channel(name: &str) -> ChannelName {
    ChannelName::from(name)
}

#[tokio::test]
async fn every_algorithm_verifies_with_its_own_key() {
    for algorithm in support::ALL {
        let pair = Pair::new(algorithm);
        let token = pair.sign(&json!({"sub": "42", "exp": NOW + 60}));
        let Some(rules) = pair.rules() else { continue };
        let claims = connect(&verifier(rules), &token).await.unwrap();
        assert_eq!((claims.user.as_str(), claims.expire_at), ("42", NOW + 60), "{algorithm:?}");
    }
}

#[tokio::test]
async fn all_claims_of_a_connection_token_arrive() {
    let rules = || verifier(hmac_rules());
    let token = support::hs256(&json!({
        "sub": "42", "exp": NOW + 60, "iat": NOW, "jti": "x", "nbf": NOW,
        "info": {"name": "A"}, "meta": {"plan": 1}, "unknown": [[1]],
        "subs": {
            "a": {"info": [1], "b64data": "aGk=", "override": {"presence": {"value": true}, "force_recovery": {"value": false}}},
            "b": {}, "c": null
        },
        "channels": ["ignored"]
    }));
    let claims = connect(&rules(), &token).await.unwrap();
    let overrides = Overrides { presence: Some(true), force_recovery: Some(false), ..Overrides::default() };
    assert_eq!(
        claims,
        ConnectionClaims {
            user: "42".into(),
            expire_at: NOW + 60,
            info: r#"{"name":"A"}"#.into(),
            meta: r#"{"plan":1}"#.into(),
            subs: vec![
                (
                    channel("a"),
                    SubscribeGrant { expire_at: 0, info: "[1]".into(), data: "hi".into(), overrides }
                ),
                (channel("b"), SubscribeGrant::default()),
                (channel("c"), SubscribeGrant::default()),
            ],
        }
    );
    let token =
        support::hs256(&json!({"channels": ["x", "y", "x"], "b64info": "aGk=", "info": 1, "subs": {}}));
    let claims = connect(&rules(), &token).await.unwrap();
    assert_eq!((claims.user.as_str(), claims.expire_at, &claims.info[..]), ("", 0, &b"hi"[..]));
    let names: Vec<&str> = claims.subs.iter().map(|(channel, _)| channel.as_str()).collect();
    assert_eq!(names, ["x", "y"]);
}

#[tokio::test]
async fn all_claims_of_a_subscription_token_arrive() {
    let token = support::hs256(&json!({
        "sub": "42", "channel": "chat", "client": "c", "exp": NOW + 60, "expire_at": NOW + 600,
        "info": {}, "data": "d", "override": {"join_leave": {"value": true}}
    }));
    let claims = subscribe(&verifier(hmac_rules()), &token).await.unwrap();
    assert_eq!((claims.user.as_str(), claims.channel.as_str(), claims.client.as_str()), ("42", "chat", "c"));
    assert_eq!(
        (claims.grant.expire_at, &claims.grant.info[..], &claims.grant.data[..]),
        (NOW + 600, &b"{}"[..], &b"\"d\""[..])
    );
    assert_eq!(claims.grant.overrides.join_leave, Some(true));
}

#[tokio::test]
async fn expire_at_says_when_a_connection_ends_and_exp_when_a_token_does() {
    let table = [
        (json!({"exp": NOW + 60}), Ok(NOW + 60)),
        (json!({"exp": NOW + 60, "expire_at": 0}), Ok(0)),
        (json!({"exp": NOW + 60, "expire_at": -1}), Ok(0)),
        (json!({"exp": NOW + 60, "expire_at": NOW + 5}), Ok(NOW + 5)),
        (json!({"expire_at": NOW - 5}), Ok(NOW - 5)),
        (json!({"exp": null}), Ok(0)),
        (json!({"exp": NOW as f64 + 0.5}), Ok(NOW)),
        (json!({"exp": NOW + 1}), Ok(NOW + 1)),
        (json!({"exp": NOW}), Err(TokenError::Expired)),
        (json!({"exp": NOW - 1, "expire_at": NOW + 5}), Err(TokenError::Expired)),
        (json!({"exp": 0}), Err(TokenError::Expired)),
        (json!({"exp": -5}), Err(TokenError::Expired)),
        (json!({"nbf": NOW + 1}), Err(TokenError::Expired)),
        (json!({"nbf": NOW}), Ok(0)),
        (json!({"exp": 253_402_300_799_i64}), Ok(253_402_300_799)),
    ];
    for (claims, expected) in table {
        let told = connect(&verifier(hmac_rules()), &support::hs256(&claims)).await;
        assert_eq!(told.map(|claims| claims.expire_at), expected, "{claims}");
    }
}

#[tokio::test]
async fn the_previous_secret_is_accepted_until_its_day() {
    let old = "an-older-secret-of-at-least-32-bytes";
    let token = support::sign_hmac(Algorithm::Hs384, old, &json!({"sub": "1"}));
    for (valid_until, accepted) in [(0, true), (NOW, true), (NOW + 1, true), (NOW - 1, false)] {
        let previous = Some(PreviousSecret { secret: Secret::new(old), valid_until });
        let rules = TokenRules { hmac_previous: previous, ..hmac_rules() };
        assert_eq!(connect(&verifier(rules), &token).await.is_ok(), accepted, "valid until {valid_until}");
    }
    assert!(connect(&verifier(hmac_rules()), &token).await.is_err());
}

#[tokio::test]
async fn audience_and_issuer_are_what_they_must_be() {
    let exact = |text: &str| Expected::Exact(text.into());
    let matches = |pattern: &str| Expected::Matches(regex::Regex::new(pattern).unwrap());
    let table = [
        (exact("a"), Expected::Any, json!({"aud": "a"}), true),
        (exact("a"), Expected::Any, json!({"aud": ["b", "a"]}), true),
        (exact("a"), Expected::Any, json!({"aud": ["b"]}), false),
        (exact("a"), Expected::Any, json!({"aud": []}), false),
        (exact("a"), Expected::Any, json!({}), false),
        (exact("a"), Expected::Any, json!({"aud": "A"}), false),
        (exact("a"), Expected::Any, json!({"aud": {"a": 1}}), false),
        (matches("^app-[0-9]+$"), Expected::Any, json!({"aud": ["x", "app-7"]}), true),
        (matches("^app-[0-9]+$"), Expected::Any, json!({"aud": "app-7x"}), false),
        (Expected::Any, exact("i"), json!({"iss": "i"}), true),
        (Expected::Any, exact("i"), json!({"iss": "j"}), false),
        (Expected::Any, exact("i"), json!({}), false),
        (Expected::Any, exact("i"), json!({"iss": ["i"]}), false),
        (
            Expected::Any,
            matches("^https://[a-z]+\\.example\\.com$"),
            json!({"iss": "https://a.example.com"}),
            true,
        ),
        (
            Expected::Any,
            matches("^https://[a-z]+\\.example\\.com$"),
            json!({"iss": "https://a.example.com.evil.com"}),
            false,
        ),
        (Expected::Any, Expected::Any, json!({"aud": "x", "iss": "y"}), true),
    ];
    for (audience, issuer, claims, accepted) in table {
        let rules = TokenRules { audience, issuer, ..hmac_rules() };
        let told = connect(&verifier(rules), &support::hs256(&claims)).await;
        assert_eq!(told.is_ok(), accepted, "{claims}: {told:?}");
    }
}

#[tokio::test]
async fn an_expired_token_of_another_audience_is_invalid_and_not_expired() {
    let rules = TokenRules { audience: Expected::Exact("a".into()), ..hmac_rules() };
    let told = connect(&verifier(rules), &support::hs256(&json!({"aud": "b", "exp": 1}))).await;
    assert!(matches!(told, Err(TokenError::Invalid(_))), "{told:?}");
    // A subscription token's missing channel counts after its time.
    let told = subscribe(&verifier(hmac_rules()), &support::hs256(&json!({"exp": 1}))).await;
    assert_eq!(told, Err(TokenError::Expired));
}

#[tokio::test]
async fn the_user_can_stand_in_another_claim() {
    let rules = || TokenRules { user_id_claim: Some("user_id".into()), ..hmac_rules() };
    let table = [
        (json!({"sub": "a", "user_id": "b"}), Some("b")),
        (json!({"sub": "a"}), Some("")),
        (json!({"user_id": null}), Some("")),
        (json!({"user_id": 7}), None),
    ];
    for (claims, user) in table {
        let told = connect(&verifier(rules()), &support::hs256(&claims)).await.ok();
        assert_eq!(told.map(|claims| claims.user), user.map(str::to_owned), "{claims}");
    }
}

#[tokio::test]
async fn subscription_tokens_with_keys_of_their_own_are_verified_by_those_alone() {
    let other = "another-secret-of-at-least-32-bytes!";
    let tokens = Tokens {
        connection: hmac_rules(),
        subscription: Some(TokenRules { hmac: Some(Secret::new(other)), ..TokenRules::default() }),
        insecure_skip_signature: false,
    };
    let verifier = support::verifier_of(tokens);
    let claims = json!({"channel": "c"});
    assert!(subscribe(&verifier, &support::hs256(&claims)).await.is_err());
    assert!(subscribe(&verifier, &support::sign_hmac(Algorithm::Hs256, other, &claims)).await.is_ok());
    assert!(connect(&verifier, &support::sign_hmac(Algorithm::Hs256, other, &json!({}))).await.is_err());
}

#[tokio::test]
async fn skipping_signatures_skips_nothing_else() {
    let tokens =
        Tokens { connection: TokenRules::default(), subscription: None, insecure_skip_signature: true };
    let verifier = support::verifier_of(tokens);
    let forged = |claims: serde_json::Value| support::sign_hmac(Algorithm::Hs256, "anything", &claims);
    assert_eq!(connect(&verifier, &forged(json!({"sub": "1"}))).await.unwrap().user, "1");
    assert_eq!(connect(&verifier, &forged(json!({"exp": 1}))).await, Err(TokenError::Expired));
    assert!(connect(&verifier, &forged(json!({"channel": "c"}))).await.is_err());
}

#[tokio::test]
async fn without_keys_no_token_is_valid() {
    let token = support::hs256(&json!({"sub": "1"}));
    assert!(verifier(TokenRules::default()).connection(&token, NOW).await.is_err());
}
