//! One channel of a client: what it remembers of it and what it was told.

use std::time::Duration;

use tidewire_checker::{Event, Mode, SubscriptionKey};
use tidewire_protocol::{
    ChannelName, Epoch, Publication, StreamPosition, Subscribe, SubscribeRequest, SubscribeResult,
    Unsubscribed,
};

use crate::draw::Draw;
use crate::env::Env;
use crate::plan::{ChannelKind, ChannelPlan, Plan};
use crate::record::{delivery, position};

/// `SubscribeRequest.flag`: answer 112 instead of `recovered: false`.
const FLAG_REJECT_UNRECOVERED: i64 = 2;

/// What a client asks for in its subscribes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Recoverable,
    Positioned,
    Nothing,
}

/// Where a subscription is, as its client sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SubState {
    Off,
    /// The command with this id asks for it.
    Subscribing(u32),
    On,
    /// The command with this id ends it.
    Leaving(u32),
}

/// One channel of a client, across its connections.
#[derive(Debug)]
pub(crate) struct Subscription {
    pub(crate) channel: ChannelName,
    pub(crate) kind: ChannelKind,
    wish: Wish,
    /// The namespace makes every subscription recoverable.
    forced: bool,
    kept: bool,
    auto_cache: bool,
    reject_unrecovered: bool,
    /// Joins and leaves are pushed without being asked for.
    pushes_joins: bool,
    pub(crate) server_side: bool,
    pub(crate) wanted: bool,
    /// Once the faults have stopped it is wanted, whatever was before.
    pub(crate) comes_back: bool,
    pub(crate) state: SubState,
    /// Not to be asked for before.
    retry_at: Duration,
    failures: u32,
    pub(crate) position: Option<StreamPosition>,
    /// What the last subscribe asked to continue from.
    since: Option<StreamPosition>,
    judged: Option<SubscriptionKey>,
    /// The server made it and brings the newest publication, wherever that stands.
    begins_with_first: bool,
    /// Nothing can get lost, so it must not be told that something was.
    pub(crate) loses_nothing: bool,
    /// The next connection may be to another node, which may not have come as far.
    wanders: bool,
}

impl Subscription {
    pub(crate) fn drawn(channel: &ChannelPlan, plan: &Plan, draw: &mut Draw) -> Self {
        let kept = channel.options.history.is_some();
        // Without positions nobody can tell that an announcement came twice.
        let careless = !plan.may_repeat();
        let wish = match draw.below(10) {
            0 if careless => Wish::Nothing,
            0 | 1 => Wish::Positioned,
            _ => Wish::Recoverable,
        };
        let server_side = draw.chance(0.2) && (channel.options.force_recovery || careless);
        Self {
            channel: channel.name.as_str().into(),
            kind: channel.kind,
            wish: if kept { wish } else { Wish::Nothing },
            forced: channel.options.force_recovery,
            kept,
            auto_cache: channel.options.auto_cache_recover,
            reject_unrecovered: draw.chance(0.2),
            pushes_joins: channel.options.force_push_join_leave,
            server_side,
            wanted: !server_side && draw.chance(0.9),
            comes_back: !server_side && draw.chance(0.8),
            state: SubState::Off,
            retry_at: Duration::ZERO,
            failures: 0,
            position: None,
            since: None,
            judged: None,
            begins_with_first: false,
            loses_nothing: plan.loses_nothing(channel),
            wanders: plan.several.is_some(),
        }
    }

    /// Whether the server should make it recoverable.
    pub(crate) fn recoverable(&self) -> bool {
        self.kept && (self.forced || (self.wish == Wish::Recoverable && !self.server_side))
    }

    /// Whether the server should make it positioned.
    fn positioned(&self) -> bool {
        self.recoverable() || (self.kept && self.wish == Wish::Positioned && !self.server_side)
    }

    pub(crate) fn is_due(&self, now: Duration) -> bool {
        self.wanted && !self.server_side && self.state == SubState::Off && now >= self.retry_at
    }

