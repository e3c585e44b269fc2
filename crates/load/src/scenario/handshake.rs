//! TLS handshakes and nothing else: connect, shake hands, say goodbye.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;
use mio::{Events, Interest, Poll, Token};

use crate::arguments::duration;
use crate::limits;
use crate::outcome::Outcome;
use crate::process::{Process, Sample};
use crate::progress::Progress;
use crate::socket::{Connector, Room, Socket};
use crate::stats::Latency;
use crate::target::Target;

/// A client keeps this many tickets of a server (rustls), and gets new ones with every handshake.
const TICKETS: u64 = 8;

/// Handshakes before those that count: tickets are gathered, and the server grows what it needs once.
const WARM_UP: u64 = 4 * TICKETS;

/// Makes TLS handshakes as fast as the server answers, and says what each costs it.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
A handshake counts when the server has ended the connection after the client's farewell, so that everything it does for one
is in the figures, tickets included. With resumption a client that finds no ticket makes a full handshake; `resumed` says how
many did not, so keep --at-once at 8 or below.

Examples:
  tidewire-load handshake --url wss://127.0.0.1:8000/ --ca cert.pem --pid $(pidof tidewire)
  tidewire-load handshake --url wss://127.0.0.1:8000/ --ca cert.pem --no-tls-resumption --at-once 64 --json")]
pub struct HandshakeArgs {
    /// Server; only host and port count
    #[arg(long, default_value = "wss://127.0.0.1:8000/")]
    url: String,
    /// Certificate (PEM) that signed the server's
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// Handshakes
    #[arg(long, short = 'n', default_value_t = 5_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    handshakes: u64,
    /// Handshakes under way at a time
    #[arg(long, default_value_t = TICKETS, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    at_once: u64,
    /// Make every handshake a full one
    #[arg(long)]
    no_tls_resumption: bool,
    /// Within which each handshake must be done
    #[arg(long, default_value = "10s", value_parser = duration)]
    timeout: Duration,
    /// Process id of the server on this machine: adds its processor time
    #[arg(long)]
    pid: Option<u32>,
    /// Allow a server that is not this machine
    #[arg(long)]
    allow_remote: bool,
}

/// Handshakes under way and what became of others.
struct Shaker {
    connector: Connector,
    poll: Poll,
    under_way: HashMap<usize, Attempt>,
    opened: usize,
    timeout: Duration,
    tally: Tally,
}

struct Attempt {
    socket: Socket,
    begun: Instant,
    /// The handshake is done and the farewell said.
    parted: bool,
}

#[derive(Default)]
struct Tally {
    done: u64,
    resumed: u64,
    failed: u64,
    reasons: BTreeMap<String, u64>,
    times: Latency,
}

/// Runs it.
///
/// # Errors
/// It could not be run.
pub fn run(args: &HandshakeArgs, quiet: bool) -> anyhow::Result<Outcome> {
    let target = Target::websocket(&args.url, args.allow_remote).context("--url")?;
    ensure!(target.is_tls, "--url must begin with wss://");
    limits::make_room(args.at_once as usize)?;
    let connector = Connector::new(target, Some(&args.ca), !args.no_tls_resumption)?;
    let mut shaker = Shaker {
        connector,
        poll: Poll::new()?,
        under_way: HashMap::new(),
        opened: 0,
        timeout: args.timeout,
        tally: Tally::default(),
    };
    let server = args.pid.map(Process::new);
    let sample = || -> anyhow::Result<(Instant, Option<Sample>, Option<Sample>)> {
        let server = server.as_ref().map(Process::sample).transpose().context("--pid")?;
        Ok((Instant::now(), server, Process::this().sample().ok()))
    };
    let mut progress = Progress::new(quiet);
    progress.begin("warming up", WARM_UP);
    shaker.shake(WARM_UP, args.at_once.min(TICKETS / 2), &mut progress)?;
    shaker.tally = Tally::default();
    progress.begin("shaking", args.handshakes);
    let before = sample()?;
    shaker.shake(args.handshakes, args.at_once, &mut progress)?;
    let after = sample()?;
    progress.end();

    let Tally { done, resumed, failed, reasons, times } = &shaker.tally;
    let took = (after.0 - before.0).as_secs_f64().max(1e-9);
    let mut outcome = Outcome::new("handshake");
    outcome.count("handshakes", "handshakes", *done);
    outcome.count("resumed", "of those resumed", *resumed);
    outcome.number("handshakes_per_second", "handshakes per second", *done as f64 / took, "/s");
    if let (Some(before), Some(after)) = (&before.1, &after.1) {
        let cpu = after.cpu_since(before).as_secs_f64();
        let each = cpu * 1e6 / (*done).max(1) as f64;
        outcome.number("server_cpu_per_handshake_us", "server CPU for each", each, "µs");
        outcome.number("server_cores", "cores the server used", cpu / took, "");
    }
    if let (Some(before), Some(after)) = (&before.2, &after.2) {
        let share = after.cpu_since(before).as_secs_f64() / took;
        outcome.number("tool_cores", "cores this tool used", share, "");
    }
    outcome.times("handshake", "from connecting to the end", times);
    outcome.count("failed", "handshakes that failed", *failed);
    for (reason, count) in reasons.iter().take(10) {
        outcome.shortfall(format!("{count} handshakes: {reason}"));
    }
    Ok(outcome)
}

