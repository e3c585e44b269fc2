//! How long to wait before the next attempt.

use std::time::Duration;

use rand::RngExt;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(2);

/// Waits that double, each drawn anew from its upper half, so that many nodes that lost one server do not come back as
/// one.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

// === impl Backoff ===

impl Backoff {
    pub(crate) fn next(&mut self) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.attempts.min(16)).min(LONGEST);
        self.attempts = self.attempts.saturating_add(1);
        whole.mul_f64(rand::rng().random_range(0.5..1.0))
    }

    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        for attempt in 0..40 {
            let whole = LONGEST.min(FIRST * (1 << attempt.min(10)));
            let wait = backoff.next();
            assert!(wait >= whole / 2 && wait <= whole, "{attempt}: {wait:?}");
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
