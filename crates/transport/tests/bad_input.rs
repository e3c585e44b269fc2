//! Bad input over real sockets: each is answered as specified, and another connection notices nothing.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod support;

use std::time::{Duration, Instant};

use tidewire_transport::ws::{Opcode, client_frame};
use tidewire_transport::{HttpOptions, OriginPolicy, ReactorOptions, WebSocketOptions};
use tokio::net::TcpStream;

use support::{PATIENCE, Raw, Server, Setup, UPGRADE};

/// Sends `request` on a new connection and returns the answer's status and head.
async fn ask(server: &Server, request: &[u8]) -> (u16, String) {
    let mut raw = Raw::new(TcpStream::connect(server.address).await.unwrap());
    raw.send(request).await;
    let head = raw.http_head().await;
    (head[9..12].parse().unwrap(), head.to_lowercase())
}

/// The lawful upgrade with more header lines.
fn upgrade_with(lines: &str) -> Vec<u8> {
    let lawful = String::from_utf8(UPGRADE.to_vec()).unwrap();
    lawful.replace("\r\n\r\n", &format!("\r\n{lines}\r\n\r\n")).into_bytes()
}

#[tokio::test]
async fn bad_w1_to_w8_frames_are_answered_and_others_go_on() {
    let server = Server::start(Setup::default()).await;
    let mut other = server.raw().await;
    let masked = |first: u8, payload: &[u8]| {
        let mut frame = client_frame(Opcode::Text, payload, [1, 2, 3, 4]).to_vec();
        frame[0] = first;
        frame
    };
    let cases: Vec<(Vec<u8>, u16)> = vec![
        (vec![0x81, 2, b'h', b'i'], 1002),
        (masked(0xc1, b"rsv1 without an extension"), 1002),
        (masked(0x91, b"rsv3"), 1002),
        (masked(0x83, b"reserved opcode"), 1002),
        (masked(0x8f, b""), 1002),
        (masked(0x89, &[0; 126]), 1002),
        (masked(0x09, b"fragmented ping"), 1002),
        (masked(0x80, b"nothing to continue"), 1002),
        ([masked(0x01, b"one"), masked(0x81, b"another")].concat(), 1002),
        (vec![0x82, 0xfe, 0, 5, 1, 2, 3, 4], 1002),
        (vec![0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], 1002),
        (vec![0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4], 1009),
        (masked(0x82, &vec![0; 65_537]), 1009),
        (masked(0x81, b"\xed\xa0\x80"), 1007),
        (masked(0x88, b"\x03"), 1002),
        (masked(0x88, b"\x03\xed"), 1002),
        (masked(0x88, b"\x03\xe8\xff"), 1007),
        (masked(0x00, b"").repeat(100_000), 1002),
        ([masked(0x01, b""), masked(0x00, b"").repeat(100_000)].concat(), 1008),
        (masked(0x01, b"").into_iter().chain(masked(0x00, b"x").repeat(65_536)).collect(), 1008),
        (masked(0x89, b"flood").repeat(10_000), 1008),
        (masked(0x8a, b"flood").repeat(10_000), 1008),
    ];
    for (stream, code) in cases {
        let mut raw = server.raw().await;
        let started = Instant::now();
        raw.send(&stream).await;
        raw.closed_with(code).await;
        drop(raw);
        server.connections_become(1).await;
        assert!(started.elapsed() < Duration::from_secs(2), "closed after {:?}", started.elapsed());
        other.text("unharmed").await;
        assert_eq!(other.next_text().await, "unharmed");
    }
}

