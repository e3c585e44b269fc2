//! Requests that are wrong before anybody looks at a path: on the real binary, byte by byte.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::client::Client;
use crate::support::binary::Server;

/// A whole request of its own: what an attacker would like to see carried out behind the back of a server in front.
const SMUGGLED: &str = "POST /api/publish HTTP/1.1\r\nHost: t\r\nContent-Length: 33\r\n\r\n{\"channel\":\"smuggled\",\"data\":true}";

fn server() -> Server {
    Server::start(json!({
        "client": { "insecure": true },
        "http_api": { "insecure": true },
        "health": { "enabled": true },
        "channel": { "without_namespace": { "history_size": 10, "history_ttl": "60s" } },
    }))
}

/// Writes bytes and reads until the server closes; the statuses of all answers.
async fn statuses(address: SocketAddr, bytes: &[u8]) -> Vec<u16> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    // The server may close before everything is written.
    let _ = socket.write_all(bytes).await;
    let mut answers = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(30), socket.read_to_end(&mut answers)).await;
    assert!(read.is_ok(), "not closed after {:?}", String::from_utf8_lossy(&answers));
    let answers = String::from_utf8_lossy(&answers).into_owned();
    answers.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().unwrap()).collect()
}

#[tokio::test]
async fn bad_h1_requests_that_two_servers_could_read_differently() {
    let server = server();
    let mut bystander = Client::connected(server.external).await;
    bystander.subscribe("smuggled").await.unwrap();
    let chunked = "2\r\n{}\r\n0\r\n\r\n";
    for (headers, body) in [
        ("Content-Length: 2\r\nContent-Length: 3\r\n", "{}"),
        ("Content-Length: 2, 2\r\n", "{}"),
        ("Content-Length: 2, 3\r\n", "{}"),
        ("Content-Length: +2\r\n", "{}"),
        ("Content-Length: -2\r\n", "{}"),
        ("Content-Length: 0x2\r\n", "{}"),
        ("Content-Length: 2 2\r\n", "{}"),
        ("Content-Length: 2.0\r\n", "{}"),
        ("Content-Length: \u{666}\r\n", "{}"),
        ("Content-Length:\r\n", "{}"),
        ("Content-Length: 99999999999999999999\r\n", "{}"),
        ("Content-Length : 2\r\n", "{}"),
        ("Content-Length\t: 2\r\n", "{}"),
        ("Transfer-Encoding: chunked, identity\r\n", chunked),
        ("Transfer-Encoding: identity\r\n", chunked),
        ("Transfer-Encoding: xchunked\r\n", chunked),
        ("Transfer-Encoding: gzip, chunked\r\n", chunked),
        ("Transfer-Encoding: chunked, chunked\r\n", chunked),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", chunked),
        ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", chunked),
        ("Transfer-Encoding : chunked\r\n", chunked),
        ("Transfer-Encoding: \u{b}chunked\r\n", chunked),
        ("Transfer-Encoding: \"chunked\"\r\n", chunked),
        ("X: a\r\n b\r\nContent-Length: 2\r\n", "{}"),
        ("X: a\r\n\tb\r\nContent-Length: 2\r\n", "{}"),
        (" X: a\r\nContent-Length: 2\r\n", "{}"),
        ("Xa\r\nContent-Length: 2\r\n", "{}"),
        (": a\r\nContent-Length: 2\r\n", "{}"),
        ("X: a\0b\r\nContent-Length: 2\r\n", "{}"),
        ("X: a\rb\r\nContent-Length: 2\r\n", "{}"),
        ("X\u{e9}: a\r\nContent-Length: 2\r\n", "{}"),
        ("Host: other\r\nContent-Length: 2\r\n", "{}"),
        ("Transfer-Encoding: chunked\r\n", "2;a\nb\r\n{}\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "FFFFFFFFFFFFFFFFF\r\n{}\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "-2\r\n{}\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "0x2\r\n{}\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", " 2\r\n{}\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "2\n{}\n0\n\n"),
        ("Transfer-Encoding: chunked\r\n", "2\r\n{}0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "2\r\n{}x\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", "\r\n{}\r\n0\r\n\r\n"),
    ] {
        let request = format!("POST /api/info HTTP/1.1\r\nHost: t\r\n{headers}\r\n{body}{SMUGGLED}");
        assert_eq!(statuses(server.external, request.as_bytes()).await, [400], "{headers:?} {body:?}");
    }
    // Both lengths: the coding counts (§6.3), and nothing after it is believed.
    for headers in [
        "Content-Length: 7\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 7\r\n",
    ] {
        let request = format!("POST /api/info HTTP/1.1\r\nHost: t\r\n{headers}\r\n{chunked}{SMUGGLED}");
        assert_eq!(statuses(server.external, request.as_bytes()).await, [200], "{headers:?}");
    }
    bystander.publish("smuggled", "1").await.unwrap();
    assert_eq!(bystander.text().await, "1", "nothing was smuggled, and nobody else has noticed");
}

#[tokio::test]
async fn bad_h1_heads_that_are_not_http() {
    let server = server();
    for head in [
        "POST /api/info HTTP/1.1\r\n\r\n",
        "POST /api/info HTTP/1.2\r\nHost: t\r\n\r\n",
        "POST /api/info HTTP/2.0\r\nHost: t\r\n\r\n",
        "POST /api/info HTTP/1.1 x\r\nHost: t\r\n\r\n",
        "POST  /api/info HTTP/1.1\r\nHost: t\r\n\r\n",
        "POST\t/api/info HTTP/1.1\r\nHost: t\r\n\r\n",
        "POST /api/info http/1.1\r\nHost: t\r\n\r\n",
        "POST /api/info\r\n\r\n",
        "P\u{e9}ST /api/info HTTP/1.1\r\nHost: t\r\n\r\n",
        "GET /\0 HTTP/1.1\r\nHost: t\r\n\r\n",
        "\u{16}\u{3}\u{1}\u{2}\r\n\r\n",
        "{\"id\":1,\"connect\":{}}\r\n\r\n",
    ] {
        assert_eq!(statuses(server.external, head.as_bytes()).await, [400], "{head:?}");
    }
    let long = format!("GET /{} HTTP/1.1\r\nHost: t\r\n\r\n", "a".repeat(1 << 16));
    assert!(matches!(statuses(server.external, long.as_bytes()).await[..], [414 | 431]));
}

#[tokio::test]
async fn bad_h3_paths() {
    let server = server();
    for (method, path) in [
        ("GET", "//health"),
        ("GET", "/./health"),
        ("GET", "/x/../health"),
        ("GET", "/%2e%2e/health"),
        ("GET", "/health/"),
        ("GET", "/health%00"),
        ("GET", "/health%2"),
        ("GET", "/health%zz"),
        ("GET", "/health;x"),
        ("GET", "/HEALTH"),
        ("GET", "health"),
        ("GET", "/"),
        ("OPTIONS", "*"),
        ("CONNECT", "t:80"),
        ("POST", "/api/%2e%2e/health"),
        ("POST", "/api/info%2f"),
        ("POST", "/api//info"),
        ("POST", "/api/info/x"),
        ("GET", "/connection"),
        ("GET", "/connection/websocket/"),
        ("GET", "/connection/uni_websocket"),
        ("GET", "/admin"),
        ("GET", "/debug/pprof/"),
        ("GET", "/metrics"),
        ("GET", "/.env"),
    ] {
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        let answered = statuses(server.external, head.as_bytes()).await;
        assert!(matches!(answered[..], [400 | 404]), "{method} {path}: {answered:?}");
    }
    // What is odd but lawful.
    for line in ["GET http://elsewhere/health", "GET /health?%zz", "HEAD /health", "GET /health#part"] {
        let head = format!("{line} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
        assert_eq!(statuses(server.external, head.as_bytes()).await, [200], "{line}");
    }
}

#[tokio::test]
async fn bad_h5_hundreds_of_slow_clients_do_not_keep_others_waiting() {
    let server = server();
    let mut slow = Vec::new();
    for n in 0..500 {
        let mut socket = TcpStream::connect(server.external).await.unwrap();
        let begun: &[u8] = match n % 4 {
            0 => b"",
            1 => b"POST /api/info HT",
            2 => b"POST /api/info HTTP/1.1\r\nHost: t\r\nX: ",
            _ => b"POST /api/info HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\n{",
        };
        socket.write_all(begun).await.unwrap();
        slow.push(socket);
    }
    let mut times = Vec::new();
    for _ in 0..20 {
        let began = tokio::time::Instant::now();
        let head = b"GET /health HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n";
        assert_eq!(statuses(server.external, head).await, [200]);
        times.push(began.elapsed());
    }
    times.sort();
    // The median: this machine may be busy with other things for a moment.
    assert!(times[10] < Duration::from_millis(100), "{times:?}");
    // Each of them is given up within its time: heads after 5 s, bodies after 10 s.
    for mut socket in slow {
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(Duration::from_secs(30), socket.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "still open");
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }
}
