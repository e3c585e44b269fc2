//! What an operator should know of refused upgrades, at a rate that a flood of them cannot fill a disk with.

use std::time::{Duration, Instant};

use http::HeaderMap;
use http::header::ORIGIN;
use parking_lot::Mutex;

use super::Refusal;

/// At most one line in this time.
const EVERY: Duration = Duration::from_secs(1);

/// Refusals that say more about the configuration than about the client.
#[derive(Debug, Default)]
pub(super) struct Notices {
    /// When the last line was written, and how many refusals had none since.
    state: Mutex<(Option<Instant>, u64)>,
}

// === impl Notices ===

impl Notices {
    pub(super) fn tell(&self, refusal: Refusal, headers: &HeaderMap, now: Instant) {
        let advice = match refusal {
            Refusal::ConnectionLimit => {
                "the connection limit is reached: raise client.connection_limit, or the limit of \
                                         open files (ulimit -n), or add a node"
            }
            Refusal::AddressLimit => {
                "one address has as many connections as client.ip_connection_limit allows: behind a balancer \
                                      all have its address"
            }
            Refusal::ConnectionRate => "new connections come faster than client.connection_rate_limit",
            Refusal::Origin => {
                "a web page that is not listed wants to connect: if it is yours, add it to \
                                client.allowed_origins"
            }
            other => return tracing::debug!(refusal = %other, "upgrade refused"),
        };
        if let Some(unsaid) = self.due(now) {
            // An origin is no secret, but it may be as long as its sender likes.
            let origin =
                headers.get(ORIGIN).filter(|origin| refusal == Refusal::Origin && origin.len() <= 200);
            let origin = origin.and_then(|origin| origin.to_str().ok());
            tracing::warn!(origin, unsaid, "upgrade refused: {advice}");
        }
    }

    /// Whether a line is due, with the number of refusals before it that had none.
    fn due(&self, now: Instant) -> Option<u64> {
        let (last, unsaid) = &mut *self.state.lock();
        if last.is_some_and(|last| now.saturating_duration_since(last) < EVERY) {
            *unsaid += 1;
            return None;
        }
        *last = Some(now);
        Some(std::mem::take(unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line_a_second() {
        let notices = Notices::default();
        let start = Instant::now();
        let due = |ms| notices.due(start + Duration::from_millis(ms));
        assert_eq!(due(0), Some(0));
        assert_eq!((due(1), due(500), due(999)), (None, None, None));
        assert_eq!(due(1000), Some(3));
        assert_eq!(due(2500), Some(0));
    }
}
