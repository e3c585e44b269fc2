//! Three nodes, each a process of its own, and how to ask them.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidewire_checker::Position;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::PATIENCE;
use crate::binary::Server;

/// How many nodes there are.
pub(crate) const NODES: usize = 3;
/// How long entries of a dead node are seen.
pub(crate) const LEASE: Duration = Duration::from_secs(4);
/// How often presence is renewed.
pub(crate) const PRESENCE_EVERY: Duration = Duration::from_secs(3);
/// How long any answer may take, with `io_timeout` of 2 s.
const ANSWER: Duration = Duration::from_secs(30);
/// The secret of the clients' tokens.
pub(crate) const SECRET: &str = "secret-of-the-tests-with-three-nodes";

/// Nodes that share an engine; killed when dropped.
pub(crate) struct Nodes {
    servers: Vec<Option<Server>>,
    pub(crate) addresses: Vec<SocketAddr>,
}

/// The configuration of a node, with this below `engine.redis`.
pub(crate) fn config(redis: &Value) -> Value {
    let mut config = json!({
        "engine": { "type": "redis", "redis": {
            "connect_timeout": "1s", "io_timeout": "2s", "node_lease": format!("{}s", LEASE.as_secs()),
        } },
        "client": {
            "token": { "hmac_secret_key": SECRET },
            "channel_position_check_delay": "1s",
            "presence_update_interval": format!("{}s", PRESENCE_EVERY.as_secs()),
            // What gathers while a slow machine reconnects.
            "recovery_max_publication_limit": 20_000,
        },
        "http_api": { "insecure": true },
        "health": { "enabled": true },
        "prometheus": { "enabled": true },
        "channel": { "without_namespace": {}, "namespaces": [
            namespace("log", &json!({ "force_recovery": true, "history_size": 20_000, "history_ttl": "10m" })),
            namespace("plain", &json!({})),
        ] },
    });
    for (key, value) in redis.as_object().into_iter().flatten() {
        config["engine"]["redis"][key] = value.clone();
    }
    config
}

fn namespace(name: &str, more: &Value) -> Value {
    let mut namespace = json!({
        "name": name, "presence": true, "join_leave": true, "force_push_join_leave": true,
        "allow_subscribe_for_client": true, "allow_publish_for_client": true,
        "allow_presence_for_client": true, "allow_history_for_client": true,
    });
    for (key, value) in more.as_object().into_iter().flatten() {
        namespace[key] = value.clone();
    }
    namespace
}

