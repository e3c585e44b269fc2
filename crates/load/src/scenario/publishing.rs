//! What scenarios that publish share: arguments, starting, waiting for the last delivery.

use std::sync::mpsc::sync_channel;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use tidewire_checker::{ChannelKey, Position};

use super::Run;
use crate::api::Api;
use crate::arguments::{ApiArgs, ClientArgs};
use crate::outcome::Outcome;
use crate::payload;
use crate::publisher::{PUBLICATIONS_MAX, Published, Publisher, PublisherOptions, Via};
use crate::publishing_client::PublishingClientOptions;
use crate::schedule::Schedule;

/// Notes that may wait to be read; a publisher that is that far ahead waits itself.
const NOTES_MAX: usize = 1 << 16;

/// How long a publisher may go on after the end with what should have been made by then. After that it is asked to stop, and
/// its own timeouts see to it.
pub(crate) const OVERDUE: Duration = Duration::from_secs(5);

/// How to publish.
#[derive(Debug, Clone, Args)]
pub struct PublishArgs {
    #[command(flatten)]
    pub(crate) api: ApiArgs,
    /// Publish through the HTTP API or as a client
    #[arg(long, value_enum, default_value_t)]
    via: ViaArg,
    /// Sequential publishers, each with its own connection
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(crate) publishers: u32,
    /// Bytes of a payload
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(payload::BYTES_MIN as u64..=payload::BYTES_MAX as u64))]
    payload: u64,
    /// What fills a payload
    #[arg(long, value_enum, default_value_t)]
    filler: payload::Filler,
}

#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum ViaArg {
    #[default]
    Api,
    Client,
}

/// What is published in one run.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Publications a second and how many of them at once; `None`: as fast as answers come.
    pub rate: Option<(f64, u64)>,
    /// For how long.
    pub during: Duration,
}

// === impl PublishArgs ===

impl PublishArgs {
    /// Starts to publish to all channels of the run, in turn.
    ///
    /// # Errors
    /// The arguments do not fit together.
    pub fn start(
        &self,
        clients: &ClientArgs,
        run: &mut Run,
        load: Load,
    ) -> anyhow::Result<(Publisher, Instant)> {
        let channels: Vec<_> =
            run.fleet.channels().iter().map(|name| (name.clone(), run.judge.channel(name))).collect();
        ensure!(!channels.is_empty(), "there is no channel to publish to");
        // A moment ahead, so that the thread is there when the first one is due.
        let start = Instant::now() + Duration::from_millis(20);
        let (sender, notes) = sync_channel(NOTES_MAX);
        run.judge.listen(notes);
        let options = self.options(self.via(clients)?, channels, run.start, start, load)?;
        Ok((Publisher::start(options, sender)?, start))
    }

    fn via(&self, clients: &ClientArgs) -> anyhow::Result<Via> {
        Ok(match self.via {
            ViaArg::Api => Via::Api(self.api.options(clients.allow_remote)?),
            ViaArg::Client => {
                let target = clients.target()?;
                ensure!(!target.is_tls, "--via client does not speak TLS yet; publish through the API");
                Via::Client(PublishingClientOptions {
                    target,
                    dialect: clients.dialect(false)?,
                    // A number that no subscriber has.
                    token: clients.tokens().of(clients.connections as usize),
                    timeout: Duration::from_secs(10),
                })
            }
        })
    }

    pub(crate) fn options(
        &self,
        via: Via,
        channels: Vec<(std::sync::Arc<str>, ChannelKey)>,
        zero: Instant,
        start: Instant,
        load: Load,
    ) -> anyhow::Result<PublisherOptions> {
        let schedule = load.rate.map(|(rate, burst)| Schedule::new(start, rate, burst));
        let count = schedule.map_or(PUBLICATIONS_MAX, |schedule| schedule.items(load.during));
        ensure!(count <= PUBLICATIONS_MAX, "{count} publications; at most {PUBLICATIONS_MAX} in one run");
        Ok(PublisherOptions {
            via,
            workers: self.publishers,
            channels,
            payload_bytes: self.payload as usize,
            filler: self.filler,
            schedule,
            count,
            until: start + load.during,
            start: zero,
        })
    }

    /// Where the streams of the run's channels end; nothing for channels without history.
    ///
    /// # Errors
    /// The API cannot be asked.
    pub fn heads(&self, clients: &ClientArgs, run: &mut Run) -> anyhow::Result<Vec<(ChannelKey, Position)>> {
        let mut api = Api::new(self.api.options(clients.allow_remote)?);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let mut heads = Vec::new();
        for name in run.fleet.channels().to_vec() {
            let head = runtime.block_on(api.head(&name)).context("where the streams end")?;
            heads.extend(head.map(|head| (run.judge.channel(&name), head)));
        }
        Ok(heads)
    }
}

// === while publishing ===

/// Lets the run live until the publisher has ended. `meanwhile` is called now and then; once it returns true, what has been
/// published is enough.
///
/// # Errors
/// The publisher could not publish at all.
pub fn until_published(
    run: &mut Run,
    publisher: Publisher,
    start: Instant,
    during: Duration,
    mut meanwhile: impl FnMut(&mut Run) -> bool,
) -> anyhow::Result<Published> {
    run.progress.begin("publishing", during.as_secs());
    let mut overdue = Some(start + during + OVERDUE);
    let mut is_enough = false;
    while !publisher.is_finished() {
        run.live(Instant::now() + super::GLANCE, |_| false)?;
        if !is_enough && meanwhile(run) {
            is_enough = true;
            publisher.stop();
        }
        if overdue.is_some_and(|at| Instant::now() >= at) {
            publisher.stop();
            overdue = None;
        }
        let (position, deliveries) = (start.elapsed().as_secs(), run.judge.seen().deliveries);
        run.progress.show(position, || format!("{deliveries} deliveries"));
    }
    let published = publisher.join()?;
    let skipped = if is_enough { 0 } else { published.skipped };
    Ok(Published { skipped, ..published })
}

/// Adds how publishing went.
pub fn tell_published(published: &Published, outcome: &mut Outcome) {
    outcome.count("publications", "publications acknowledged", published.acknowledged);
    outcome.count("publications_failed", "publications failed", published.failed());
    outcome.number(
        "publications_per_second",
        "publications per second",
        published.acknowledged as f64 / published.took.as_secs_f64().max(1e-9),
        "/s",
    );
    outcome.times("publish_answer", "answer to a publish", &published.service);
    if published.skipped > 0 {
        let skipped = published.skipped;
        outcome.shortfall(format!(
            "{skipped} publishes were due and not made in time; --publishers adds more of them"
        ));
    }
    for (reason, count) in published.errors.iter().take(10) {
        outcome.shortfall(format!("{count} publishes: {reason}"));
    }
}
