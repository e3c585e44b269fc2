//! From domain errors to what a backend is told: codes, texts and HTTP statuses, in one table.

use http::StatusCode;
use serde::Serialize;
use tidewire::{ErrorCode, Refusal};

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// One of the API's codes, or of a procedure's own.
    pub code: u32,
    /// Text for people.
    pub message: String,
    #[serde(skip)]
    too_large: bool,
}

/// Code, text, and status in transport mode. Other codes are procedures' own and answered with 500.
const TABLE: [(u32, &str, StatusCode); 7] = [
    (100, "internal server error", StatusCode::INTERNAL_SERVER_ERROR),
    (102, "unknown channel", StatusCode::NOT_FOUND),
    (104, "not found", StatusCode::NOT_FOUND),
    (107, "bad request", StatusCode::BAD_REQUEST),
    (108, "not available", StatusCode::BAD_REQUEST),
    (112, "unrecoverable position", StatusCode::RANGE_NOT_SATISFIABLE),
    (113, "conflict", StatusCode::CONFLICT),
];

// === impl Failure ===

impl Failure {
    /// 107: the request makes no sense.
    pub fn bad_request() -> Self {
        Self::of(ErrorCode::BadRequest)
    }

    /// 104: no such method.
    pub fn not_found() -> Self {
        Self::of(ErrorCode::MethodNotFound)
    }

    /// 108: not switched on, or not in this version.
    pub fn not_available() -> Self {
        Self::of(ErrorCode::NotAvailable)
    }

    /// 107 that says which limit was passed.
    pub fn too_large(what: &str, size: usize, max: usize) -> Self {
        let message = format!("{what} is {size}, the limit is {max}");
        Self { code: ErrorCode::BadRequest.number(), message, too_large: true }
    }

    /// The HTTP status in transport mode.
    pub fn status(&self) -> StatusCode {
        if self.too_large {
            return StatusCode::PAYLOAD_TOO_LARGE;
        }
        let row = TABLE.iter().find(|(code, ..)| *code == self.code);
        row.map_or(StatusCode::INTERNAL_SERVER_ERROR, |(_, _, status)| *status)
    }

    /// `{"code":…,"message":…}`
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// `{"error":{…}}`
    pub fn to_wrapped_json(&self) -> String {
        format!("{{\"error\":{}}}", self.to_json())
    }

    fn of(code: ErrorCode) -> Self {
        let row = TABLE.iter().find(|(known, ..)| *known == code.number());
        let message = row.map_or_else(|| code.message(), |(_, text, _)| text);
        Self { code: code.number(), message: message.to_owned(), too_large: false }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Error(error) => {
                let row = TABLE.iter().find(|(known, ..)| *known == error.code);
                let message = row.map_or(error.message, |(_, text, _)| (*text).to_owned());
                Self { code: error.code, message, too_large: false }
            }
            // Only a procedure could want to close a connection, and here is none.
            Refusal::Disconnect(_) => Self::of(ErrorCode::Internal),
        }
    }
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        Self::of(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_and_texts_are_those_of_the_api() {
        for (code, status, text) in [
            (ErrorCode::Internal, 500, "internal server error"),
            (ErrorCode::UnknownChannel, 404, "unknown channel"),
            (ErrorCode::MethodNotFound, 404, "not found"),
            (ErrorCode::BadRequest, 400, "bad request"),
            (ErrorCode::NotAvailable, 400, "not available"),
            (ErrorCode::UnrecoverablePosition, 416, "unrecoverable position"),
            (ErrorCode::ConcurrentPagination, 409, "conflict"),
        ] {
            let failure = Failure::from(Refusal::from(code));
            assert_eq!((failure.status().as_u16(), failure.message.as_str()), (status, text));
            assert_eq!(failure, Failure::from(code));
        }
    }

    #[test]
    fn codes_of_procedures_keep_their_text() {
        let own = tidewire::protocol::Error { code: 1400, message: "sold out".into(), temporary: false };
        let failure = Failure::from(Refusal::Error(own));
        assert_eq!(failure.to_wrapped_json(), r#"{"error":{"code":1400,"message":"sold out"}}"#);
        assert_eq!(failure.status(), 500);
    }
}
