//! Taking commands out of frames, one after the other, and holding back what must wait.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tidewire_protocol::frame::{DecodeLimits, commands};
use tidewire_protocol::{Command, DecodeError, Disconnect, ErrorCode, Request};

use super::rate::Pace;
use super::{Connection, Stage, Turn};
use crate::hooks::Refusal;
use crate::time::{Millis, NEVER, millis};

/// What has been received and not looked at yet.
#[derive(Default)]
pub(super) struct Intake {
    /// A command that waits for something else to end.
    held: Option<Held>,
    /// The rest of a frame, and frames after it.
    frames: VecDeque<Bytes>,
    /// It is room in the outbox that is waited for.
    for_room: bool,
}

/// A command that waits until the subscription of its channel has settled.
struct Held {
    id: u32,
    request: Request,
    /// When the wait is given up.
    until: Millis,
}

/// How long an unsubscribe waits for the subscribe before it (§6 of the protocol).
const UNSUBSCRIBE_WAIT: Duration = Duration::from_secs(5);

/// Bytes of commands from elsewhere that may wait for those before them.
const FORWARDED_BYTES_MAX: usize = 1 << 20;

/// Whether a command could be begun.
pub(super) enum Begun {
    Yes,
    /// It must wait until the subscription of its channel has settled.
    NotYet(Request),
}

impl Connection {
    /// Takes a complete message of the transport.
    pub(crate) fn message(&mut self, frame: Bytes, turn: &mut Turn<'_>) {
        if !self.listens() {
            return;
        }
        match &mut self.intake {
            Some(intake) => intake.frames.push_back(frame),
            None => self.take_frame(frame, turn),
        }
    }

    /// Takes a message that another request brought. Nobody can be told to stop reading here, so what waits is bounded.
    pub(super) fn forwarded(&mut self, frame: Bytes, turn: &mut Turn<'_>) {
        let waiting = self.intake.as_ref().map_or(0, |intake| intake.frames.iter().map(Bytes::len).sum());
        if waiting + frame.len() > FORWARDED_BYTES_MAX {
            tracing::info!(client = %self.client, waiting, "more commands were forwarded than are answered");
            return self.close(Disconnect::TOO_MANY_REQUESTS, turn);
        }
        self.message(frame, turn);
    }

    /// Whether the driver should read more. While unusable it should, to notice that the peer leaves.
    pub(crate) fn wants_read(&self) -> bool {
        self.intake.is_none() && !self.is_closed()
    }

    /// Goes on with what had to wait, if it need not wait any more.
    pub(crate) fn continue_intake(&mut self, turn: &mut Turn<'_>) {
        while let Some(mut intake) = self.intake.take() {
            if !self.listens() {
                return;
            }
            if self.must_wait(turn) {
                intake.for_room = self.has_backlog(turn);
                self.intake = Some(intake);
                return;
            }
            if let Some(Held { id, request, .. }) = intake.held.take() {
                self.restore(intake);
                if !self.begin(id, request, turn) {
                    return;
                }
            } else if let Some(frame) = intake.frames.pop_front() {
                self.restore(intake);
                self.take_frame(frame, turn);
            }
        }
    }

    /// When the wait of a held command is given up.
    pub(super) fn held_until(&self) -> Millis {
        self.intake.as_ref().and_then(|intake| intake.held.as_ref()).map_or(NEVER, |held| held.until)
    }

    /// Takes the held command out, which is not begun any more; its id.
    pub(super) fn take_held(&mut self) -> Option<u32> {
        Some(self.intake.as_mut()?.held.take()?.id)
    }

    fn restore(&mut self, intake: Box<Intake>) {
        if !intake.frames.is_empty() {
            self.intake = Some(intake);
        }
    }

    fn listens(&self) -> bool {
        !matches!(self.stage, Stage::Unusable | Stage::Closed)
    }

    fn must_wait(&self, turn: &Turn<'_>) -> bool {
        let at_a_time = turn.node.options().client.concurrency.max(1) as u32;
        let held = self.intake.as_ref().is_some_and(|intake| intake.held.is_some());
        held || matches!(self.stage, Stage::Connecting(_))
            || self.waiting >= at_a_time
            || self.has_backlog(turn)
    }

    /// Whether so much waits to be written that further answers must wait for it. A client that comes back asks for all its
    /// channels in one frame: what it is sent for that is no sign of its being slow.
    fn has_backlog(&self, turn: &Turn<'_>) -> bool {
        let unwritten = self.outbox.weight() + turn.replies.len();
        unwritten > backlog_max(turn.node.options().client.queue_max_size)
    }

    /// Whether commands wait for room in the outbox, of which there is enough now.
    pub(crate) fn has_room_again(&self, queue_max_size: usize) -> bool {
        let waits = self.intake.as_ref().is_some_and(|intake| intake.for_room);
        waits && self.outbox.weight() <= backlog_max(queue_max_size)
    }

