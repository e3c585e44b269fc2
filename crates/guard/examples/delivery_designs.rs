//! Three ways from a publication to a thousand sockets, without anything around them, to compare what they cost.
//!
//! * `frame`: each frame is written by itself, and waits in a queue where the socket is full.
//! * `outbox`: each connection has a queue of shared frames ([`Outbox`], what the server has); what waits is written together.
//! * `ring`: each channel has a queue of frames, each subscriber a place in it and, for what is its own, an outbox besides.
//!
//! ```sh
//! cargo build --profile guard -p tidewire-guard --example delivery_designs
//! target/guard/examples/delivery_designs                     # writes and bytes of each design
//! valgrind --tool=callgrind --callgrind-out-file=/dev/null --collect-atstart=no \
//!     --toggle-collect='*counted*' target/guard/examples/delivery_designs ring 8    # instructions of 100 rounds of 8
//! ```

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a measurement that cannot go on ends"
)]

use std::alloc::System;
use std::collections::VecDeque;
use std::hint::black_box;
use std::io::IoSlice;

use bytes::Bytes;
use smallvec::SmallVec;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tidewire_core::Outbox;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const SUBSCRIBERS: usize = 1_000;
/// A publication of 128 bytes in its frame.
const FRAME_BYTES: usize = 190;
const ROUNDS: usize = 100;
/// Frames joined in one write, as in the reactor.
const SLICES_PER_WRITE: usize = 64;
/// What may wait for one subscriber.
const WAITING_MAX: usize = 1 << 20;

/// The other end: takes everything, or nothing.
#[derive(Default)]
struct Socket {
    is_full: bool,
    writes: u64,
    bytes: u64,
}

impl Socket {
    /// Returns what was taken.
    fn write(&mut self, slices: &[IoSlice<'_>]) -> usize {
        if self.is_full {
            return 0;
        }
        let bytes = black_box(slices).iter().map(|slice| slice.len()).sum();
        self.writes += 1;
        self.bytes += bytes as u64;
        bytes
    }
}

/// Publications in, writes out.
trait Design {
    fn new(sockets: Vec<Socket>) -> Self
    where
        Self: Sized;
    /// A publication has come.
    fn publish(&mut self, frame: &Bytes);
    /// Sockets may be written.
    fn flush(&mut self);
    fn sockets(&self) -> Box<dyn Iterator<Item = &Socket> + '_>;
}

type Slices<'a> = SmallVec<[IoSlice<'a>; SLICES_PER_WRITE]>;

// === one frame per write, and the outbox ===

/// Queues of frames. `MAX`: how many of them are joined in one write.
struct Queues<const MAX: usize> {
    connections: Vec<(Outbox, bool, Socket)>,
    ready: VecDeque<u32>,
}

impl<const MAX: usize> Design for Queues<MAX> {
    fn new(sockets: Vec<Socket>) -> Self {
        let connections = sockets.into_iter().map(|socket| (Outbox::default(), false, socket)).collect();
        Self { connections, ready: VecDeque::new() }
    }

    fn publish(&mut self, frame: &Bytes) {
        for (slot, (outbox, listed, _)) in self.connections.iter_mut().enumerate() {
            outbox.push(frame.clone());
            assert!(outbox.weight() <= WAITING_MAX, "a slow subscriber is cut");
            if !std::mem::replace(listed, true) {
                self.ready.push_back(slot as u32);
            }
        }
    }

    fn flush(&mut self) {
        while let Some(slot) = self.ready.pop_front() {
            let (outbox, listed, socket) = &mut self.connections[slot as usize];
            *listed = false;
            while !outbox.is_empty() {
                let mut slices = Slices::new();
                outbox.slices(&mut slices, MAX);
                let taken = socket.write(&slices);
                drop(slices);
                if taken == 0 {
                    break;
                }
                outbox.advance(taken);
            }
        }
    }

    fn sockets(&self) -> Box<dyn Iterator<Item = &Socket> + '_> {
        Box::new(self.connections.iter().map(|(_, _, socket)| socket))
    }
}

// === the ring ===

/// Frames of one channel, and where each subscriber stands.
struct Ring {
    frames: VecDeque<Bytes>,
    /// The number of the first frame that somebody still needs.
    first: u64,
    bytes: usize,
    subscribers: Vec<Subscriber>,
    has_news: bool,
}

struct Subscriber {
    /// The number of the frame that comes next.
    next: u64,
    /// Bytes of it that are written.
    written: usize,
    /// Replies, pings and other channels: they must be written too, so they are looked for.
    own: Outbox,
    socket: Socket,
}

impl Ring {
    /// Drops what everybody has.
    fn trim(&mut self) {
        let slowest = self.subscribers.iter().map(|subscriber| subscriber.next).min().unwrap_or(u64::MAX);
        while self.first < slowest {
            let Some(frame) = self.frames.pop_front() else { return };
            self.first += 1;
            self.bytes -= frame.len();
        }
    }
}

