//! The writing half, a process of its own.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rand::seq::SliceRandom as _;
use rand::{SeedableRng as _, rngs::SmallRng};
use rustix::time::ClockId;

use super::{PING, PING_STEP, PONG, Rounds, Task, Written, ping_share, time};
use crate::limits;

/// How long answers to pings may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The writing half; not for people.
#[derive(Debug, Clone, Args)]
pub struct WriterArgs {
    sockets: u32,
    bytes: u32,
    cpu: Option<u32>,
}

/// Says where it listens, then writes each time it is told to and says what that cost.
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
    let (mut calls, _) = listener.accept()?;
    let mut streams = Vec::with_capacity(sockets);
    for _ in 0..sockets {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    for line in std::io::stdin().lines() {
        let written = match serde_json::from_str(&line?)? {
            Task::Rounds(rounds) => write_rounds(&mut streams, &mut calls, args.bytes as usize, rounds)?,
            Task::Pings(steps) => ping(&mut streams, steps)?,
        };
        writeln!(out, "{}", serde_json::to_string(&written)?)?;
    }
    Ok(())
}

fn write_rounds(
    streams: &mut [TcpStream],
    calls: &mut TcpStream,
    frame_bytes: usize,
    rounds: Rounds,
) -> std::io::Result<Written> {
    let Rounds { rounds, gather, pace } = rounds;
    let frames = vec![b'x'; frame_bytes * gather];
    let (began, cpu) = (Instant::now(), time(ClockId::ThreadCPUTime));
    for _ in 0..rounds {
        if pace.is_some() {
            calls.read_exact(&mut [0])?;
        }
        for stream in &mut *streams {
            stream.write_all(&frames)?;
        }
    }
    Ok(written((rounds * streams.len() * gather) as u64, cpu, began))
}

/// Pings a share of the sockets at each moment, in an order that no cache can guess, and reads answers as they come.
fn ping(streams: &mut [TcpStream], steps: usize) -> anyhow::Result<Written> {
    let mut poll = Poll::new()?;
    for (number, stream) in streams.iter().enumerate() {
        stream.set_nonblocking(true)?;
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry().register(&mut SourceFd(&stream.as_raw_fd()), Token(number), interest)?;
    }
    let mut order: Vec<usize> = (0..streams.len()).collect();
    order.shuffle(&mut SmallRng::seed_from_u64(1));
    let mut events = Events::with_capacity(256);
    // Every socket is writable at first.
    loop {
        poll.poll(&mut events, Some(Duration::ZERO))?;
        if events.is_empty() {
            break;
        }
    }

    let (began, cpu) = (Instant::now(), time(ClockId::ThreadCPUTime));
    let (mut pings, mut pongs, mut due) = (0, 0, began);
    for share in order.chunks(ping_share(streams.len())).take(steps) {
        pongs += read_pongs(&mut poll, &mut events, streams, due, usize::MAX)?;
        for number in share {
            let Some(stream) = streams.get_mut(*number) else { continue };
            stream.write_all(PING)?;
            pings += 1;
        }
        due += PING_STEP;
    }
    pongs += read_pongs(&mut poll, &mut events, streams, due + PATIENCE, pings - pongs)?;
    ensure!(pongs == pings, "{pings} pings, {pongs} answers");
    Ok(written(pongs as u64, cpu, began))
}

/// Reads answers until a moment, or until there were so many.
fn read_pongs(
    poll: &mut Poll,
    events: &mut Events,
    streams: &mut [TcpStream],
    until: Instant,
    enough: usize,
) -> anyhow::Result<usize> {
    let (mut pongs, mut buffer) = (0, [0; 4_096]);
    while pongs < enough {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        poll.poll(events, Some(left))?;
        for event in &*events {
            let Some(stream) = streams.get_mut(event.token().0) else { continue };
            match stream.read(&mut buffer) {
                Ok(0) => bail!("the reading process closed a socket"),
                Ok(read) => pongs += read / PONG.len(),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(pongs)
}

fn written(deliveries: u64, cpu: Duration, began: Instant) -> Written {
    Written {
        deliveries,
        cpu_s: (time(ClockId::ThreadCPUTime) - cpu).as_secs_f64(),
        wall_s: began.elapsed().as_secs_f64(),
    }
}
