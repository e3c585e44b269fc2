//! Connections that break all the time while something is published: nothing may be missing in the end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use anyhow::ensure;
use clap::Args;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::Run;
use super::publishing::{Load, PublishArgs, tell_published, until_published};
use crate::arguments::{ClientArgs, duration};
use crate::fleet::Backoff;
use crate::outcome::Outcome;

/// Cuts every connection again and again while publishing, and checks what recovery brings.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
The channel needs history that outlasts a client's absence, and recovery: history_size, history_ttl, force_recovery (or
allow_recovery) of its namespace.

Examples:
  tidewire-load recovery -n 5000 --channel room:1 --publish-rate 20 --cut-every 3s --duration 60s
  tidewire-load recovery -n 500 --channel 'room:{n}' --channels 50 --publish-rate 500 --json")]
pub struct RecoveryArgs {
    #[command(flatten)]
    clients: ClientArgs,
    #[command(flatten)]
    publish: PublishArgs,
    /// Publications a second, all channels together
    #[arg(long, default_value_t = 20.0, value_parser = super::fanout::rate)]
    publish_rate: f64,
    /// How long to publish
    #[arg(long, default_value = "30s", value_parser = duration)]
    duration: Duration,
    /// Each connection is cut about this often
    #[arg(long, default_value = "3s", value_parser = duration)]
    cut_every: Duration,
    /// The longest first wait of a client before it comes back; it doubles with each failure
    #[arg(long, default_value = "200ms", value_parser = duration)]
    reconnect_within: Duration,
}

/// Runs it.
///
/// # Errors
/// It could not be run.
pub fn run(args: &RecoveryArgs, quiet: bool) -> anyhow::Result<Outcome> {
    let backoff =
        Backoff { min: args.reconnect_within, max: args.reconnect_within.max(Duration::from_secs(5)) };
    let mut run = Run::new(&args.clients, true, Some(backoff), true, quiet)?;
    let ramp = run.ramp()?;
    let has_positions =
        (0..args.clients.connections as usize).any(|client| run.fleet.position(client).is_some());
    ensure!(
        has_positions,
        "the server gives no positions in this channel: its namespace needs history and recovery"
    );
    let mut outcome = Outcome::new("recovery");
    ramp.tell(&run, &mut outcome);
    run.judge.reset();

    let begun = run.moment()?;
    let load = Load { rate: Some((args.publish_rate, 1)), during: args.duration };
    let (publisher, start) = args.publish.start(&args.clients, &mut run, load)?;
    let mut cuts = Cuts::new(&args.clients, start, args.cut_every);
    let until = start + args.duration;
    let published = until_published(&mut run, publisher, start, args.duration, |run| {
        cuts.make(run, until);
        false
    })?;

    let heads = args.publish.heads(&args.clients, &mut run)?;
    run.progress.begin("recovering", args.clients.connections);
    run.live(Instant::now() + super::DRAIN, |run| {
        let behind = (0..args.clients.connections as usize).filter(|&client| {
            let channel = run.fleet.channel(client).cloned();
            let key = channel.map(|name| run.judge.channel(&name));
            let head = heads.iter().find(|(channel, _)| Some(*channel) == key).map(|(_, head)| head);
            head.is_some() && run.fleet.position(client) != head
        });
        behind.count() == 0
    })?;
    run.progress.end();
    let ended = run.moment()?;

    tell_published(&published, &mut outcome);
    let seen = run.judge.seen();
    outcome.count("deliveries", "deliveries", seen.deliveries);
    outcome.count("cuts", "connections cut", run.fleet.tally().cuts);
    outcome.count("recovered", "recoveries that brought everything", seen.recovered);
    outcome.count("not_recovered", "recoveries the server refused", seen.not_recovered);
    outcome.times("back", "from cut to subscribed again", &seen.waits);
    outcome.times("latency", "from due to delivered", &seen.latency);
    if let Some(cpu) = ended.server_cpu_since(&begun) {
        let cores = cpu.as_secs_f64() / ended.seconds_since(&begun);
        outcome.number("server_cores", "cores the server used", cores, "");
    }
    outcome.number("tool_cores", "cores this tool used", ended.tool_share_since(&begun), "");
    let down = args.clients.connections as usize - run.fleet.live();
    if down > 0 {
        // The checker leaves open what somebody who is away would have got.
        outcome.shortfall(format!("{down} clients are not back"));
    }
    run.tell_losses(&mut outcome);
    run.fleet.close();
    let (_, report) = run.judge.finish(heads);
    outcome.judged(report);
    Ok(outcome)
}

/// When which connection is cut next.
struct Cuts {
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    every: Duration,
    random: SmallRng,
}

// === impl Cuts ===

impl Cuts {
    fn new(clients: &ClientArgs, start: Instant, every: Duration) -> Self {
        let every = every.max(Duration::from_millis(20));
        // Not the numbers that the fleet draws for its waits.
        let mut random = SmallRng::seed_from_u64(!clients.seed);
        let first = |client| Reverse((start + random.random_range(Duration::ZERO..every), client));
        let due = (0..clients.connections as usize).map(first).collect();
        Self { due, every, random }
    }

    /// Makes the cuts that are due, none after `until`.
    fn make(&mut self, run: &mut Run, until: Instant) {
        let now = Instant::now().min(until);
        while let Some(&Reverse((at, client))) = self.due.peek().filter(|Reverse((at, _))| *at < now) {
            self.due.pop();
            run.fleet.cut(client, &mut run.judge);
            let next = self.every.mul_f64(self.random.random_range(0.5..1.5));
            self.due.push(Reverse((at + next, client)));
        }
    }
}
