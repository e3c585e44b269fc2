//! Announcements: how fast they come, how soon channels are announced again, how late one is.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustix::time::ClockId;
use tidewire_engine::{Announcements, Broker};
use tidewire_protocol::{ChannelName, ClientInfo, Epoch, Publication};
use tokio::runtime::Runtime;

use crate::plain::{Plain, command};
use crate::record::recorded;
use crate::{Figures, Wanted, channels, engine, publication, used};

/// Messages that may be between publisher and receiver.
const WINDOW: u64 = 8_192;
/// Commands in one write of the publisher.
const BATCH: u64 = 128;
/// Channels in one command to subscribe.
const TOGETHER: usize = 1_000;

/// Counts what it is told, and knows when the last publication came.
#[derive(Default)]
pub(crate) struct Counting {
    publications: AtomicU64,
    lost: AtomicU64,
    last: Mutex<Option<Instant>>,
    /// Looks at the clock for each publication.
    timed: AtomicBool,
}

impl Announcements for Counting {
    fn publication(
        &self,
        _: &ChannelName,
        _: Arc<Publication>,
        _: Option<&Epoch>,
        _: Option<Arc<Publication>>,
    ) {
        if self.timed.load(Ordering::Relaxed) {
            *self.last.lock() = Some(Instant::now());
        }
        self.publications.fetch_add(1, Ordering::Release);
    }

    fn join(&self, _: &ChannelName, _: Arc<ClientInfo>) {}

    fn leave(&self, _: &ChannelName, _: Arc<ClientInfo>) {}

    fn lost(&self, _: &ChannelName) {
        self.lost.fetch_add(1, Ordering::Release);
    }
}

// === How fast ===

pub(crate) fn receive(wanted: &Wanted, runtime: &Runtime) -> Figures {
    let turn = Duration::from_millis(wanted.number("ms", 1_000));
    let channels = channels(wanted.number("channels", 100));
    let sink = Arc::<Counting>::default();
    let engine = runtime.block_on(engine(wanted.port, sink.clone()));
    let commands = recorded(wanted.port, "PUBLISH", || {
        runtime.block_on(async {
            for channel in &channels {
                engine.publish(channel, publication(false)).await.unwrap();
            }
        });
    });
    let mut figures = Figures::default();
    let (mut rates, mut costs) = ([0.0; 2], [0.0; 2]);
    let turns = wanted.number("turns", 5);
    for number in 0..=turns {
        let plain = {
            let counted = Arc::<AtomicU64>::default();
            let receiver = PlainReceiver::start(wanted.port, &names(&commands), &counted);
            let found = flood(wanted.port, &commands, turn, || counted.load(Ordering::Acquire));
            receiver.stop(wanted.port);
            found
        };
        let by_engine = {
            runtime.block_on(engine.subscribe(&channels)).unwrap();
            let before = sink.publications.load(Ordering::Acquire);
            let count = || sink.publications.load(Ordering::Acquire) - before;
            let found = flood(wanted.port, &commands, turn, count);
            runtime.block_on(engine.unsubscribe(&channels)).unwrap();
            found
        };
        for (at, (rate, cost)) in [by_engine, plain].into_iter().enumerate() {
            if number > 0 {
                rates[at] += rate / turns as f64;
                costs[at] += cost / turns as f64;
            }
        }
    }
    figures.add("share", rates[0] / rates[1]);
    for (at, name) in ["engine", "plain"].into_iter().enumerate() {
        figures.add(&format!("{name}_per_second"), rates[at]);
        figures.add(&format!("{name}_cpu_us"), costs[at]);
    }
    figures
}

