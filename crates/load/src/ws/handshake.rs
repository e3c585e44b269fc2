//! The upgrade: request out, answer judged.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// What both sides append to the key (RFC 6455 §1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const HEADERS_MAX: usize = 64;
/// An answer whose head is longer than this is refused.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// The one way of compressing that the tool speaks; also what must come back, apart from the order and window sizes.
const OFFER: &str = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";

/// What a client asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Terms {
    /// The subprotocol that must be chosen, if any.
    pub subprotocol: Option<&'static str>,
    /// Whether permessage-deflate must be agreed on; if not, nothing may be.
    pub compression: bool,
}

/// The random part of one handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key([u8; 16]);

/// Why the server did not become a WebSocket server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// Not HTTP.
    #[error("the answer to the upgrade is not HTTP")]
    NotHttp,
    /// HTTP, but not status 101.
    #[error("the upgrade was answered with HTTP status {0}")]
    Status(u16),
    /// A header that must be there is not, or has another value.
    #[error("the answer to the upgrade has a missing or wrong header {0}")]
    Header(&'static str),
    /// No end of the head in sight.
    #[error("the answer to the upgrade does not end")]
    TooLong,
}

// === impl Key ===

impl Key {
    /// A key of sixteen random bytes.
    pub fn new(random: [u8; 16]) -> Self {
        Self(random)
    }

    fn text(self) -> String {
        STANDARD.encode(self.0)
    }

    fn accept(self) -> String {
        let mut hash = Sha1::new();
        hash.update(self.text());
        hash.update(GUID);
        STANDARD.encode(hash.finalize())
    }
}

/// Appends the upgrade request.
pub fn append_request(key: Key, authority: &str, path: &str, terms: Terms, out: &mut Vec<u8>) {
    let key = key.text();
    let mut head = format!(
        "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
    );
    let offer = terms.compression.then_some(OFFER);
    let headers = [("Sec-WebSocket-Protocol", terms.subprotocol), ("Sec-WebSocket-Extensions", offer)];
    for (name, value) in headers {
        if let Some(value) = value {
            head.extend([name, ": ", value, "\r\n"]);
        }
    }
    head.push_str("\r\n");
    out.extend_from_slice(head.as_bytes());
}

/// Judges the answer. Returns how many bytes its head takes, `None` while it is not complete.
///
/// # Errors
/// See [`HandshakeError`].
pub fn judge(key: Key, terms: Terms, input: &[u8]) -> Result<Option<usize>, HandshakeError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    let head = match response.parse(input).map_err(|_| HandshakeError::NotHttp)? {
        httparse::Status::Complete(head) => head,
        httparse::Status::Partial if input.len() > HEAD_BYTES_MAX => return Err(HandshakeError::TooLong),
        httparse::Status::Partial => return Ok(None),
    };
    match response.code {
        Some(101) => {}
        other => return Err(HandshakeError::Status(other.unwrap_or_default())),
    }
    let values = |name: &'static str| {
        let headers = response.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
        headers.filter_map(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
    };
    let value = |name| values(name).next();
    let must = |name, holds: bool| if holds { Ok(()) } else { Err(HandshakeError::Header(name)) };
    must("upgrade", value("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")))?;
    let has_upgrade = |value: &str| value.split(',').any(|part| part.trim().eq_ignore_ascii_case("upgrade"));
    must("connection", values("connection").any(has_upgrade))?;
    must("sec-websocket-accept", value("sec-websocket-accept") == Some(&*key.accept()))?;
    must("sec-websocket-protocol", value("sec-websocket-protocol") == terms.subprotocol)?;
    must("sec-websocket-extensions", agreed(value("sec-websocket-extensions"), terms.compression))?;
    Ok(Some(head))
}

