//! `tidewire publish`: one publication over the server API.

use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use serde_json::{Map, Value, value::RawValue};

use super::output::{self, Failure};
use super::sources::ConfigArgs;
use crate::config::Secret;
use crate::outgoing::{Outgoing, Rules};

const HELP: &str = "\
Prints the result, such as {\"offset\":7,\"epoch\":\"xyz\"}.

Examples:
  tidewire publish chat '{\"text\":\"hello\"}'
  tidewire publish chat --text hello
  date | tidewire publish chat --text -
  TIDEWIRE_API_KEY=... tidewire publish --api-url https://rt.example.com/api chat '[1,2]'";

/// Publishes into a channel over the HTTP API of a running server.
#[derive(clap::Args)]
#[command(after_help = HELP)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// The channel.
    channel: String,
    /// The payload: JSON, or any text with --text; "-" reads it from standard input.
    #[arg(allow_hyphen_values = true)]
    data: String,
    /// The payload is text, sent as a JSON string.
    #[arg(long)]
    text: bool,
    /// Where the API is.
    #[arg(long, value_name = "URL", default_value = "http://localhost:8000/api", env = "TIDEWIRE_API_URL")]
    api_url: String,
    /// The key of the API; left out: http_api.key of the configuration.
    #[arg(long, value_name = "KEY", env = "TIDEWIRE_API_KEY", hide_env_values = true)]
    api_key: Option<String>,
    /// A tag of the publication; may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    tag: Vec<String>,
    /// Publishes once for the same key, however often it is sent.
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Delivers without keeping the publication in history.
    #[arg(long)]
    skip_history: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let key = match &args.api_key {
        Some(key) => Some(Secret::new(key.as_str())),
        None => args.config.load()?.http_api.key,
    };
    let request = request(args, key.as_ref())?;
    let rules = Rules {
        allow_plain: true,
        allow_private: true,
        timeout: Duration::from_secs(10),
        body_bytes_max: 16 << 20,
    };
    let answer = super::block_on(async { Outgoing::default().send(request, &rules).await })?;
    let answer = answer.map_err(|error| {
        Failure::told(format!("{}: {error}; is the server running there? (--api-url)", args.api_url))
    })?;
    match answer.status().as_u16() {
        200 => print(answer.body()),
        401 => {
            Err(Failure::told("the server refused the key: give the one of http_api.key (TIDEWIRE_API_KEY)"))
        }
        404 => {
            Err(Failure::told(format!("there is no API at {}: see http_api.handler_prefix", args.api_url)))
        }
        status => Err(Failure::told(format!("the server answered {status}: {}", text(answer.body())))),
    }
}

fn request(args: &Args, key: Option<&Secret>) -> Result<Request<Bytes>, Failure> {
    let url: Uri = format!("{}/publish", args.api_url.trim_end_matches('/'))
        .parse()
        .map_err(|_| Failure::told(format!("{:?} is not an address (--api-url)", args.api_url)))?;
    let mut body = Map::new();
    body.insert("channel".into(), args.channel.as_str().into());
    if !args.tag.is_empty() {
        let tag =
            |tag: &String| tag.split_once('=').map(|(name, value)| (name.to_owned(), Value::from(value)));
        let tags: Option<Map<String, Value>> = args.tag.iter().map(tag).collect();
        body.insert("tags".into(), tags.ok_or_else(|| Failure::told("--tag: expected NAME=VALUE"))?.into());
    }
    if let Some(key) = &args.idempotency_key {
        body.insert("idempotency_key".into(), key.as_str().into());
    }
    if args.skip_history {
        body.insert("skip_history".into(), true.into());
    }
    let head = Value::Object(body).to_string();
    // The payload goes in as it is: read and written again, numbers in it could change.
    let body = format!("{},\"data\":{}}}", head.strip_suffix('}').unwrap_or(&head), data(args)?);
    let mut request = Request::post(url).header(header::CONTENT_TYPE, "application/json");
    if let Some(key) = key {
        let mut value =
            HeaderValue::from_str(key.expose()).map_err(|_| Failure::told("the key cannot be sent"))?;
        value.set_sensitive(true);
        request = request.header("X-API-Key", value);
    }
    request.body(Bytes::from(body)).map_err(|error| Failure::told(error.to_string()))
}

fn data(args: &Args) -> Result<String, Failure> {
    let data = if args.data == "-" { std::io::read_to_string(std::io::stdin())? } else { args.data.clone() };
    if args.text {
        return Ok(Value::from(data.trim_end_matches(['\r', '\n'])).to_string());
    }
    match serde_json::from_str::<&RawValue>(&data) {
        Ok(json) => Ok(json.get().to_owned()),
        Err(error) => {
            Err(Failure::told(format!("the payload is not JSON ({error}); to send text, add --text")))
        }
    }
}

fn print(body: &[u8]) -> Result<ExitCode, Failure> {
    let unreadable = || Failure::told(format!("the answer is not one of this API: {}", text(body)));
    let answer: Map<String, Value> = serde_json::from_slice(body).map_err(|_| unreadable())?;
    if let Some(error) = answer.get("error") {
        return Err(Failure::told(format!("the server refused: {error}")));
    }
    output::line(&answer.get("result").ok_or_else(unreadable)?.to_string())?;
    Ok(ExitCode::SUCCESS)
}

/// The beginning of an answer, on one line.
fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).chars().filter(|c| !c.is_control()).take(200).collect()
}
