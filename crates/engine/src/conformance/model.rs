//! An engine in its most obvious form: one channel, lists, and a time that is told. No announcements, no locks.
//!
//! Epochs are numbered lives here; who compares a real engine with it keeps book of which epoch is which life.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::{HistoryFilter, HistoryRetention, Suppressed};

/// How long an idempotency key answers for its publish.
pub const IDEMPOTENCY_WINDOW: Duration = Duration::from_secs(300);

/// A place in one life of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// Which life.
    pub life: u64,
    /// Where in it.
    pub offset: u64,
}

/// What of a publication matters to the model.
#[derive(Debug, Clone, Default)]
pub struct Publish {
    /// Stands for the payload.
    pub id: u64,
    /// As [`crate::NewPublication`] has them.
    pub retention: Option<HistoryRetention>,
    /// Empty: none.
    pub key: String,
    /// 0: none.
    pub version: u64,
    /// The life of the version counter.
    pub version_epoch: String,
}

/// What a publish answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// As [`crate::Published`].
    pub place: Option<Place>,
    /// As [`crate::Published`].
    pub suppressed: Option<Suppressed>,
}

/// One channel.
#[derive(Debug, Default)]
pub struct Model {
    now: Duration,
    lives: u64,
    stream: Option<Stream>,
    keys: BTreeMap<String, (Duration, Option<Place>)>,
    present: BTreeMap<String, (Duration, String)>,
}

#[derive(Debug)]
struct Stream {
    life: u64,
    top: u64,
    version: (u64, String),
    kept: Vec<(u64, u64)>,
    kept_until: Duration,
    until: Duration,
}

// === impl Model ===

impl Model {
    /// Lets time pass; whatever ends now is gone.
    pub fn advance(&mut self, by: Duration) {
        self.now += by;
        self.expire();
    }

    /// Publishes.
    pub fn publish(&mut self, new: &Publish) -> Outcome {
        if let Some((_, place)) = self.keys.get(&new.key) {
            return Outcome { place: *place, suppressed: Some(Suppressed::Idempotency) };
        }
        let outcome = match new.retention {
            Some(retention) => self.append(new, retention),
            None => Outcome { place: None, suppressed: None },
        };
        if !new.key.is_empty() {
            self.keys.insert(new.key.clone(), (self.now + IDEMPOTENCY_WINDOW, outcome.place));
        }
        self.expire();
        outcome
    }

    /// Offset and id of what the filter asks for, and the top.
    pub fn history(&mut self, filter: &HistoryFilter, meta_ttl: Duration) -> (Vec<(u64, u64)>, Place) {
        let stream = self.used(meta_ttl);
        let mut found = stream.kept.clone();
        if filter.reverse {
            found.reverse();
            found.retain(|(offset, _)| filter.since.is_none_or(|since| *offset < since));
        } else {
            found.retain(|(offset, _)| filter.since.is_none_or(|since| *offset > since));
        }
        found.truncate(filter.limit.unwrap_or(usize::MAX));
        let place = stream.place();
        self.expire();
        (found, place)
    }

    /// Deletes what is kept.
    pub fn remove_history(&mut self) {
        if let Some(stream) = &mut self.stream {
            stream.kept.clear();
        }
    }

    /// Adds or replaces a client.
    pub fn enter(&mut self, client: &str, user: &str, ttl: Duration) {
        self.present.insert(client.to_owned(), (self.now + ttl, user.to_owned()));
        self.expire();
    }

    /// Removes a client.
    pub fn leave(&mut self, client: &str) {
        self.present.remove(client);
    }

    /// Clients and their users.
    pub fn present(&self) -> Vec<(String, String)> {
        self.present.iter().map(|(client, (_, user))| (client.clone(), user.clone())).collect()
    }

    fn append(&mut self, new: &Publish, retention: HistoryRetention) -> Outcome {
        let now = self.now;
        let stream = self.used(retention.meta_ttl);
        let (version, version_epoch) = &stream.version;
        let same_life = new.version_epoch.is_empty() || new.version_epoch == *version_epoch;
        if new.version > 0 && new.version <= *version && same_life {
            return Outcome { place: Some(stream.place()), suppressed: Some(Suppressed::Version) };
        }
        if new.version > 0 {
            stream.version = (new.version, new.version_epoch.clone());
        }
        stream.top += 1;
        stream.kept.push((stream.top, new.id));
        while stream.kept.len() > retention.size {
            stream.kept.remove(0);
        }
        let place = stream.place();
        stream.kept_until = now + retention.ttl;
        stream.prolong(now, retention.meta_ttl);
        Outcome { place: Some(place), suppressed: None }
    }

    /// The stream, a new one if there is none, with its life prolonged.
    fn used(&mut self, meta_ttl: Duration) -> &mut Stream {
        if self.stream.is_none() {
            self.lives += 1;
        }
        let life = self.lives;
        let stream = self.stream.get_or_insert_with(|| Stream {
            life,
            top: 0,
            version: (0, String::new()),
            kept: Vec::new(),
            kept_until: Duration::ZERO,
            until: Duration::ZERO,
        });
        stream.prolong(self.now, meta_ttl);
        stream
    }

    fn expire(&mut self) {
        let now = self.now;
        self.keys.retain(|_, (until, _)| *until > now);
        self.present.retain(|_, (until, _)| *until > now);
        if let Some(stream) = &mut self.stream {
            if stream.kept_until <= now {
                stream.kept.clear();
            }
            if stream.until <= now {
                self.stream = None;
            }
        }
    }
}

// === impl Stream ===

impl Stream {
    fn place(&self) -> Place {
        Place { life: self.life, offset: self.top }
    }

    fn prolong(&mut self, now: Duration, meta_ttl: Duration) {
        let kept_until = if self.kept.is_empty() { now } else { self.kept_until };
        self.until = kept_until.max(now + meta_ttl);
    }
}