#[tokio::test]
async fn bad_w8_data_after_close_and_a_second_close() {
    let server = Server::start(Setup::default()).await;
    let close = client_frame(Opcode::Close, &1000_u16.to_be_bytes(), [1; 4]);
    for after in [client_frame(Opcode::Text, b"too late", [1; 4]), close.clone()] {
        let mut raw = server.raw().await;
        raw.send(&[&close[..], &after].concat()).await;
        raw.closed_with(1000).await;
        server.connections_become(0).await;
    }
    // A peer that sends a close frame and keeps its end open.
    let mut raw = server.raw().await;
    raw.send(&client_frame(Opcode::Close, b"", [1; 4])).await;
    let started = Instant::now();
    server.connections_become(0).await;
    assert!(started.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn bad_w12_pings_while_the_peer_reads_nothing() {
    let server = Server::start(Setup::default()).await;
    let mut raw = server.raw().await;
    raw.text("flood 3000 10000").await;
    raw.send(&client_frame(Opcode::Ping, &[1; 125], [1; 4]).repeat(31)).await;
    raw.closed_with(1008).await;
    server.connections_become(0).await;
}

// === before the upgrade ===

#[tokio::test]
async fn bad_w9_requests_over_a_socket() {
    let server = Server::start(Setup::default()).await;
    let lawful = String::from_utf8(UPGRADE.to_vec()).unwrap();
    for (from, to, status) in [
        ("GET ", "POST ", 405),
        ("HTTP/1.1", "HTTP/1.0", 400),
        ("Host: localhost\r\n", "", 400),
        ("Host: localhost", "Host: localhost\r\nHost: other", 400),
        ("Upgrade: websocket\r\n", "", 400),
        ("Connection: Upgrade\r\n", "", 400),
        ("Version: 13", "Version: 8", 426),
        ("Sec-WebSocket-Version: 13\r\n", "", 426),
        ("ZQ==", "", 400),
        ("GET /connection", "GARBAGE\0 /connection", 400),
        ("Host: localhost", "Host : localhost", 400),
    ] {
        let request = lawful.replace(from, to);
        let (answered, head) = ask(&server, request.as_bytes()).await;
        assert_eq!(answered, status, "{from} -> {to}: {head}");
        assert_eq!(head.contains("sec-websocket-version: 13"), status == 426);
    }
    assert_eq!(server.reactors.connections(), 0, "a refused request holds no place");
}

#[tokio::test]
async fn bad_w10_heads_that_are_too_large() {
    let server = Server::start(Setup::default()).await;
    let numbered = |count: usize, value: &str| -> String {
        (0..count).map(|n| format!("X-{n}: {value}")).collect::<Vec<_>>().join("\r\n")
    };
    let long = |name: &str, size: usize| format!("{name}: {}", "x".repeat(size));
    for lines in [
        long("X-Long", 1 << 20),
        long("X-Long", 16 << 10),
        long("Cookie", 64 << 10),
        long("Origin", 20 << 10),
        long("Sec-WebSocket-Protocol", 20 << 10),
        long("Sec-WebSocket-Extensions", 20 << 10),
        format!("Sec-WebSocket-Protocol: {}", " ".repeat(100_000)),
        format!("Sec-WebSocket-Protocol: {}", "x,".repeat(50_000)),
        format!("{}: y", "X".repeat(20 << 10)),
        numbered(10_000, "y"),
        numbered(101, "y"),
        numbered(90, &"y".repeat(200)),
        numbered(100_000, ""),
    ] {
        let mut raw = Raw::new(TcpStream::connect(server.address).await.unwrap());
        // The server may close before it has read everything.
        let _ = tokio::io::AsyncWriteExt::write_all(&mut raw.socket, &upgrade_with(&lines)).await;
        let head = raw.http_head().await;
        assert!(head.starts_with("HTTP/1.1 431 "), "{}: {head}", &lines[..40]);
    }
    let mut raw = Raw::new(TcpStream::connect(server.address).await.unwrap());
    let line = format!("GET /connection/websocket?{} HTTP/1.1\r\nHost: x\r\n\r\n", "q".repeat(64 << 10));
    let _ = tokio::io::AsyncWriteExt::write_all(&mut raw.socket, line.as_bytes()).await;
    let head = raw.http_head().await;
    assert!(head.starts_with("HTTP/1.1 414 ") || head.starts_with("HTTP/1.1 431 "), "{head}");
}

#[tokio::test]
async fn bad_w10_offers_that_nobody_can_mean() {
    let server = Server::start(Setup::default()).await;
    let subprotocols = format!("Sec-WebSocket-Protocol: {}centrifuge-json", "x, ".repeat(1000));
    let (status, head) = ask(&server, &upgrade_with(&subprotocols)).await;
    assert_eq!(status, 101);
    assert!(head.contains("sec-websocket-protocol: centrifuge-json\r\n"));
    for offer in [
        "permessage-deflate; server_max_window_bits=99999999999, x; y=\"z\"",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=",
        "permessage-deflate; client_max_window_bits=-1",
        "permessage-deflate; client_max_window_bits=\"abc\"",
        "permessage-deflate; nobody_knows=1",
        "permessage-deflate; client_max_window_bits; client_max_window_bits",
        "permessage-deflate=1",
        "permessage-deflate;",
        ";;;,,,===",
        "\"",
        "x-webkit-deflate-frame",
        "permessage-bzip2; level=9",
        "mux; quota=99999999999999999999",
    ] {
        let (status, head) = ask(&server, &upgrade_with(&format!("Sec-WebSocket-Extensions: {offer}"))).await;
        assert_eq!(status, 101, "{offer}");
        assert!(!head.contains("sec-websocket-extensions"), "{offer}: {head}");
    }
    let many = format!("Sec-WebSocket-Extensions: {}", "permessage-deflate; x=1, ".repeat(500));
    assert_eq!(ask(&server, &upgrade_with(&many)).await.0, 101);
}

#[tokio::test]
async fn bad_o1_origins_over_a_socket() {
    let server = Server::start(Setup::default()).await;
    for (lines, status) in [
        ("Origin: https://good.com", 101),
        ("Origin: HTTPS://Good.Com", 101),
        ("X-None: x", 101),
        ("Origin: https://evil.com", 403),
        ("Origin: null", 403),
        ("Origin: http://localhost", 403),
        ("Origin: https://good.com\r\nOrigin: https://good.com", 403),
    ] {
        assert_eq!(ask(&server, &upgrade_with(lines)).await.0, status, "{lines}");
    }
}

#[tokio::test]
async fn over_the_connection_limit_is_503_until_one_leaves() {
    let web_socket = WebSocketOptions { connection_limit: Some(2), ..WebSocketOptions::default() };
    let server = Server::start(Setup { web_socket, ..Setup::default() }).await;
    let mut first = server.raw().await;
    let second = server.raw().await;
    let (status, head) = ask(&server, UPGRADE).await;
    assert_eq!(status, 503);
    assert!(head.contains("retry-after: "), "{head}");
    drop(second);
    server.connections_become(1).await;
    server.raw().await;
    first.text("served").await;
    assert_eq!(first.next_text().await, "served");
}

#[tokio::test]
async fn over_the_limit_of_an_address_is_429_until_one_leaves() {
    let web_socket = WebSocketOptions { ip_connection_limit: Some(2), ..WebSocketOptions::default() };
    let server = Server::start(Setup { web_socket, ..Setup::default() }).await;
    let mut first = server.raw().await;
    let second = server.raw().await;
    let (status, head) = ask(&server, UPGRADE).await;
    assert_eq!(status, 429);
    assert!(head.contains("retry-after: "), "{head}");
    drop(second);
    server.connections_become(1).await;
    let _third = server.raw().await;
    assert_eq!(ask(&server, UPGRADE).await.0, 429);
    first.text("served").await;
    assert_eq!(first.next_text().await, "served");
}

#[tokio::test]
async fn over_the_connection_rate_limit_is_503() {
    let web_socket = WebSocketOptions { connection_rate_limit: Some(3), ..WebSocketOptions::default() };
    let server = Server::start(Setup { web_socket, ..Setup::default() }).await;
    let started = Instant::now();
    let mut statuses = Vec::new();
    for _ in 0..10 {
        statuses.push(ask(&server, UPGRADE).await.0);
    }
    let let_in = statuses.iter().filter(|status| **status == 101).count();
    let refilled = started.elapsed().as_secs_f64() * 3.0;
    assert!(let_in >= 3 && (let_in as f64) <= 3.0 + refilled, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 101 | 503)), "{statuses:?}");
}

