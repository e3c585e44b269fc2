//! Keys that verify, each bound to the algorithms it may be used with: a public key is never taken for a secret.

use aws_lc_rs::hmac;
use aws_lc_rs::rsa::PublicKey as RsaPublicKey;
use aws_lc_rs::signature::{
    self, EcdsaVerificationAlgorithm, ParsedPublicKey, RsaPublicKeyComponents, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde::Deserialize;

/// A signature algorithm of RFC 7518 or RFC 8037. There is none called `none`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
    /// RSA (PKCS #1 v1.5) with SHA-256.
    Rs256,
    /// RSA (PKCS #1 v1.5) with SHA-384.
    Rs384,
    /// RSA (PKCS #1 v1.5) with SHA-512.
    Rs512,
    /// ECDSA on P-256.
    Es256,
    /// ECDSA on P-384.
    Es384,
    /// ECDSA on P-521.
    Es512,
    /// Ed25519.
    EdDsa,
}

const ALGORITHMS: [(&str, Algorithm); 10] = [
    ("HS256", Algorithm::Hs256),
    ("HS384", Algorithm::Hs384),
    ("HS512", Algorithm::Hs512),
    ("RS256", Algorithm::Rs256),
    ("RS384", Algorithm::Rs384),
    ("RS512", Algorithm::Rs512),
    ("ES256", Algorithm::Es256),
    ("ES384", Algorithm::Es384),
    ("ES512", Algorithm::Es512),
    ("EdDSA", Algorithm::EdDsa),
];

/// Curves of tokens: algorithm, name in a JWK, bytes of a coordinate.
const CURVES: [(Algorithm, &str, usize, &EcdsaVerificationAlgorithm); 3] = [
    (Algorithm::Es256, "P-256", 32, &signature::ECDSA_P256_SHA256_FIXED),
    (Algorithm::Es384, "P-384", 48, &signature::ECDSA_P384_SHA384_FIXED),
    (Algorithm::Es512, "P-521", 66, &signature::ECDSA_P521_SHA512_FIXED),
];

const RSA_HASHES: [(Algorithm, &signature::RsaParameters); 3] = [
    (Algorithm::Rs256, &signature::RSA_PKCS1_2048_8192_SHA256),
    (Algorithm::Rs384, &signature::RSA_PKCS1_2048_8192_SHA384),
    (Algorithm::Rs512, &signature::RSA_PKCS1_2048_8192_SHA512),
];

/// Shorter keys can be broken.
const RSA_BITS_MIN: usize = 2048;

/// A key that verifies.
pub(super) struct Key {
    material: Material,
    /// The one algorithm the issuer published it for; `None`: every one of its family.
    only: Option<Algorithm>,
}

enum Material {
    Hmac(Vec<(Algorithm, hmac::Key)>),
    /// The same key ready for each hash.
    Rsa(Vec<(Algorithm, ParsedPublicKey)>),
    /// An algorithm follows from the curve.
    Curve(Algorithm, ParsedPublicKey),
    /// As published: modulus and exponent.
    RsaParts(RsaPublicKeyComponents<Vec<u8>>),
}

/// A key as an issuer publishes it (RFC 7517).
#[derive(Deserialize)]
pub(super) struct Jwk {
    kty: String,
    #[serde(default)]
    pub(super) kid: Option<String>,
    #[serde(default, rename = "use")]
    usage: Option<String>,
    #[serde(default)]
    key_ops: Option<Vec<String>>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}

// === impl Algorithm ===

impl Algorithm {
    /// The algorithm of this name, letter for letter (RFC 7515 §4.1.1).
    pub fn of(name: &str) -> Option<Self> {
        ALGORITHMS.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }

    /// Its name in a token.
    pub fn name(self) -> &'static str {
        ALGORITHMS.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }
}

// === impl Key ===

impl Key {
    /// A shared secret.
    pub(super) fn hmac(secret: &[u8]) -> Self {
        let key = |algorithm, hash| (algorithm, hmac::Key::new(hash, secret));
        let material = Material::Hmac(vec![
            key(Algorithm::Hs256, hmac::HMAC_SHA256),
            key(Algorithm::Hs384, hmac::HMAC_SHA384),
            key(Algorithm::Hs512, hmac::HMAC_SHA512),
        ]);
        Self { material, only: None }
    }

