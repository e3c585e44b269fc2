//! A bar for people who watch; nothing for scripts.

use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

const PERIOD: Duration = Duration::from_millis(100);

/// See the module.
pub struct Progress {
    bar: ProgressBar,
    shown: Instant,
}

// === impl Progress ===

impl Progress {
    /// A bar on a terminal, or nothing.
    pub fn new(quiet: bool) -> Self {
        let is_seen = !quiet && std::io::stderr().is_terminal();
        let bar = if is_seen { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{prefix:>10} [{bar:40}] {pos}/{len} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
        Self { bar, shown: Instant::now() }
    }

    /// Begins a part of the run.
    pub fn begin(&self, what: &'static str, length: u64) {
        self.bar.set_length(length);
        self.bar.set_position(0);
        self.bar.set_message("");
        self.bar.set_prefix(what);
    }

    /// Shows where the part stands, now and then.
    pub fn show(&mut self, position: u64, message: impl FnOnce() -> String) {
        if !self.bar.is_hidden() && self.shown.elapsed() >= PERIOD {
            self.shown = Instant::now();
            self.bar.set_message(message());
            self.bar.set_position(position);
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
