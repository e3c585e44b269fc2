//! A client that behaves as the official SDKs do.
//!
//! It connects, subscribes with the position it has, subscribes again after 2500 and above, gives up a position when it
//! is told that it cannot be continued from, comes back with backoff after its socket ended, answers pings, and closes a
//! socket on which an answer or a ping is overdue. What it sees goes to the checker; what no server may do it notes as a
//! violation.
//!
//! `act`: what it does by itself. `receive`: what it makes of what it is sent. `subscription`: one channel of it.

mod act;
mod receive;
mod subscription;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tidewire_checker::PayloadId;
use tidewire_protocol::{ChannelName, Command, ConnectRequest, Encoding, UnsubscribeRequest};

pub(crate) use self::act::Whim;
pub(crate) use self::receive::Then;
pub(crate) use self::subscription::{SubState, Subscription};
use crate::draw::Draw;
use crate::env::Env;
use crate::plan::Plan;

/// After this long without an answer a client gives a command up.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(5);

/// How much later than announced a ping may come.
const PING_DELAY_MAX: Duration = Duration::from_secs(10);

/// The close code after which a client gives up all positions.
const STATE_INVALIDATED: u16 = 3014;

/// The close code of a gap in a subscription of the server.
const INSUFFICIENT_STATE: u16 = 3010;

/// Publisher numbers of one client, one after the other: a publish that may still happen though it failed must not be
/// taken for one of a sequence.
const PUBLISHERS_PER_CLIENT: u32 = 100_000;

/// Where a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// No socket.
    Away,
    /// The connect command is on its way.
    Connecting,
    /// Accepted.
    Connected,
    /// For good.
    Left,
}

/// What a command that waits for its answer was.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Connect,
    Subscribe(usize),
    Unsubscribe(usize),
    Publish,
    Query,
}

#[derive(Debug)]
struct Waiting {
    asked: Asked,
    sent_at: Duration,
    given_up: bool,
}

/// One client, across all its connections.
pub(crate) struct Client {
    env: Arc<Env>,
    pub(crate) number: usize,
    pub(crate) encoding: Encoding,
    draw: Draw,
    pub(crate) phase: Phase,
    /// The connection's id, once accepted.
    pub(crate) id: String,
    /// Sends subscribes in the frame of the connect.
    optimistic: bool,
    failures: u32,
    next_id: u32,
    waiting: BTreeMap<u32, Waiting>,
    answered: BTreeSet<u32>,
    pub(crate) subs: Vec<Subscription>,
    /// To be sent in one frame.
    out: Vec<Command>,
    ping_every: Duration,
    last_ping: Duration,
    publisher: u32,
    published: u64,
    publishing: bool,
    filler: u64,
    /// When unanswered commands became a violation.
    strict_from: Option<Duration>,
}

impl Client {
    pub(crate) fn new(env: Arc<Env>, number: usize, plan: &Plan, draw: &Draw) -> Self {
        let mut draw = draw.fork(&format!("client {number}"));
        let subs =
            plan.channels.iter().map(|channel| Subscription::drawn(channel, plan, &mut draw)).collect();
        Self {
            env,
            number,
            encoding: if draw.chance(0.5) { Encoding::Json } else { Encoding::Protobuf },
            phase: Phase::Away,
            id: String::new(),
            optimistic: draw.chance(0.5),
            failures: 0,
            next_id: 0,
            waiting: BTreeMap::new(),
            answered: BTreeSet::new(),
            subs,
            out: Vec::new(),
            ping_every: Duration::ZERO,
            last_ping: Duration::ZERO,
            publisher: (number as u32 + 1) * PUBLISHERS_PER_CLIENT,
            published: 0,
            publishing: false,
            filler: plan.filler,
            strict_from: None,
            draw,
        }
    }

    /// The name it connects by.
    pub(crate) fn user(&self) -> String {
        format!("u{}", self.number)
    }

    /// Channels that the server subscribes it to.
    pub(crate) fn server_side_channels(&self) -> Vec<ChannelName> {
        let server_side = self.subs.iter().filter(|sub| sub.server_side);
        server_side.map(|sub| sub.channel.clone()).collect()
    }

    /// Takes what is to be sent.
    pub(crate) fn take_commands(&mut self) -> Vec<Command> {
        std::mem::take(&mut self.out)
    }

    fn violation(&self, what: &str) {
        let text = format!("client {}: {what}", self.number);
        self.env.note(format_args!("violation: {text}"));
        self.env.record().violation(text);
    }

    fn ask(&mut self, asked: Asked, command: Command) -> u32 {
        self.next_id += 1;
        let id = self.next_id;
        let waiting = Waiting { asked, sent_at: self.env.now(), given_up: false };
        self.waiting.insert(id, waiting);
        self.out.push(Command { id, ..command });
        id
    }
}

// === impl Client: its connection ===

impl Client {
    /// A socket is there: the connect command, and perhaps the first subscribes.
    pub(crate) fn opened(&mut self) {
        self.phase = Phase::Connecting;
        self.next_id = 0;
        self.waiting.clear();
        self.answered.clear();
        self.out.clear();
        self.publishing = false;
        self.id.clear();
        let subs = self.subs.iter_mut().filter_map(Subscription::connect_request).collect();
        let request = ConnectRequest {
            data: format!("\"{}\"", self.user()).into(),
            subs,
            name: "sim".into(),
            ..Default::default()
        };
        let command = Command { connect: Some(request.into()), ..Default::default() };
        self.ask(Asked::Connect, command);
        if self.optimistic {
            self.subscribe_all();
        }
    }

