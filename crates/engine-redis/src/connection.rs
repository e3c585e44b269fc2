//! One socket that many callers share.
//!
//! Callers put their commands behind each other into one buffer; the driver writes whatever has gathered in one go, so
//! the busier the node, the longer its pipelines. Replies come in the order of commands. When a connection ends, each
//! caller learns whether its command can have reached the server.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::io::AsyncReadExt;
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::time::{Instant, MissedTickBehavior};

use crate::dial::{Socket, make_room, send_some};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::resp::{Command, Value};

/// Bytes of commands that may be on their way to a server and back; who comes after waits.
const ROOM: usize = 32 << 20;
/// What a command counts besides its bytes.
const COMMAND_COST: usize = 256;

/// A handle on a connection. Its driver ends by [`Connection::close`] or with the socket.
#[derive(Clone)]
pub(crate) struct Connection {
    shared: Arc<Shared>,
}

struct Shared {
    server: Arc<str>,
    state: Mutex<State>,
    wake: Notify,
    room: Semaphore,
    closed: watch::Sender<Option<Error>>,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct State {
    /// Commands the driver has not taken yet.
    out: BytesMut,
    waiting: VecDeque<Waiting>,
    /// How many of `waiting`, from the front, the driver has taken: they may have reached the server.
    taken: usize,
    /// Since when there has been something to wait for, and nothing came.
    silent_since: Option<Instant>,
    closed: bool,
}

struct Waiting {
    cost: usize,
    left: usize,
    replies: Vec<Value>,
    to: Option<oneshot::Sender<Outcome>>,
}

/// What became of a command.
pub(crate) type Outcome = Result<Vec<Value>, Failure>;

/// Where the outcome comes.
pub(crate) type Answer = oneshot::Receiver<Outcome>;

/// How a call failed, by what is known about its command.
#[derive(Debug, Clone)]
pub(crate) enum Failure {
    /// It never left.
    NotSent(Error),
    /// It may have been executed.
    Unknown(Error),
}

// === impl Connection ===

impl Connection {
    /// Starts the driver. A server that leaves commands unanswered for `silence_max` counts as dead.
    pub(crate) fn start(socket: Socket, silence_max: Duration, metrics: Arc<Metrics>) -> Self {
        Metrics::count(&metrics.connects);
        let shared = Arc::new(Shared {
            server: Arc::clone(&socket.server),
            state: Mutex::default(),
            wake: Notify::new(),
            room: Semaphore::new(ROOM),
            closed: watch::Sender::new(None),
            metrics,
        });
        let driven = Arc::clone(&shared);
        tokio::spawn(async move {
            let error = drive(&driven, socket, silence_max).await;
            driven.end(error);
        });
        Self { shared }
    }

    /// Whether both are handles on one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    pub(crate) fn server(&self) -> &Arc<str> {
        &self.shared.server
    }

    /// Sends a command, if there is room for it at once and the connection has not ended.
    pub(crate) fn begin(&self, command: &Command) -> Option<Answer> {
        let (cost, permits) = cost(command);
        self.shared.room.try_acquire_many(permits).ok()?.forget();
        let (to, answer) = oneshot::channel();
        self.shared.enqueue(command, cost, Some(to)).then_some(answer)
    }

    /// Sends a command; its replies. Dropping the future does not take the command back.
    pub(crate) async fn call(&self, command: &Command) -> Outcome {
        let (cost, permits) = cost(command);
        match self.shared.room.acquire_many(permits).await {
            Ok(permit) => permit.forget(),
            Err(_) => return Err(Failure::NotSent(self.shared.reason())),
        }
        let (to, answer) = oneshot::channel();
        if !self.shared.enqueue(command, cost, Some(to)) {
            return Err(Failure::NotSent(self.shared.reason()));
        }
        answer.await.unwrap_or_else(|_| Err(self.unanswered()))
    }

    /// How a call failed whose answer was dropped.
    pub(crate) fn unanswered(&self) -> Failure {
        Failure::Unknown(self.shared.reason())
    }

    /// Ends the connection.
    pub(crate) fn close(&self, cause: &str) {
        self.shared.end(Error::Broken { server: Arc::clone(&self.shared.server), cause: cause.into() });
    }

    /// Waits until the connection has ended; why.
    pub(crate) async fn closed(&self) -> Error {
        let mut closed = self.shared.closed.subscribe();
        match closed.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_else(|| self.shared.reason()),
            Err(_) => self.shared.reason(),
        }
    }
}

// === impl Shared ===

impl Shared {
    fn enqueue(&self, command: &Command, cost: usize, to: Option<oneshot::Sender<Outcome>>) -> bool {
        let mut state = self.state.lock();
        if state.closed {
            return false;
        }
        state.out.extend_from_slice(command.bytes());
        state.waiting.push_back(Waiting { cost, left: command.replies(), replies: Vec::new(), to });
        state.silent_since.get_or_insert_with(Instant::now);
        drop(state);
        self.metrics.commands.fetch_add(1, Ordering::Relaxed);
        self.metrics.commands_in_flight.fetch_add(1, Ordering::Relaxed);
        self.wake.notify_one();
        true
    }

