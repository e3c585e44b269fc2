//! TLS on the real binary: certificates from files, as text and in base64; certificates of clients.

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::{SinkExt as _, StreamExt as _};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;

use crate::support::binary::Server;

/// A certificate for `localhost` and its key.
struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

/// Somebody who signs.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, purpose: ExtendedKeyUsagePurpose) -> Identity {
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        Identity { certificate: params.signed_by(&key, &self.0).unwrap(), key }
    }
}

fn config(certificate: &str, key: &str, client_ca: Option<&str>) -> Value {
    let tls = json!({ "enabled": true, "cert_pem": certificate, "key_pem": key, "client_ca_pem": client_ca });
    json!({
        "http_server": { "tls": tls },
        "client": { "insecure": true },
        "health": { "enabled": true },
    })
}

async fn connect(
    address: SocketAddr,
    trusted: &Authority,
    identity: Option<&Identity>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from(trusted.0.der().to_vec())).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let config = match identity {
        Some(identity) => {
            let key = PrivatePkcs8KeyDer::from(identity.key.serialize_der());
            builder.with_client_auth_cert(vec![identity.certificate.der().clone()], key.into()).unwrap()
        }
        None => builder.with_no_client_auth(),
    };
    let socket = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), socket).await
}

/// The status of `GET /health`.
async fn health(mut stream: TlsStream<TcpStream>) -> std::io::Result<u16> {
    stream.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer).await;
    let status = answer.split(' ').nth(1).ok_or(std::io::ErrorKind::UnexpectedEof)?;
    status.parse().map_err(std::io::Error::other)
}

#[tokio::test]
async fn certificates_come_from_files_text_or_base64() {
    let authority = Authority::new();
    let identity = authority.issue(ExtendedKeyUsagePurpose::ServerAuth);
    let (certificate, key) = (identity.certificate.pem(), identity.key.serialize_pem());
    let directory = tempfile::tempdir().unwrap();
    let (certificate_file, key_file) = (directory.path().join("cert.pem"), directory.path().join("key.pem"));
    std::fs::write(&certificate_file, &certificate).unwrap();
    std::fs::write(&key_file, &key).unwrap();
    for config in [
        config(certificate_file.to_str().unwrap(), key_file.to_str().unwrap(), None),
        config(&certificate, &key, None),
        config(&BASE64_STANDARD.encode(&certificate), &BASE64_STANDARD.encode(&key), None),
    ] {
        let server = Server::start(config);
        assert!(server.wait_for("serving").contains("https://"));
        let stream = connect(server.external, &authority, None).await.unwrap();
        assert_eq!(health(stream).await.unwrap(), 200);

        let stream = connect(server.external, &authority, None).await.unwrap();
        let url = "wss://localhost/connection/websocket";
        let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
        socket.send(Message::text(r#"{"id":1,"connect":{}}"#)).await.unwrap();
        let reply: Value = match socket.next().await.unwrap().unwrap() {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        };
        assert!(reply["connect"]["client"].is_string(), "{reply}");
        // Plain HTTP on the port is not understood, and nobody else is bothered by it.
        let mut plain = TcpStream::connect(server.external).await.unwrap();
        plain.write_all(b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        let _ = plain.read_to_end(&mut answer).await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn clients_must_show_a_certificate_where_an_authority_is_set() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let identity = authority.issue(ExtendedKeyUsagePurpose::ServerAuth);
    let ca = authority.0.pem();
    let server = Server::start(config(&identity.certificate.pem(), &identity.key.serialize_pem(), Some(&ca)));
    let known = authority.issue(ExtendedKeyUsagePurpose::ClientAuth);
    let unknown = stranger.issue(ExtendedKeyUsagePurpose::ClientAuth);
    for (client, let_in) in [(Some(&known), true), (Some(&unknown), false), (None, false)] {
        // With TLS 1.3 the client learns of a refusal when it reads.
        let status = match connect(server.external, &authority, client).await {
            Ok(stream) => health(stream).await,
            Err(error) => Err(error),
        };
        assert_eq!(status.ok(), let_in.then_some(200));
    }
}

#[tokio::test]
async fn certificates_are_read_again_on_sighup_and_connections_go_on() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    let [certificate_file, key_file] = ["cert.pem", "key.pem"].map(|name| directory.path().join(name));
    let install = |identity: &Identity| {
        std::fs::write(&certificate_file, identity.certificate.pem()).unwrap();
        std::fs::write(&key_file, identity.key.serialize_pem()).unwrap();
    };
    let [first, second] = [(), ()].map(|()| authority.issue(ExtendedKeyUsagePurpose::ServerAuth));
    install(&first);
    let mut config = config(certificate_file.to_str().unwrap(), key_file.to_str().unwrap(), None);
    config["prometheus"] = json!({ "enabled": true });
    let server = Server::start(config);
    let shown = async || {
        let stream = connect(server.external, &authority, None).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };
    let stream = connect(server.external, &authority, None).await.unwrap();
    let url = "wss://localhost/connection/websocket";
    let (mut socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
    let mut say = async |text: &str| {
        socket.send(Message::text(text)).await.unwrap();
        socket.next().await.unwrap().unwrap().into_text().unwrap()
    };
    assert!(say(r#"{"id":1,"connect":{}}"#).await.contains(r#""client""#));
    assert_eq!(shown().await, *first.certificate.der());

    // Half of a new pair, as if SIGHUP came between the two.
    std::fs::write(&key_file, second.key.serialize_pem()).unwrap();
    server.signal("HUP");
    let line = server.wait_for("certificates cannot be used, those before stay in use");
    assert!(line.contains(r#""level":"ERROR""#) && line.contains("http_server.tls"), "{line}");
    assert_eq!(shown().await, *first.certificate.der());

    install(&second);
    server.signal("HUP");
    server.wait_for("certificates were read again");
    assert_eq!(shown().await, *second.certificate.der());
    assert!(say(r#"{"id":2,"subscribe":{"channel":"news"}}"#).await.contains(r#""subscribe""#));
    assert!(!server.written().contains("PRIVATE KEY"));

    let mut stream = connect(server.external, &authority, None).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut metrics = String::new();
    stream.read_to_string(&mut metrics).await.unwrap();
    // The server looks by itself as well, so there may be more than one of each.
    for result in ["ok", "failed"] {
        let name = format!(r#"tidewire_certificate_reloads_total{{result="{result}"}} "#);
        let count = metrics.split(&name).nth(1).unwrap().lines().next().unwrap();
        assert!(count.parse::<u64>().unwrap() >= 1, "{result}: {count}");
    }
    assert!(metrics.contains("tidewire_tls_handshake_failures_total 0"), "{metrics}");
}

#[tokio::test]
async fn sighup_does_not_end_a_server_without_tls() {
    let mut server = Server::start(json!({ "client": { "insecure": true } }));
    server.signal("HUP");
    server.wait_for("there are no certificates to read again");
    server.signal("TERM");
    assert!(server.ended().await.success());
}