impl Subscriber {
    /// Takes `written` bytes of `frames`, which begin with its next one.
    fn advance<'a>(&mut self, frames: impl Iterator<Item = &'a Bytes>, written: usize) {
        let mut left = self.written + written;
        for frame in frames {
            if left < frame.len() {
                break;
            }
            left -= frame.len();
            self.next += 1;
        }
        self.written = left;
    }
}

impl Design for Ring {
    fn new(sockets: Vec<Socket>) -> Self {
        let subscriber = |socket| Subscriber { next: 0, written: 0, own: Outbox::default(), socket };
        let subscribers = sockets.into_iter().map(subscriber).collect();
        Self { frames: VecDeque::new(), first: 0, bytes: 0, subscribers, has_news: false }
    }

    fn publish(&mut self, frame: &Bytes) {
        self.frames.push_back(frame.clone());
        self.bytes += frame.len();
        assert!(self.bytes <= WAITING_MAX, "the slowest subscriber is cut");
        self.has_news = true;
    }

    fn flush(&mut self) {
        if !std::mem::take(&mut self.has_news) {
            return;
        }
        let end = self.first + self.frames.len() as u64;
        for subscriber in &mut self.subscribers {
            assert!(subscriber.own.is_empty(), "nothing of its own in this measurement");
            while subscriber.next < end {
                let from = (subscriber.next - self.first) as usize;
                let mut slices = Slices::new();
                let mut skip = subscriber.written;
                let slice = |frame| IoSlice::new(&Bytes::as_ref(frame)[std::mem::take(&mut skip)..]);
                slices.extend(self.frames.range(from..).take(SLICES_PER_WRITE).map(slice));
                let taken = subscriber.socket.write(&slices);
                drop(slices);
                if taken == 0 {
                    break;
                }
                subscriber.advance(self.frames.range(from..), taken);
            }
        }
        self.trim();
    }

    fn sockets(&self) -> Box<dyn Iterator<Item = &Socket> + '_> {
        Box::new(self.subscribers.iter().map(|subscriber| &subscriber.socket))
    }
}

// === measuring ===

/// What is counted: so many publications at once, then a flush, a hundred times.
#[inline(never)]
fn counted(design: &mut dyn Design, gathered: usize, frame: &Bytes) {
    for _ in 0..ROUNDS {
        (0..gathered).for_each(|_| design.publish(frame));
        design.flush();
    }
}

fn sockets(full: usize) -> Vec<Socket> {
    (0..SUBSCRIBERS).map(|at| Socket { is_full: at < full, ..Socket::default() }).collect()
}

fn make(name: &str, full: usize) -> Box<dyn Design> {
    match name {
        "frame" => Box::new(Queues::<1>::new(sockets(full))),
        "outbox" => Box::new(Queues::<SLICES_PER_WRITE>::new(sockets(full))),
        "ring" => Box::new(Ring::new(sockets(full))),
        other => panic!("no design {other}: frame, outbox or ring"),
    }
}

/// Bytes held for 100 frames that `full` of the sockets do not take, without the frames themselves.
fn waiting(name: &str, full: usize) -> usize {
    let frame = Bytes::from(vec![b'x'; FRAME_BYTES]);
    let mut design = make(name, full);
    let region = Region::new(ALLOCATOR);
    for _ in 0..100 {
        design.publish(&frame);
        design.flush();
    }
    let change = region.change();
    change.bytes_allocated - change.bytes_deallocated
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let frame = Bytes::from(vec![b'x'; FRAME_BYTES]);
    if let [name, gathered] = &words[..] {
        let gathered = gathered.parse().unwrap();
        let mut design = make(name, 0);
        counted(&mut *design, gathered, &frame);
        let bytes: u64 = design.sockets().map(|socket| socket.bytes).sum();
        assert_eq!(bytes as usize, ROUNDS * gathered * SUBSCRIBERS * FRAME_BYTES);
        return;
    }
    println!(
        "design, writes per delivery of 1 and of 8 gathered, bytes for 100 frames that 10 and 1000 do not take"
    );
    for name in ["frame", "outbox", "ring"] {
        let writes = [1, 8].map(|gathered| {
            let mut design = make(name, 0);
            counted(&mut *design, gathered, &frame);
            let writes: u64 = design.sockets().map(|socket| socket.writes).sum();
            writes as f64 / (ROUNDS * gathered * SUBSCRIBERS) as f64
        });
        println!("{name:<7} {writes:?} {} {}", waiting(name, 10), waiting(name, 1_000));
    }
    println!(
        "idle, bytes of a subscriber: outbox {}, ring {}",
        size_of::<Outbox>(),
        size_of::<Subscriber>() - size_of::<Socket>()
    );
}
