//! The demo page of `--dev`: what is served, how it is labelled, and that it gives way.

use serde_json::{Value, json};

use crate::support::binary::{Server, command, loopback};
use crate::support::http::request;

/// A server with `--dev`.
fn development(config: Value) -> Server {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path(), &loopback(config));
    command.arg("--dev");
    Server::spawn(command, directory)
}

const PAGE: [(&str, &str); 6] = [
    ("/", "text/html; charset=utf-8"),
    ("/demo/page.css", "text/css; charset=utf-8"),
    ("/demo/page.js", "text/javascript; charset=utf-8"),
    ("/demo/icon.svg", "image/svg+xml"),
    ("/demo/settings.json", "application/json"),
    ("/demo/vendor/centrifuge/centrifuge.js", "text/javascript; charset=utf-8"),
];

#[tokio::test]
async fn the_page_is_served_with_dev_alone() {
    let everything_open = json!({
        "client": { "insecure": true },
        "http_api": { "insecure": true },
        "health": { "enabled": true },
        "prometheus": { "enabled": true },
    });
    let production = Server::start(everything_open);
    for (path, _) in PAGE {
        assert_eq!(request(production.external, "GET", path, &[], b"").await.status, 404, "{path}");
    }
    let server = development(json!({}));
    server.wait_for(&format!("http://{}/", server.external));
    for (path, kind) in PAGE {
        let answer = request(server.external, "GET", path, &[], b"").await;
        assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert!(!answer.body.is_empty(), "{path}");
        let policy = answer.header("content-security-policy").expect("a policy");
        let rules: Vec<_> = policy.split("; ").collect();
        for rule in ["default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'"] {
            assert!(rules.contains(&rule), "{path}: {policy}");
        }
        assert!(!policy.contains("unsafe"), "{path}: {policy}");
    }
    for path in ["/demo", "/demo/", "/demo/nothing.js", "/demo/../demo/page.js", "/index.html"] {
        assert_eq!(request(server.external, "GET", path, &[], b"").await.status, 404, "{path}");
    }
    assert_eq!(request(server.external, "POST", "/", &[], b"").await.status, 405);
}

#[tokio::test]
async fn every_file_the_page_names_is_there() {
    let server = development(json!({}));
    let mut ahead = vec!["/".to_owned()];
    let mut seen = Vec::new();
    while let Some(path) = ahead.pop() {
        let answer = request(server.external, "GET", &path, &[], b"").await;
        assert_eq!(answer.status, 200, "{path}");
        if !path.contains("/vendor/") {
            ahead.extend(named_in(&answer.body).into_iter().filter(|named| !seen.contains(named)));
        }
        seen.push(path);
    }
    assert!(seen.iter().any(|path| path.contains("/vendor/")), "{seen:?}");
    assert!(seen.len() > 8, "{seen:?}");
}

/// Files that a page or a script refers to.
fn named_in(text: &str) -> Vec<String> {
    // Quotation marks stand in comments too, so what is between two of them cannot be told from what is outside.
    let pieces = text.split(['"', '\'']).filter(|piece| !piece.contains(char::is_whitespace));
    let file = |piece: &str| match piece.strip_prefix("./") {
        Some(below) => Some(format!("/demo/{below}")),
        None => piece.starts_with("/demo/").then(|| piece.to_owned()),
    };
    pieces.filter_map(file).collect()
}

#[tokio::test]
async fn the_page_knows_the_paths_of_this_server() {
    let server = development(json!({
        "websocket": { "handler_prefix": "/ws" },
        "http_api": { "handler_prefix": "/backend" },
        "prometheus": { "handler_prefix": "/figures" },
    }));
    let settings =
        async |server: &Server| request(server.external, "GET", "/demo/settings.json", &[], b"").await.json();
    assert_eq!(
        settings(&server).await,
        json!({ "websocket": "/ws", "metrics": "/figures", "api": "/backend" })
    );
    let inside = json!({ "http_server": { "internal_address": "127.0.0.2", "internal_port": "0" } });
    let server = development(inside);
    assert_eq!(
        settings(&server).await,
        json!({ "websocket": "/connection/websocket", "metrics": null, "api": null })
    );
    let internal = server.internal.expect("a second listener");
    assert_eq!(request(internal, "GET", "/", &[], b"").await.status, 404, "the page is for clients");
}

#[tokio::test]
async fn the_page_gives_way_to_what_is_configured() {
    let server = development(json!({ "health": { "handler_prefix": "/" } }));
    assert_eq!(request(server.external, "GET", "/", &[], b"").await.body, "{}");
    assert!(!server.written().contains("Demo page"), "{}", server.written());
    let server = development(json!({ "websocket": { "disabled": true } }));
    assert_eq!(request(server.external, "GET", "/", &[], b"").await.status, 404, "nothing to connect to");
    let server = development(json!({ "prometheus": { "handler_prefix": "/demo/page.js" } }));
    let metrics = request(server.external, "GET", "/demo/page.js", &[], b"").await;
    assert!(metrics.body.contains("tidewire_connections"), "{}", metrics.body);
}
