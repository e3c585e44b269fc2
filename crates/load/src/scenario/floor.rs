//! This machine's own limit: the same bytes to as many sockets, written by a bare loop.
//!
//! The loop runs in a process of its own (half of the sockets each, as with a server), on one thread that does nothing but
//! write (`writer`); this process reads and answers pings (`reader`). Its processor time is what no server can do without,
//! and so is the time that its frames take. At a pace it is told of each round over a socket when the round is due, as a
//! server is told by a publisher: the way in is a part of being late.

mod reader;
mod writer;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use self::reader::Reader;
pub use self::writer::{WriterArgs, write};
use crate::limits;
use crate::outcome::Outcome;
use crate::stats::Latency;

/// Deliveries of one measurement; enough for two or three seconds.
const DELIVERIES: usize = 400_000;
/// A measurement at a pace takes no longer, unless three rounds do.
const PACED: Duration = Duration::from_secs(5);
/// Time for both processes to be ready when a measurement begins.
const LEAD: Duration = Duration::from_millis(50);

/// A ping as a server sends it: an empty reply in JSON, in a frame.
const PING: &[u8] = b"\x81\x02{}";
/// Its answer, masked with zeroes.
const PONG: &[u8] = b"\x81\x82\0\0\0\0{}";
/// Pings go out at moments so far apart, as those of a server that gathers them.
const PING_STEP: Duration = Duration::from_millis(500);
/// Into so many moments sockets are divided: each has its turn in 25 s.
const PING_SHARES: usize = 50;
/// So many moments are measured at the most: no socket is pinged twice.
const PING_STEPS_MAX: usize = 24;

/// Measures what a bare loop can deliver on this machine.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  tidewire-load floor --sockets 1000 --bytes 190
  tidewire-load floor --sockets 1000 --bytes 190 --writer-cpu 0 --gather 64 --json
  tidewire-load floor --sockets 15000 --pings --writer-cpu 0")]
pub struct FloorArgs {
    /// Sockets to write to
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    sockets: u32,
    /// Bytes of a frame
    #[arg(long, default_value_t = 190, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    bytes: u32,
    /// Measure pings and their answers instead: a fiftieth of the sockets each half second
    #[arg(long)]
    pings: bool,
    #[command(flatten)]
    options: FloorOptions,
}

/// How to measure.
#[derive(Debug, Clone, Args)]
pub struct FloorOptions {
    /// Core that the writing loop is bound to: the server's, for a fair comparison
    #[arg(long)]
    writer_cpu: Option<u32>,
    /// Rounds a second in which each socket gets one frame, as a server does that publishes at a rate; as fast as possible
    /// without. `fanout` takes its own publish rate
    #[arg(long, value_parser = super::fanout::rate)]
    pace: Option<f64>,
    /// Frames per write where they gather
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    gather: u32,
}

/// What the loop did.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Written {
    /// Frames, all sockets together.
    pub deliveries: u64,
    /// Processor time of the loop.
    pub cpu_s: f64,
    /// Time it took.
    pub wall_s: f64,
}

/// What the loop is told to do, one line each time.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Task {
    /// Write to every socket, again and again.
    Rounds(Rounds),
    /// Ping so many shares of the sockets, and read the answers.
    Pings(usize),
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Rounds {
    /// How often every socket is written to.
    rounds: usize,
    /// Frames per write.
    gather: usize,
    /// When each round is due, which the loop waits to be told; as soon as possible without.
    pace: Option<Pace>,
}

/// Moments by the clock of the machine.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Pace {
    /// Of the monotonic clock.
    begin: Duration,
    /// Rounds a second.
    rate: f64,
}

/// The limit.
#[derive(Debug, Clone)]
pub struct Floor {
    /// Each frame in a write of its own, as fast as possible.
    pub alone: Written,
    /// Each frame in a write of its own, at the pace that was asked for, and how long after its moment each was read.
    pub paced: Option<(Written, Latency)>,
    /// Several frames in one write.
    pub gathered: Written,
}

impl Floor {
    /// What a server at the same pace is to be compared with: between two rounds its readers fall asleep as well, and
    /// waking them is a part of writing.
    pub fn comparable(&self) -> Written {
        self.paced.as_ref().map_or(self.alone, |(paced, _)| *paced)
    }
}

/// The writing process.
struct Writer {
    child: Child,
    input: ChildStdin,
    lines: std::io::Lines<BufReader<std::process::ChildStdout>>,
}

// === impl Written ===

impl Written {
    /// Deliveries for each second of processor time.
    pub fn per_cpu_second(&self) -> f64 {
        self.deliveries as f64 / self.cpu_s.max(1e-9)
    }
}

// === impl FloorOptions ===

impl FloorOptions {
    /// The usual ones, on this core if any.
    pub fn on(writer_cpu: Option<u32>) -> Self {
        Self { writer_cpu, pace: None, gather: 16 }
    }

    /// The same with a pace, unless it has one.
    pub fn paced(&self, pace: Option<f64>) -> Self {
        Self { pace: self.pace.or(pace), ..self.clone() }
    }
}

// === impl Floor ===

