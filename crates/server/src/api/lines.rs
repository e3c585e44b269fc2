//! `POST /api`: one call a line, for clients older than one path a method.

use std::fmt::Write as _;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Api;
use super::failure::Failure;
use super::method::Method;
use super::request::read;

/// The body does not hold calls; nothing was carried out.
#[derive(Debug)]
pub(super) struct NotLines;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Line {
    id: Option<u64>,
    method: Option<String>,
    params: Option<Box<RawValue>>,
}

/// Carries out the lines one after the other; the answers are lines too.
pub(super) async fn run(api: &Api, body: &[u8]) -> Result<String, NotLines> {
    let lines = body.split(|byte| *byte == b'\n').filter(|line| !line.trim_ascii().is_empty());
    let lines: Vec<Line> = lines.map(read).collect::<Result<_, _>>().map_err(|_| NotLines)?;
    if lines.is_empty() || lines.len() > api.limits.batch {
        return Err(NotLines);
    }
    let mut answers = String::new();
    for line in lines {
        let id = line.id.filter(|id| *id != 0).map(|id| format!("\"id\":{id},")).unwrap_or_default();
        let answer = match answer(api, &line).await {
            Ok(result) => format!("\"result\":{result}"),
            Err(failure) => format!("\"error\":{}", failure.to_json()),
        };
        let end = if answers.is_empty() { "" } else { "\n" };
        // Writing to a text cannot fail.
        let _ = write!(answers, "{end}{{{id}{answer}}}");
    }
    Ok(answers)
}

async fn answer(api: &Api, line: &Line) -> Result<String, Failure> {
    let method = Method::parse(line.method.as_deref().unwrap_or_default());
    let method = method.filter(|method| *method != Method::Batch).ok_or_else(Failure::not_found)?;
    let params = line.params.as_ref().map_or("{}", |params| params.get());
    let call = method.decode(params.as_bytes()).map_err(|_| Failure::bad_request())?;
    let outcome = api.calls.count(method, call.run_single(&api.tidewire, &api.limits).await);
    outcome.map(|answer| answer.as_json().to_owned())
}
