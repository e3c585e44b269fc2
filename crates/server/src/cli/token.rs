//! `tidewire token`: make tokens for trying things out, and say what is wrong with one.

use std::path::PathBuf;
use std::process::ExitCode;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};
use tidewire_core::hooks::{TokenError, TokenVerifier};

use super::output::{self, Failure};
use super::sources::ConfigArgs;
use super::time::{now, rfc3339};
use crate::config::model::{Expected, TokenRules};
use crate::config::value::parse_duration;
use crate::config::{Config, Secret};
use crate::outgoing::Outgoing;
use crate::token::create::{Signer, random_secret};
use crate::token::{Algorithm, Verifier};

/// Makes and checks tokens.
#[derive(clap::Subcommand)]
pub(super) enum Command {
    Create(CreateArgs),
    Check(CheckArgs),
    /// Prints a new random secret, good for client.token.hmac_secret_key.
    Secret,
}

const CREATE_HELP: &str = "\
The secret is client.token.hmac_secret_key of the configuration (file or environment); for a subscription token that of
client.subscription_token where that is enabled. With --key-file a private key signs instead.

Examples:
  tidewire token create --config config.json --user 42
  tidewire token create --config config.json --user 42 --channel chat --expires-in 10m
  tidewire token create --key-file private.pem --algorithm ES256 --user 42 --claim 'meta={\"plan\":1}'";

/// Makes a connection token or, with --channel, a subscription token.
#[derive(clap::Args)]
#[command(after_help = CREATE_HELP)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The user; left out: anonymous.
    #[arg(long, short)]
    user: Option<String>,
    /// Makes a subscription token for this channel.
    #[arg(long)]
    channel: Option<String>,
    /// Subscribes the connection to this channel from the server side; may be repeated.
    #[arg(long, value_name = "CHANNEL", conflicts_with = "channel")]
    subscribe: Vec<String>,
    /// How long the token is valid, such as 10m or 24h; "never": without end.
    #[arg(long, value_name = "TIME", default_value = "1h")]
    expires_in: String,
    /// What other clients see of the user, as JSON.
    #[arg(long, value_name = "JSON")]
    info: Option<String>,
    /// Any further claim; the value is JSON, or else text. May be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    claim: Vec<String>,
    /// The algorithm to sign with.
    #[arg(long, default_value = "HS256")]
    algorithm: String,
    /// A file with a private key (PEM) to sign with instead of the secret.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The name of the key in the token's header.
    #[arg(long)]
    kid: Option<String>,
}

const CHECK_HELP: &str = "\
Prints the verdict with its reason, and the claims. Exit code 0 if the token is valid, 1 if it is not.

Examples:
  tidewire token check --config config.json eyJhbGciOi...
  pbpaste | tidewire token check --config config.json -";

/// Says whether a token is valid with this configuration, and why not.
#[derive(clap::Args)]
#[command(after_help = CHECK_HELP)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// The token; "-" reads it from standard input.
    token: String,
}

