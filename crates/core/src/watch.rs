//! Whether this node has heard everything of a channel, and how it catches up when it has not.
//!
//! A watch knows how far the announcements of a channel have come. When one is missing, or may be, everything that comes
//! gathers here while the engine's history is read; then what was missing is handed out first. So a hole costs the node
//! one read, and its subscribers notice nothing. Where history does not reach back, they are told.
//!
//! Pure: the hub holds a channel's lock around every call, and hands out what comes back in that order.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tidewire_engine::{EngineError, History};
use tidewire_protocol::{ChannelName, Epoch, Publication, StreamPosition};

use crate::frame::{Broadcast, Event};
use crate::recovery;
use crate::time::{Millis, NEVER};

/// Most that gathers during one repair. Above it the channel counts as lost.
const GATHERED_BYTES_MAX: usize = 4 << 20;
/// How often a read that failed is tried again, and how long after.
const FAILURES_MAX: u32 = 5;
const RETRY_MS: Millis = 1_000;
/// After this a read counts as failed, whatever becomes of it.
const READ_MS_MAX: Millis = 10_000;

/// What is known of a channel that someone follows by position.
pub(crate) struct Watch {
    /// Every follower has, or is on the way to getting, everything up to here.
    known: StreamPosition,
    /// The newest offset announced in this epoch; 0: none yet. What comes again at or below it is a repetition.
    announced: u64,
    /// When `known` was last found to be true.
    confirmed_at: Millis,
    meta_ttl: Duration,
    repair: Option<Box<Repair>>,
    /// Reads begun so far, so that the answer of one that was given up is not taken for that of another.
    reads: u32,
}

struct Repair {
    gathered: Vec<Arc<Broadcast>>,
    gathered_bytes: usize,
    overflowed: bool,
    failures: u32,
    /// When the read under way is given up, or the next one begins.
    read_again_at: Millis,
    /// Doubts came up after the read began, so it may not have seen what is missing.
    doubted: bool,
    /// The read before brought nothing, and the hole was there when this one began.
    fruitless: bool,
}

/// What is to be done with an announcement.
#[derive(Debug)]
pub(crate) enum Heard {
    /// Handed out.
    Pass(Arc<Broadcast>),
    /// Nothing: known already, or kept until the repair is done.
    Taken,
    /// It was kept, and a repair of this channel must begin.
    Gap(ChannelName),
}

/// A read that a repair needs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Read {
    number: u32,
    /// Everything after this.
    pub(crate) since: StreamPosition,
    pub(crate) meta_ttl: Duration,
}

/// What came of a repair's read.
#[derive(Debug)]
pub(crate) struct Repaired {
    /// To be handed out, in this order.
    pub(crate) broadcasts: Vec<Arc<Broadcast>>,
    /// Publications that had been missing among them.
    pub(crate) found: usize,
    /// Before them: followers by position must be told that they have missed something.
    pub(crate) lost: bool,
    /// Another read is needed at once.
    pub(crate) again: bool,
}

/// What a channel was announced and handed out before anybody followed it by position: the newest part without a hole.
///
/// Who joins has a position from a read, and may be behind this: the rest waits in its worker's inbox.
#[derive(Debug, Default)]
pub(crate) struct Passed {
    epoch: Epoch,
    first: u64,
    last: u64,
}

// === impl Passed ===

impl Passed {
    /// An event is handed out.
    pub(crate) fn note(&mut self, broadcast: &Broadcast) {
        let offset = broadcast.offset();
        let same = broadcast.epoch == self.epoch;
        if same && offset == self.last + 1 {
            self.last = offset;
        } else if offset > 0 && !(same && (self.first..=self.last).contains(&offset)) {
            *self = Self { epoch: broadcast.epoch.clone(), first: offset, last: offset };
        }
    }

    /// The last offset that somebody at this position has, or is on the way to getting; 0 if nothing here tells.
    fn leads_on_from(&self, position: &StreamPosition) -> u64 {
        let joins = self.epoch == position.epoch && self.first <= position.offset + 1;
        if joins { self.last } else { 0 }
    }
}

// === impl Watch ===

impl Watch {
    /// The first follower has joined at a position, behind what has `passed` perhaps.
    pub(crate) fn new(
        position: StreamPosition,
        passed: Option<&Passed>,
        meta_ttl: Duration,
        now: Millis,
    ) -> Self {
        let announced = passed.map_or(0, |passed| passed.leads_on_from(&position));
        let known = StreamPosition { offset: position.offset.max(announced), ..position };
        Self { known, announced, confirmed_at: now, meta_ttl, repair: None, reads: 0 }
    }

    /// Takes an event of the channel.
    pub(crate) fn hear(&mut self, broadcast: Arc<Broadcast>, now: Millis) -> Heard {
        if let Some(repair) = &mut self.repair {
            repair.keep(broadcast);
            return Heard::Taken;
        }
        if self.is_hole(&broadcast) {
            let channel = broadcast.channel.clone();
            let mut repair = Repair::default();
            repair.keep(broadcast);
            self.repair = Some(Box::new(repair));
            return Heard::Gap(channel);
        }
        if !self.note(&broadcast) {
            return Heard::Taken;
        }
        if broadcast.offset() > 0 {
            self.confirmed_at = now;
        }
        Heard::Pass(broadcast)
    }

    /// Something may be missing; whether a repair must begin, since none is under way.
    pub(crate) fn doubt(&mut self) -> bool {
        let under_way = self.repair.is_some();
        self.repair.get_or_insert_default().doubted = under_way;
        !under_way
    }

