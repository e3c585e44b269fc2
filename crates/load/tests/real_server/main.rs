//! The binary against the real server, with small numbers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod liar;
mod server;
mod slow;
mod tool;

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use liar::Lie;
use serde_json::Value;
use server::Server;
use tool::{assert_recovered, figure, run, tool, written};

#[test]
fn idle_connections_are_held_and_what_they_cost_is_told() {
    let server = Server::start();
    for protocol in ["json", "protobuf"] {
        let args = ["idle", "-n", "50", "--channel", "plain:idle", "--hold", "300ms", "--protocol", protocol];
        let (code, result) =
            run(&[&args[..], &["--url", &server.websocket(), "--pid", &server.pid()]].concat());
        assert_eq!(code, Some(0), "{result:#}");
        assert_eq!(figure(&result, "connections"), 50.0);
        assert_eq!((figure(&result, "failed"), figure(&result, "lost")), (0.0, 0.0));
        assert!(
            figure(&result, "server_rss_after_bytes") >= figure(&result, "rss_per_connection_bytes") * 50.0
        );
        assert!(figure(&result, "server_cpu_per_connect_us") > 0.0);
        assert!(figure(&result, "hold_s") >= 0.3);
    }
}

#[test]
fn clients_are_taken_in_as_fast_as_they_come_and_counted() {
    let server = Server::start();
    let args =
        ["accept", "-n", "200", "--channel", "plain:a", "--url", &server.websocket(), "--pid", &server.pid()];
    for more in [&[][..], &["--subscribe"]] {
        let (code, result) = run(&[&args[..], more].concat());
        assert_eq!(code, Some(0), "{result:#}");
        assert_eq!(figure(&result, "connections"), 200.0);
        assert!(figure(&result, "accepts_per_second") > 0.0, "{result:#}");
        assert!(figure(&result, "server_cpu_per_accept_us") > 0.0, "{result:#}");
        assert_eq!(result["figures"]["wait"]["count"], 200);
    }
}

