//! How many new connections are let in.

use std::time::Instant;

use parking_lot::Mutex;

/// A token bucket over new connections (`client.connection_rate_limit`): `per_second` of them per second, as many at
/// once after a quiet second.
#[derive(Debug)]
pub(super) struct RateLimit {
    per_second: f64,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
}

impl RateLimit {
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        let per_second = f64::from(per_second);
        Self { per_second, bucket: Mutex::new(Bucket { tokens: per_second, filled: now }) }
    }

    /// Takes a token if there is one.
    pub(super) fn admit(&self, now: Instant) -> bool {
        let mut bucket = self.bucket.lock();
        let passed = now.saturating_duration_since(bucket.filled).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * self.per_second).min(self.per_second);
        bucket.filled = bucket.filled.max(now);
        let admitted = bucket.tokens >= 1.0;
        if admitted {
            bucket.tokens -= 1.0;
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn admits_so_many_per_second() {
        let start = Instant::now();
        let limit = RateLimit::new(10, start);
        let admitted = |at_ms: u64| {
            let now = start + Duration::from_millis(at_ms);
            (0..100).take_while(|_| limit.admit(now)).count()
        };
        assert_eq!(admitted(0), 10);
        assert_eq!(admitted(50), 0);
        assert_eq!(admitted(250), 2);
        assert_eq!(admitted(10_000), 10);
    }
}
