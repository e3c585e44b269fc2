//! `tidewire subscribe`: what arrives in a channel, one JSON line each.
//!
//! `message`: the client protocol in JSON as far as a subscriber needs it. `session`: one connection. Here: going on after
//! a connection is lost, from the position that was reached.

mod message;
mod session;

use std::process::ExitCode;
use std::time::Duration;

use super::output::{self, Failure};
use session::{End, Session};

/// Longest wait before another try.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// Shortest wait before another try.
const WAIT_MIN: Duration = Duration::from_millis(200);

const HELP: &str = "\
Standard output has one line for each publication, join and leave, as JSON with the members type, channel, data, offset,
tags and info; what happens to the connection is said on standard error. A lost connection is made again, and what was
missed is recovered where the channel allows. Ends with exit code 0 when standard output is closed.

Examples:
  tidewire subscribe chat | jq -r .data.text
  tidewire subscribe --token \"$(tidewire token create --config config.json --user 42)\" chat
  tidewire subscribe --offset 17 --epoch xyz --count 1 chat";

/// Subscribes to a channel of a running server and prints what arrives.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    /// The channel.
    channel: String,
    /// Where clients connect.
    #[arg(
        long,
        value_name = "URL",
        default_value = "ws://localhost:8000/connection/websocket",
        env = "TIDEWIRE_URL"
    )]
    url: String,
    /// A connection token.
    #[arg(long, env = "TIDEWIRE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A subscription token.
    #[arg(long, value_name = "TOKEN")]
    subscription_token: Option<String>,
    /// Asks for recovery from the beginning; in channels with cache recovery, for the newest publication.
    #[arg(long)]
    recover: bool,
    /// Recovers what was published after this offset.
    #[arg(long, requires = "epoch")]
    offset: Option<u64>,
    /// The epoch that --offset counts in.
    #[arg(long, requires = "offset")]
    epoch: Option<String>,
    /// Asks for joins and leaves too.
    #[arg(long)]
    join_leave: bool,
    /// Ends after this many publications.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Ends with exit code 1 when the connection is lost.
    #[arg(long)]
    no_reconnect: bool,
}

/// Where the subscription stands.
struct Progress {
    /// Ask to recover from here: offset and epoch.
    position: Option<(u64, String)>,
    /// Publications still to be printed.
    left: Option<u64>,
    /// The server answered at least once since the last try.
    subscribed: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let start = args.recover.then(|| (0, String::new()));
    let given = args.offset.zip(args.epoch.clone());
    let mut progress = Progress { position: given.or(start), left: args.count, subscribed: false };
    super::block_on(async {
        tokio::select! {
            biased;
            followed = follow(args, &mut progress) => followed,
            () = output::closed() => Err(Failure::OutputClosed),
        }
    })??;
    Ok(ExitCode::SUCCESS)
}

async fn follow(args: &Args, progress: &mut Progress) -> Result<(), Failure> {
    let mut wait = WAIT_MIN;
    loop {
        progress.subscribed = false;
        let why = match Session::open(args).await {
            Ok(mut session) => match session.follow(args, progress).await? {
                End::Enough => return Ok(()),
                End::Refused(why) => return Err(Failure::told(why)),
                End::Lost(why) => why,
            },
            Err(End::Lost(why)) => why,
            Err(End::Refused(why)) => return Err(Failure::told(why)),
            Err(End::Enough) => return Ok(()),
        };
        if args.no_reconnect {
            return Err(Failure::told(why));
        }
        if progress.subscribed {
            wait = WAIT_MIN;
        }
        output::note(&format!("{why}; trying again in {wait:?}"));
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(WAIT_MAX);
    }
}
