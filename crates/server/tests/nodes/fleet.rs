//! Official clients, unmodified, in a Node.js process: `tests/clients/js/fleet.js`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tidewire_server::config::Secret;
use tidewire_server::token::Algorithm;
use tidewire_server::token::create::Signer;

use crate::record::Record;
use crate::rig::SECRET;

/// The clients; gone when dropped.
pub(crate) struct Fleet {
    child: Child,
    input: Mutex<ChildStdin>,
    pub(crate) record: Arc<Record>,
}

// === impl Fleet ===

impl Fleet {
    pub(crate) fn start() -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/clients/js");
        let ready = folder.join("node_modules/centrifuge").exists();
        assert!(
            ready,
            "the official client is not installed: npm ci in tests/clients/js, or scripts/test nodes"
        );
        let program: PathBuf = std::env::var_os("NODE").map_or_else(|| "node".into(), PathBuf::from);
        let mut command = Command::new(program);
        command.arg("fleet.js").current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("Node.js");
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let record = Arc::<Record>::default();
        let reader = Arc::clone(&record);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                reader.take(&line);
            }
        });
        Self { child, input: Mutex::new(input), record }
    }

    /// A client that goes to these nodes in turn. It is judged in every channel it subscribes to.
    pub(crate) fn join(&self, client: u32, nodes: &[SocketAddr], channels: &[&str]) {
        let nodes: Vec<_> = nodes.iter().map(|node| format!("ws://{node}/connection/websocket")).collect();
        let encoding = if client.is_multiple_of(2) { "json" } else { "protobuf" };
        for channel in channels {
            self.record.expect(client, channel);
        }
        self.tell(&json!({
            "do": "join", "client": client, "nodes": nodes, "encoding": encoding, "token": token(&user(client)),
            "channels": channels,
        }));
    }

    /// A client goes.
    pub(crate) fn leave(&self, client: u32) {
        self.tell(&json!({ "do": "leave", "client": client }));
    }

    /// Has a client publish until [`Fleet::quiet`].
    pub(crate) fn publish(&self, client: u32, channels: &[&str], every_ms: u64) {
        self.tell(&json!({ "do": "publish", "client": client, "channels": channels, "every": every_ms }));
    }

    /// Ends all publishing and waits until the last one is answered.
    pub(crate) async fn quiet(&self) {
        let before = self.record.look(|seen| seen.quiet);
        self.tell(&json!({ "do": "quiet" }));
        self.record.until("no publish is under way", |seen| (seen.quiet > before).then_some(())).await;
    }

    /// What a client is answered.
    pub(crate) async fn ask(&self, client: u32, what: &str, channel: &str) -> Value {
        let before = self.record.look(|seen| seen.answers.len());
        self.tell(&json!({ "do": "ask", "client": client, "what": what, "channel": channel }));
        self.record.until("an answer", |seen| seen.answers.get(before).cloned()).await
    }

    fn tell(&self, command: &Value) {
        writeln!(self.input.lock(), "{command}").expect("clients that listen");
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Each user has three clients, one at each node.
pub(crate) fn user(client: u32) -> String {
    format!("user-{}", client / 3)
}

fn token(user: &str) -> String {
    let mut claims = Map::new();
    claims.insert("sub".into(), user.into());
    Signer::hmac(Algorithm::of("HS256").unwrap(), &Secret::new(SECRET)).unwrap().sign(&claims)
}