/// Whether an answer about extensions is the one asked for: each message by itself, in a window of any size.
fn agreed(answer: Option<&str>, compression: bool) -> bool {
    let Some(answer) = answer else { return !compression };
    let parts: Vec<&str> = answer.split(';').map(str::trim).collect();
    compression
        && OFFER.split("; ").all(|part| parts.contains(&part))
        && parts
            .iter()
            .all(|part| OFFER.split("; ").any(|known| known == *part) || part.contains("_max_window_bits="))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Terms = Terms { subprotocol: None, compression: false };
    // The example of RFC 6455 §1.3.
    const KEY: &[u8; 16] = b"the sample nonce";
    const ANSWER: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

    #[test]
    fn the_example_of_the_rfc_is_accepted_once_it_is_complete() {
        let key = Key::new(*KEY);
        let mut request = Vec::new();
        let terms = Terms { subprotocol: Some("centrifuge-protobuf"), compression: true };
        append_request(key, "host:1", "/path?a=b", terms, &mut request);
        let request = String::from_utf8(request).unwrap();
        assert!(request.starts_with("GET /path?a=b HTTP/1.1\r\nHost: host:1\r\n"), "{request}");
        assert!(request.contains("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), "{request}");
        assert!(request.contains("Sec-WebSocket-Protocol: centrifuge-protobuf\r\n"), "{request}");
        assert!(request.ends_with(&format!("Sec-WebSocket-Extensions: {OFFER}\r\n\r\n")), "{request}");
        for end in 0..ANSWER.len() {
            assert_eq!(judge(key, PLAIN, &ANSWER.as_bytes()[..end]), Ok(None), "{end} bytes");
        }
        let with_more = format!("{ANSWER}frames");
        assert_eq!(judge(key, PLAIN, with_more.as_bytes()), Ok(Some(ANSWER.len())));
    }

    #[test]
    fn a_list_of_connection_options_may_come_in_several_lines() {
        let answer = ANSWER.replace("keep-alive, Upgrade", "keep-alive\r\nconnection: Upgrade");
        assert_eq!(judge(Key::new(*KEY), PLAIN, answer.as_bytes()), Ok(Some(answer.len())));
    }

    #[test]
    fn compression_is_taken_as_offered_or_not_at_all() {
        let judge = |compression, extensions: &str| {
            let answer =
                ANSWER.replace("\r\n\r\n", &format!("\r\nSec-WebSocket-Extensions: {extensions}\r\n\r\n"));
            judge(Key::new(*KEY), Terms { compression, ..PLAIN }, answer.as_bytes()).is_ok()
        };
        assert!(judge(true, OFFER) && judge(true, &format!("{OFFER}; server_max_window_bits=12")));
        assert!(!judge(false, OFFER));
        for other in
            ["permessage-deflate", "permessage-deflate; server_no_context_takeover", "x-webkit-deflate-frame"]
        {
            assert!(!judge(true, other), "{other}");
        }
        assert!(
            super::judge(Key::new(*KEY), Terms { compression: true, ..PLAIN }, ANSWER.as_bytes()).is_err()
        );
    }

    #[test]
    fn an_answer_that_is_not_the_upgrade_asked_for_is_refused() {
        let judge = |key: &[u8; 16], subprotocol, answer: &str| {
            judge(Key::new(*key), Terms { subprotocol, ..PLAIN }, answer.as_bytes())
        };
        let refused = |name| Err(HandshakeError::Header(name));
        assert_eq!(judge(b"another nonce...", None, ANSWER), refused("sec-websocket-accept"));
        assert_eq!(judge(KEY, Some("centrifuge-protobuf"), ANSWER), refused("sec-websocket-protocol"));
        assert_eq!(judge(KEY, None, &ANSWER.replace("websocket", "h2c")), refused("upgrade"));
        assert_eq!(judge(KEY, None, &ANSWER.replace("keep-alive, Upgrade", "close")), refused("connection"));
        let deflate = ANSWER.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
        assert_eq!(judge(KEY, None, &deflate), refused("sec-websocket-extensions"));
        assert_eq!(judge(KEY, None, &ANSWER.replace("101", "503")), Err(HandshakeError::Status(503)));
        assert_eq!(judge(KEY, None, "SSH-2.0-x\r\n\r\n"), Err(HandshakeError::NotHttp));
        let endless = format!("HTTP/1.1 101 x\r\nA: {}", "b".repeat(HEAD_BYTES_MAX));
        assert_eq!(judge(KEY, None, &endless), Err(HandshakeError::TooLong));
    }
}
