//! What a connection does by itself: pings, expiry, presence refresh.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use tidewire_protocol::{Disconnect, Unsubscribed};

use super::{Connection, Stage, Turn};
use crate::hooks::{RefreshEvent, SubRefreshEvent};
use crate::task::{Answer, SubKey};
use crate::time::{Millis, NEVER, millis};

/// Pings are sent twice a second at the most, each time to all that are due.
const PING_STEP_MAX: Millis = 500;

/// How soon a refresh hook that failed is asked again.
pub(super) const RETRY: Duration = Duration::from_secs(60);

impl Connection {
    /// When something is due next.
    pub(crate) fn deadline(&self) -> Millis {
        let super::Deadlines { ping, pong, tend, stage, drain } = self.deadlines;
        ping.min(pong).min(tend).min(stage).min(drain).min(self.held_until())
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.ms();
        if now >= self.deadlines.drain {
            return self.close(Disconnect::SHUTDOWN, turn);
        }
        if now >= self.held_until() {
            return self.give_up_held(turn);
        }
        if now >= self.deadlines.stage {
            self.stage_over(turn);
        }
        if now >= self.deadlines.pong {
            self.pong_missing(turn);
        }
        if now >= self.deadlines.ping {
            self.ping(turn);
        }
        if now >= self.deadlines.tend {
            self.tend(turn);
        }
    }

    /// Closes with 3001 within `spread`.
    pub(crate) fn drain(&mut self, spread: Duration, turn: &mut Turn<'_>) {
        if self.is_closed() {
            return;
        }
        let wait = if spread.is_zero() { 0 } else { turn.rng.random_range(0..millis(spread).max(1)) };
        self.deadlines.drain = turn.now.ms() + wait;
    }

    fn stage_over(&mut self, turn: &mut Turn<'_>) {
        self.deadlines.stage = NEVER;
        match self.stage {
            // While the credentials are being judged the client is not to blame for the wait.
            Stage::Connecting(_) | Stage::Closed => {}
            Stage::Opened(_) => self.close(Disconnect::STALE, turn),
            Stage::Unusable => self.drop_silently(turn),
            Stage::Connected if self.identity.as_ref().is_some_and(|identity| identity.renewed_by_hook) => {
                self.ask_to_renew(turn);
            }
            Stage::Connected => self.close(Disconnect::EXPIRED, turn),
        }
    }

    /// Sets when the credentials must have been renewed.
    pub(super) fn arm_expiry(&mut self, turn: &Turn<'_>) {
        let options = &turn.node.options().client;
        let identity = self.identity.as_deref().filter(|identity| identity.expire_at > 0);
        self.deadlines.stage = match identity {
            None => NEVER,
            Some(identity) if identity.renewed_by_hook => turn.now.at_unix(identity.expire_at),
            Some(identity) => {
                turn.now.at_unix(identity.expire_at).saturating_add(millis(options.expired_close_delay))
            }
        };
    }

    fn ask_to_renew(&mut self, turn: &mut Turn<'_>) {
        let Some(hook) = turn.node.hooks().refresh.clone() else {
            return self.close(Disconnect::EXPIRED, turn);
        };
        let event = RefreshEvent { client: self.context() };
        self.spawn(turn, async move { Answer::Renewed(hook(event).await) });
    }

    /// The first ping comes at a random moment of the second half of the interval, to spread the load.
    pub(super) fn arm_ping(&mut self, interval: Duration, turn: &mut Turn<'_>) {
        if !interval.is_zero() {
            self.deadlines.ping = gathered(turn.now.ms() + spread_half(interval, turn), interval);
        }
    }

    fn ping(&mut self, turn: &mut Turn<'_>) {
        let options = &turn.node.options().client;
        let now = turn.now.ms();
        self.deadlines.ping = gathered(now + millis(options.ping_interval), options.ping_interval);
        if !options.pong_timeout.is_zero() {
            self.pings_unanswered = self.pings_unanswered.saturating_add(1);
            self.deadlines.pong = self.deadlines.pong.min(now + millis(options.pong_timeout));
        }
        self.outbox.push(self.wire.ping());
    }

    fn pong_missing(&mut self, turn: &mut Turn<'_>) {
        if self.intake.is_some() {
            // We have stopped reading, so a pong may well be waiting in the socket.
            self.deadlines.pong = turn.now.ms() + millis(turn.node.options().client.pong_timeout);
        } else {
            self.close(Disconnect::NO_PONG, turn);
        }
    }

