//! Clients that stop reading, against the real server.

use serde_json::Value;

use crate::server::{self, Server};
use crate::tool::{figure, run};

/// Twenty clients of which four stop reading, with payloads that fill any buffer soon.
fn slow(server: &Server, channel: &str, more: &[&str]) -> (Option<i32>, Value) {
    let (url, api) = (server.websocket(), server.api());
    let args =
        ["slow", "-n", "20", "--slow-share", "20", "--url", &url, "--api-url", &api, "--channel", channel];
    let pace = ["--publish-rate", "50", "--payload", "4096", "--before", "1s"];
    run(&[&args[..], &pace, more].concat())
}

#[test]
fn inv_b1_clients_that_stop_reading_are_cut_and_the_others_get_everything() {
    let server = Server::start();
    let (code, result) = slow(&server, "log:slow", &["--cut-within", "5s"]);
    assert_eq!(code, Some(0), "{result:#}");
    assert_eq!((figure(&result, "slow"), figure(&result, "cuts")), (4.0, 4.0));
    assert_eq!(figure(&result, "others_lost"), 0.0);
    // In a second of 50 publications each, to the sixteen others.
    assert_eq!(result["figures"]["latency_before"]["count"], 800, "{result:#}");
    assert!(result["figures"]["latency_beside"]["count"].as_u64() >= Some(16), "{result:#}");
    assert!(figure(&result, "p99_growth") > 0.0);
    assert_eq!(result["figures"]["cut"]["count"], 4);
    assert!(result["figures"]["cut"]["max_us"].as_f64() < Some(5e6), "{result:#}");
    assert_eq!(result["checker"]["clean"], true, "{result:#}");
}

#[test]
fn a_server_that_does_not_cut_in_time_is_told_of() {
    let mut config = server::config(0);
    config["websocket"] = serde_json::json!({"write_timeout": "60s"});
    config["client"]["queue_max_size"] = 1_000_000_000.into();
    let server = Server::with(config, tempfile::tempdir().unwrap());
    let (code, result) = slow(&server, "plain:slow", &["--cut-within", "1s"]);
    assert_eq!(code, Some(2), "{result:#}");
    assert_eq!((figure(&result, "cuts"), figure(&result, "others_lost")), (0.0, 0.0), "{result:#}");
    let told = result["shortfalls"].to_string();
    assert!(told.contains("4 slow clients were not cut within 1s"), "{told}");
    assert!(told.contains("4 slow clients are still there"), "{told}");
}
