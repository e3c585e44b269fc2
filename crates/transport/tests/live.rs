//! Real sockets: lawful clients, ours and tungstenite's.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tidewire_transport::ws::{Event, FrameHeader, Opcode, apply_mask, client_frame};
use tidewire_transport::{ReactorOptions, WebSocketEndpoint, WebSocketOptions, serve};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use support::{PATIENCE, Raw, Server, Setup, UPGRADE, eventually, router, start_reactors};

async fn connect<S: AsyncRead + AsyncWrite + Unpin>(socket: S) -> WebSocketStream<S> {
    let (client, _) = client_async("ws://localhost/connection/websocket", socket).await.unwrap();
    client
}

async fn next<S: AsyncRead + AsyncWrite + Unpin>(client: &mut WebSocketStream<S>) -> Message {
    tokio::time::timeout(PATIENCE, client.next()).await.expect("silence").expect("the end").unwrap()
}

/// Everything a client may send comes back, and the connection closes cleanly.
async fn converse<S: AsyncRead + AsyncWrite + Unpin>(socket: S) {
    let mut client = connect(socket).await;
    for message in [
        Message::text("hello"),
        Message::text(""),
        Message::binary(vec![0xff, 0, 0xfe]),
        Message::binary(Vec::new()),
        Message::text("\u{1f30a}".repeat(16_384)),
        Message::binary(vec![1; 65_536]),
        Message::text("x".repeat(125)),
        Message::text("x".repeat(126)),
    ] {
        client.send(message.clone()).await.unwrap();
        assert_eq!(next(&mut client).await, message);
    }
    client.send(Message::Ping("are you there".into())).await.unwrap();
    assert_eq!(next(&mut client).await, Message::Pong("are you there".into()));
    let farewell = CloseFrame { code: CloseCode::Library(4321), reason: "done here".into() };
    client.close(Some(farewell.clone())).await.unwrap();
    assert_eq!(next(&mut client).await, Message::Close(Some(farewell)));
    assert!(client.next().await.is_none());
}

