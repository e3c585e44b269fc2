//! The scenarios, one per file, and what they share: a run.

pub mod accept;
pub mod fanout;
pub mod floor;
pub mod handshake;
pub mod idle;
pub mod publish;
pub mod publishing;
pub mod recovery;
pub mod restart;
pub mod slow;

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tidewire_checker::{ChannelKey, Position};

use crate::arguments::ClientArgs;
use crate::fleet::{Backoff, Fleet, FleetOptions};
use crate::judge::Judge;
use crate::limits;
use crate::outcome::Outcome;
use crate::process::{Process, Sample};
use crate::progress::Progress;

/// How often a run looks around while it waits.
const GLANCE: Duration = Duration::from_millis(20);

/// How long the last deliveries may take once nothing is published any more.
const DRAIN: Duration = Duration::from_secs(15);

/// Clients, what they saw, and the server they are on.
pub struct Run {
    /// The clients.
    pub fleet: Fleet,
    /// What they saw.
    pub judge: Judge,
    /// What is shown meanwhile.
    pub progress: Progress,
    /// What times count from.
    pub start: Instant,
    server: Option<Process>,
    connections: usize,
    rate: f64,
    patience: Duration,
    missing_at_start: usize,
}

/// Figures of server and tool at one moment.
pub struct Moment {
    at: Instant,
    server: Option<Sample>,
    tool: Option<Sample>,
}

/// How many clients the server took in, and what that cost.
pub struct Ramp {
    before: Moment,
    after: Moment,
}

// === impl Run ===

impl Run {
    /// Prepares the clients; none connects yet.
    ///
    /// # Errors
    /// The arguments do not fit together, or the system allows less.
    pub fn new(
        args: &ClientArgs,
        recoverable: bool,
        backoff: Option<Backoff>,
        check: bool,
        quiet: bool,
    ) -> anyhow::Result<Self> {
        Self::of(args, args.fleet(backoff)?, recoverable, check, quiet)
    }

    /// The same with clients that come at this rate, and only once.
    ///
    /// # Errors
    /// As [`Run::new`].
    pub fn with_rate(args: &ClientArgs, rate: f64, quiet: bool) -> anyhow::Result<Self> {
        Self::of(args, FleetOptions { rate, ..args.fleet(None)? }, false, false, quiet)
    }

    fn of(
        args: &ClientArgs,
        options: FleetOptions,
        recoverable: bool,
        check: bool,
        quiet: bool,
    ) -> anyhow::Result<Self> {
        let (connections, rate, patience) = (options.connections, options.rate, options.connect_timeout);
        limits::make_room(connections)?;
        let fleet = Fleet::new(options, args.connector()?, args.dialect(recoverable)?)?;
        let start = Instant::now();
        let mut judge = Judge::new(start, connections, check);
        judge.assign(|client| fleet.channel(client));
        let server = args.pid.map(Process::new);
        let progress = Progress::new(quiet);
        Ok(Self { fleet, judge, progress, start, server, connections, rate, patience, missing_at_start: 0 })
    }

    /// Lets the clients live until `until`, or until `is_enough`, which is asked now and then.
    ///
    /// # Errors
    /// The system does not let the loop wait.
    pub fn live(&mut self, until: Instant, mut is_enough: impl FnMut(&mut Self) -> bool) -> io::Result<()> {
        loop {
            let now = Instant::now();
            if now >= until || is_enough(self) {
                return Ok(());
            }
            self.fleet.turn(until.min(now + GLANCE), &mut self.judge)?;
            self.judge.take_notes();
        }
    }

    /// Connects all clients.
    ///
    /// # Errors
    /// None of them could; or the system is at its limits.
    pub fn ramp(&mut self) -> anyhow::Result<Ramp> {
        let before = self.moment()?;
        self.progress.begin("connecting", self.connections as u64);
        let ramp = Duration::from_secs_f64(self.connections as f64 / self.rate);
        let deadline = Instant::now() + ramp + self.patience * 2;
        while !self.fleet.is_settled() && Instant::now() < deadline {
            self.live(Instant::now() + GLANCE, |_| false)?;
            let (live, failed) = (self.fleet.live(), self.fleet.tally().failed);
            self.progress.show(live as u64, || format!("{failed} failed"));
        }
        if self.fleet.live() == 0 {
            let reason = self.fleet.tally().reasons.keys().next().cloned().unwrap_or_default();
            return Err(anyhow::anyhow!("no client could connect: {reason}"));
        }
        self.missing_at_start = self.connections - self.fleet.live();
        Ok(Ramp { before, after: self.moment()? })
    }