    fn take_frame(&mut self, frame: Bytes, turn: &mut Turn<'_>) {
        let limits = DecodeLimits {
            command_bytes: turn.node.options().client.command_bytes_max,
            ..DecodeLimits::default()
        };
        let mut commands = commands(self.wire.encoding, &frame, &limits);
        loop {
            if !self.listens() {
                return;
            }
            if self.must_wait(turn) {
                if !commands.is_done() {
                    let for_room = self.has_backlog(turn);
                    let intake = self.intake.get_or_insert_default();
                    intake.frames.push_front(commands.rest());
                    intake.for_room = for_room;
                }
                return;
            }
            match commands.next() {
                None => return,
                Some(Ok(command)) => self.command(command, turn),
                Some(Err(DecodeError::Refused { id, code })) => {
                    turn.node.metrics().commands.increment();
                    let refusal = if self.is_connected() {
                        code.into()
                    } else {
                        Refusal::Disconnect(Disconnect::BAD_REQUEST)
                    };
                    self.refuse(id, refusal, turn);
                }
                Some(Err(error)) => {
                    tracing::info!(client = %self.client, %error, "bad frame");
                    self.close(Disconnect::BAD_REQUEST, turn);
                    return;
                }
            }
        }
    }

    fn command(&mut self, command: Command, turn: &mut Turn<'_>) {
        turn.node.metrics().commands.increment();
        let id = command.id;
        match command.into_request() {
            Some(request) if id > 0 || matches!(request, Request::Send(_)) => {
                if self.keeps_pace(id, turn) {
                    self.begin(id, request, turn);
                }
            }
            None if id == 0 => self.pong(turn),
            _ => {
                tracing::info!(client = %self.client, id, "bad command: no known request, or no id");
                self.close(Disconnect::BAD_REQUEST, turn);
            }
        }
    }

    /// Whether the command is within `client.command_rate_limit`; if not, it is answered.
    fn keeps_pace(&mut self, id: u32, turn: &mut Turn<'_>) -> bool {
        let limit = turn.node.options().client.command_rate_limit;
        match self.rate.count(limit, turn.now.mono) {
            Pace::Kept => return true,
            Pace::TooFast if id > 0 => self.refuse(id, ErrorCode::TooManyRequests.into(), turn),
            // What asks for no answer cannot be refused.
            Pace::TooFast | Pace::FarTooFast => self.close(Disconnect::TOO_MANY_REQUESTS, turn),
        }
        false
    }

    /// Begins a command; false if it has to be held.
    fn begin(&mut self, id: u32, request: Request, turn: &mut Turn<'_>) -> bool {
        let first = matches!(self.stage, Stage::Opened(_));
        if first != matches!(request, Request::Connect(_)) {
            tracing::info!(client = %self.client, "bad command: connect must come first and once");
            self.close(Disconnect::BAD_REQUEST, turn);
            return true;
        }
        let begun = match request {
            Request::Connect(request) => self.connect(id, *request, turn),
            Request::Subscribe(request) => self.subscribe(id, request, turn),
            Request::Unsubscribe(request) => self.unsubscribe(id, request, turn),
            Request::Publish(request) => self.publish(id, *request, turn),
            Request::Presence(request) => self.presence(id, &request.channel, turn),
            Request::PresenceStats(request) => self.presence_stats(id, &request.channel, turn),
            Request::History(request) => self.history(id, *request, turn),
            Request::Rpc(request) => self.rpc(id, *request, turn),
            Request::Send(request) => self.send(request.data, turn),
            Request::Refresh(request) => self.refresh(id, request.token, turn),
            Request::SubRefresh(request) => self.sub_refresh(id, *request, turn),
        };
        match begun {
            Ok(Begun::Yes) => true,
            Ok(Begun::NotYet(request)) => {
                let until = match request {
                    Request::Unsubscribe(_) => turn.now.ms() + millis(UNSUBSCRIBE_WAIT),
                    _ => NEVER,
                };
                self.intake.get_or_insert_default().held = Some(Held { id, request, until });
                false
            }
            Err(refusal) => {
                self.refuse(id, refusal, turn);
                true
            }
        }
    }

    fn pong(&mut self, turn: &mut Turn<'_>) {
        let Some(left) = self.pings_unanswered.checked_sub(1) else {
            tracing::info!(client = %self.client, "bad command: a pong nobody asked for");
            return self.close(Disconnect::BAD_REQUEST, turn);
        };
        self.pings_unanswered = left;
        self.deadlines.pong = match left {
            0 => NEVER,
            _ => turn.now.ms() + millis(turn.node.options().client.pong_timeout),
        };
    }
}

/// What may be unwritten when a further command is begun.
fn backlog_max(queue_max_size: usize) -> usize {
    queue_max_size / 4
}
