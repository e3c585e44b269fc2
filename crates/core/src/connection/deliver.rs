//! Live events on their way to one connection. The hot path: no allocation beyond the outbox's own.

use std::sync::Arc;

use super::subscriptions::SubStage;
use super::{Connection, Turn};
use crate::delta::DeltaState;
use crate::frame::{Broadcast, Event, Form};
use crate::metrics::Metrics;
use crate::recovery::{self, Step};
use crate::task::SubKey;

/// Most that is kept for a subscriber while the engine is asked for its history. Shared with other subscribers of the
/// channel, so the worst case is per channel rather than per connection.
const GATHERED_BYTES_MAX: usize = 4 << 20;

/// What became of an event at one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// In the outbox.
    Queued,
    /// Not for this subscriber, or kept until it is live.
    Skipped,
    /// The subscriber missed something before it.
    Insufficient(SubKey),
    /// It cannot be written in this connection's encoding.
    Unencodable,
}

impl Connection {
    /// Hands an event to one subscription. `late`: it took longer than `client.channel_position_max_time_lag`.
    pub(crate) fn deliver(
        &mut self,
        sub: u32,
        broadcast: &Arc<Broadcast>,
        late: bool,
        metrics: &Metrics,
    ) -> Delivery {
        let index = sub;
        let Some(sub) = self.subs.at(sub) else {
            return Delivery::Skipped;
        };
        match &mut sub.stage {
            SubStage::Live { .. } => {}
            SubStage::Joining { gathered, gathered_bytes, attempt, .. } => {
                *gathered_bytes += broadcast.weight();
                if *gathered_bytes > GATHERED_BYTES_MAX {
                    attempt.overflowed = true;
                    gathered.clear();
                } else {
                    gathered.push(Arc::clone(broadcast));
                }
                return Delivery::Skipped;
            }
            _ => return Delivery::Skipped,
        }
        match &broadcast.event {
            Event::Join(_) | Event::Leave(_) if !sub.features.push_join_leave => return Delivery::Skipped,
            Event::Publication(_) if sub.features.positioned && broadcast.offset() > 0 => {
                let step = if late {
                    Step::Insufficient
                } else {
                    recovery::advance(&mut sub.position, broadcast.offset(), &broadcast.epoch)
                };
                match step {
                    Step::Deliver => {}
                    Step::Drop => return Delivery::Skipped,
                    Step::Insufficient => {
                        return Delivery::Insufficient(SubKey { index, attempt: sub.attempt });
                    }
                }
            }
            _ => {}
        }
        let form = match (&broadcast.event, sub.delta) {
            (Event::Publication(_), DeltaState::NoBase) => {
                sub.delta = DeltaState::HasBase;
                Form::Whole
            }
            (Event::Publication(_), DeltaState::HasBase) => Form::Patch,
            _ => Form::Plain,
        };
        match broadcast.frame(&self.wire, form, metrics) {
            Some(frame) => {
                self.outbox.push(frame);
                Delivery::Queued
            }
            None => Delivery::Unencodable,
        }
    }

    /// A publication showed that an earlier one is missing.
    pub(crate) fn missed(&mut self, key: SubKey, turn: &mut Turn<'_>) {
        self.insufficient_state(key, turn);
    }

    /// Announcements of a channel may have been lost: who is positioned must start over.
    pub(crate) fn lost(&mut self, sub: u32, turn: &mut Turn<'_>) {
        let Some(subscription) = self.subs.at(sub) else {
            return;
        };
        let key = SubKey { index: sub, attempt: subscription.attempt };
        // What gathers for one that is joining has a hole now, perhaps at its end, where no later offset shows it.
        if let SubStage::Joining { attempt, .. } = &mut subscription.stage {
            attempt.overflowed = true;
        }
        if subscription.features.positioned && subscription.is_live() {
            self.insufficient_state(key, turn);
        }
    }
}
