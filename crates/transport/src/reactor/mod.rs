//! Event loops: a few threads that look after every client socket.
//!
//! [`Reactors`] is the handle. `driven`: the seam to what sockets carry. `event_loop`: one thread's loop, with `read`,
//! `write` and `end`. `entry`: what is kept of a socket. `socket`: TCP and TLS. `mailbox`: how other threads reach a
//! loop.
//!
//! A loop never blocks but in its poll, and never holds a lock while it works. An idle connection is one entry of
//! 64 bytes or less here, plus its state machine in the worker.

mod address;
mod driven;
mod end;
mod entry;
mod event_loop;
mod mailbox;
mod read;
mod socket;
mod write;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use mio::Poll;
use parking_lot::Mutex;
use tidewire_core::Opening;
use tidewire_engine::Clock;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

pub use driven::Driven;
pub use socket::{Socket, Upgraded};

pub(crate) use self::address::AddressLimit;
use self::address::AddressPlace;
use self::event_loop::{EventLoop, WAKE};
use self::mailbox::{Command, Counts, Incoming, Mailbox, Place};
use crate::ws::Limits;

/// How reactors behave.
#[derive(Debug, Clone)]
pub struct ReactorOptions {
    /// Threads; at least 1.
    pub threads: usize,
    /// What clients may send (`websocket.message_size_limit` and our own limits).
    pub limits: Limits,
    /// How long a write may make no progress before the client is cut with 3009 (`websocket.write_timeout`).
    pub write_timeout: Duration,
    /// How long the peer's close frame is awaited after ours.
    pub close_timeout: Duration,
}

impl Default for ReactorOptions {
    fn default() -> Self {
        Self {
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            limits: Limits::server(),
            write_timeout: Duration::from_secs(1),
            close_timeout: Duration::from_secs(5),
        }
    }
}

/// Running reactors. Clones share them, and so do endpoints; they run until [`Reactors::shutdown`] or until the last
/// clone is dropped, which drops their connections.
#[derive(Clone)]
pub struct Reactors {
    shared: Arc<Shared>,
}

struct Shared {
    mailboxes: Vec<Arc<Mailbox>>,
    all: Counts,
    /// Told when a reactor's thread has ended.
    ends: Mutex<Vec<oneshot::Receiver<()>>>,
}

impl Reactors {
    /// Starts the threads. `make` is called on each of them, with its number, and makes what the reactor drives. Tasks
    /// that must wait run on `runtime`. `clock` is the node's.
    ///
    /// # Errors
    /// When the system refuses a poll or a thread.
    pub fn start<D: Driven>(
        options: ReactorOptions,
        runtime: &Handle,
        clock: Arc<dyn Clock>,
        make: impl Fn(usize) -> D + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let options = Arc::new(options);
        let make = Arc::new(make);
        let all = Counts::default();
        let mut mailboxes = Vec::new();
        let mut ends = Vec::new();
        for number in 0..options.threads.max(1) {
            let poll = Poll::new()?;
            let counts = Counts { here: Arc::default(), ..all.clone() };
            let mailbox = Arc::new(Mailbox::new(mio::Waker::new(poll.registry(), WAKE)?, counts));
            let (ended, end) = oneshot::channel();
            mailboxes.push(Arc::clone(&mailbox));
            ends.push(end);
            let (options, make, clock, runtime) =
                (Arc::clone(&options), Arc::clone(&make), Arc::clone(&clock), runtime.clone());
            std::thread::Builder::new().name(format!("reactor-{number}")).spawn(move || {
                let closing = Closing(Arc::clone(&mailbox));
                let event_loop = EventLoop::new(poll, make(number), mailbox, clock, runtime, options);
                if let Err(error) = event_loop.run() {
                    tracing::error!(%error, number, "reactor stopped");
                }
                drop(closing);
                // Nobody may be waiting.
                let _ = ended.send(());
            })?;
        }
        Ok(Self { shared: Arc::new(Shared { mailboxes, all, ends: Mutex::new(ends) }) })
    }

    /// Sockets looked after, with those on their way.
    pub fn connections(&self) -> usize {
        self.shared.all.total.load(Ordering::Relaxed)
    }

    /// Writes to sockets so far. Far fewer than frames when frames gather.
    pub fn writes(&self) -> u64 {
        self.shared.all.writes.load(Ordering::Relaxed)
    }

    /// Takes a seat for a socket on the reactor with the fewest, unless `limit` seats are taken or no reactor is left.
    pub fn seat(&self, limit: Option<usize>) -> Option<Seat> {
        let lightest = |mailbox: &&Arc<Mailbox>| mailbox.counts.here.load(Ordering::Relaxed);
        let mailbox =
            self.shared.mailboxes.iter().filter(|mailbox| !mailbox.is_closed()).min_by_key(lightest)?;
        let place = Place::take(&mailbox.counts, limit.unwrap_or(usize::MAX))?;
        Some(Seat { mailbox: Arc::clone(mailbox), place, address: None })
    }

    /// Waits until no connection is left, at most for `patience`, then ends the threads; what is left by then is dropped.
    /// Closing the connections is the node's part. A second call waits for nothing.
    pub async fn shutdown(&self, patience: Duration) {
        let deadline = tokio::time::Instant::now() + patience;
        while self.connections() > 0 && tokio::time::Instant::now() < deadline {
            // Counting is cheap and this is once in a process's life: looking beats a notification on every close.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for mailbox in &self.shared.mailboxes {
            mailbox.send(Command::Stop);
        }
        let ends = std::mem::take(&mut *self.shared.ends.lock());
        for end in ends {
            // An error means that the thread is gone as well.
            let _ = end.await;
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        for mailbox in &self.mailboxes {
            mailbox.send(Command::Stop);
        }
    }
}

/// Closes the mailbox of a reactor however its thread ends: no socket must be left with one that serves nobody.
struct Closing(Arc<Mailbox>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Room for one socket, counted against the connection limit until the socket is gone.
pub struct Seat {
    mailbox: Arc<Mailbox>,
    place: Place,
    /// Counted against the limit of its address too.
    pub(crate) address: Option<AddressPlace>,
}

impl Seat {
    /// Hands a socket over for good.
    pub fn adopt(self, upgraded: Upgraded, opening: Opening) {
        let incoming = Incoming { upgraded, opening, place: self.place, address: self.address };
        self.mailbox.send(Command::Adopt(Box::new(incoming)));
    }
}

/// Milliseconds that wrap after 49 days.
#[expect(clippy::cast_possible_truncation, reason = "wrapping is meant")]
fn millis(time: Duration) -> u32 {
    time.as_millis() as u32
}
