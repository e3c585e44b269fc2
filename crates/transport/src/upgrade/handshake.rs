//! The opening handshake (RFC 6455 §4.2) as a function of the request.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::{
    ALLOW, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderName, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version, request};
use sha1::{Digest, Sha1};
use tidewire_protocol::Encoding;

const JSON: &str = "centrifuge-json";
const PROTOBUF: &str = "centrifuge-protobuf";

/// Why a request does not become a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a GET.
    #[error("method must be GET")]
    Method,
    /// Not HTTP/1.1.
    #[error("WebSocket needs HTTP/1.1")]
    HttpVersion,
    /// No host, or more than one.
    #[error("one Host header is needed")]
    Host,
    /// A request body.
    #[error("an upgrade has no body")]
    Body,
    /// No wish for an upgrade to WebSocket.
    #[error("not a WebSocket handshake")]
    NotWebSocket,
    /// Another version than 13.
    #[error("WebSocket version must be 13")]
    WebSocketVersion,
    /// Not one key of 16 bytes in base64.
    #[error("Sec-WebSocket-Key must be 16 bytes in base64")]
    Key,
    /// A web page that is not listed.
    #[error("origin not allowed")]
    Origin,
    /// More new connections per second than allowed.
    #[error("too many new connections")]
    ConnectionRate,
    /// More connections than allowed.
    #[error("too many connections")]
    ConnectionLimit,
    /// More connections of this address than allowed.
    #[error("too many connections of this address")]
    AddressLimit,
    /// The HTTP server in front does not offer upgrades.
    #[error("upgrades are not offered here")]
    NoUpgrade,
}

/// A lawful handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Handshake {
    pub(super) encoding: Encoding,
    subprotocol: Option<&'static str>,
    accept: HeaderValue,
}

// === impl Refusal ===

impl Refusal {
    /// The status it is answered with.
    pub const fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::WebSocketVersion => StatusCode::UPGRADE_REQUIRED,
            Self::Origin => StatusCode::FORBIDDEN,
            Self::ConnectionRate | Self::ConnectionLimit => StatusCode::SERVICE_UNAVAILABLE,
            Self::AddressLimit => StatusCode::TOO_MANY_REQUESTS,
            Self::NoUpgrade => StatusCode::INTERNAL_SERVER_ERROR,
            Self::HttpVersion | Self::Host | Self::Body | Self::NotWebSocket | Self::Key => {
                StatusCode::BAD_REQUEST
            }
        }
    }

    /// The answer. Clients that are to come back later are told so with a random delay, so that they do not return as
    /// one herd.
    pub fn response(self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::from(self.to_string()));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        match self {
            Self::Method => _ = headers.insert(ALLOW, HeaderValue::from_static("GET")),
            Self::WebSocketVersion => {
                _ = headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"))
            }
            Self::ConnectionRate | Self::ConnectionLimit | Self::AddressLimit => {
                let seconds: u16 = rand::random_range(1..=10);
                headers.insert(RETRY_AFTER, seconds.into());
            }
            _ => {}
        }
        response
    }
}

// === impl Handshake ===

impl Handshake {
    /// Checks everything the request itself says.
    pub(super) fn parse(request: &request::Parts) -> Result<Self, Refusal> {
        if request.method != Method::GET {
            return Err(Refusal::Method);
        }
        if request.version != Version::HTTP_11 {
            return Err(Refusal::HttpVersion);
        }
        let headers = &request.headers;
        only(headers, &HOST).ok_or(Refusal::Host)?;
        if !lists(headers, &CONNECTION, "upgrade") || !lists(headers, &UPGRADE, "websocket") {
            return Err(Refusal::NotWebSocket);
        }
        let bodiless = headers.get_all(CONTENT_LENGTH).iter().all(|length| length == "0");
        if !bodiless || headers.contains_key(TRANSFER_ENCODING) {
            return Err(Refusal::Body);
        }
        if only(headers, &SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
            return Err(Refusal::WebSocketVersion);
        }
        let key = only(headers, &SEC_WEBSOCKET_KEY).filter(|key| is_key(key)).ok_or(Refusal::Key)?;
        let offered = |name: &&str| items(headers, &SEC_WEBSOCKET_PROTOCOL).any(|item| item == *name);
        let subprotocol = [PROTOBUF, JSON].into_iter().find(offered);
        let protobuf = subprotocol == Some(PROTOBUF) || query_asks_for_protobuf(request.uri.query());
        let encoding = if protobuf { Encoding::Protobuf } else { Encoding::Json };
        Ok(Self { encoding, subprotocol, accept: accept(key) })
    }

