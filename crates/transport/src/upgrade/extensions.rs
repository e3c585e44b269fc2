//! Agreeing on permessage-deflate (RFC 7692 §5, §7.1): which offer of a client is taken, and the words that say so.

use http::header::SEC_WEBSOCKET_EXTENSIONS;
use http::{HeaderMap, HeaderValue};
use tidewire_core::Window;

const NAME: &str = "permessage-deflate";

/// What is agreed on, beyond that neither side takes context over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Agreement {
    /// What our messages may refer back to.
    pub(super) window: Window,
    /// The client wants our window named, and no larger than a certain size.
    names_our_window: bool,
    /// The client lets us name its window, and says how large it would be.
    client_bits: Option<u8>,
}

/// One offer as it stands in the header.
#[derive(Default)]
struct Offer {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_bits: Option<u8>,
    client_bits: Option<u8>,
}

/// Takes the first offer that can be met; the order is the client's preference. An offer that is malformed, or knows more
/// than the RFC, is declined like any other that cannot be met, and so is every other extension.
pub(super) fn agree(headers: &HeaderMap) -> Option<Agreement> {
    let lines = headers.get_all(SEC_WEBSOCKET_EXTENSIONS).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| unquoted(line, ',')).find_map(|text| Offer::parse(text)?.accept())
}

// === impl Offer ===

impl Offer {
    /// Reads an offer; `None` if it is not one of permessage-deflate as the RFC has it.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = unquoted(text, ';').map(|part| part.trim_matches([' ', '\t']));
        if parts.next()? != NAME {
            return None;
        }
        let mut offer = Self::default();
        for part in parts {
            let (name, value) = match part.split_once('=') {
                Some((name, value)) => (name.trim_end(), Some(unquote(value.trim_start())?)),
                None => (part, None),
            };
            // A parameter that comes twice makes the offer invalid.
            let fresh = match (name, value) {
                ("server_no_context_takeover", None) => {
                    !std::mem::replace(&mut offer.server_no_context_takeover, true)
                }
                ("client_no_context_takeover", None) => {
                    !std::mem::replace(&mut offer.client_no_context_takeover, true)
                }
                ("server_max_window_bits", Some(value)) => offer.server_bits.replace(bits(value)?).is_none(),
                ("client_max_window_bits", Some(value)) => offer.client_bits.replace(bits(value)?).is_none(),
                // Without a value it only says that the client would follow ours.
                ("client_max_window_bits", None) => offer.client_bits.replace(15).is_none(),
                _ => false,
            };
            if !fresh {
                return None;
            }
        }
        Some(offer)
    }

    fn accept(self) -> Option<Agreement> {
        let window = match self.server_bits {
            // No compressor at hand can do with 256 bytes.
            Some(bits) if bits < Window::Narrow.bits() => return None,
            Some(bits) if bits < Window::Usual.bits() => Window::Narrow,
            _ => Window::Usual,
        };
        let names_our_window = self.server_bits.is_some();
        // More would only cost the client memory: what clients send is short.
        let client_bits = self.client_bits.map(|bits| bits.min(Window::Usual.bits()));
        Some(Agreement { window, names_our_window, client_bits })
    }
}

// === impl Agreement ===

impl Agreement {
    /// The header that tells the client.
    pub(super) fn header(self) -> HeaderValue {
        let mut text = format!("{NAME}; server_no_context_takeover; client_no_context_takeover");
        if self.names_our_window {
            text += &format!("; server_max_window_bits={}", self.window.bits());
        }
        if let Some(bits) = self.client_bits {
            text += &format!("; client_max_window_bits={bits}");
        }
        // Letters, digits and punctuation: always a lawful header value; the fallback can not happen.
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(NAME))
    }
}

/// §7.1.2: 8 to 15 in decimal without leading zeros.
fn bits(value: &str) -> Option<u8> {
    let plain = !value.starts_with('0') && value.bytes().all(|c| c.is_ascii_digit());
    value.parse().ok().filter(|bits| plain && (8..=15).contains(bits))
}

/// The content of a quoted string, or the text itself. No lawful value needs an escape.
fn unquote(text: &str) -> Option<&str> {
    match text.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').filter(|inner| !inner.contains(['"', '\\'])),
        None => Some(text).filter(|text| !text.contains('"')),
    }
}

