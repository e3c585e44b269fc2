//! Measures the engine beside a plain pipelined client that sends the same commands to the same server, in turns.
//!
//! `redis-measure MEASURE PORT [NAME=NUMBER]...`, where a Redis that does nothing else listens on PORT of 127.0.0.1, and
//! everything in it is removed. Prints the figures as one JSON object; times are in the unit that ends their name.
//! `scripts/bench` starts it with the server bound to one core and this program to the other.
//!
//! * `publish`: `callers` at a time for `turns` turns of `ms` milliseconds each; `kept=1` with history.
//! * `receive`: announcements of `channels` channels, as fast as they are taken.
//! * `resubscribe`: `channels` channels after the connection was cut.
//! * `pingpong`: from publish to receipt, `count` times at `rate` a second.
//!
//! `plain`: the client compared with. It pipelines without limits but those of the caller, looks at nothing in an answer
//! but where it ends, and repeats nothing. What it sends was recorded from the engine. `callers`: the same shared by tasks
//! that each wait for their own answer, which is what the engine is for.

// A measurement that cannot be made ends with the reason.
#![allow(clippy::unwrap_used, clippy::panic)]

mod callers;
mod plain;
mod publish;
mod pubsub;
mod record;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tidewire_engine::{Announcements, Broker, HistoryRetention, NewPublication};
use tidewire_engine_redis::{Address, Options, RedisEngine, Topology};
use tidewire_protocol::ChannelName;

/// That of the server.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bytes of a payload.
const PAYLOAD: usize = 128;

/// What was asked for.
pub(crate) struct Wanted {
    pub(crate) port: u16,
    numbers: BTreeMap<String, u64>,
}

/// Names and values, in order.
#[derive(Default)]
pub(crate) struct Figures(Vec<(String, f64)>);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let usage = "redis-measure publish|receive|resubscribe|pingpong PORT [NAME=NUMBER]...";
    let [measure, port, numbers @ ..] = &arguments[..] else { panic!("{usage}") };
    let number = |word: &String| {
        let (name, value) = word.split_once('=').unwrap_or_else(|| panic!("{usage}"));
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{word}: no number")))
    };
    let wanted = Wanted { port: port.parse().unwrap(), numbers: numbers.iter().map(number).collect() };
    // As the server does.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let figures = match measure.as_str() {
        "publish" => publish::measure(&wanted, &runtime),
        "receive" => pubsub::receive(&wanted, &runtime),
        "resubscribe" => pubsub::resubscribe(&wanted, &runtime),
        "pingpong" => pubsub::pingpong(&wanted, &runtime),
        _ => panic!("{usage}"),
    };
    println!("{}", figures.json());
}

// === impl Wanted ===

impl Wanted {
    /// The number of this name, or what is usual.
    pub(crate) fn number(&self, name: &str, usual: u64) -> u64 {
        self.numbers.get(name).copied().unwrap_or(usual)
    }
}

// === impl Figures ===

impl Figures {
    pub(crate) fn add(&mut self, name: &str, value: f64) {
        self.0.push((name.to_owned(), value));
    }

    /// Three percentiles, in microseconds.
    pub(crate) fn add_times(&mut self, name: &str, mut times: Vec<Duration>) {
        times.sort_unstable();
        for (percentile, part) in [("p50", 0.5), ("p99", 0.99), ("p999", 0.999)] {
            let at = (times.len() as f64 * part) as usize;
            let time = times[at.min(times.len() - 1)];
            self.add(&format!("{name}_{percentile}_us"), time.as_nanos() as f64 / 1e3);
        }
    }

    fn json(&self) -> String {
        let mut text = String::from("{");
        for (at, (name, value)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            let _ = write!(text, "{comma}\"{name}\": {value}");
        }
        text + "}"
    }
}

/// An engine that is connected, and whose announcements go to `sink`.
pub(crate) async fn engine(port: u16, sink: Arc<dyn Announcements>) -> RedisEngine {
    let topology = Topology::Servers(vec![Address::tcp("127.0.0.1", port)]);
    let engine = RedisEngine::start(&Options { topology, ..Options::default() }).unwrap();
    engine.attach(sink);
    engine.connected(Duration::from_secs(10)).await.unwrap();
    engine
}

pub(crate) fn channels(count: u64) -> Vec<ChannelName> {
    (0..count).map(|number| ChannelName::from(format!("measure:{number}"))).collect()
}

pub(crate) fn publication(kept: bool) -> NewPublication {
    let hour = Duration::from_secs(3_600);
    let retention = HistoryRetention { size: 100, ttl: hour, meta_ttl: 2 * hour };
    let data = format!("\"{}\"", "x".repeat(PAYLOAD - 2));
    NewPublication { data: data.into(), retention: kept.then_some(retention), ..Default::default() }
}

/// Processor time of this process so far, or of this thread.
pub(crate) fn used(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(u64::try_from(time.tv_sec).unwrap(), u32::try_from(time.tv_nsec).unwrap())
}
