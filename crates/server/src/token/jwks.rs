//! Keys an issuer publishes (RFC 7517), cached: one fetch at a time, and however many unknown `kid`s arrive, not more
//! than one fetch in ten seconds.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;
use serde::Deserialize;
use tidewire_core::hooks::TokenError;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::invalid;
use super::keys::{Jwk, Key};
use super::object::Object;
use crate::config::model::JwksEndpoint;
use crate::outgoing::{FetchError, Outgoing, Rules};

/// How long fetched keys are used.
const FRESH: Duration = Duration::from_secs(3600);
/// Shortest time between fetches.
const FETCH_INTERVAL: Duration = Duration::from_secs(10);
/// Time for one try to fetch, from name resolution to the last byte.
const FETCH_TIMEOUT: Duration = Duration::from_secs(1);
/// Tries per fetch.
const TRIES: u32 = 2;
/// Largest answer.
const BODY_BYTES_MAX: usize = 256 << 10;
/// Most keys in it.
const KEYS_MAX: usize = 64;

/// The keys of one issuer.
pub(super) struct Jwks {
    url: http::Uri,
    rules: Rules,
    outgoing: Outgoing,
    cached: RwLock<Option<Arc<Cached>>>,
    /// Held while fetching. The last time it was tried, and how that ended.
    fetching: Mutex<Option<(Instant, Result<(), FetchError>)>>,
}

struct Cached {
    keys: HashMap<String, Arc<Key>>,
    fetched: Instant,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<serde_json::Value>,
}

// === impl Jwks ===

impl Jwks {
    pub(super) fn new(endpoint: JwksEndpoint, outgoing: Outgoing) -> Result<Self, String> {
        let url = endpoint.url.parse().map_err(|_| "the JWKS endpoint is not an address".to_owned())?;
        let rules = Rules {
            allow_plain: endpoint.allow_private,
            allow_private: endpoint.allow_private,
            timeout: FETCH_TIMEOUT,
            body_bytes_max: BODY_BYTES_MAX,
        };
        Ok(Self { url, rules, outgoing, cached: RwLock::new(None), fetching: Mutex::new(None) })
    }

    /// The key with this id.
    pub(super) async fn key(&self, kid: &str) -> Result<Arc<Key>, TokenError> {
        if let Some(key) = self.cached(kid) {
            return Ok(key);
        }
        let mut last = self.fetching.lock().await;
        // Whoever held the lock before may have fetched it.
        if let Some(key) = self.cached(kid) {
            return Ok(key);
        }
        let wait = last.as_ref().is_some_and(|(when, _)| when.elapsed() < FETCH_INTERVAL);
        if !wait {
            let started = Instant::now();
            let outcome = self.fetch().await;
            *last = Some((started, outcome));
        }
        match (self.cached(kid), last.as_ref()) {
            (Some(key), _) => Ok(key),
            (None, Some((_, Err(error)))) if !self.is_fresh() => Err(refusal(error)),
            _ => Err(invalid("no published key has its kid")),
        }
    }

    fn cached(&self, kid: &str) -> Option<Arc<Key>> {
        let cached = self.cached.read();
        cached.as_ref().filter(|cached| cached.fetched.elapsed() < FRESH)?.keys.get(kid).cloned()
    }

    fn is_fresh(&self) -> bool {
        self.cached.read().as_ref().is_some_and(|cached| cached.fetched.elapsed() < FRESH)
    }

    async fn fetch(&self) -> Result<(), FetchError> {
        let mut outcome = Err(FetchError::Timeout);
        for _ in 0..TRIES {
            outcome = self.fetch_once().await;
            match &outcome {
                Ok(()) => return Ok(()),
                Err(error) if error.may_pass() => {}
                Err(_) => break,
            }
        }
        if let Err(error) = &outcome {
            let host = self.url.host().unwrap_or_default();
            tracing::warn!(host, %error, "token keys could not be fetched; tokens that need them are refused");
        }
        outcome
    }

    async fn fetch_once(&self) -> Result<(), FetchError> {
        let body = self.outgoing.get(&self.url, &self.rules).await?;
        let keys = parse(&body)?;
        tracing::debug!(keys = keys.len(), "token keys fetched");
        *self.cached.write() = Some(Arc::new(Cached { keys, fetched: Instant::now() }));
        Ok(())
    }
}

/// A fault of the network may pass, so clients may come back; an answer that cannot be trusted may not.
fn refusal(error: &FetchError) -> TokenError {
    if error.may_pass() {
        TokenError::Unavailable(error.to_string())
    } else {
        TokenError::Invalid(format!("its keys cannot be had: {error}"))
    }
}

fn parse(body: &[u8]) -> Result<HashMap<String, Arc<Key>>, FetchError> {
    let Object(set): Object<KeySet> =
        serde_json::from_slice(body).map_err(|_| FetchError::Answer("not a set of keys".into()))?;
    if set.keys.len() > KEYS_MAX {
        return Err(FetchError::Answer(format!("{} keys, the limit is {KEYS_MAX}", set.keys.len())));
    }
    let mut keys: HashMap<String, Option<Arc<Key>>> = HashMap::new();
    for jwk in set.keys {
        // A key of a kind from the future does not spoil the others.
        let Ok(Object(jwk)) = serde_json::from_value::<Object<Jwk>>(jwk) else { continue };
        let Some(kid) = jwk.kid.clone().filter(|kid| !kid.is_empty()) else { continue };
        let Some(key) = Key::from_jwk(&jwk) else { continue };
        // Which of two keys with one id is meant nobody can tell, so neither is.
        keys.entry(kid).and_modify(|slot| *slot = None).or_insert_with(|| Some(Arc::new(key)));
    }
    Ok(keys.into_iter().filter_map(|(kid, key)| Some((kid, key?))).collect())
}