/// The parts of a text between separators that are not inside quotes.
fn unquoted(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let mut escaped = false;
    text.split(move |c| {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c => return c == separator && !quoted,
        }
        false
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The answer to the header lines, without what it always says; empty if nothing is agreed on.
    fn answer(lines: &[&'static str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(SEC_WEBSOCKET_EXTENSIONS, HeaderValue::from_static(line));
        }
        let Some(agreement) = agree(&headers) else { return String::new() };
        let header = agreement.header();
        let always = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        let rest = header.to_str().unwrap().strip_prefix(always).unwrap();
        // Every answer is an offer we would take ourselves.
        assert!(Offer::parse(header.to_str().unwrap()).is_some());
        format!("yes{rest}")
    }

    #[test]
    fn offers_of_real_clients() {
        for (client, offer, expected) in [
            ("Chromium", "permessage-deflate; client_max_window_bits", "yes; client_max_window_bits=12"),
            ("Firefox", "permessage-deflate", "yes"),
            (
                "python websockets",
                "permessage-deflate; server_max_window_bits=12; client_max_window_bits=12",
                "yes; server_max_window_bits=12; client_max_window_bits=12",
            ),
            (
                "Go gorilla",
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
                "yes",
            ),
            (
                "Safari of old",
                "x-webkit-deflate-frame, permessage-deflate; client_max_window_bits",
                "yes; client_max_window_bits=12",
            ),
        ] {
            assert_eq!(answer(&[offer]), expected, "{client}");
        }
    }

    #[test]
    fn windows_are_no_larger_than_asked_for() {
        for (offer, expected) in [
            ("permessage-deflate; server_max_window_bits=15", "yes; server_max_window_bits=12"),
            ("permessage-deflate; server_max_window_bits=12", "yes; server_max_window_bits=12"),
            ("permessage-deflate; server_max_window_bits=11", "yes; server_max_window_bits=9"),
            ("permessage-deflate; server_max_window_bits=9", "yes; server_max_window_bits=9"),
            ("permessage-deflate; client_max_window_bits=8", "yes; client_max_window_bits=8"),
            ("permessage-deflate; client_max_window_bits=15", "yes; client_max_window_bits=12"),
            ("permessage-deflate; server_max_window_bits=\"10\"", "yes; server_max_window_bits=9"),
        ] {
            assert_eq!(answer(&[offer]), expected, "{offer}");
        }
    }

    #[test]
    fn the_first_offer_that_can_be_met_is_taken() {
        let nine = "yes; server_max_window_bits=9";
        for lines in [
            &["permessage-deflate; server_max_window_bits=9, permessage-deflate"][..],
            &["permessage-deflate; server_max_window_bits=8, permessage-deflate; server_max_window_bits=9"],
            &["permessage-deflate; unheard_of, permessage-deflate; server_max_window_bits=9"],
            &["x; y=\"a, permessage-deflate\"", "permessage-deflate; server_max_window_bits=9"],
            &["x; y=\"a\\\", permessage-deflate\", permessage-deflate ;\tserver_max_window_bits = 9"],
            &["", ",,", "permessage-deflate; server_max_window_bits=9"],
        ] {
            assert_eq!(answer(lines), nine, "{lines:?}");
        }
    }

    #[test]
    fn bad_w11_offers_are_declined() {
        assert_eq!(answer(&[]), "");
        for parameter in [
            "server_max_window_bits",
            "server_max_window_bits=",
            "server_max_window_bits=7",
            "server_max_window_bits=8",
            "server_max_window_bits=16",
            "server_max_window_bits=012",
            "server_max_window_bits=+12",
            "server_max_window_bits=-12",
            "server_max_window_bits=12.0",
            "server_max_window_bits=abc",
            "server_max_window_bits=268",
            "server_max_window_bits=99999999999999999999999999",
            "server_max_window_bits=\"12",
            "server_max_window_bits=12\"",
            "server_max_window_bits=\"1\\2\"",
            "server_max_window_bits=12; server_max_window_bits=12",
            "client_max_window_bits=7",
            "client_max_window_bits=16",
            "client_max_window_bits=",
            "client_max_window_bits=abc",
            "client_max_window_bits; client_max_window_bits",
            "client_max_window_bits=10; client_max_window_bits",
            "server_no_context_takeover=1",
            "server_no_context_takeover=",
            "server_no_context_takeover; server_no_context_takeover",
            "client_no_context_takeover=true",
            "client_no_context_takeover; client_no_context_takeover",
            "Server_No_Context_Takeover",
            "unheard_of",
            "unheard_of=1",
            "",
            ";",
            "=",
            "=9",
        ] {
            let offer: &'static str = format!("permessage-deflate; {parameter}").leak();
            assert_eq!(answer(&[offer]), "", "{offer}");
        }
        for offer in [
            "permessage-deflat",
            "permessage-deflate2",
            "x-permessage-deflate",
            "\"permessage-deflate\"",
            "permessage-deflate=1",
            "x; permessage-deflate",
            "x; y=\"permessage-deflate",
            "deflate-frame",
            "permessage-bzip2",
        ] {
            assert_eq!(answer(&[offer]), "", "{offer}");
        }
    }
}
