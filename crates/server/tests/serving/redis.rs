//! `engine.type: redis` on the real binary: nodes that share a Redis, and what they say when it is gone. One that cannot be
//! used: `tests/nodes/refused.rs`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidewire_redis_testkit::{Flavour, Server as Redis, Start};

use crate::client::Client;
use crate::support::binary::Server;
use crate::support::http::request;

fn on(redis: &Redis, more: &Value) -> Value {
    let mut config = json!({
        "engine": { "type": "redis", "redis": { "address": format!("redis://{}", redis.address()) } },
        "client": { "insecure": true },
        "http_api": { "insecure": true },
        "health": { "enabled": true },
        "prometheus": { "enabled": true },
        "channel": { "without_namespace": { "history_size": 10, "history_ttl": "60s", "presence": true } },
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        config["engine"]["redis"][key] = value.clone();
    }
    config
}

async fn call(server: &Server, method: &str, body: Value) -> Value {
    let answer =
        request(server.external, "POST", &format!("/api/{method}"), &[], body.to_string().as_bytes()).await;
    assert_eq!(answer.status, 200);
    answer.json()
}

/// Waits until readiness is as it should be.
async fn ready(server: &Server, status: u16) {
    let begun = Instant::now();
    while request(server.external, "GET", "/health/ready", &[], b"").await.status != status {
        assert!(begun.elapsed() < Duration::from_secs(20), "never {status}: {}", server.written());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(request(server.external, "GET", "/health", &[], b"").await.status, 200, "the process lives");
}

#[tokio::test]
async fn nodes_that_share_a_redis_share_publications_history_and_presence() {
    let redis = Start::new(Flavour::Redis).run();
    let config = on(&redis, &json!({}));
    let (one, other) = (Server::start(config.clone()), Server::start(config.clone()));
    let mut client = Client::connected(other.external).await;
    client.subscribe("news").await.unwrap();
    let published = call(&one, "publish", json!({ "channel": "news", "data": "across" })).await;
    assert_eq!(published["result"]["offset"], 1);
    assert_eq!(client.text().await, "\"across\"");
    for server in [&one, &other] {
        let stats = call(server, "presence_stats", json!({ "channel": "news" })).await;
        assert_eq!(stats["result"], json!({ "num_clients": 1, "num_users": 1 }));
    }
    for (server, received) in [(&one, 0), (&other, 1)] {
        let metrics = request(server.external, "GET", "/metrics", &[], b"").await.body;
        for line in ["count", r#"bucket{le="+Inf"}"#] {
            assert!(
                metrics.contains(&format!("tidewire_redis_lag_seconds_{line} {received}\n")),
                "{metrics}"
            );
        }
    }
    // What the nodes forget, Redis keeps.
    drop((one, other));
    let third = Server::start(config);
    let history = call(&third, "history", json!({ "channel": "news", "limit": 10 })).await;
    assert_eq!(history["result"]["publications"][0]["data"], "across");
    assert_eq!(history["result"]["epoch"], published["result"]["epoch"]);
}

#[tokio::test]
async fn readiness_follows_redis_and_no_node_needs_a_restart() {
    let mut redis = Start::new(Flavour::Redis).run();
    let server = Server::start(on(&redis, &json!({ "io_timeout": "1s" })));
    ready(&server, 200).await;
    redis.kill();
    ready(&server, 503).await;
    let refused = call(&server, "publish", json!({ "channel": "news", "data": 1 })).await;
    assert_eq!(refused["error"]["code"], 100);
    redis.start_again();
    ready(&server, 200).await;
    let published = call(&server, "publish", json!({ "channel": "news", "data": 1 })).await;
    assert_eq!(published["result"]["offset"], 1, "{published}");
    // A node that starts before its Redis waits for it, ready once it is there.
    redis.kill();
    let early = Server::start(on(&redis, &json!({ "io_timeout": "1s" })));
    ready(&early, 503).await;
    redis.start_again();
    ready(&early, 200).await;
}
