//! Who is in one channel, and how many users they are. Pure: takes `now`, locks nothing.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use tidewire_engine::PresenceStats;
use tidewire_protocol::ClientInfo;

use crate::deadline::Deadlines;

/// The presence set of one channel. An entry whose time is up at `t` is gone at exactly `t`.
#[derive(Debug, Default)]
pub struct PresenceSet {
    entries: BTreeMap<ByClient, Entry>,
    // How many entries each user has, so that the number of users needs no walk.
    users: HashMap<Box<str>, u32, RandomState>,
    deadlines: Deadlines<Arc<str>>,
}

#[derive(Debug)]
struct Entry {
    end: Duration,
    scheduled: Option<Duration>,
    key: Arc<str>,
}

/// An entry's info as map key, so that the client id is not kept twice.
#[derive(Debug)]
struct ByClient(Arc<ClientInfo>);

// === impl PresenceSet ===

impl PresenceSet {
    /// Adds the entry of `info.client`, or replaces it, to live until `now + ttl`.
    pub fn add(&mut self, info: Arc<ClientInfo>, ttl: Duration, now: Duration) {
        let end = now.saturating_add(ttl);
        let (key, mut scheduled) = match self.entries.remove_entry(info.client.as_str()) {
            Some((old, entry)) => {
                self.forget_user(&old.0.user);
                (entry.key, entry.scheduled)
            }
            None => (Arc::from(info.client.as_str()), None),
        };
        self.deadlines.schedule(&key, &mut scheduled, end);
        match self.users.get_mut(info.user.as_str()) {
            Some(count) => *count += 1,
            None => {
                self.users.insert(info.user.as_str().into(), 1);
            }
        }
        self.entries.insert(ByClient(info), Entry { end, scheduled, key });
    }

    /// Removes the entry of a client, if there is one.
    pub fn remove(&mut self, client: &str) {
        if let Some((info, entry)) = self.entries.remove_entry(client) {
            self.deadlines.cancel(&entry.key, entry.scheduled);
            self.forget_user(&info.0.user);
        }
    }

    /// Everyone, by client id. Call [`PresenceSet::expire`] first.
    pub fn all(&self) -> Vec<Arc<ClientInfo>> {
        self.entries.keys().map(|by_client| by_client.0.clone()).collect()
    }

    /// The numbers, without a walk. Call [`PresenceSet::expire`] first.
    pub fn stats(&self) -> PresenceStats {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        PresenceStats { clients: count(self.entries.len()), users: count(self.users.len()) }
    }

    /// Lets go of at most `work_max` entries that have run out, and looks at no more. Returns how much of it is left.
    pub fn expire(&mut self, now: Duration, work_max: usize) -> usize {
        let mut left = work_max;
        while left > 0 {
            let Some(client) = self.deadlines.pop_due(now) else {
                break;
            };
            left -= 1;
            let Some(entry) = self.entries.get_mut(&*client) else {
                continue;
            };
            entry.scheduled = None;
            if entry.end <= now {
                self.remove(&client);
            } else {
                self.deadlines.schedule(&client, &mut entry.scheduled, entry.end);
            }
        }
        left
    }

    /// When [`PresenceSet::expire`] next has something to look at; `None` if the set is empty.
    pub fn deadline(&self) -> Option<Duration> {
        self.deadlines.next()
    }

    /// Whether nobody is there.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn forget_user(&mut self, user: &str) {
        if let Some(count) = self.users.get_mut(user) {
            *count -= 1;
            if *count == 0 {
                self.users.remove(user);
            }
        }
    }
}

// === impl ByClient ===

impl Borrow<str> for ByClient {
    fn borrow(&self) -> &str {
        &self.0.client
    }
}

impl PartialEq for ByClient {
    fn eq(&self, other: &Self) -> bool {
        self.0.client == other.0.client
    }
}

impl Eq for ByClient {}

impl PartialOrd for ByClient {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ByClient {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.client.cmp(&other.0.client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn info(client: &str, user: &str) -> Arc<ClientInfo> {
        Arc::new(ClientInfo { client: client.into(), user: user.into(), ..Default::default() })
    }

    fn stats(set: &PresenceSet) -> (u32, u32) {
        let stats = set.stats();
        (stats.clients, stats.users)
    }

    #[test]
    fn users_are_counted_once_and_a_changed_user_moves() {
        let mut set = PresenceSet::default();
        set.add(info("a", "u"), secs(10), secs(0));
        set.add(info("b", "u"), secs(10), secs(0));
        assert_eq!(stats(&set), (2, 1));
        set.add(info("b", "v"), secs(10), secs(0));
        assert_eq!(stats(&set), (2, 2));
        set.remove("a");
        set.remove("a");
        assert_eq!(stats(&set), (1, 1));
    }

    #[test]
    fn a_refreshed_entry_lives_on_and_the_others_end_exactly_at_their_time() {
        let mut set = PresenceSet::default();
        set.add(info("a", "u"), secs(10), secs(0));
        set.add(info("b", "u"), secs(10), secs(0));
        set.add(info("a", "u"), secs(10), secs(5));
        set.expire(Duration::from_nanos(9_999_999_999), usize::MAX);
        assert_eq!(set.all().len(), 2);
        set.expire(secs(10), usize::MAX);
        assert_eq!(set.all(), [info("a", "u")]);
        set.expire(secs(15), usize::MAX);
        assert!(set.is_empty() && set.deadline().is_none());
        assert_eq!(stats(&set), (0, 0));
    }

    #[test]
    fn a_shorter_ttl_counts() {
        let mut set = PresenceSet::default();
        set.add(info("a", "u"), secs(10), secs(0));
        set.add(info("a", "u"), secs(1), secs(0));
        set.expire(secs(1), usize::MAX);
        assert!(set.is_empty());
    }

    #[test]
    fn work_is_bounded() {
        let mut set = PresenceSet::default();
        for n in 0..10 {
            set.add(info(&n.to_string(), "u"), secs(1), secs(0));
        }
        assert_eq!(set.expire(secs(1), 4), 0);
        assert_eq!(stats(&set), (6, 1));
        assert_eq!(set.expire(secs(1), 10), 4);
        assert!(set.is_empty());
    }
}
