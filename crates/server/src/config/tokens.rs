//! `client.token` and `client.subscription_token`: keys and rules of tokens.

use regex::Regex;

use super::model::{Expected, JwksEndpoint, PreviousSecret, TokenRules, Tokens};
use super::reader::Reader;
use super::secrets;
use crate::token;

/// Resolves both sections.
pub(super) fn resolve(reader: &mut Reader<'_>) -> Tokens {
    let connection = rules(reader, "client.token");
    let own = reader.bool("client.subscription_token.enabled");
    let subscription = rules(reader, "client.subscription_token");
    if own && !subscription.has_keys() {
        let text = "there is no key in client.subscription_token: every subscription token is refused";
        reader.warning("client.subscription_token.enabled", text);
    }
    Tokens {
        connection,
        subscription: own.then_some(subscription),
        insecure_skip_signature: reader.bool("client.insecure_skip_token_signature_verify"),
    }
}

fn rules(reader: &mut Reader<'_>, section: &str) -> TokenRules {
    let key = |name: &str| format!("{section}.{name}");
    TokenRules {
        hmac: secrets::read_hmac(reader, &key("hmac_secret_key")),
        hmac_previous: secrets::read_hmac(reader, &key("hmac_previous_secret_key")).map(|secret| {
            PreviousSecret { secret, valid_until: reader.int(&key("hmac_previous_secret_key_valid_until")) }
        }),
        rsa_public_key: public_key(reader, &key("rsa_public_key"), token::check_rsa_key),
        ecdsa_public_key: public_key(reader, &key("ecdsa_public_key"), token::check_ecdsa_key),
        jwks: jwks(reader, section),
        audience: expected(reader, &key("audience")),
        issuer: expected(reader, &key("issuer")),
        user_id_claim: user_id_claim(reader, &key("user_id_claim")),
    }
}

fn public_key(reader: &mut Reader<'_>, path: &str, check: fn(&str) -> Result<(), String>) -> Option<String> {
    let pem = reader.some_text(path)?;
    match check(&pem) {
        Ok(()) => Some(pem),
        Err(problem) => {
            reader.error(path, problem);
            None
        }
    }
}

fn jwks(reader: &mut Reader<'_>, section: &str) -> Option<JwksEndpoint> {
    let path = format!("{section}.jwks_public_endpoint");
    let url = reader.some_text(&path)?;
    let safety = format!("{section}.insecure_skip_jwks_endpoint_safety_check");
    let allow_private = reader.bool(&safety);
    if url.contains("{{") {
        let text = "templates filled from claims are not offered, since claims are not trusted before keys are \
                    known: name the endpoint of one issuer";
        reader.error(&path, text);
        return None;
    }
    let scheme = url.parse::<http::Uri>().ok().filter(|uri| uri.host().is_some_and(|host| !host.is_empty()));
    match scheme.as_ref().and_then(http::Uri::scheme_str) {
        Some("https") => {}
        Some("http") if allow_private => {}
        Some("http") => {
            let text = format!(
                "keys fetched over plain HTTP can be anyone's: use https, or set {safety} to allow it"
            );
            reader.error(&path, text);
            return None;
        }
        _ => {
            reader.error(&path, "expected an https address");
            return None;
        }
    }
    Some(JwksEndpoint { url, allow_private })
}

fn expected(reader: &mut Reader<'_>, path: &str) -> Expected {
    let pattern_path = format!("{path}_regex");
    match (reader.some_text(path), reader.some_text(&pattern_path)) {
        (Some(_), Some(_)) => {
            reader.error(&pattern_path, format!("set together with {path}: keep one of them"));
            Expected::Any
        }
        (Some(exact), None) => Expected::Exact(exact),
        (None, Some(pattern)) => match Regex::new(&pattern) {
            Ok(pattern) => Expected::Matches(pattern),
            Err(_) => unreachable!("{pattern_path} was checked to be a regular expression"),
        },
        (None, None) => Expected::Any,
    }
}

fn user_id_claim(reader: &mut Reader<'_>, path: &str) -> Option<String> {
    let claim = reader.some_text(path)?;
    if claim.chars().all(|c| c.is_ascii_alphabetic() || c == '_') {
        return Some(claim);
    }
    reader.error(path, "expected letters and _ only");
    None
}
