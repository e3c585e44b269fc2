//! `tidewire serve`.

use std::process::ExitCode;

use super::output::Failure;
use super::sources::{self, ConfigArgs};
use crate::serve::{self, Mode};

const HELP: &str = "\
Nothing is open by accident: without a key, or an option that admits clients, every connect is refused, and the start
says which key is missing. Every key can be set by environment too: client.token.hmac_secret_key is
TIDEWIRE_CLIENT_TOKEN_HMAC_SECRET_KEY (or CENTRIFUGO_..., which loses to it).

Examples:
  tidewire serve --dev
  tidewire serve --config config.json
  tidewire serve --config config.yaml --strict --port 9000 --set client.connection_limit=20000";

/// Runs the server.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// For trying things out: every feature on, open to everyone, and on this machine only.
    #[arg(long)]
    dev: bool,
    /// Warnings about the configuration stop the start.
    #[arg(long)]
    strict: bool,
    /// Address to listen on (http_server.address).
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    /// Port to listen on (http_server.port).
    #[arg(long, value_name = "PORT")]
    port: Option<String>,
    /// Least severe lines to log (log.level).
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let own = [
        ("http_server.address", &args.address, "--address"),
        ("http_server.port", &args.port, "--port"),
        ("log.level", &args.log_level, "--log-level"),
    ];
    let flag =
        |(key, value, name): (&str, &Option<String>, &str)| Some((key.into(), value.clone()?, name.into()));
    let mut sources = args.config.sources(own.into_iter().filter_map(flag).collect());
    (sources.dev, sources.strict) = (args.dev, args.strict);
    let (config, report) = sources::load(&sources)?;
    let mode = if args.dev { Mode::Development } else { Mode::Production };
    Ok(serve::run(&config, &report, mode))
}