    /// The subscribe to send.
    pub(crate) fn request(&mut self) -> SubscribeRequest {
        self.since = self.position.clone().filter(|_| self.recoverable());
        let since = self.since.clone().unwrap_or_default();
        SubscribeRequest {
            channel: self.channel.to_string(),
            recover: self.since.is_some(),
            offset: since.offset,
            epoch: since.epoch.as_str().to_owned(),
            recoverable: self.wish == Wish::Recoverable,
            positioned: self.wish == Wish::Positioned,
            flag: if self.reject_unrecovered { FLAG_REJECT_UNRECOVERED } else { 0 },
            ..Default::default()
        }
    }

    /// What the connect command says of a subscription of the server.
    pub(crate) fn connect_request(&mut self) -> Option<(String, SubscribeRequest)> {
        if !self.server_side {
            return None;
        }
        self.since = self.position.clone().filter(|_| self.recoverable());
        let since = self.since.clone()?;
        let request = SubscribeRequest {
            recover: true,
            offset: since.offset,
            epoch: since.epoch.as_str().to_owned(),
            ..Default::default()
        };
        Some((self.channel.to_string(), request))
    }

    /// The server accepted it. An error tells what is wrong with the result.
    pub(crate) fn accepted(
        &mut self,
        env: &Env,
        client: usize,
        result: &SubscribeResult,
    ) -> Result<(), String> {
        self.state = SubState::On;
        self.failures = 0;
        if result.positioned != self.positioned() || result.recoverable != self.recoverable() {
            return Err(format!(
                "{}: positioned {} recoverable {}, expected {} {}",
                self.channel,
                result.positioned,
                result.recoverable,
                self.positioned(),
                self.recoverable()
            ));
        }
        if !result.positioned {
            self.saw(
                env,
                client,
                Event::Subscribed {
                    position: None,
                    was_recovering: result.was_recovering,
                    recovered: result.recovered,
                    publications: result.publications.iter().map(delivery).collect(),
                },
            );
            return Ok(());
        }
        let asked = self.since.is_some()
            || (self.kind == ChannelKind::Cache && self.auto_cache && self.recoverable());
        if result.was_recovering != asked {
            return Err(format!("{}: was_recovering is {}", self.channel, result.was_recovering));
        }
        let mut place = StreamPosition { offset: result.offset, epoch: Epoch::from(result.epoch.as_str()) };
        self.judge_start(env, client, &place, result);
        if let Some(last) = result.publications.last() {
            place.offset = last.offset;
        }
        self.position = Some(place);
        self.since = None;
        Ok(())
    }

    fn judge_start(&mut self, env: &Env, client: usize, place: &StreamPosition, result: &SubscribeResult) {
        let publications: Vec<_> = result.publications.iter().map(delivery).collect();
        if self.kind == ChannelKind::Stream {
            return self.saw(
                env,
                client,
                Event::Subscribed {
                    position: Some(position(place)),
                    was_recovering: result.was_recovering,
                    recovered: result.recovered,
                    publications,
                },
            );
        }
        if self.since.is_none() {
            // The server cannot know what the client has, so it may bring that again.
            self.judged = None;
        }
        // Only the newest counts: it starts over right before what it was brought.
        let mut start = position(place);
        if let Some(first) = publications.first() {
            start.offset = first.offset.saturating_sub(1);
        }
        self.saw(env, client, Event::subscribed_at(start));
        for publication in publications {
            self.saw(env, client, Event::Publication(publication));
        }
    }

    /// The server made it, by itself. An error tells what is wrong with that.
    pub(crate) fn pushed(&mut self, env: &Env, client: usize, push: &Subscribe) -> Result<(), String> {
        let result = SubscribeResult {
            recoverable: push.recoverable,
            positioned: push.positioned,
            epoch: push.epoch.clone(),
            offset: push.offset,
            was_recovering: self.kind == ChannelKind::Cache && self.auto_cache && self.recoverable(),
            ..Default::default()
        };
        self.since = None;
        self.begins_with_first = result.was_recovering && push.offset == 0;
        self.accepted(env, client, &result)
    }

