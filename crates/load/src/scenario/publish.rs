//! The HTTP API alone: requests a second, and what each costs the server.

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Args;

use super::publishing::{Load, OVERDUE, PublishArgs, tell_published};
use crate::arguments::duration;
use crate::judge::Note;
use crate::outcome::Outcome;
use crate::process::Process;
use crate::progress::Progress;
use crate::publisher::{Publisher, Via};

/// Publishes through the HTTP API without subscribers.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Examples:
  tidewire-load publish --publishers 8 --duration 10s --pid $(pidof tidewire)
  tidewire-load publish --publishers 8 --publish-rate 2000 --duration 30s --json")]
pub struct ApiRateArgs {
    #[command(flatten)]
    publish: PublishArgs,
    /// Channel to publish to
    #[arg(long, default_value = "load")]
    channel: String,
    /// Requests a second; without it each publisher goes on as soon as it is answered
    #[arg(long, value_parser = super::fanout::rate)]
    publish_rate: Option<f64>,
    /// How long to publish
    #[arg(long, default_value = "10s", value_parser = duration)]
    duration: Duration,
    /// Process id of the server on this machine: adds its processor time
    #[arg(long)]
    pid: Option<u32>,
    /// Allow a server that is not this machine
    #[arg(long)]
    allow_remote: bool,
}

/// Runs it.
///
/// # Errors
/// It could not be run.
pub fn run(args: &ApiRateArgs, quiet: bool) -> anyhow::Result<Outcome> {
    let server = args.pid.map(Process::new);
    let sample = || server.as_ref().map(Process::sample).transpose().context("--pid");
    let load = Load { rate: args.publish_rate.map(|rate| (rate, 1)), during: args.duration };
    let via = Via::Api(args.publish.api.options(args.allow_remote)?);
    let mut checker = tidewire_checker::Checker::new();
    let channels = vec![(Arc::from(&*args.channel), checker.channel(&args.channel))];

    let before = sample()?;
    let start = Instant::now();
    let (sender, notes) = sync_channel(1 << 12);
    let publisher = Publisher::start(args.publish.options(via, channels, start, start, load)?, sender)?;
    // Nobody subscribes, so there is nothing to compare the notes with.
    let overdue = start + args.duration + OVERDUE;
    let mut progress = Progress::new(quiet);
    progress.begin("publishing", args.duration.as_secs());
    let mut noted = 0_u64;
    loop {
        match notes.recv_timeout(Duration::from_secs(1)) {
            Err(RecvTimeoutError::Disconnected) => break,
            note => noted += u64::from(matches!(note, Ok(Note::Acknowledged(..)))),
        }
        progress.show(start.elapsed().as_secs(), || format!("{noted} publications"));
        if Instant::now() >= overdue {
            publisher.stop();
        }
    }
    progress.end();
    let published = publisher.join()?;
    let after = sample()?;

    let mut outcome = Outcome::new("publish");
    tell_published(&published, &mut outcome);
    if args.publish_rate.is_some() {
        outcome.times("publish_from_due", "from due to answered", &published.from_due);
    }
    if let (Some(before), Some(after)) = (before, after) {
        let each = after.cpu_since(&before).as_secs_f64() * 1e6 / published.acknowledged.max(1) as f64;
        outcome.number("server_cpu_per_request_us", "server CPU per request", each, "µs");
    }
    Ok(outcome)
}
