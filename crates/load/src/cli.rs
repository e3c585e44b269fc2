//! The command line.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::outcome::Outcome;
use crate::scenario;

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
