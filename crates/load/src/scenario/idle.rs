//! Connections that do nothing but answer pings.

use std::time::{Duration, Instant};

use clap::Args;

use super::{Moment, Run, floor};
use crate::arguments::{ClientArgs, duration};
use crate::outcome::Outcome;

/// Connects, subscribes, holds, and says what that costs the server.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  tidewire-load idle -n 10000 --channel room:idle --hold 30s --pid $(pidof tidewire)
  tidewire-load idle -n 10000 --channel 'room:{n}' --channels 10000 --token-hmac-secret secret --json
  tidewire-load idle -n 10000 --no-subscribe --pid $(pidof tidewire)
  tidewire-load idle -n 10000 --channel room:idle --pid $(pidof tidewire) --floor --writer-cpu 0")]
pub struct IdleArgs {
    #[command(flatten)]
    pub(crate) clients: ClientArgs,
    /// Time before the measurement, once the connections are there: the first ping costs more than later ones
    #[arg(long, default_value = "0s", value_parser = duration)]
    settle: Duration,
    /// How long to hold the connections and measure; pings come every 25 s by default
    #[arg(long, default_value = "30s", value_parser = duration)]
    hold: Duration,
    /// Connect only, subscribe to nothing
    #[arg(long)]
    no_subscribe: bool,
    /// Afterwards measure what pings to as many bare sockets cost this machine
    #[arg(long)]
    floor: bool,
    /// Core that the floor's loop is bound to: the server's, for a fair comparison
    #[arg(long)]
    writer_cpu: Option<u32>,
}

/// Runs it.
///
/// # Errors
/// It could not be run.
pub fn run(args: &IdleArgs, quiet: bool) -> anyhow::Result<Outcome> {
    let mut run = Run::new(&args.clients, false, None, false, quiet)?;
    if args.no_subscribe {
        run.fleet.unsubscribe();
    }
    let ramp = run.ramp()?;
    let mut outcome = Outcome::new("idle");
    ramp.tell(&run, &mut outcome);
    let arrived = run.moment()?;
    hold(&mut run, args.settle, "settling")?;
    run.judge.reset();
    let begun = run.moment()?;
    hold(&mut run, args.hold, "holding")?;
    let ended = run.moment()?;
    run.progress.end();

    let live = run.fleet.live() as f64;
    outcome.number("hold_s", "held for", ended.seconds_since(&begun), "s");
    let pings = run.judge.seen().pings;
    outcome.count("pings", "pings answered", pings);
    if let (Some(before), Some(after)) = (ramp.before().server(), ended.server()) {
        let each = |after: u64, before: u64| (after as f64 - before as f64) / live.max(1.0);
        outcome.number("server_rss_before_bytes", "server memory before", before.rss as f64, "bytes");
        outcome.number("server_rss_after_bytes", "server memory after", after.rss as f64, "bytes");
        outcome.number(
            "rss_per_connection_bytes",
            "server memory per connection",
            each(after.rss, before.rss),
            "bytes",
        );
        let anonymous = each(after.anonymous, before.anonymous);
        outcome.number("anonymous_per_connection_bytes", "of that, not of files", anonymous, "bytes");
    }
    let each_second = |from: &Moment, until: &Moment| {
        let cpu = until.server_cpu_since(from)?.as_secs_f64();
        Some(cpu * 1e6 / live.max(1.0) / until.seconds_since(from))
    };
    if let Some(each) = each_second(&arrived, &begun).filter(|_| !args.settle.is_zero()) {
        let words = "the same before, with the first pings";
        outcome.number("settling_cpu_per_connection_second_us", words, each, "µs");
    }
    if let Some((cpu, each)) = ended.server_cpu_since(&begun).zip(each_second(&begun, &ended)) {
        outcome.number("server_cpu_ms", "server CPU while holding", cpu.as_secs_f64() * 1e3, "ms");
        outcome.number(
            "server_cpu_per_connection_second_us",
            "server CPU per connection and second",
            each,
            "µs",
        );
        // What the server does besides is counted as well.
        let each = cpu.as_secs_f64() * 1e6 / pings.max(1) as f64;
        outcome.number("server_cpu_per_ping_us", "server CPU per ping and its answer", each, "µs");
    }
    run.tell_losses(&mut outcome);
    let sockets = run.fleet.live();
    run.fleet.close();
    if args.floor {
        let options = floor::FloorOptions::on(args.writer_cpu);
        let floor = floor::measure_pings(sockets, &options)?;
        floor::tell_pings(&floor, &mut outcome);
        if let Some(cpu) = ended.server_cpu_since(&begun) {
            let floor = pings as f64 / floor.per_cpu_second();
            let over = cpu.as_secs_f64() / floor.max(1e-9);
            outcome.number("cpu_over_floor", "server CPU over the floor's for as many pings", over, "");
        }
    }
    Ok(outcome)
}

/// Lets the connections be.
fn hold(run: &mut Run, time: Duration, words: &'static str) -> anyhow::Result<()> {
    run.progress.begin(words, time.as_secs());
    let from = Instant::now();
    run.live(from + time, |run| {
        let (live, position) = (run.fleet.live(), from.elapsed().as_secs());
        run.progress.show(position, || format!("{live} live"));
        false
    })?;
    Ok(())
}
