//! The server HTTP API: what backends call (`POST /api/<method>`), with the shapes and codes of Centrifugo v6.
//!
//! `method`: the methods, and what each does. `request`, `result`: their shapes. `failure`: the one table from domain
//! errors to codes and HTTP statuses. `key`: who may call. `batch`, `lines`: many calls in one request, the second in the
//! form of older clients. Here: the routes, and the order in which a request is checked.

mod batch;
pub mod failure;
pub mod key;
mod lines;
pub mod method;
mod request;
mod result;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::body::HttpBody as _;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method as HttpMethod, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tidewire::Tidewire;

use crate::config::model::HttpApi;
use key::Keys;
use method::Method;

pub use method::Limits;

/// How long a caller may take to send a body, whatever its size.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The request header that asks for errors by HTTP status.
const ERROR_MODE: &str = "x-centrifugo-error-mode";

/// What the API needs of the server around it.
pub struct Api {
    tidewire: Tidewire,
    keys: Keys,
    transport_errors: bool,
    body_bytes_max: usize,
    limits: Limits,
    calls: method::Calls,
}

// === impl Api ===

impl Api {
    /// An API on a node, by its configuration.
    pub fn new(tidewire: Tidewire, config: &HttpApi) -> Self {
        Self {
            tidewire,
            keys: Keys::new(config.key.clone(), config.insecure),
            transport_errors: config.transport_errors,
            body_bytes_max: config.body_bytes_max.unwrap_or(usize::MAX),
            limits: Limits {
                batch: config.batch_max.unwrap_or(usize::MAX),
                publication_bytes: config.publication_bytes_max.unwrap_or(usize::MAX),
            },
            calls: method::Calls::default(),
        }
    }

    /// How often each method was called.
    pub fn calls(&self) -> &method::Calls {
        &self.calls
    }

    /// Its routes below `path`.
    pub fn router(self: Arc<Self>, path: &str) -> Router {
        let root = if path == "/" { "" } else { path };
        Router::new().route(path, any(lines)).route(&format!("{root}/{{method}}"), any(one)).with_state(self)
    }

    /// Everything that is checked before a body is read.
    fn admit(&self, request: &Request) -> Result<(), Refused> {
        if request.method() != HttpMethod::POST {
            return Err(Refused::Method);
        }
        if !self.keys.admit(request.headers(), request.uri().query()) {
            return Err(Refused::Key);
        }
        // A body nobody can read is refused as that, and not as a broken one.
        let coding = request.headers().get(CONTENT_ENCODING);
        if coding.is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(Refused::Coding);
        }
        // Who says that it is too long need not send it, nor be asked to go on.
        if request.body().size_hint().lower() > self.body_bytes_max as u64 {
            return Err(Refused::Size);
        }
        Ok(())
    }

    async fn body(&self, request: Request) -> Result<Bytes, Refused> {
        let body = Limited::new(request.into_body(), self.body_bytes_max).collect();
        match tokio::time::timeout(BODY_TIMEOUT, body).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refused::Size),
            Ok(Err(_)) => Err(Refused::Body),
            Err(_) => Err(Refused::Time),
        }
    }

    fn transport_errors(&self, headers: &HeaderMap) -> bool {
        self.transport_errors || headers.get(ERROR_MODE).is_some_and(|mode| mode == "transport")
    }
}

/// One call: `POST /api/<method>`.
async fn one(State(api): State<Arc<Api>>, Path(name): Path<String>, request: Request) -> Response {
    let Some(method) = Method::parse(&name) else {
        return Refused::Unknown.into_response();
    };
    let by_status = api.transport_errors(request.headers());
    let answered: Result<method::Outcome, Refused> = async {
        api.admit(&request)?;
        let body = api.body(request).await?;
        let call = method.decode(&body).map_err(|_| Refused::Body)?;
        Ok(api.calls.count(method, call.run(&api.tidewire, &api.limits).await))
    }
    .await;
    match answered {
        Ok(Ok(result)) => json(StatusCode::OK, result.into_whole()),
        Ok(Err(failure)) if by_status => json(failure.status(), failure.to_json()),
        Ok(Err(failure)) => json(StatusCode::OK, failure.to_wrapped_json()),
        Err(refused) => refused.into_response(),
    }
}

/// Older clients: `POST /api` with one call a line.
async fn lines(State(api): State<Arc<Api>>, request: Request) -> Response {
    let answered = async {
        api.admit(&request)?;
        let body = api.body(request).await?;
        lines::run(&api, &body).await.map_err(|lines::NotLines| Refused::Body)
    };
    match answered.await {
        Ok(answers) => json(StatusCode::OK, answers),
        Err(refused) => refused.into_response(),
    }
}

fn json(status: StatusCode, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Why a request does not reach a method. The answers are the same in every error mode and say nothing of the inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    Unknown,
    Method,
    Key,
    Coding,
    Size,
    Time,
    Body,
}

impl Refused {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::Unknown => (StatusCode::NOT_FOUND, "no such method"),
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, "method must be POST"),
            Self::Key => (StatusCode::UNAUTHORIZED, "unauthorized"),
            Self::Coding => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body must not be encoded"),
            Self::Size => (StatusCode::PAYLOAD_TOO_LARGE, "the body is too large"),
            Self::Time => (StatusCode::REQUEST_TIMEOUT, "the body took too long"),
            Self::Body => (StatusCode::BAD_REQUEST, "the body cannot be read"),
        };
        let mut response = (status, text).into_response();
        let headers = response.headers_mut();
        if self == Self::Method {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        if matches!(self, Self::Size | Self::Time) {
            // What is left of the body is not read, so the connection can carry no further request.
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
