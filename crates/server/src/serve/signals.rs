//! When to stop, and when to read certificates again.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Mode;

/// The signals that end the server: the first gracefully, the second at once.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on these signals do not end the process by themselves.
    pub(super) fn listen() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The name of the next one. Cancel safe.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// SIGHUP, which then does not end the process. A server at somebody's terminal ends with that terminal.
pub(super) fn hangup(mode: Mode) -> io::Result<Option<Signal>> {
    match mode {
        Mode::Production => Ok(Some(signal(SignalKind::hangup())?)),
        Mode::Development => Ok(None),
    }
}
