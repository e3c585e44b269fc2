//! One client connection as a state machine without I/O.
//!
//! In go complete messages, answers to tasks, broadcasts, operations of the server API and the passing of time; out come
//! finished frames in the outbox, tasks, and a reason to close. One file per client command, and for what happens
//! without one: `deliver` (live publications), `timers`, `server_side` (operations of the server API), `close`.
//!
//! Commands of a frame are taken in order. While one waits for an answer the rest of the frame waits too (up to
//! `client.concurrency`), and the driver is told to stop reading.

mod close;
mod connect;
mod deliver;
mod history;
mod intake;
mod presence;
mod publish;
mod rate;
mod refresh;
mod rpc;
mod server_side;
mod subscribe;
pub(crate) mod subscriptions;
mod timers;
mod unsubscribe;

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use rand::rngs::StdRng;
use tidewire_protocol::frame::append_reply;
use tidewire_protocol::{ClientInfo, Disconnect, Push, Reply};
use uuid::Uuid;

pub use self::close::{Closing, Linger};
use self::connect::Connecting;
pub(crate) use self::deliver::Delivery;
use self::intake::Intake;
use self::rate::Rate;
use self::subscriptions::{Subscription, Subscriptions};
use crate::frame::Wire;
use crate::hooks::{ClientContext, Refusal, UpgradeRequest};
use crate::local::LocalChannels;
use crate::node::Node;
use crate::outbox::Outbox;
use crate::ready::Line;
use crate::rules::Asker;
use crate::task::{Answer, Task};
use crate::time::{Millis, NEVER, Now};

/// Replies are joined in one frame up to about this many bytes.
const JOINED_REPLIES_BYTES: usize = 64 << 10;

/// What a connection may reach while it takes its turn.
pub(crate) struct Turn<'a> {
    pub(crate) node: &'a Arc<Node>,
    pub(crate) now: Now,
    pub(crate) worker: u16,
    pub(crate) slot: u32,
    pub(crate) channels: &'a mut LocalChannels,
    pub(crate) tasks: &'a mut VecDeque<Task>,
    pub(crate) rng: &'a mut StdRng,
    /// Replies of this turn that are not in the outbox yet.
    pub(crate) replies: &'a mut Vec<u8>,
}

/// How far a connection has come.
enum Stage {
    /// No connect command yet.
    Opened(Arc<UpgradeRequest>),
    /// The connect command is being answered.
    Connecting(Box<Connecting>),
    Connected,
    /// The connect command was answered with an error: nothing more is listened to.
    Unusable,
    Closed,
}

/// What only some connections have.
#[derive(Default)]
struct Identity {
    info: Bytes,
    meta: Bytes,
    /// Unix seconds; 0: never.
    expire_at: i64,
    renewed_by_hook: bool,
    /// By which commands come in that were received elsewhere.
    session: Option<Uuid>,
}

/// When the connection has to do something by itself.
#[derive(Debug, Clone, Copy)]
struct Deadlines {
    ping: Millis,
    pong: Millis,
    tend: Millis,
    /// Until connected: the connect command must have come. Afterwards: the credentials are renewed or the connection ends.
    stage: Millis,
    drain: Millis,
}

pub(crate) struct Connection {
    wire: Wire,
    stage: Stage,
    /// Distinguishes this connection from earlier ones in the same slot.
    generation: u32,
    /// Tasks under way; the slot is kept until they are done.
    tasks: u32,
    /// Commands that wait for an answer.
    waiting: u32,
    client: Uuid,
    user: Arc<str>,
    identity: Option<Box<Identity>>,
    subs: Subscriptions,
    intake: Option<Box<Intake>>,
    deadlines: Deadlines,
    /// How far its commands so far reach at the rate allowed.
    rate: Rate,
    closing: Option<Box<Closing>>,
    pub(crate) outbox: Outbox,
    /// Pings that must be answered and are not yet. More than one, if we had stopped reading meanwhile.
    pings_unanswered: u8,
    /// Where it stands among the worker's connections with news.
    pub(crate) listed: Option<Line>,
    /// The driver has let go of it.
    pub(crate) gone: bool,
    /// A task of it panicked: what it was about will never be answered.
    broken: bool,
}

