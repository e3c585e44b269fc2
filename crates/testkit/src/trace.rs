//! What happened, line by line, as text or only as a hash.

use std::collections::VecDeque;
use std::fmt::{self, Write};
use std::time::Duration;

/// Lines kept of a world that goes wrong.
const KEPT_LINES: usize = 400;

/// What becomes of the lines of a trace besides their hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracing {
    /// Nothing.
    Hash,
    /// The last few hundred are kept.
    Keep,
    /// They are printed.
    Print,
}

/// The trace of one world. Two runs are the same if the hashes of their traces are.
#[derive(Debug)]
pub(crate) struct Trace {
    tracing: Tracing,
    hash: u64,
    lines: VecDeque<String>,
}

impl Trace {
    pub(crate) fn new(tracing: Tracing) -> Self {
        Self { tracing, hash: 0xcbf2_9ce4_8422_2325, lines: VecDeque::new() }
    }

    pub(crate) fn note(&mut self, now: Duration, line: fmt::Arguments<'_>) {
        match self.tracing {
            Tracing::Hash => {
                // Writing to the hash cannot fail.
                let _ = writeln!(self, "{} {line}", now.as_micros());
            }
            Tracing::Keep | Tracing::Print => {
                let text = format!("{:>12.6} {line}", now.as_secs_f64());
                let _ = writeln!(self, "{} {line}", now.as_micros());
                self.keep(text);
            }
        }
    }

    fn keep(&mut self, text: String) {
        if self.tracing == Tracing::Print {
            #[allow(clippy::print_stdout, reason = "that is what was asked for")]
            {
                println!("{text}");
            }
            return;
        }
        if self.lines.len() == KEPT_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(text);
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn take_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.lines).into()
    }
}

/// FNV-1a over everything written.
impl Write for Trace {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}
