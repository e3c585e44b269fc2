//! `/metrics`: the names that are documented, and numbers that move.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;

use crate::client::Client;
use crate::support::binary::Server;
use crate::support::http::request;

/// Name (with labels) to value.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.into(), value.parse().unwrap()))
        .collect()
}

async fn scrape(server: &Server) -> String {
    let answer = request(server.external, "GET", "/metrics", &[], b"").await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.header("content-type").unwrap().starts_with("application/openmetrics-text; version=1.0.0")
    );
    answer.body
}

fn open_server() -> Server {
    Server::start(json!({
        "prometheus": { "enabled": true },
        "client": { "insecure": true },
        "http_api": { "insecure": true },
        "channel": { "without_namespace": { "history_size": 10, "history_ttl": "60s" } },
    }))
}

#[tokio::test]
async fn every_metric_is_documented_and_every_documented_metric_is_there() {
    let text = scrape(&open_server()).await;
    assert!(text.ends_with("# EOF\n"));
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let served: BTreeSet<String> = kinds
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, kind)| if kind == "counter" { format!("{name}_total") } else { name.to_owned() })
        .collect();
    let page = include_str!("../../../../docs/metrics.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let documented: BTreeSet<String> =
        rows.map(|row| row.split(['`', '{']).next().unwrap().to_owned()).collect();
    assert_eq!(served, documented);
}

#[tokio::test]
async fn numbers_follow_what_happens() {
    let server = open_server();
    let before = samples(&scrape(&server).await);
    let mut client = Client::connected(server.external).await;
    client.subscribe("news").await.unwrap();
    for (path, status) in [("/api/publish", 200), ("/api/presence", 200)] {
        let answer = request(server.external, "POST", path, &[], br#"{"channel":"news","data":1}"#).await;
        assert_eq!(answer.status, status);
    }
    assert_eq!(client.text().await, "1");
    let after = samples(&scrape(&server).await);
    for (name, rise) in [
        ("tidewire_connects_total", 1.0),
        ("tidewire_sockets_opened_total", 1.0),
        ("tidewire_subscribes_total", 1.0),
        ("tidewire_publications_total", 1.0),
        ("tidewire_deliveries_total", 1.0),
        ("tidewire_connections", 1.0),
        ("tidewire_users", 1.0),
        ("tidewire_channels", 1.0),
        ("tidewire_subscriptions", 1.0),
        ("tidewire_sockets", 1.0),
        (r#"tidewire_api_calls_total{method="publish"}"#, 1.0),
        (r#"tidewire_api_calls_total{method="presence"}"#, 1.0),
        (r#"tidewire_api_errors_total{method="publish"}"#, 0.0),
        // The namespace keeps no presence.
        (r#"tidewire_api_errors_total{method="presence"}"#, 1.0),
        ("tidewire_contained_panics_total", 0.0),
    ] {
        assert_eq!(after[name] - before[name], rise, "{name}");
    }
    assert_eq!(after["tidewire_insecure_options"], 2.0);
    assert_eq!(after[r#"tidewire_build{version="0.1.0"}"#], 1.0);
    assert!(after["process_resident_memory_bytes"] > 1e6);
    assert!(after["process_open_fds"] > 5.0 && after["process_open_fds"] < after["process_max_fds"]);
    assert!(after["process_cpu_seconds_total"] >= before["process_cpu_seconds_total"]);
}