// === slow ===

#[tokio::test]
async fn bad_h5_heads_that_do_not_come_are_given_up() {
    let http = HttpOptions { head_timeout: Duration::from_millis(300), ..HttpOptions::default() };
    let server = Server::start(Setup { http, ..Setup::default() }).await;
    let started = Instant::now();
    let mut silent = Raw::new(TcpStream::connect(server.address).await.unwrap());
    let mut begun = Raw::new(TcpStream::connect(server.address).await.unwrap());
    begun.send(b"GET / HTTP/1.1\r\nHost: lo").await;
    let mut dripping = TcpStream::connect(server.address).await.unwrap();
    let drips = tokio::spawn(async move {
        // One byte at a time must not win more time.
        let head = b"GET / HTTP/1.1\r\nX-Endless: ".iter().chain(std::iter::repeat(&b'x'));
        for byte in head {
            if tokio::io::AsyncWriteExt::write_all(&mut dripping, &[*byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    // A new client is served meanwhile.
    let mut quick = server.raw().await;
    quick.text("quick").await;
    assert_eq!(quick.next_text().await, "quick");
    assert_eq!(silent.fill().await, 0);
    while begun.fill().await > 0 {}
    tokio::time::timeout(PATIENCE, drips).await.expect("the drip went on").unwrap();
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_connection_may_be_idle_between_requests_but_not_slow_in_the_next() {
    let http = HttpOptions { head_timeout: Duration::from_millis(100), ..HttpOptions::default() };
    let server = Server::start(Setup { http, ..Setup::default() }).await;
    let mut raw = Raw::new(TcpStream::connect(server.address).await.unwrap());
    let post = b"POST /plain HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
    for _ in 0..2 {
        raw.send(post).await;
        // The body of the answer before it is still in front.
        assert!(raw.http_head().await.contains("HTTP/1.1 200"));
        // Longer than a head may take.
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    raw.send(&post[..20]).await;
    let started = Instant::now();
    while raw.fill().await > 0 {}
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn tls_handshakes_that_do_not_come_are_given_up() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let tls = tidewire_transport::serve::tls::server_config(certificate.as_bytes(), key.as_bytes()).unwrap();
    let http = HttpOptions { tls_timeout: Duration::from_millis(200), ..HttpOptions::default() };
    let server = Server::start(Setup { http, tls: Some(tls.into()), ..Setup::default() }).await;
    let mut silent = Raw::new(TcpStream::connect(server.address).await.unwrap());
    let mut plain = Raw::new(TcpStream::connect(server.address).await.unwrap());
    plain.send(UPGRADE).await;
    let started = Instant::now();
    assert_eq!(silent.fill().await, 0);
    assert!(started.elapsed() >= Duration::from_millis(100));
    // Not TLS at all: an alert, then the end.
    while plain.fill().await > 0 {}
}

#[test]
fn certificates_that_cannot_be_used_say_why() {
    use tidewire_transport::serve::tls::{TlsError, server_config};
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let foreign = other.signing_key.serialize_pem();
    assert!(matches!(server_config(b"", key.as_bytes()), Err(TlsError::Certificate(_))));
    assert!(matches!(server_config(key.as_bytes(), key.as_bytes()), Err(TlsError::Certificate(_))));
    assert!(matches!(server_config(certificate.as_bytes(), b""), Err(TlsError::Key(_))));
    assert!(matches!(server_config(certificate.as_bytes(), certificate.as_bytes()), Err(TlsError::Key(_))));
    assert!(matches!(server_config(certificate.as_bytes(), foreign.as_bytes()), Err(TlsError::Mismatch)));
}

#[tokio::test]
async fn limits_are_those_configured() {
    let mut reactor = ReactorOptions { threads: 1, ..ReactorOptions::default() };
    reactor.limits.message_bytes_max = 10;
    let web_socket = WebSocketOptions { origins: OriginPolicy::default(), ..WebSocketOptions::default() };
    let server = Server::start(Setup { reactor, web_socket, ..Setup::default() }).await;
    let mut raw = server.raw().await;
    raw.text("ten bytes!").await;
    assert_eq!(raw.next_text().await, "ten bytes!");
    raw.text("ten bytes!!").await;
    raw.closed_with(1009).await;
}
