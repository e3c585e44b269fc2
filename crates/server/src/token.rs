//! Tokens: who a client is, signed by somebody the configuration trusts (RFC 7519, RFC 7515).
//!
//! `jws`: the compact form; what is unverified has no claims to read. `keys`: public keys and secrets, each bound to its
//! algorithms. `jwks`: keys an issuer publishes, cached. `claims`: what a verified payload says. `create`: signing, for
//! the command line.
//!
//! Which keys may verify a token is decided by the configuration alone, never by the token.

mod claims;
pub mod create;
mod jwks;
mod jws;
mod keys;
mod object;

use std::sync::Arc;

use tidewire_core::hooks::{ConnectionClaims, SubscriptionClaims, TokenError, TokenVerifier};
use tidewire_engine::BoxFuture;

use crate::config::model::{Expected, TokenRules, Tokens};
use crate::outgoing::Outgoing;
use claims::Claims;
use jwks::Jwks;
use jws::{Unverified, Verified};
use keys::Key;

pub use keys::{Algorithm, check_ecdsa_key, check_rsa_key};

/// Judges tokens by a configuration.
pub struct Verifier {
    connection: Arc<Judge>,
    subscription: Arc<Judge>,
    skip_signature: bool,
}

/// The keys and rules for tokens of one kind.
struct Judge {
    keys: Keys,
    audience: Expected,
    issuer: Expected,
    user_id_claim: Option<String>,
}

enum Keys {
    /// From the configuration.
    Static { keys: Vec<Key>, previous: Option<(Key, i64)> },
    /// From the issuer.
    Published(Jwks),
}

// === impl Verifier ===

impl Verifier {
    /// A verifier for resolved rules. Nothing is fetched before the first token that needs it.
    ///
    /// # Errors
    /// A public key that is none (the configuration refuses those earlier).
    pub fn new(tokens: &Tokens, outgoing: &Outgoing) -> Result<Self, String> {
        let connection = Arc::new(Judge::new(&tokens.connection, outgoing)?);
        let subscription = match &tokens.subscription {
            Some(rules) => Arc::new(Judge::new(rules, outgoing)?),
            None => Arc::clone(&connection),
        };
        Ok(Self { connection, subscription, skip_signature: tokens.insecure_skip_signature })
    }
}

impl TokenVerifier for Verifier {
    fn connection<'a>(
        &'a self,
        token: &'a str,
        now_unix_s: i64,
    ) -> BoxFuture<'a, Result<ConnectionClaims, TokenError>> {
        Box::pin(async move {
            let verified = self.connection.verify(token, now_unix_s, self.skip_signature).await?;
            let claims = self.connection.claims(&verified)?;
            if claims.names_a_channel() {
                return Err(invalid("a subscription token, where a connection token is needed"));
            }
            claims.check_time(now_unix_s)?;
            claims.into_connection(self.connection.user_id_claim.as_deref())
        })
    }

    fn subscription<'a>(
        &'a self,
        token: &'a str,
        now_unix_s: i64,
    ) -> BoxFuture<'a, Result<SubscriptionClaims, TokenError>> {
        Box::pin(async move {
            let verified = self.subscription.verify(token, now_unix_s, self.skip_signature).await?;
            let claims = self.subscription.claims(&verified)?;
            claims.check_time(now_unix_s)?;
            if !claims.names_a_channel() {
                return Err(invalid("a connection token, where a subscription token is needed"));
            }
            claims.into_subscription(self.subscription.user_id_claim.as_deref())
        })
    }
}

// === impl Judge ===

impl Judge {
    fn new(rules: &TokenRules, outgoing: &Outgoing) -> Result<Self, String> {
        let keys = match &rules.jwks {
            Some(endpoint) => Keys::Published(Jwks::new(endpoint.clone(), outgoing.clone())?),
            None => static_keys(rules)?,
        };
        Ok(Self {
            keys,
            audience: rules.audience.clone(),
            issuer: rules.issuer.clone(),
            user_id_claim: rules.user_id_claim.clone(),
        })
    }

    async fn verify(
        &self,
        token: &str,
        now_unix_s: i64,
        skip_signature: bool,
    ) -> Result<Verified, TokenError> {
        let unverified = Unverified::parse(token)?;
        if skip_signature {
            return Ok(unverified.believe());
        }
        match &self.keys {
            Keys::Static { keys, previous } => {
                let previous = previous.as_ref().filter(|(_, until)| *until == 0 || now_unix_s <= *until);
                unverified.verify(keys.iter().chain(previous.map(|(key, _)| key)))
            }
            Keys::Published(jwks) => {
                let kid =
                    unverified.key_id().ok_or_else(|| invalid("no kid to choose a published key by"))?;
                let key = jwks.key(kid).await?;
                unverified.verify(std::iter::once(&*key))
            }
        }
    }

    fn claims(&self, verified: &Verified) -> Result<Claims, TokenError> {
        let claims = Claims::parse(verified.payload())?;
        claims.check_audience(&self.audience)?;
        claims.check_issuer(&self.issuer)?;
        Ok(claims)
    }
}

fn static_keys(rules: &TokenRules) -> Result<Keys, String> {
    let mut keys = Vec::new();
    keys.extend(rules.hmac.as_ref().map(|secret| Key::hmac(secret.expose().as_bytes())));
    if let Some(pem) = &rules.rsa_public_key {
        keys.push(Key::rsa_from_pem(pem)?);
    }
    if let Some(pem) = &rules.ecdsa_public_key {
        keys.push(Key::ecdsa_from_pem(pem)?);
    }
    let previous = rules.hmac_previous.as_ref();
    let previous = previous.map(|old| (Key::hmac(old.secret.expose().as_bytes()), old.valid_until));
    Ok(Keys::Static { keys, previous })
}

fn invalid(text: &str) -> TokenError {
    TokenError::Invalid(text.to_owned())
}

#[cfg(test)]
mod tests;