    /// An RSA public key from PEM.
    pub(super) fn rsa_from_pem(pem: &str) -> Result<Self, String> {
        let der = public_der(pem, &["PUBLIC KEY", "RSA PUBLIC KEY"])?;
        let parse = |(algorithm, parameters): &(Algorithm, &'static signature::RsaParameters)| {
            Some((
                *algorithm,
                ParsedPublicKey::new(*parameters as &'static dyn VerificationAlgorithm, &der).ok()?,
            ))
        };
        let keys: Vec<_> = RSA_HASHES.iter().filter_map(parse).collect();
        let (true, Ok(public)) = (keys.len() == RSA_HASHES.len(), RsaPublicKey::from_der(&der)) else {
            return Err("not an RSA public key".into());
        };
        if public.modulus_len() * 8 < RSA_BITS_MIN {
            return Err(format!("an RSA key must have at least {RSA_BITS_MIN} bits"));
        }
        Ok(Self { material: Material::Rsa(keys), only: None })
    }

    /// An elliptic curve public key from PEM; its curve decides the algorithm.
    pub(super) fn ecdsa_from_pem(pem: &str) -> Result<Self, String> {
        let der = public_der(pem, &["PUBLIC KEY"])?;
        for (algorithm, _, _, verification) in CURVES {
            if let Ok(key) = ParsedPublicKey::new(verification, &der) {
                return Ok(Self { material: Material::Curve(algorithm, key), only: None });
            }
        }
        Err("not a public key on the curve P-256, P-384 or P-521".into())
    }

    /// A published key that may verify signatures; `None`: it is for something else, or unusable.
    pub(super) fn from_jwk(jwk: &Jwk) -> Option<Self> {
        let verifies = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
            && jwk
                .key_ops
                .as_ref()
                .is_none_or(|operations| operations.iter().any(|operation| operation == "verify"));
        if !verifies {
            return None;
        }
        let bytes = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
        let material = match jwk.kty.as_str() {
            "RSA" => {
                let strip =
                    |bytes: Vec<u8>| bytes.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
                let (n, e) = (strip(bytes(&jwk.n)?), strip(bytes(&jwk.e)?));
                if n.len() * 8 < RSA_BITS_MIN || n.len() * 8 > 8192 || e.is_empty() || e.len() > 8 {
                    return None;
                }
                Material::RsaParts(RsaPublicKeyComponents { n, e })
            }
            "EC" => {
                let curve = jwk.crv.as_deref()?;
                let (algorithm, _, size, verification) =
                    CURVES.iter().find(|(_, name, ..)| *name == curve)?;
                let (x, y) = (bytes(&jwk.x)?, bytes(&jwk.y)?);
                if x.len() != *size || y.len() != *size {
                    return None;
                }
                let point = [&[4], x.as_slice(), &y].concat();
                Material::Curve(*algorithm, ParsedPublicKey::new(*verification, point).ok()?)
            }
            "OKP" if jwk.crv.as_deref() == Some("Ed25519") => {
                let point = bytes(&jwk.x).filter(|point| point.len() == 32)?;
                Material::Curve(Algorithm::EdDsa, ParsedPublicKey::new(&signature::ED25519, point).ok()?)
            }
            // `oct` is a secret: nobody publishes one and means it.
            _ => return None,
        };
        let only = match &jwk.alg {
            Some(name) => Some(Algorithm::of(name)?),
            None => None,
        };
        let key = Self { material, only };
        only.is_none_or(|only| key.makes(only)).then_some(key)
    }

    /// Whether signatures of this algorithm can be this key's.
    pub(super) fn makes(&self, algorithm: Algorithm) -> bool {
        let family = match &self.material {
            Material::Hmac(keys) => keys.iter().any(|(own, _)| *own == algorithm),
            Material::Rsa(_) | Material::RsaParts(_) => RSA_HASHES.iter().any(|(own, _)| *own == algorithm),
            Material::Curve(own, _) => *own == algorithm,
        };
        family && self.only.is_none_or(|only| only == algorithm)
    }

    /// Whether the signature is this key's.
    pub(super) fn verify(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.makes(algorithm) {
            return false;
        }
        match &self.material {
            Material::Hmac(keys) => keys
                .iter()
                .find(|(own, _)| *own == algorithm)
                .is_some_and(|(_, key)| hmac::verify(key, message, signature).is_ok()),
            Material::Rsa(keys) => keys
                .iter()
                .find(|(own, _)| *own == algorithm)
                .is_some_and(|(_, key)| key.verify_sig(message, signature).is_ok()),
            Material::Curve(_, key) => key.verify_sig(message, signature).is_ok(),
            Material::RsaParts(parts) => RSA_HASHES
                .iter()
                .find(|(own, _)| *own == algorithm)
                .is_some_and(|(_, parameters)| parts.verify(parameters, message, signature).is_ok()),
        }
    }
}

/// Whether a text is an RSA public key in PEM.
///
/// # Errors
/// What is wrong with it.
pub fn check_rsa_key(pem: &str) -> Result<(), String> {
    Key::rsa_from_pem(pem).map(|_| ())
}

/// Whether a text is an elliptic curve public key in PEM.
///
/// # Errors
/// What is wrong with it.
pub fn check_ecdsa_key(pem: &str) -> Result<(), String> {
    Key::ecdsa_from_pem(pem).map(|_| ())
}

fn public_der(pem: &str, labels: &[&str]) -> Result<Vec<u8>, String> {
    let pem = pem.trim();
    let Some(rest) = pem.strip_prefix("-----BEGIN ") else {
        return Err("expected a public key in PEM, which begins with -----BEGIN PUBLIC KEY-----".into());
    };
    let (label, rest) = rest.split_once("-----").ok_or("the PEM text is cut off")?;
    if label.contains("PRIVATE") {
        return Err(
            "this is a private key: give the public one, and keep the private one to whoever signs".into()
        );
    }
    if !labels.contains(&label) {
        // What stands there may be a mangled secret, so only known words are repeated.
        let found = if label == "CERTIFICATE" { "a certificate" } else { "something else" };
        return Err(format!("expected {} in PEM, found {found}", labels.join(" or ")));
    }
    let (body, _) = rest.split_once("-----END ").ok_or("the PEM text is cut off")?;
    let body: String = body.chars().filter(|c| !c.is_whitespace()).collect();
    STANDARD.decode(body).map_err(|_| "the PEM text is damaged".into())
}
