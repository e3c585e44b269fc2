//! Connection tokens: one for all clients, or one for each, signed here.

use std::sync::Arc;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Where clients have their tokens from.
#[derive(Clone)]
pub enum Tokens {
    /// They have none.
    None,
    /// The same for all.
    Shared(String),
    /// Signed with HS256 for user `load-N`, N being the client's number; they do not expire.
    Signed(Arc<hmac::Key>),
}

// === impl Tokens ===

impl Tokens {
    /// Tokens signed with this secret.
    pub fn signed(secret: &str) -> Self {
        Self::Signed(Arc::new(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())))
    }

    /// The token of one client, empty for none.
    pub fn of(&self, client: usize) -> String {
        match self {
            Self::None => String::new(),
            Self::Shared(token) => token.clone(),
            Self::Signed(key) => {
                let header = URL_SAFE_NO_PAD.encode(br#"{"alg":"HS256","typ":"JWT"}"#);
                let claims = URL_SAFE_NO_PAD.encode(format!(r#"{{"sub":"load-{client}"}}"#));
                let signature = hmac::sign(key, format!("{header}.{claims}").as_bytes());
                format!("{header}.{claims}.{}", URL_SAFE_NO_PAD.encode(signature))
            }
        }
    }
}

/// Never shows a token or a key.
impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Shared(_) => "Shared",
            Self::Signed(_) => "Signed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_token_names_its_client_and_verifies() {
        let token = Tokens::signed("secret").of(7);
        let (signed, signature) = token.rsplit_once('.').unwrap();
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        assert!(hmac::verify(&key, signed.as_bytes(), &URL_SAFE_NO_PAD.decode(signature).unwrap()).is_ok());
        let claims = URL_SAFE_NO_PAD.decode(signed.split_once('.').unwrap().1).unwrap();
        assert_eq!(claims, br#"{"sub":"load-7"}"#);
        assert!(!format!("{:?}", Tokens::Shared(token)).contains('.'));
    }
}
