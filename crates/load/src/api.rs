//! The server's HTTP API, over one connection that is kept.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tidewire_checker::Position;
use tokio::net::TcpStream;

use crate::target::Target;

const ANSWER_BYTES_MAX: usize = 1 << 20;

/// How to reach the API.
#[derive(Clone)]
pub struct ApiOptions {
    /// Its URL, without the method's name.
    pub target: Target,
    /// Sent as `X-API-Key`; empty for none.
    pub key: String,
    /// Within which an answer must come.
    pub timeout: Duration,
}

/// One connection to the API, opened when it is first needed and again when it broke.
pub struct Api {
    options: ApiOptions,
    sender: Option<http1::SendRequest<Full<Bytes>>>,
}

/// Why a call gave no result.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// The connection failed.
    #[error("the API cannot be reached: {0}")]
    Network(String),
    /// No answer in time.
    #[error("no answer of the API in time")]
    Timeout,
    /// Not what an API answers.
    #[error("the API answered with HTTP status {0}")]
    Status(u16),
    /// Not what an API answers.
    #[error("the answer of the API cannot be read: {0}")]
    Answer(String),
    /// The call was refused.
    #[error("the API refused with error {code} ({message})")]
    Refused {
        /// The error's code.
        code: u32,
        /// Its text.
        message: String,
    },
}

/// A publish. The data goes out as it is, byte for byte: the checker compares it.
#[derive(Serialize)]
struct PublishParams<'a> {
    channel: &'a str,
    data: &'a RawValue,
}

#[derive(Deserialize)]
struct Answer {
    result: Option<Results>,
    error: Option<Refusal>,
}

/// What the results of all methods that are used have in them.
#[derive(Deserialize, Default)]
struct Results {
    #[serde(default)]
    offset: u64,
    #[serde(default)]
    epoch: String,
    #[serde(default)]
    nodes: Vec<NodeResult>,
}

#[derive(Deserialize)]
struct NodeResult {
    #[serde(default)]
    num_clients: u64,
}

#[derive(Deserialize)]
struct Refusal {
    code: u32,
    #[serde(default)]
    message: String,
}

// === impl ApiOptions ===

/// Never shows the key.
impl std::fmt::Debug for ApiOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiOptions").field("target", &self.target).finish_non_exhaustive()
    }
}

// === impl Api ===

impl Api {
    /// An API that has not been called.
    pub fn new(options: ApiOptions) -> Self {
        Self { options, sender: None }
    }

    /// Publishes; returns the publication's position if the channel keeps history.
    ///
    /// # Errors
    /// See [`ApiError`]. After all but a refusal the publication may have happened or not.
    pub async fn publish(&mut self, channel: &str, data: &[u8]) -> Result<Option<Position>, ApiError> {
        let data: &RawValue =
            serde_json::from_slice(data).map_err(|error| ApiError::Answer(error.to_string()))?;
        let top = self.call("publish", &PublishParams { channel, data }).await?;
        Ok((top.offset > 0).then(|| Position::new(&top.epoch, top.offset)))
    }

    /// Where a channel's stream ends; `None` if it keeps no history.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn head(&mut self, channel: &str) -> Result<Option<Position>, ApiError> {
        match self.call("history", &serde_json::json!({ "channel": channel, "limit": 0 })).await {
            Ok(top) => Ok(Some(Position::new(&top.epoch, top.offset))),
            Err(ApiError::Refused { code: 108, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How many clients are connected to all nodes.
    ///
    /// # Errors
    /// See [`ApiError`].
    pub async fn clients(&mut self) -> Result<u64, ApiError> {
        let info = self.call("info", &serde_json::json!({})).await?;
        Ok(info.nodes.iter().map(|node| node.num_clients).sum())
    }

    async fn call(&mut self, method: &str, params: &impl Serialize) -> Result<Results, ApiError> {
        let body = serde_json::to_string(params).map_err(|error| ApiError::Answer(error.to_string()))?;
        let called = tokio::time::timeout(self.options.timeout, self.exchange(method, body)).await;
        let answer = called.unwrap_or(Err(ApiError::Timeout));
        if !matches!(answer, Ok(_) | Err(ApiError::Refused { .. })) {
            self.sender = None;
        }
        answer
    }

    async fn exchange(&mut self, method: &str, body: String) -> Result<Results, ApiError> {
        let network = |error: hyper::Error| ApiError::Network(error.to_string());
        let Target { path, authority, .. } = &self.options.target;
        let uri = format!("{}/{method}", path.trim_end_matches('/'));
        let mut request = http::Request::post(uri)
            .header(http::header::HOST, authority)
            .header(http::header::CONTENT_TYPE, "application/json");
        if !self.options.key.is_empty() {
            request = request.header("x-api-key", &self.options.key);
        }
        let request = request.body(Full::from(body)).map_err(|error| ApiError::Network(error.to_string()))?;
        let sender = self.sender().await?;
        let response = sender.send_request(request).await.map_err(network)?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| ApiError::Network(error.to_string()))?.to_bytes();
        if status != 200 {
            return Err(ApiError::Status(status));
        }
        let answer: Answer =
            serde_json::from_slice(&body).map_err(|error| ApiError::Answer(error.to_string()))?;
        match answer.error {
            Some(Refusal { code, message }) => Err(ApiError::Refused { code, message }),
            None => Ok(answer.result.unwrap_or_default()),
        }
    }

    async fn sender(&mut self) -> Result<&mut http1::SendRequest<Full<Bytes>>, ApiError> {
        let is_usable = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        let sender = match self.sender.take().filter(|_| is_usable) {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        Ok(self.sender.insert(sender))
    }

    async fn connect(&self) -> Result<http1::SendRequest<Full<Bytes>>, ApiError> {
        let stream = TcpStream::connect(self.options.target.address).await;
        let stream = stream.map_err(|error| ApiError::Network(error.kind().to_string()))?;
        stream.set_nodelay(true).map_err(|error| ApiError::Network(error.to_string()))?;
        let handshake = http1::handshake(TokioIo::new(stream)).await;
        let (sender, connection) = handshake.map_err(|error| ApiError::Network(error.to_string()))?;
        // Ends with the sender; what goes wrong on it the call will tell.
        tokio::spawn(async move { drop(connection.await) });
        Ok(sender)
    }
}
