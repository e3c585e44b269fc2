//! Time as the core sees it: always handed in, never read.

use std::time::Duration;

/// One moment on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Time since an arbitrary start; never goes back. Timers run on it.
    pub mono: Duration,
    /// Milliseconds since the Unix epoch; may jump. For tokens, `connect.time` and the age of publications only.
    pub unix_ms: i64,
}

impl Now {
    /// Monotonic milliseconds.
    pub(crate) fn ms(&self) -> Millis {
        millis(self.mono)
    }

    /// Unix seconds, rounded down.
    pub(crate) fn unix_s(&self) -> i64 {
        self.unix_ms.div_euclid(1000)
    }

    /// The monotonic moment at which the wall clock will show `unix_s`, as far as it can be known now.
    pub(crate) fn at_unix(&self, unix_s: i64) -> Millis {
        let wait = unix_s.saturating_mul(1000).saturating_sub(self.unix_ms);
        self.ms().saturating_add(u64::try_from(wait).unwrap_or(0))
    }
}

/// Monotonic milliseconds, half the size of a `Duration`: every connection keeps several.
pub(crate) type Millis = u64;

/// A moment that never comes.
pub(crate) const NEVER: Millis = Millis::MAX;

/// A duration in whole milliseconds.
pub(crate) fn millis(duration: Duration) -> Millis {
    u64::try_from(duration.as_millis()).unwrap_or(NEVER)
}
