//! One channel's stream: its newest publications, its position, and when each of them runs out.
//!
//! Pure: takes `now`, locks nothing. Every change of state is one of `append`, `touch`, `clear`, `expire`, so a store
//! underneath has four records to write.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tidewire_engine::{HistoryFilter, HistoryRetention};
use tidewire_protocol::{Epoch, Publication, StreamPosition};

/// The stream of one channel within one epoch.
///
/// The publications kept are always the newest, without a hole: the last one has offset `top`. They never outlive the
/// position. Times are monotonic; what runs out at `t` is gone at exactly `t`.
#[derive(Debug)]
pub struct Stream {
    epoch: Epoch,
    top: u64,
    version: u64,
    version_epoch: Box<str>,
    publications: VecDeque<Arc<Publication>>,
    publications_end: Duration,
    end: Duration,
}

/// What [`Stream::append`] did.
#[derive(Debug)]
pub struct Appended {
    /// The publication with its offset.
    pub publication: Arc<Publication>,
    /// The one before it, if it was still kept.
    pub previous: Option<Arc<Publication>>,
}

// === impl Stream ===

impl Stream {
    /// An unused stream at offset 0, to live for `meta_ttl`.
    pub fn new(epoch: Epoch, meta_ttl: Duration, now: Duration) -> Self {
        Self {
            epoch,
            top: 0,
            version: 0,
            version_epoch: Box::default(),
            publications: VecDeque::new(),
            publications_end: now,
            end: now.saturating_add(meta_ttl),
        }
    }

    /// The newest position.
    pub fn position(&self) -> StreamPosition {
        StreamPosition { offset: self.top, epoch: self.epoch.clone() }
    }

    /// The name of this life of the stream.
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// Whether a publication of this version is not newer than what was published. Version 0 always is.
    pub fn suppresses(&self, version: u64, version_epoch: &str) -> bool {
        let same_life = version_epoch.is_empty() || version_epoch == &*self.version_epoch;
        version > 0 && version <= self.version && same_life
    }

    /// Gives the publication the next offset, keeps it, lets go of what is too much, and prolongs the life of all.
    /// A version above 0 becomes the stored one, together with its `version_epoch`.
    pub fn append(
        &mut self,
        mut publication: Publication,
        version_epoch: &str,
        retention: &HistoryRetention,
        now: Duration,
    ) -> Appended {
        self.top += 1;
        publication.offset = self.top;
        if publication.version > 0 {
            self.version = publication.version;
            if version_epoch != &*self.version_epoch {
                self.version_epoch = version_epoch.into();
            }
        }
        let publication = Arc::new(publication);
        let previous = self.publications.back().cloned();
        self.publications.push_back(publication.clone());
        self.publications_end = now.saturating_add(retention.ttl);
        self.trim(retention.size);
        self.touch(retention.meta_ttl, now);
        Appended { publication, previous }
    }

    /// Starts the life of the position anew. A shorter `meta_ttl` than before counts, but never ends the position
    /// before the publications.
    pub fn touch(&mut self, meta_ttl: Duration, now: Duration) {
        let end = now.saturating_add(meta_ttl);
        self.end = if self.publications.is_empty() { end } else { end.max(self.publications_end) };
    }

    /// What the filter asks for. Costs the number of publications returned.
    pub fn read(&self, filter: &HistoryFilter) -> Vec<Arc<Publication>> {
        let kept = self.publications.len();
        let oldest = self.oldest();
        let limit = filter.limit.unwrap_or(usize::MAX);
        // How many of the kept ones have an offset below `bound`.
        let before =
            |bound: u64| usize::try_from(bound.saturating_sub(oldest)).unwrap_or(usize::MAX).min(kept);
        if filter.reverse {
            let end = filter.since.map_or(kept, before);
            self.publications.range(..end).rev().take(limit).cloned().collect()
        } else {
            let start = filter.since.map_or(0, |since| before(since.saturating_add(1)));
            self.publications.range(start..).take(limit).cloned().collect()
        }
    }

    /// Lets go of all publications; the position stays.
    pub fn clear(&mut self) {
        self.publications = VecDeque::new();
    }

    /// Lets go of what has run out. Returns `false` if that is everything: the stream's life is over.
    pub fn expire(&mut self, now: Duration) -> bool {
        if !self.publications.is_empty() && self.publications_end <= now {
            self.clear();
        }
        now < self.end
    }

    /// When [`Stream::expire`] next has something to do.
    pub fn deadline(&self) -> Duration {
        if self.publications.is_empty() { self.end } else { self.publications_end }
    }

