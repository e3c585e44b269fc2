//! This machine's own limit: the same bytes to as many sockets, written by a bare loop.
//!
//! The loop runs in a process of its own (half of the sockets each, as with a server), on one thread that does nothing but
//! write; this process reads. Its processor time is what no server can do without.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use mio::{Events, Interest, Poll, Token};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::limits;
use crate::outcome::Outcome;

/// Deliveries of one measurement; enough for two or three seconds.
const DELIVERIES: usize = 400_000;
/// A measurement at a pace takes no longer, unless three rounds do.
const PACED: Duration = Duration::from_secs(5);
/// No measurement takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures what a bare loop can deliver on this machine.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  tidewire-load floor --sockets 1000 --bytes 190
  tidewire-load floor --sockets 1000 --bytes 190 --writer-cpu 0 --gather 64 --json")]
pub struct FloorArgs {
    /// Sockets to write to
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    sockets: u32,
    /// Bytes of a frame
    #[arg(long, default_value_t = 190, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    bytes: u32,
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
struct Task {
    /// How often every socket is written to.
    rounds: usize,
    /// Frames per write.
    gather: usize,
    /// Rounds a second; as fast as possible without.
    pace: Option<f64>,
}

/// The limit.
#[derive(Debug, Clone, Copy)]
pub struct Floor {
    /// Each frame in a write of its own, as fast as possible.
    pub alone: Written,
    /// Each frame in a write of its own, at the pace that was asked for.
    pub paced: Option<Written>,
    /// Several frames in one write.
    pub gathered: Written,
}

impl Floor {
    /// What a server at the same pace is to be compared with: between two rounds its readers fall asleep as well, and
    /// waking them is a part of writing.
    pub fn comparable(&self) -> Written {
        self.paced.unwrap_or(self.alone)
    }
}

/// The writing half; not for people.
#[derive(Debug, Clone, Args)]
pub struct WriterArgs {
    sockets: u32,
    bytes: u32,
    cpu: Option<u32>,
}

struct Writer(Child);

// === impl Written ===

impl Written {
    /// Deliveries for each second of processor time.
    pub fn per_cpu_second(&self) -> f64 {
        self.deliveries as f64 / self.cpu_s.max(1e-9)
    }
}

// === impl FloorOptions ===

impl FloorOptions {
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
        if let Some(paced) = self.paced {
            let words = "floor: the same, at the pace";
            outcome.number("floor_paced_per_cpu_second", words, paced.per_cpu_second(), "/s");
        }
        let each = self.alone.deliveries as f64 / self.alone.wall_s.max(1e-9);
        outcome.number("floor_per_second", "floor: deliveries per second", each, "/s");
        let words = "floor: the same, frames gathered";
        outcome.number("floor_gathered_per_cpu_second", words, self.gathered.per_cpu_second(), "/s");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // It is a child that was started here; if it has ended by itself there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the scenario.
///
/// # Errors
/// It could not be run.
pub fn run(args: &FloorArgs) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::new("floor");
    outcome.count("sockets", "sockets", args.sockets.into());
    outcome.count("frame_bytes", "bytes of a frame", args.bytes.into());
    measure(args.sockets as usize, args.bytes as usize, &args.options)?.tell(&mut outcome);
    Ok(outcome)
}

/// Measures the limit for so many sockets and so long a frame.
///
/// # Errors
/// The system allows less, or the writing process fails.
pub fn measure(sockets: usize, frame_bytes: usize, options: &FloorOptions) -> anyhow::Result<Floor> {
    limits::make_room(sockets)?;
    let program = std::env::current_exe().context("where this program is")?;
    let mut command = Command::new(program);
    command.args(["floor-writer", &sockets.to_string(), &frame_bytes.to_string()]);
    command.args(options.writer_cpu.map(|cpu| cpu.to_string()));
    let child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("the writing process")?;
    let mut writer = Writer(child);
    let mut lines = BufReader::new(writer.0.stdout.take().context("its output")?).lines();
    let mut line = move || lines.next().context("the writing process ended")?.context("its output");
    let port: u16 = line()?.parse().context("its port")?;
    let mut reader = Reader::connect(sockets, port)?;

    let mut run = |task: Task| -> anyhow::Result<Written> {
        let input = writer.0.stdin.as_mut().context("its input")?;
        writeln!(input, "{}", serde_json::to_string(&task)?)?;
        reader.read((task.rounds * sockets * task.gather * frame_bytes) as u64)?;
        serde_json::from_str(&line()?).context("its figures")
    };
    let alone = run(Task::new(sockets, 1, None))?;
    let paced = options.pace.map(|pace| run(Task::new(sockets, 1, Some(pace)))).transpose()?;
    let gathered = run(Task::new(sockets, options.gather as usize, None))?;
    Ok(Floor { alone, paced, gathered })
}

// === impl Task ===

impl Task {
    fn new(sockets: usize, gather: usize, pace: Option<f64>) -> Self {
        let enough = DELIVERIES / sockets / gather;
        let in_time = pace.map_or(enough, |pace| (pace * PACED.as_secs_f64()) as usize);
        Self { rounds: enough.min(in_time).max(3), gather, pace }
    }
}

// === reading ===

struct Reader {
    poll: Poll,
    sockets: Vec<mio::net::TcpStream>,
}

impl Reader {
    fn connect(sockets: usize, port: u16) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut opened = Vec::with_capacity(sockets);
        for number in 0..sockets {
            let stream = TcpStream::connect(address).context("connecting to the writing process")?;
            stream.set_nonblocking(true)?;
            let mut stream = mio::net::TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
            opened.push(stream);
        }
        Ok(Self { poll, sockets: opened })
    }

