//! What runs out next, without a queue operation every time something is prolonged.

use std::collections::BTreeSet;
use std::time::Duration;

/// Keys with the time they are due, the earliest first; each key at most once.
///
/// Prolonging is the common case (every publication, every presence refresh), so a later deadline does not move the
/// key: it comes up at its old time and its owner puts it back. Only an earlier deadline moves it.
#[derive(Debug)]
pub(crate) struct Deadlines<K> {
    queue: BTreeSet<(Duration, K)>,
}

// By hand, since a derived impl would ask for `K: Default`.
impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self { queue: BTreeSet::new() }
    }
}

impl<K: Ord + Clone> Deadlines<K> {
    /// Makes sure that `key` comes up at `at` or before. `scheduled` is when it comes up now, `None` if not at all; the
    /// owner keeps it beside the thing itself.
    pub(crate) fn schedule(&mut self, key: &K, scheduled: &mut Option<Duration>, at: Duration) {
        match *scheduled {
            Some(earlier) if earlier <= at => return,
            Some(later) => {
                self.queue.remove(&(later, key.clone()));
            }
            None => {}
        }
        self.queue.insert((at, key.clone()));
        *scheduled = Some(at);
    }

    /// Takes `key` out.
    pub(crate) fn cancel(&mut self, key: &K, scheduled: Option<Duration>) {
        if let Some(at) = scheduled {
            self.queue.remove(&(at, key.clone()));
        }
    }

    /// Takes out the earliest key if its time is `now` or before.
    pub(crate) fn pop_due(&mut self, now: Duration) -> Option<K> {
        if !self.is_due(now) {
            return None;
        }
        self.queue.pop_first().map(|(_, key)| key)
    }

    /// Whether [`Deadlines::pop_due`] would give something.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        self.queue.first().is_some_and(|(at, _)| *at <= now)
    }

    /// The earliest time, if there is any key.
    pub(crate) fn next(&self) -> Option<Duration> {
        self.queue.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_key_comes_up_once_and_not_before_its_time() {
        let mut deadlines = Deadlines::default();
        let mut scheduled = None;
        deadlines.schedule(&"a", &mut scheduled, secs(5));
        assert_eq!(deadlines.pop_due(secs(4)), None);
        assert_eq!(deadlines.pop_due(secs(5)), Some("a"));
        assert_eq!(deadlines.pop_due(secs(5)), None);
    }

    #[test]
    fn a_later_deadline_keeps_the_place_and_an_earlier_one_moves_it() {
        let mut deadlines = Deadlines::default();
        let mut scheduled = None;
        deadlines.schedule(&"a", &mut scheduled, secs(5));
        deadlines.schedule(&"a", &mut scheduled, secs(9));
        assert_eq!((scheduled, deadlines.next()), (Some(secs(5)), Some(secs(5))));
        deadlines.schedule(&"a", &mut scheduled, secs(2));
        assert_eq!((scheduled, deadlines.next()), (Some(secs(2)), Some(secs(2))));
        deadlines.cancel(&"a", scheduled);
        assert_eq!(deadlines.next(), None);
    }
}
