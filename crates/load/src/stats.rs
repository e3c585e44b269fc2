//! Times gathered in a histogram.

use std::time::Duration;

use hdrhistogram::Histogram;

/// Times up to an hour with three significant digits. A longer one counts as an hour.
#[derive(Debug, Clone)]
pub struct Latency(Histogram<u64>);

const NANOS_MAX: u64 = 3_600_000_000_000;

// === impl Latency ===

impl Default for Latency {
    fn default() -> Self {
        // The bounds are constants that the histogram accepts.
        Self(Histogram::new_with_bounds(1, NANOS_MAX, 3).unwrap_or_else(|_| unreachable!("constant bounds")))
    }
}

impl Latency {
    /// Notes one time.
    pub fn record(&mut self, time: Duration) {
        self.0.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).clamp(1, NANOS_MAX));
    }

    /// Adds another's times.
    pub fn add(&mut self, other: &Self) {
        // Same bounds, so it cannot fail.
        let _ = self.0.add(&other.0);
    }

    /// How many times were noted.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that this share of all is not above, 0 if nothing was noted.
    pub fn quantile(&self, share: f64) -> Duration {
        Duration::from_nanos(if self.0.is_empty() { 0 } else { self.0.value_at_quantile(share) })
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.0.max())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_have_three_digits_and_extremes_are_kept() {
        let mut latency = Latency::default();
        assert_eq!(latency.quantile(0.5), Duration::ZERO);
        for millis in 1..=1_000 {
            latency.record(Duration::from_millis(millis));
        }
        let near = |time: Duration, millis: f64| (time.as_secs_f64() * 1e3 / millis - 1.0).abs() < 2e-3;
        assert!(near(latency.quantile(0.5), 500.0), "{:?}", latency.quantile(0.5));
        assert!(near(latency.quantile(0.999), 999.0), "{:?}", latency.quantile(0.999));
        let mut other = Latency::default();
        other.record(Duration::ZERO);
        other.record(Duration::from_secs(9_999));
        latency.add(&other);
        assert_eq!(latency.count(), 1_002);
        assert!(near(latency.max(), 3_600_000.0));
    }
}