    /// Reads so many bytes from all sockets together.
    fn read(&mut self, mut left: u64) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut events = Events::with_capacity(1_024);
        let mut buffer = vec![0; 256 << 10];
        while left > 0 {
            ensure!(Instant::now() < deadline, "the floor was not measured within {PATIENCE:?}");
            self.poll.poll(&mut events, Some(Duration::from_millis(100)))?;
            for event in &events {
                let Token(number) = event.token();
                let Some(socket) = self.sockets.get_mut(number) else { continue };
                loop {
                    match socket.read(&mut buffer) {
                        Ok(0) => bail!("the writing process closed a socket"),
                        Ok(bytes) => left = left.saturating_sub(bytes as u64),
                        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        Ok(())
    }
}

// === writing ===

/// The writing half: says where it listens, then writes each time it is told to and says what that cost.
///
/// # Errors
/// Of sockets and pipes.
pub fn write(args: &WriterArgs) -> anyhow::Result<()> {
    let sockets = args.sockets as usize;
    limits::make_room(sockets)?;
    if let Some(cpu) = args.cpu {
        let mut cores = rustix::thread::CpuSet::new();
        ensure!((cpu as usize) < rustix::thread::CpuSet::MAX_CPU, "there is no core {cpu}");
        cores.set(cpu as usize);
        rustix::thread::sched_setaffinity(None, &cores).context("binding to a core")?;
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let mut out = std::io::stdout();
    writeln!(out, "{}", listener.local_addr()?.port())?;
    let mut streams = Vec::with_capacity(sockets);
    for _ in 0..sockets {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    for line in std::io::stdin().lines() {
        let task: Task = serde_json::from_str(&line?)?;
        let written = write_rounds(&mut streams, args.bytes as usize, task)?;
        writeln!(out, "{}", serde_json::to_string(&written)?)?;
    }
    Ok(())
}

fn write_rounds(streams: &mut [TcpStream], frame_bytes: usize, task: Task) -> std::io::Result<Written> {
    let Task { rounds, gather, pace } = task;
    let frames = vec![b'x'; frame_bytes * gather];
    let (began, cpu) = (Instant::now(), thread_cpu());
    for round in 0..rounds {
        if let Some(pace) = pace {
            let due = began + Duration::from_secs_f64(round as f64 / pace.max(0.01));
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
        }
        for stream in &mut *streams {
            stream.write_all(&frames)?;
        }
    }
    Ok(Written {
        deliveries: (rounds * streams.len() * gather) as u64,
        cpu_s: (thread_cpu() - cpu).as_secs_f64(),
        wall_s: began.elapsed().as_secs_f64(),
    })
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}
