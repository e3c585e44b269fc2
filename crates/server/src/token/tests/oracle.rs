//! The same verdict as an independent library, whatever is done to a token.

use jsonwebtoken::{DecodingKey, Validation, decode};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::Algorithm;
use super::support::{self, NOW, Pair, connect, verifier};
use crate::config::model::TokenRules;

struct Case {
    pair: Pair,
    rules: TokenRules,
    theirs: jsonwebtoken::Algorithm,
    key: DecodingKey,
}

fn cases() -> Vec<Case> {
    let all = [
        (Algorithm::Hs256, jsonwebtoken::Algorithm::HS256),
        (Algorithm::Hs384, jsonwebtoken::Algorithm::HS384),
        (Algorithm::Hs512, jsonwebtoken::Algorithm::HS512),
        (Algorithm::Rs256, jsonwebtoken::Algorithm::RS256),
        (Algorithm::Rs512, jsonwebtoken::Algorithm::RS512),
        (Algorithm::Es256, jsonwebtoken::Algorithm::ES256),
        (Algorithm::Es384, jsonwebtoken::Algorithm::ES384),
    ];
    let case = |(ours, theirs): (Algorithm, jsonwebtoken::Algorithm)| {
        let pair = Pair::new(ours);
        let key = match ours {
            Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => {
                DecodingKey::from_secret(support::SECRET.as_bytes())
            }
            Algorithm::Rs256 | Algorithm::Rs512 => DecodingKey::from_rsa_pem(pair.public.as_bytes()).unwrap(),
            _ => DecodingKey::from_ec_pem(pair.public.as_bytes()).unwrap(),
        };
        let rules = pair.rules().unwrap();
        Case { pair, rules, theirs, key }
    };
    all.into_iter().map(case).collect()
}

/// Whether their library believes the signature; no other rule of theirs is asked.
fn they_believe(case: &Case, token: &str) -> bool {
    let mut rules = Validation::new(case.theirs);
    rules.required_spec_claims.clear();
    rules.validate_exp = false;
    rules.validate_aud = false;
    decode::<Value>(token, &case.key, &rules).is_ok()
}

fn we_believe(case: &Case, token: &str) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(connect(&verifier(case.rules.clone()), token)).is_ok()
}

#[test]
fn a_lawful_token_is_believed_by_both() {
    for case in cases() {
        let token = case.pair.sign(&json!({"sub": "1", "exp": NOW + 5}));
        assert!(they_believe(&case, &token) && we_believe(&case, &token), "{:?}", case.theirs);
    }
}

#[test]
fn a_token_of_their_making_is_believed() {
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS512);
    let key = jsonwebtoken::EncodingKey::from_secret(support::SECRET.as_bytes());
    let token = jsonwebtoken::encode(&header, &json!({"sub": "1"}), &key).unwrap();
    assert!(cases().iter().filter(|case| we_believe(case, &token)).count() == 3, "by every HMAC key");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A token we accept is one whose signature their library accepts with the same key: never one more.
    #[test]
    fn nothing_changed_is_believed(
        at in any::<prop::sample::Index>(),
        what in any::<u8>(),
        how in 0..4_u8,
    ) {
        static CASES: std::sync::OnceLock<Vec<Case>> = std::sync::OnceLock::new();
        for case in CASES.get_or_init(cases) {
            let good = case.pair.sign(&json!({"sub": "1", "exp": NOW + 5, "info": {"a": 1}}));
            let mut bytes = good.clone().into_bytes();
            let place = at.index(bytes.len());
            match how {
                0 => bytes[place] = what & 0x7f,
                1 => { bytes.remove(place); }
                2 => bytes.insert(place, what & 0x7f),
                _ => bytes.truncate(place),
            }
            let Ok(token) = String::from_utf8(bytes) else { continue };
            if we_believe(case, &token) {
                prop_assert!(they_believe(case, &token), "{token}");
                prop_assert_eq!(token, good, "a signature fits one token");
            }
        }
    }

    /// No text at all is believed by accident.
    #[test]
    fn no_other_text_is_believed(text in "\\PC{0,200}", parts in prop::collection::vec("[A-Za-z0-9_-]{0,60}", 0..6)) {
        static CASES: std::sync::OnceLock<Vec<Case>> = std::sync::OnceLock::new();
        for case in CASES.get_or_init(cases) {
            prop_assert!(!we_believe(case, &text));
            prop_assert!(!we_believe(case, &parts.join(".")));
        }
    }
}
