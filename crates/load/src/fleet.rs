//! Many clients on one readiness loop: opening at a rate, reading, writing, cutting, coming back.
//!
//! One thread, no task per client. A scenario calls [`Fleet::turn`] until it has seen enough; what happens goes to its
//! [`Observer`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tidewire_checker::Position;

use crate::client::{Client, ClientError, Context, Dialect, Event, Output, Role};
use crate::socket::{Connector, Room, Socket};
use crate::token::Tokens;

const EVENTS: usize = 1_024;
const READ_BYTES: usize = 256 << 10;
/// Handshakes under way at once. More would overrun the queue of a listening socket, whose victims wait a second.
const OPENING_MAX: usize = 512;

/// Who watches a fleet.
pub trait Observer {
    /// Bytes arrived at this moment; what they mean follows.
    fn received(&mut self, now: Instant);
    /// Something happened to a client.
    fn event(&mut self, client: usize, event: Event);
    /// A client has everything it asked for, this long after it began to connect or lost its connection.
    fn live(&mut self, client: usize, waited: Duration);
    /// A live client lost its connection, with the server's code or 0.
    fn lost(&mut self, client: usize, code: u32);
}

/// How clients come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait is random below this; each failure doubles it.
    pub min: Duration,
    /// No wait is longer.
    pub max: Duration,
}

/// What a fleet does.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    /// Clients.
    pub connections: usize,
    /// New connections a second.
    pub rate: f64,
    /// The channel of client N, `{n}` in it standing for N modulo `channels`; `None` to subscribe to nothing.
    pub channel: Option<String>,
    /// See `channel`.
    pub channels: usize,
    /// Their tokens.
    pub tokens: Tokens,
    /// From the start of connecting to being live.
    pub connect_timeout: Duration,
    /// `None`: whoever is lost stays lost.
    pub backoff: Option<Backoff>,
    /// For everything random.
    pub seed: u64,
}

/// Figures of a fleet.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Connections that were begun, repetitions included.
    pub opened: u64,
    /// Attempts that failed before they were live.
    pub failed: u64,
    /// Live clients that lost their connection without the tool's doing.
    pub lost: u64,
    /// Connections that the tool cut.
    pub cuts: u64,
    /// Reasons of failures and losses, by their text.
    pub reasons: BTreeMap<String, u64>,
    /// Bytes read.
    pub bytes: u64,
}

/// See the module.
pub struct Fleet {
    options: FleetOptions,
    connector: Connector,
    context: Context,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    slots: Vec<Slot>,
    due: BinaryHeap<Reverse<(Instant, usize, u32, Due)>>,
    /// Whose time to come back has come, with their generation.
    returning: VecDeque<(usize, u32)>,
    /// See [`Fleet::expect_slow`].
    small_from: usize,
    random: SmallRng,
    channels: Vec<Arc<str>>,
    began: Option<Instant>,
    begun: usize,
    opening: usize,
    live: usize,
    tally: Tally,
}

#[derive(Debug, Default)]
struct Slot {
    state: State,
    out: Vec<u8>,
    /// Where the last connection stood.
    since: Option<Position>,
    /// Tells timers of an earlier connection from those of this one.
    generation: u32,
    failures: u32,
    waiting_since: Option<Instant>,
    /// See [`Fleet::stop_reading`].
    is_stuck: bool,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Down,
    Connecting(Socket),
    Open(Socket, Client, Phase),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opening,
    Live,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Due {
    Open,
    Timeout,
}

/// Why a connection ended.
enum End {
    /// The server's code, or 0.
    Lost(u32, String),
    Cut,
}

// === impl Fleet: outside ===

impl Fleet {
    /// A fleet that has not begun.
    ///
    /// # Errors
    /// Of the operating system.
    pub fn new(options: FleetOptions, connector: Connector, dialect: Dialect) -> io::Result<Self> {
        let mut slots = Vec::new();
        slots.resize_with(options.connections, Slot::default);
        let name = |n: usize| options.channel.as_ref().map(|name| name.replace("{n}", &n.to_string()).into());
        let channels = (0..options.channels).filter_map(name).collect();
        Ok(Self {
            random: SmallRng::seed_from_u64(options.seed),
            channels,
            connector,
            context: Context::new(dialect),
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            buffer: vec![0; READ_BYTES],
            slots,
            due: BinaryHeap::new(),
            returning: VecDeque::new(),
            small_from: usize::MAX,
            began: None,
            begun: 0,
            opening: 0,
            live: 0,
            tally: Tally::default(),
            options,
        })
    }

