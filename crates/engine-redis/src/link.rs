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
    state: Arc<watch::Sender<State>>,
    metrics: Arc<Metrics>,
    keeper: JoinHandle<()>,
}

#[derive(Clone)]
enum State {
    Down(Option<Error>),
    Up(Connection),
    /// For good.
    Stopped,
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
        let state = Arc::new(watch::Sender::new(State::Down(None)));
        let metrics = Arc::clone(&way.metrics);
        let keeper = tokio::spawn(keep(way, Arc::clone(&state)));
        Self { state, metrics, keeper }
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
                        true => {
                            reason = Some(error);
                            continue;
                        }
                        false => return Err(error),
                    },
                },
                Err(Failure::NotSent(error)) => reason = Some(error),
                Err(Failure::Unknown(error)) if again == Again::Harmless => reason = Some(error),
                Err(Failure::Unknown(error)) => return Err(error),
            }
            // Whoever asks a connection that has ended is answered at once: asking it again would never end.
            if tokio::time::timeout_at(deadline, self.not(&connection)).await.is_err() {
                return Err(late(reason));
            }
        }
    }

    /// The connection of right now.
    pub(crate) fn connection(&self) -> Result<Connection> {
        match &*self.state.borrow() {
            State::Up(connection) => Ok(connection.clone()),
            State::Down(error) => Err(error.clone().unwrap_or_else(not_yet)),
            State::Stopped => Err(stopped()),
        }
    }

    /// Ends the connection for good; whoever waits is told.
    pub(crate) fn stop(&self) {
        self.keeper.abort();
        if let State::Up(connection) = self.state.send_replace(State::Stopped) {
            connection.close("it is no longer used");
        }
    }

    /// Waits until this is not the connection any more.
    async fn not(&self, connection: &Connection) {
        let mut state = self.state.subscribe();
        let other = |state: &State| !matches!(state, State::Up(now) if now.is(connection));
        // It cannot fail: the sender is ours.
        let _ = state.wait_for(other).await;
    }

    /// Waits for a connection; fails at once if it is no use waiting.
    async fn up(&self) -> Result<Connection> {
        let mut state = self.state.subscribe();
        let found = state
            .wait_for(|state| match state {
                State::Up(_) | State::Stopped => true,
                State::Down(error) => error.as_ref().is_some_and(Error::is_permanent),
            })
            .await;
        match found.as_deref() {
            Ok(State::Up(connection)) => Ok(connection.clone()),
            Ok(State::Down(error)) => Err(error.clone().unwrap_or_else(not_yet)),
            Ok(State::Stopped) | Err(_) => Err(stopped()),
        }
    }

    fn down_because(&self) -> Option<Error> {
        match &*self.state.borrow() {
            State::Up(_) => None,
            State::Down(error) => error.clone(),
            State::Stopped => Some(stopped()),
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

fn stopped() -> Error {
    Error::Connect { server: "redis".into(), cause: "it is no longer used".into() }
}

fn refusal(values: &[Value]) -> Option<Error> {
    values.iter().find_map(|value| match value {
        Value::Error(text) => Some(Error::Server(String::from_utf8_lossy(text).into())),
        _ => None,
    })
}

/// Changes the state, unless the link has been stopped.
fn set(state: &watch::Sender<State>, new: State) -> bool {
    state.send_if_modified(|state| match state {
        State::Stopped => false,
        _ => {
            *state = new;
            true
        }
    })
}

/// Connects, until the link is stopped.
async fn keep(way: Way, state: Arc<watch::Sender<State>>) {
    let mut backoff = Backoff::default();
    loop {
        match connect(&way).await {
            Ok((address, connection)) => {
                tracing::info!(server = %address, "connected to Redis");
                if !set(&state, State::Up(connection.clone())) {
                    connection.close("it is no longer used");
                    return;
                }
                let since = Instant::now();
                let error = tokio::select! {
                    error = connection.closed() => error,
                    () = way.locator.moved(&address) => {
                        connection.close("the primary has moved");
                        connection.closed().await
                    }
                };
                tracing::warn!(%error, "lost Redis");
                set(&state, State::Down(Some(error)));
                if since.elapsed() > STEADY {
                    backoff.reset();
                }
            }
            Err(error) => {
                Metrics::count(&way.metrics.connect_failures);
                tracing::warn!(name = way.locator.name(), %error, "cannot connect to Redis");
                set(&state, State::Down(Some(error)));
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

#[cfg(test)]
mod tests {
    use tidewire_redis_testkit::{Flavour, Start};

    use super::*;
    use crate::dial::{DialerOptions, Wanted};
    use crate::options::{Address, Login};

    fn way(port: u16) -> Way {
        let dialer = Dialer::new(DialerOptions {
            wanted: Wanted::Primary,
            login: &Login::default(),
            db: 0,
            client_name: "",
            timeout: Duration::from_secs(5),
            tls: None,
        });
        Way {
            locator: Arc::new(Locator::Fixed(Address::tcp("127.0.0.1", port))),
            dialer: Arc::new(dialer.expect("options that can be used")),
            silence_max: Duration::from_secs(5),
            metrics: Arc::default(),
        }
    }

    /// A node of a cluster that owns nothing any more is stopped while calls are under way. They asked its ended
    /// connection again and again, for ever: it answers at once, so that no deadline was looked at.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_call_on_a_stopped_link_ends_at_once() {
        let server = Start::new(Flavour::Redis).run();
        let link = Arc::new(Link::start(way(server.port())));
        let ping = Command::words(&["PING"]);
        let soon = || Instant::now() + Duration::from_secs(20);
        link.call(&ping, Again::Harmless, soon()).await.expect("an answer");
        server.pause();
        let called = Arc::clone(&link);
        let under_way = tokio::spawn(async move {
            let ping = Command::words(&["PING"]);
            called.call(&ping, Again::Harmless, Instant::now() + Duration::from_secs(20)).await
        });
        while link.metrics.read().commands_in_flight == 0 {
            tokio::task::yield_now().await;
        }
        link.stop();
        let error = under_way.await.expect("no panic").expect_err("it is stopped");
        assert!(matches!(error, Error::Connect { .. }), "{error}");
        let begun = Instant::now();
        let error = link.call(&ping, Again::Harmless, soon()).await.expect_err("it is stopped");
        assert!(
            matches!(error, Error::Connect { .. }) && begun.elapsed() < Duration::from_secs(5),
            "{error}"
        );
        server.resume();
    }
}
