//! The real binary as a child process.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a child may take for anything.
const PATIENCE: Duration = Duration::from_secs(30);

/// A server that was started and serves; killed when dropped.
pub(crate) struct Server {
    child: Child,
    output: Arc<Output>,
    _directory: tempfile::TempDir,
    pub(crate) external: SocketAddr,
    pub(crate) internal: Option<SocketAddr>,
}

/// What a child has written to standard output and standard error, line by line.
#[derive(Default)]
struct Output {
    text: Mutex<String>,
    more: Condvar,
}

/// A configuration with free ports on loopback.
pub(crate) fn loopback(mut more: Value) -> Value {
    more["http_server"]["address"] = "127.0.0.1".into();
    if more["http_server"]["port"].is_null() {
        more["http_server"]["port"] = 0.into();
    }
    more
}

/// `tidewire serve` with a configuration, not started yet.
pub(crate) fn command(directory: &Path, config: &Value) -> Command {
    let file = directory.join("config.json");
    std::fs::write(&file, config.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewire"));
    command.arg("serve").arg("--config").arg(file).current_dir(directory).env_clear();
    command
}

// === impl Server ===

impl Server {
    /// Starts with a configuration and waits until it serves.
    pub(crate) fn start(config: Value) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let command = command(directory.path(), &loopback(config));
        Self::spawn(command, directory)
    }

    /// Starts a command that serves.
    pub(crate) fn spawn(mut command: Command, directory: tempfile::TempDir) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let output = Arc::new(Output::default());
        Output::collect(&output, child.stdout.take().unwrap());
        Output::collect(&output, child.stderr.take().unwrap());
        let line = output.wait_for(r#""message":"serving""#);
        let line: Value = serde_json::from_str(&line).unwrap();
        let address = |name: &str| Some(line[name].as_str()?.rsplit("//").next().unwrap().parse().unwrap());
        let (external, internal) = (address("external").expect("an external listener"), address("internal"));
        Self { child, output, _directory: directory, external, internal }
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.unwrap().success());
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < until, "the server does not end; it wrote {}", self.written());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Everything it has written so far.
    pub(crate) fn written(&self) -> String {
        self.output.text.lock().unwrap().clone()
    }

    /// Waits for a line that holds `part`.
    pub(crate) fn wait_for(&self, part: &str) -> String {
        self.output.wait_for(part)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Output {
    fn collect(output: &Arc<Self>, from: impl std::io::Read + Send + 'static) {
        let output = Arc::clone(output);
        std::thread::spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                let mut text = output.text.lock().unwrap();
                text.push_str(&line);
                text.push('\n');
                output.more.notify_all();
            }
        });
    }

    fn wait_for(&self, part: &str) -> String {
        let text = self.text.lock().unwrap();
        let missing = |text: &mut String| !text.lines().any(|line| line.contains(part));
        let (text, waited) = self.more.wait_timeout_while(text, PATIENCE, missing).unwrap();
        assert!(!waited.timed_out(), "no line with {part:?} in:\n{text}");
        text.lines().find(|line| line.contains(part)).unwrap().to_owned()
    }
}
