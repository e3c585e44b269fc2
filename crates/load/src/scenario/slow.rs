//! Clients that stop reading: what the others notice of it, and when the server cuts each of them.
//!
//! What the server does about a client counts from when the kernel keeps no more for it. A socket that was read for a while
//! may keep megabytes. So the slow clients come back on new sockets right before they stop, with as little kernel memory as
//! the system allows. A client that does not read cannot see that it was cut: the API tells how many clients are there.

mod watch;

use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;

use super::Run;
use super::publishing::{Load, PublishArgs, tell_published, until_published};
use crate::arguments::{ClientArgs, duration};
use crate::fleet::Backoff;
use crate::outcome::Outcome;
use crate::stats::Latency;
use watch::Watch;

/// Time at the start that is not measured.
const WARM_UP: Duration = Duration::from_secs(1);

/// Within which the slow clients are to be back.
const TURNOVER: Duration = Duration::from_secs(30);

/// How long a cut may take to show once its client reads again.
const FAREWELL: Duration = Duration::from_secs(5);

/// Lets a share of the clients stop reading while something is published.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
At first all clients read; then the slow ones come back on new sockets and stop. The latency of the others is told for both
times, the second from the stop to the last cut. Cuts are counted from the stop, so they hold the time in which what nobody
reads fills the kernel's buffers, some 50 KB for each client: large payloads make that short.

Examples:
  tidewire-load slow -n 5000 --slow-share 1 --channel room:1 --publish-rate 10 --payload 2048
  tidewire-load slow -n 5000 --slow-share 10 --channel room:1 --publish-rate 10 --payload 2048 --json")]
pub struct SlowArgs {
    #[command(flatten)]
    clients: ClientArgs,
    #[command(flatten)]
    publish: PublishArgs,
    /// Clients that stop reading, in percent
    #[arg(long, default_value_t = 1.0, value_parser = percent)]
    slow_share: f64,
    /// Publications a second, all channels together
    #[arg(long, default_value_t = 10.0, value_parser = super::fanout::rate)]
    publish_rate: f64,
    /// How long all of them read
    #[arg(long, default_value = "10s", value_parser = duration)]
    before: Duration,
    /// Within which each slow client is to be cut
    #[arg(long, default_value = "10s", value_parser = duration)]
    cut_within: Duration,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(share) if (0.01..=90.0).contains(&share) => Ok(share),
        _ => Err("a number from 0.01 to 90".into()),
    }
}

