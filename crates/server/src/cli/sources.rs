//! Options that say where the configuration comes from, the same for every command that reads it.

use clap::Args;

use super::output::{self, Failure};
use crate::config::report::Report;
use crate::config::{self, Config, Sources};

/// Where the configuration comes from.
#[derive(Args, Debug, Clone, Default)]
pub(super) struct ConfigArgs {
    /// The configuration file: .json, .yaml or .toml.
    #[arg(long, short, value_name = "FILE", env = "TIDEWIRE_CONFIG")]
    config: Option<String>,
    /// Sets one key, whatever file and environment say; may be repeated.
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_and_value)]
    set: Vec<(String, String)>,
}

fn key_and_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("expected KEY=VALUE, such as client.ping_interval=10s")?;
    Ok((key.to_owned(), value.to_owned()))
}

impl ConfigArgs {
    /// The sources, with flags of a command's own on top.
    pub(super) fn sources(&self, flags: Vec<(String, String, String)>) -> Sources {
        let set = self.set.iter().map(|(key, value)| (key.clone(), value.clone(), "--set".to_owned()));
        Sources {
            file: self.config.clone(),
            environment: environment(),
            flags: set.chain(flags).collect(),
            ..Sources::default()
        }
    }

    /// The file, if one is named.
    pub(super) fn file(&self) -> Option<&str> {
        self.config.as_deref()
    }

    /// Loads the configuration for a command that only needs some of it: warnings are not its business.
    pub(super) fn load(&self) -> Result<Config, Failure> {
        load(&self.sources(Vec::new())).map(|(config, _)| config)
    }
}

/// Loads a configuration.
pub(super) fn load(sources: &Sources) -> Result<(Config, Report), Failure> {
    config::load(sources).map_err(Failure::Configuration)
}

/// Variables that are text; others cannot be keys of ours.
fn environment() -> Vec<(String, String)> {
    let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
        let name = name.into_string().ok()?;
        match value.into_string() {
            Ok(value) => Some((name, value)),
            Err(_) => {
                if name.starts_with("TIDEWIRE_") || name.starts_with("CENTRIFUGO_") {
                    output::note(&format!("the environment variable {name} is not UTF-8 and is left out"));
                }
                None
            }
        }
    };
    std::env::vars_os().filter_map(text).collect()
}