    /// The socket ended. Returns when to come back, if at all.
    pub(crate) fn ended(&mut self, code: Option<u16>) -> Option<Duration> {
        if matches!(self.phase, Phase::Away | Phase::Left) {
            return None;
        }
        self.env.note(format_args!("client {} ended {code:?}", self.number));
        if let Some(code @ (3500..=3999 | 4500..=4999)) = code {
            self.violation(&format!("sent away for good with {code}"));
        }
        // Which channel is meant is not said.
        if code == Some(INSUFFICIENT_STATE) && self.subs.iter().all(|sub| sub.loses_nothing) {
            self.violation("told that something is missing, though nothing can be");
        }
        self.phase = Phase::Away;
        if self.publishing {
            self.new_publisher();
        }
        for sub in &mut self.subs {
            sub.connection_ended(&self.env, code.unwrap_or(0));
        }
        if code == Some(STATE_INVALIDATED) {
            self.subs.iter_mut().for_each(Subscription::forget);
        }
        self.failures += 1;
        let longest = 200 << self.failures.min(5);
        Some(self.env.now() + self.draw.millis(50, longest))
    }

    /// Leaves for good.
    pub(crate) fn leave(&mut self) {
        self.phase = Phase::Left;
    }

    /// Looks for what is overdue. Returns whether the socket must be closed.
    pub(crate) fn look_after(&mut self) -> bool {
        if matches!(self.phase, Phase::Away | Phase::Left) {
            return false;
        }
        let now = self.env.now();
        let mut close = false;
        let mut overdue = Vec::new();
        for (id, waiting) in &mut self.waiting {
            if waiting.given_up || now < waiting.sent_at + COMMAND_TIMEOUT {
                continue;
            }
            waiting.given_up = true;
            if self.strict_from.is_some_and(|from| waiting.sent_at >= from) {
                overdue.push(format!("command {id} ({:?}) is not answered", waiting.asked));
            }
            close |= !matches!(waiting.asked, Asked::Publish | Asked::Query);
            if waiting.asked == Asked::Publish {
                self.publisher += 1;
                self.publishing = false;
            }
        }
        overdue.iter().for_each(|what| self.violation(what));
        let ping_overdue = self.phase == Phase::Connected
            && !self.ping_every.is_zero()
            && now > self.last_ping + self.ping_every + PING_DELAY_MAX;
        if ping_overdue {
            self.env.note(format_args!("client {} misses a ping", self.number));
        }
        if self.phase == Phase::Connected && !close {
            self.subscribe_all();
        }
        close || ping_overdue
    }

    /// From now on every command must be answered in time, and most of what is not wanted is wanted again.
    pub(crate) fn expect_order(&mut self, from: Duration) {
        self.strict_from = Some(from);
        for sub in &mut self.subs {
            sub.wanted |= sub.comes_back;
        }
    }

    /// Sends a subscribe for every channel that is wanted and not asked for.
    fn subscribe_all(&mut self) {
        let now = self.env.now();
        for index in 0..self.subs.len() {
            let Some(sub) = self.subs.get_mut(index) else { return };
            if !sub.is_due(now) {
                continue;
            }
            let request = sub.request();
            let command = Command { subscribe: Some(request.into()), ..Default::default() };
            let id = self.ask(Asked::Subscribe(index), command);
            if let Some(sub) = self.subs.get_mut(index) {
                sub.state = SubState::Subscribing(id);
            }
        }
    }

    fn unsubscribe(&mut self, index: usize) {
        let Some(sub) = self.subs.get_mut(index) else { return };
        let request = UnsubscribeRequest { channel: sub.channel.to_string() };
        sub.wanted = false;
        let command = Command { unsubscribe: Some(request.into()), ..Default::default() };
        let id = self.ask(Asked::Unsubscribe(index), command);
        if let Some(sub) = self.subs.get_mut(index) {
            sub.leaving(&self.env, id);
        }
    }

    fn new_publisher(&mut self) {
        self.publisher += 1;
        self.publishing = false;
    }

    fn next_payload(&mut self) -> PayloadId {
        self.published += 1;
        PayloadId { publisher: self.publisher, sequence: self.published }
    }
}

// === impl Client: for the world's checks ===

impl Client {
    /// What is not as it should be once everything has come to rest.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        if self.phase != Phase::Connected {
            complaints.push(format!("client {} is not connected: {:?}", self.number, self.phase));
        }
        for sub in &self.subs {
            if sub.wanted && sub.state != SubState::On {
                complaints.push(format!(
                    "client {} is not subscribed to {}: {:?}",
                    self.number, sub.channel, sub.state
                ));
            }
        }
        complaints
    }

    /// Whether it follows a channel.
    pub(crate) fn follows(&self, channel: &ChannelName) -> bool {
        let mut on = self.subs.iter().filter(|sub| sub.state == SubState::On);
        self.phase == Phase::Connected && on.any(|sub| sub.channel == *channel)
    }
}
