//! Keys that an issuer publishes, from a real server that behaves well or badly: family J5 of bad inputs.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tidewire_core::hooks::TokenError;
use tokio::net::TcpListener;

use super::super::{Algorithm, Verifier};
use super::support::{self, ALL, Pair, connect, verifier};
use crate::config::model::{JwksEndpoint, TokenRules};

type Answer = Arc<dyn Fn() -> Response<BoxBody<Bytes, Infallible>> + Send + Sync>;

/// A server of keys on loopback, whose answer can be changed.
struct Issuer {
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    asked: Arc<AtomicUsize>,
}

impl Issuer {
    async fn start(keys: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let issuer =
            Self { address, answer: Arc::new(Mutex::new(body(keys.to_string()))), asked: Arc::default() };
        let (answer, asked) = (Arc::clone(&issuer.answer), Arc::clone(&issuer.asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (answer, asked) = (Arc::clone(&answer), Arc::clone(&asked));
                let service = service_fn(move |_| {
                    asked.fetch_add(1, Ordering::SeqCst);
                    let answer = Arc::clone(&answer.lock());
                    async move { Ok::<_, Infallible>(answer()) }
                });
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        issuer
    }

    fn publish(&self, keys: Value) {
        *self.answer.lock() = body(keys.to_string());
    }

    fn behave(&self, answer: Answer) {
        *self.answer.lock() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn verifier(&self) -> Verifier {
        verifier(rules(&format!("http://{}/jwks", self.address), true))
    }
}

fn rules(url: &str, allow_private: bool) -> TokenRules {
    TokenRules { jwks: Some(JwksEndpoint { url: url.to_owned(), allow_private }), ..TokenRules::default() }
}

fn body(text: impl Into<Bytes>) -> Answer {
    let text = text.into();
    Arc::new(move || Response::new(Full::new(text.clone()).boxed()))
}

fn status(code: u16) -> Answer {
    Arc::new(move || {
        let mut answer = Response::new(Full::new(Bytes::from_static(b"{\"keys\":[]}")).boxed());
        *answer.status_mut() = StatusCode::from_u16(code).unwrap();
        answer
    })
}

fn token(pair: &Pair, kid: &str) -> String {
    pair.signer().with_kid(kid).sign(json!({"sub": "1"}).as_object().unwrap())
}

/// Moves the clock on. It runs on its own otherwise: with a clock that stands, timeouts fire while sockets are waited for.
async fn skip(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn keys_of_every_public_kind_are_used() {
    let pairs: Vec<Pair> = ALL[3..].iter().map(|algorithm| Pair::new(*algorithm)).collect();
    let keys: Vec<Value> =
        pairs.iter().enumerate().map(|(index, pair)| pair.jwk(&index.to_string())).collect();
    let issuer = Issuer::start(json!({ "keys": keys })).await;
    let verifier = issuer.verifier();
    for (index, pair) in pairs.iter().enumerate() {
        let told = connect(&verifier, &token(pair, &index.to_string())).await;
        assert!(told.is_ok(), "{:?}: {told:?}", pair.algorithm);
        assert!(
            connect(&verifier, &token(pair, &((index + 1) % 7).to_string())).await.is_err(),
            "another's kid"
        );
    }
    assert_eq!(issuer.asked(), 1, "fetched once for all");
}

#[tokio::test]
async fn an_issuer_replaces_the_configured_keys() {
    let pair = Pair::new(Algorithm::Es256);
    let issuer = Issuer::start(json!({"keys": [pair.jwk("a")]})).await;
    let mut rules = rules(&format!("http://{}/", issuer.address), true);
    rules.hmac = super::hmac_rules().hmac;
    let verifier = verifier(rules);
    assert!(connect(&verifier, &support::hs256(&json!({}))).await.is_err());
    assert!(connect(&verifier, &token(&pair, "a")).await.is_ok());
}

#[tokio::test]
async fn new_keys_are_found_and_old_ones_forgotten_within_the_hour() {
    let (old, new) = (Pair::new(Algorithm::Es256), Pair::new(Algorithm::EdDsa));
    let issuer = Issuer::start(json!({"keys": [old.jwk("old")]})).await;
    let verifier = issuer.verifier();
    assert!(connect(&verifier, &token(&old, "old")).await.is_ok());
    issuer.publish(json!({"keys": [new.jwk("new")]}));
    skip(Duration::from_secs(11)).await;
    assert!(connect(&verifier, &token(&new, "new")).await.is_ok(), "an unknown kid asks again");
    assert!(connect(&verifier, &token(&old, "old")).await.is_err(), "a key that is gone is gone");
    let asked = issuer.asked();
    issuer.publish(json!({"keys": []}));
    skip(Duration::from_secs(3000)).await;
    assert!(connect(&verifier, &token(&new, "new")).await.is_ok());
    assert_eq!(issuer.asked(), asked, "a known key is not asked for again within the hour");
    skip(Duration::from_secs(700)).await;
    assert!(connect(&verifier, &token(&new, "new")).await.is_err(), "after the hour it is");
}

#[tokio::test]
async fn many_tokens_at_once_fetch_once() {
    let pair = Pair::new(Algorithm::Es256);
    let issuer = Issuer::start(json!({"keys": [pair.jwk("a")]})).await;
    let verifier = issuer.verifier();
    let token = token(&pair, "a");
    let told = futures_util::future::join_all((0..50).map(|_| connect(&verifier, &token))).await;
    assert!(told.iter().all(Result::is_ok));
    assert_eq!(issuer.asked(), 1);
}

#[tokio::test]
async fn bad_j5_a_flood_of_kids_causes_one_fetch_in_ten_seconds() {
    let pair = Pair::new(Algorithm::Es256);
    let issuer = Issuer::start(json!({"keys": [pair.jwk("a")]})).await;
    let verifier = issuer.verifier();
    for round in 0..3 {
        for kid in 0..200 {
            assert!(connect(&verifier, &token(&pair, &format!("unknown-{kid}"))).await.is_err());
        }
        assert!(connect(&verifier, &token(&pair, "a")).await.is_ok(), "a good token is served meanwhile");
        assert_eq!(issuer.asked(), round + 1);
        skip(Duration::from_secs(10)).await;
    }
}

#[tokio::test]
async fn bad_j5_answers_that_cannot_be_trusted_are_refused() {
    let pair = Pair::new(Algorithm::Es256);
    let good = json!({"keys": [pair.jwk("a")]}).to_string();
    let trap = Issuer::start(json!({"keys": [pair.jwk("a")]})).await;
    let trap_url = format!("http://{}/jwks", trap.address);
    let redirect = |code: u16| -> Answer {
        let url = trap_url.clone();
        Arc::new(move || {
            let mut answer = Response::new(Full::default().boxed());
            *answer.status_mut() = StatusCode::from_u16(code).unwrap();
            answer.headers_mut().insert("location", url.parse().unwrap());
            answer
        })
    };
    let many: Vec<Value> = (0..65).map(|index| pair.jwk(&index.to_string())).chain([pair.jwk("a")]).collect();
    let padded = format!("{good}{}", " ".repeat(300 << 10));
    let endless: Answer = Arc::new(|| {
        let chunk = Bytes::from(vec![b' '; 64 << 10]);
        let chunks = futures_util::stream::repeat(chunk).map(|chunk| Ok(Frame::data(chunk)));
        Response::new(BodyExt::boxed(StreamBody::new(chunks)))
    });
    let table: Vec<(&str, Answer)> = vec![
        ("301", redirect(301)),
        ("302", redirect(302)),
        ("307", redirect(307)),
        ("308", redirect(308)),
        ("300 KiB", body(padded)),
        ("an endless body", endless),
        ("too many keys", body(json!({ "keys": many }).to_string())),
        ("not JSON", body("keys")),
        ("a list", body("[]")),
        ("no keys", body("{}")),
        ("keys of another type", body(r#"{"keys":{"a":1}}"#)),
        ("nothing", body("")),
        ("cut off", body(good[..good.len() - 3].to_owned())),
        ("204", status(204)),
        ("401", status(401)),
        ("404", status(404)),
    ];
    for (what, answer) in table {
        let issuer = Issuer::start(Value::Null).await;
        issuer.behave(answer);
        let told = connect(&issuer.verifier(), &token(&pair, "a")).await;
        assert!(matches!(told, Err(TokenError::Invalid(_))), "{what}: {told:?}");
        assert_eq!(issuer.asked(), 1, "{what}: asked again although nothing can change");
    }
    assert_eq!(trap.asked(), 0, "a redirect was followed");
}

#[tokio::test]
async fn bad_j5_keys_that_cannot_be_trusted_are_refused() {
    let (pair, rsa) = (Pair::new(Algorithm::Es256), Pair::new(Algorithm::Rs256));
    let other = Pair::new(Algorithm::Es256);
    let changed = |name: &str, value: Value| {
        let mut jwk = pair.jwk("a");
        jwk[name] = value;
        jwk
    };
    let secret = {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(support::SECRET)
    };
    let table = [
        ("one kid twice", vec![pair.jwk("a"), other.jwk("a")], token(&pair, "a")),
        ("one kid twice, other order", vec![other.jwk("a"), pair.jwk("a")], token(&pair, "a")),
        ("one kid three times", vec![other.jwk("a"), rsa.jwk("a"), pair.jwk("a")], token(&pair, "a")),
        ("for encryption", vec![changed("use", json!("enc"))], token(&pair, "a")),
        ("for signing only", vec![changed("key_ops", json!(["sign"]))], token(&pair, "a")),
        ("for another algorithm", vec![changed("alg", json!("ES384"))], token(&pair, "a")),
        ("for an unknown algorithm", vec![changed("alg", json!("none"))], token(&pair, "a")),
        ("on another curve", vec![changed("crv", json!("P-384"))], token(&pair, "a")),
        ("on an unknown curve", vec![changed("crv", json!("secp256k1"))], token(&pair, "a")),
        ("not on the curve", vec![changed("x", pair.jwk["y"].clone())], token(&pair, "a")),
        ("cut off", vec![changed("x", json!("AAAA"))], token(&pair, "a")),
        ("without a point", vec![changed("x", Value::Null)], token(&pair, "a")),
        ("of another type", vec![changed("kty", json!("RSA"))], token(&pair, "a")),
        ("without a kid", vec![changed("kid", Value::Null)], token(&pair, "a")),
        ("a kid that is a number", vec![changed("kid", json!(7))], token(&pair, "7")),
        ("a secret", vec![json!({"kty": "oct", "k": secret, "kid": "a"})], {
            let pair = Pair::new(Algorithm::Hs256);
            token(&pair, "a")
        }),
        ("another key's", vec![other.jwk("a")], token(&pair, "a")),
        ("a token without kid", vec![pair.jwk("a")], pair.sign(&json!({}))),
        ("a token with an empty kid", vec![pair.jwk("a"), pair.jwk("")], token(&pair, "")),
        (
            "an RSA key of 1024 bits",
            vec![json!({"kty": "RSA", "kid": "a", "e": "AQAB", "n": "_".repeat(171)})],
            token(&rsa, "a"),
        ),
        (
            "an RSA key for RS512",
            vec![{
                let mut jwk = rsa.jwk("a");
                jwk["alg"] = json!("RS512");
                jwk
            }],
            token(&rsa, "a"),
        ),
        (
            "an RSA key for RSA-PSS",
            vec![{
                let mut jwk = rsa.jwk("a");
                jwk["alg"] = json!("PS256");
                jwk
            }],
            token(&rsa, "a"),
        ),
    ];
    for (what, keys, token) in table {
        let issuer = Issuer::start(json!({ "keys": keys })).await;
        let told = connect(&issuer.verifier(), &token).await;
        assert!(matches!(told, Err(TokenError::Invalid(_))), "{what}: {told:?}");
    }
    // A key that is no use does not spoil the others.
    let odd = [
        json!(7),
        json!({}),
        json!({"kty": "AKP", "kid": "q"}),
        pair.jwk("a"),
        changed("alg", json!("ES256")),
    ];
    let issuer = Issuer::start(json!({"keys": odd[..4]})).await;
    assert!(connect(&issuer.verifier(), &token(&pair, "a")).await.is_ok());
    let issuer = Issuer::start(json!({"keys": odd[4..]})).await;
    assert!(connect(&issuer.verifier(), &token(&pair, "a")).await.is_ok());
}

#[tokio::test]
async fn bad_j5_addresses_inside_are_not_asked() {
    let pair = Pair::new(Algorithm::Es256);
    let trap = Issuer::start(json!({"keys": [pair.jwk("a")]})).await;
    let port = trap.address.port();
    for url in [
        format!("http://127.0.0.1:{port}/"),
        format!("https://127.0.0.1:{port}/"),
        format!("https://localhost:{port}/"),
        format!("https://[::1]:{port}/"),
        format!("https://[::ffff:127.0.0.1]:{port}/"),
        format!("https://0.0.0.0:{port}/"),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        "https://10.0.0.1/".to_owned(),
        "https://[fe80::1]/".to_owned(),
        format!("ftp://127.0.0.1:{port}/"),
    ] {
        let told = connect(&verifier(rules(&url, false)), &token(&pair, "a")).await;
        assert!(matches!(told, Err(TokenError::Invalid(_))), "{url}: {told:?}");
    }
    assert_eq!(trap.asked(), 0);
}

#[tokio::test]
async fn bad_j5_a_slow_drip_ends_in_time_and_clients_may_come_back() {
    let pair = Pair::new(Algorithm::Es256);
    let issuer = Issuer::start(Value::Null).await;
    issuer.behave(Arc::new(|| {
        let drip = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            Some((Ok(Frame::data(Bytes::from_static(b" "))), ()))
        });
        Response::new(BodyExt::boxed(StreamBody::new(drip)))
    }));
    let verifier = issuer.verifier();
    let started = tokio::time::Instant::now();
    let told = connect(&verifier, &token(&pair, "a")).await;
    assert!(matches!(told, Err(TokenError::Unavailable(_))), "{told:?}");
    assert_eq!(issuer.asked(), 2, "one try and one retry");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());

    issuer.publish(json!({"keys": [pair.jwk("a")]}));
    let told = connect(&verifier, &token(&pair, "a")).await;
    assert!(matches!(told, Err(TokenError::Unavailable(_))), "not asked again at once: {told:?}");
    skip(Duration::from_secs(10)).await;
    assert!(connect(&verifier, &token(&pair, "a")).await.is_ok());
}

#[tokio::test]
async fn bad_j5_a_server_that_is_down_is_a_fault_that_may_pass() {
    let pair = Pair::new(Algorithm::Es256);
    let issuer = Issuer::start(Value::Null).await;
    issuer.behave(status(503));
    let told = connect(&issuer.verifier(), &token(&pair, "a")).await;
    assert!(matches!(told, Err(TokenError::Unavailable(_))), "{told:?}");

    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", unused.local_addr().unwrap());
    drop(unused);
    let told = connect(&verifier(rules(&url, true)), &token(&pair, "a")).await;
    assert!(matches!(told, Err(TokenError::Unavailable(_))), "{told:?}");
}
