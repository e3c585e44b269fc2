//! The real server as a child process.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::{Value, json};

use crate::tool::{API_KEY, SECRET};

/// A server that serves; killed when dropped.
pub(crate) struct Server {
    child: Child,
    directory: tempfile::TempDir,
    pub(crate) address: SocketAddr,
}

/// `TIDEWIRE_BIN`, or what cargo builds.
fn binary() -> &'static PathBuf {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(binary) = std::env::var_os("TIDEWIRE_BIN") {
            return binary.into();
        }
        let build =
            ["build", "--package", "tidewire-server", "--bin", "tidewire", "--message-format", "json"];
        let built = Command::new(env!("CARGO")).args(build).stderr(Stdio::inherit()).output().unwrap();
        assert!(built.status.success(), "the server does not build");
        let messages = String::from_utf8(built.stdout).unwrap();
        let executable = |line: &str| {
            let message: Value = serde_json::from_str(line).ok()?;
            Some(message["executable"].as_str()?.into())
        };
        messages.lines().rev().find_map(executable).unwrap()
    })
}

/// Tokens and a key are needed; `log:` keeps history and recovers, `plain:` does not.
pub(crate) fn config(port: u16) -> Value {
    json!({
        "http_server": {"address": "127.0.0.1", "port": port},
        "client": {"token": {"hmac_secret_key": SECRET}},
        "http_api": {"key": API_KEY},
        "log": {"level": "info"},
        "channel": {"namespaces": [
            {"name": "plain", "allow_subscribe_for_client": true, "allow_publish_for_client": true},
            {"name": "log", "allow_subscribe_for_client": true, "allow_publish_for_client": true,
                "history_size": 10_000, "history_ttl": "5m", "force_recovery": true}
        ]}
    })
}

// === impl Server ===

impl Server {
    pub(crate) fn start() -> Self {
        Self::with(config(0), tempfile::tempdir().unwrap())
    }

    /// Starts with a configuration in a directory and waits until it serves.
    pub(crate) fn with(config: Value, directory: tempfile::TempDir) -> Self {
        let file = directory.path().join("config.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let mut command = Command::new(binary());
        command.arg("serve").arg("--config").arg(file).current_dir(directory.path()).env_clear();
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut written = String::new();
        let address = loop {
            let Some(Ok(line)) = lines.next() else { panic!("the server ended: {written}") };
            written.push_str(&line);
            let line: Value = serde_json::from_str(&line).unwrap_or_default();
            if line["message"] == "serving" {
                break line["external"].as_str().unwrap().rsplit("//").next().unwrap().parse().unwrap();
            }
        };
        // What it writes is read to the end, so that it never waits for a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, directory, address }
    }

    /// Ends it without a goodbye and starts it again in the same place.
    pub(crate) fn restart(mut self) -> Self {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let port = self.address.port();
        let directory = std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap());
        drop(self);
        Self::with(config(port), directory)
    }

    pub(crate) fn pid(&self) -> String {
        self.child.id().to_string()
    }

    pub(crate) fn websocket(&self) -> String {
        websocket(self.address)
    }

    pub(crate) fn api(&self) -> String {
        format!("http://{}/api", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn websocket(address: SocketAddr) -> String {
    format!("ws://{address}/connection/websocket")
}