pub(super) fn run(command: &Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Create(args) => {
            output::line(&create(args)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Check(args) => check(args),
        Command::Secret => {
            output::line(random_secret().expose())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

// === create ===

fn create(args: &CreateArgs) -> Result<String, Failure> {
    let config = args.config.load()?;
    let rules = match &config.tokens.subscription {
        Some(own) if args.channel.is_some() => own,
        _ => &config.tokens.connection,
    };
    let signer = signer(args, rules)?;
    let signer = match &args.kid {
        Some(kid) => signer.with_kid(kid),
        None => signer,
    };
    Ok(signer.sign(&claims(args, rules)?))
}

fn signer(args: &CreateArgs, rules: &TokenRules) -> Result<Signer, Failure> {
    let algorithm = Algorithm::of(&args.algorithm);
    let algorithm =
        algorithm.ok_or_else(|| Failure::told(format!("there is no algorithm {:?}", args.algorithm)))?;
    let signer = match (&args.key_file, &rules.hmac) {
        (Some(file), _) => {
            let pem = std::fs::read_to_string(file);
            let pem =
                pem.map_err(|error| Failure::told(format!("{} cannot be read: {error}", file.display())))?;
            Signer::private_key(algorithm, &Secret::new(pem))
        }
        (None, Some(secret)) => Signer::hmac(algorithm, secret),
        (None, None) => {
            return Err(Failure::told(
                "there is no secret to sign with: name a configuration with client.token.hmac_secret_key (--config), \
                 or a private key (--key-file); `tidewire token secret` makes a secret",
            ));
        }
    };
    signer.map_err(|error| Failure::told(format!("{error}: choose another with --algorithm or --key-file")))
}

fn claims(args: &CreateArgs, rules: &TokenRules) -> Result<Map<String, Value>, Failure> {
    let mut claims = Map::new();
    let issued = now();
    claims.insert("iat".into(), issued.into());
    if args.expires_in != "never" {
        let time = parse_duration(&args.expires_in).and_then(|time| i64::try_from(time.as_secs()).ok());
        let time =
            time.ok_or_else(|| Failure::told("--expires-in: expected a time such as 10m or 24h, or never"))?;
        claims.insert("exp".into(), issued.saturating_add(time).into());
    }
    // What the configuration asks of a token is put in, so that it is one that works.
    if let Expected::Exact(audience) = &rules.audience {
        claims.insert("aud".into(), audience.as_str().into());
    }
    if let Expected::Exact(issuer) = &rules.issuer {
        claims.insert("iss".into(), issuer.as_str().into());
    }
    if let Some(user) = &args.user {
        claims.insert(rules.user_id_claim.clone().unwrap_or_else(|| "sub".into()), user.as_str().into());
    }
    if let Some(channel) = &args.channel {
        claims.insert("channel".into(), channel.as_str().into());
    }
    if !args.subscribe.is_empty() {
        claims.insert("channels".into(), args.subscribe.clone().into());
    }
    if let Some(info) = &args.info {
        let info: Value = serde_json::from_str(info).map_err(|_| Failure::told("--info: expected JSON"))?;
        claims.insert("info".into(), info);
    }
    for claim in &args.claim {
        let (name, value) = claim
            .split_once('=')
            .ok_or_else(|| Failure::told("--claim: expected NAME=VALUE, such as meta={}"))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::from(value));
        claims.insert(name.to_owned(), value);
    }
    Ok(claims)
}

// === check ===

fn check(args: &CheckArgs) -> Result<ExitCode, Failure> {
    let config = args.config.load()?;
    let token =
        if args.token == "-" { std::io::read_to_string(std::io::stdin())? } else { args.token.clone() };
    let token = token.trim();
    let unverified = claims_of(token);
    let is_subscription = unverified.as_ref().is_some_and(|claims| claims.contains_key("channel"));
    let verdict = verdict(&config, token, is_subscription)?;

    let kind = if is_subscription { "subscription" } else { "connection" };
    let (word, reason) = match &verdict {
        Ok(()) => (format!("valid {kind} token"), String::new()),
        Err(TokenError::Expired) => ("expired".into(), expiry(unverified.as_ref())),
        Err(TokenError::Invalid(text)) => ("invalid".into(), format!(": {text}")),
        Err(TokenError::Unavailable(text)) => ("unknown".into(), format!(": {text}")),
    };
    output::line(&format!("verdict: {word}{reason}"))?;
    let Some(claims) = unverified else { return Ok(ExitCode::FAILURE) };
    let trust = if verdict.is_ok() { "" } else { " (not to be believed)" };
    output::line(&format!("claims{trust}: {}", Value::Object(claims.clone())))?;
    for name in ["iat", "nbf", "exp", "expire_at"] {
        if let Some(at) = claims.get(name).and_then(Value::as_i64) {
            output::line(&format!("{name}: {}", rfc3339(at)))?;
        }
    }
    Ok(if verdict.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn verdict(config: &Config, token: &str, is_subscription: bool) -> Result<Result<(), TokenError>, Failure> {
    let rules = match &config.tokens.subscription {
        Some(own) if is_subscription => own,
        _ => &config.tokens.connection,
    };
    if !rules.has_keys() && !config.tokens.insecure_skip_signature {
        let section =
            if is_subscription { "client.subscription_token or client.token" } else { "client.token" };
        return Err(Failure::told(format!(
            "there is no key to check with: name a configuration that has one in {section}"
        )));
    }
    let verifier = Verifier::new(&config.tokens, &Outgoing::default()).map_err(Failure::told)?;
    super::block_on(async {
        match is_subscription {
            true => verifier.subscription(token, now()).await.map(|_| ()),
            false => verifier.connection(token, now()).await.map(|_| ()),
        }
    })
}

fn expiry(claims: Option<&Map<String, Value>>) -> String {
    let at = |name: &str| claims.and_then(|claims| claims.get(name)).and_then(Value::as_i64);
    match (at("nbf").filter(|nbf| *nbf > now()), at("exp")) {
        (Some(nbf), _) => format!(": not valid before {}", rfc3339(nbf)),
        (None, Some(exp)) => format!(": since {}", rfc3339(exp)),
        (None, None) => String::new(),
    }
}

/// The claims as they stand there, whoever wrote them.
fn claims_of(token: &str) -> Option<Map<String, Value>> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice(&payload).ok()
}