impl Connection {
    pub(crate) fn new(
        wire: Wire,
        request: Arc<UpgradeRequest>,
        client: Uuid,
        generation: u32,
        stale_at: Millis,
    ) -> Self {
        Self {
            wire,
            stage: Stage::Opened(request),
            generation,
            tasks: 0,
            waiting: 0,
            client,
            user: Arc::default(),
            identity: None,
            subs: Subscriptions::default(),
            intake: None,
            deadlines: Deadlines { ping: NEVER, pong: NEVER, tend: NEVER, stage: stale_at, drain: NEVER },
            rate: Rate::default(),
            closing: None,
            outbox: Outbox::default(),
            pings_unanswered: 0,
            listed: None,
            gone: false,
            broken: false,
        }
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation
    }

    pub(crate) fn client(&self) -> Uuid {
        self.client
    }

    pub(crate) fn closing(&self) -> Option<&Closing> {
        self.closing.as_deref()
    }

    /// Whether nothing refers to this connection any more, so that its slot can be used again.
    pub(crate) fn is_over(&self) -> bool {
        self.gone && self.tasks == 0 && (self.subs.is_empty() || self.broken)
    }

    fn is_connected(&self) -> bool {
        matches!(self.stage, Stage::Connected)
    }

    pub(crate) fn is_closed(&self) -> bool {
        matches!(self.stage, Stage::Closed)
    }

    fn identity_mut(&mut self) -> &mut Identity {
        self.identity.get_or_insert_default()
    }

    /// Takes commands that were received elsewhere by this session too, from the connect command's answer on.
    pub(crate) fn set_session(&mut self, session: Uuid) {
        self.identity_mut().session = Some(session);
    }

    fn session(&self) -> Option<Uuid> {
        self.identity.as_ref()?.session
    }

    /// Takes it out of the node's books.
    fn unregister(&self, turn: &Turn<'_>) {
        turn.node.registry().remove(self.client, &self.user);
        if let Some(session) = self.session() {
            turn.node.registry().remove_session(session);
        }
    }

    /// Who this is, for hooks.
    fn context(&self) -> ClientContext {
        ClientContext {
            client: self.client.to_string(),
            user: Arc::clone(&self.user),
            encoding: self.wire.encoding,
            transport: "websocket",
            meta: self.identity.as_ref().map(|identity| identity.meta.clone()).unwrap_or_default(),
        }
    }

    /// Who this is in a channel, for other clients.
    fn client_info(&self, sub: Option<&Subscription>) -> ClientInfo {
        ClientInfo {
            user: self.user.to_string(),
            client: self.client.to_string(),
            conn_info: self.identity.as_ref().map(|identity| identity.info.clone()).unwrap_or_default(),
            chan_info: sub.map(|sub| sub.info.clone()).unwrap_or_default(),
        }
    }

    fn asker<'a>(&'a self, channel: &str, turn: &Turn<'_>) -> Asker<'a> {
        Asker {
            user: &self.user,
            subscribed: self.subs.is_live(channel),
            insecure: turn.node.options().client.insecure,
        }
    }
}

// === impl Connection: answers ===

impl Connection {
    /// Takes the result of a task.
    pub(crate) fn complete(&mut self, answer: Answer, turn: &mut Turn<'_>) {
        self.tasks -= 1;
        match answer {
            Answer::Authenticated { id, outcome } => self.authenticated(id, outcome, turn),
            Answer::Authorized { sub, outcome } => self.authorized(sub, outcome, turn),
            Answer::Joined { sub, outcome } => self.joined(sub, outcome, turn),
            Answer::Left { sub } => self.left(sub, turn),
            Answer::Tended { sub } => drop(self.idle_again(sub, turn)),
            Answer::Replied { id, outcome } => self.answered(id, outcome, turn),
            Answer::Refreshed { id, outcome } => self.refreshed(id, outcome, turn),
            Answer::SubRefreshed { id, sub, outcome } => self.sub_refreshed(id, sub, outcome, turn),
            Answer::Renewed(outcome) => self.renewed(outcome, turn),
            Answer::SubRenewed { sub, outcome } => self.sub_renewed(sub, outcome, turn),
            Answer::Sent(refusal) => self.sent(refusal, turn),
            Answer::Panicked => self.task_panicked(turn),
            Answer::Done => {}
        }
        self.continue_intake(turn);
    }