/// Publishes as fast as it is received, for a turn: messages a second, and microseconds of processor time that this
/// process took for each without the publishing.
fn flood(port: u16, commands: &[Vec<u8>], turn: Duration, received: impl Fn() -> u64) -> (f64, f64) {
    let batch = commands.iter().cycle().take(BATCH as usize).flatten().copied().collect::<Vec<u8>>();
    let mut publisher = Plain::connect(port);
    let (mut sent, mut under_way) = (0, 0);
    let begun = Instant::now();
    let (all, mine) = (used(ClockId::ProcessCPUTime), used(ClockId::ThreadCPUTime));
    while begun.elapsed() < turn {
        if sent - received() > WINDOW - BATCH {
            std::thread::sleep(Duration::from_micros(50));
            continue;
        }
        publisher.send(&batch);
        sent += BATCH;
        under_way += BATCH;
        while under_way > 4 * BATCH {
            under_way -= publisher.count() as u64;
        }
    }
    while under_way > 0 {
        under_way -= publisher.count() as u64;
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    while received() < sent {
        assert!(Instant::now() < deadline, "{} of {sent} messages came", received());
        std::thread::sleep(Duration::from_micros(50));
    }
    let took = begun.elapsed();
    let (all, mine) = (used(ClockId::ProcessCPUTime) - all, used(ClockId::ThreadCPUTime) - mine);
    (sent as f64 / took.as_secs_f64(), (all - mine).as_secs_f64() * 1e6 / sent as f64)
}

/// Where recorded publications go: the second word.
fn names(commands: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let name =
        |command: &Vec<u8>| command.split(|&byte| byte == b'\n').nth(4).unwrap().trim_ascii_end().to_vec();
    commands.iter().map(name).collect()
}

/// The plain client on a thread of its own: subscribes and counts.
struct PlainReceiver(std::thread::JoinHandle<()>);

impl PlainReceiver {
    fn start(port: u16, names: &[Vec<u8>], counted: &Arc<AtomicU64>) -> Self {
        let mut plain = Plain::connect(port);
        subscribe(&mut plain, names);
        let counted = Arc::clone(counted);
        Self(std::thread::spawn(move || {
            let mut open = true;
            while open {
                let mut count = 0;
                plain.each(|message| {
                    count += 1;
                    open &= !message.ends_with(b"\r\nstop\r\n");
                });
                counted.fetch_add(count, Ordering::Release);
            }
        }))
    }

    fn stop(self, port: u16) {
        Plain::connect(port).ask(&[b"PUBLISH", b"measure: stop", b"stop"]);
        self.0.join().unwrap();
    }
}

/// Subscribes to all of these and one more, which ends it.
fn subscribe(plain: &mut Plain, names: &[Vec<u8>]) {
    let mut bytes = Vec::new();
    for together in names.chunks(TOGETHER) {
        let words: Vec<&[u8]> =
            std::iter::once(&b"SUBSCRIBE"[..]).chain(together.iter().map(Vec::as_slice)).collect();
        bytes.extend(command(&words));
    }
    bytes.extend(command(&[b"SUBSCRIBE", b"measure: stop"]));
    plain.send(&bytes);
    let mut left = names.len() + 1;
    while left > 0 {
        left -= plain.count();
    }
}

// === How soon ===

pub(crate) fn resubscribe(wanted: &Wanted, runtime: &Runtime) -> Figures {
    let channels = channels(wanted.number("channels", 100_000));
    let sink = Arc::<Counting>::default();
    let engine = runtime.block_on(engine(wanted.port, sink.clone()));
    let mut figures = Figures::default();

    let commands = recorded(wanted.port, "SUBSCRIBE", || {
        runtime.block_on(engine.subscribe(&channels)).unwrap();
    });
    runtime.block_on(engine.unsubscribe(&channels)).unwrap();
    let begun = Instant::now();
    let mut plain = Plain::connect(wanted.port);
    plain.send(&commands.concat());
    let mut confirmed = 0;
    while confirmed < channels.len() {
        confirmed += plain.count();
    }
    figures.add("plain_s", begun.elapsed().as_secs_f64());
    drop(plain);

    let begun = Instant::now();
    runtime.block_on(engine.subscribe(&channels)).unwrap();
    figures.add("subscribe_s", begun.elapsed().as_secs_f64());

    let used_before = used(ClockId::ProcessCPUTime);
    let begun = Instant::now();
    Plain::connect(wanted.port).ask(&[b"CLIENT", b"KILL", b"TYPE", b"pubsub"]);
    let deadline = begun + Duration::from_secs(60);
    while sink.lost.load(Ordering::Acquire) < channels.len() as u64 {
        assert!(Instant::now() < deadline, "not announced again after a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
    figures.add("resubscribe_s", begun.elapsed().as_secs_f64());
    let counters = engine.counters();
    figures.add("resubscribe_connects", counters.connects as f64);
    figures.add("resubscribe_connect_failures", counters.connect_failures as f64);
    figures.add("resubscribe_cpu_s", (used(ClockId::ProcessCPUTime) - used_before).as_secs_f64());
    figures
}

// === How late ===

pub(crate) fn pingpong(wanted: &Wanted, runtime: &Runtime) -> Figures {
    let (count, rate) = (wanted.number("count", 2_000), wanted.number("rate", 200));
    let channel = channels(1).remove(0);
    let sink = Arc::<Counting>::default();
    sink.timed.store(true, Ordering::Relaxed);
    let one = runtime.block_on(engine(wanted.port, Arc::<Counting>::default()));
    let other = runtime.block_on(engine(wanted.port, sink.clone()));
    let commands = recorded(wanted.port, "PUBLISH", || {
        runtime.block_on(one.publish(&channel, publication(false))).unwrap();
    });
    let (mut publisher, mut receiver) = (Plain::connect(wanted.port), Plain::connect(wanted.port));
    subscribe(&mut receiver, &names(&commands));
    runtime.block_on(other.subscribe(std::slice::from_ref(&channel))).unwrap();

    let pause = Duration::from_secs(1) / u32::try_from(rate).unwrap();
    let (mut plain_times, mut engine_times) = (Vec::new(), Vec::new());
    for number in 0..count {
        std::thread::sleep(pause / 2);
        // Each is heard by the other as well; that is waited for, so that neither disturbs what is timed next.
        let heard = number * 2 + 1;
        let begun = Instant::now();
        publisher.send(&commands[0]);
        receiver.count();
        plain_times.push(begun.elapsed());
        publisher.count();
        wait_for(&sink, heard);

        std::thread::sleep(pause / 2);
        let begun = Instant::now();
        runtime.block_on(one.publish(&channel, publication(false))).unwrap();
        wait_for(&sink, heard + 1);
        engine_times.push(sink.last.lock().unwrap() - begun);
        receiver.count();
    }
    let mut figures = Figures::default();
    figures.add_times("plain", plain_times);
    figures.add_times("engine", engine_times);
    figures
}

fn wait_for(sink: &Counting, heard: u64) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while sink.publications.load(Ordering::Acquire) < heard {
        assert!(Instant::now() < deadline, "a publication did not come");
        std::thread::sleep(Duration::from_micros(20));
    }
}
