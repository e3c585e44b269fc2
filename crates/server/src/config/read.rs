//! Configuration files into one tree: JSON, YAML and TOML alike, each value with its line.

mod json;
mod toml;
mod yaml;

use std::sync::Arc;

use super::tree::{Node, Origin, Value};

/// Largest configuration file read.
pub const FILE_BYTES_MAX: u64 = 16 << 20;

/// Why a file could not be read into a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyntaxError {
    /// Where reading stopped, counted from 1.
    pub line: u32,
    /// What is wrong there.
    pub text: String,
}

/// The notation of a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON (RFC 8259).
    Json,
    /// YAML 1.2.
    Yaml,
    /// TOML 1.
    Toml,
}

impl Format {
    /// Tells the format from the extension of a file's name.
    pub fn of(file: &str) -> Option<Self> {
        let (_, extension) = file.rsplit_once('.')?;
        match extension.to_ascii_lowercase().as_str() {
            "json" => Some(Self::Json),
            "yaml" | "yml" => Some(Self::Yaml),
            "toml" => Some(Self::Toml),
            _ => None,
        }
    }
}

/// Reads a file's text. `file` is only what places are called.
///
/// # Errors
/// The first place where the text is not of this format.
pub fn read(format: Format, file: &str, text: &str) -> Result<Node, SyntaxError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let file: Arc<str> = Arc::from(file);
    match format {
        Format::Json => json::read(&file, text),
        Format::Yaml => yaml::read(&file, text),
        Format::Toml => toml::read(&file, text),
    }
}

fn node(value: Value, file: &Arc<str>, line: u32) -> Node {
    Node { value, origin: Origin::File { file: Arc::clone(file), line } }
}
