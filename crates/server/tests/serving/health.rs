//! `/health` and `/health/ready`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use serde_json::json;
use tidewire::engine::{
    Announcements, BoxFuture, Broker, Capabilities, Engine, EngineError, History, HistoryFilter,
    NewPublication, PresenceStats, PresenceStore, Published,
};
use tidewire::{ChannelName, ClientInfo, Shutdown, Tidewire};
use tidewire_server::health;

use crate::client;
use crate::support::binary::Server;
use crate::support::http::request;

#[tokio::test]
async fn health_is_served_only_when_it_is_switched_on() {
    let on = Server::start(json!({ "health": { "enabled": true } }));
    for method in ["GET", "HEAD", "POST"] {
        let answer = request(on.external, method, "/health", &[], b"").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.body, if method == "HEAD" { "" } else { "{}" });
    }
    assert_eq!(request(on.external, "GET", "/health/ready", &[], b"").await.status, 200);
    let off = Server::start(json!({}));
    for path in ["/health", "/health/ready", "/metrics"] {
        assert_eq!(request(off.external, "GET", path, &[], b"").await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn readiness_asks_the_engine_and_does_not_wait_for_it_forever() {
    let engine = Arc::new(Ailing::default());
    let tidewire = Tidewire::builder().engine(Arc::clone(&engine) as Arc<dyn Engine>).build().unwrap();
    let address = client::serve(health::router("/health", tidewire.clone())).await;
    let ready = async || request(address, "GET", "/health/ready", &[], b"").await;
    assert_eq!(ready().await.status, 200);

    engine.state.store(DOWN, Ordering::Relaxed);
    let answer = ready().await;
    assert_eq!(
        (answer.status, answer.body.as_str()),
        (503, r#"{"error":"not ready"}"#),
        "strangers learn no more"
    );
    assert_eq!(request(address, "GET", "/health", &[], b"").await.status, 200, "the process itself is alive");

    engine.state.store(SILENT, Ordering::Relaxed);
    let asked = tokio::time::timeout(Duration::from_secs(20), ready()).await.expect("an answer all the same");
    assert_eq!(asked.status, 503);

    engine.state.store(WELL, Ordering::Relaxed);
    assert_eq!(ready().await.status, 200);
    tidewire.shutdown(Shutdown::default()).await;
    assert_eq!(ready().await.status, 503, "a node that stops wants no new clients");
}

const WELL: u8 = 0;
const DOWN: u8 = 1;
const SILENT: u8 = 2;

/// An engine whose health can be chosen, and that does nothing else.
#[derive(Default)]
struct Ailing {
    state: AtomicU8,
}

fn down<T: Send + 'static>() -> BoxFuture<'static, Result<T, EngineError>> {
    Box::pin(std::future::ready(Err(EngineError::Unavailable("secret-host:6379 refused".into()))))
}

impl Engine for Ailing {
    fn capabilities(&self) -> Capabilities {
        Capabilities { lossless_announcements: true, shared: false }
    }

    fn ready(&self) -> BoxFuture<'_, Result<(), EngineError>> {
        match self.state.load(Ordering::Relaxed) {
            WELL => Box::pin(std::future::ready(Ok(()))),
            DOWN => down(),
            _ => Box::pin(std::future::pending()),
        }
    }
}

impl Broker for Ailing {
    fn attach(&self, _: Arc<dyn Announcements>) {}

    fn subscribe(&self, _: &[ChannelName]) -> BoxFuture<'_, Result<(), EngineError>> {
        down()
    }

    fn unsubscribe(&self, _: &[ChannelName]) -> BoxFuture<'_, Result<(), EngineError>> {
        down()
    }

    fn publish(&self, _: &ChannelName, _: NewPublication) -> BoxFuture<'_, Result<Published, EngineError>> {
        down()
    }

    fn publish_join(&self, _: &ChannelName, _: Arc<ClientInfo>) -> BoxFuture<'_, Result<(), EngineError>> {
        down()
    }

    fn publish_leave(&self, _: &ChannelName, _: Arc<ClientInfo>) -> BoxFuture<'_, Result<(), EngineError>> {
        down()
    }

    fn history(
        &self,
        _: &ChannelName,
        _: HistoryFilter,
        _: Duration,
    ) -> BoxFuture<'_, Result<History, EngineError>> {
        down()
    }

    fn remove_history(&self, _: &ChannelName) -> BoxFuture<'_, Result<(), EngineError>> {
        down()
    }
}

impl PresenceStore for Ailing {
    fn presence_add(
        &self,
        _: &ChannelName,
        _: Arc<ClientInfo>,
        _: Duration,
    ) -> BoxFuture<'_, Result<(), EngineError>> {
        down()
    }

    fn presence_remove(&self, _: &ChannelName, _: &str) -> BoxFuture<'_, Result<(), EngineError>> {
        down()
    }

    fn presence(&self, _: &ChannelName) -> BoxFuture<'_, Result<Vec<Arc<ClientInfo>>, EngineError>> {
        down()
    }

    fn presence_stats(&self, _: &ChannelName) -> BoxFuture<'_, Result<PresenceStats, EngineError>> {
        down()
    }
}
