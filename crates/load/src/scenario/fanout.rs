//! One channel, many subscribers: deliveries, what they cost the server, and how long they take.
//!
//! `fanout` and `latency` are the same run with another question: how many, or how late.

use std::time::{Duration, Instant};

use clap::Args;

use super::publishing::{Load, PublishArgs, tell_published, until_published};
use super::{Run, floor};
use crate::arguments::{ClientArgs, duration};
use crate::outcome::Outcome;

/// Publishes to many subscribers and counts deliveries.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  tidewire-load fanout -n 1000 --publish-rate 50 --duration 10s --pid $(pidof tidewire) --floor
  tidewire-load fanout -n 1000 --flood --publishers 4 --duration 10s --pid $(pidof tidewire)
  tidewire-load fanout -n 1000 --publish-rate 100 --burst 10 --via client --protocol protobuf --json")]
pub struct FanoutArgs {
    #[command(flatten)]
    clients: ClientArgs,
    #[command(flatten)]
    publish: PublishArgs,
    /// Publications a second, all channels together
    #[arg(long, default_value_t = 20.0, value_parser = rate)]
    publish_rate: f64,
    /// Publications due at the same moment
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100_000))]
    burst: u64,
    /// Publish as fast as answers come instead of at a rate
    #[arg(long, conflicts_with_all = ["publish_rate", "burst"])]
    flood: bool,
    /// How long to publish
    #[arg(long, default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// Count only; leave the comparison of every delivery out
    #[arg(long)]
    no_check: bool,
    /// Afterwards measure this machine's own limit with as many sockets and bytes
    #[arg(long)]
    floor: bool,
    #[command(flatten)]
    floor_options: floor::FloorOptions,
}

/// Publishes at a fixed rate and says how late deliveries are.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Every publication is due at a time fixed beforehand, and its latency counts from there: a server that answers late
cannot make the tool ask less (no coordinated omission).

Examples:
  tidewire-load latency -n 1000 --publish-rate 20 --duration 60s
  tidewire-load latency -n 1000 --publish-rate 20 --floor --writer-cpu 0
  tidewire-load latency -n 10000 --channel 'room:{n}' --channels 1000 --publish-rate 500 --json")]
pub struct LatencyArgs {
    #[command(flatten)]
    clients: ClientArgs,
    #[command(flatten)]
    publish: PublishArgs,
    /// Publications a second, all channels together
    #[arg(long, default_value_t = 20.0, value_parser = rate)]
    publish_rate: f64,
    /// How long to publish
    #[arg(long, default_value = "30s", value_parser = duration)]
    duration: Duration,
    /// Time at the start that is not measured
    #[arg(long, default_value = "2s", value_parser = duration)]
    warm_up: Duration,
    /// Afterwards measure how late the frames of a bare loop are, at this rate and with as many sockets and bytes
    #[arg(long)]
    floor: bool,
    #[command(flatten)]
    floor_options: floor::FloorOptions,
}

/// Reads publications per second.
///
/// # Errors
/// In words for the command line.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.01..=1e6).contains(&rate) => Ok(rate),
        _ => Err("a number from 0.01 to 1000000".into()),
    }
}

/// Runs `fanout`.
///
/// # Errors
/// It could not be run.
pub fn run(args: &FanoutArgs, quiet: bool) -> anyhow::Result<Outcome> {
    let rate = (!args.flood).then_some((args.publish_rate, args.burst));
    let load = Load { rate, during: args.duration };
    let mut outcome = Outcome::new("fanout");
    let run = Run::new(&args.clients, false, None, !args.no_check, quiet)?;
    let delivered = deliver(run, &args.clients, &args.publish, load, Duration::ZERO, &mut outcome)?;
    if args.floor {
        let frame_bytes = delivered.frame_bytes();
        // Bursts gather, and several channels share the rate: neither is rounds of one frame to everybody.
        let is_even = !args.flood && args.burst == 1 && args.clients.channels == 1;
        let options = args.floor_options.paced(is_even.then_some(args.publish_rate));
        let limit = floor::measure(args.clients.connections as usize, frame_bytes, &options)?;
        limit.tell(&mut outcome);
        if let Some(per_cpu_second) = delivered.per_cpu_second {
            let share = per_cpu_second / limit.comparable().per_cpu_second();
            outcome.number("share_of_floor", "deliveries per CPU-second over the floor's", share, "");
        }
    }
    Ok(outcome)
}

