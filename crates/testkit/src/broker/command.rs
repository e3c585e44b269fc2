//! A command on its way to a server, and its answer on the way back.

use std::sync::Arc;
use std::time::Duration;

use futures_channel::oneshot;
use futures_util::future::{Either, select};
use tidewire_engine::{EngineError, Result};

use super::announce::Out;
use super::store::{Moment, Store};
use super::{Broker, State};
use crate::fault::Fault;

/// More commands in one second than any lawful world has.
const COMMANDS_PER_SECOND_MAX: u32 = 1_000;

/// What a server does in one step, and what it announces.
pub(super) type Step<T> = Box<dyn FnOnce(&mut Store, &Moment) -> (T, Vec<Out>) + Send>;

/// Whether a command may be done twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Again {
    /// Doing it twice is doing it once: it is sent again over a new connection.
    Harmless,
    Never,
}

/// What is drawn for one command.
#[derive(Debug, Default)]
struct Fate {
    before: Duration,
    after: Duration,
    refused: bool,
    /// Done, and then said to have failed.
    uncertain: bool,
    /// Done after its sender has given up.
    late: bool,
}

struct Command<T> {
    node: usize,
    /// The server it was sent to.
    server: u64,
    again: Again,
    deadline: Duration,
    after: Duration,
    uncertain: bool,
    step: Step<T>,
    answer: oneshot::Sender<Result<T>>,
}

impl Broker {
    /// Has a server do something for a node. Ends within the nodes' time limit, whatever becomes of it.
    pub(super) async fn call<T: Send + 'static>(
        self: &Arc<Self>,
        node: usize,
        what: &str,
        again: Again,
        step: Step<T>,
    ) -> Result<T> {
        let fate = self.fate(node, what);
        let now = self.env.now();
        let deadline = now + self.manners.several.io_timeout;
        if fate.refused {
            self.env.sleep(fate.before).await;
            return Err(EngineError::Unavailable("simulated".into()));
        }
        let (answer, outcome) = oneshot::channel();
        let server = self.state().links[node].server;
        let Fate { after, uncertain, .. } = fate;
        let command = Command { node, server, again, deadline, after, uncertain, step, answer };
        match if fate.late { deadline + fate.before } else { now + fate.before } {
            at if at > now => self.at(at, move |me| me.arrived(command)),
            _ => self.arrived(command),
        }
        match select(outcome, self.env.sleep(deadline - now)).await {
            Either::Left((Ok(result), _)) => result,
            // Nobody knows what became of it.
            Either::Left((Err(_), rest)) => {
                rest.await;
                Err(EngineError::Unavailable("simulated: no answer".into()))
            }
            Either::Right(_) => Err(EngineError::Unavailable("simulated: no answer in time".into())),
        }
    }

    fn fate(&self, node: usize, what: &str) -> Fate {
        let state = &mut *self.state();
        self.count(state);
        let latency = self.manners.several.latency_ms;
        let mut fate = Fate {
            before: state.draw.millis(0, latency),
            after: state.draw.millis(0, latency),
            ..Default::default()
        };
        if self.env.is_troubled() {
            fate.refused = self.strikes(state, Fault::EngineRefusal);
            fate.uncertain = self.strikes(state, Fault::EngineUncertain);
            fate.late = !fate.refused && self.strikes(state, Fault::CommandLate);
            if fate.late || self.strikes(state, Fault::EngineDelay) {
                let longest = *state.draw.pick(&[3, 50, 700, 9_000]);
                fate.before += state.draw.millis(0, longest);
                fate.after += state.draw.millis(0, longest);
            }
        }
        self.env.note(format_args!("node {node}: {what} {fate:?}"));
        fate
    }

    /// Nodes must not keep a server busy with nothing.
    fn count(&self, state: &mut State) {
        let second = self.env.now().as_secs();
        let (counted, count) = state.busy;
        state.busy = if counted == second { (second, count + 1) } else { (second, 1) };
        if state.busy.1 == COMMANDS_PER_SECOND_MAX && self.manners.several.latency_ms > 0 {
            self.env.record().violation(format!("{COMMANDS_PER_SECOND_MAX} commands in second {second}"));
        }
    }

    /// A command is where its server reads it, if that is still there.
    fn arrived<T: Send + 'static>(self: &Arc<Self>, command: Command<T>) {
        let now = self.env.now();
        let told = {
            let state = &mut *self.state();
            if let Some(until) = state.blocked_until(command.node, now) {
                // Beyond its sender's patience it may still wait in a socket.
                if until < command.deadline || state.draw.chance(0.5) {
                    self.at(until, move |me| me.arrived(command));
                }
                return;
            }
            let Some((server, answered)) = state.server_for(&command) else { return };
            let Some((result, outs)) = state.take_step(&self.env, server, command.step) else { return };
            let mut told = Vec::new();
            for out in &outs {
                for node in self.announce(state, server, out) {
                    told.push((node, out.channel.clone()));
                }
            }
            let result = match command.uncertain {
                true => Err(EngineError::Unavailable("simulated, but done".into())),
                false => Ok(result),
            };
            let (node, answer) = (command.node, command.answer);
            if !answered {
                drop(answer);
            } else if command.after.is_zero() {
                let _ = answer.send(result);
            } else {
                self.at(now + command.after, move |me| me.answered(node, answer, result));
            }
            told
        };
        for (node, channel) in told {
            self.tell(node, &channel);
        }
    }

    /// The answer is where its node reads it, unless nothing gets through.
    fn answered<T>(&self, node: usize, answer: oneshot::Sender<Result<T>>, result: Result<T>) {
        let blocked = {
            let state = self.state();
            state.links[node].cut_until > self.env.now()
        };
        if !blocked {
            // Whoever asked may have given up.
            let _ = answer.send(result);
        }
    }
}

// === impl State ===

impl State {
    /// Which server does a command, and whether its node hears the answer. A command goes to another server than it was
    /// sent to only if that cannot harm.
    fn server_for<T>(&self, command: &Command<T>) -> Option<(u64, bool)> {
        let current = self.links[command.node].server;
        let there = |server: u64| self.servers.contains_key(&server);
        match command.again {
            _ if command.server == current => there(current).then_some((current, true)),
            Again::Harmless if self.links[command.node].alive => there(current).then_some((current, true)),
            _ => there(command.server).then_some((command.server, false)),
        }
    }

    fn take_step<T>(&mut self, env: &crate::env::Env, server: u64, step: Step<T>) -> Option<(T, Vec<Out>)> {
        let at = self.moment(env, server);
        let server = self.servers.get_mut(&server)?;
        Some(step(&mut server.store, &at))
    }
}
