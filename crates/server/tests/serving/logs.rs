//! What is logged, and above all what is not.

use serde_json::{Value, json};
use tidewire::protocol::{Command, ConnectRequest, Encoding, SubscribeRequest};

use crate::client::Client;
use crate::support::binary::Server;
use crate::support::http::{raw, request};

/// Parts of every secret and payload that is sent below.
const MARKER: &str = "zq7marker";

#[tokio::test]
async fn bad_l1_secrets_and_payloads_are_nowhere_in_logs_metrics_and_errors() {
    let marked = |what: &str| format!("{MARKER}-{what}-0123456789-0123456789");
    let server = Server::start(json!({
        "log": { "level": "trace" },
        "prometheus": { "enabled": true },
        "http_api": { "key": marked("configured-key") },
        "client": {
            "token": { "hmac_secret_key": marked("hmac") },
            "allow_anonymous_connect_without_token": true,
            "allowed_origins": ["*"],
        },
        "channel": { "without_namespace": { "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true } },
    }));
    let key = marked("configured-key");
    let payload =
        json!({ "channel": "c", "data": marked("payload"), "tags": { "t": marked("tag") } }).to_string();
    let mut answers = String::new();

    // The HTTP API: keys right and wrong in all places, payloads good and broken.
    for (path, headers, body) in [
        (format!("/api/publish?api_key={}", marked("wrong-key")), vec![], payload.clone()),
        (format!("/api/publish?api_key={key}"), vec![], payload.clone()),
        (format!("/api/{}?api_key={key}", "unheard_of"), vec![], payload.clone()),
        ("/api/publish".into(), vec![("x-api-key", marked("wrong-key"))], payload.clone()),
        ("/api/publish".into(), vec![("authorization", format!("apikey {key}"))], payload.clone()),
        (
            "/api/publish".into(),
            vec![("authorization", format!("Bearer {}", marked("bearer")))],
            payload.clone(),
        ),
        (
            "/api/publish".into(),
            vec![("x-api-key", key.clone()), ("cookie", marked("cookie"))],
            payload.clone(),
        ),
        ("/api/publish".into(), vec![("x-api-key", key.clone())], format!("{{\"data\":{}", marked("broken"))),
        (
            "/api/publish".into(),
            vec![("x-api-key", key.clone())],
            json!({ "channel": { "x": marked("type") } }).to_string(),
        ),
        (
            "/api/rpc".into(),
            vec![("x-api-key", key.clone())],
            json!({ "method": "m", "params": marked("rpc") }).to_string(),
        ),
        (format!("/nowhere?token={}", marked("token")), vec![], String::new()),
    ] {
        let headers: Vec<(&str, &str)> =
            headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        answers += &request(server.external, "POST", &path, &headers, body.as_bytes()).await.body;
    }
    let broken = format!("POST /api HTTP/1.1\r\nhost: t\r\nx-api-key: {key}\r\n{}\r\n\r\n", marked("header"));
    answers += &raw(server.external, broken.as_bytes()).await.body;

    // Clients: tokens and data in every command that has them, then a message that is none.
    let headers = [("cookie", "zq7marker-cookie"), ("origin", "https://zq7marker-origin.example")];
    let mut client = Client::open_with(server.external, Encoding::Json, &headers).await.unwrap();
    client
        .connect(ConnectRequest { data: json!(marked("data")).to_string().into(), ..Default::default() })
        .await
        .unwrap();
    let subscribe = SubscribeRequest {
        channel: "private".into(),
        token: marked("subscription-token"),
        data: json!(marked("subscribe-data")).to_string().into(),
        ..Default::default()
    };
    let refused = client.call(Command { subscribe: Some(Box::new(subscribe)), ..Default::default() }).await;
    assert_eq!(refused.unwrap_err().code(), 103);
    client.publish("c", &json!(marked("publication")).to_string()).await.unwrap_err();
    client.rpc("m", &json!(marked("params")).to_string()).await.unwrap_err();
    client.send(&json!(marked("message")).to_string()).await;
    client.end().await;
    for token in [marked("token"), format!("a.{}.c", marked("token")), format!("{}.b.c", marked("token"))] {
        let mut client = Client::open(server.external).await;
        let connect = client.connect(ConnectRequest { token, ..Default::default() }).await;
        assert_eq!(connect.unwrap_err().code(), 3500);
    }

    let metrics = request(server.external, "GET", "/metrics", &[], b"").await.body;
    server.signal("TERM");
    server.wait_for(r#""message":"stopped""#);
    let written = server.written();
    for (what, text) in [("the log", &written), ("metrics", &metrics), ("an answer", &answers)] {
        assert!(!text.contains(MARKER), "in {what}:\n{text}");
    }
    assert!(written.contains("invalid token"), "but the log does say why:\n{written}");
}

#[tokio::test]
async fn bad_l1_nobody_can_forge_a_line() {
    let server = Server::start(json!({
        "log": { "level": "trace" },
        "client": { "allow_anonymous_connect_without_token": true },
        "http_api": { "insecure": true },
    }));
    let forged = "x\r\n{\"level\":\"ERROR\",\"message\":\"forged\"}\n\u{1b}[31mred\u{2028}";
    let mut client = Client::open(server.external).await;
    client
        .connect(ConnectRequest { name: forged.into(), version: forged.into(), ..Default::default() })
        .await
        .unwrap();
    for channel in [forged, "nobody:\r\nforged"] {
        client.subscribe(channel).await.unwrap_err();
    }
    let body = json!({ "channel": forged, "data": 1, "user": forged, "method": forged, "pattern": forged });
    for method in ["publish", "disconnect", "rpc", "channels", "history"] {
        request(server.external, "POST", &format!("/api/{method}"), &[], body.to_string().as_bytes()).await;
    }
    request(server.external, "GET", "/%0d%0aforged%1b%5b31m", &[("user-agent", "\u{1b}[31m")], b"").await;
    server.signal("TERM");
    server.wait_for(r#""message":"stopped""#);
    for line in server.written().lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not a line of ours: {line}"));
        assert_ne!(line["message"], "forged");
    }
}

#[tokio::test]
async fn logs_go_to_a_file_with_the_chosen_level() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("server.log");
    let config = crate::support::binary::loopback(
        json!({ "log": { "file": file, "level": "warn" }, "client": { "insecure": true } }),
    );
    let mut child = crate::support::binary::command(directory.path(), &config).spawn().unwrap();
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let text = loop {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        if text.contains("INSECURE") || std::time::Instant::now() > deadline {
            break text;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!text.is_empty());
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        assert!(matches!(line["level"].as_str(), Some("WARN" | "ERROR")), "{line}");
    }
}
