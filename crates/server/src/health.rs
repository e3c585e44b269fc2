//! Whether the process serves (`/health`), and whether it can do its work (`/health/ready`).

use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::any;
use http::StatusCode;
use http::header::CONTENT_TYPE;
use tidewire::Tidewire;

/// How long the engine may take to say that it is there.
const PATIENCE: Duration = Duration::from_secs(2);

/// Both routes, at `path` and below it.
pub fn router(path: &str, tidewire: Tidewire) -> Router {
    let root = if path == "/" { "" } else { path };
    Router::new()
        .route(path, any(async || json(StatusCode::OK, "{}")))
        .route(&format!("{root}/ready"), any(ready))
        .with_state(tidewire)
}

/// Asks the engine; a load balancer should send no one here while it does not answer, or while this node is stopping.
async fn ready(State(tidewire): State<Tidewire>) -> Response {
    match tidewire.ready(PATIENCE).await {
        Ok(()) => json(StatusCode::OK, "{}"),
        Err(error) => {
            tracing::warn!(%error, "not ready");
            json(StatusCode::SERVICE_UNAVAILABLE, r#"{"error":"not ready"}"#)
        }
    }
}

fn json(status: StatusCode, body: &'static str) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}