    /// Waits for live clients with positions to get to where their streams end, for as long as the last deliveries may take.
    ///
    /// # Errors
    /// As [`Run::live`].
    pub fn catch_up(&mut self, heads: &[(ChannelKey, Position)]) -> io::Result<()> {
        let heads: HashMap<ChannelKey, &Position> = heads.iter().map(|(key, head)| (*key, head)).collect();
        self.live(Instant::now() + DRAIN, |run| {
            !(0..run.connections).any(|client| run.is_behind(client, &heads))
        })
    }

    fn is_behind(&mut self, client: usize, heads: &HashMap<ChannelKey, &Position>) -> bool {
        let key = self.fleet.channel(client).map(|name| self.judge.channel(name));
        let head = key.and_then(|key| heads.get(&key));
        let position = self.fleet.position(client);
        position.zip(head).is_some_and(|(at, head)| at.epoch == head.epoch && at.offset < head.offset)
    }

    /// Figures now.
    ///
    /// # Errors
    /// The server's process cannot be read.
    pub fn moment(&self) -> anyhow::Result<Moment> {
        let server = self.server.as_ref().map(Process::sample).transpose().context("--pid")?;
        Ok(Moment { at: Instant::now(), server, tool: Process::this().sample().ok() })
    }

    /// Adds what went wrong with connections.
    pub fn tell_losses(&self, outcome: &mut Outcome) {
        let tally = self.fleet.tally();
        outcome.count("failed", "connections that failed", tally.failed);
        outcome.count("lost", "connections lost", tally.lost);
        if self.missing_at_start > 0 {
            outcome.shortfall(format!("{} clients were never connected", self.missing_at_start));
        }
        if tally.failed + tally.lost > 0 {
            for (reason, count) in tally.reasons.iter().take(10) {
                outcome.shortfall(format!("{count} connections: {reason}"));
            }
        }
    }
}

// === impl Ramp ===

impl Ramp {
    /// Adds how the connecting went.
    pub fn tell(&self, run: &Run, outcome: &mut Outcome) {
        let live = run.fleet.live() as f64;
        let took = self.after.at - self.before.at;
        outcome.count("connections", "clients live", run.fleet.live() as u64);
        outcome.number("connections_per_second", "connections per second", live / took.as_secs_f64(), "/s");
        outcome.times("wait", "time to be live", &run.judge.seen().waits);
        if let Some(cpu) = self.after.server_cpu_since(&self.before) {
            let each = cpu.as_secs_f64() * 1e6 / live;
            outcome.number("server_cpu_per_connect_us", "server CPU per connect", each, "µs");
        }
    }

    /// Processor time of the server meanwhile, if it was looked at.
    pub fn server_cpu(&self) -> Option<Duration> {
        self.after.server_cpu_since(&self.before)
    }

    /// Share of one core that this tool used meanwhile.
    pub fn tool_share(&self) -> f64 {
        self.after.tool_share_since(&self.before)
    }

    /// Figures before the first client.
    pub fn before(&self) -> &Moment {
        &self.before
    }
}

// === impl Moment ===

impl Moment {
    /// The server, if it was looked at.
    pub fn server(&self) -> Option<&Sample> {
        self.server.as_ref()
    }

    /// Processor time of the server since.
    pub fn server_cpu_since(&self, earlier: &Self) -> Option<Duration> {
        Some(self.server.as_ref()?.cpu_since(earlier.server.as_ref()?))
    }

    /// Share of one core that this tool used since: near 1 it is the tool that was measured.
    pub fn tool_share_since(&self, earlier: &Self) -> f64 {
        let cpu = self.tool.as_ref().zip(earlier.tool.as_ref()).map(|(now, then)| now.cpu_since(then));
        cpu.unwrap_or_default().as_secs_f64() / self.seconds_since(earlier)
    }

    /// Seconds since.
    pub fn seconds_since(&self, earlier: &Self) -> f64 {
        (self.at - earlier.at).as_secs_f64().max(1e-9)
    }
}
