//! A client that publishes instead of subscribing: one command, one answer, on the publisher's thread.

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::api::ApiError;
use crate::client::{Client, ClientError, Context, Dialect, Event, Output, Role};
use crate::target::Target;

/// Where to connect and as whom.
#[derive(Clone)]
pub struct PublishingClientOptions {
    /// The WebSocket endpoint; without TLS.
    pub target: Target,
    /// As of all clients.
    pub dialect: Dialect,
    /// Its token, empty for none.
    pub token: String,
    /// For connecting, and for each answer.
    pub timeout: Duration,
}

/// See the module.
pub struct PublishingClient {
    options: PublishingClientOptions,
    stream: TcpStream,
    client: Client,
    context: Context,
    out: Vec<u8>,
    answers: Vec<(u32, Option<u32>)>,
}

/// Never shows the token.
impl std::fmt::Debug for PublishingClientOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublishingClientOptions").field("target", &self.target).finish_non_exhaustive()
    }
}

// === impl PublishingClient ===

impl PublishingClient {
    /// Connects and waits until the server has accepted it.
    ///
    /// # Errors
    /// It has not, or not in time.
    pub async fn connect(options: PublishingClientOptions) -> Result<Self, ApiError> {
        let connecting = TcpStream::connect(options.target.address);
        let stream = within(options.timeout, async { connecting.await.map_err(network) }).await?;
        stream.set_nodelay(true).map_err(network)?;
        let context = Context::new(options.dialect.clone());
        let mut out = Vec::new();
        let role = Role { token: options.token.clone(), ..Role::default() };
        let client = Client::open(role, &context, &mut out);
        let timeout = options.timeout;
        let mut this = Self { options, stream, client, context, out, answers: Vec::new() };
        within(timeout, async {
            while !this.client.is_live() {
                this.exchange().await?;
            }
            Ok(())
        })
        .await?;
        Ok(this)
    }

    /// Publishes and waits for the answer.
    ///
    /// # Errors
    /// The server refused it, or it is not known whether it did. After that it connects anew for the next one.
    pub async fn publish(&mut self, channel: &str, data: Bytes) -> Result<(), ApiError> {
        if !self.client.is_live() {
            *self = Self::connect(self.options.clone()).await?;
        }
        self.answers.clear();
        let command =
            self.client.publish(channel, data, &mut self.context, &mut self.out).map_err(protocol)?;
        let answered = within(self.options.timeout, async {
            loop {
                self.exchange().await?;
                if let Some((_, error)) = self.answers.iter().find(|(id, _)| *id == command) {
                    return Ok(*error);
                }
            }
        });
        match answered.await {
            Ok(None) => Ok(()),
            Ok(Some(code)) => Err(ApiError::Refused { code, message: "publish".into() }),
            Err(error) => {
                self.client.close(&mut self.out);
                Err(error)
            }
        }
    }

    /// Answers pings until `meanwhile` is over.
    ///
    /// # Errors
    /// None that the next publish would not find as well.
    pub async fn idle<T>(&mut self, meanwhile: impl Future<Output = T>) -> Result<T, ApiError> {
        tokio::pin!(meanwhile);
        loop {
            tokio::select! {
                biased;
                done = &mut meanwhile => return Ok(done),
                result = self.exchange(), if self.client.is_live() => if result.is_err() {
                    self.client.close(&mut self.out);
                }
            }
        }
    }

    /// Sends what is to be sent and takes in what comes. Nothing is lost if it is dropped while it waits.
    async fn exchange(&mut self) -> Result<(), ApiError> {
        while !self.out.is_empty() {
            let sent = self.stream.write(&self.out).await.map_err(network)?;
            self.out.drain(..sent);
        }
        let mut buffer = [0; 16 << 10];
        let bytes = self.stream.read(&mut buffer).await.map_err(network)?;
        if bytes == 0 {
            return Err(ApiError::Network("the server dropped the connection".into()));
        }
        let answers = &mut self.answers;
        let mut event = |event| {
            if let Event::Published { command, error } = event {
                answers.push((command, error));
            }
        };
        let mut out = Output { bytes: &mut self.out, event: &mut event };
        let input = buffer.get(..bytes).unwrap_or_default();
        self.client.receive(input, &mut self.context, &mut out).map_err(protocol)
    }
}

async fn within<T>(
    timeout: Duration,
    future: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    tokio::time::timeout(timeout, future).await.unwrap_or(Err(ApiError::Timeout))
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn network(error: std::io::Error) -> ApiError {
    ApiError::Network(error.kind().to_string())
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn protocol(error: ClientError) -> ApiError {
    ApiError::Network(error.to_string())
}