    /// Clients that have everything they asked for.
    pub fn live(&self) -> usize {
        self.live
    }

    /// Whether a client has everything it asked for.
    pub fn is_live(&self, client: usize) -> bool {
        self.slots.get(client).is_some_and(|slot| matches!(slot.state, State::Open(_, _, Phase::Live)))
    }

    /// Clients whose first connection was begun, and whether that was all of them and none is under way.
    pub fn is_settled(&self) -> bool {
        self.begun == self.slots.len()
            && self.opening == 0
            && (self.options.backoff.is_none() || self.live == self.begun)
    }

    /// Figures so far.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// All channels, in order.
    pub fn channels(&self) -> &[Arc<str>] {
        &self.channels
    }

    /// The channel of a client.
    pub fn channel(&self, client: usize) -> Option<&Arc<str>> {
        self.channels.get(client.checked_rem(self.channels.len())?)
    }

    /// Where a client's subscription stands.
    pub fn position(&self, client: usize) -> Option<&Position> {
        match &self.slots.get(client)?.state {
            State::Open(_, client, Phase::Live) => client.position(),
            _ => None,
        }
    }

    /// Makes clients that connect from now on subscribe to nothing.
    pub fn unsubscribe(&mut self) {
        self.channels.clear();
    }

    /// Changes how clients come back; for those that get lost from now on.
    pub fn set_backoff(&mut self, backoff: Option<Backoff>) {
        self.options.backoff = backoff;
    }

    /// Waits for sockets and timers, at most until `until`, and does what they ask for.
    ///
    /// # Errors
    /// The operating system refuses to wait, or has no more descriptors: the run is over.
    pub fn turn(&mut self, until: Instant, observer: &mut dyn Observer) -> io::Result<()> {
        let now = Instant::now();
        self.began.get_or_insert(now);
        let next = self.due.peek().map_or(until, |Reverse((at, ..))| until.min(*at));
        let next = self.next_ramp().map_or(next, |at| next.min(at));
        let mut events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        let waited = self.poll.poll(&mut events, Some(next.saturating_duration_since(now)));
        for event in &events {
            let Token(client) = event.token();
            self.ready(client, event.is_read_closed(), observer);
        }
        self.events = events;
        match waited {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        self.timers(Instant::now(), observer);
        self.open_due(Instant::now(), observer)
    }

    /// Drops the connection of a client, as a broken network would; it comes back by the backoff.
    pub fn cut(&mut self, client: usize, observer: &mut dyn Observer) {
        if self.is_live(client) {
            self.tally.cuts += 1;
            self.end(client, End::Cut, observer);
        }
    }

    /// Gives clients from number `first` on, where they connect from now on, as little kernel memory as the system allows:
    /// when they stop reading, the server notices soon.
    pub fn expect_slow(&mut self, first: usize) {
        self.small_from = first;
    }

    /// Leaves a client's socket alone, whatever comes, until [`Fleet::resume_reading`]. That the server lets go of it will
    /// not be noticed until then either.
    pub fn stop_reading(&mut self, client: usize) {
        if let Some(slot) = self.slots.get_mut(client) {
            slot.is_stuck = true;
        }
    }

    /// Reads on, from all that stopped.
    pub fn resume_reading(&mut self, observer: &mut dyn Observer) {
        for client in 0..self.slots.len() {
            if self.slots.get_mut(client).is_some_and(|slot| std::mem::take(&mut slot.is_stuck)) {
                // What came meanwhile will not be announced again.
                self.ready(client, true, observer);
            }
        }
    }

    /// Says goodbye for all clients and drops them.
    pub fn close(&mut self) {
        for slot in &mut self.slots {
            if let State::Open(socket, client, _) = &mut slot.state {
                client.close(&mut slot.out);
                // Best effort: the server will notice the end of the socket anyway.
                let _ = socket.write(&slot.out);
            }
            slot.state = State::Down;
        }
        self.live = 0;
        self.opening = 0;
    }
}

// === impl Fleet: beginnings ===

impl Fleet {
    /// How many first connections should have begun by now.
    fn ramp_target(&self, now: Instant) -> usize {
        let elapsed = self.began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began));
        (1.0 + elapsed.as_secs_f64() * self.options.rate) as usize
    }

