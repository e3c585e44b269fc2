//! A whole run: ledger, judges and report in one.

use crate::judge::SubscriptionJudge;
use crate::ledger::{Audience, ChannelKey, Ledger};
use crate::report::Report;
use crate::{Event, Mode, PayloadId, Position};

/// Stands for a subscription of a [`Checker`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SubscriptionKey(u32);

/// Judges a run while it goes on. Order matters only where it did in the run: a publication is noted before it is
/// sent, and each subscription's events come in the order its client saw them. Channels are independent, so a large
/// run can be split by channel and the reports merged.
#[derive(Debug, Default)]
pub struct Checker {
    ledger: Ledger,
    judges: Vec<(ChannelKey, SubscriptionJudge)>,
    report: Report,
}

// === impl Checker ===

impl Checker {
    /// A run in which nothing has happened.
    pub fn new() -> Self {
        Self::default()
    }

    /// The key of a channel.
    pub fn channel(&mut self, name: &str) -> ChannelKey {
        self.ledger.channel(name)
    }

    /// Notes a publish before it is sent.
    pub fn published(&mut self, channel: ChannelKey, id: PayloadId, audience: Audience) {
        self.ledger.published(channel, id, audience, &mut self.report);
    }

    /// Notes that a publish was answered, with its place if it has one. One that is never answered may or may not have
    /// happened.
    pub fn acknowledged(&mut self, channel: ChannelKey, id: PayloadId, position: Option<Position>) {
        self.ledger.acknowledged(channel, id, position, &mut self.report);
    }

    /// Starts judging a subscription. `subscriber` is the number that audiences know it by.
    pub fn subscription(&mut self, channel: ChannelKey, subscriber: u32, mode: Mode) -> SubscriptionKey {
        self.judges.push((channel, SubscriptionJudge::new(channel, subscriber, mode)));
        SubscriptionKey((self.judges.len() - 1) as u32)
    }

    /// Judges the next event of a subscription.
    pub fn observe(&mut self, subscription: SubscriptionKey, event: Event) {
        let (_, judge) = &mut self.judges[subscription.0 as usize];
        judge.observe(event, &mut self.ledger, &mut self.report);
    }

    /// What was found so far.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Judges the end. `heads`: where the streams end, read once everything had come to rest.
    pub fn finish(mut self, heads: impl IntoIterator<Item = (ChannelKey, Position)>) -> Report {
        let heads: std::collections::HashMap<_, _> = heads.into_iter().collect();
        for (channel, judge) in self.judges {
            judge.finish(heads.get(&channel), &mut self.ledger, &mut self.report);
        }
        self.report
    }
}
