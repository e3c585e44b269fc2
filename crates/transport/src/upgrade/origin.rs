//! Which web pages may open a connection.

use tidewire_core::Glob;

/// The origins allowed by `client.allowed_origins`.
///
/// A request without an `Origin` comes from no browser and passes. Patterns are [`Glob`]s, compared with the lower-cased
/// header.
#[derive(Debug, Clone, Default)]
pub struct OriginPolicy {
    any: bool,
    patterns: Vec<Glob>,
}

/// A pattern that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("origin pattern {pattern:?} cannot be read")]
pub struct BadOriginPattern {
    /// The pattern.
    pub pattern: String,
}

impl OriginPolicy {
    /// Reads the patterns. An empty list refuses every request that has an origin; the list `["*"]` accepts everything.
    ///
    /// # Errors
    /// The first pattern that cannot be read.
    pub fn parse(patterns: &[impl AsRef<str>]) -> Result<Self, BadOriginPattern> {
        let any = matches!(patterns, [only] if only.as_ref() == "*");
        let patterns = patterns
            .iter()
            .map(|pattern| {
                let pattern = pattern.as_ref();
                Glob::parse(&pattern.to_lowercase())
                    .ok_or_else(|| BadOriginPattern { pattern: pattern.to_owned() })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { any, patterns })
    }

    /// Judges the `Origin` headers of a request.
    pub fn allows(&self, headers: &http::HeaderMap) -> bool {
        let mut origins = headers.get_all(http::header::ORIGIN).iter();
        let Some(origin) = origins.next() else { return true };
        if self.any {
            return true;
        }
        let (None, Ok(origin)) = (origins.next(), origin.to_str()) else { return false };
        let origin = origin.to_lowercase();
        is_origin(&origin) && self.patterns.iter().any(|pattern| pattern.matches(&origin))
    }
}

/// Whether the text has the form of an origin (RFC 6454 §6.2): a wildcard for a host must not reach over a path or user
/// info that someone put into it.
fn is_origin(text: &str) -> bool {
    match text.split_once("://") {
        Some((_, host)) => !host.contains(|c: char| "/?#@\\".contains(c) || c.is_whitespace()),
        None => text == "null",
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http::header::ORIGIN;

    use super::*;

    fn allows(patterns: &[&str], origins: &[&'static str]) -> bool {
        let mut headers = HeaderMap::new();
        for origin in origins {
            headers.append(ORIGIN, http::HeaderValue::from_static(origin));
        }
        OriginPolicy::parse(patterns).unwrap().allows(&headers)
    }

    #[test]
    fn a_request_without_an_origin_passes() {
        assert!(allows(&[], &[]));
        assert!(allows(&["https://good.com"], &[]));
    }

    #[test]
    fn listed_origins_pass_in_any_case() {
        for (pattern, origin) in [
            ("https://good.com", "https://good.com"),
            ("https://good.com", "HTTPS://GOOD.COM"),
            ("https://Good.com", "https://good.com"),
            ("https://*.good.com", "https://a.b.good.com"),
            ("https://good.com:*", "https://good.com:8443"),
            ("http://localhost:300?", "http://localhost:3001"),
            ("http://localhost:300[0-2]", "http://localhost:3002"),
            ("http://localhost:300[!0-2]", "http://localhost:3003"),
            ("{http,https}://good.com", "http://good.com"),
            ("http://\\[::1\\]:8000", "http://[::1]:8000"),
            ("https://xn--e1afmkfd.com", "https://xn--e1afmkfd.com"),
            ("null", "null"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("*", "https://anything.example"),
            ("*", "null"),
        ] {
            assert!(allows(&[pattern], &[origin]), "{pattern} {origin}");
            assert!(allows(&["https://other.com", pattern], &[origin]), "{pattern} {origin}");
        }
    }

    #[test]
    fn bad_o1_origins() {
        for origin in [
            "null",
            "",
            "good.com",
            "http://good.com",
            "https://good.com:8443",
            "https://good.com.evil.com",
            "https://evilgood.com",
            "https://evil.com",
            "https://good.com@evil.com",
            "https://evil.com/good.com",
            "https://good.com.",
            "https://good.com/",
            "https://a.good.com",
            "https://evil.com#.sub.com",
            "https://evil.com?.sub.com",
            "https://u@a.sub.com",
            "https://evil.com/.sub.com",
            "https://sub.com",
            "https://xn--good-9wc.com",
            "http://[::1]",
            "https://127.0.0.1",
            "ws://good.com",
            "file://",
            "https://good\\.com",
            "https://good.com https://evil.com",
            "https://a.sub.com.evil.com",
            "https://asub.com",
            "//good.com",
            "https:good.com",
        ] {
            assert!(!allows(&["https://good.com", "https://*.sub.com"], &[origin]), "{origin}");
            assert!(!allows(&[], &[origin]), "{origin}");
        }
        assert!(!allows(&["https://good.com"], &["https://good.com", "https://good.com"]), "two headers");
        assert!(!allows(&[], &["https://good.com"]), "an empty list refuses the server's own pages too");
    }

    #[test]
    fn patterns_that_cannot_be_read() {
        for pattern in ["https://[a", "{a", "a}", "a\\", "[z-a]", "[]"] {
            assert!(OriginPolicy::parse(&[pattern]).is_err(), "{pattern}");
        }
    }
}