    fn next_ramp(&self) -> Option<Instant> {
        if self.begun == self.slots.len() || self.opening >= OPENING_MAX {
            return None;
        }
        Some(self.began? + Duration::from_secs_f64(self.begun as f64 / self.options.rate))
    }

    fn open_due(&mut self, now: Instant, observer: &mut dyn Observer) -> io::Result<()> {
        let target = self.ramp_target(now).min(self.slots.len());
        while self.begun < target && self.opening < OPENING_MAX {
            self.begun += 1;
            self.open(self.begun - 1, now, observer)?;
        }
        while self.opening < OPENING_MAX
            && let Some((client, generation)) = self.returning.pop_front()
        {
            let is_down = |slot: &Slot| slot.generation == generation && matches!(slot.state, State::Down);
            if self.slots.get(client).is_some_and(is_down) {
                self.open(client, now, observer)?;
            }
        }
        Ok(())
    }

    fn open(&mut self, client: usize, now: Instant, observer: &mut dyn Observer) -> io::Result<()> {
        let room = if client < self.small_from { Room::Usual } else { Room::Small };
        let opened = self.connector.open(client, room).and_then(|mut socket| {
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(socket.stream(), Token(client), interest)?;
            Ok(socket)
        });
        let Some(slot) = self.slots.get_mut(client) else { return Ok(()) };
        slot.waiting_since.get_or_insert(now);
        slot.generation = slot.generation.wrapping_add(1);
        self.opening += 1;
        self.tally.opened += 1;
        match opened {
            Ok(socket) => {
                slot.state = State::Connecting(socket);
                let at = now + self.options.connect_timeout;
                self.due.push(Reverse((at, client, slot.generation, Due::Timeout)));
                Ok(())
            }
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => Err(error),
            Err(error) => {
                self.end(client, End::Lost(0, error.to_string()), observer);
                Ok(())
            }
        }
    }

    fn role(&self, client: usize) -> Role {
        Role {
            token: self.options.tokens.of(client),
            channel: self.channel(client).cloned(),
            since: self.slots.get(client).and_then(|slot| slot.since.clone()),
        }
    }
}

// === impl Fleet: sockets ===

impl Fleet {
    fn ready(&mut self, client: usize, is_read_closed: bool, observer: &mut dyn Observer) {
        let slot = self.slots.get_mut(client).filter(|slot| !slot.is_stuck);
        let connected = match slot.map(|slot| &mut slot.state) {
            Some(State::Connecting(socket)) => socket.is_connected(),
            Some(State::Open(..)) => Ok(false),
            _ => return,
        };
        match connected {
            Ok(true) => self.connected(client),
            Ok(false) => {}
            Err(error) => return self.end(client, End::Lost(0, error.to_string()), observer),
        }
        if let Err(end) = self.read(client, is_read_closed, observer).and_then(|()| self.write(client)) {
            self.end(client, end, observer);
        }
    }

    fn connected(&mut self, client: usize) {
        let role = self.role(client);
        let Some(slot) = self.slots.get_mut(client) else { return };
        if let State::Connecting(socket) = std::mem::take(&mut slot.state) {
            slot.out.clear();
            let opened = Client::open(role, &self.context, &mut slot.out);
            slot.state = State::Open(socket, opened, Phase::Opening);
        }
    }