    /// A publication came. An error tells that it must not have.
    pub(crate) fn received(
        &mut self,
        env: &Env,
        client: usize,
        publication: &Publication,
    ) -> Result<(), String> {
        match self.state {
            SubState::On => {}
            SubState::Leaving(_) => return Ok(()),
            SubState::Off | SubState::Subscribing(_) => {
                return Err(format!("{}: a publication while {:?}", self.channel, self.state));
            }
        }
        if self.positioned() && publication.offset == 0 {
            return Err(format!("{}: a publication without offset", self.channel));
        }
        if std::mem::take(&mut self.begins_with_first) {
            let place = StreamPosition {
                offset: publication.offset.saturating_sub(1),
                ..self.position.clone().unwrap_or_default()
            };
            self.saw(env, client, Event::subscribed_at(position(&place)));
        }
        self.saw(env, client, Event::Publication(delivery(publication)));
        if let Some(place) = self.position.as_mut().filter(|_| publication.offset > 0) {
            place.offset = publication.offset;
        }
        Ok(())
    }

    /// Somebody joined or left. An error tells that this client must not hear of it.
    pub(crate) fn heard_of_members(&self) -> Result<(), String> {
        match self.state {
            SubState::On | SubState::Leaving(_) if self.pushes_joins => Ok(()),
            state => Err(format!("{}: a join or leave while {state:?}", self.channel)),
        }
    }

    /// The server refused it for now, or for the position.
    pub(crate) fn refused(&mut self, env: &Env, unrecoverable: bool, draw: &mut Draw) {
        self.state = SubState::Off;
        self.failures += 1;
        if unrecoverable {
            self.position = None;
            self.forget();
        }
        let longest = 100 << self.failures.min(4);
        self.retry_at = env.now() + draw.millis(10, longest);
    }

    /// The server ended it. An error tells that there was nothing to end.
    pub(crate) fn taken(&mut self, env: &Env, code: u32) -> Result<(), String> {
        let was = self.state;
        // While the client's own unsubscribe is under way its answer is still to come.
        if !matches!(was, SubState::Leaving(_)) {
            self.state = SubState::Off;
        }
        self.note_end(env, Event::Unsubscribed { code });
        if code < 2500 {
            self.wanted = false;
        }
        if code == 2502 {
            self.position = None;
        }
        match was {
            SubState::On if self.loses_nothing && code == Unsubscribed::INSUFFICIENT_STATE.code => {
                Err(format!("{}: told that something is missing, though nothing can be", self.channel))
            }
            SubState::On | SubState::Leaving(_) => Ok(()),
            _ => Err(format!("{}: unsubscribed with {code} while {was:?}", self.channel)),
        }
    }

    /// The client's own unsubscribe goes out.
    pub(crate) fn leaving(&mut self, env: &Env, id: u32) {
        self.state = SubState::Leaving(id);
        self.note_end(env, Event::Unsubscribed { code: 0 });
    }

    pub(crate) fn connection_ended(&mut self, env: &Env, code: u16) {
        self.state = SubState::Off;
        self.retry_at = Duration::ZERO;
        let code = u32::from(code);
        self.note_end(env, Event::Disconnected { code });
        if self.wanders && !self.positioned() {
            self.judged = None;
        }
    }

    /// Gives up the position; the next subscribe begins from nothing.
    pub(crate) fn forget(&mut self) {
        self.position = None;
        self.judged = None;
    }

    fn note_end(&mut self, env: &Env, event: Event) {
        self.begins_with_first = false;
        if let Some(key) = self.judged {
            env.record().saw(key, event);
        }
    }

    fn saw(&mut self, env: &Env, client: usize, event: Event) {
        let mode = if self.positioned() { Mode::Positioned } else { Mode::AtMostOnce };
        let channel = self.channel.clone();
        let record = &mut *env.record();
        let key = *self.judged.get_or_insert_with(|| record.subscription(&channel, client, mode));
        record.saw(key, event);
    }
}
