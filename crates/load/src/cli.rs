//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use tidewire_protocol::Encoding;

use crate::api::ApiOptions;
use crate::client::Dialect;
use crate::fleet::{Backoff, FleetOptions};
use crate::outcome::Outcome;
use crate::scenario;
use crate::socket::Connector;
use crate::target::Target;
use crate::token::Tokens;

/// Connections of one process. The kernel keeps about 9 KB for both ends of each.
const CONNECTIONS_MAX: u64 = 200_000;
/// Longer runs come in pieces.
const DURATION_MAX: Duration = Duration::from_secs(2 * 60 * 60);

/// Puts load on a server of the client protocol and checks every delivery.
///
/// Exit status: 0 if all went well, 1 if the checker found a publication lost, doubled, out of order, altered or
/// delivered to the wrong client, 2 if the run could not be what was asked for.
#[derive(Debug, Parser)]
#[command(name = "tidewire-load", version)]
pub struct Cli {
    #[command(subcommand)]
    scenario: Scenario,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct OutputArgs {
    /// Print the result as JSON
    #[arg(long, global = true)]
    json: bool,
    /// Show no progress bar, even on a terminal
    #[arg(long, global = true)]
    quiet: bool,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// Hold connections that do nothing: memory of each and processor time of each
    Idle(scenario::idle::IdleArgs),
    /// Take in clients as fast as can be: connections per second and CPU of each
    Accept(scenario::accept::AcceptArgs),
    /// Make TLS handshakes, full or resumed: handshakes per second and CPU of each
    Handshake(scenario::handshake::HandshakeArgs),
    /// Publish to many subscribers: deliveries per second and per second of server CPU
    Fanout(scenario::fanout::FanoutArgs),
    /// Publish at a fixed rate: how late deliveries are
    Latency(scenario::fanout::LatencyArgs),
    /// Publish through the HTTP API alone: requests per second and CPU of each
    Publish(scenario::publish::ApiRateArgs),
    /// Cut every connection again and again while publishing: nothing may be missing
    Recovery(scenario::recovery::RecoveryArgs),
    /// Restart the server under its clients: time until the last one is back
    Restart(scenario::restart::RestartArgs),
    /// Let some clients stop reading: what the others notice, and when each is cut
    Slow(scenario::slow::SlowArgs),
    /// Write to bare sockets: what this machine itself can do
    Floor(scenario::floor::FloorArgs),
    #[command(hide = true)]
    FloorWriter(scenario::floor::WriterArgs),
}

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

/// Runs what the process was asked for.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Scenario::FloorWriter(args) = &cli.scenario {
        return match scenario::floor::write(args) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        };
    }
    let quiet = cli.output.quiet || cli.output.json;
    match cli.scenario.run(quiet) {
        Ok(outcome) => {
            print(&outcome, cli.output.json);
            ExitCode::from(outcome.exit_code())
        }
        Err(error) => fail(&error),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("tidewire-load: {error:#}");
    ExitCode::from(2)
}

fn print(outcome: &Outcome, as_json: bool) {
    use std::io::Write as _;
    let text = if as_json { format!("{:#}\n", outcome.json()) } else { outcome.table() };
    // Whoever closed the pipe does not want it.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

impl Scenario {
    fn run(&self, quiet: bool) -> anyhow::Result<Outcome> {
        match self {
            Self::Idle(args) => scenario::idle::run(args, quiet),
            Self::Accept(args) => scenario::accept::run(args, quiet),
            Self::Handshake(args) => scenario::handshake::run(args, quiet),
            Self::Fanout(args) => scenario::fanout::run(args, quiet),
            Self::Latency(args) => scenario::fanout::run_latency(args, quiet),
            Self::Publish(args) => scenario::publish::run(args, quiet),
            Self::Recovery(args) => scenario::recovery::run(args, quiet),
            Self::Restart(args) => scenario::restart::run(args, quiet),
            Self::Slow(args) => scenario::slow::run(args, quiet),
            Self::Floor(args) => scenario::floor::run(args),
            Self::FloorWriter(_) => anyhow::bail!("floor-writer is a part of floor"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn durations_are_read_with_their_unit_and_bounded() {
        assert_eq!(duration("15s"), Ok(Duration::from_secs(15)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "15", "s", "15 s", "-1s", "1.2.3s", "3h", "1e9s", "15d"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn several_channels_need_a_place_for_their_number() {
        let parse = |more: &[&str]| {
            let args = ["tidewire-load", "idle", "--channels", "3"].iter().chain(more);
            match Cli::try_parse_from(args).unwrap().scenario {
                Scenario::Idle(args) => args.clients.fleet(None),
                other => panic!("{other:?}"),
            }
        };
        assert!(parse(&["--channel", "a"]).is_err());
        assert_eq!(parse(&["--channel", "a:{n}"]).unwrap().channels, 3);
    }
}