#[tokio::test]
async fn messages_of_every_kind_come_back() {
    let server = Server::start(Setup::default()).await;
    converse(TcpStream::connect(server.address).await.unwrap()).await;
    server.connections_become(0).await;
    assert_eq!(server.controls.gone.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_same_behind_axum_serve() {
    let (reactors, _) = start_reactors(ReactorOptions { threads: 2, ..ReactorOptions::default() });
    let app = router(WebSocketEndpoint::new(reactors.clone(), WebSocketOptions::default()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    for _ in 0..4 {
        converse(TcpStream::connect(address).await.unwrap()).await;
    }
    eventually(|| reactors.connections() == 0).await;
}

#[tokio::test]
async fn the_same_over_a_stream_of_an_unknown_type() {
    let (reactors, _) = start_reactors(ReactorOptions::default());
    let app = router(WebSocketEndpoint::new(reactors.clone(), WebSocketOptions::default()));
    let directory = std::env::temp_dir().join(format!("tidewire-transport-{}", std::process::id()));
    let listener = UnixListener::bind(&directory).unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    converse(UnixStream::connect(&directory).await.unwrap()).await;
    std::fs::remove_file(&directory).unwrap();
    eventually(|| reactors.connections() == 0).await;
}

// === TLS ===

fn certificate() -> (Arc<rustls::ServerConfig>, tokio_rustls::TlsConnector) {
    certificate_and_client_of(&[])
}

fn certificate_and_client_of(alpn: &[&str]) -> (Arc<rustls::ServerConfig>, tokio_rustls::TlsConnector) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let server = serve::tls::server_config(certificate.as_bytes(), key.as_bytes()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    (server, Arc::new(client).into())
}

async fn tls_connect(
    server: &Server,
    connector: &tokio_rustls::TlsConnector,
) -> tokio_rustls::client::TlsStream<TcpStream> {
    let socket = TcpStream::connect(server.address).await.unwrap();
    connector.connect(ServerName::try_from("localhost").unwrap(), socket).await.unwrap()
}

#[tokio::test]
async fn the_same_under_tls() {
    let (tls, connector) = certificate();
    let server = Server::start(Setup { tls: Some(tls.into()), ..Setup::default() }).await;
    converse(tls_connect(&server, &connector).await).await;
    server.connections_become(0).await;
}

#[tokio::test]
async fn tls_ends_with_its_own_farewell() {
    let (tls, connector) = certificate();
    let server = Server::start(Setup { tls: Some(tls.into()), ..Setup::default() }).await;
    let mut raw = Raw::new(tls_connect(&server, &connector).await);
    raw.send(UPGRADE).await;
    raw.http_head().await;
    raw.text("close 3501 bad request").await;
    assert!(matches!(raw.next().await, Some(Event::Close(Some(reason))) if reason.code == 3501));
    raw.send(&client_frame(Opcode::Close, &3501_u16.to_be_bytes(), [0; 4])).await;
    let mut rest = Vec::new();
    // rustls reports a missing close_notify as an error.
    tokio::io::AsyncReadExt::read_to_end(&mut raw.socket, &mut rest).await.unwrap();
    assert_eq!(rest, b"");
    server.connections_become(0).await;
}

#[tokio::test]
async fn a_backlog_under_tls_arrives_whole_and_in_order() {
    let (tls, connector) = certificate();
    let server = Server::start(Setup { tls: Some(tls.into()), ..Setup::default() }).await;
    let mut raw = Raw::new(tls_connect(&server, &connector).await);
    raw.send(UPGRADE).await;
    raw.http_head().await;
    raw.text("flood 200 50000").await;
    raw.text("behind it").await;
    for _ in 0..200 {
        assert!(matches!(raw.next().await, Some(Event::Message { payload, .. }) if payload.len() == 50_000));
    }
    assert_eq!(raw.next_text().await, "behind it");
}

#[tokio::test]
async fn requests_come_over_http2_where_tls_agrees_on_it() {
    let (tls, connector) = certificate_and_client_of(&["h2", "http/1.1"]);
    let server = Server::start(Setup { tls: Some(tls.into()), ..Setup::default() }).await;
    let stream = TokioIo::new(tls_connect(&server, &connector).await);
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let request = |path: &str| http::Request::post(format!("https://localhost{path}")).body("abc".to_owned());
    let response = client.send_request(request("/plain").unwrap()).await.unwrap();
    assert_eq!((response.version(), response.status().as_u16()), (http::Version::HTTP_2, 200));
    let mut get = request("/connection/websocket").unwrap();
    *get.method_mut() = http::Method::GET;
    // WebSocket over HTTP/2 (RFC 8441) is not offered.
    assert_eq!(client.send_request(get).await.unwrap().status(), 400);
}

// === shapes of input ===

#[tokio::test]
async fn fragments_and_a_ping_between_them() {
    let server = Server::start(Setup::default()).await;
    let mut raw = server.raw().await;
    for (fin, opcode, payload) in [
        (false, Opcode::Text, &b"one "[..]),
        (true, Opcode::Ping, b"!"),
        (false, Opcode::Continuation, b"two "),
        (true, Opcode::Continuation, b"three"),
    ] {
        let mut frame = Vec::new();
        let mask = [9, 8, 7, 6];
        FrameHeader { fin, compressed: false, opcode, length: payload.len() as u64, mask: Some(mask) }
            .write(&mut frame);
        let mut payload = payload.to_vec();
        apply_mask(&mut payload, mask, 0);
        frame.extend(payload);
        raw.send(&frame).await;
    }
    assert_eq!(raw.next().await, Some(Event::Pong("!".into())));
    assert_eq!(raw.next_text().await, "one two three");
}

#[tokio::test]
async fn a_client_that_sends_one_byte_at_a_time_is_served() {
    let server = Server::start(Setup::default()).await;
    let mut raw = server.raw().await;
    for byte in client_frame(Opcode::Text, "patience \u{1f422}".as_bytes(), [5, 6, 7, 8]) {
        raw.send(&[byte]).await;
        // The point of the test is that the bytes come apart.
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    assert_eq!(raw.next_text().await, "patience \u{1f422}");
}

#[tokio::test]
async fn frames_sent_with_the_request_are_not_lost() {
    let server = Server::start(Setup::default()).await;
    let mut raw = Raw::new(TcpStream::connect(server.address).await.unwrap());
    let early = client_frame(Opcode::Text, b"too early", [1; 4]);
    raw.send(&[UPGRADE, &early, &early[..7]].concat()).await;
    assert!(raw.http_head().await.starts_with("HTTP/1.1 101 "));
    assert_eq!(raw.next_text().await, "too early");
    raw.send(&early[7..]).await;
    assert_eq!(raw.next_text().await, "too early");
}

// === writing ===

#[tokio::test]
async fn many_messages_go_out_in_few_writes() {
    let server = Server::start(Setup::default()).await;
    let mut raw = server.raw().await;
    let before = server.reactors.writes();
    raw.text("flood 2000 20").await;
    for _ in 0..2000 {
        raw.next().await.unwrap();
    }
    let writes = server.reactors.writes() - before;
    assert!(writes <= 2000 / 32, "{writes} writes for 2000 frames");
}

#[tokio::test]
async fn one_message_is_one_write() {
    let server = Server::start(Setup::default()).await;
    let mut raw = server.raw().await;
    let before = server.reactors.writes();
    for _ in 0..10 {
        raw.text("hello").await;
        raw.next_text().await;
    }
    // Writes of a turn are counted at its end, by when the client may have the answer.
    eventually(|| server.reactors.writes() - before >= 10).await;
    assert_eq!(server.reactors.writes() - before, 10);
}

#[tokio::test]
async fn inv_b1_a_reader_that_stopped_is_cut_and_the_others_are_served() {
    let write_timeout = Duration::from_millis(300);
    let reactor = ReactorOptions { threads: 1, write_timeout, ..ReactorOptions::default() };
    let server = Server::start(Setup { reactor, ..Setup::default() }).await;
    let mut stuck = server.raw().await;
    let mut healthy = server.raw().await;
    stuck.text("flood 4000 10000").await;
    let started = Instant::now();
    let mut slowest = Duration::ZERO;
    while server.controls.gone.load(Ordering::SeqCst) == 0 {
        let asked = Instant::now();
        healthy.text("still there?").await;
        assert_eq!(healthy.next_text().await, "still there?");
        slowest = slowest.max(asked.elapsed());
        assert!(started.elapsed() < PATIENCE, "the stuck reader was never cut");
    }
    assert_eq!(*server.controls.closed_by_driver.lock(), [3009]);
    assert!(started.elapsed() >= write_timeout);
    assert!(started.elapsed() < write_timeout + Duration::from_secs(1), "{:?}", started.elapsed());
    assert!(slowest < Duration::from_millis(250), "{slowest:?}");
    server.connections_become(1).await;
}

#[tokio::test]
async fn a_slow_reader_that_makes_progress_is_not_cut() {
    let server = Server::start(Setup::default()).await;
    let write_timeout = ReactorOptions::default().write_timeout;
    let socket = TcpSocket::new_v4().unwrap();
    // A small window, so that what the kernels hold is little against what is sent.
    socket.set_recv_buffer_size(64 << 10).unwrap();
    let mut slow = Raw::new(socket.connect(server.address).await.unwrap());
    slow.send(UPGRADE).await;
    slow.http_head().await;
    slow.text("flood 1000 10000").await;
    slow.text("behind it").await;
    let started = Instant::now();
    // So little at first that the kernel does not tell of room within the write timeout: it must be asked.
    for read in 0..1000 {
        assert!(matches!(slow.next().await, Some(Event::Message { payload, .. }) if payload.len() == 10_000));
        if read < 33 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    assert_eq!(slow.next_text().await, "behind it");
    assert!(started.elapsed() > write_timeout * 3, "{:?}", started.elapsed());
    assert!(server.controls.closed_by_driver.lock().is_empty());
}

#[tokio::test]
async fn a_stuck_reader_that_comes_back_in_time_reads_the_close_code() {
    let write_timeout = Duration::from_millis(500);
    let reactor = ReactorOptions { threads: 1, write_timeout, ..ReactorOptions::default() };
    let server = Server::start(Setup { reactor, ..Setup::default() }).await;
    let mut stuck = server.raw().await;
    stuck.text("flood 4000 10000").await;
    eventually(|| !server.controls.closed_by_driver.lock().is_empty()).await;
    // What was on its way arrives, the frame cut by the full socket is whole, then the reason.
    stuck.closed_with(3009).await;
    server.connections_become(0).await;
}

// === a bug ===

#[tokio::test]
async fn inv_g6_a_panic_over_one_socket_ends_that_one_alone() {
    let server = Server::start(Setup::default()).await;
    let mut other = server.raw().await;
    for round in 1..=3 {
        let mut raw = server.raw().await;
        raw.text("panic").await;
        assert!(raw.next().await.is_none(), "it was answered");
        eventually(|| server.controls.gone.load(Ordering::SeqCst) == round).await;
        other.text("still there").await;
        assert_eq!(other.next_text().await, "still there");
        assert_eq!(server.controls.panics.load(Ordering::SeqCst), round);
    }
    server.connections_become(1).await;
}

#[tokio::test]
async fn inv_g6_a_reactor_that_panics_drops_its_connections_and_serves_the_next_ones() {
    let server = Server::start(Setup::default()).await;
    for round in 1..=3 {
        let (mut one, mut other) = (server.raw().await, server.raw().await);
        one.text("panic soon").await;
        assert!(one.next().await.is_none() && other.next().await.is_none(), "they were kept");
        server.connections_become(0).await;
        eventually(|| server.controls.gone.load(Ordering::SeqCst) == 2 * round).await;
        assert_eq!(server.controls.panics.load(Ordering::SeqCst), round);
    }
    let mut later = server.raw().await;
    later.text("served").await;
    assert_eq!(later.next_text().await, "served");
}

#[tokio::test]
async fn a_reactor_that_has_ended_is_given_no_socket() {
    let (reactors, _) = start_reactors(ReactorOptions::default());
    let early = reactors.seat(None).expect("a seat");
    drop(early);
    reactors.shutdown(Duration::ZERO).await;
    assert!(reactors.seat(None).is_none(), "a socket would be left with nobody");
    assert_eq!(reactors.connections(), 0);
}

// === reading stops and goes on ===

#[tokio::test]
async fn a_busy_connection_is_not_read_and_loses_nothing() {
    let server = Server::start(Setup::default()).await;
    server.controls.holding.store(true, Ordering::SeqCst);
    let mut raw = server.raw().await;
    raw.text("hold").await;
    eventually(|| server.controls.messages.load(Ordering::SeqCst) == 1).await;
    // Some of it is in the same read, some stays in the kernel, and the peer cannot send without end.
    let (mut reading, mut writing) = tokio::io::split(raw.socket);
    let frame = client_frame(Opcode::Binary, &[3; 60_000], [1; 4]);
    let sender = tokio::spawn(async move {
        for _ in 0..200 {
            writing.write_all(&frame).await.unwrap();
        }
        writing
    });
    let mut other = server.raw().await;
    for _ in 0..20 {
        other.text("meanwhile").await;
        assert_eq!(other.next_text().await, "meanwhile");
    }
    assert_eq!(server.controls.messages.load(Ordering::SeqCst), 21, "the held connection was read");
    assert!(!sender.is_finished(), "12 MB went into a connection that is not read");
    server.controls.holding.store(false, Ordering::SeqCst);
    let mut echoed = 0;
    let mut buffer = vec![0; 1 << 16];
    while echoed < 200 * 60_004 {
        echoed += tokio::io::AsyncReadExt::read(&mut reading, &mut buffer).await.unwrap();
    }
    assert_eq!(echoed, 200 * 60_004);
    sender.await.unwrap();
}

#[tokio::test]
async fn what_came_in_one_read_with_a_busy_message_waits_in_order() {
    let server = Server::start(Setup::default()).await;
    server.controls.holding.store(true, Ordering::SeqCst);
    let mut raw = server.raw().await;
    let frames = ["before", "hold", "after", "hold", "last"]
        .map(|text| client_frame(Opcode::Text, text.as_bytes(), [1; 4]))
        .concat();
    // Half a frame is kept as well.
    raw.send(&frames[..frames.len() - 2]).await;
    assert_eq!(raw.next_text().await, "before");
    eventually(|| server.controls.messages.load(Ordering::SeqCst) == 2).await;
    raw.send(&frames[frames.len() - 2..]).await;
    server.controls.holding.store(false, Ordering::SeqCst);
    assert_eq!(raw.next_text().await, "after");
    assert_eq!(raw.next_text().await, "last");
}

// === endings ===

#[tokio::test]
async fn the_server_closes_with_code_and_reason_after_what_is_queued() {
    let server = Server::start(Setup::default()).await;
    let mut client = connect(TcpStream::connect(server.address).await.unwrap()).await;
    client.send(Message::text("last words")).await.unwrap();
    client.send(Message::text("close 3503 force disconnect")).await.unwrap();
    assert_eq!(next(&mut client).await, Message::text("last words"));
    let expected = CloseFrame { code: CloseCode::Iana(3503), reason: "force disconnect".into() };
    assert_eq!(next(&mut client).await, Message::Close(Some(expected)));
    assert!(client.next().await.is_none());
    server.connections_become(0).await;
}

#[tokio::test]
async fn a_peer_that_does_not_answer_the_close_is_dropped() {
    let close_timeout = Duration::from_millis(200);
    let reactor = ReactorOptions { threads: 1, close_timeout, ..ReactorOptions::default() };
    let server = Server::start(Setup { reactor, ..Setup::default() }).await;
    let mut raw = server.raw().await;
    raw.text("close 3005 connection expired").await;
    let started = Instant::now();
    raw.text("and more, which nobody reads").await;
    raw.closed_with(3005).await;
    server.connections_become(0).await;
    assert!(started.elapsed() >= close_timeout, "the answer was not awaited");
    assert_eq!(server.controls.messages.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_peer_that_vanishes_is_let_go_of() {
    let server = Server::start(Setup::default()).await;
    let half_frame = &client_frame(Opcode::Text, b"never finished", [1; 4])[..9];
    for reset in [false, true] {
        let mut raw = server.raw().await;
        raw.text("hello").await;
        assert_eq!(raw.next_text().await, "hello");
        raw.send(half_frame).await;
        if reset {
            socket2::SockRef::from(&raw.socket).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(raw);
        server.connections_become(0).await;
    }
    assert_eq!(server.controls.gone.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn stopping_the_listener_leaves_connections_until_the_reactors_stop() {
    let server = Server::start(Setup::default()).await;
    let mut raw = server.raw().await;
    server.stop.cancel();
    server.served.await.unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
    raw.text("still here").await;
    assert_eq!(raw.next_text().await, "still here");
    let stopping = tokio::spawn({
        let reactors = server.reactors.clone();
        async move { reactors.shutdown(PATIENCE).await }
    });
    raw.text("close 3001 shutdown").await;
    raw.closed_after_answer(3001).await;
    tokio::time::timeout(PATIENCE / 2, stopping).await.expect("nothing is left to wait for").unwrap();
    assert_eq!(server.controls.gone.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn reactors_that_are_out_of_patience_drop_what_is_left() {
    let server = Server::start(Setup::default()).await;
    let mut raw = server.raw().await;
    server.reactors.shutdown(Duration::ZERO).await;
    assert_eq!(raw.next().await, None);
    assert_eq!(server.controls.gone.load(Ordering::SeqCst), 1);
    assert_eq!(server.reactors.connections(), 0);
}

#[tokio::test]
async fn reactors_that_nobody_holds_end_with_their_connections() {
    let Server { address, reactors, served, stop, .. } = Server::start(Setup::default()).await;
    let mut raw = Raw::new(TcpStream::connect(address).await.unwrap());
    raw.send(UPGRADE).await;
    raw.http_head().await;
    stop.cancel();
    served.await.unwrap();
    drop(reactors);
    assert_eq!(raw.next().await, None);
}
