//! A primary, found again whenever it is lost.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::connection::{Connection, Failure, Outcome};
use crate::dial::Dialer;
use crate::error::{Error, Result};
use crate::locate::Locator;
use crate::metrics::Metrics;
use crate::resp::{Command, Value};
use crate::script;

/// A connection that lasted so long was a good one: the next attempt comes at once.
pub(crate) const STEADY: Duration = Duration::from_millis(200);
/// How long to wait before a command that a server is not ready for is sent again.
const AGAIN_AFTER: Duration = Duration::from_millis(25);

/// Whether a command may be sent again when nobody knows what became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Again {
    /// Doing it twice is doing it once.
    Harmless,
    /// It happens at most once.
    Never,
}

/// Keeps a connection to a primary. Ends with its owner.
pub(crate) struct Link {
    state: watch::Receiver<State>,
    metrics: Arc<Metrics>,
    keeper: JoinHandle<()>,
}

#[derive(Clone)]
enum State {
    Down(Option<Error>),
    Up(Connection),
}

/// What a link needs to come up.
#[derive(Clone)]
pub(crate) struct Way {
    pub(crate) locator: Arc<Locator>,
    pub(crate) dialer: Arc<Dialer>,
    /// How long a server may be silent.
    pub(crate) silence_max: Duration,
    pub(crate) metrics: Arc<Metrics>,
}

// === impl Link ===

impl Link {
    /// Begins to connect.
    pub(crate) fn start(way: Way) -> Self {
        let (up, state) = watch::channel(State::Down(None));
        let metrics = Arc::clone(&way.metrics);
        Self { state, metrics, keeper: tokio::spawn(keep(way, up)) }
    }

    /// Sends a command until there is an answer; ends by the deadline in any case.
    ///
    /// # Errors
    /// [`Error::Timeout`], [`Error::Server`], or why there is no connection.
    pub(crate) async fn call(&self, command: &Command, again: Again, deadline: Instant) -> Result<Value> {
        let begun = Instant::now();
        let mut first = None;
        if let Ok(connection) = self.connection()
            && let Some(answer) = connection.begin(command)
        {
            // The usual way needs no more than this; everything else lies elsewhere, since callers move this future.
            let outcome = match tokio::time::timeout_at(deadline, answer).await {
                Ok(Ok(Ok(values))) if refusal(&values).is_none() => return one(values),
                Ok(Ok(outcome)) => Some(outcome),
                Ok(Err(_)) => Some(Err(connection.unanswered())),
                Err(_) => None,
            };
            first = Some((connection, outcome));
        }
        one(Box::pin(self.go_on(first, begun, command, again, deadline)).await?)
    }

    /// As [`Link::call`], for several commands in one. The first error decides.
    pub(crate) async fn call_all(
        &self,
        command: &Command,
        again: Again,
        deadline: Instant,
    ) -> Result<Vec<Value>> {
        self.go_on(None, Instant::now(), command, again, deadline).await
    }

    /// Goes on after a first attempt, if there was one, until there is an answer. `None` is none in time.
    async fn go_on(
        &self,
        mut first: Option<(Connection, Option<Outcome>)>,
        begun: Instant,
        command: &Command,
        again: Again,
        deadline: Instant,
    ) -> Result<Vec<Value>> {
        let late = |error: Option<Error>| {
            Metrics::count(&self.metrics.timeouts);
            error.unwrap_or_else(|| Error::Timeout(begun.elapsed()))
        };
        // Why the last attempt failed says more than that time ran out.
        let mut reason = None;
        loop {
            let (connection, outcome) = match first.take() {
                Some(attempt) => attempt,
                None => {
                    let connection = match tokio::time::timeout_at(deadline, self.up()).await {
                        Ok(connection) => connection?,
                        Err(_) => return Err(late(reason.or_else(|| self.down_because()))),
                    };
                    let outcome = tokio::time::timeout_at(deadline, connection.call(command)).await.ok();
                    (connection, outcome)
                }
            };
            let Some(outcome) = outcome else {
                return Err(late(reason));
            };
            match outcome {
                Ok(values) => match refusal(&values) {
                    None => return Ok(values),
                    Some(error) => match self.handle(&connection, &error, deadline).await {
                        true => reason = Some(error),
                        false => return Err(error),
                    },
                },
                Err(Failure::NotSent(error)) => reason = Some(error),
                Err(Failure::Unknown(error)) if again == Again::Harmless => reason = Some(error),
                Err(Failure::Unknown(error)) => return Err(error),
            }
        }
    }

