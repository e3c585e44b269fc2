//! A small client of the protocol for tests, over a real WebSocket.
//!
//! It answers pings, keeps pushes in order, and waits for nothing longer than [`PATIENCE`].

#![allow(dead_code, unreachable_pub, reason = "every test uses a part of it, as a module of its own")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tidewire_protocol::{
    Command, ConnectRequest, ConnectResult, Encoding, Error, Publication, PublishRequest, Push, Reply,
    RpcRequest, SendRequest, SubscribeRequest, SubscribeResult, frame,
};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

/// A test that waits longer has failed.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A connection to a node.
pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    encoding: Encoding,
    last_id: u32,
    pushes: VecDeque<Push>,
    replies: Vec<Reply>,
}

/// How a connection ended: the close frame, or `None` if there was none.
pub type End = Option<(u16, String)>;

/// Why there is no answer.
#[derive(Debug, PartialEq)]
pub enum Failed {
    /// The command was refused.
    Error(Error),
    /// The connection ended.
    Ended(End),
}

// === impl Client ===

impl Client {
    /// Opens a WebSocket at the usual path, speaking JSON, without connecting.
    pub async fn open(address: SocketAddr) -> Self {
        Self::open_with(address, Encoding::Json, &[]).await.expect("the upgrade succeeds")
    }

    /// Opens a WebSocket with more headers. An error holds the HTTP status.
    pub async fn open_with(
        address: SocketAddr,
        encoding: Encoding,
        headers: &[(&'static str, &str)],
    ) -> Result<Self, u16> {
        let mut request = format!("ws://{address}/connection/websocket").into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        if encoding == Encoding::Protobuf {
            request.headers_mut().append("sec-websocket-protocol", "centrifuge-protobuf".parse().unwrap());
        }
        let opened = tokio::time::timeout(PATIENCE, tokio_tungstenite::connect_async(request)).await;
        match opened.expect("an answer to the upgrade") {
            Ok((socket, _)) => {
                Ok(Self { socket, encoding, last_id: 0, pushes: VecDeque::new(), replies: Vec::new() })
            }
            Err(tungstenite::Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Opens and connects without a token.
    pub async fn connected(address: SocketAddr) -> Self {
        let mut client = Self::open(address).await;
        client.connect(ConnectRequest::default()).await.expect("the connect succeeds");
        client
    }

    /// The first command.
    pub async fn connect(&mut self, request: ConnectRequest) -> Result<ConnectResult, Failed> {
        let command = Command { connect: Some(Box::new(request)), ..Default::default() };
        Ok(*self.call(command).await?.connect.expect("a connect result"))
    }

    /// Subscribes without a token.
    pub async fn subscribe(&mut self, channel: &str) -> Result<SubscribeResult, Failed> {
        let request = SubscribeRequest { channel: channel.into(), ..Default::default() };
        let command = Command { subscribe: Some(Box::new(request)), ..Default::default() };
        Ok(*self.call(command).await?.subscribe.expect("a subscribe result"))
    }

    /// Publishes.
    pub async fn publish(&mut self, channel: &str, data: &str) -> Result<(), Failed> {
        let request =
            PublishRequest { channel: channel.into(), data: data.to_owned().into(), ..Default::default() };
        self.call(Command { publish: Some(Box::new(request)), ..Default::default() }).await.map(drop)
    }

    /// Calls a procedure.
    pub async fn rpc(&mut self, method: &str, data: &str) -> Result<String, Failed> {
        let request = RpcRequest { method: method.into(), data: data.to_owned().into() };
        let reply = self.call(Command { rpc: Some(Box::new(request)), ..Default::default() }).await?;
        let data = reply.rpc.expect("an rpc result").data;
        Ok(String::from_utf8(data.to_vec()).unwrap())
    }

    /// Sends a message that is not answered.
    pub async fn send(&mut self, data: &str) {
        let request = SendRequest { data: data.to_owned().into() };
        self.write(&Command { send: Some(Box::new(request)), ..Default::default() }).await;
    }

    /// Sends a command and waits for its reply.
    pub async fn call(&mut self, mut command: Command) -> Result<Reply, Failed> {
        self.last_id += 1;
        command.id = self.last_id;
        self.write(&command).await;
        loop {
            if let Some(at) = self.replies.iter().position(|reply| reply.id == command.id) {
                let mut reply = self.replies.swap_remove(at);
                return match reply.error.take() {
                    Some(error) => Err(Failed::Error(*error)),
                    None => Ok(reply),
                };
            }
            self.read().await.map_err(Failed::Ended)?;
        }
    }

    /// The next push.
    pub async fn push(&mut self) -> Push {
        loop {
            if let Some(push) = self.pushes.pop_front() {
                return push;
            }
            self.read().await.expect("a push, not the end");
        }
    }

    /// The next push, which must be a publication.
    pub async fn publication(&mut self) -> Publication {
        *self.push().await.publication.expect("a publication")
    }

    /// The payload of the next publication, as text.
    pub async fn text(&mut self) -> String {
        String::from_utf8(self.publication().await.data.to_vec()).unwrap()
    }

    /// Waits for the end of the connection.
    pub async fn end(&mut self) -> End {
        loop {
            if let Err(end) = self.read().await {
                return end;
            }
        }
    }

    async fn write(&mut self, command: &Command) {
        let mut out = Vec::new();
        frame::append_command(self.encoding, command, &mut out).unwrap();
        let message = match self.encoding {
            Encoding::Json => Message::text(String::from_utf8(out).unwrap()),
            Encoding::Protobuf => Message::binary(out),
        };
        // A closed socket shows when the answer is read.
        let _ = self.socket.send(message).await;
    }

    /// Reads one frame.
    async fn read(&mut self) -> Result<(), End> {
        let message = tokio::time::timeout(PATIENCE, self.socket.next()).await.expect("something to read");
        let frame: Bytes = match message {
            Some(Ok(Message::Text(text))) => text.into(),
            Some(Ok(Message::Binary(bytes))) => bytes,
            Some(Ok(Message::Close(Some(close)))) => {
                return Err(Some((close.code.into(), close.reason.to_string())));
            }
            Some(Ok(_)) => return Ok(()),
            Some(Err(_)) | None => return Err(None),
        };
        let messages: Vec<Reply> = frame::replies(self.encoding, &frame).collect::<Result<_, _>>().unwrap();
        for mut message in messages {
            if let Some(push) = message.push.take() {
                self.pushes.push_back(*push);
            } else if message.id == 0 {
                self.write(&Command::default()).await;
            } else {
                self.replies.push(message);
            }
        }
        Ok(())
    }
}

impl Failed {
    /// The error's code, or the close code.
    pub fn code(&self) -> u32 {
        match self {
            Self::Error(error) => error.code,
            Self::Ended(end) => end.as_ref().map_or(0, |(code, _)| u32::from(*code)),
        }
    }
}

/// Serves an axum application on a free port of this machine, as `axum::serve` does for anyone.
pub async fn serve(app: axum::Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}
