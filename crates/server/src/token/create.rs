//! Making tokens, for the command line and for tests: the inverse of what the rest of this module judges.

use aws_lc_rs::hmac;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value, json};

use super::keys::Algorithm;
use crate::config::Secret;

/// A key that signs with one algorithm.
pub struct Signer {
    algorithm: Algorithm,
    kid: Option<String>,
    material: Material,
}

enum Material {
    Hmac(Box<hmac::Key>),
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

/// Why there is no signer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignerError {
    /// The algorithm is for keys of another kind.
    #[error("{0} does not sign with a key of this kind")]
    Algorithm(&'static str),
    /// The private key cannot be read.
    #[error("not a private key in PEM (PKCS #8, PKCS #1 or SEC 1) that fits the algorithm")]
    Key,
}

// === impl Signer ===

impl Signer {
    /// Signs with a shared secret.
    ///
    /// # Errors
    /// The algorithm is not one of HMAC.
    pub fn hmac(algorithm: Algorithm, secret: &Secret) -> Result<Self, SignerError> {
        let hash = match algorithm {
            Algorithm::Hs256 => hmac::HMAC_SHA256,
            Algorithm::Hs384 => hmac::HMAC_SHA384,
            Algorithm::Hs512 => hmac::HMAC_SHA512,
            other => return Err(SignerError::Algorithm(other.name())),
        };
        let material = Material::Hmac(Box::new(hmac::Key::new(hash, secret.expose().as_bytes())));
        Ok(Self { algorithm, kid: None, material })
    }

    /// Signs with a private key in PEM.
    ///
    /// # Errors
    /// The text is no such key, or a key of another kind than the algorithm's.
    pub fn private_key(algorithm: Algorithm, pem: &Secret) -> Result<Self, SignerError> {
        let der = der(pem.expose()).ok_or(SignerError::Key)?;
        let key = |_| SignerError::Key;
        let material = match algorithm {
            Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 => {
                let pair = RsaKeyPair::from_pkcs8(&der).or_else(|_| RsaKeyPair::from_der(&der));
                Material::Rsa(pair.map_err(key)?)
            }
            Algorithm::Es256 | Algorithm::Es384 | Algorithm::Es512 => {
                let parameters = match algorithm {
                    Algorithm::Es256 => &signature::ECDSA_P256_SHA256_FIXED_SIGNING,
                    Algorithm::Es384 => &signature::ECDSA_P384_SHA384_FIXED_SIGNING,
                    _ => &signature::ECDSA_P521_SHA512_FIXED_SIGNING,
                };
                let pair = EcdsaKeyPair::from_pkcs8(parameters, &der)
                    .or_else(|_| EcdsaKeyPair::from_private_key_der(parameters, &der));
                Material::Ecdsa(pair.map_err(key)?)
            }
            Algorithm::EdDsa => {
                let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der);
                Material::Ed25519(pair.map_err(key)?)
            }
            other => return Err(SignerError::Algorithm(other.name())),
        };
        Ok(Self { algorithm, kid: None, material })
    }

    /// Names the key in the header of tokens.
    #[must_use]
    pub fn with_kid(mut self, kid: impl Into<String>) -> Self {
        self.kid = Some(kid.into());
        self
    }

    /// Makes a token of claims.
    pub fn sign(&self, claims: &Map<String, Value>) -> String {
        let mut header = json!({"alg": self.algorithm.name(), "typ": "JWT"});
        if let (Some(kid), Value::Object(header)) = (&self.kid, &mut header) {
            header.insert("kid".into(), Value::from(kid.as_str()));
        }
        let claims = Value::Object(claims.clone());
        let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signature = URL_SAFE_NO_PAD.encode(self.signature(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        match &self.material {
            Material::Hmac(key) => hmac::sign(key, message).as_ref().to_vec(),
            Material::Rsa(pair) => {
                let padding: &dyn signature::RsaEncoding = match self.algorithm {
                    Algorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &SystemRandom::new(), message, &mut out)
                    .expect("the buffer has the key's size");
                out
            }
            Material::Ecdsa(pair) => {
                pair.sign(&SystemRandom::new(), message).expect("a parsed key signs").as_ref().to_vec()
            }
            Material::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }
}

/// 32 random bytes in base64url: a secret nobody guesses.
pub fn random_secret() -> Secret {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system has randomness");
    Secret::new(URL_SAFE_NO_PAD.encode(bytes))
}

fn der(pem: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once("-----END ")?;
    let body: String = body.chars().filter(|c| !c.is_whitespace()).collect();
    label.contains("PRIVATE KEY").then(|| STANDARD.decode(body).ok()).flatten()
}