    fn read(&mut self, client: usize, is_read_closed: bool, observer: &mut dyn Observer) -> Result<(), End> {
        let Some(slot) = self.slots.get_mut(client) else { return Ok(()) };
        let State::Open(socket, state, phase) = &mut slot.state else { return Ok(()) };
        loop {
            let bytes = match socket.read(&mut self.buffer) {
                Ok(0) => return Err(End::Lost(0, "the server dropped the connection".into())),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(End::Lost(0, error.kind().to_string())),
            };
            let now = Instant::now();
            self.tally.bytes += bytes as u64;
            observer.received(now);
            let mut event = |event| observer.event(client, event);
            let mut out = Output { bytes: &mut slot.out, event: &mut event };
            let input = self.buffer.get(..bytes).unwrap_or_default();
            state.receive(input, &mut self.context, &mut out).map_err(|error| match error {
                ClientError::Closed { code, .. } => End::Lost(code, error.to_string()),
                _ => End::Lost(0, error.to_string()),
            })?;
            if *phase == Phase::Opening && state.is_live() {
                *phase = Phase::Live;
                slot.failures = 0;
                self.opening -= 1;
                self.live += 1;
                let began = slot.waiting_since.take().unwrap_or(now);
                observer.live(client, now.saturating_duration_since(began));
            }
            // Another read of an empty socket would cost as much as one of a full one. Whatever comes later wakes the
            // loop again; only an end that has come already would not.
            if bytes < self.buffer.len() && socket.drains() && !is_read_closed {
                return Ok(());
            }
        }
    }

    fn write(&mut self, client: usize) -> Result<(), End> {
        let Some(slot) = self.slots.get_mut(client) else { return Ok(()) };
        let State::Open(socket, ..) = &mut slot.state else { return Ok(()) };
        let broken = |error: io::Error| End::Lost(0, error.kind().to_string());
        socket.flush().map_err(broken)?;
        while !slot.out.is_empty() {
            match socket.write(&slot.out) {
                Ok(bytes) => drop(slot.out.drain(..bytes)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken(error)),
            }
        }
        // A client at rest owns no buffer.
        slot.out = Vec::new();
        Ok(())
    }
}

// === impl Fleet: ends and returns ===

impl Fleet {
    fn end(&mut self, client: usize, why: End, observer: &mut dyn Observer) {
        let Some(slot) = self.slots.get_mut(client) else { return };
        let was_live = match std::mem::take(&mut slot.state) {
            State::Open(socket, state, phase) => {
                slot.since = state.position().cloned().or(slot.since.take());
                if matches!(why, End::Cut) {
                    socket.reset();
                }
                phase == Phase::Live
            }
            State::Connecting(_) | State::Down => false,
        };
        slot.generation = slot.generation.wrapping_add(1);
        slot.out = Vec::new();
        let now = Instant::now();
        slot.waiting_since.get_or_insert(now);
        if was_live {
            self.live -= 1;
        } else {
            self.opening -= 1;
            slot.failures += 1;
            self.tally.failed += 1;
        }
        let code = match why {
            End::Cut => 0,
            End::Lost(code, reason) => {
                self.tally.lost += u64::from(was_live);
                *self.tally.reasons.entry(reason).or_default() += 1;
                code
            }
        };
        if let Some(Backoff { min, max }) = self.options.backoff {
            let most = min.saturating_mul(1 << slot.failures.min(16)).min(max).max(Duration::from_millis(1));
            let wait = self.random.random_range(Duration::ZERO..most);
            self.due.push(Reverse((now + wait, client, slot.generation, Due::Open)));
        }
        if was_live {
            observer.lost(client, code);
        }
    }

    fn timers(&mut self, now: Instant, observer: &mut dyn Observer) {
        while let Some(Reverse((at, client, generation, due))) = self.due.peek().copied() {
            if at > now {
                break;
            }
            self.due.pop();
            let Some(slot) = self.slots.get(client).filter(|slot| slot.generation == generation) else {
                continue;
            };
            match (due, &slot.state) {
                (Due::Open, State::Down) => self.returning.push_back((client, generation)),
                (Due::Timeout, State::Connecting(_) | State::Open(_, _, Phase::Opening)) => {
                    let waited = self.options.connect_timeout;
                    self.end(client, End::Lost(0, format!("not connected within {waited:?}")), observer);
                }
                _ => {}
            }
        }
    }
}
