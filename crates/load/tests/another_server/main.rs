//! The binary against a server that is not ours: written for this test alone, with its own WebSocket frames, JSON and
//! protobuf, and unlike ours wherever the protocol leaves a choice. Each client is treated in another way.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod api;
mod broker;
mod connection;
mod json;
mod protobuf;
mod protocol;
mod server;
#[path = "../real_server/tool.rs"]
mod tool;
mod ws;

use broker::Lie;
use serde_json::Value;
use server::Server;
use tool::{assert_recovered, figure, run, tool, written};

const PROTOCOLS: [&str; 2] = ["json", "protobuf"];

/// Runs a scenario that publishes.
fn publishing(server: &Server, args: &[&str], more: &[&str]) -> (Option<i32>, Value) {
    let (url, api) = (server.websocket(), server.api());
    run(&[args, &["--url", &url, "--api-url", &api], more].concat())
}

#[test]
fn idle_connections_are_held_and_only_who_is_asked_to_answers_pings() {
    for protocol in PROTOCOLS {
        let server = Server::start(Lie::None);
        let args = ["idle", "-n", "30", "--channel", "room:i", "--hold", "2500ms", "--protocol", protocol];
        let (code, result) = run(&[&args[..], &["--url", &server.websocket()]].concat());
        assert_eq!(code, Some(0), "{result:#}");
        assert_eq!(figure(&result, "connections"), 30.0);
        assert_eq!((figure(&result, "failed"), figure(&result, "lost")), (0.0, 0.0));
        // Four of five get pings of the protocol, three of five are to answer them: two each at least.
        assert!(figure(&result, "pings") >= 48.0, "{result:#}");
        let counts = server.counts();
        assert!(counts.pongs >= 36 && counts.uninvited_pongs == 0, "{counts:?}");
    }
}

#[test]
fn a_refusal_is_told() {
    let server = Server::start(Lie::None);
    let output = tool(&["idle", "-n", "3", "--channel", "room:x", "--url", &server.websocket()])
        .env_remove("LOAD_TOKEN_HMAC_SECRET")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(written(&output).contains("error 109 (no)"), "{}", written(&output));
}

#[test]
fn inv_d3_a_fan_out_delivers_everything_to_everybody() {
    for protocol in PROTOCOLS {
        let server = Server::start(Lie::None);
        for (channel, via) in [("room", "api"), ("room", "client"), ("log", "api"), ("log", "client")] {
            let channel = format!("{channel}:{via}");
            let args = ["fanout", "-n", "48", "--channel", &channel, "--protocol", protocol, "--via", via];
            // In bursts, so that publications gather in its frames.
            let pace = ["--publish-rate", "400", "--burst", "20", "--duration", "500ms"];
            let (code, result) = publishing(&server, &args, &pace);
            assert_eq!(code, Some(0), "{result:#}");
            assert_eq!(figure(&result, "publications"), 200.0);
            assert_eq!(figure(&result, "missing"), 0.0);
            assert_eq!(result["checker"]["clean"], true);
            assert_eq!(result["checker"]["deliveries"], 48 * 200);
            assert_eq!(figure(&result, "deliveries"), 48.0 * 200.0);
            assert_eq!(result["figures"]["latency"]["count"], 48 * 200);
        }
        let counts = server.counts();
        let rare = [counts.gathered, counts.fragmented, counts.personal];
        assert!(rare.iter().all(|count| *count > 1_000) && counts.gathered < counts.frames, "{counts:?}");
        assert!(counts.api_connections > counts.api_requests / 8, "{counts:?}");
    }
}

#[test]
fn latency_counts_every_delivery_once() {
    let server = Server::start(Lie::None);
    for protocol in PROTOCOLS {
        let args = ["latency", "-n", "10", "--channel", "room:l", "--protocol", protocol];
        let pace = ["--publish-rate", "100", "--duration", "1s", "--warm-up", "500ms"];
        let (code, result) = publishing(&server, &args, &pace);
        assert_eq!(code, Some(0), "{result:#}");
        assert_eq!(figure(&result, "publications"), 150.0);
        assert_eq!(result["figures"]["latency"]["count"], 1_000);
    }
}

