//! TLS on real sockets: certificates that change, handshakes that do not come, keys that change under a connection.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, HandshakeKind, ServerConfig};
use support::{Raw, Server, Setup, UPGRADE, eventually};
use tidewire_transport::HttpOptions;
use tidewire_transport::serve::tls::{Handshakes, ServerTls, server_config};
use tidewire_transport::ws::{Event, Opcode, client_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// A certificate for `localhost` and what goes with it.
struct Identity {
    server: Arc<ServerConfig>,
    certificate: CertificateDer<'static>,
}

impl Identity {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (pem, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let server = server_config(pem.as_bytes(), key.as_bytes()).unwrap();
        Self { server, certificate: made.cert.der().clone() }
    }
}

/// A client that trusts all of them.
fn client_of(trusted: &[&Identity], versions: &[&'static rustls::SupportedProtocolVersion]) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    for identity in trusted {
        roots.add(identity.certificate.clone()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth()).into()
}

async fn connect(server: &Server, connector: &TlsConnector) -> TlsStream<TcpStream> {
    let socket = TcpStream::connect(server.address).await.unwrap();
    connector.connect(ServerName::try_from("localhost").unwrap(), socket).await.unwrap()
}

/// A WebSocket under TLS.
async fn upgraded(server: &Server, connector: &TlsConnector) -> Raw<TlsStream<TcpStream>> {
    let mut raw = Raw::new(connect(server, connector).await);
    raw.send(UPGRADE).await;
    assert!(raw.http_head().await.starts_with("HTTP/1.1 101 "));
    raw
}

async fn echo(raw: &mut Raw<TlsStream<TcpStream>>, text: &str) {
    raw.text(text).await;
    assert_eq!(raw.next_text().await, text);
}

fn session(raw: &Raw<TlsStream<TcpStream>>) -> &rustls::ClientConnection {
    raw.socket.get_ref().1
}

#[tokio::test]
async fn certificates_change_and_open_connections_go_on() {
    let (before, after) = (Identity::new(), Identity::new());
    let tls = ServerTls::new(Arc::clone(&before.server));
    let server = Server::start(Setup { tls: Some(tls.clone()), ..Setup::default() }).await;
    let connector = client_of(&[&before, &after], rustls::ALL_VERSIONS);
    let mut old = upgraded(&server, &connector).await;
    assert_eq!(session(&old).peer_certificates().unwrap(), std::slice::from_ref(&before.certificate));
    echo(&mut old, "before").await;

    tls.replace(Arc::clone(&after.server));
    let mut new = upgraded(&server, &connector).await;
    // A ticket of the time before is not taken: it would let a client past what has changed.
    assert_eq!(session(&new).handshake_kind(), Some(HandshakeKind::Full));
    assert_eq!(session(&new).peer_certificates().unwrap(), std::slice::from_ref(&after.certificate));
    echo(&mut old, "after").await;
    echo(&mut new, "after").await;
    assert_eq!(server.reactors.connections(), 2);
}

#[tokio::test]
async fn clients_that_come_back_resume() {
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let identity = Identity::new();
        let tls = ServerTls::new(Arc::clone(&identity.server));
        let server = Server::start(Setup { tls: Some(tls.clone()), ..Setup::default() }).await;
        let connector = client_of(&[&identity], &[version]);
        for expected in [HandshakeKind::Full, HandshakeKind::Resumed, HandshakeKind::Resumed] {
            let mut raw = upgraded(&server, &connector).await;
            // Tickets come with the first answer.
            echo(&mut raw, "hello").await;
            assert_eq!(session(&raw).handshake_kind(), Some(expected), "{version:?}");
        }
        assert_eq!(tls.handshakes(), Handshakes { full: 1, resumed: 2, failed: 0 });
    }
}

#[tokio::test]
async fn keys_change_under_a_connection() {
    let identity = Identity::new();
    let server = Server::start(Setup { tls: Some(identity.server.clone().into()), ..Setup::default() }).await;
    let mut raw = upgraded(&server, &client_of(&[&identity], &[&rustls::version::TLS13])).await;
    for round in 0..20 {
        raw.socket.get_mut().1.refresh_traffic_keys().unwrap();
        echo(&mut raw, &format!("round {round}")).await;
    }
    let large = "x".repeat(40_000);
    echo(&mut raw, &large).await;
}

#[tokio::test]
async fn frames_sent_with_the_upgrade_are_not_lost_under_tls() {
    let identity = Identity::new();
    let server = Server::start(Setup { tls: Some(identity.server.clone().into()), ..Setup::default() }).await;
    let connector = client_of(&[&identity], rustls::ALL_VERSIONS);
    // In one record with the request, in records of their own, and more than fits one read of the HTTP server.
    let text = "y".repeat(30_000);
    for (apart, count) in [(false, 1), (true, 3), (false, 3)] {
        let frames = client_frame(Opcode::Text, text.as_bytes(), [1, 2, 3, 4]).repeat(count);
        let mut raw = Raw::new(connect(&server, &connector).await);
        if apart {
            raw.socket.write_all(UPGRADE).await.unwrap();
            raw.send(&frames).await;
        } else {
            raw.send(&[UPGRADE, &frames].concat()).await;
        }
        raw.http_head().await;
        for _ in 0..count {
            assert_eq!(raw.next_text().await, text);
        }
    }
}

#[tokio::test]
async fn a_record_that_is_none_ends_its_connection_with_an_alert() {
    let identity = Identity::new();
    let server = Server::start(Setup { tls: Some(identity.server.clone().into()), ..Setup::default() }).await;
    let connector = client_of(&[&identity], rustls::ALL_VERSIONS);
    let mut other = upgraded(&server, &connector).await;
    let mut raw = upgraded(&server, &connector).await;
    echo(&mut raw, "fine").await;
    raw.socket.get_mut().0.write_all(&[23, 3, 3, 0, 20].repeat(5)).await.unwrap();
    let error = raw.socket.read(&mut [0; 100]).await.unwrap_err();
    assert!(error.to_string().contains("BadRecordMac"), "{error}");
    server.connections_become(1).await;
    echo(&mut other, "untouched").await;
}

#[tokio::test]
async fn a_client_that_only_closes_its_half_is_said_goodbye_to() {
    let identity = Identity::new();
    let server = Server::start(Setup { tls: Some(identity.server.clone().into()), ..Setup::default() }).await;
    let mut raw = upgraded(&server, &client_of(&[&identity], rustls::ALL_VERSIONS)).await;
    raw.text("close 3501 bad request").await;
    assert!(matches!(raw.next().await, Some(Event::Close(Some(reason))) if reason.code == 3501));
    raw.send(&client_frame(Opcode::Close, &3501_u16.to_be_bytes(), [0; 4])).await;
    raw.socket.shutdown().await.unwrap();
    // rustls reports a missing close_notify as an error.
    assert_eq!(raw.socket.read(&mut [0; 10]).await.unwrap(), 0);
    server.connections_become(0).await;
}

#[tokio::test]
async fn bad_h5_handshakes_that_drag_on_hold_up_nobody() {
    let identity = Identity::new();
    let tls = ServerTls::new(Arc::clone(&identity.server));
    // One place: whoever held it would hold up everybody.
    let http =
        HttpOptions { tls_handshakes_max: 1, tls_timeout: Duration::from_secs(3), ..HttpOptions::default() };
    let server = Server::start(Setup { http, tls: Some(tls.clone()), ..Setup::default() }).await;
    let hello = hello();
    let parts: [&[u8]; 5] = [b"", &hello[..1], &hello[..5], &hello[..hello.len() - 1], &hello];
    let begun = Instant::now();
    let dragging = join_all((0..500).map(|number| async move {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(parts[number % parts.len()]).await.unwrap();
        socket
    }))
    .await;
    let connector = client_of(&[&identity], rustls::ALL_VERSIONS);
    for _ in 0..5 {
        let started = Instant::now();
        let mut raw = upgraded(&server, &connector).await;
        echo(&mut raw, "served").await;
        assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    }
    // Every one of them is given up, with whatever the server had to say before.
    join_all(dragging.into_iter().map(|mut socket| async move {
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest).await;
    }))
    .await;
    assert!(begun.elapsed() >= Duration::from_secs(2));
    eventually(|| tls.handshakes().failed == 500).await;
}

/// A lawful ClientHello.
fn hello() -> Vec<u8> {
    let connector = client_of(&[], rustls::ALL_VERSIONS);
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = rustls::ClientConnection::new(Arc::clone(connector.config()), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}
