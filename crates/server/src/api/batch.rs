//! `batch`: many calls in one request, answered in order.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use futures_util::stream;
use serde::Deserialize;
use serde_json::value::RawValue;
use tidewire::Tidewire;

use super::failure::Failure;
use super::method::{Call, Limits, Method, Outcome};
use super::request::read;
use super::result::Answer;

/// Calls of one parallel batch that run at a time.
const PARALLEL_MAX: usize = 1024;

/// A batch whose commands have been read, so that a broken one stops it before the first is carried out.
pub(super) struct Batch {
    commands: Vec<Command>,
    parallel: bool,
}

/// One command: a call, or what is wrong with it.
type Command = Result<(Method, Call), Failure>;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Request {
    commands: Option<Vec<BTreeMap<String, Box<RawValue>>>>,
    parallel: Option<bool>,
}

// === impl Batch ===

impl Batch {
    pub(super) fn read(body: &[u8]) -> serde_json::Result<Self> {
        let request: Request = read(body)?;
        let commands = request.commands.unwrap_or_default();
        let commands = commands.iter().map(command).collect::<serde_json::Result<_>>()?;
        Ok(Self { commands, parallel: request.parallel.unwrap_or_default() })
    }

    pub(super) async fn run(self, tidewire: &Tidewire, limits: &Limits) -> Outcome {
        if self.commands.len() > limits.batch {
            return Err(Failure::too_large("commands of one batch", self.commands.len(), limits.batch));
        }
        let at_a_time = if self.parallel { PARALLEL_MAX } else { 1 };
        let run = |command| async move { reply(command, tidewire, limits).await };
        let replies: Vec<String> =
            stream::iter(self.commands.into_iter().map(run)).buffered(at_a_time).collect().await;
        Ok(Answer::bare(format!("{{\"replies\":[{}]}}", replies.join(","))))
    }
}

/// The first member that is the name of a method.
fn command(members: &BTreeMap<String, Box<RawValue>>) -> serde_json::Result<Command> {
    let known = members.iter().find_map(|(name, request)| Some((Method::parse(name)?, request)));
    match known {
        None | Some((Method::Batch, _)) => Ok(Err(Failure::not_found())),
        Some((_, request)) if request.get() == "null" => Ok(Err(Failure::bad_request())),
        Some((method, request)) => Ok(Ok((method, method.decode(request.get().as_bytes())?))),
    }
}

async fn reply(command: Command, tidewire: &Tidewire, limits: &Limits) -> String {
    let done = match command {
        Ok((method, call)) => call.run_single(tidewire, limits).await.map(|answer| (method, answer)),
        Err(failure) => Err(failure),
    };
    match done {
        Ok((method, answer)) => format!("{{\"{}\":{}}}", method.name(), answer.as_json()),
        Err(failure) => failure.to_wrapped_json(),
    }
}
