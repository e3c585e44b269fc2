//! The command line.

use std::process::ExitCode;

use clap::Parser;

use crate::config::{self, Sources};
use crate::serve::{self, Mode};

/// Realtime server.
#[derive(Parser)]
#[command(name = "tidewire", version)]
enum Command {
    /// Runs the server.
    Serve {
        /// The configuration file (.json, .yaml, .toml).
        #[arg(long, value_name = "FILE")]
        config: Option<String>,
        /// Everything switched on and open, for this machine only.
        #[arg(long)]
        dev: bool,
        /// Warnings about the configuration stop the start.
        #[arg(long)]
        strict: bool,
    },
}

/// Runs the command that the process was started with.
pub fn main() -> ExitCode {
    let Command::Serve { config: file, dev, strict } = Command::parse();
    let environment = std::env::vars().collect();
    let sources = Sources { file, environment, dev, strict, ..Default::default() };
    match config::load(&sources) {
        Ok((config, report)) => {
            serve::run(&config, &report, if dev { Mode::Development } else { Mode::Production })
        }
        Err(report) => {
            eprintln!("{report}");
            ExitCode::from(2)
        }
    }
}
