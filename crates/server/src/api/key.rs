//! Who may call the API.

use http::HeaderMap;
use http::header::AUTHORIZATION;

use crate::config::Secret;

/// The key callers show, or none at all.
pub struct Keys {
    key: Option<Secret>,
    insecure: bool,
}

// === impl Keys ===

impl Keys {
    /// Admits who shows `key`; without one nobody, unless everybody (`insecure`).
    pub fn new(key: Option<Secret>, insecure: bool) -> Self {
        Self { key: key.filter(|key| !key.is_empty()), insecure }
    }

    /// Whether a request with these headers and this query may call. The key may stand in `X-API-Key`, in
    /// `Authorization: apikey <key>`, or in the query as `api_key`; the first place with one decides. It takes the same
    /// time for every wrong key of the right length.
    pub fn admit(&self, headers: &HeaderMap, query: Option<&str>) -> bool {
        if self.insecure {
            return true;
        }
        let Some(key) = &self.key else { return false };
        shown(headers, query).is_some_and(|shown| {
            aws_lc_rs::constant_time::verify_slices_are_equal(&shown, key.expose().as_bytes()).is_ok()
        })
    }
}

fn shown(headers: &HeaderMap, query: Option<&str>) -> Option<Vec<u8>> {
    if let Some(key) = headers.get("x-api-key") {
        return Some(key.as_bytes().to_vec());
    }
    let authorization = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some((scheme, key)) = authorization.and_then(|value| value.split_once(' '))
        && scheme.eq_ignore_ascii_case("apikey")
    {
        return Some(key.trim_start().as_bytes().to_vec());
    }
    query?.split('&').find_map(|pair| pair.strip_prefix("api_key=")).map(percent_decoded)
}

/// Decodes `%41` and `+`; a `%` that begins no such code stands for itself.
fn percent_decoded(text: &str) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, digit(tail.first()), digit(tail.get(1))) {
            (b'%', Some(high), Some(low)) => {
                out.extend(u8::try_from(high * 16 + low));
                rest = tail.get(2..).unwrap_or_default();
            }
            (b'+', ..) => out.push(b' '),
            (other, ..) => out.push(*other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(key: &str, headers: &[(&'static str, &str)], query: Option<&str>) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        Keys::new(Some(Secret::new(key)), false).admit(&map, query)
    }

    #[test]
    fn three_places_for_the_key() {
        assert!(admits("k1", &[("x-api-key", "k1")], None));
        assert!(admits("k1", &[("authorization", "apikey k1")], None));
        assert!(admits("k1", &[("authorization", "ApiKey k1")], None));
        assert!(admits("k1", &[], Some("api_key=k1")));
        assert!(admits("k 1+%", &[], Some("a=b&api_key=k+1%2B%&c=d")));
        // Another scheme is for somebody else on the way.
        assert!(admits("k1", &[("authorization", "Basic eDp5")], Some("api_key=k1")));
        assert!(admits("k1", &[("x-api-key", "k1")], Some("api_key=wrong")));
    }

    #[test]
    fn bad_a1_wrong_keys() {
        for wrong in ["", "k", "k2", "k11", "K1", " k1", "k1 ", "k1,k1", "k1\t"] {
            assert!(!admits("k1", &[("x-api-key", wrong)], Some("api_key=k1")), "{wrong:?}");
            assert!(!admits("k1", &[("authorization", &format!("apikey x{wrong}"))], None), "{wrong:?}");
        }
        for query in [
            "",
            "api_key",
            "api_key=",
            "api_key=k1%00",
            "api_key=k1%20",
            "api_key=+k1",
            "API_KEY=k1",
            "xapi_key=k1",
        ] {
            assert!(!admits("k1", &[], Some(query)), "{query}");
        }
        assert!(!admits("k1", &[("authorization", "k1")], None));
        assert!(!admits("k1", &[("authorization", "Bearer k1")], None));
        assert!(!admits("k1", &[], None));
    }

    #[test]
    fn bad_a1_without_a_configured_key_nobody_may_call() {
        for key in [None, Some(Secret::new(""))] {
            let keys = Keys::new(key.clone(), false);
            let mut headers = HeaderMap::new();
            assert!(!keys.admit(&headers, Some("api_key=")));
            headers.insert("x-api-key", "".parse().unwrap());
            assert!(!keys.admit(&headers, None));
            assert!(Keys::new(key, true).admit(&headers, None));
        }
    }
}