impl Floor {
    /// Adds the limit to a result.
    pub fn tell(&self, outcome: &mut Outcome) {
        let words = "floor: deliveries per CPU second";
        outcome.number("floor_per_cpu_second", words, self.alone.per_cpu_second(), "/s");
        if let Some((paced, latency)) = &self.paced {
            let words = "floor: the same, at the pace";
            outcome.number("floor_paced_per_cpu_second", words, paced.per_cpu_second(), "/s");
            outcome.times("floor_latency", "floor: from due to read, at the pace", latency);
        }
        let each = self.alone.deliveries as f64 / self.alone.wall_s.max(1e-9);
        outcome.number("floor_per_second", "floor: deliveries per second", each, "/s");
        let words = "floor: the same, frames gathered";
        outcome.number("floor_gathered_per_cpu_second", words, self.gathered.per_cpu_second(), "/s");
    }
}

/// Runs the scenario.
///
/// # Errors
/// It could not be run.
pub fn run(args: &FloorArgs) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::new("floor");
    outcome.count("sockets", "sockets", args.sockets.into());
    if args.pings {
        let pings = measure_pings(args.sockets as usize, &args.options)?;
        tell_pings(&pings, &mut outcome);
        return Ok(outcome);
    }
    outcome.count("frame_bytes", "bytes of a frame", args.bytes.into());
    measure(args.sockets as usize, args.bytes as usize, &args.options)?.tell(&mut outcome);
    Ok(outcome)
}

/// Measures the limit for so many sockets and so long a frame.
///
/// # Errors
/// The system allows less, or the writing process fails.
pub fn measure(sockets: usize, frame_bytes: usize, options: &FloorOptions) -> anyhow::Result<Floor> {
    let (mut writer, mut reader) = start(sockets, frame_bytes, options)?;
    let mut run = |rounds: Rounds| -> anyhow::Result<(Written, Latency)> {
        writer.begin(Task::Rounds(rounds))?;
        let latency = reader.read(rounds, frame_bytes)?;
        Ok((writer.end()?, latency))
    };
    let (alone, _) = run(Rounds::new(sockets, 1, None))?;
    let paced = options.pace.map(|pace| run(Rounds::new(sockets, 1, Some(pace)))).transpose()?;
    let (gathered, _) = run(Rounds::new(sockets, options.gather as usize, None))?;
    Ok(Floor { alone, paced, gathered })
}

/// Measures what pings to so many sockets and their answers cost: of [`Written`], a delivery is a ping and its answer.
///
/// # Errors
/// As [`measure`].
pub fn measure_pings(sockets: usize, options: &FloorOptions) -> anyhow::Result<Written> {
    let (mut writer, mut reader) = start(sockets, PING.len(), options)?;
    // With few sockets there is little to see, so it need not take long.
    let steps = (sockets / 500).clamp(3, PING_STEPS_MAX);
    writer.begin(Task::Pings(steps))?;
    reader.answer((steps * ping_share(sockets)).min(sockets))?;
    writer.end()
}

/// Adds what a ping and its answer cost.
pub fn tell_pings(pings: &Written, outcome: &mut Outcome) {
    let each = 1e6 / pings.per_cpu_second();
    outcome.number("floor_cpu_per_ping_us", "floor: CPU per ping and its answer", each, "µs");
}

/// How many sockets are pinged at a moment.
fn ping_share(sockets: usize) -> usize {
    sockets.div_ceil(PING_SHARES)
}

fn start(sockets: usize, frame_bytes: usize, options: &FloorOptions) -> anyhow::Result<(Writer, Reader)> {
    limits::make_room(sockets)?;
    let mut writer = Writer::start(sockets, frame_bytes, options)?;
    let port: u16 = writer.line()?.parse().context("its port")?;
    let reader = Reader::connect(sockets, port)?;
    Ok((writer, reader))
}

// === impl Writer ===

impl Writer {
    fn start(sockets: usize, frame_bytes: usize, options: &FloorOptions) -> anyhow::Result<Self> {
        let program = std::env::current_exe().context("where this program is")?;
        let mut command = Command::new(program);
        command.args(["floor-writer", &sockets.to_string(), &frame_bytes.to_string()]);
        command.args(options.writer_cpu.map(|cpu| cpu.to_string()));
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("the writing process")?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let (input, output) = input.zip(output).context("its pipes")?;
        Ok(Self { child, input, lines: BufReader::new(output).lines() })
    }

    fn line(&mut self) -> anyhow::Result<String> {
        self.lines.next().context("the writing process ended")?.context("its output")
    }

    fn begin(&mut self, task: Task) -> anyhow::Result<()> {
        Ok(writeln!(self.input, "{}", serde_json::to_string(&task)?)?)
    }

    fn end(&mut self) -> anyhow::Result<Written> {
        serde_json::from_str(&self.line()?).context("its figures")
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It is a child that was started here; if it has ended by itself there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

// === impl Rounds ===

impl Rounds {
    fn new(sockets: usize, gather: usize, rate: Option<f64>) -> Self {
        let enough = DELIVERIES / sockets / gather;
        let in_time = rate.map_or(enough, |rate| (rate * PACED.as_secs_f64()) as usize);
        let pace = rate.map(|rate| Pace { begin: time(ClockId::Monotonic) + LEAD, rate: rate.max(0.01) });
        Self { rounds: enough.min(in_time).max(3), gather, pace }
    }
}

// === impl Pace ===

impl Pace {
    /// When a round is due, by the monotonic clock.
    fn due(&self, round: usize) -> Duration {
        self.begin + Duration::from_secs_f64(round as f64 / self.rate)
    }
}

fn time(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