// === impl Shaker ===

impl Shaker {
    /// Makes `count` handshakes, `at_once` of them at a time, and waits until all have ended.
    fn shake(&mut self, count: u64, at_once: u64, progress: &mut Progress) -> anyhow::Result<()> {
        let mut events = Events::with_capacity(256);
        let mut left = count;
        while left > 0 || !self.under_way.is_empty() {
            while left > 0 && (self.under_way.len() as u64) < at_once {
                self.open()?;
                left -= 1;
            }
            match self.poll.poll(&mut events, Some(Duration::from_millis(100))) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            for event in &events {
                self.advance(event.token().0);
            }
            if events.is_empty() {
                self.give_up_late();
            }
            let Tally { done, failed, .. } = self.tally;
            progress.show(done + failed, || format!("{failed} failed"));
            // A server that refuses everybody is not asked ten thousand times.
            ensure!(done > 0 || failed < 100, "no handshake: {}", self.first_reason());
        }
        Ok(())
    }

    fn first_reason(&self) -> &str {
        self.tally.reasons.keys().next().map_or("", String::as_str)
    }

    fn open(&mut self) -> anyhow::Result<()> {
        let number = self.opened;
        self.opened += 1;
        let mut socket = self.connector.open(number, Room::Usual).context("cannot open a socket")?;
        let both = Interest::READABLE | Interest::WRITABLE;
        self.poll.registry().register(socket.stream(), Token(number), both)?;
        self.under_way.insert(number, Attempt { socket, begun: Instant::now(), parted: false });
        Ok(())
    }

    fn advance(&mut self, number: usize) {
        let Some(attempt) = self.under_way.get_mut(&number) else { return };
        match attempt.advance(&mut self.tally) {
            Ok(false) => return,
            Ok(true) => {
                self.tally.done += 1;
                self.tally.times.record(attempt.begun.elapsed());
            }
            Err(error) => self.tally.fail(error.to_string()),
        }
        self.drop_attempt(number);
    }

    fn give_up_late(&mut self) {
        let is_late = |attempt: &Attempt| attempt.begun.elapsed() > self.timeout;
        let late = self.under_way.iter().filter(|(_, attempt)| is_late(attempt));
        let late: Vec<usize> = late.map(|(number, _)| *number).collect();
        for number in late {
            self.tally.fail("took too long".to_owned());
            self.drop_attempt(number);
        }
    }

    fn drop_attempt(&mut self, number: usize) {
        if let Some(attempt) = self.under_way.remove(&number) {
            attempt.socket.reset();
        }
    }
}

// === impl Attempt ===

impl Attempt {
    /// Goes on as far as the socket lets it; true at the end.
    fn advance(&mut self, tally: &mut Tally) -> io::Result<bool> {
        if !self.socket.is_connected()? {
            return Ok(false);
        }
        self.socket.flush()?;
        let read = self.socket.read(&mut [0; 1024]);
        if !self.parted
            && let Some(session) = self.socket.session()
            && !session.is_handshaking()
        {
            self.parted = true;
            if session.handshake_kind() == Some(rustls::HandshakeKind::Resumed) {
                tally.resumed += 1;
            }
            session.send_close_notify();
        }
        self.socket.flush()?;
        match read {
            Ok(0) if self.parted => Ok(true),
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }
}

// === impl Tally ===

impl Tally {
    fn fail(&mut self, reason: String) {
        self.failed += 1;
        *self.reasons.entry(reason).or_default() += 1;
    }
}
