//! What clients saw, against what publishers sent: the checker, and how long deliveries took.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use tidewire_checker::{Audience, ChannelKey, Checker, Mode, PayloadId, Position, Report, SubscriptionKey};

use crate::client::{Arrival, Event};
use crate::fleet::Observer;
use crate::stats::Latency;

/// What a publisher tells about its doings, in order.
#[derive(Debug, Clone)]
pub enum Note {
    /// About to be sent.
    Published(ChannelKey, PayloadId),
    /// Answered.
    Acknowledged(ChannelKey, PayloadId, Option<Position>),
}

/// What the clients of one run saw.
pub struct Judge {
    start: Instant,
    now: Duration,
    checker: Checker,
    check: bool,
    notes: Option<Receiver<Note>>,
    clients: Vec<Member>,
    channels: HashMap<Arc<str>, ChannelKey>,
    /// Clients that are live, by channel.
    audience: HashMap<ChannelKey, u64>,
    /// What is counted and timed, from here to there; all else is only checked.
    window: Option<(Duration, Duration)>,
    /// What is timed apart, from here to there.
    later: Option<(Duration, Duration)>,
    /// Deliveries to clients from this number on are not timed.
    timed_below: usize,
    seen: Seen,
}

#[derive(Debug, Default)]
struct Member {
    channel: Option<ChannelKey>,
    subscription: Option<SubscriptionKey>,
}

/// What was counted.
#[derive(Debug, Default)]
pub struct Seen {
    /// Deliveries, all together.
    pub deliveries: u64,
    /// Deliveries that the acknowledged publications should have made, by who was live.
    pub expected: u64,
    /// Deliveries of publications due within the window.
    pub in_window: u64,
    /// From when a publication should have been sent to its delivery, within the window.
    pub latency: Latency,
    /// The same, within the later window.
    pub later_latency: Latency,
    /// From the beginning of a connection, or its loss, to the subscription being live.
    pub waits: Latency,
    /// Pings of the server.
    pub pings: u64,
    /// Recoveries the server said to have succeeded.
    pub recovered: u64,
    /// Recoveries the server refused.
    pub not_recovered: u64,
    /// When the last delivery came, since the start.
    pub last_delivery: Duration,
    /// When a client was live last, since the start.
    pub last_live: Duration,
    /// When a client was lost first, since the start.
    pub first_lost: Option<Duration>,
    /// Clients that have been lost since the last [`Judge::reset`], repetitions included.
    pub lost: u64,
}

// === impl Judge ===

impl Judge {
    /// A judge of `clients` clients. Times count from `start`; without `check` nothing is compared.
    pub fn new(start: Instant, clients: usize, check: bool) -> Self {
        let mut members = Vec::new();
        members.resize_with(clients, Member::default);
        Self {
            start,
            now: Duration::ZERO,
            checker: Checker::new(),
            check,
            notes: None,
            clients: members,
            channels: HashMap::new(),
            audience: HashMap::new(),
            window: None,
            later: None,
            timed_below: usize::MAX,
            seen: Seen::default(),
        }
    }

