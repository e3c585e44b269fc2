//! The compact form of a signed token (RFC 7515): three parts, and nothing of the second before the third fits.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};
use tidewire_core::hooks::TokenError;

use super::invalid;
use super::keys::{Algorithm, Key};
use super::object::Object;

/// Largest token looked at.
const TOKEN_BYTES_MAX: usize = 32 << 10;
/// Deepest nesting of header and claims; no lawful token comes near, and payloads of clients end up elsewhere.
const DEPTH_MAX: usize = 64;

/// A token that nobody has vouched for. Its claims cannot be read; only the header says which key to try.
pub(super) struct Unverified<'t> {
    signed: &'t str,
    header: Header,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// The claims of a token whose signature fits a configured key.
pub(super) struct Verified {
    payload: Vec<u8>,
}

/// Members of the header that mean something here. Keys and addresses in it (`jwk`, `jku`, `x5u`, `x5c`) do not.
#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    typ: Option<String>,
    /// Extensions that must be understood: none is.
    #[serde(default, deserialize_with = "is_present")]
    crit: bool,
    /// Changes what is signed (RFC 7797) or what the payload is; not understood either.
    #[serde(default, deserialize_with = "is_present")]
    b64: bool,
    #[serde(default, deserialize_with = "is_present")]
    zip: bool,
}

fn is_present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
}

// === impl Unverified ===

impl<'t> Unverified<'t> {
    /// Takes the token apart.
    pub(super) fn parse(token: &'t str) -> Result<Self, TokenError> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Invalid(format!(
                "{} bytes, the limit is {TOKEN_BYTES_MAX}",
                token.len()
            )));
        }
        let not_three = || invalid("not three parts separated by dots");
        let (signed, signature) = token.rsplit_once('.').ok_or_else(not_three)?;
        let (header, payload) = signed.split_once('.').ok_or_else(not_three)?;
        if payload.contains('.') {
            return Err(not_three());
        }
        let decode =
            |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| invalid("a part is not base64url"));
        let (header, payload, signature) = (decode(header)?, decode(payload)?, decode(signature)?);
        if is_too_deep(&header) || is_too_deep(&payload) {
            return Err(invalid("nested too deep"));
        }
        let Object(header): Object<Header> =
            serde_json::from_slice(&header).map_err(|_| invalid("the header is not what it must be"))?;
        if header.crit || header.b64 || header.zip {
            return Err(invalid("the header asks for an extension that is not supported"));
        }
        if !header.typ.as_deref().is_none_or(is_jwt) {
            return Err(invalid("a token of another kind (typ)"));
        }
        Ok(Self { signed, header, payload, signature })
    }

    /// Which of an issuer's keys the token says it is signed with.
    pub(super) fn key_id(&self) -> Option<&str> {
        self.header.kid.as_deref().filter(|kid| !kid.is_empty())
    }

    /// Checks the signature with the keys that may have made it.
    pub(super) fn verify<'k>(self, keys: impl Iterator<Item = &'k Key>) -> Result<Verified, TokenError> {
        let algorithm =
            Algorithm::of(&self.header.alg).ok_or_else(|| invalid("no algorithm that is accepted"))?;
        let mut may = false;
        for key in keys.filter(|key| key.makes(algorithm)) {
            may = true;
            if key.verify(algorithm, self.signed.as_bytes(), &self.signature) {
                return Ok(Verified { payload: self.payload });
            }
        }
        let text = if may { "the signature does not fit" } else { "no key is configured for its algorithm" };
        Err(invalid(text))
    }

    /// Believes the token without a look at its signature: `client.insecure_skip_token_signature_verify`.
    pub(super) fn believe(self) -> Verified {
        Verified { payload: self.payload }
    }
}

// === impl Verified ===

impl Verified {
    /// The claims as JSON.
    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }
}

/// `JWT`, or an access token of RFC 9068; the media type prefix may be left out (RFC 7515 §4.1.9).
fn is_jwt(typ: &str) -> bool {
    let typ = typ
        .get(..12)
        .filter(|prefix| prefix.eq_ignore_ascii_case("application/"))
        .map_or(typ, |_| &typ[12..]);
    typ.eq_ignore_ascii_case("JWT") || typ.eq_ignore_ascii_case("at+jwt")
}

/// Whether JSON is nested deeper than any token. Scans without recursion; what is not JSON is found elsewhere.
fn is_too_deep(json: &[u8]) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in json {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'[' | b'{') => depth += 1,
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return true;
        }
    }
    false
}
