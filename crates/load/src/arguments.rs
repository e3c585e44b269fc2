//! Options that several scenarios take.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use tidewire_protocol::Encoding;

use crate::api::ApiOptions;
use crate::client::Dialect;
use crate::fleet::{Backoff, FleetOptions};
use crate::socket::Connector;
use crate::target::Target;
use crate::token::Tokens;

/// Connections of one process. The kernel keeps about 9 KB for both ends of each.
const CONNECTIONS_MAX: u64 = 200_000;
/// Longer runs come in pieces.
const DURATION_MAX: Duration = Duration::from_secs(2 * 60 * 60);

/// What every scenario with clients takes.
#[derive(Debug, Clone, Args)]
pub struct ClientArgs {
    /// WebSocket endpoint of the server
    #[arg(long, default_value = "ws://127.0.0.1:8000/connection/websocket")]
    pub url: String,
    /// Clients
    #[arg(long, short = 'n', default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=CONNECTIONS_MAX))]
    pub connections: u64,
    /// New connections a second
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rate: u32,
    /// Channel that every client subscribes to; `{n}` stands for its number modulo --channels
    #[arg(long, default_value = "load")]
    pub channel: String,
    /// How many channels `{n}` makes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    pub channels: u32,
    /// Encoding
    #[arg(long, value_enum, default_value_t)]
    pub protocol: Protocol,
    /// Offer permessage-deflate and insist on it, without context takeover
    #[arg(long)]
    pub compression: bool,
    /// Connection token that all clients use
    #[arg(long, env = "LOAD_TOKEN", hide_env_values = true, conflicts_with = "token_hmac_secret")]
    pub token: Option<String>,
    /// Secret of the server to sign a token with for each client (HS256), for users load-0, load-1, …
    #[arg(long, env = "LOAD_TOKEN_HMAC_SECRET", hide_env_values = true)]
    pub token_hmac_secret: Option<String>,
    /// Within which a connection must be made, accepted and subscribed
    #[arg(long, default_value = "30s", value_parser = duration)]
    pub connect_timeout: Duration,
    /// Process id of the server on this machine: adds its memory and processor time
    #[arg(long)]
    pub pid: Option<u32>,
    /// Allow a server that is not this machine
    #[arg(long)]
    pub allow_remote: bool,
    /// Certificate (PEM) that signed the server's, for wss URLs
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Make every TLS handshake a full one
    #[arg(long)]
    pub no_tls_resumption: bool,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// How to reach the HTTP API.
#[derive(Debug, Clone, Args)]
pub struct ApiArgs {
    /// HTTP API of the server
    #[arg(long, default_value = "http://127.0.0.1:8000/api")]
    pub api_url: String,
    /// Key of the API
    #[arg(long, env = "LOAD_API_KEY", hide_env_values = true)]
    pub api_key: Option<String>,
}

/// An encoding by its name.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
pub enum Protocol {
    /// One JSON object per message
    #[default]
    Json,
    /// Protocol buffers
    Protobuf,
}

// === impl ClientArgs ===

impl ClientArgs {
    /// Where the clients connect to.
    ///
    /// # Errors
    /// The URL is not usable.
    pub fn target(&self) -> anyhow::Result<Target> {
        Target::websocket(&self.url, self.allow_remote).context("--url")
    }

    /// How they connect.
    ///
    /// # Errors
    /// See [`Connector::new`].
    pub fn connector(&self) -> anyhow::Result<Connector> {
        Connector::new(self.target()?, self.ca.as_deref(), !self.no_tls_resumption)
    }

    /// How they speak.
    ///
    /// # Errors
    /// The URL is not usable.
    pub fn dialect(&self, recoverable: bool) -> anyhow::Result<Dialect> {
        let Target { authority, path, .. } = self.target()?;
        let encoding = match self.protocol {
            Protocol::Json => Encoding::Json,
            Protocol::Protobuf => Encoding::Protobuf,
        };
        Ok(Dialect { authority, path, encoding, recoverable, compression: self.compression })
    }

    /// Whose tokens they have.
    pub fn tokens(&self) -> Tokens {
        match (&self.token, &self.token_hmac_secret) {
            (Some(token), _) => Tokens::Shared(token.clone()),
            (None, Some(secret)) => Tokens::signed(secret),
            (None, None) => Tokens::None,
        }
    }

    /// What the fleet is to do.
    ///
    /// # Errors
    /// Several channels and no place for their number.
    pub fn fleet(&self, backoff: Option<Backoff>) -> anyhow::Result<FleetOptions> {
        let has_number = self.channel.contains("{n}");
        ensure!(
            self.channels == 1 || has_number,
            "--channels needs a --channel with {{n}} in it, like load:{{n}}"
        );
        Ok(FleetOptions {
            connections: self.connections as usize,
            rate: f64::from(self.rate),
            channel: Some(self.channel.clone()),
            channels: self.channels as usize,
            tokens: self.tokens(),
            connect_timeout: self.connect_timeout,
            backoff,
            seed: self.seed,
        })
    }
}

// === impl ApiArgs ===

impl ApiArgs {
    /// How to call the API.
    ///
    /// # Errors
    /// The URL is not usable.
    pub fn options(&self, allow_remote: bool) -> anyhow::Result<ApiOptions> {
        let target = Target::http(&self.api_url, allow_remote).context("--api-url")?;
        Ok(ApiOptions {
            target,
            key: self.api_key.clone().unwrap_or_default(),
            timeout: Duration::from_secs(10),
        })
    }
}

/// Reads `15s`, `250ms`, `2m` or `1h`.
///
/// # Errors
/// In words for the command line.
pub fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3_600.0,
        _ => return Err("a number and ms, s, m or h, like 15s".into()),
    };
    let number: f64 = number.parse().map_err(|_| "a number and ms, s, m or h, like 15s".to_owned())?;
    match Duration::try_from_secs_f64(number * seconds) {
        Ok(duration) if duration <= DURATION_MAX => Ok(duration),
        _ => Err(format!("at most {DURATION_MAX:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_unit_and_bounded() {
        assert_eq!(duration("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "15", "s", "15 s", "-1s", "1.2.3s", "3h", "1e9s", "15d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
