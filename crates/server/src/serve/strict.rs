//! What the HTTP library lets pass and RFC 9112 does not. Requests that two servers in a row could read differently are
//! refused, and their connection is closed.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::header::{CONNECTION, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, StatusCode, Version};

/// A middleware around everything that is served.
pub(super) async fn check(request: Request, next: Next) -> Response {
    match problem(request.version(), request.headers()) {
        Some(text) => (StatusCode::BAD_REQUEST, [(CONNECTION, "close")], text).into_response(),
        None => next.run(request).await,
    }
}

fn problem(version: Version, headers: &HeaderMap) -> Option<&'static str> {
    let count = |name| headers.get_all(name).iter().count();
    // §3.2. With HTTP/2 the name is a part of the request itself.
    if version == Version::HTTP_11 && count(HOST) != 1 {
        return Some("one Host header is needed");
    }
    // §6.1: nothing but chunked is understood here, and it is applied once.
    let chunked = |coding: &http::HeaderValue| coding.as_bytes().eq_ignore_ascii_case(b"chunked");
    if count(TRANSFER_ENCODING) > 1 || !headers.get(TRANSFER_ENCODING).is_none_or(chunked) {
        return Some("the only transfer coding is chunked");
    }
    None
}