/// Runs `latency`.
///
/// # Errors
/// It could not be run.
pub fn run_latency(args: &LatencyArgs, quiet: bool) -> anyhow::Result<Outcome> {
    let during = args.warm_up + args.duration;
    let load = Load { rate: Some((args.publish_rate, 1)), during };
    let mut outcome = Outcome::new("latency");
    let run = Run::new(&args.clients, false, None, true, quiet)?;
    let delivered = deliver(run, &args.clients, &args.publish, load, args.warm_up, &mut outcome)?;
    if args.floor {
        let options = args.floor_options.paced(Some(args.publish_rate));
        let sockets = args.clients.connections as usize;
        let limit = floor::measure(sockets, delivered.frame_bytes(), &options)?;
        limit.tell(&mut outcome);
        if let Some((_, latency)) = &limit.paced {
            let times = delivered.p99.as_secs_f64() / latency.quantile(0.99).as_secs_f64().max(1e-9);
            outcome.number("p99_over_floor", "p99 over the floor's", times, "");
        }
    }
    Ok(outcome)
}

struct Delivered {
    per_cpu_second: Option<f64>,
    bytes_each: f64,
    p99: Duration,
}

impl Delivered {
    /// Bytes of one frame, for the floor.
    fn frame_bytes(&self) -> usize {
        (self.bytes_each.round() as usize).max(2)
    }
}

fn deliver(
    mut run: Run,
    clients: &ClientArgs,
    publish: &PublishArgs,
    load: Load,
    warm_up: Duration,
    outcome: &mut Outcome,
) -> anyhow::Result<Delivered> {
    let ramp = run.ramp()?;
    ramp.tell(&run, outcome);
    run.judge.reset();

    let begun = run.moment()?;
    let bytes_before = run.fleet.tally().bytes;
    let (publisher, start) = publish.start(clients, &mut run, load)?;
    let from = start - run.start;
    run.judge.set_window(from + warm_up, from + load.during);
    let published = until_published(&mut run, publisher, start, load.during, |_| false)?;
    run.live(Instant::now() + super::DRAIN, |run| run.judge.seen().deliveries >= run.judge.seen().expected)?;
    let ended = run.moment()?;
    // If something came twice, the count was full before the last one came, which is not lost for that.
    let heads = publish.heads(clients, &mut run).unwrap_or_default();
    run.catch_up(&heads)?;
    let bytes = run.fleet.tally().bytes - bytes_before;
    run.progress.end();

    tell_published(&published, outcome);
    let (deliveries, expected) = (run.judge.seen().deliveries, run.judge.seen().expected);
    let took = run.judge.seen().last_delivery.saturating_sub(from).as_secs_f64().max(1e-9);
    outcome.count("deliveries", "deliveries", deliveries);
    outcome.count("missing", "deliveries missing", expected.saturating_sub(deliveries));
    outcome.number("deliveries_per_second", "deliveries per second", deliveries as f64 / took, "/s");
    let cpu = ended.server_cpu_since(&begun);
    let per_cpu_second = cpu.map(|cpu| deliveries as f64 / cpu.as_secs_f64().max(1e-9));
    if let (Some(cpu), Some(per_cpu_second)) = (cpu, per_cpu_second) {
        outcome.number("server_cpu_s", "server CPU", cpu.as_secs_f64(), "s");
        outcome.number("deliveries_per_cpu_second", "deliveries per server CPU second", per_cpu_second, "/s");
    }
    outcome.number("tool_cores", "cores this tool used", ended.tool_share_since(&begun), "");
    let p99 = run.judge.seen().latency.quantile(0.99);
    outcome.times("latency", "from due to delivered", &run.judge.seen().latency);
    let bytes_each = bytes as f64 / deliveries.max(1) as f64;
    outcome.number("wire_bytes_per_delivery", "bytes of a frame, as it came", bytes_each, "bytes");
    run.tell_losses(outcome);
    run.fleet.close();
    let (_, report) = run.judge.finish(heads);
    outcome.judged(report);
    Ok(Delivered { per_cpu_second, bytes_each, p99 })
}
