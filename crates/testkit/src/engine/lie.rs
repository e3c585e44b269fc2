//! Deliberate bugs, outside the contract of an engine: each must be noticed by the checks of a world.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidewire_engine::History;
use tidewire_protocol::{ChannelName, Epoch};

use super::relay::Word;
use crate::draw::Draw;

/// A deliberate bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Now and then an announcement is left out, although none may get lost.
    DropsSilently,
    /// A history read does not show the newest publication, and says that the one before is the newest.
    HidesNewest,
    /// A new stream goes by the epoch of the old one.
    KeepsEpoch,
    /// Two announcements change places.
    Reorders,
    /// A history read leaves out a publication in the middle.
    LeavesHoles,
    /// An announcement carries something else than was published.
    Alters,
    /// A publication is announced twice.
    Repeats,
    /// Who has left stays present.
    KeepsPresence,
    /// A call is never answered, though nothing else is wrong.
    NeverAnswers,
    /// A copy that takes over passes for the server it succeeds, so that no epoch changes.
    KeepsReplicationId,
    /// An idempotency key is not looked at.
    ForgetsKeys,
    /// Announcements that got lost are not told, and positions not checked.
    LosesUntold,
    /// What nodes have missed is not read.
    NeverRepairs,
    /// Presence of dead nodes does not run out.
    DeadStayPresent,
    /// Now and then a publication is announced and not kept.
    AnnouncesOnly,
    /// History is read from a copy that gets nothing new.
    ReadsStale,
    /// No message from node to node arrives.
    DropsMessages,
}

/// Tells the lie of a world, if it has one.
pub(super) struct Liar {
    lie: Option<Lie>,
    draw: Mutex<Draw>,
}

impl Liar {
    pub(super) fn new(lie: Option<Lie>, draw: Draw) -> Self {
        Self { lie, draw: Mutex::new(draw) }
    }

    fn tells(&self, lie: Lie, chance: f64) -> bool {
        self.lie == Some(lie) && self.draw.lock().chance(chance)
    }

    pub(super) fn never_answers(&self) -> bool {
        self.tells(Lie::NeverAnswers, 0.01)
    }

    pub(super) fn keeps_presence(&self) -> bool {
        self.tells(Lie::KeepsPresence, 0.3)
    }

    pub(super) fn presence_ttl(&self, ttl: Duration) -> Duration {
        match self.lie {
            Some(Lie::KeepsPresence) => ttl * 1_000,
            _ => ttl,
        }
    }

    pub(super) fn epoch(&self, channel: &ChannelName, epoch: &mut Epoch) {
        if self.lie == Some(Lie::KeepsEpoch) && !epoch.is_empty() {
            *epoch = format!("e{channel}").into();
        }
    }

    pub(super) fn history(&self, channel: &ChannelName, history: &mut History) {
        self.epoch(channel, &mut history.top.epoch);
        if history.top.offset > 1 && self.tells(Lie::HidesNewest, 0.3) {
            let hidden = history.top.offset;
            history.top.offset -= 1;
            history.publications.retain(|publication| publication.offset != hidden);
        }
        if history.publications.len() > 2 && self.tells(Lie::LeavesHoles, 0.3) {
            history.publications.remove(1);
        }
    }

    /// What is announced instead of `word`. `held` keeps one back.
    pub(super) fn announcement(
        &self,
        channel: &ChannelName,
        word: Word,
        held: &mut Option<Word>,
    ) -> Vec<Word> {
        let Word::Publication(publication, epoch, previous) = word else {
            return vec![word];
        };
        let epoch = epoch.map(|mut epoch| {
            self.epoch(channel, &mut epoch);
            epoch
        });
        let mut publication = publication;
        if self.tells(Lie::Alters, 0.05) {
            let altered = Bytes::from_static(b"[999999999,0,0]");
            publication =
                Arc::new(tidewire_protocol::Publication { data: altered, ..(*publication).clone() });
        }
        let word = Word::Publication(publication, epoch, previous);
        if self.tells(Lie::DropsSilently, 0.05) {
            return Vec::new();
        }
        if self.tells(Lie::Repeats, 0.1) {
            return vec![word.clone(), word];
        }
        match held.take() {
            Some(earlier) => vec![word, earlier],
            None if self.tells(Lie::Reorders, 0.1) => {
                *held = Some(word);
                Vec::new()
            }
            None => vec![word],
        }
    }
}
