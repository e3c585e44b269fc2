//! Connections that do nothing but answer pings.

use std::time::{Duration, Instant};

use clap::Args;

use super::Run;
use crate::cli::{ClientArgs, duration};
use crate::outcome::Outcome;

/// Connects, subscribes, holds, and says what that costs the server.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  tidewire-load idle -n 10000 --channel room:idle --hold 30s --pid $(pidof tidewire)
  tidewire-load idle -n 10000 --channel 'room:{n}' --channels 10000 --token-hmac-secret secret --json
  tidewire-load idle -n 10000 --no-subscribe --pid $(pidof tidewire)")]
pub struct IdleArgs {
    #[command(flatten)]
    pub(crate) clients: ClientArgs,
    /// How long to hold the connections once they are there; pings come every 25 s by default
    #[arg(long, default_value = "30s", value_parser = duration)]
    hold: Duration,
    /// Connect only, subscribe to nothing
    #[arg(long)]
    no_subscribe: bool,
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
    run.judge.reset();

    let begun = run.moment()?;
    let from = Instant::now();
    run.progress.begin("holding", args.hold.as_secs());
    run.live(from + args.hold, |run| {
        let (live, position) = (run.fleet.live(), from.elapsed().as_secs());
        run.progress.show(position, || format!("{live} live"));
        false
    })?;
    let ended = run.moment()?;
    run.progress.end();

    let live = run.fleet.live() as f64;
    outcome.number("hold_s", "held for", ended.seconds_since(&begun), "s");
    outcome.count("pings", "pings answered", run.judge.seen().pings);
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
    if let Some(cpu) = ended.server_cpu_since(&begun) {
        let each = cpu.as_secs_f64() * 1e6 / live.max(1.0) / ended.seconds_since(&begun);
        outcome.number("server_cpu_ms", "server CPU while holding", cpu.as_secs_f64() * 1e3, "ms");
        outcome.number(
            "server_cpu_per_connection_second_us",
            "server CPU per connection and second",
            each,
            "µs",
        );
    }
    run.tell_losses(&mut outcome);
    run.fleet.close();
    Ok(outcome)
}
