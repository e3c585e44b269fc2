//! Logs: one line an event, as text for people at a terminal and as JSON for everything else.
//!
//! Whatever a line quotes, it stays one line: control characters in it are escaped, so that nobody outside can forge a
//! line or steer a terminal.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer as _;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::config::model::{Log, LogLevel};

/// Starts logging for the whole process, once.
///
/// # Errors
/// The file cannot be opened, or the process logs already.
pub fn start(log: &Log) -> io::Result<()> {
    let sink = match &log.file {
        Some(path) => Sink::File(OpenOptions::new().create(true).append(true).open(path)?),
        None => Sink::Standard,
    };
    let for_people = log.file.is_none() && io::stderr().is_terminal();
    let writer = Lines { sink: Arc::new(Mutex::new(sink)) };
    let lines = tracing_subscriber::fmt::layer().with_target(false).with_ansi(false).with_writer(writer);
    let lines = if for_people { lines.boxed() } else { lines.json().flatten_event(true).boxed() };
    let level = level(log.level);
    // Ours alone in detail: what other crates write at the finer levels may quote headers and bodies.
    let which = Targets::new().with_target("tidewire", level).with_default(level.min(LevelFilter::WARN));
    let started = tracing_subscriber::registry().with(lines.with_filter(which)).try_init();
    started.map_err(|error| io::Error::other(error.to_string()))
}

fn level(level: LogLevel) -> LevelFilter {
    match level {
        LogLevel::Trace => LevelFilter::TRACE,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Off => LevelFilter::OFF,
    }
}

enum Sink {
    Standard,
    File(File),
}

/// Makes a writer per event; the formatter hands each one whole lines.
#[derive(Clone)]
struct Lines {
    sink: Arc<Mutex<Sink>>,
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let escaped = one_line(line);
        match &mut *self.sink.lock().unwrap_or_else(PoisonError::into_inner) {
            Sink::Standard => io::stderr().write_all(&escaped)?,
            Sink::File(file) => file.write_all(&escaped)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The line with every control character in it escaped, but for the end of the line.
fn one_line(line: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(line);
    let (text, end) = match text.strip_suffix('\n') {
        Some(text) => (text, "\n"),
        None => (&*text, ""),
    };
    let mut out = String::with_capacity(line.len());
    for c in text.chars() {
        // Also what some viewers take for the end of a line, or for a change of direction.
        if c.is_control()
            || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out.push_str(end);
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_l1_a_line_stays_one_line() {
        for (line, written) in [
            ("plain é\n", "plain é\n"),
            ("a\r\nINFO forged\n", "a\\u{d}\\u{a}INFO forged\n"),
            ("\u{1b}[31mred\u{1b}[0m\n", "\\u{1b}[31mred\\u{1b}[0m\n"),
            ("a\u{2028}b\u{202e}c\u{85}\n", "a\\u{2028}b\\u{202e}c\\u{85}\n"),
            ("tab\there", "tab\\u{9}here"),
            ("\0", "\\u{0}"),
        ] {
            assert_eq!(String::from_utf8(one_line(line.as_bytes())).unwrap(), written);
        }
        assert_eq!(one_line(b"\xff\n"), "\u{fffd}\n".as_bytes());
    }
}
