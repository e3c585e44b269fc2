//! `serve`: from a checked configuration to a running server, and to its end.
//!
//! `listeners`: what is served where. `capacity`: how many connections fit. `demo`: the page of `--dev`. `address`:
//! binding, and what to do if that fails. `certificates`: of TLS, read again when they change.
//! `banner`: what a person is told at the start. `signals`: when to stop. `strict`: what is refused before any route.
//!
//! The server is an application of the library `tidewire` and uses nothing of it that others cannot use.

mod address;
mod banner;
mod capacity;
pub mod certificates;
mod demo;
mod listeners;
mod signals;
mod strict;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tidewire::transport::upgrade::BadOriginPattern;
use tidewire::transport::ws::Limits;
use tidewire::transport::{CompressionOptions, OriginPolicy, ReactorOptions, WebSocketOptions};
use tidewire::{BuildError, Shutdown, Tidewire};
use tidewire_engine_redis::RedisEngine;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::config::model::Compression;
use crate::config::report::Report;
use crate::logs;
use crate::metrics::process;
use crate::outgoing::Outgoing;
use crate::token::Verifier;
use capacity::Capacity;
use signals::Signals;

/// How long a start waits for Redis.
const REDIS_PATIENCE: Duration = Duration::from_secs(5);

/// How the server is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// For others.
    Production,
    /// `--dev`: for the person at this machine.
    Development,
}

