//! How fast a connection may send commands.

use std::time::Duration;

/// How many seconds' worth of commands may come at once: an SDK sends all its subscriptions in one go.
const BURST: Duration = Duration::from_secs(10);

/// What becomes of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    Kept,
    /// The command is refused.
    TooFast,
    /// Refusals do not help.
    FarTooFast,
}

/// Commands as a queue that is worked off at the rate allowed: the moment, in monotonic microseconds, at which it would be
/// empty. Refused commands count too, so that who goes on in spite of them is noticed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rate(u64);

impl Rate {
    /// Counts one command.
    pub(super) fn count(&mut self, per_second: u32, now: Duration) -> Pace {
        let Some(step) = 1_000_000_u64.checked_div(u64::from(per_second)) else { return Pace::Kept };
        let now = micros(now);
        let ahead = self.0.saturating_sub(now);
        if ahead >= 2 * micros(BURST) {
            return Pace::FarTooFast;
        }
        self.0 = now.max(self.0) + step;
        if ahead >= micros(BURST) { Pace::TooFast } else { Pace::Kept }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paces(rate: &mut Rate, count: usize, at: u64) -> [usize; 3] {
        let mut paces = [0; 3];
        for _ in 0..count {
            paces[rate.count(100, Duration::from_secs(at)) as usize] += 1;
        }
        paces
    }

    #[test]
    fn ten_seconds_worth_may_come_at_once_and_then_the_rate() {
        let mut rate = Rate::default();
        assert_eq!(paces(&mut rate, 1_500, 0), [1_000, 500, 0]);
        // The refused ones count: five seconds must pass before another is let through.
        assert_eq!(paces(&mut rate, 1, 4), [0, 1, 0]);
        assert_eq!(paces(&mut rate, 300, 8), [299, 1, 0]);
    }

    #[test]
    fn who_does_not_heed_refusals_is_noticed() {
        let mut rate = Rate::default();
        assert_eq!(paces(&mut rate, 2_100, 0), [1_000, 1_000, 100]);
    }

    #[test]
    fn without_a_limit_nothing_is_counted() {
        let mut rate = Rate::default();
        assert!((0..100_000).all(|_| rate.count(0, Duration::ZERO) == Pace::Kept));
    }
}