/// The answer to a request.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// Sends a request to a node that may be gone.
pub(crate) async fn request(address: SocketAddr, method: &str, path: &str, body: &str) -> io::Result<Answer> {
    let whole = async {
        let mut socket = TcpStream::connect(address).await?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        socket.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok(Answer { status: status.ok_or(io::ErrorKind::InvalidData)?, body: body.to_owned() })
    };
    tokio::time::timeout(ANSWER, whole).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Calls a method of the API: its result, or what went wrong.
pub(crate) async fn try_call(address: SocketAddr, method: &str, body: &Value) -> Result<Value, String> {
    let answer = request(address, "POST", &format!("/api/{method}"), &body.to_string()).await;
    let answer = answer.map_err(|error| error.to_string())?;
    let mut json: Value = serde_json::from_str(&answer.body).map_err(|error| error.to_string())?;
    match json.get_mut("result") {
        Some(result) => Ok(result.take()),
        None => Err(json["error"].to_string()),
    }
}

/// Waits until something holds that announces itself nowhere.
pub(crate) async fn eventually<T, E: std::fmt::Debug>(
    what: &str,
    mut ask: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let begun = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(last) => assert!(begun.elapsed() < PATIENCE, "never: {what}; last: {last:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

// === impl Nodes ===

impl Nodes {
    /// Starts them and waits until each knows the others and is ready.
    pub(crate) async fn start(redis: &Value) -> Self {
        let config = config(redis);
        let servers: Vec<_> = (0..NODES)
            .map(|number| {
                let mut config = config.clone();
                config["node"] = json!({ "name": format!("node-{number}") });
                Server::start(config)
            })
            .collect();
        let addresses = servers.iter().map(|server| server.external).collect();
        let nodes = Self { servers: servers.into_iter().map(Some).collect(), addresses };
        nodes.know_each_other(NODES).await;
        for node in 0..NODES {
            nodes.ready(node, 200).await;
        }
        nodes
    }

    /// Waits until every node that lives lists so many.
    pub(crate) async fn know_each_other(&self, count: usize) {
        for address in self.alive() {
            eventually("the nodes know each other", async || {
                let info = try_call(address, "info", &json!({})).await?;
                let nodes = info["nodes"].as_array().map_or(0, Vec::len);
                if nodes == count { Ok(()) } else { Err(info.to_string()) }
            })
            .await;
        }
    }

    /// Where the nodes listen that have not been killed.
    pub(crate) fn alive(&self) -> impl Iterator<Item = SocketAddr> {
        self.servers.iter().flatten().map(|server| server.external)
    }

    /// Whether it has not been killed.
    pub(crate) fn is_alive(&self, node: usize) -> bool {
        self.servers[node].is_some()
    }

    /// Kills one at once.
    pub(crate) fn kill(&mut self, node: usize) {
        self.servers[node] = None;
    }

    /// Waits until its readiness is as it should be.
    pub(crate) async fn ready(&self, node: usize, status: u16) {
        eventually("readiness", async || {
            let answer = request(self.addresses[node], "GET", "/health/ready", "").await;
            let answer = answer.map_err(|error| error.to_string())?;
            if answer.status == status { Ok(()) } else { Err(format!("{}, not {status}", answer.status)) }
        })
        .await;
    }

    /// Waits until all that live are.
    pub(crate) async fn all_ready(&self, status: u16) {
        for node in (0..NODES).filter(|node| self.servers[*node].is_some()) {
            self.ready(node, status).await;
        }
    }

    /// Calls a method of the API that must succeed.
    pub(crate) async fn call(&self, node: usize, method: &str, body: Value) -> Value {
        let answer = try_call(self.addresses[node], method, &body).await;
        answer.unwrap_or_else(|error| panic!("node {node}: {method} {body}: {error}"))
    }

    /// Where a stream ends, by one node.
    pub(crate) async fn head(&self, node: usize, channel: &str) -> Position {
        let top = self.call(node, "history", json!({ "channel": channel, "limit": 0 })).await;
        position(&top)
    }

    /// Who is in a channel, by one node: client ids.
    pub(crate) async fn presence(&self, node: usize, channel: &str) -> Result<Vec<String>, String> {
        let result = try_call(self.addresses[node], "presence", &json!({ "channel": channel })).await?;
        let mut ids: Vec<String> =
            result["presence"].as_object().into_iter().flatten().map(|(id, _)| id.clone()).collect();
        ids.sort();
        Ok(ids)
    }

    /// What each node that lives has counted, labels left out.
    pub(crate) async fn metrics(&self) -> Metrics {
        let mut all = Vec::new();
        for address in self.alive() {
            let text = request(address, "GET", "/metrics", "").await.unwrap().body;
            let lines = text.lines().filter(|line| !line.starts_with('#') && !line.contains('{'));
            let samples = lines.filter_map(|line| {
                let (name, value) = line.rsplit_once(' ')?;
                Some((name.to_owned(), value.parse().ok()?))
            });
            all.push(samples.collect());
        }
        Metrics(all)
    }

    /// Sends a signal to one, by its name without `SIG`.
    pub(crate) fn signal(&self, node: usize, signal: &str) {
        self.servers[node].as_ref().unwrap().signal(signal);
    }

    /// What a node has written.
    pub(crate) fn written(&self, node: usize) -> String {
        self.servers[node].as_ref().map(Server::written).unwrap_or_default()
    }
}

impl Drop for Nodes {
    /// Of a test that fails, leaves the logs for whoever has to find out why.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for (node, server) in self.servers.iter().enumerate() {
            let file = std::env::temp_dir().join(format!("tidewire-nodes-{}-{node}.log", std::process::id()));
            let log = server.as_ref().map(Server::written).unwrap_or_default();
            let _ = std::fs::write(&file, log);
            println!("the log of node {node} at {}: {}", self.addresses[node], file.display());
        }
    }
}

/// Name to value, by node.
pub(crate) struct Metrics(Vec<BTreeMap<String, f64>>);

// === impl Metrics ===

impl Metrics {
    /// A counter or gauge of every node.
    pub(crate) fn each(&self, name: &str) -> Vec<f64> {
        let value =
            |node: &BTreeMap<String, f64>| *node.get(name).unwrap_or_else(|| panic!("no metric {name}"));
        self.0.iter().map(value).collect()
    }

    /// All nodes together.
    pub(crate) fn sum(&self, name: &str) -> f64 {
        self.each(name).iter().sum()
    }
}

/// Offset and epoch of an answer.
pub(crate) fn position(value: &Value) -> Position {
    Position::new(value["epoch"].as_str().unwrap_or_default(), value["offset"].as_u64().unwrap_or_default())
}