    /// A task met a bug: nobody knows what it has done, so the connection ends and its slot waits for no more answers
    /// about its subscriptions.
    fn task_panicked(&mut self, turn: &mut Turn<'_>) {
        turn.node.metrics().contained_panics.increment();
        tracing::error!(client = %self.client, "a task panicked and its connection is closed; please report this");
        self.broken = true;
        self.close(Disconnect::SERVER_ERROR, turn);
    }

    /// The end of a command that only waited for its reply.
    fn answered(&mut self, id: u32, outcome: Result<Reply, Refusal>, turn: &mut Turn<'_>) {
        self.waiting -= 1;
        match outcome {
            Ok(reply) => self.reply(Reply { id, ..reply }, turn),
            Err(refusal) => self.refuse(id, refusal, turn),
        }
    }

    /// Hands out work.
    fn spawn(&mut self, turn: &mut Turn<'_>, work: impl Future<Output = Answer> + Send + 'static) {
        self.tasks += 1;
        turn.tasks.push_back(Task::new(turn.slot, self.generation, work));
    }

    /// Hands out work whose result is the reply to a command.
    fn spawn_reply(
        &mut self,
        id: u32,
        turn: &mut Turn<'_>,
        work: impl Future<Output = Result<Reply, Refusal>> + Send + 'static,
    ) {
        self.waiting += 1;
        self.spawn(turn, async move { Answer::Replied { id, outcome: work.await } });
    }

    fn reply(&mut self, reply: Reply, turn: &mut Turn<'_>) {
        if self.is_closed() || (reply.id == 0 && reply.push.is_none() && reply != Reply::default()) {
            // A command without an id (`send`) is never answered.
            return;
        }
        if turn.replies.len() > JOINED_REPLIES_BYTES {
            self.flush(turn);
        }
        if append_reply(self.wire.encoding, &reply, turn.replies).is_err() {
            self.close(Disconnect::INAPPROPRIATE_PROTOCOL, turn);
        }
    }

    /// Answers a command with an error or closes the connection.
    fn refuse(&mut self, id: u32, refusal: Refusal, turn: &mut Turn<'_>) {
        match refusal {
            Refusal::Error(error) => {
                turn.node.metrics().errors.increment();
                let (client, code, reason) = (self.client, error.code, &error.message);
                tracing::debug!(%client, command = id, code, %reason, "command refused");
                self.reply(Reply { id, error: Some(Box::new(error)), ..Default::default() }, turn);
            }
            Refusal::Disconnect(disconnect) => self.close(disconnect, turn),
        }
    }

    /// Sends something the client did not ask for, after all replies so far, in a frame of its own.
    fn push(&mut self, push: Push, turn: &mut Turn<'_>) {
        self.flush(turn);
        self.reply(Reply { push: Some(Box::new(push)), ..Default::default() }, turn);
        self.flush(turn);
    }

    /// Moves the replies of this turn to the outbox.
    pub(crate) fn flush(&mut self, turn: &mut Turn<'_>) {
        if !turn.replies.is_empty() {
            self.outbox.push(self.wire.finish(turn.replies, turn.node.metrics()));
            turn.replies.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An idle connection with one subscription is these two, a table row in the hub's lists and its strings.
    #[test]
    fn an_idle_connection_is_small() {
        assert!(size_of::<Connection>() <= 256, "{}", size_of::<Connection>());
        assert!(size_of::<Subscription>() <= 192, "{}", size_of::<Subscription>());
    }
}
