//! What was found.

use std::fmt;
use std::sync::Arc;

use crate::PayloadId;

/// Violations kept with their details; the counts go on.
pub const VIOLATIONS_MAX: usize = 100;

/// What is wrong with a delivery, or with a missing one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Never arrived, and the client was not told (D1, D2). Counted by publication.
    Lost,
    /// Arrived twice, or stands twice in one stream (D1, D5).
    Duplicated,
    /// Arrived in another order than the stream's, another subscriber's or its publisher's (D3).
    Reordered,
    /// A payload that nobody published, or that cannot be read.
    Corrupted,
    /// Of another channel, for others only, or to somebody who is not subscribed.
    WrongRecipient,
    /// `recovered` was claimed although something was missing (D2). Counted by publication missing.
    WronglyRecovered,
}

/// One thing that must not happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What kind of thing.
    pub kind: Kind,
    /// In which channel.
    pub channel: Arc<str>,
    /// To whom; `None` if the stream itself is wrong.
    pub subscriber: Option<u32>,
    /// In which epoch, `""` if none.
    pub epoch: Arc<str>,
    /// Where: the first one missing, the one too many. 0 without offsets.
    pub offset: u64,
    /// Which publication, if that is known.
    pub id: Option<PayloadId>,
    /// How many publications this is about.
    pub publications: u64,
    /// In words.
    pub why: &'static str,
}

/// Losses that the client was told of: lawful, but worth knowing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Told {
    /// Subscriptions that went on elsewhere than where they had stopped, and said so.
    pub resets: u64,
    /// Publications passed over by resets within one epoch; across epochs nobody can count.
    pub publications: u64,
    /// Unsubscribes that ask the client to subscribe again (2500 and above).
    pub unsubscribed: u64,
    /// Ends of connections.
    pub disconnected: u64,
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Publications sent.
    pub published: u64,
    /// Publications acknowledged.
    pub acknowledged: u64,
    /// Subscriptions judged.
    pub subscriptions: u64,
    /// Publications that arrived, all subscriptions together.
    pub deliveries: u64,
    /// Recoveries that succeeded, rightly or not.
    pub recoveries: u64,
    /// What the clients were told.
    pub told: Told,
    /// Publications that a filtered subscription did not get and that nobody else can tell anything about.
    pub unjudged: u64,
    counts: [u64; Kind::ALL.len()],
    violations: Vec<Violation>,
}

// === impl Kind ===

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Lost,
        Self::Duplicated,
        Self::Reordered,
        Self::Corrupted,
        Self::WrongRecipient,
        Self::WronglyRecovered,
    ];
}

// === impl Report ===

impl Report {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.counts.iter().all(|count| *count == 0)
    }

    /// How many publications suffered this.
    pub fn count(&self, kind: Kind) -> u64 {
        self.counts[kind as usize]
    }

    /// The first violations, at most [`VIOLATIONS_MAX`].
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Adds another part of the same run, whose channels are others.
    pub fn merge(&mut self, other: Self) {
        self.published += other.published;
        self.acknowledged += other.acknowledged;
        self.subscriptions += other.subscriptions;
        self.deliveries += other.deliveries;
        self.recoveries += other.recoveries;
        self.told.resets += other.told.resets;
        self.told.publications += other.told.publications;
        self.told.unsubscribed += other.told.unsubscribed;
        self.told.disconnected += other.told.disconnected;
        self.unjudged += other.unjudged;
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        let room = VIOLATIONS_MAX - self.violations.len();
        self.violations.extend(other.violations.into_iter().take(room));
    }

    pub(crate) fn violation(&mut self, violation: Violation) {
        self.counts[violation.kind as usize] += violation.publications;
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(violation);
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} published, {} acknowledged", self.published, self.acknowledged)?;
        writeln!(f, "{} deliveries to {} subscriptions", self.deliveries, self.subscriptions)?;
        let Told { resets, publications, unsubscribed, disconnected } = self.told;
        writeln!(
            f,
            "{disconnected} disconnects, {unsubscribed} unsubscribes, {} recoveries",
            self.recoveries
        )?;
        writeln!(f, "{resets} resets told, passing over {publications} publications")?;
        for kind in Kind::ALL {
            writeln!(f, "{kind}: {}", self.count(kind))?;
        }
        self.violations.iter().try_for_each(|violation| writeln!(f, "  {violation}"))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost",
            Self::Duplicated => "duplicated",
            Self::Reordered => "reordered",
            Self::Corrupted => "corrupted",
            Self::WrongRecipient => "wrong recipient",
            Self::WronglyRecovered => "wrongly recovered",
        })
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, channel, epoch, offset, publications, why, .. } = self;
        write!(f, "{kind}: {why}; channel {channel:?}, offset {offset} of epoch {epoch:?}")?;
        if let Some(subscriber) = self.subscriber {
            write!(f, ", subscriber {subscriber}")?;
        }
        if let Some(id) = self.id {
            write!(f, ", payload {id}")?;
        }
        if *publications > 1 {
            write!(f, ", {publications} publications")?;
        }
        Ok(())
    }
}