    /// The connection of right now.
    pub(crate) fn connection(&self) -> Result<Connection> {
        match &*self.state.borrow() {
            State::Up(connection) => Ok(connection.clone()),
            State::Down(error) => Err(error.clone().unwrap_or_else(not_yet)),
        }
    }

    /// Ends the connection for good; whoever waits is told.
    pub(crate) fn stop(&self) {
        self.keeper.abort();
        if let State::Up(connection) = &*self.state.borrow() {
            connection.close("it is no longer used");
        }
    }

    /// Waits for a connection; fails at once if it is no use waiting.
    async fn up(&self) -> Result<Connection> {
        let mut state = self.state.clone();
        let found = state
            .wait_for(|state| match state {
                State::Up(_) => true,
                State::Down(error) => error.as_ref().is_some_and(Error::is_permanent),
            })
            .await;
        match found.as_deref() {
            Ok(State::Up(connection)) => Ok(connection.clone()),
            Ok(State::Down(error)) => Err(error.clone().unwrap_or_else(not_yet)),
            Err(_) => Err(not_yet()),
        }
    }

    fn down_because(&self) -> Option<Error> {
        match &*self.state.borrow() {
            State::Up(_) => None,
            State::Down(error) => error.clone(),
        }
    }

    /// Whether it is worth trying again after this error. None of them has executed anything.
    async fn handle(&self, connection: &Connection, error: &Error, deadline: Instant) -> bool {
        match error.code() {
            "NOSCRIPT" => {
                Metrics::count(&self.metrics.scripts_loaded_again);
                let all = Command::all(&script::loading());
                let loaded = tokio::time::timeout_at(deadline, connection.call(&all)).await;
                // A server that lets nobody load them says so again and again.
                matches!(loaded, Ok(Ok(answers)) if refusal(&answers).is_none())
            }
            // It is not the primary any more.
            "READONLY" => {
                connection.close("the server has become a replica");
                true
            }
            "LOADING" | "MASTERDOWN" | "BUSY" | "TRYAGAIN" | "CLUSTERDOWN" => {
                let then = Instant::now() + AGAIN_AFTER;
                tokio::time::sleep_until(then.min(deadline)).await;
                then < deadline
            }
            "MOVED" | "ASK" => false,
            _ => {
                Metrics::count(&self.metrics.errors);
                false
            }
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop();
    }
}

fn one(values: Vec<Value>) -> Result<Value> {
    values.into_iter().next().ok_or_else(|| Error::protocol("no answer"))
}

fn not_yet() -> Error {
    Error::Connect { server: "redis".into(), cause: "not connected yet".into() }
}

fn refusal(values: &[Value]) -> Option<Error> {
    values.iter().find_map(|value| match value {
        Value::Error(text) => Some(Error::Server(String::from_utf8_lossy(text).into())),
        _ => None,
    })
}

/// Connects, for ever.
async fn keep(way: Way, up: watch::Sender<State>) {
    let mut backoff = Backoff::default();
    loop {
        match connect(&way).await {
            Ok((address, connection)) => {
                tracing::info!(server = %address, "connected to Redis");
                up.send_replace(State::Up(connection.clone()));
                let since = Instant::now();
                let error = tokio::select! {
                    error = connection.closed() => error,
                    () = way.locator.moved(&address) => {
                        connection.close("the primary has moved");
                        connection.closed().await
                    }
                };
                tracing::warn!(%error, "lost Redis");
                up.send_replace(State::Down(Some(error)));
                if since.elapsed() > STEADY {
                    backoff.reset();
                }
            }
            Err(error) => {
                Metrics::count(&way.metrics.connect_failures);
                tracing::warn!(name = way.locator.name(), %error, "cannot connect to Redis");
                up.send_replace(State::Down(Some(error)));
            }
        }
        tokio::time::sleep(backoff.next()).await;
    }
}

async fn connect(way: &Way) -> Result<(crate::Address, Connection)> {
    let address = way.locator.find().await?;
    let socket = way.dialer.dial(&address, &script::loading()).await?;
    Ok((address, Connection::start(socket, way.silence_max, Arc::clone(&way.metrics))))
}
