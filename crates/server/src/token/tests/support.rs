//! Keys, tokens and verifiers for the tests of this module.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tidewire_core::hooks::{ConnectionClaims, SubscriptionClaims, TokenError, TokenVerifier};

use crate::config::Secret;
use crate::config::model::{TokenRules, Tokens};
use crate::outgoing::Outgoing;
use crate::token::create::Signer;
use crate::token::{Algorithm, Verifier};

/// The time in all tests.
pub(crate) const NOW: i64 = 1_800_000_000;
/// The secret of all tests.
pub(crate) const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Every algorithm.
pub(crate) const ALL: [Algorithm; 10] = [
    Algorithm::Hs256,
    Algorithm::Hs384,
    Algorithm::Hs512,
    Algorithm::Rs256,
    Algorithm::Rs384,
    Algorithm::Rs512,
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::Es512,
    Algorithm::EdDsa,
];

/// A key pair (or a secret) for one algorithm.
pub(crate) struct Pair {
    pub(crate) algorithm: Algorithm,
    /// PKCS #8, PEM; or the secret.
    private: Secret,
    /// SubjectPublicKeyInfo, PEM; empty for a secret.
    pub(crate) public: String,
    /// As an issuer publishes it, without `kid`; null for a secret.
    pub(crate) jwk: Value,
}

impl Pair {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        let url = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        match algorithm {
            Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => {
                Self { algorithm, private: Secret::new(SECRET), public: String::new(), jwk: Value::Null }
            }
            Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
                let private = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).unwrap();
                let public = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
                let n = pair.public_key().modulus().big_endian_without_leading_zero().to_vec();
                let e = pair.public_key().exponent().big_endian_without_leading_zero().to_vec();
                let jwk = json!({"kty": "RSA", "n": url(&n), "e": url(&e)});
                Self::of(algorithm, private.as_ref(), public.as_ref(), jwk)
            }
            Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 => {
                let (parameters, curve) = match algorithm {
                    Algorithm::Es256 => (&signature::ECDSA_P256_SHA256_FIXED_SIGNING, "P-256"),
                    Algorithm::Es384 => (&signature::ECDSA_P384_SHA384_FIXED_SIGNING, "P-384"),
                    _ => (&signature::ECDSA_P521_SHA512_FIXED_SIGNING, "P-521"),
                };
                let pair = EcdsaKeyPair::generate(parameters).unwrap();
                let private = pair.to_pkcs8v1().unwrap();
                let public = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let jwk = json!({"kty": "EC", "crv": curve, "x": url(x), "y": url(y)});
                Self::of(algorithm, private.as_ref(), public.as_ref(), jwk)
            }
            Algorithm::EdDsa => {
                let pair = Ed25519KeyPair::generate().unwrap();
                let private = pair.to_pkcs8().unwrap();
                let public = AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap();
                let jwk = json!({"kty": "OKP", "crv": "Ed25519", "x": url(pair.public_key().as_ref())});
                Self::of(algorithm, private.as_ref(), public.as_ref(), jwk)
            }
        }
    }

    fn of(algorithm: Algorithm, private: &[u8], public: &[u8], jwk: Value) -> Self {
        let pem = |label: &str, der: &[u8]| {
            format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
        };
        Self {
            algorithm,
            private: Secret::new(pem("PRIVATE KEY", private)),
            public: pem("PUBLIC KEY", public),
            jwk,
        }
    }

    /// The published key under an id.
    pub(crate) fn jwk(&self, kid: &str) -> Value {
        let mut jwk = self.jwk.clone();
        jwk["kid"] = Value::from(kid);
        jwk
    }

    pub(crate) fn signer(&self) -> Signer {
        if self.public.is_empty() {
            Signer::hmac(self.algorithm, &self.private).unwrap()
        } else {
            Signer::private_key(self.algorithm, &self.private).unwrap()
        }
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.signer().sign(claims.as_object().unwrap())
    }

    /// Rules that accept this pair's tokens; `None`: only a published key can.
    pub(crate) fn rules(&self) -> Option<TokenRules> {
        let public = Some(self.public.clone());
        match self.algorithm {
            Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => {
                Some(TokenRules { hmac: Some(self.private.clone()), ..TokenRules::default() })
            }
            Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 => {
                Some(TokenRules { rsa_public_key: public, ..TokenRules::default() })
            }
            Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 => {
                Some(TokenRules { ecdsa_public_key: public, ..TokenRules::default() })
            }
            Algorithm::EdDsa => None,
        }
    }
}

pub(crate) fn hs256(claims: &Value) -> String {
    sign_hmac(Algorithm::Hs256, SECRET, claims)
}

pub(crate) fn sign_hmac(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
    Signer::hmac(algorithm, &Secret::new(secret)).unwrap().sign(claims.as_object().unwrap())
}

/// A token with a header of one's own, signed with HS256 and the secret of the tests.
pub(crate) fn with_header(header: &str, claims: &str) -> String {
    signed(header.as_bytes(), claims.as_bytes(), SECRET.as_bytes())
}

/// A token of any bytes, signed with HMAC-SHA-256 and any secret.
pub(crate) fn signed(header: &[u8], claims: &[u8], secret: &[u8]) -> String {
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret);
    let signature = aws_lc_rs::hmac::sign(&key, message.as_bytes());
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature))
}

pub(crate) fn verifier(connection: TokenRules) -> Verifier {
    verifier_of(Tokens { connection, subscription: None, insecure_skip_signature: false })
}

pub(crate) fn verifier_of(tokens: Tokens) -> Verifier {
    Verifier::new(&tokens, &Outgoing::default()).unwrap()
}

pub(crate) async fn connect(verifier: &Verifier, token: &str) -> Result<ConnectionClaims, TokenError> {
    verifier.connection(token, NOW).await
}

pub(crate) async fn subscribe(verifier: &Verifier, token: &str) -> Result<SubscriptionClaims, TokenError> {
    verifier.subscription(token, NOW).await
}
