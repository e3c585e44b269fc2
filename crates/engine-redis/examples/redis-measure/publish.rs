//! Publishing: so many at a time, by the engine and by the plain client in turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::time::ClockId;
use tidewire_engine::Broker;
use tokio::runtime::Runtime;

use crate::callers::Callers;
use crate::plain::Plain;
use crate::pubsub::Counting;
use crate::record::recorded;
use crate::{Figures, Wanted, channels, engine, publication, used};

/// What was done in how much time.
#[derive(Default)]
struct Done {
    publications: u64,
    took: Duration,
    /// Processor time of the publisher, and of the server.
    used: Duration,
    server_used: Duration,
}

pub(crate) fn measure(wanted: &Wanted, runtime: &Runtime) -> Figures {
    let (callers, kept) = (wanted.number("callers", 256), wanted.number("kept", 0) == 1);
    let turn = Duration::from_millis(wanted.number("ms", 1_000));
    let channels = channels(wanted.number("channels", 100));
    let mut plain = Plain::connect(wanted.port);
    plain.ask(&[b"FLUSHALL"]);
    let engine = Arc::new(runtime.block_on(engine(wanted.port, Arc::<Counting>::default())));

    let name = if kept { "EVALSHA" } else { "PUBLISH" };
    let commands = recorded(wanted.port, name, || {
        runtime.block_on(async {
            for channel in &channels {
                engine.publish(channel, publication(kept)).await.unwrap();
            }
        });
    });
    assert_eq!(commands.len(), channels.len(), "one command for each publication");

    let commands = Arc::new(commands);
    let shared = runtime.block_on(Callers::connect(wanted.port));
    let (mut by_plain, mut by_engine, mut by_shared) = (Done::default(), Done::default(), Done::default());
    for number in 0..=wanted.number("turns", 5) {
        let plains = measured(&mut plain, |plain| by_plain_client(plain, &commands, callers, turn));
        let engines = measured(&mut plain, |_| {
            runtime.block_on(by_callers(callers, turn, |caller| {
                let (engine, new) = (Arc::clone(&engine), publication(kept));
                let channel = channels[caller % channels.len()].clone();
                move || {
                    let (engine, channel, new) = (Arc::clone(&engine), channel.clone(), new.clone());
                    async move { drop(engine.publish(&channel, new).await.unwrap()) }
                }
            }))
        });
        let shares = measured(&mut plain, |_| {
            runtime.block_on(by_callers(callers, turn, |caller| {
                let (shared, commands) = (Arc::clone(&shared), Arc::clone(&commands));
                move || {
                    let (shared, commands) = (Arc::clone(&shared), Arc::clone(&commands));
                    async move { shared.call(&commands[caller % commands.len()]).await }
                }
            }))
        });
        // The first turn only warms up.
        if number > 0 {
            by_plain.add(&plains);
            by_engine.add(&engines);
            by_shared.add(&shares);
        }
    }
    let mut figures = Figures::default();
    figures.add("share", by_engine.rate() / by_plain.rate());
    figures.add("share_of_shared", by_engine.rate() / by_shared.rate());
    for (name, done) in [("engine", &by_engine), ("plain", &by_plain), ("shared", &by_shared)] {
        let each = |time: Duration| time.as_secs_f64() * 1e6 / done.publications as f64;
        figures.add(&format!("{name}_per_second"), done.rate());
        figures.add(&format!("{name}_cpu_us"), each(done.used));
        figures.add(&format!("{name}_redis_cpu_us"), each(done.server_used));
        figures.add(&format!("{name}_redis_cores"), done.server_used.as_secs_f64() / done.took.as_secs_f64());
    }
    figures
}

impl Done {
    fn rate(&self) -> f64 {
        self.publications as f64 / self.took.as_secs_f64()
    }

    fn add(&mut self, other: &Self) {
        self.publications += other.publications;
        self.took += other.took;
        self.used += other.used;
        self.server_used += other.server_used;
    }
}

fn measured(plain: &mut Plain, turn: impl FnOnce(&mut Plain) -> u64) -> Done {
    let (begun, at_first, server) = (Instant::now(), used(ClockId::ProcessCPUTime), plain.server_used());
    let publications = turn(plain);
    Done {
        publications,
        took: begun.elapsed(),
        used: used(ClockId::ProcessCPUTime) - at_first,
        server_used: plain.server_used() - server,
    }
}

/// As many callers, each of which waits for its answer before it calls again.
async fn by_callers<Caller, Call, Done>(callers: u64, turn: Duration, caller: Caller) -> u64
where
    Caller: Fn(usize) -> Call,
    Call: Fn() -> Done + Send + 'static,
    Done: Future<Output = ()> + Send,
{
    let stop = Arc::new(AtomicBool::new(false));
    let calls: Vec<_> = (0..callers)
        .map(|number| {
            let (stop, call) = (Arc::clone(&stop), caller(number as usize));
            tokio::spawn(async move {
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    call().await;
                    count += 1;
                }
                count
            })
        })
        .collect();
    tokio::time::sleep(turn).await;
    stop.store(true, Ordering::Relaxed);
    let mut count = 0;
    for call in calls {
        count += call.await.unwrap();
    }
    count
}

/// As many commands under way; whatever has been answered is followed by as many in one write.
fn by_plain_client(plain: &mut Plain, commands: &[Vec<u8>], window: u64, turn: Duration) -> u64 {
    let mut next = commands.iter().cycle();
    let mut bytes = Vec::new();
    let (mut count, mut under_way, mut free) = (0, 0, window);
    let begun = Instant::now();
    loop {
        bytes.clear();
        if begun.elapsed() < turn {
            (0..free).for_each(|_| bytes.extend_from_slice(next.next().unwrap()));
            under_way += free;
            plain.send(&bytes);
        } else if under_way == 0 {
            return count;
        }
        free = plain.count() as u64;
        under_way -= free;
        count += free;
    }
}