    /// Whether it is time to begin a read: nothing has confirmed the position for `delay` (0: never), a read failed a
    /// while ago, or one does not end. Asks for the same one once.
    pub(crate) fn take_due(&mut self, now: Millis, delay: Millis) -> bool {
        match &mut self.repair {
            Some(repair) if now >= repair.read_again_at => repair.read_again_at = NEVER,
            None if delay > 0 && now >= self.confirmed_at.saturating_add(delay) => self.confirmed_at = now,
            _ => return false,
        }
        true
    }

    /// Begins a read.
    pub(crate) fn read(&mut self, now: Millis) -> Read {
        self.repair.get_or_insert_default().read_again_at = now + READ_MS_MAX;
        self.reads = self.reads.wrapping_add(1);
        Read { number: self.reads, since: self.known.clone(), meta_ttl: self.meta_ttl }
    }
}

// === impl Watch: the end of a read ===

impl Watch {
    /// Takes what was read. `None` if nobody waits for it any more.
    pub(crate) fn repaired(
        &mut self,
        channel: &ChannelName,
        read: &Read,
        history: Result<History, EngineError>,
        now: Millis,
    ) -> Option<Repaired> {
        if read.number != self.reads || read.since != self.known {
            return None;
        }
        let mut repair = self.repair.take()?;
        let history = match history {
            Ok(history) => Some(history),
            Err(_) if repair.failures < FAILURES_MAX => {
                repair.failures += 1;
                repair.read_again_at = now + RETRY_MS;
                self.repair = Some(repair);
                return None;
            }
            Err(_) => None,
        };
        self.confirmed_at = now;
        Some(match history {
            Some(history) if !repair.overflowed && recovery::continues(&self.known, &history) => {
                self.catch_up(channel, *repair, history)
            }
            Some(history) => self.start_over(*repair, history.top),
            None => self.start_over(*repair, self.known.clone()),
        })
    }

    /// What was missing cannot be had: followers are told, and whatever came is handed out.
    fn start_over(&mut self, mut repair: Repair, top: StreamPosition) -> Repaired {
        if top.epoch != self.known.epoch || top.offset < self.known.offset {
            self.announced = 0;
        }
        self.known = top;
        repair.gathered.retain(|broadcast| self.note(broadcast));
        Repaired { broadcasts: repair.gathered, found: 0, lost: true, again: false }
    }

    /// First what was missing, then what has gathered; the rest of that waits for another read if there is one more hole.
    fn catch_up(&mut self, channel: &ChannelName, repair: Repair, history: History) -> Repaired {
        let (before, top) = (self.known.offset, history.top.clone());
        let heard: BTreeSet<u64> = repair.gathered.iter().map(|broadcast| broadcast.offset()).collect();
        let mut broadcasts = missing(channel, &self.known, history);
        let found = broadcasts.iter().filter(|broadcast| !heard.contains(&broadcast.offset())).count();
        if let Some(last) = broadcasts.last() {
            self.known.offset = last.offset();
            self.announced = last.offset();
        }
        let mut gathered = repair.gathered.into_iter().peekable();
        while let Some(next) = gathered.next_if(|next| !self.is_hole(next)) {
            if self.note(&next) {
                broadcasts.push(next);
            }
        }
        let fruitless = gathered.peek().is_some() && self.known.offset == before;
        if fruitless && repair.fruitless {
            // An engine does not have what it has announced, and reading on and on would not change that.
            broadcasts.extend(gathered);
            return self.start_over(Repair { gathered: broadcasts, ..Repair::default() }, top);
        }
        // However often that happens, each read but one brings followers on.
        let again = gathered.peek().is_some() || repair.doubted;
        if again {
            let mut next = Repair { fruitless, ..Repair::default() };
            gathered.for_each(|broadcast| next.keep(broadcast));
            self.repair = Some(Box::new(next));
        }
        Repaired { broadcasts, found, lost: false, again }
    }

    fn is_hole(&self, broadcast: &Broadcast) -> bool {
        broadcast.epoch == self.known.epoch && broadcast.offset() > self.known.offset + 1
    }

    /// Moves on past an event that is about to be handed out; false if it has been already.
    fn note(&mut self, broadcast: &Broadcast) -> bool {
        let offset = broadcast.offset();
        if offset == 0 {
            return true;
        }
        if broadcast.epoch != self.known.epoch {
            // A new life of the stream: followers see that by themselves.
            self.known = StreamPosition { offset, epoch: broadcast.epoch.clone() };
        } else if offset <= self.announced {
            return false;
        }
        self.announced = offset;
        self.known.offset = self.known.offset.max(offset);
        true
    }
}

/// What was read as events, each with the one before it as the base of a delta.
fn missing(channel: &ChannelName, known: &StreamPosition, history: History) -> Vec<Arc<Broadcast>> {
    let mut previous: Option<Arc<Publication>> = None;
    let publications =
        history.publications.into_iter().filter(|publication| publication.offset > known.offset);
    publications
        .map(|publication| {
            let event = Event::Publication(Arc::clone(&publication));
            let broadcast = Broadcast::new(channel.clone(), event, known.epoch.clone()).caught_up();
            Arc::new(broadcast.with_previous(previous.replace(publication)))
        })
        .collect()
}

// === impl Repair ===

impl Default for Repair {
    fn default() -> Self {
        Self {
            gathered: Vec::new(),
            gathered_bytes: 0,
            overflowed: false,
            failures: 0,
            read_again_at: NEVER,
            doubted: false,
            fruitless: false,
        }
    }
}

impl Repair {
    fn keep(&mut self, broadcast: Arc<Broadcast>) {
        self.gathered_bytes += broadcast.weight();
        if self.gathered_bytes > GATHERED_BYTES_MAX {
            self.overflowed = true;
            self.gathered.clear();
        } else {
            self.gathered.push(broadcast);
        }
    }
}

#[cfg(test)]
mod tests;
