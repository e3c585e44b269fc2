//! What is served where: clients on the external listener, everything for operators and backends on the internal one
//! where there is one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::{Router, middleware};
use http::StatusCode;
use tidewire::Tidewire;
use tidewire::transport::Listener;
use tidewire_engine_redis::RedisEngine;
use tokio::signal::unix::Signal;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::address::{self, EXTERNAL, INTERNAL};
use super::certificates::{Certificates, Figures};
use super::{Mode, StartError, demo, strict};
use crate::api::Api;
use crate::config::Config;
use crate::{health, metrics};

/// Bound addresses that do not serve yet.
pub(super) struct Listeners {
    external: Listener,
    internal: Option<Listener>,
    certificates: Certificates,
}

/// Binds what the configuration asks for.
pub(super) async fn bind(config: &Config) -> Result<Listeners, StartError> {
    check_paths(config)?;
    let mut certificates = Certificates::default();
    let external = address::bind(&config.http_server.external, &EXTERNAL, &mut certificates).await?;
    let internal = match &config.http_server.internal {
        Some(listen) => Some(address::bind(listen, &INTERNAL, &mut certificates).await?),
        None => None,
    };
    Ok(Listeners { external, internal, certificates })
}

// === impl Listeners ===

impl Listeners {
    /// Where clients connect.
    pub(super) fn external(&self) -> Option<SocketAddr> {
        self.external.local_addr().ok()
    }

    /// Where everything else is, if not there too.
    pub(super) fn internal(&self) -> Option<SocketAddr> {
        self.internal.as_ref()?.local_addr().ok()
    }
}

/// Serves until `stop`; the tasks end when the last request is answered. `hangup` has certificates read again.
pub(super) fn serve(
    listeners: Listeners,
    hangup: Option<Signal>,
    config: &Config,
    mode: Mode,
    tidewire: &Tidewire,
    redis: Option<Arc<RedisEngine>>,
    stop: &CancellationToken,
) -> JoinSet<()> {
    let api = Arc::new(Api::new(tidewire.clone(), &config.http_api));
    let mut external = Router::new();
    if config.websocket.enabled {
        external = external.merge(tidewire.router());
    }
    let mut tasks = JoinSet::new();
    let mut operators = operators(config, tidewire, &api, listeners.certificates.figures(), redis);
    let page = match mode {
        Mode::Development => demo::router(config),
        Mode::Production => Router::new(),
    };
    match listeners.internal {
        Some(internal) => {
            if config.http_api.enabled {
                operators = operators.merge(Arc::clone(&api).router(&config.http_api.path));
                if config.http_api.external {
                    external = external.merge(api.router(&config.http_api.path));
                }
            }
            tasks.spawn(internal.serve(checked(operators.fallback(nothing)), stop.clone()));
        }
        None => {
            external = external.merge(operators);
            if config.http_api.enabled {
                external = external.merge(api.router(&config.http_api.path));
            }
        }
    }
    // The page is looked for last, so that it is in nobody's way.
    let external = external.fallback_service(page.fallback(nothing));
    tasks.spawn(listeners.external.serve(checked(external), stop.clone()));
    tasks.spawn(listeners.certificates.keep(hangup, stop.clone()));
    tasks
}

/// With what is refused everywhere; also where there is no route (the router needs a fallback of its own for that), so that
/// a refusal tells nothing of those.
fn checked(router: Router) -> Router {
    router.layer(middleware::from_fn(strict::check))
}

async fn nothing() -> StatusCode {
    StatusCode::NOT_FOUND
}

/// Health and metrics.
fn operators(
    config: &Config,
    tidewire: &Tidewire,
    api: &Arc<Api>,
    tls: Arc<Figures>,
    redis: Option<Arc<RedisEngine>>,
) -> Router {
    let mut router = Router::new();
    if config.health.enabled {
        router = router.merge(health::router(&config.health.path, tidewire.clone()));
    }
    if config.prometheus.enabled {
        let path = &config.prometheus.path;
        router = router.merge(metrics::router(
            path,
            tidewire.clone(),
            Arc::clone(api),
            tls,
            redis,
            config.insecure.len(),
        ));
    }
    router
}

/// Routes must differ, and a router must not read patterns into them.
fn check_paths(config: &Config) -> Result<(), StartError> {
    let ready = format!("{}/ready", config.health.path.trim_end_matches('/'));
    let paths = [
        (config.websocket.enabled, "websocket.handler_prefix", config.websocket.path.as_str()),
        (config.http_api.enabled, "http_api.handler_prefix", &config.http_api.path),
        (config.health.enabled, "health.handler_prefix", &config.health.path),
        (config.health.enabled, "health.handler_prefix", &ready),
        (config.prometheus.enabled, "prometheus.handler_prefix", &config.prometheus.path),
    ];
    let mut seen = BTreeMap::new();
    for (_, key, path) in paths.into_iter().filter(|(enabled, ..)| *enabled) {
        let refuse = |problem| Err(StartError::Path { key, path: path.to_owned(), problem });
        let plain = |c: char| c.is_ascii_alphanumeric() || "/-._~".contains(c);
        if !path.starts_with('/') || !path.chars().all(plain) {
            return refuse("only letters, digits and / - . _ ~ may stand in it");
        }
        if seen.insert(path.to_owned(), key).is_some() {
            return refuse("something else is served there");
        }
    }
    Ok(())
}