    /// Says which channel each client is in; `None` for no channel.
    pub fn assign<'a>(&mut self, channel_of: impl Fn(usize) -> Option<&'a Arc<str>>) {
        for client in 0..self.clients.len() {
            let key = channel_of(client).map(|name| self.channel(name));
            if let Some(member) = self.clients.get_mut(client) {
                member.channel = key;
            }
        }
    }

    /// The key of a channel.
    pub fn channel(&mut self, name: &Arc<str>) -> ChannelKey {
        if let Some(key) = self.channels.get(name) {
            return *key;
        }
        let key = self.checker.channel(name);
        self.channels.insert(Arc::clone(name), key);
        key
    }

    /// Where publishers' notes come from. A publisher notes before it sends, and the notes are read after what was
    /// received: so nothing arrives that is not known.
    pub fn listen(&mut self, notes: Receiver<Note>) {
        self.notes = Some(notes);
    }

    /// Counts and times only publications due from here to there.
    pub fn set_window(&mut self, from: Duration, to: Duration) {
        self.window = Some((from, to));
    }

    /// Times publications due from here to there apart, in [`Seen::later_latency`]. May be called again to end it earlier.
    pub fn set_later_window(&mut self, from: Duration, to: Duration) {
        self.later = Some((from, to));
    }

    /// Times deliveries to clients below this number alone.
    pub fn time_below(&mut self, client: usize) {
        self.timed_below = client;
    }

    /// Counts anew; what is checked goes on.
    pub fn reset(&mut self) {
        self.seen = Seen::default();
    }

    /// Counts so far.
    pub fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Ends the run. `heads`: where the streams end, read when everything had come to rest.
    pub fn finish(mut self, heads: Vec<(ChannelKey, Position)>) -> (Seen, Option<Report>) {
        self.take_notes();
        let report = self.check.then(|| self.checker.finish(heads));
        (self.seen, report)
    }

    /// Takes in what publishers noted; to be called now and then when nothing arrives, so that they need not wait.
    pub fn take_notes(&mut self) {
        let Some(notes) = &self.notes else { return };
        for note in notes.try_iter() {
            if let Note::Acknowledged(channel, ..) = &note {
                self.seen.expected += self.audience.get(channel).copied().unwrap_or_default();
            }
            match note {
                _ if !self.check => {}
                Note::Published(channel, id) => self.checker.published(channel, id, Audience::Channel),
                Note::Acknowledged(channel, id, position) => self.checker.acknowledged(channel, id, position),
            }
        }
    }

    fn count(&mut self, client: usize, arrival: &Arrival) {
        self.seen.deliveries += 1;
        self.seen.last_delivery = self.now;
        let Some(payload) = arrival.payload.filter(|_| client < self.timed_below) else { return };
        let late = self.now.saturating_sub(payload.due);
        if self.later.is_some_and(|(from, to)| (from..to).contains(&payload.due)) {
            self.seen.later_latency.record(late);
        }
        if self.window.is_none_or(|(from, to)| (from..to).contains(&payload.due)) {
            self.seen.in_window += 1;
            self.seen.latency.record(late);
        }
    }

    fn observe(&mut self, client: usize, event: tidewire_checker::Event) {
        let Some(member) = self.clients.get_mut(client).filter(|_| self.check) else { return };
        let Some(channel) = member.channel else { return };
        let checker = &mut self.checker;
        let subscription = *member.subscription.get_or_insert_with(|| {
            let mode = match event {
                tidewire_checker::Event::Subscribed { position: Some(_), .. } => Mode::Positioned,
                _ => Mode::AtMostOnce,
            };
            checker.subscription(channel, client as u32, mode)
        });
        checker.observe(subscription, event);
    }
}

impl Observer for Judge {
    fn received(&mut self, now: Instant) {
        self.now = now.saturating_duration_since(self.start);
        self.take_notes();
    }

    fn event(&mut self, client: usize, event: Event) {
        match event {
            Event::Publication(arrival) => {
                self.count(client, &arrival);
                self.observe(client, tidewire_checker::Event::Publication(arrival.delivery()));
            }
            Event::Stray(arrival) => {
                self.observe(client, tidewire_checker::Event::Stray(arrival.delivery()));
            }
            Event::Subscribed { position, was_recovering, recovered, publications } => {
                self.seen.recovered += u64::from(recovered);
                self.seen.not_recovered += u64::from(was_recovering && !recovered);
                for arrival in &publications {
                    self.count(client, arrival);
                }
                let publications = publications.iter().map(Arrival::delivery).collect();
                let event =
                    tidewire_checker::Event::Subscribed { position, was_recovering, recovered, publications };
                self.observe(client, event);
            }
            Event::Unsubscribed { code } => {
                self.observe(client, tidewire_checker::Event::Unsubscribed { code });
            }
            Event::Ping => self.seen.pings += 1,
            Event::Connected | Event::Published { .. } | Event::Closed { .. } => {}
        }
    }

    fn live(&mut self, client: usize, waited: Duration) {
        if let Some(channel) = self.clients.get(client).and_then(|member| member.channel) {
            *self.audience.entry(channel).or_default() += 1;
        }
        self.seen.waits.record(waited);
        self.seen.last_live = self.now;
    }

    fn lost(&mut self, client: usize, code: u32) {
        let channel = self.clients.get(client).and_then(|member| member.channel);
        if let Some(audience) = channel.and_then(|channel| self.audience.get_mut(&channel)) {
            *audience = audience.saturating_sub(1);
        }
        self.seen.lost += 1;
        self.seen.first_lost.get_or_insert(self.start.elapsed());
        self.observe(client, tidewire_checker::Event::Disconnected { code });
    }
}
