//! Standard output that may be closed, and failures in words.

use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::process::ExitCode;

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};

use super::EXIT_INVALID;
use crate::config::report::Report;

/// Why a command was not done.
pub(super) enum Failure {
    /// What happened and what to do next.
    Told(String),
    /// The configuration does not hold.
    Configuration(Report),
    /// Whoever read standard output has seen enough (`| head`), which is no failure at all.
    OutputClosed,
}

impl Failure {
    pub(super) fn told(text: impl Into<String>) -> Self {
        Self::Told(text.into())
    }

    /// Says it on standard error and returns the exit code.
    pub(super) fn report(self) -> ExitCode {
        match self {
            Self::Told(text) => {
                note(&text);
                ExitCode::FAILURE
            }
            Self::Configuration(report) => {
                complain(&format!("{report}\n"));
                ExitCode::from(EXIT_INVALID)
            }
            Self::OutputClosed => ExitCode::SUCCESS,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::OutputClosed
        } else {
            Self::Told(error.to_string())
        }
    }
}

/// Writes a line to standard output, at once.
pub(super) fn line(text: &str) -> Result<(), Failure> {
    let mut output = io::stdout().lock();
    output.write_all(text.as_bytes())?;
    output.write_all(b"\n")?;
    Ok(output.flush()?)
}

/// Waits until nobody reads standard output any more. Never, where that cannot be told: a file has no reader.
pub(super) async fn closed() {
    let (tell, told) = tokio::sync::oneshot::channel();
    // A thread of its own waits in the kernel; it ends with the process.
    std::thread::spawn(move || {
        if wait_until_closed().is_ok() {
            let _ = tell.send(());
        }
    });
    if told.await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn wait_until_closed() -> io::Result<()> {
    let mut poll = Poll::new()?;
    poll.registry().register(&mut SourceFd(&io::stdout().as_raw_fd()), Token(0), Interest::WRITABLE)?;
    let mut events = Events::with_capacity(1);
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            polled => polled?,
        }
        if events.iter().any(mio::event::Event::is_write_closed) {
            return Ok(());
        }
    }
}

/// Says something on standard error, as who says it.
pub(super) fn note(text: &str) {
    complain(&format!("tidewire: {text}\n"));
}

fn complain(text: &str) {
    // Nobody listens: there is nobody to tell.
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
