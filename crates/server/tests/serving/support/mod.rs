//! A plain HTTP client, an API in this process, and the real binary as a child.

pub(crate) mod binary;
pub(crate) mod http;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tidewire::engine::HistoryRetention;
use tidewire::options::{ChannelOptions, ClientOptions, DataFormat, Options};
use tidewire::{ErrorCode, Tidewire};
use tidewire_server::api::Api;
use tidewire_server::config::Secret;
use tidewire_server::config::model::HttpApi;

use crate::client;
use http::Answer;

/// The key of every API here.
pub(crate) const KEY: &str = "the-key-of-these-tests";

/// A node and its API, served in this process.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
}

/// How the API is configured in most tests: with a key and the usual limits.
pub(crate) fn api_config() -> HttpApi {
    HttpApi {
        enabled: true,
        path: "/api".into(),
        key: Some(Secret::new(KEY)),
        insecure: false,
        external: false,
        transport_errors: false,
        body_bytes_max: Some(1 << 20),
        batch_max: Some(100),
        publication_bytes_max: Some(64 << 10),
    }
}

fn options() -> Options {
    let retention =
        HistoryRetention { size: 10, ttl: Duration::from_secs(60), meta_ttl: Duration::from_secs(600) };
    let open = ChannelOptions {
        presence: true,
        history: Some(retention),
        allow_subscribe_for_client: true,
        allow_subscribe_for_anonymous: true,
        allow_publish_for_client: true,
        allow_publish_for_anonymous: true,
        ..Default::default()
    };
    let json = ChannelOptions { data_format: DataFormat::JsonObject, ..Default::default() };
    let unavailable = ChannelOptions { unavailable: true, ..Default::default() };
    let mut options = Options { node_name: "node".into(), version: "1.2.3".into(), ..Default::default() };
    options.client = ClientOptions { allow_anonymous_connect_without_token: true, ..Default::default() };
    options.channel.without_namespace = Arc::new(open);
    for (name, rules) in [("plain", ChannelOptions::default()), ("json", json), ("map", unavailable)] {
        options.channel.namespaces.insert(name.into(), Arc::new(rules));
    }
    options
}

impl Backend {
    pub(crate) async fn start() -> Self {
        Self::with(api_config()).await
    }

    pub(crate) async fn with(config: HttpApi) -> Self {
        let tidewire = Tidewire::builder()
            .options(options())
            .process_use(|| tidewire_server::metrics::process::Process::now().map(Into::into))
            .procedure("echo", |params| async move { Ok(params) })
            .procedure("bytes", |_| async { Ok(vec![0xff, 0x00].into()) })
            .procedure("sold", |_| async {
                Err(tidewire::Refusal::Error(tidewire::protocol::Error {
                    code: 1400,
                    message: "sold out".into(),
                    temporary: false,
                }))
            })
            .procedure("fail", |_| async { Err(ErrorCode::Internal.into()) })
            .build()
            .unwrap();
        let api = Arc::new(Api::new(tidewire.clone(), &config));
        let address = client::serve(tidewire.router().merge(api.router(&config.path))).await;
        Self { address }
    }

    /// Calls a method with the key. The status must be 200.
    pub(crate) async fn call(&self, method: &str, body: Value) -> Value {
        let answer = self.post(&format!("/api/{method}"), &[], &body.to_string()).await;
        assert_eq!(answer.status, 200, "{method} {body}");
        assert_eq!(answer.header("content-type"), Some("application/json"));
        answer.json()
    }

    /// Calls a method in transport mode: errors by status.
    pub(crate) async fn call_by_status(&self, method: &str, body: Value) -> Answer {
        let mode = [("x-centrifugo-error-mode", "transport")];
        self.post(&format!("/api/{method}"), &mode, &body.to_string()).await
    }

    /// Posts with the key.
    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut all = vec![("x-api-key", KEY)];
        all.extend(headers);
        http::request(self.address, "POST", path, &all, body.as_bytes()).await
    }
}

/// The answer to a failed call.
pub(crate) fn error(code: u32, message: &str) -> Value {
    json!({ "error": { "code": code, "message": message } })
}