    /// The 101.
    pub(super) fn response(self) -> Response<Bytes> {
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_ACCEPT, self.accept);
        if let Some(name) = self.subprotocol {
            headers.insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(name));
        }
        response
    }
}

/// The answer to a key (RFC 6455 §4.2.2).
fn accept(key: &str) -> HeaderValue {
    let digest =
        Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    // Base64 is always a lawful header value; the fallback can not happen.
    HeaderValue::from_str(&BASE64_STANDARD.encode(digest)).unwrap_or(HeaderValue::from_static(""))
}

/// Whether it is the base64 of 16 bytes: 22 characters and two of padding. The unused bits of the last one are not looked
/// at: some clients fill them.
fn is_key(key: &str) -> bool {
    key.strip_suffix("==").is_some_and(|key| {
        key.len() == 22 && key.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'+' || c == b'/')
    })
}

fn query_asks_for_protobuf(query: Option<&str>) -> bool {
    query.is_some_and(|query| {
        query.split('&').any(|pair| matches!(pair, "format=protobuf" | "cf_protocol=protobuf"))
    })
}

/// The value of a header that must be there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    value.to_str().ok().map(str::trim)
}

/// The items of a header that is a list, over all its lines.
fn items<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim)
}

fn lists(headers: &HeaderMap, name: &HeaderName, item: &str) -> bool {
    items(headers, name).any(|listed| listed.eq_ignore_ascii_case(item))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAWFUL: [(&str, &str); 5] = [
        ("host", "localhost"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    /// A lawful request with every header of the names in `headers` replaced by those lines.
    fn with(headers: &[(&str, &str)]) -> request::Parts {
        let kept = LAWFUL.iter().filter(|(name, _)| headers.iter().all(|(other, _)| other != name));
        let mut request = http::Request::get("/connection/websocket");
        for (name, value) in kept.chain(headers).filter(|(_, value)| *value != "absent") {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn refusal(request: &request::Parts) -> Option<Refusal> {
        Handshake::parse(request).err()
    }

    #[test]
    fn the_answer_of_the_rfc() {
        let response = Handshake::parse(&with(&[])).unwrap().response();
        assert_eq!(response.status(), 101);
        assert_eq!(response.headers()["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!response.headers().contains_key("sec-websocket-protocol"));
    }

    #[test]
    fn odd_but_lawful_handshakes() {
        for headers in [
            &[("connection", "keep-alive, Upgrade")][..],
            &[("connection", "upgrade")],
            &[("connection", "UPGRADE,keep-alive")],
            &[("connection", "keep-alive"), ("connection", "Upgrade")],
            &[("upgrade", "WebSocket")],
            &[("upgrade", "h2c, websocket")],
            &[("content-length", "0")],
            &[("sec-websocket-version", " 13 ")],
            &[("sec-websocket-extensions", "permessage-deflate; client_max_window_bits")],
            &[("host", "[::1]:8000")],
            &[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZR==")],
        ] {
            assert_eq!(refusal(&with(headers)), None, "{headers:?}");
        }
    }

    #[test]
    fn bad_w9_handshakes() {
        for (headers, expected) in [
            (&[("host", "absent")][..], Refusal::Host),
            (&[("host", "a"), ("host", "b")], Refusal::Host),
            (&[("connection", "absent")], Refusal::NotWebSocket),
            (&[("connection", "close")], Refusal::NotWebSocket),
            (&[("connection", "upgrade-insecure")], Refusal::NotWebSocket),
            (&[("upgrade", "absent")], Refusal::NotWebSocket),
            (&[("upgrade", "h2c")], Refusal::NotWebSocket),
            (&[("upgrade", "websockets")], Refusal::NotWebSocket),
            (&[("upgrade", "")], Refusal::NotWebSocket),
            (&[("upgrade", "web socket")], Refusal::NotWebSocket),
            (&[("connection", "")], Refusal::NotWebSocket),
            (&[("connection", "\"upgrade\"")], Refusal::NotWebSocket),
            (&[("connection", "keep-alive")], Refusal::NotWebSocket),
            (&[("content-length", "1")], Refusal::Body),
            (&[("content-length", "0"), ("content-length", "7")], Refusal::Body),
            (&[("transfer-encoding", "chunked")], Refusal::Body),
            (&[("sec-websocket-version", "absent")], Refusal::WebSocketVersion),
            (&[("sec-websocket-version", "8")], Refusal::WebSocketVersion),
            (&[("sec-websocket-version", "12")], Refusal::WebSocketVersion),
            (&[("sec-websocket-version", "14")], Refusal::WebSocketVersion),
            (&[("sec-websocket-version", "13, 8")], Refusal::WebSocketVersion),
            (&[("sec-websocket-version", "13"), ("sec-websocket-version", "8")], Refusal::WebSocketVersion),
            (&[("sec-websocket-version", "+13")], Refusal::WebSocketVersion),
            (&[("sec-websocket-version", "13.0")], Refusal::WebSocketVersion),
            (&[("sec-websocket-version", "")], Refusal::WebSocketVersion),
            (&[("sec-websocket-key", "absent")], Refusal::Key),
            (&[("sec-websocket-key", "")], Refusal::Key),
            (&[("sec-websocket-key", "AAAA")], Refusal::Key),
            (&[("sec-websocket-key", "========================")], Refusal::Key),
            (&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==x")], Refusal::Key),
            (&[("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAAAAAA==")], Refusal::Key),
            (&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ")], Refusal::Key),
            (&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZ-==")], Refusal::Key),
            (&[("sec-websocket-key", "dGhlIHNhbXBsZSBub25j ZQ==")], Refusal::Key),
            (
                &[
                    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ],
                Refusal::Key,
            ),
        ] {
            assert_eq!(refusal(&with(headers)), Some(expected), "{headers:?}");
        }
        for method in
            [Method::POST, Method::HEAD, Method::PUT, Method::OPTIONS, Method::CONNECT, Method::DELETE]
        {
            let mut request = with(&[]);
            request.method = method;
            assert_eq!(refusal(&request), Some(Refusal::Method));
        }
        for version in [Version::HTTP_09, Version::HTTP_10, Version::HTTP_2] {
            let mut request = with(&[]);
            request.version = version;
            assert_eq!(refusal(&request), Some(Refusal::HttpVersion));
        }
    }

    #[test]
    fn refusals_say_what_would_help() {
        let version = Refusal::WebSocketVersion.response();
        assert_eq!(
            (version.status().as_u16(), &version.headers()["sec-websocket-version"]),
            (426, &"13".parse().unwrap())
        );
        let method = Refusal::Method.response();
        assert_eq!((method.status().as_u16(), &method.headers()["allow"]), (405, &"GET".parse().unwrap()));
        for (full, status) in
            [(Refusal::ConnectionLimit, 503), (Refusal::ConnectionRate, 503), (Refusal::AddressLimit, 429)]
        {
            let response = full.response();
            let seconds: u16 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
            assert_eq!(response.status(), status);
            assert!((1..=10).contains(&seconds));
        }
        assert_eq!(Refusal::Origin.status(), 403);
        assert_eq!(Refusal::Key.status(), 400);
    }

    #[test]
    fn encodings_and_subprotocols() {
        for (offers, query, encoding, echoed) in [
            (&[][..], "", Encoding::Json, None),
            (&["centrifuge-json"], "", Encoding::Json, Some("centrifuge-json")),
            (&["centrifuge-protobuf"], "", Encoding::Protobuf, Some("centrifuge-protobuf")),
            (&["centrifuge-json, centrifuge-protobuf"], "", Encoding::Protobuf, Some("centrifuge-protobuf")),
            (&["other", " centrifuge-json "], "", Encoding::Json, Some("centrifuge-json")),
            (&["other"], "", Encoding::Json, None),
            (&["Centrifuge-Protobuf"], "", Encoding::Json, None),
            (&[], "format=protobuf", Encoding::Protobuf, None),
            (&[], "a=b&cf_protocol=protobuf", Encoding::Protobuf, None),
            (&[], "format=json&xformat=protobuf", Encoding::Json, None),
            (&["centrifuge-json"], "format=protobuf", Encoding::Protobuf, Some("centrifuge-json")),
        ] {
            let lines: Vec<_> = offers.iter().map(|offer| ("sec-websocket-protocol", *offer)).collect();
            let mut request = with(&lines);
            request.uri = format!("/connection/websocket?{query}").parse().unwrap();
            let handshake = Handshake::parse(&request).unwrap();
            assert_eq!(handshake.encoding, encoding, "{offers:?} {query}");
            assert_eq!(handshake.subprotocol, echoed, "{offers:?} {query}");
        }
    }

    #[test]
    fn bad_w10_thousands_of_subprotocols_are_read_in_no_time() {
        let many = "x,".repeat(50_000);
        let spaces = " ".repeat(100_000) + "centrifuge-json";
        let started = std::time::Instant::now();
        assert_eq!(refusal(&with(&[("sec-websocket-protocol", &many)])), None);
        assert_eq!(refusal(&with(&[("sec-websocket-protocol", &spaces)])), None);
        // 5 ms of CPU each in a release build; a scan that is not linear would take minutes.
        assert!(started.elapsed() < std::time::Duration::from_secs(1));
    }
}