/// Why the server did not start, with the next step.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Somebody else listens there.
    #[error(
        "{address} is in use: stop what listens there, or choose another port with {key} (or {variable}=PORT)"
    )]
    InUse {
        /// The address.
        address: String,
        /// The configuration key of the port.
        key: &'static str,
        /// The environment variable of the port.
        variable: &'static str,
    },
    /// The address cannot be had for another reason.
    #[error("cannot listen on {address} ({key}): {source}")]
    Listen {
        /// The address.
        address: String,
        /// The configuration key of the address.
        key: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Certificate or key cannot be used.
    #[error("TLS cannot be used ({key}): {problem}")]
    Tls {
        /// The section of the configuration.
        key: &'static str,
        /// Why. Never holds key material.
        problem: String,
    },
    /// Two things would be served at one path, or a path has characters that stand for others.
    #[error("{key} = {path:?} cannot be served: {problem}")]
    Path {
        /// The configuration key.
        key: &'static str,
        /// The path.
        path: String,
        /// Why.
        problem: &'static str,
    },
    /// `client.allowed_origins` holds a pattern that is none.
    #[error("client.allowed_origins: {0}")]
    Origins(#[from] BadOriginPattern),
    /// Token keys that the configuration let pass cannot be used.
    #[error("client.token: {0}")]
    Tokens(String),
    /// Redis cannot be used as it is configured.
    #[error("{}", redis_trouble(.0))]
    Redis(tidewire_engine_redis::Error),
    /// The node does not start.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Something of the operating system is missing.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

/// Serves until a signal. The report's warnings go to the log.
pub fn run(config: &Config, report: &Report, mode: Mode) -> ExitCode {
    if let Err(error) = logs::start(&config.log) {
        eprintln!("tidewire: cannot log: {error}");
        return ExitCode::FAILURE;
    }
    for problem in report.problems() {
        tracing::warn!(key = problem.key, origin = %problem.origin, "{}", problem.text);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let served = runtime
        .map_err(|source| StartError::System { what: "cannot start threads".into(), source })
        .and_then(|runtime| runtime.block_on(serve(config, mode)));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // To the log for its reader, and in plain words for whoever typed the command.
            tracing::error!("cannot start: {error}");
            eprintln!("tidewire: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: &Config, mode: Mode) -> Result<(), StartError> {
    // Before anything that takes long: a signal during the start is a wish to stop as well.
    let mut signals =
        Signals::listen().map_err(|source| StartError::System { what: "signals".into(), source })?;
    let hangup =
        signals::hangup(mode).map_err(|source| StartError::System { what: "signals".into(), source })?;
    let capacity = Capacity::take();
    let listeners = listeners::bind(config).await?;
    let redis = redis(config).await?;
    let tidewire = node(config, capacity, redis.clone())?;
    let pid_file = config.pid_file.as_deref().map(PidFile::write).transpose()?;
    for insecure in &config.insecure {
        tracing::warn!(key = insecure.key, "INSECURE: {}", insecure.meaning);
    }
    banner::show(config, &listeners, mode);

    let stop = CancellationToken::new();
    let mut serving = listeners::serve(listeners, hangup, config, mode, &tidewire, redis, &stop);
    let signal = signals.next().await;
    tracing::info!(signal, spread = ?config.shutdown.spread, "stopping: connections are told to reconnect elsewhere");
    stop.cancel();
    tokio::select! {
        () = wind_down(config, &tidewire, &mut serving) => tracing::info!("stopped"),
        signal = signals.next() => tracing::warn!(signal, "stopped at once by a second signal"),
    }
    drop(pid_file);
    Ok(())
}

/// Lets requests under way finish and connections go, within the configured time.
async fn wind_down(config: &Config, tidewire: &Tidewire, serving: &mut JoinSet<()>) {
    let shutdown = Shutdown { spread: config.shutdown.spread, timeout: config.shutdown.timeout };
    let requests =
        tokio::time::timeout(shutdown.timeout, async { while serving.join_next().await.is_some() {} });
    let (requests, ()) = tokio::join!(requests, tidewire.shutdown(shutdown));
    if requests.is_err() {
        tracing::warn!("requests were still under way when shutdown.timeout was over");
    }
}

/// The engine in Redis, if it is asked for. What no waiting mends ends the start; a server that is only not there yet
/// does not: until it is, `/health/ready` says so.
async fn redis(config: &Config) -> Result<Option<Arc<RedisEngine>>, StartError> {
    let Some(options) = &config.redis else {
        return Ok(None);
    };
    let engine = RedisEngine::start(options).map_err(StartError::Redis)?;
    match engine.connected(REDIS_PATIENCE).await {
        Err(error) if error.is_permanent() => return Err(StartError::Redis(error)),
        Err(error) => tracing::error!("{}; serving all the same", redis_trouble(&error)),
        Ok(()) => {
            if let Err(error) = engine.writable().await {
                tracing::error!("{}; serving all the same", redis_trouble(&error));
            }
        }
    }
    Ok(Some(Arc::new(engine)))
}

/// What is wrong with Redis, and the next step.
pub(crate) fn redis_trouble(error: &tidewire_engine_redis::Error) -> String {
    let text = format!("engine.redis: Redis cannot be used: {error}");
    match error.next_step() {
        Some(step) => format!("{text}: {step}"),
        None => text,
    }
}

fn node(
    config: &Config,
    capacity: Capacity,
    redis: Option<Arc<RedisEngine>>,
) -> Result<Tidewire, StartError> {
    let mut reactors = ReactorOptions {
        limits: Limits {
            message_bytes_max: config.websocket.message_bytes_max,
            inflated_bytes_max: config.websocket.inflated_bytes_max,
            ..Limits::server()
        },
        write_timeout: config.websocket.write_timeout,
        ..Default::default()
    };
    if let Some(threads) = config.reactor_threads {
        reactors.threads = threads.get();
    }
    let configured = config.admission.connection_limit.map(std::num::NonZeroUsize::get);
    let websocket = WebSocketOptions {
        origins: OriginPolicy::parse(&config.admission.allowed_origins)?,
        connection_limit: Some(capacity.connections(configured)),
        ip_connection_limit: config.admission.ip_connection_limit.map(to_u32),
        connection_rate_limit: config.admission.connection_rate_limit.map(to_u32),
        compression: config
            .websocket
            .compression
            .map(|Compression { level, min_size }| CompressionOptions { level, min_size }),
    };
    let mut options = config.core.clone();
    if options.node_name.is_empty() {
        options.node_name = address::node_name(config.http_server.external.port);
    }
    let verifier = Verifier::new(&config.tokens, &Outgoing::default()).map_err(StartError::Tokens)?;
    let builder =
        Tidewire::builder().options(options).tokens(verifier).reactors(reactors).websocket(websocket);
    let builder = match redis {
        Some(redis) => builder.engine(redis),
        None => builder,
    };
    let builder = builder.process_use(|| process::Process::now().map(Into::into));
    Ok(builder.websocket_path(config.websocket.path.clone()).build()?)
}

fn to_u32(number: std::num::NonZeroUsize) -> u32 {
    u32::try_from(number.get()).unwrap_or(u32::MAX)
}

/// Says which process runs, until it does not.
struct PidFile(PathBuf);

impl PidFile {
    fn write(path: &Path) -> Result<Self, StartError> {
        let written = std::fs::write(path, format!("{}\n", std::process::id()));
        let what = || format!("cannot write pid_file {}", path.display());
        written.map_err(|source| StartError::System { what: what(), source })?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        // It may have been removed meanwhile, which is as well.
        let _ = std::fs::remove_file(&self.0);
    }
}