#[test]
fn a_refusal_of_the_server_is_told_and_is_no_success() {
    let server = Server::start();
    let output =
        tool(&["idle", "-n", "3", "--channel", "unknown:x", "--url", &server.websocket()]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(written(&output).contains("error 102"), "{}", written(&output));
    let output = tool(&["idle", "-n", "3", "--channel", "plain:x", "--url", &server.websocket()])
        .env("LOAD_TOKEN_HMAC_SECRET", "another secret")
        .output()
        .unwrap();
    assert!(written(&output).contains("3500 (invalid token)"), "{}", written(&output));
}

#[test]
fn a_target_elsewhere_or_nobody_there_is_an_error_that_says_so() {
    let told = |url: &str| {
        let output = tool(&["idle", "-n", "2", "--connect-timeout", "2s", "--url", url]).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        written(&output)
    };
    assert!(told("ws://192.0.2.1:8000/").contains("--allow-remote"));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(told(&server::websocket(free)).contains("no client could connect: Connection refused"));
}

#[test]
fn inv_d3_a_fan_out_delivers_everything_to_everybody() {
    let server = Server::start();
    let (url, api, pid) = (server.websocket(), server.api(), server.pid());
    let ways = [("plain:a", "json", "api"), ("log:a", "protobuf", "api"), ("log:b", "json", "client")];
    for (channel, protocol, via) in ways {
        let (code, result) = run(&[
            "fanout",
            "-n",
            "50",
            "--url",
            &url,
            "--api-url",
            &api,
            "--pid",
            &pid,
            "--channel",
            channel,
            "--protocol",
            protocol,
            "--via",
            via,
            "--publish-rate",
            "400",
            "--burst",
            "20",
            "--duration",
            "500ms",
        ]);
        assert_eq!(code, Some(0), "{result:#}");
        assert_eq!(figure(&result, "publications"), 200.0);
        assert_eq!((figure(&result, "deliveries"), figure(&result, "missing")), (10_000.0, 0.0));
        assert_eq!(result["figures"]["latency"]["count"], 10_000);
        assert_eq!(result["checker"]["deliveries"], 10_000);
        assert_eq!(result["checker"]["clean"], true);
        assert!(figure(&result, "deliveries_per_cpu_second") > 0.0);
    }
}

#[test]
fn a_flood_to_many_channels_reaches_each_channels_own_subscribers() {
    let server = Server::start();
    let (code, result) = run(&[
        "fanout",
        "-n",
        "20",
        "--url",
        &server.websocket(),
        "--api-url",
        &server.api(),
        "--channel",
        "log:{n}",
        "--channels",
        "5",
        "--flood",
        "--publishers",
        "3",
        "--duration",
        "400ms",
        "--floor",
    ]);
    assert_eq!(code, Some(0), "{result:#}");
    let publications = figure(&result, "publications");
    assert!(publications >= 3.0);
    assert_eq!(figure(&result, "deliveries"), publications * 4.0, "{result:#}");
    assert!(figure(&result, "floor_per_cpu_second") > 0.0);
    assert!(figure(&result, "floor_gathered_per_cpu_second") > figure(&result, "floor_per_cpu_second"));
}

#[test]
fn latency_counts_from_the_schedule_and_leaves_the_warm_up_out() {
    let server = Server::start();
    let (code, result) = run(&[
        "latency",
        "-n",
        "5",
        "--url",
        &server.websocket(),
        "--api-url",
        &server.api(),
        "--channel",
        "plain:l",
        "--publish-rate",
        "100",
        "--duration",
        "1s",
        "--warm-up",
        "500ms",
    ]);
    assert_eq!(code, Some(0), "{result:#}");
    assert_eq!(figure(&result, "publications"), 150.0);
    assert_eq!(result["figures"]["latency"]["count"], 500);
    let latency = &result["figures"]["latency"];
    assert!(
        latency["p50_us"].as_f64() > Some(0.0) && latency["p50_us"].as_f64() <= latency["max_us"].as_f64()
    );
}

#[test]
fn the_api_alone_is_measured_and_a_wrong_key_is_told() {
    let server = Server::start();
    let (api, pid) = (server.api(), server.pid());
    let args = ["publish", "--api-url", &api, "--pid", &pid, "--channel", "log:p", "--publishers", "4"];
    let (code, result) = run(&[&args[..], &["--publish-rate", "200", "--duration", "500ms"]].concat());
    assert_eq!(code, Some(0), "{result:#}");
    assert_eq!(figure(&result, "publications"), 100.0);
    assert!(figure(&result, "server_cpu_per_request_us") > 0.0);
    let (code, result) = run(&[&args[..], &["--duration", "100ms", "--api-key", "wrong"]].concat());
    assert_eq!(code, Some(2));
    assert!(result["shortfalls"][0].as_str().unwrap().contains("status 401"), "{result:#}");
}

#[test]
fn inv_d1_recovery_loses_nothing_while_connections_break() {
    let server = Server::start();
    for protocol in ["json", "protobuf"] {
        let channel = format!("log:{protocol}:{{n}}");
        assert_recovered(&run(&[
            "recovery",
            "-n",
            "20",
            "--url",
            &server.websocket(),
            "--api-url",
            &server.api(),
            "--channel",
            &channel,
            "--channels",
            "2",
            "--protocol",
            protocol,
            "--publish-rate",
            "100",
            "--duration",
            "2s",
            "--cut-every",
            "300ms",
            "--reconnect-within",
            "50ms",
        ]));
    }
}

#[test]
fn recovery_asks_for_a_channel_that_can_recover() {
    let server = Server::start();
    let args = ["recovery", "-n", "2", "--channel", "plain:x", "--url", &server.websocket()];
    let output = tool(&[&args[..], &["--api-url", &server.api()]].concat()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(written(&output).contains("needs history"), "{}", written(&output));
}

#[test]
fn a_restarted_server_gets_all_its_clients_back() {
    let server = Server::start();
    let args =
        ["restart", "-n", "30", "--channel", "log:r", "--reconnect-min", "50ms", "--reconnect-max", "500ms"];
    let mut command = tool(&[&args[..], &["--json", "--url", &server.websocket()]].concat());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("restart the server now"), "{line}");
    let server = server.restart();
    let output = child.wait_with_output().unwrap();
    drop(server);
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(figure(&result, "losses"), 30.0, "{result:#}");
    assert_eq!(result["figures"]["away"]["count"], 30);
    assert!(figure(&result, "last_back_s") > 0.0);
    // In memory the stream begins anew, and every client is told.
    assert_eq!(figure(&result, "recovered") + figure(&result, "not_recovered"), 30.0);
    assert_eq!(result["checker"]["clean"], true, "{result:#}");
}

/// Runs a fan-out through a proxy that tells a lie; returns the exit code and the result.
async fn through(server: &Server, lie: Lie, channel: &'static str) -> (Option<i32>, Value) {
    let url = server::websocket(liar::start(server.address, lie).await);
    let api = server.api();
    let run = move || {
        run(&[
            "fanout",
            "-n",
            "2",
            "--url",
            &url,
            "--api-url",
            &api,
            "--channel",
            channel,
            "--publish-rate",
            "50",
            "--duration",
            "200ms",
        ])
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

#[tokio::test]
async fn inv_d1_a_lie_about_one_publication_is_found_and_named() {
    let server = Server::start();
    let (code, result) = through(&server, Lie::None, "log:honest").await;
    assert_eq!((code, &result["checker"]["clean"]), (Some(0), &Value::Bool(true)), "{result:#}");
    let lies = [
        (Lie::Drop, "log:drop", "lost", 2),
        (Lie::Double, "log:double", "duplicated", 2),
        (Lie::Swap, "log:swap", "reordered", 2),
        (Lie::Alter, "log:alter", "corrupted", 2),
    ];
    for (lie, channel, kind, count) in lies {
        let (code, result) = through(&server, lie, channel).await;
        assert_eq!(code, Some(1), "{lie:?}: {result:#}");
        assert_eq!(result["checker"]["counts"][kind], count, "{lie:?}: {result:#}");
        let violation = result["checker"]["violations"][0].as_str().unwrap();
        assert!(violation.contains(channel) && violation.contains("offset 3"), "{violation}");
    }
}

#[tokio::test]
async fn inv_d3_without_positions_a_doubled_publication_is_still_found() {
    let server = Server::start();
    let (code, result) = through(&server, Lie::Double, "plain:double").await;
    assert_eq!((code, &result["checker"]["counts"]["duplicated"]), (Some(1), &Value::from(2)), "{result:#}");
    // What is missing there is nobody's fault, but it is counted.
    let (code, result) = through(&server, Lie::Drop, "plain:drop").await;
    assert_eq!((code, figure(&result, "missing")), (Some(0), 2.0), "{result:#}");
}

#[test]
fn the_floor_of_the_machine_is_measured() {
    let (code, result) =
        run(&["floor", "--sockets", "20", "--bytes", "100", "--gather", "8", "--pace", "500"]);
    assert_eq!(code, Some(0), "{result:#}");
    assert!(figure(&result, "floor_gathered_per_cpu_second") > figure(&result, "floor_per_cpu_second"));
    assert!(figure(&result, "floor_paced_per_cpu_second") > 0.0);
    // Five seconds at that pace, but no more than a bound; each frame to each socket was read and timed.
    assert_eq!(result["figures"]["floor_latency"]["count"], 20 * 2_500);
    assert!(result["machine"]["cores"].as_u64() > Some(0));
}

#[test]
fn pings_are_compared_with_those_of_a_bare_loop() {
    let (code, result) = run(&["floor", "--sockets", "60", "--pings"]);
    assert_eq!(code, Some(0), "{result:#}");
    assert!(figure(&result, "floor_cpu_per_ping_us") > 0.0);
    let mut config = server::config(0);
    config["client"]["ping_interval"] = "1s".into();
    config["client"]["pong_timeout"] = "900ms".into();
    let server = Server::with(config, tempfile::tempdir().unwrap());
    let args = ["idle", "-n", "50", "--channel", "plain:idle", "--settle", "1s", "--hold", "1s", "--floor"];
    let (code, result) = run(&[&args[..], &["--url", &server.websocket(), "--pid", &server.pid()]].concat());
    assert_eq!(code, Some(0), "{result:#}");
    // Within any second each connection is pinged, but for those whose moment is at its end.
    assert!((40.0..=100.0).contains(&figure(&result, "pings")), "{result:#}");
    for name in ["server_cpu_per_ping_us", "settling_cpu_per_connection_second_us", "cpu_over_floor"] {
        assert!(figure(&result, name) > 0.0, "{name}: {result:#}");
    }
}

#[test]
fn inv_d6_compressed_deliveries_are_inflated_and_checked() {
    let mut config = server::config(0);
    config["websocket"]["compression"] = true.into();
    let server = Server::with(config, tempfile::tempdir().unwrap());
    let args = ["fanout", "-n", "20", "--channel", "plain:z", "--publish-rate", "20", "--duration", "500ms"];
    let more = ["--payload", "2048", "--filler", "records"];
    let urls = ["--url", &server.websocket(), "--api-url", &server.api()];
    let mut sizes = Vec::new();
    for protocol in ["json", "protobuf"] {
        for compression in [&[][..], &["--compression"]] {
            let (code, result) =
                run(&[&args[..], &more, &urls, &["--protocol", protocol], compression].concat());
            assert_eq!((code, figure(&result, "missing")), (Some(0), 0.0), "{result:#}");
            sizes.push(figure(&result, "wire_bytes_per_delivery"));
        }
    }
    assert!(sizes[1] < sizes[0] * 0.7 && sizes[3] < sizes[2] * 0.7, "{sizes:?}");
}

#[test]
fn a_server_that_does_not_compress_is_refused_by_who_wants_that() {
    let server = Server::start();
    let args = ["idle", "-n", "2", "--channel", "plain:z", "--compression", "--url", &server.websocket()];
    let output = tool(&args).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(written(&output).contains("sec-websocket-extensions"), "{}", written(&output));
}

#[test]
fn lateness_is_compared_with_that_of_a_bare_loop() {
    let server = Server::start();
    let args = ["latency", "-n", "20", "--channel", "plain:l", "--publish-rate", "50", "--duration", "1s"];
    let more = ["--warm-up", "100ms", "--floor", "--url", &server.websocket(), "--api-url", &server.api()];
    let (code, result) = run(&[&args[..], &more].concat());
    assert_eq!(code, Some(0), "{result:#}");
    assert!(figure(&result, "p99_over_floor") > 0.0, "{result:#}");
    assert_eq!(result["figures"]["floor_latency"]["count"], 20 * 250);
}

#[test]
fn a_rate_that_cannot_be_kept_is_told() {
    let server = Server::start();
    let args = ["publish", "--channel", "plain:p", "--publish-rate", "1000000", "--duration", "1s"];
    let (code, result) = run(&[&args[..], &["--api-url", &server.api()]].concat());
    assert_eq!(code, Some(2), "{result:#}");
    assert!(result["shortfalls"][0].as_str().unwrap().contains("not made in time"), "{result:#}");
}

#[test]
fn a_person_gets_a_table() {
    let server = Server::start();
    let args = ["idle", "-n", "2", "--channel", "plain:t", "--hold", "10ms", "--url", &server.websocket()];
    let output = tool(&args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.starts_with("idle\n") && text.contains("clients live") && text.contains("held for"),
        "{text}"
    );
    assert!(output.stderr.is_empty(), "no bar for a script");
}

#[test]
fn clients_with_tls_are_served_too_and_a_stranger_is_not_trusted() {
    let certificate = || rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (ours, strange) = (certificate(), certificate());
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (trusted, wrong) = (path("trusted.pem"), path("wrong.pem"));
    std::fs::write(&trusted, ours.cert.pem()).unwrap();
    std::fs::write(&wrong, strange.cert.pem()).unwrap();
    let mut config = server::config(0);
    let tls = serde_json::json!({
        "enabled": true, "cert_pem": ours.cert.pem(), "key_pem": ours.signing_key.serialize_pem()
    });
    config["http_server"]["tls"] = tls;
    let server = Server::with(config, tempfile::tempdir().unwrap());
    let url = server.websocket().replace("ws://", "wss://");
    let args = ["idle", "-n", "20", "--channel", "plain:tls", "--hold", "50ms", "--url", &url];
    for more in [&["--ca", &trusted][..], &["--ca", &trusted, "--no-tls-resumption"]] {
        let (code, result) = run(&[&args[..], more].concat());
        assert_eq!((code, figure(&result, "connections")), (Some(0), 20.0), "{result:#}");
    }
    let pid = server.pid();
    let handshakes = ["handshake", "-n", "50", "--url", &url, "--pid", &pid, "--ca", &trusted];
    for (more, resumed) in [(&[][..], 50.0), (&["--no-tls-resumption"][..], 0.0)] {
        let (code, result) = run(&[&handshakes[..], more].concat());
        let figures = ["handshakes", "resumed", "failed"].map(|name| figure(&result, name));
        assert_eq!((code, figures), (Some(0), [50.0, resumed, 0.0]), "{result:#}");
        assert!(figure(&result, "server_cpu_per_handshake_us") > 0.0);
    }
    let output = tool(&[&args[..], &["--ca", &wrong]].concat()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(written(&output).contains("no client could connect"), "{}", written(&output));
    let output = tool(&args).output().unwrap();
    assert!(written(&output).contains("--ca"), "{}", written(&output));
}
