//! Configuration: files, environment and flags into one checked [`Config`].
//!
//! `keys` (and `keys.table`): every known key. `tree`, `read`: a file as values with lines. `settings`, `environment`,
//! `dev`: what was set, each source overriding the one before. `reader`, `resolve`, `channels`, `tokens`, `secrets`: what
//! the server uses, with the rules that span keys. `report`: all problems at once. `document`: the keys, for people.
//!
//! A key that is not known stops the start; a known key that has no effect here is a warning that says what will not
//! work, and whatever it would have decided is refused.

pub mod document;
mod environment;
pub mod keys;
pub mod model;
pub mod read;
pub mod report;
pub mod secret;
pub mod tree;
pub mod value;

mod channels;
mod dev;
mod nearest;
mod reader;
mod redis;
mod resolve;
mod secrets;
mod settings;
mod tokens;

use std::io::Read as _;

use read::Format;
use report::Report;
use settings::Settings;
use tree::Origin;

pub use model::Config;
pub use secret::Secret;

/// Where a configuration comes from.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// A file; its name tells the format.
    pub file: Option<String>,
    /// Environment variables; only those with our prefixes are looked at.
    pub environment: Vec<(String, String)>,
    /// Flags, the last to win: the key's path, the value, and what the flag is called.
    pub flags: Vec<(String, String, String)>,
    /// Everything switched on and open, on loopback.
    pub dev: bool,
    /// Warnings stop the start too.
    pub strict: bool,
}

/// Reads and checks a configuration.
///
/// # Errors
/// The report, if it holds an error; with a configuration, the report holds warnings only.
pub fn load(sources: &Sources) -> Result<(Config, Report), Report> {
    let mut report = Report::default();
    let mut settings = Settings::default();
    if let Some(file) = &sources.file {
        read_file(file, &mut settings, &mut report);
    }
    environment::apply(&sources.environment, &mut settings, &mut report);
    for (path, value, flag) in &sources.flags {
        match keys::find(path) {
            Some(key) if !path.contains("[]") => {
                settings.put_text(key, path.clone(), value, Origin::Flag(flag.clone()), &mut report);
            }
            _ => report.error(Origin::Flag(flag.clone()), path, nearest::unknown_path(path)),
        }
    }
    if sources.dev {
        dev::apply(&mut settings, &mut report);
    }
    let config = resolve::config(&mut reader::Reader { settings: &settings, report: &mut report });
    if sources.strict {
        report.be_strict();
    }
    report.sort();
    if report.is_fatal() { Err(report) } else { Ok((config, report)) }
}

fn read_file(file: &str, settings: &mut Settings, report: &mut Report) {
    let whole = Origin::File { file: file.into(), line: 1 };
    let Some(format) = Format::of(file) else {
        return report.error(whole, "", "the name must end in .json, .yaml, .yml or .toml");
    };
    let mut text = String::new();
    let opened = std::fs::File::open(file);
    match opened.and_then(|opened| opened.take(read::FILE_BYTES_MAX + 1).read_to_string(&mut text)) {
        Err(error) => return report.error(whole, "", format!("cannot be read: {error}")),
        Ok(size) if size as u64 > read::FILE_BYTES_MAX => {
            return report.error(whole, "", format!("larger than {} bytes", read::FILE_BYTES_MAX));
        }
        Ok(_) => {}
    }
    match read::read(format, file, &text) {
        Ok(tree) => settings.read_file(&tree, report),
        Err(error) => report.error(Origin::File { file: file.into(), line: error.line }, "", error.text),
    }
}

#[cfg(test)]
mod tests;