#[test]
fn an_api_that_closes_idle_connections_is_called_again_on_new_ones() {
    let server = Server::start(Lie::None);
    let args = ["publish", "--api-url", &server.closing_api(), "--channel", "log:p"];
    let (code, result) = run(&[&args[..], &["--publish-rate", "8", "--duration", "1s"]].concat());
    assert_eq!(code, Some(0), "{result:#}");
    assert_eq!(figure(&result, "publications"), 8.0);
    assert!(server.counts().closed_when_idle >= 7, "{:?}", server.counts());
}

/// Cuts twenty clients of two channels again and again.
fn recovery(server: &Server, protocol: &str) -> (Option<i32>, Value) {
    let args = ["recovery", "-n", "20", "--channel", "log:{n}", "--channels", "2", "--protocol", protocol];
    let cuts = ["--cut-every", "300ms", "--reconnect-within", "100ms"];
    let pace = ["--publish-rate", "100", "--duration", "2s"];
    publishing(server, &args, &[&pace[..], &cuts].concat())
}

#[test]
fn inv_d1_recovery_loses_nothing_while_connections_break() {
    for protocol in PROTOCOLS {
        let server = Server::start(Lie::None);
        assert_recovered(&recovery(&server, protocol));
        assert!(server.counts().recovered_in_pieces > 5, "{:?}", server.counts());
    }
}

#[test]
fn inv_d1_what_the_server_does_wrong_once_is_found_and_named_in_json() {
    lies_are_found("json");
}

#[test]
fn inv_d1_what_the_server_does_wrong_once_is_found_and_named_in_protobuf() {
    lies_are_found("protobuf");
}

fn lies_are_found(protocol: &str) {
    let lies = [
        (Lie::None, "log", "", 0),
        (Lie::Lose, "log", "lost", 1),
        (Lie::Double, "log", "duplicated", 1),
        (Lie::Swap, "log", "reordered", 1),
        (Lie::Double, "room", "duplicated", 1),
        (Lie::Stray, "room", "wrong_recipient", 1),
        (Lie::Misaddress, "room", "wrong_recipient", 1),
    ];
    for (lie, channel, kind, count) in lies {
        is_found(protocol, lie, channel, kind, count);
    }
}

/// Runs a fan-out to two clients in two channels, of which one is lied about: `kind` is found so often, and nothing else.
fn is_found(protocol: &str, lie: Lie, channel: &str, kind: &str, count: u64) {
    let server = Server::start(lie);
    let channel = format!("{channel}:{{n}}");
    let args = ["fanout", "-n", "2", "--channel", &channel, "--channels", "2", "--protocol", protocol];
    let (code, result) = publishing(&server, &args, &["--publish-rate", "50", "--duration", "300ms"]);
    assert_eq!(code, Some(i32::from(count > 0)), "{lie:?}: {result:#}");
    for (name, found) in result["checker"]["counts"].as_object().unwrap() {
        let expected = if name == kind { count } else { 0 };
        assert_eq!(*found, expected, "{lie:?} {name}: {result:#}");
    }
}

#[test]
fn inv_d1_what_comes_late_is_not_lost_because_something_came_often() {
    is_found("json", Lie::Repeat, "log", "duplicated", 9);
}

#[test]
fn inv_d2_a_recovery_that_claims_too_much_is_found() {
    let server = Server::start(Lie::Forget);
    let (code, result) = recovery(&server, "json");
    assert_eq!((code, server.counts().forgotten), (Some(1), 1), "{result:#}");
    let counts = result["checker"]["counts"].as_object().unwrap();
    for (name, found) in counts {
        assert_eq!(*found, u64::from(name == "wrongly_recovered"), "{name}: {result:#}");
    }
}
