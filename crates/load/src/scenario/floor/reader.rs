//! The reading half, in the tool's own process.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use rustix::time::ClockId;

use super::{PING, PONG, Pace, Rounds, time};
use crate::stats::Latency;

/// No measurement takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sockets that are read, each with the bytes that came on it in this measurement.
pub(super) struct Reader {
    poll: Poll,
    /// Over which the loop is told that a round is due: a byte for each.
    calls: std::net::TcpStream,
    sockets: Vec<(TcpStream, u64)>,
}

impl Reader {
    /// Opens the sockets.
    pub(super) fn connect(sockets: usize, port: u16) -> anyhow::Result<Self> {
        let poll = Poll::new()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let connect = || -> anyhow::Result<std::net::TcpStream> {
            let stream =
                std::net::TcpStream::connect(address).context("connecting to the writing process")?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        let calls = connect()?;
        let mut opened = Vec::with_capacity(sockets);
        for number in 0..sockets {
            let stream = connect()?;
            stream.set_nonblocking(true)?;
            let mut stream = TcpStream::from_std(stream);
            poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
            opened.push((stream, 0));
        }
        Ok(Self { poll, calls, sockets: opened })
    }

    /// Reads all frames. At a pace: calls for each round, and tells how long after its moment each frame was read.
    pub(super) fn read(&mut self, rounds: Rounds, frame_bytes: usize) -> anyhow::Result<Latency> {
        let Some(pace) = rounds.pace else { return self.read_frames(rounds, frame_bytes) };
        let calls = self.calls.try_clone()?;
        std::thread::scope(|threads| {
            let calling = threads.spawn(move || call(calls, pace, rounds.rounds));
            let latency = self.read_frames(rounds, frame_bytes)?;
            calling.join().map_err(|_| anyhow::anyhow!("the caller panicked"))??;
            Ok(latency)
        })
    }

    fn read_frames(&mut self, rounds: Rounds, frame_bytes: usize) -> anyhow::Result<Latency> {
        let frame_bytes = frame_bytes as u64;
        let mut latency = Latency::default();
        let mut left = (rounds.rounds * self.sockets.len() * rounds.gather) as u64 * frame_bytes;
        self.sockets.iter_mut().for_each(|(_, bytes)| *bytes = 0);
        self.turn(|_, bytes, read| {
            let before = *bytes / frame_bytes;
            *bytes += read as u64;
            if let Some(pace) = rounds.pace {
                let now = time(ClockId::Monotonic);
                for frame in before..*bytes / frame_bytes {
                    latency.record(now.saturating_sub(pace.due(frame as usize)));
                }
            }
            left = left.saturating_sub(read as u64);
            Ok(left == 0)
        })?;
        Ok(latency)
    }

    /// Answers so many pings.
    pub(super) fn answer(&mut self, pings: usize) -> anyhow::Result<()> {
        let mut left = pings * PING.len();
        self.turn(|socket, _, read| {
            for _ in 0..read / PING.len() {
                socket.write_all(PONG)?;
            }
            left = left.saturating_sub(read);
            Ok(left == 0)
        })
    }

    /// Reads until `take`, which is told of each piece that came, has had enough.
    fn turn(
        &mut self,
        mut take: impl FnMut(&mut TcpStream, &mut u64, usize) -> std::io::Result<bool>,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut events = Events::with_capacity(1_024);
        let mut buffer = vec![0; 256 << 10];
        let mut is_enough = false;
        while !is_enough {
            ensure!(Instant::now() < deadline, "the floor was not measured within {PATIENCE:?}");
            self.poll.poll(&mut events, Some(Duration::from_millis(100)))?;
            for event in &events {
                let Some((socket, bytes)) = self.sockets.get_mut(event.token().0) else { continue };
                loop {
                    match socket.read(&mut buffer) {
                        Ok(0) => bail!("the writing process closed a socket"),
                        Ok(read) => {
                            is_enough |= take(socket, bytes, read)?;
                            // Less than there was room for: the socket is empty.
                            if read < buffer.len() {
                                break;
                            }
                        }
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error.into()),
                    }
                }
            }
        }
        Ok(())
    }
}

/// Tells the loop of each round when it is due, as a publisher does a server.
fn call(mut calls: std::net::TcpStream, pace: Pace, rounds: usize) -> std::io::Result<()> {
    for round in 0..rounds {
        std::thread::sleep(pace.due(round).saturating_sub(time(ClockId::Monotonic)));
        calls.write_all(b"!")?;
    }
    Ok(())
}
