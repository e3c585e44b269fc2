//! `tidewire config`: check a configuration, print the defaults, explain every key.

use std::process::ExitCode;

use super::output::{self, Failure};
use super::sources::{self, ConfigArgs};
use crate::config::{Config, document};

/// Checks or explains configurations.
#[derive(clap::Subcommand)]
pub(super) enum Command {
    Check(CheckArgs),
    /// Prints a configuration file in JSON that says what an empty one means.
    Default,
    /// Prints every supported key with its type, default and meaning.
    Doc,
}

const CHECK_HELP: &str = "\
A key that nobody knows is an error, with file, line and the nearest name. A key of Centrifugo that has no effect here is
a warning that says what will not work. With --strict every warning is an error.

Examples:
  tidewire config check --config config.json
  tidewire config check --config config.yaml --strict";

/// Says everything that is wrong with a configuration, and the limits it sets. Exit code 2 if it holds an error.
#[derive(clap::Args)]
#[command(after_help = CHECK_HELP)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Every warning is an error.
    #[arg(long)]
    strict: bool,
}

pub(super) fn run(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Check(args) => check(args)?,
        Command::Default => {
            let defaults = serde_json::to_string_pretty(&document::defaults());
            output::line(&defaults.unwrap_or_default())?;
        }
        Command::Doc => output::line(document::reference().trim_end())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn check(args: &CheckArgs) -> Result<(), Failure> {
    let mut sources = args.config.sources(Vec::new());
    sources.strict = args.strict;
    let (config, report) = sources::load(&sources)?;
    output::line(&report.to_string())?;
    output::line("\nLimits:")?;
    for (limit, value) in limits(&config) {
        output::line(&format!("  {limit}: {value}"))?;
    }
    Ok(())
}

/// Not a number where the machine decides: it may be another one that is checked on.
fn connections(config: &Config) -> String {
    let by_machine = "as many as open files and memory allow".to_owned();
    config.admission.connection_limit.map_or(by_machine, |limit| limit.to_string())
}

fn limits(config: &Config) -> Vec<(&'static str, String)> {
    let client = &config.core.client;
    let or_none = |limit: Option<usize>| limit.map_or("no limit".to_owned(), |limit| limit.to_string());
    let centrifugos = |limit: usize| or_none((limit != 0 && limit != usize::MAX).then_some(limit));
    vec![
        ("connections of this node", connections(config)),
        ("new connections per second", or_none(config.admission.connection_rate_limit.map(usize::from))),
        ("connections of one address", or_none(config.admission.ip_connection_limit.map(usize::from))),
        ("connections of one user", centrifugos(client.user_connection_limit)),
        ("subscriptions of one connection", centrifugos(client.channel_limit)),
        ("bytes of one message from a client", config.websocket.message_bytes_max.to_string()),
        ("bytes waiting for one connection", centrifugos(client.queue_max_size)),
        ("bytes of a channel name", centrifugos(config.core.channel.max_length)),
        ("publications read from history at a time", centrifugos(client.history_max_publication_limit)),
        ("missed publications recovered", centrifugos(client.recovery_max_publication_limit)),
        ("time to connect after the upgrade", format!("{:?}", client.stale_close_delay)),
        ("time to answer a ping", format!("{:?}", client.pong_timeout)),
        ("time a write may make no progress", format!("{:?}", config.websocket.write_timeout)),
        ("bytes of an API request", or_none(config.http_api.body_bytes_max)),
        ("bytes of a publication by the API", or_none(config.http_api.publication_bytes_max)),
        ("commands of a batch, channels of a broadcast", or_none(config.http_api.batch_max)),
    ]
}
