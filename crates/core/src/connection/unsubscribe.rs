//! The end of a subscription, on whoever's initiative.

use std::sync::Arc;

use tidewire_protocol::{
    Disconnect, Push, Reply, Request, Unsubscribe, UnsubscribeRequest, UnsubscribeResult, Unsubscribed,
};

use super::intake::Begun;
use super::subscriptions::{Leaving, SubStage};
use super::{Connection, Turn};
use crate::hooks::Refusal;
use crate::task::{Answer, SubKey};

impl Connection {
    pub(super) fn unsubscribe(
        &mut self,
        id: u32,
        request: Box<UnsubscribeRequest>,
        turn: &mut Turn<'_>,
    ) -> Result<Begun, Refusal> {
        if request.channel.is_empty() {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        match self.subs.find(&request.channel) {
            None => self.reply(unsubscribed(id), turn),
            Some((_, sub)) if sub.is_starting() || sub.is_leaving() => {
                return Ok(Begun::NotYet(Request::Unsubscribe(request)));
            }
            Some((key, _)) => {
                self.waiting += 1;
                self.leave(key, Some(id), turn);
            }
        }
        Ok(Begun::Yes)
    }

    /// The engine has not settled a subscription that the client wants to leave: the client is told that it has, and
    /// the connection, whose state nobody knows, ends.
    pub(super) fn give_up_held(&mut self, turn: &mut Turn<'_>) {
        if let Some(id) = self.take_held() {
            self.reply(unsubscribed(id), turn);
            self.close(Disconnect::SERVER_ERROR, turn);
        }
    }

    /// Ends a subscription by the server's decision: one the client made is taken from it, one the server made takes the
    /// connection along.
    pub(super) fn end_subscription(
        &mut self,
        key: SubKey,
        why: Unsubscribed,
        if_server_side: Disconnect,
        turn: &mut Turn<'_>,
    ) {
        match self.subs.of(key) {
            Some(sub) if sub.server_side => self.close(if_server_side, turn),
            Some(_) => self.take_away(key, &why, turn),
            None => {}
        }
    }

    /// The server can no longer promise that the subscriber missed nothing.
    pub(super) fn insufficient_state(&mut self, key: SubKey, turn: &mut Turn<'_>) {
        turn.node.metrics().insufficient_states.increment();
        self.end_subscription(key, Unsubscribed::INSUFFICIENT_STATE, Disconnect::INSUFFICIENT_STATE, turn);
    }

    /// Ends a live subscription and tells the client.
    pub(super) fn take_away(&mut self, key: SubKey, why: &Unsubscribed, turn: &mut Turn<'_>) {
        let Some(sub) = self.subs.of(key) else { return };
        let channel = sub.channel.to_string();
        self.leave(key, None, turn);
        let unsubscribe = Unsubscribe { code: why.code, reason: why.reason.to_string() };
        self.push(Push { channel, unsubscribe: Some(unsubscribe.into()), ..Default::default() }, turn);
    }

    /// Ends a subscription whatever it is doing; nobody is told. The connection ends or its connect failed.
    pub(super) fn abandon(&mut self, key: SubKey, turn: &mut Turn<'_>) {
        let Some(sub) = self.subs.of(key) else { return };
        match &sub.stage {
            SubStage::Authorizing(_) => {
                // Its answer, if one is still to come, finds nobody.
                self.subs.remove(key);
            }
            SubStage::Joining { .. } | SubStage::Live { .. } => self.leave(key, None, turn),
            SubStage::Leaving(_) | SubStage::LeavingWhenIdle(_) => {}
        }
    }

    /// Stops deliveries at once and begins to take back what the engine was told.
    fn leave(&mut self, key: SubKey, reply_to: Option<u32>, turn: &mut Turn<'_>) {
        let Some(sub) = self.subs.of(key) else { return };
        let (seat, announced) = match &sub.stage {
            SubStage::Live { seat } => (*seat, true),
            SubStage::Joining { seat, .. } => (*seat, false),
            _ => return,
        };
        turn.channels.remove(seat);
        sub.stage = SubStage::LeavingWhenIdle(Leaving { reply_to, announced });
        if !sub.busy {
            self.leave_now(key, turn);
        }
    }

    /// Takes back interest, presence and, if it was announced, the join.
    pub(super) fn leave_now(&mut self, key: SubKey, turn: &mut Turn<'_>) {
        let Some((_, sub)) = self.subs.iter().find(|(other, _)| *other == key) else {
            return;
        };
        let SubStage::LeavingWhenIdle(leaving) = &sub.stage else {
            return;
        };
        let (features, announced) = (sub.features, leaving.announced);
        let info = Arc::new(self.client_info(Some(sub)));
        let channel = sub.channel.clone();
        if let Some(sub) = self.subs.of(key)
            && let SubStage::LeavingWhenIdle(leaving) = &sub.stage
        {
            let Leaving { reply_to, announced } = *leaving;
            sub.stage = SubStage::Leaving(Leaving { reply_to, announced });
            sub.busy = true;
        }
        let (node, worker, now) = (Arc::clone(turn.node), turn.worker, turn.now.ms());
        self.spawn(turn, async move {
            let engine = node.engine();
            if features.presence
                && let Err(error) = engine.presence_remove(&channel, &info.client).await
            {
                tracing::warn!(%error, "presence stays until it runs out");
            }
            if features.emit_join_leave
                && announced
                && let Err(error) = engine.publish_leave(&channel, info).await
            {
                tracing::warn!(%error, "leave could not be announced");
            }
            node.hub().release(worker, &channel, now);
            Answer::Left { sub: key }
        });
    }

    pub(super) fn left(&mut self, key: SubKey, turn: &mut Turn<'_>) {
        let Some(sub) = self.subs.remove(key) else { return };
        if let SubStage::Leaving(Leaving { reply_to: Some(id), .. }) = sub.stage {
            self.answered(id, Ok(unsubscribed(0)), turn);
        }
    }
}

impl Leaving {
    /// Nobody waits and nobody heard of it.
    pub(super) const fn silent() -> Self {
        Self { reply_to: None, announced: false }
    }
}

fn unsubscribed(id: u32) -> Reply {
    Reply { id, unsubscribe: Some(Box::new(UnsubscribeResult {})), ..Default::default() }
}
