//! What happened, line by line, as text or only as a hash.

use std::fmt::{self, Write};
use std::time::Duration;

/// What becomes of the lines of a trace besides their hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tracing {
    /// Nothing.
    Hash,
    /// They are printed.
    Print,
}

/// The trace of one world. Two runs are the same if the hashes of their traces are.
#[derive(Debug)]
pub(crate) struct Trace {
    tracing: Tracing,
    hash: u64,
}

impl Trace {
    pub(crate) fn new(tracing: Tracing) -> Self {
        Self { tracing, hash: 0xcbf2_9ce4_8422_2325 }
    }

    pub(crate) fn note(&mut self, now: Duration, line: fmt::Arguments<'_>) {
        // Writing to the hash cannot fail.
        let _ = writeln!(self, "{} {line}", now.as_micros());
        if self.tracing == Tracing::Print {
            #[allow(clippy::print_stdout, reason = "that is what was asked for")]
            {
                println!("{:>12.6} {line}", now.as_secs_f64());
            }
        }
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
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
