//! The command line: one file per subcommand.
//!
//! Results go to standard output, one line each where a program may read them; everything else goes to standard error.
//! Exit codes: 0, done; 1, not done, and standard error says why; 2, the configuration or the command line is wrong.

mod config;
mod doctor;
mod output;
mod publish;
mod serve;
mod sources;
mod subscribe;
mod time;
mod token;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use output::Failure;

/// Exit code for a configuration or a command line that is wrong.
const EXIT_INVALID: u8 = 2;

const HELP: &str = "\
Exit codes: 0 done; 1 not done, standard error says why; 2 the configuration or the command line is wrong.

Examples:
  tidewire serve --dev                      a server for trying things out, on this machine only
  tidewire config check --config app.json   what is wrong with a configuration, all at once
  tidewire subscribe chat | jq .data        what arrives in a channel, one JSON line each
  tidewire publish chat '{\"text\":\"hello\"}'";

/// Realtime server: it holds the connections of an application's clients and keeps what they see live.
#[derive(Parser)]
#[command(name = "tidewire", version, after_help = HELP)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Serve(serve::Args),
    #[command(subcommand)]
    Config(config::Command),
    #[command(subcommand)]
    Token(token::Command),
    Publish(publish::Args),
    Subscribe(subscribe::Args),
    Doctor(doctor::Args),
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Config(command) => config::run(&command),
        Command::Token(command) => token::run(&command),
        Command::Publish(args) => publish::run(&args),
        Command::Subscribe(args) => subscribe::run(&args),
        Command::Doctor(args) => doctor::run(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

/// A runtime for commands that talk to a server: one thread is plenty.
fn block_on<F: Future>(future: F) -> Result<F::Output, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.map_err(|error| Failure::told(format!("no runtime: {error}")))?.block_on(future))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Cli::command().debug_assert();
    }
}