    /// Begins the periodic tick if a subscription needs it.
    pub(super) fn arm_tending(&mut self, turn: &mut Turn<'_>) {
        if self.deadlines.tend == NEVER && self.subs.iter().any(|(_, sub)| sub.needs_tending()) {
            let interval = turn.node.options().client.presence_update_interval;
            self.deadlines.tend = turn.now.ms() + spread_half(interval, turn);
        }
    }

    fn tend(&mut self, turn: &mut Turn<'_>) {
        let options = &turn.node.options().client;
        let needy: Vec<SubKey> = self
            .subs
            .iter()
            .filter(|(_, sub)| sub.is_live() && !sub.busy && sub.needs_tending())
            .map(|(key, _)| key)
            .collect();
        let any = self.subs.iter().any(|(_, sub)| sub.needs_tending());
        let interval = millis(options.presence_update_interval);
        self.deadlines.tend = if any { turn.now.ms() + interval } else { NEVER };
        for key in needy {
            if !self.sub_expired(key, turn) {
                self.tend_one(key, turn);
            }
            if self.is_closed() {
                return;
            }
        }
    }

    /// Handles a subscription whose time is over; whether there was anything to handle.
    fn sub_expired(&mut self, key: SubKey, turn: &mut Turn<'_>) -> bool {
        let now_s = turn.now.unix_s();
        let context = self.context();
        let Some(sub) = self.subs.of(key).filter(|sub| sub.expire_at > 0) else {
            return false;
        };
        if sub.rules.sub_refresh_proxy_enabled && turn.node.hooks().sub_refresh.is_some() {
            if now_s < sub.expire_at {
                return false;
            }
            sub.busy = true;
            let event = SubRefreshEvent { client: context, channel: sub.channel.clone() };
            if let Some(hook) = turn.node.hooks().sub_refresh.clone() {
                self.spawn(turn, async move { Answer::SubRenewed { sub: key, outcome: hook(event).await } });
            }
            return true;
        }
        let grace = turn.node.options().client.expired_sub_close_delay;
        let over = sub.expire_at.saturating_add(i64::try_from(grace.as_secs()).unwrap_or(i64::MAX));
        if now_s < over {
            return false;
        }
        self.end_subscription(key, Unsubscribed::EXPIRED, Disconnect::SUBSCRIPTION_EXPIRED, turn);
        true
    }

    fn tend_one(&mut self, key: SubKey, turn: &mut Turn<'_>) {
        let ttl = turn.node.options().client.presence_ttl;
        let Some((_, sub)) = self.subs.iter().find(|(other, sub)| *other == key && sub.features.presence)
        else {
            return;
        };
        let (engine, channel) = (Arc::clone(turn.node.engine()), sub.channel.clone());
        let info = Arc::new(self.client_info(Some(sub)));
        if let Some(sub) = self.subs.of(key) {
            sub.busy = true;
        }
        self.spawn(turn, async move {
            if let Err(error) = engine.presence_add(&channel, info, ttl).await {
                tracing::warn!(%error, "presence could not be refreshed");
            }
            Answer::Tended { sub: key }
        });
    }

    /// A task about a subscription is over; whether the subscription is still wanted. One that was given up meanwhile
    /// leaves now.
    pub(super) fn idle_again(&mut self, key: SubKey, turn: &mut Turn<'_>) -> bool {
        let Some(sub) = self.subs.of(key) else {
            return false;
        };
        sub.busy = false;
        if sub.is_leaving() {
            self.leave_now(key, turn);
            return false;
        }
        sub.is_live()
    }
}

/// The moment at or before `at` at which pings are sent. Pings of many connections at once cost half of what they cost
/// one by one: the thread and the code wake up once for all of them, and so does what answers.
fn gathered(at: Millis, interval: Duration) -> Millis {
    let step = (millis(interval) / 32).clamp(1, PING_STEP_MAX);
    at - at % step
}

fn spread_half(interval: Duration, turn: &mut Turn<'_>) -> Millis {
    let interval = millis(interval).max(2);
    turn.rng.random_range(interval / 2..interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pings_of_one_interval_meet_and_come_no_later_than_without() {
        let interval = Duration::from_secs(25);
        let moments: std::collections::BTreeSet<Millis> =
            (100_000..125_000).map(|at| gathered(at, interval)).collect();
        assert_eq!(moments.len(), 50, "two a second");
        for interval in [1, 40, 900, 25_000, 3_600_000].map(Duration::from_millis) {
            for at in 7_000..8_000 {
                let early = at - gathered(at, interval);
                assert!(early <= millis(interval) / 32, "{early} ms early of {interval:?}");
            }
        }
    }
}