/// Runs it.
///
/// # Errors
/// It could not be run.
pub fn run(args: &SlowArgs, quiet: bool) -> anyhow::Result<Outcome> {
    let all = args.clients.connections as usize;
    let slow = ((all as f64 * args.slow_share / 100.0).round() as usize).max(1);
    ensure!(slow < all, "{slow} of {all} clients are slow; nobody is left to be measured");
    let healthy = all - slow;
    let mut run = Run::new(&args.clients, false, None, true, quiet)?;
    let ramp = run.ramp()?;
    let mut outcome = Outcome::new("slow");
    ramp.tell(&run, &mut outcome);
    outcome.count("slow", "clients that stop reading", slow as u64);
    run.judge.reset();
    run.judge.time_below(healthy);

    let begun = run.moment()?;
    let during = WARM_UP + args.before + TURNOVER + args.cut_within;
    let load = Load { rate: Some((args.publish_rate, 1)), during };
    let watch = Watch::start(args.publish.api.options(args.clients.allow_remote)?)?;
    let (publisher, start) = args.publish.start(&args.clients, &mut run, load)?;
    let (from, until) = (start - run.start, start + WARM_UP + args.before);
    run.judge.set_window(from + WARM_UP, until - run.start);
    let (clients, within) = (watch.clients(), args.cut_within);
    let mut stop = Stop { healthy, all, clients, within, stage: Stage::AllRead { until } };
    let published =
        until_published(&mut run, publisher, start, load.during, |run| stop.step(run, watch.clients()))?;
    let ended = run.moment()?;
    let seen_by_api = watch.finish()?;
    run.fleet.resume_reading(&mut run.judge);
    let is_gone = |run: &mut Run| (healthy..all).all(|client| !run.fleet.is_live(client));
    run.live(Instant::now() + FAREWELL, is_gone)?;
    let heads = args.publish.heads(&args.clients, &mut run).unwrap_or_default();
    run.catch_up(&heads)?;
    run.progress.end();

    tell_published(&published, &mut outcome);
    let seen = run.judge.seen();
    let (before, beside) = (&seen.latency, &seen.later_latency);
    outcome.times("latency_before", "from due to delivered, all reading", before);
    outcome.times("latency_beside", "the same, beside the slow ones", beside);
    let p99 = |latency: &Latency| latency.quantile(0.99).as_secs_f64();
    outcome.number("p99_growth", "p99 beside over p99 before", p99(beside) / p99(before).max(1e-9), "");
    let cuts = match stop.stopped() {
        Some(at) => watch::cuts(&seen_by_api, at, stop.clients, slow),
        None => Latency::default(),
    };
    outcome.times("cut", "from stopping to read to being cut", &cuts);
    let (left, lost) = (
        |clients: std::ops::Range<usize>| clients.filter(|&client| run.fleet.is_live(client)).count(),
        healthy,
    );
    let (not_cut, others_lost) = (left(healthy..all), lost - left(0..healthy));
    outcome.count("cuts", "slow clients cut", (slow - not_cut) as u64);
    outcome.count("others_lost", "other clients lost", others_lost as u64);
    if let Some(cpu) = ended.server_cpu_since(&begun) {
        let cores = cpu.as_secs_f64() / ended.seconds_since(&begun);
        outcome.number("server_cores", "cores the server used", cores, "");
    }
    outcome.number("tool_cores", "cores this tool used", ended.tool_share_since(&begun), "");
    if stop.stopped().is_none() {
        outcome.shortfall(format!("the slow clients did not come back within {TURNOVER:?}"));
    }
    let in_time = cuts.count() as usize;
    if in_time < slow {
        let within = args.cut_within;
        outcome.shortfall(format!("{} slow clients were not cut within {within:?}", slow - in_time));
    }
    if not_cut > 0 || others_lost > 0 {
        outcome.shortfall(format!("{not_cut} slow clients are still there, {others_lost} others were lost"));
    }
    run.fleet.close();
    let (_, report) = run.judge.finish(Vec::new());
    outcome.judged(report);
    Ok(outcome)
}

/// How far the slow clients are.
struct Stop {
    healthy: usize,
    all: usize,
    /// Clients on the server while all are there.
    clients: u64,
    /// How long to wait for the last cut.
    within: Duration,
    stage: Stage,
}

enum Stage {
    AllRead { until: Instant },
    ComingBack,
    Stuck { since: Instant },
    Over { since: Instant },
}

// === impl Stop ===

impl Stop {
    /// Does what is to be done now; `clients` are on the server. Whether that was all.
    fn step(&mut self, run: &mut Run, clients: u64) -> bool {
        let now = Instant::now();
        match self.stage {
            Stage::AllRead { until } if now >= until => {
                run.fleet.expect_slow(self.healthy);
                let at_once = Duration::from_millis(1);
                run.fleet.set_backoff(Some(Backoff { min: at_once, max: at_once }));
                (self.healthy..self.all).for_each(|client| run.fleet.cut(client, &mut run.judge));
                self.stage = Stage::ComingBack;
            }
            Stage::ComingBack if run.fleet.live() == self.all && clients >= self.clients => {
                run.fleet.set_backoff(None);
                (self.healthy..self.all).for_each(|client| run.fleet.stop_reading(client));
                run.judge.set_later_window(now - run.start, Duration::MAX);
                self.stage = Stage::Stuck { since: now };
            }
            Stage::Stuck { since } if clients + (self.all - self.healthy) as u64 <= self.clients => {
                run.judge.set_later_window(since - run.start, now - run.start);
                self.stage = Stage::Over { since };
            }
            _ => {}
        }
        match self.stage {
            Stage::Over { .. } => true,
            Stage::Stuck { since } => now >= since + self.within,
            Stage::AllRead { .. } | Stage::ComingBack => false,
        }
    }

    /// When they stopped to read.
    fn stopped(&self) -> Option<Instant> {
        match self.stage {
            Stage::Stuck { since } | Stage::Over { since } => Some(since),
            Stage::AllRead { .. } | Stage::ComingBack => None,
        }
    }
}
