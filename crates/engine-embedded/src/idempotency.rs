//! Keys of publishes already made, so that a repeated publish answers as the first did. Pure: takes `now`.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::{Equivalent, HashMap};
use tidewire_protocol::{ChannelName, StreamPosition};

/// How long a key answers for its publish. A repetition does not prolong it; at exactly this age the key is gone.
pub const IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(300);

/// Memory that keys may take in one engine, reckoned as 128 bytes and the text of the key each: about 400 000 keys of a
/// UUID's length.
pub const IDEMPOTENCY_BYTES_MAX: usize = 64 << 20;

/// What an entry costs beside the text of its key: two table slots, the queue slot and the headers, rounded up.
pub(crate) const ENTRY_BYTES: usize = 128;

/// The keys of some channels, the oldest first to go.
#[derive(Debug)]
pub(crate) struct IdempotencyWindow {
    results: HashMap<Arc<Key>, Option<StreamPosition>, RandomState>,
    // All live equally long, so the order of arrival is the order of departure.
    order: VecDeque<(Duration, Arc<Key>)>,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug, PartialEq, Eq)]
struct Key {
    channel: ChannelName,
    key: Box<str>,
}

/// Looks like a [`Key`] to the table, without an allocation.
struct KeyRef<'a> {
    channel: &'a str,
    key: &'a str,
}

// === impl IdempotencyWindow ===

impl IdempotencyWindow {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { results: HashMap::default(), order: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// What the publish with this key answered, if it was made within the window.
    pub(crate) fn find(&mut self, channel: &str, key: &str, now: Duration) -> Option<Option<StreamPosition>> {
        self.expire(now, usize::MAX);
        self.results.get(&KeyRef { channel, key }).cloned()
    }

    /// Remembers the answer of a publish whose key [`IdempotencyWindow::find`] did not know. Makes room by forgetting
    /// the oldest; a key that alone is above the bound is not remembered.
    pub(crate) fn remember(
        &mut self,
        channel: &ChannelName,
        key: &str,
        position: Option<StreamPosition>,
        now: Duration,
    ) {
        let cost = ENTRY_BYTES + key.len();
        if cost > self.bytes_max {
            return;
        }
        while self.bytes + cost > self.bytes_max {
            self.forget_oldest();
        }
        let key = Arc::new(Key { channel: channel.clone(), key: key.into() });
        self.order.push_back((now.saturating_add(IDEMPOTENCY_WINDOW), key.clone()));
        self.results.insert(key, position);
        self.bytes += cost;
    }

    /// Forgets at most `work_max` keys whose time is up.
    pub(crate) fn expire(&mut self, now: Duration, work_max: usize) {
        let mut left = work_max;
        while left > 0 && self.is_due(now) {
            self.forget_oldest();
            left -= 1;
        }
    }

    /// Whether [`IdempotencyWindow::expire`] has something to do.
    pub(crate) fn is_due(&self, now: Duration) -> bool {
        self.order.front().is_some_and(|(end, _)| *end <= now)
    }

    /// How many keys are remembered.
    pub(crate) fn len(&self) -> usize {
        self.order.len()
    }

    /// Gives back room that more keys needed once.
    pub(crate) fn shrink(&mut self) {
        if self.results.capacity() > 64 && self.results.capacity() / 4 > self.results.len() {
            self.results.shrink_to_fit();
            self.order.shrink_to_fit();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, key)) = self.order.pop_front() {
            self.bytes -= ENTRY_BYTES + key.key.len();
            self.results.remove(&*key);
        }
    }
}

// === impl Key ===

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        KeyRef { channel: self.channel.as_str(), key: &self.key }.hash(state);
    }
}

impl Hash for KeyRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.channel.hash(state);
        self.key.hash(state);
    }
}

impl Equivalent<Arc<Key>> for KeyRef<'_> {
    fn equivalent(&self, other: &Arc<Key>) -> bool {
        self.channel == other.channel.as_str() && self.key == &*other.key
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_d5_above_the_byte_bound_the_oldest_key_goes_first() {
        let mut window = IdempotencyWindow::new(2 * (ENTRY_BYTES + 1));
        let channel = ChannelName::from("c");
        for key in ["1", "2", "3"] {
            window.remember(&channel, key, None, Duration::ZERO);
        }
        assert_eq!(window.len(), 2);
        assert_eq!(window.find("c", "1", Duration::ZERO), None);
        assert_eq!(window.find("c", "3", Duration::ZERO), Some(None));
        window.remember(&channel, &"x".repeat(1000), None, Duration::ZERO);
        assert_eq!(window.len(), 2, "a key above the bound pushes nobody out");
    }

    #[test]
    fn inv_d5_a_key_is_forgotten_at_exactly_the_end_of_its_window() {
        let mut window = IdempotencyWindow::new(1 << 10);
        window.remember(&ChannelName::from("c"), "k", None, Duration::ZERO);
        let just_before = IDEMPOTENCY_WINDOW - Duration::from_nanos(1);
        assert_eq!(window.find("c", "k", just_before), Some(None));
        assert_eq!(window.find("c", "k", IDEMPOTENCY_WINDOW), None);
        assert_eq!((window.len(), window.bytes), (0, 0));
    }
}
