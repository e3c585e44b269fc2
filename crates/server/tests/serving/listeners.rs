//! What is served where, and what is said when it cannot be.

use std::process::Output;

use serde_json::{Value, json};

use crate::client::Client;
use crate::support::binary::{Server, command, loopback};
use crate::support::http::request;

/// Runs a command that is expected to end by itself.
fn run(config: &Value, arguments: &[&str]) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let Output { status, stderr, .. } = command(directory.path(), config).args(arguments).output().unwrap();
    (status.code(), String::from_utf8(stderr).unwrap())
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_next_step() {
    let held = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let (code, said) = run(&loopback(json!({ "http_server": { "port": port } })), &[]);
    assert_eq!(code, Some(1), "{said}");
    for part in
        [&format!("port {port} of 127.0.0.1 is in use"), "http_server.port", "TIDEWIRE_HTTP_SERVER_PORT"]
    {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    let internal =
        json!({ "http_server": { "internal_address": "127.0.0.1", "internal_port": port.to_string() } });
    let (code, said) = run(&loopback(internal), &[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("http_server.internal_port"), "{said}");
}

#[tokio::test]
async fn an_address_that_is_not_of_this_machine_or_no_address() {
    for address in ["192.0.2.1", "no such host"] {
        let mut config = loopback(json!({}));
        config["http_server"]["address"] = address.into();
        let (code, said) = run(&config, &[]);
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("http_server.address") && said.contains(address), "{said}");
    }
}

#[tokio::test]
async fn paths_that_collide_or_look_like_patterns_do_not_start() {
    for (config, key) in [
        (
            json!({ "health": { "enabled": true }, "prometheus": { "enabled": true, "handler_prefix": "/health/ready" } }),
            "prometheus.handler_prefix",
        ),
        (json!({ "websocket": { "handler_prefix": "/{x}" } }), "websocket.handler_prefix"),
        (json!({ "http_api": { "handler_prefix": "/*rest" } }), "http_api.handler_prefix"),
    ] {
        let (code, said) = run(&loopback(config), &[]);
        assert!(matches!(code, Some(1 | 2)), "{said}");
        assert!(said.contains(key) && !said.contains("panicked"), "{said}");
    }
}

#[tokio::test]
async fn an_internal_listener_takes_everything_but_clients() {
    let mut config = json!({
        "client": { "insecure": true },
        "http_api": { "insecure": true },
        "health": { "enabled": true },
        "prometheus": { "enabled": true },
        "http_server": { "internal_address": "127.0.0.2", "internal_port": "0" },
    });
    for api_outside in [false, true] {
        config["http_api"]["external"] = api_outside.into();
        let server = Server::start(config.clone());
        let internal = server.internal.expect("a second listener");
        assert_ne!(server.external.ip(), internal.ip());
        for (method, path) in [("POST", "/api/info"), ("GET", "/health"), ("GET", "/metrics")] {
            assert_eq!(request(internal, method, path, &[], b"{}").await.status, 200, "{path}");
            let outside = request(server.external, method, path, &[], b"{}").await.status;
            let expected = if api_outside && path == "/api/info" { 200 } else { 404 };
            assert_eq!(outside, expected, "{path}");
        }
        Client::connected(server.external).await;
        assert_eq!(request(internal, "GET", "/connection/websocket", &[], b"").await.status, 404);
    }
}

#[tokio::test]
async fn prefixes_and_switches_of_endpoints() {
    let server = Server::start(json!({
        "client": { "insecure": true },
        "http_api": { "insecure": true, "handler_prefix": "/backend/api" },
        "websocket": { "disabled": true },
    }));
    let info = request(server.external, "POST", "/backend/api/info", &[], b"{}").await;
    assert_eq!(info.status, 200);
    assert_eq!(request(server.external, "POST", "/api/info", &[], b"{}").await.status, 404);
    assert_eq!(request(server.external, "GET", "/connection/websocket", &[], b"").await.status, 404);
    let name = info.json()["result"]["nodes"][0]["name"].as_str().unwrap().to_owned();
    assert!(name.ends_with("_0"), "the machine's name and the port of the configuration: {name}");
    let server = Server::start(json!({ "http_api": { "disabled": true } }));
    assert_eq!(request(server.external, "POST", "/api/info", &[], b"{}").await.status, 404);
}

#[tokio::test]
async fn dev_says_where_to_go_and_what_it_says_works() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = command(directory.path(), &loopback(json!({})));
    command.arg("--dev");
    let server = Server::spawn(command, directory);
    let said = server.wait_for("curl http");
    let (_, url) = said.split_once("http://").unwrap();
    let (url, body) = url.split_once(" -d '").unwrap();
    let path = url.strip_prefix(&server.external.to_string()).expect("the address that is served");
    let mut client = Client::connected(server.external).await;
    client.subscribe("news").await.unwrap();
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let body = body.strip_suffix('\'').unwrap();
    let answer = request(server.external, "POST", path, &form, body.as_bytes()).await;
    assert_eq!(answer.json()["result"]["offset"], 1);
    assert_eq!(client.text().await, r#"{"text":"hello"}"#);
    let present =
        request(server.external, "POST", "/api/presence_stats", &form, br#"{"channel":"news"}"#).await;
    assert_eq!(present.json()["result"]["num_clients"], 1, "presence is on");
    for path in ["/health", "/health/ready", "/metrics"] {
        assert_eq!(request(server.external, "GET", path, &[], b"").await.status, 200);
    }
    assert!(said_websocket(&server), "{}", server.written());
}

fn said_websocket(server: &Server) -> bool {
    server.written().contains(&format!("ws://{}/connection/websocket", server.external))
}

#[tokio::test]
async fn insecure_options_are_shown_at_each_start() {
    let server = Server::start(json!({ "client": { "insecure": true } }));
    let line: Value = serde_json::from_str(&server.wait_for("INSECURE")).unwrap();
    assert_eq!((line["level"].as_str(), line["key"].as_str()), (Some("WARN"), Some("client.insecure")));
}
