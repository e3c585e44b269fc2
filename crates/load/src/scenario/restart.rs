//! All clients lose their server at once: how long until the last one is back.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;

use super::Run;
use crate::arguments::{ClientArgs, duration};
use crate::fleet::Backoff;
use crate::outcome::Outcome;

/// Waits for a restart of the server and measures the storm of clients that come back.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
Without --restart-cmd restart the server by hand when the tool asks for it. Clients wait as the usual SDKs do: at random
below --reconnect-min, doubling with each failure up to --reconnect-max.

Examples:
  tidewire-load restart -n 15000 --restart-cmd 'systemctl restart tidewire'
  tidewire-load restart -n 15000 --reconnect-min 100ms --reconnect-max 2s --json")]
pub struct RestartArgs {
    #[command(flatten)]
    clients: ClientArgs,
    /// Shell command that restarts the server
    #[arg(long, value_name = "COMMAND")]
    restart_cmd: Option<String>,
    /// How long to wait for the restart to begin
    #[arg(long, default_value = "2m", value_parser = duration)]
    begin_within: Duration,
    /// How long to wait for the last client afterwards
    #[arg(long, default_value = "3m", value_parser = duration)]
    back_within: Duration,
    /// See below
    #[arg(long, default_value = "500ms", value_parser = duration)]
    reconnect_min: Duration,
    /// See below
    #[arg(long, default_value = "20s", value_parser = duration)]
    reconnect_max: Duration,
}

/// Runs it.
///
/// # Errors
/// It could not be run.
pub fn run(args: &RestartArgs, quiet: bool) -> anyhow::Result<Outcome> {
    let backoff = Backoff { min: args.reconnect_min, max: args.reconnect_max.max(args.reconnect_min) };
    let mut run = Run::new(&args.clients, true, Some(backoff), true, quiet)?;
    let ramp = run.ramp()?;
    let mut outcome = Outcome::new("restart");
    ramp.tell(&run, &mut outcome);
    run.judge.reset();
    let before = run.fleet.tally().failed;
    let clients = args.clients.connections;

    let mut command = args.restart_cmd.as_deref().map(start).transpose()?;
    if command.is_none() {
        eprintln!("tidewire-load: {clients} clients are connected; restart the server now");
    }
    run.progress.begin("waiting", clients);
    run.live(Instant::now() + args.begin_within, |run| run.judge.seen().first_lost.is_some())?;
    let Some(first_lost) = run.judge.seen().first_lost else {
        bail!("no client lost its connection within {:?}", args.begin_within);
    };
    run.progress.begin("storm", clients);
    run.live(run.start + first_lost + args.back_within, |run| {
        let (live, lost) = (run.fleet.live() as u64, run.judge.seen().lost);
        run.progress.show(live, || format!("{lost} losses"));
        live == clients && lost >= clients
    })?;
    run.progress.end();
    if let Some(status) = command.as_mut().map(std::process::Child::try_wait).transpose()?.flatten()
        && !status.success()
    {
        outcome.shortfall(format!("the restart command ended with {status}"));
    }

    let seen = run.judge.seen();
    outcome.count("losses", "connections lost", seen.lost);
    outcome.count("attempts_failed", "attempts that failed", run.fleet.tally().failed - before);
    let storm = seen.last_live.saturating_sub(first_lost);
    outcome.number("last_back_s", "from the first loss to the last one back", storm.as_secs_f64(), "s");
    outcome.times("away", "time a client was away", &seen.waits);
    outcome.count("recovered", "recoveries that brought everything", seen.recovered);
    outcome.count("not_recovered", "recoveries the server refused", seen.not_recovered);
    let live = run.fleet.live() as u64;
    if live < clients {
        outcome.shortfall(format!("{} clients are not back", clients - live));
    }
    if seen.lost < clients {
        outcome.shortfall(format!("only {} connections were lost", seen.lost));
    }
    run.fleet.close();
    let (_, report) = run.judge.finish(Vec::new());
    outcome.judged(report);
    Ok(outcome)
}

fn start(command: &str) -> anyhow::Result<std::process::Child> {
    let mut shell = Command::new("/bin/sh");
    // What it prints must not get between the lines of the result.
    shell.args(["-c", command]).stdin(Stdio::null()).stdout(Stdio::null());
    shell.spawn().context("--restart-cmd")
}
