//! Clients that come as fast as the server takes them.

use clap::Args;

use super::Run;
use crate::arguments::ClientArgs;
use crate::outcome::Outcome;

/// Faster than any server, so that what is under way at once is the only bound.
const UNBOUNDED: f64 = 1e9;

/// Connects clients without a pause, and says how many a second the server takes and what each costs.
#[derive(Debug, Clone, Args)]
#[command(after_help = "\
As many handshakes as the queue of a listening socket holds are under way at once; a client that is in makes room for the
next one. --rate is not used.

Examples:
  tidewire-load accept -n 10000 --token-hmac-secret secret --pid $(pidof tidewire)
  tidewire-load accept -n 10000 --subscribe --channel room:1 --pid $(pidof tidewire) --json")]
pub struct AcceptArgs {
    #[command(flatten)]
    clients: ClientArgs,
    /// Subscribe each client to its channel as well
    #[arg(long)]
    subscribe: bool,
}

/// Runs it.
///
/// # Errors
/// It could not be run.
pub fn run(args: &AcceptArgs, quiet: bool) -> anyhow::Result<Outcome> {
    let mut run = Run::with_rate(&args.clients, UNBOUNDED, quiet)?;
    if !args.subscribe {
        run.fleet.unsubscribe();
    }
    let begun = run.judge.elapsed();
    let ramp = run.ramp()?;
    run.progress.end();
    let live = run.fleet.live() as f64;
    let took = run.judge.seen().last_live.saturating_sub(begun).as_secs_f64().max(1e-9);

    let mut outcome = Outcome::new("accept");
    outcome.count("connections", "clients live", run.fleet.live() as u64);
    outcome.number("accepts_per_second", "clients taken in per second", live / took, "/s");
    if let Some(cpu) = ramp.server_cpu() {
        let each = cpu.as_secs_f64() * 1e6 / live;
        outcome.number("server_cpu_per_accept_us", "server CPU for each", each, "µs");
        outcome.number("server_cores", "cores the server used", cpu.as_secs_f64() / took, "");
    }
    outcome.number("tool_cores", "cores this tool used", ramp.tool_share(), "");
    outcome.times("wait", "from connecting to live", &run.judge.seen().waits);
    run.tell_losses(&mut outcome);
    run.fleet.close();
    Ok(outcome)
}