    /// Lets go of the oldest publications above `size`, and of room that a larger stream needed once.
    fn trim(&mut self, size: usize) {
        let surplus = self.publications.len().saturating_sub(size);
        self.publications.drain(..surplus);
        if self.publications.capacity() / 4 > self.publications.len() {
            self.publications.shrink_to_fit();
        }
    }

    /// The offset of the oldest publication kept; the next offset if there is none.
    fn oldest(&self) -> u64 {
        self.top + 1 - self.publications.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP_3: HistoryRetention =
        HistoryRetention { size: 3, ttl: Duration::from_secs(10), meta_ttl: Duration::from_secs(100) };

    const fn secs(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn stream_of(count: u64) -> Stream {
        let mut stream = Stream::new(Epoch::from("e"), secs(100), secs(0));
        for _ in 0..count {
            stream.append(Publication::default(), "", &KEEP_3, secs(0));
        }
        stream
    }

    fn offsets(stream: &Stream, filter: HistoryFilter) -> Vec<u64> {
        stream.read(&filter).iter().map(|publication| publication.offset).collect()
    }

    #[test]
    fn the_newest_are_kept_and_offsets_have_no_hole() {
        let stream = stream_of(5);
        assert_eq!(offsets(&stream, HistoryFilter::default()), [3, 4, 5]);
        assert_eq!(stream.position().offset, 5);
    }

    #[test]
    fn filters_at_and_around_the_edges() {
        let stream = stream_of(5);
        let read = |since, reverse| offsets(&stream, HistoryFilter { since, limit: None, reverse });
        assert_eq!(read(Some(0), false), [3, 4, 5]);
        assert_eq!(read(Some(2), false), [3, 4, 5]);
        assert_eq!(read(Some(3), false), [4, 5]);
        assert_eq!(read(Some(5), false), [0; 0]);
        assert_eq!(read(Some(u64::MAX), false), [0; 0]);
        assert_eq!(read(None, true), [5, 4, 3]);
        assert_eq!(read(Some(0), true), [0; 0]);
        assert_eq!(read(Some(3), true), [0; 0]);
        assert_eq!(read(Some(4), true), [3]);
        assert_eq!(read(Some(u64::MAX), true), [5, 4, 3]);
        let limited = HistoryFilter { since: Some(2), limit: Some(1), reverse: false };
        assert_eq!(offsets(&stream, limited), [3]);
        assert_eq!(offsets(&stream, HistoryFilter { limit: Some(0), ..Default::default() }), [0; 0]);
    }

    #[test]
    fn publications_run_out_before_the_position() {
        let mut stream = stream_of(2);
        assert_eq!(stream.deadline(), secs(10));
        assert!(stream.expire(secs(10)));
        assert_eq!((stream.read(&HistoryFilter::default()).len(), stream.position().offset), (0, 2));
        assert_eq!(stream.deadline(), secs(100));
        assert!(stream.expire(Duration::from_nanos(99_999_999_999)));
        assert!(!stream.expire(secs(100)));
    }

    #[test]
    fn a_short_meta_ttl_does_not_end_the_position_before_the_publications() {
        let mut stream = stream_of(1);
        stream.touch(secs(1), secs(0));
        assert!(stream.expire(secs(9)));
        assert_eq!(stream.read(&HistoryFilter::default()).len(), 1);
        assert!(!stream.expire(secs(10)));
    }

    #[test]
    fn a_version_epoch_starts_the_versions_anew() {
        let mut stream = stream_of(0);
        stream.append(Publication { version: 5, ..Default::default() }, "a", &KEEP_3, secs(0));
        assert!(stream.suppresses(5, "a") && stream.suppresses(5, "") && stream.suppresses(1, "a"));
        assert!(!stream.suppresses(6, "a") && !stream.suppresses(1, "b") && !stream.suppresses(0, "a"));
    }

    #[test]
    fn the_previous_publication_is_known_even_if_only_one_is_kept() {
        let keep_1 = HistoryRetention { size: 1, ..KEEP_3 };
        let mut stream = stream_of(0);
        assert!(stream.append(Publication::default(), "", &keep_1, secs(0)).previous.is_none());
        let second = stream.append(Publication::default(), "", &keep_1, secs(0));
        assert_eq!(second.previous.map(|previous| previous.offset), Some(1));
        assert_eq!(offsets(&stream, HistoryFilter::default()), [2]);
    }
}
