//! A client of HTTP/2 over TLS that sends what it is told to.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::frames::{GOAWAY, HEADERS, code, request};
use crate::support::{PATIENCE, Server};

pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

pub(crate) struct Client {
    tls: TlsStream<TcpStream>,
    input: Vec<u8>,
    /// The server has not said anything for [`PATIENCE`].
    pub(crate) silent: bool,
}

pub(crate) struct Tls {
    pub(crate) server: tidewire_transport::serve::tls::ServerTls,
    root: CertificateDer<'static>,
}

impl Tls {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        let server =
            tidewire_transport::serve::tls::server_config(certificate.as_bytes(), key.as_bytes()).unwrap();
        Self { server: server.into(), root: made.cert.der().clone() }
    }

    pub(crate) async fn connect(
        &self,
        server: &Server,
        alpn: &[&str],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let socket = TcpStream::connect(server.address).await?;
        socket.set_nodelay(true)?;
        TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), socket).await
    }

    pub(crate) async fn client(&self, server: &Server) -> Client {
        let tls = self.connect(server, &["h2"]).await.unwrap();
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Client { tls, input: Vec::new(), silent: false }
    }
}

impl Client {
    /// The server may have ended the connection before everything is written.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let writing = async {
            if self.tls.write_all(bytes).await.is_ok() {
                let _ = self.tls.flush().await;
            }
        };
        tokio::time::timeout(PATIENCE, writing).await.expect("the server reads or closes");
    }

    /// The next frame; `None` at the end, also if that is a reset.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            if let [a, b, c, kind, flags, s1, s2, s3, s4, rest @ ..] = &self.input[..] {
                let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
                if rest.len() >= len {
                    let (kind, flags) = (*kind, *flags);
                    let stream = u32::from_be_bytes([*s1, *s2, *s3, *s4]);
                    let payload = rest[..len].to_vec();
                    self.input.drain(..9 + len);
                    return Some(Frame { kind, flags, stream, payload });
                }
            }
            let mut buffer = vec![0; 64 << 10];
            match tokio::time::timeout(PATIENCE, self.tls.read(&mut buffer)).await {
                Ok(Ok(0) | Err(_)) => return None,
                Ok(Ok(read)) => self.input.extend_from_slice(&buffer[..read]),
                Err(_) => {
                    self.silent = true;
                    return None;
                }
            }
        }
    }

    /// Waits for the answer to a ping or to a request, which shows that the connection serves on. `Err` with the code of
    /// the end if it does not.
    pub(crate) async fn serves(&mut self, stream: u32) -> Result<(), Option<u32>> {
        self.send(&request(stream, &[])).await;
        loop {
            match self.next().await {
                Some(Frame { kind: HEADERS, stream: of, .. }) if of == stream => return Ok(()),
                Some(Frame { kind: GOAWAY, payload, .. }) => return Err(Some(code(&payload[4..]))),
                Some(_) => {}
                None => return Err(None),
            }
        }
    }

    /// The code of the end, which must come.
    pub(crate) async fn goes_away(&mut self) -> Option<u32> {
        let mut told = None;
        while let Some(frame) = self.next().await {
            if frame.kind == GOAWAY {
                told = told.or(Some(code(&frame.payload[4..])));
            }
        }
        told
    }
}
