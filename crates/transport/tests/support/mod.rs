//! A server for one test, and raw clients for what a lawful one would not do.

#![allow(dead_code, reason = "each test file uses a part")]

pub(crate) mod scripted;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use tidewire_engine::SystemClock;
use tidewire_transport::serve::tls::ServerTls;
use tidewire_transport::ws::{Decoder, Event, Extension, FrameHeader, Limits, Opcode, Role, client_frame};
use tidewire_transport::{
    HttpOptions, Listener, OriginPolicy, ReactorOptions, Reactors, WebSocketEndpoint, WebSocketOptions,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use self::scripted::{Controls, Scripted};

/// Nothing in these tests should take this long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a test may change about its server.
pub(crate) struct Setup {
    pub(crate) reactor: ReactorOptions,
    pub(crate) web_socket: WebSocketOptions,
    pub(crate) http: HttpOptions,
    pub(crate) tls: Option<ServerTls>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            reactor: ReactorOptions { threads: 1, ..ReactorOptions::default() },
            web_socket: WebSocketOptions {
                origins: OriginPolicy::parse(&["https://good.com"]).unwrap(),
                ..WebSocketOptions::default()
            },
            http: HttpOptions::default(),
            tls: None,
        }
    }
}

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) reactors: Reactors,
    pub(crate) controls: Arc<Controls>,
    pub(crate) stop: CancellationToken,
    pub(crate) served: tokio::task::JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(setup: Setup) -> Self {
        let (reactors, controls) = start_reactors(setup.reactor);
        let app = router(WebSocketEndpoint::new(reactors.clone(), setup.web_socket));
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(any_port, setup.tls, setup.http).await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn(listener.serve(app, stop.clone()));
        Self { address, reactors, controls, stop, served }
    }

    /// A socket right after its upgrade.
    pub(crate) async fn raw(&self) -> Raw<TcpStream> {
        let mut raw = Raw::new(TcpStream::connect(self.address).await.unwrap());
        raw.socket.set_nodelay(true).unwrap();
        raw.send(UPGRADE).await;
        let answer = raw.http_head().await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        raw
    }

    /// Waits until this many sockets are left.
    pub(crate) async fn connections_become(&self, count: usize) {
        eventually(|| self.reactors.connections() == count).await;
    }
}

pub(crate) fn start_reactors(options: ReactorOptions) -> (Reactors, Arc<Controls>) {
    let controls = Arc::new(Controls::default());
    let handed = Arc::clone(&controls);
    let runtime = tokio::runtime::Handle::current();
    let make = move |_| Scripted::new(Arc::clone(&handed));
    (Reactors::start(options, &runtime, Arc::new(SystemClock::new()), make).unwrap(), controls)
}

pub(crate) fn router(endpoint: WebSocketEndpoint) -> Router {
    Router::new().route("/plain", axum::routing::post(|body: String| async move { body })).fallback(any(
        move |request: axum::extract::Request| async move { endpoint.upgrade(request).map(Body::from) },
    ))
}

/// Looks until it is so. Counters of another thread have no event to wait for.
pub(crate) async fn eventually(so: impl Fn() -> bool) {
    let looking = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("did not come to be");
}

pub(crate) const UPGRADE: &[u8] =
    b"GET /connection/websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// A client that sends any bytes and reads frames.
pub(crate) struct Raw<S> {
    pub(crate) socket: S,
    pub(crate) decoder: Decoder,
    input: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    pub(crate) fn new(socket: S) -> Self {
        Self { socket, decoder: Decoder::new(Extension::None), input: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).await.unwrap();
        self.socket.flush().await.unwrap();
    }

    pub(crate) async fn text(&mut self, text: &str) {
        self.send(&client_frame(Opcode::Text, text.as_bytes(), [1, 2, 3, 4])).await;
    }

    /// Reads an HTTP head; what follows stays for frames.
    pub(crate) async fn http_head(&mut self) -> String {
        loop {
            if let Some(end) = self.input.windows(4).position(|window| window == b"\r\n\r\n") {
                let rest = self.input.split_off(end + 4);
                let head = std::mem::replace(&mut self.input, rest);
                return String::from_utf8(head).unwrap();
            }
            assert!(self.fill().await > 0, "the socket ended before the head");
        }
    }

    /// The next thing the server says; `None` at the end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            let mut input = std::mem::take(&mut self.input);
            let (taken, event) = self.decoder.decode(&Limits::client(), Duration::ZERO, &mut input).unwrap();
            self.input = input.split_off(taken);
            if event.is_some() {
                return event;
            }
            if self.fill().await == 0 {
                return None;
            }
        }
    }

    /// The payload of the next frame as it came, which must be a compressed one that is complete.
    pub(crate) async fn first_payload(&mut self) -> Vec<u8> {
        loop {
            let parsed = FrameHeader::parse(Role::Client, Extension::Deflate, &self.input).unwrap();
            if let Some((header, at)) = parsed
                && let Some(payload) = self.input.get(at..at + header.length as usize)
            {
                assert!(header.compressed);
                return payload.to_vec();
            }
            assert!(self.fill().await > 0, "the socket ended before the frame");
        }
    }

    pub(crate) async fn next_text(&mut self) -> String {
        match self.next().await {
            Some(Event::Message { payload, .. }) => String::from_utf8(payload.to_vec()).unwrap(),
            other => panic!("no message but {other:?}"),
        }
    }

    /// Expects a close frame with this code, then the end of the stream.
    pub(crate) async fn closed_with(&mut self, code: u16) {
        loop {
            match self.next().await {
                Some(Event::Close(reason)) => {
                    assert_eq!(reason.map(|reason| reason.code), Some(code));
                    break;
                }
                Some(_) => {}
                None => panic!("no close frame"),
            }
        }
        assert_eq!(self.fill().await, 0, "nothing follows a close frame");
    }

    /// Reads once; 0 at the end, also if that is a reset.
    pub(crate) async fn fill(&mut self) -> usize {
        let mut buffer = vec![0; 64 << 10];
        let read = tokio::time::timeout(PATIENCE, self.socket.read(&mut buffer)).await.expect("silence");
        let read = read.unwrap_or(0);
        self.input.extend_from_slice(&buffer[..read]);
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Raw<S> {
    /// Expects a close frame with this code, answers it, then expects the end.
    pub(crate) async fn closed_after_answer(&mut self, code: u16) {
        assert!(matches!(self.next().await, Some(Event::Close(Some(reason))) if reason.code == code));
        self.send(&client_frame(Opcode::Close, &code.to_be_bytes(), [1; 4])).await;
        assert_eq!(self.fill().await, 0, "nothing follows a close frame");
    }
}