    /// Hands replies to those who wait. Returns `false` if one came that nobody waits for.
    fn answer(&self, values: &mut Vec<Value>) -> bool {
        let (mut answered, mut cost_of_all, mut awaited) = (0, 0, true);
        let mut state = self.state.lock();
        for value in values.drain(..) {
            // Of no use to anybody here, and no reply.
            if matches!(value, Value::Push(_)) {
                continue;
            }
            let Some(first) = state.waiting.front_mut() else {
                awaited = false;
                break;
            };
            first.replies.push(value);
            first.left -= 1;
            if first.left > 0 {
                continue;
            }
            if let Some(Waiting { cost, replies, to, .. }) = state.waiting.pop_front() {
                answered += 1;
                cost_of_all += cost;
                if let Some(to) = to {
                    let _ = to.send(Ok(replies));
                }
            }
        }
        state.taken = state.taken.saturating_sub(answered);
        state.silent_since = (!state.waiting.is_empty()).then(Instant::now);
        drop(state);
        self.metrics.commands_in_flight.fetch_sub(answered as u64, Ordering::Relaxed);
        self.room.add_permits(cost_of_all);
        awaited
    }

    /// Whether more than one command waits for an answer.
    fn is_busy(&self) -> bool {
        self.state.lock().waiting.len() > 1
    }

    fn end(&self, error: Error) {
        let (waiting, taken) = {
            let mut state = self.state.lock();
            if state.closed {
                return;
            }
            state.closed = true;
            (std::mem::take(&mut state.waiting), state.taken)
        };
        Metrics::count(&self.metrics.disconnects);
        self.room.close();
        for (at, one) in waiting.into_iter().enumerate() {
            self.metrics.commands_in_flight.fetch_sub(1, Ordering::Relaxed);
            let failure =
                if at < taken { Failure::Unknown(error.clone()) } else { Failure::NotSent(error.clone()) };
            if let Some(to) = one.to {
                let _ = to.send(Err(failure));
            }
        }
        self.closed.send_replace(Some(error));
        self.wake.notify_one();
    }

    fn reason(&self) -> Error {
        let known = self.closed.borrow().clone();
        known.unwrap_or_else(|| self.broken("it was closed"))
    }

    fn broken(&self, cause: impl std::fmt::Display) -> Error {
        Error::Broken { server: Arc::clone(&self.server), cause: cause.to_string().into() }
    }
}

/// What a command takes of the room, also as the semaphore counts it.
fn cost(command: &Command) -> (usize, u32) {
    let cost = (command.bytes().len() + COMMAND_COST).min(ROOM);
    (cost, u32::try_from(cost).unwrap_or(u32::MAX))
}

/// Moves bytes until the connection ends; why it did.
async fn drive(shared: &Shared, mut socket: Socket, silence_max: Duration) -> Error {
    let mut sending = BytesMut::new();
    let mut unflushed = false;
    let mut values = Vec::new();
    let mut tick = tokio::time::interval((silence_max / 8).max(Duration::from_millis(20)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        if sending.is_empty() {
            let mut state = shared.state.lock();
            if state.closed {
                return shared.reason();
            }
            std::mem::swap(&mut sending, &mut state.out);
            state.taken = state.waiting.len();
        }
        make_room(&mut socket.frames.buffer);
        tokio::select! {
            read = socket.reader.read_buf(&mut socket.frames.buffer) => {
                match read {
                    Ok(0) => return shared.broken("closed by the server"),
                    Ok(_) => {}
                    Err(cause) => return shared.broken(cause),
                }
                loop {
                    match socket.frames.next_value() {
                        Ok(Some(value)) => values.push(value),
                        Ok(None) => break,
                        Err(cause) => return shared.broken(cause),
                    }
                }
                if !shared.answer(&mut values) {
                    return shared.broken("an answer to nothing");
                }
            }
            written = send_some(&mut socket.writer, &mut sending, &mut unflushed), if unflushed || !sending.is_empty() => {
                if let Err(cause) = written {
                    return shared.broken(cause);
                }
            }
            () = shared.wake.notified(), if sending.is_empty() => {
                // Answers wake many callers at once, and the first of them to send would wake this task before the next
                // one had its turn: one command in each write. So they all come first. Who is alone is not kept waiting.
                if shared.is_busy() {
                    tokio::task::yield_now().await;
                }
            }
            _ = tick.tick() => {
                let (silent_since, closed) = {
                    let state = shared.state.lock();
                    (state.silent_since, state.closed)
                };
                match silent_since {
                    _ if closed => return shared.reason(),
                    Some(since) if since.elapsed() >= silence_max => {
                        return shared.broken(format_args!("silent for {silence_max:?}"));
                    }
                    Some(_) => {}
                    // Nothing to wait for: a question tells whether the server is still there.
                    None => drop(shared.enqueue(&Command::words(&["PING"]), 0, None)),
                }
            }
        }
    }
}
