//! The page of `--dev`: two clients of this server side by side, in a browser.
//!
//! Its files are in `demo/` beside the sources and become a part of the binary as they are; nothing is built or fetched.

use std::sync::Arc;

use axum::Router;
use axum::response::IntoResponse;
use axum::routing::get;
use http::HeaderValue;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use serde_json::json;

use crate::config::Config;

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";
const JSON: &str = "application/json";

/// Nothing but this server's own files and connections to it; no script or style within the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

/// With every answer. A newer binary on the same port must not meet files of an older one.
const HEADERS: [(HeaderName, HeaderValue); 4] = [
    (CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (CACHE_CONTROL, HeaderValue::from_static("no-store")),
];

/// Path, type and content of a file of the page.
type File = (&'static str, &'static str, &'static [u8]);

const FILES: [File; 11] = [
    ("/", HTML, include_bytes!("../../demo/index.html")),
    ("/demo/page.css", CSS, include_bytes!("../../demo/page.css")),
    ("/demo/page.js", SCRIPT, include_bytes!("../../demo/page.js")),
    ("/demo/pane.js", SCRIPT, include_bytes!("../../demo/pane.js")),
    ("/demo/view.js", SCRIPT, include_bytes!("../../demo/view.js")),
    ("/demo/cable.js", SCRIPT, include_bytes!("../../demo/cable.js")),
    ("/demo/names.js", SCRIPT, include_bytes!("../../demo/names.js")),
    ("/demo/figures.js", SCRIPT, include_bytes!("../../demo/figures.js")),
    ("/demo/traffic.js", SCRIPT, include_bytes!("../../demo/traffic.js")),
    ("/demo/icon.svg", SVG, include_bytes!("../../demo/icon.svg")),
    (
        "/demo/vendor/centrifuge/centrifuge.js",
        SCRIPT,
        include_bytes!("../../demo/vendor/centrifuge/centrifuge.js"),
    ),
];

/// Whether the page can be served: there is something to connect to, and its address is free.
pub(super) fn has_place(config: &Config) -> bool {
    let taken = [
        config.http_api.enabled && config.http_api.path == "/",
        config.health.enabled && config.health.path == "/",
        config.prometheus.enabled && config.prometheus.path == "/",
        config.websocket.path == "/",
    ];
    config.websocket.enabled && !taken.contains(&true)
}

/// The page, if it has a place. Meant to be asked where no other route is.
pub(super) fn router(config: &Config) -> Router {
    let mut router = Router::new();
    if !has_place(config) {
        return router;
    }
    for (path, kind, content) in FILES {
        router = router.route(path, get(async move || answer(kind, content)));
    }
    let settings: Arc<str> = settings(config).into();
    router.route("/demo/settings.json", get(async move || answer(JSON, settings.to_string())))
}

fn answer(kind: &'static str, content: impl IntoResponse) -> impl IntoResponse {
    (HEADERS, [(CONTENT_TYPE, kind)], content)
}

/// Where the page finds what it needs. What another listener serves is of another origin, and out of its reach.
fn settings(config: &Config) -> String {
    let inside = config.http_server.internal.is_some();
    let metrics = (config.prometheus.enabled && !inside).then_some(&config.prometheus.path);
    let api =
        (config.http_api.enabled && (!inside || config.http_api.external)).then_some(&config.http_api.path);
    json!({ "websocket": config.websocket.path, "metrics": metrics, "api": api }).to_string()
}
