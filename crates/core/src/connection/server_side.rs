//! What the server API does to a connection.

use std::sync::Arc;

use tidewire_protocol::{Disconnect, Message, Push, Refresh, Subscribe, Unsubscribed};

use super::connect::ttl;
use super::subscriptions::{Attempt, Origin, SubStage};
use super::{Connection, Turn};
use crate::hooks::Refusal;
use crate::inbox::{Ack, Operation, SubscribeOperation};
use crate::task::SubKey;

impl Connection {
    /// Carries out one operation. `ack` is dropped when it is done.
    pub(crate) fn control(&mut self, operation: &Operation, ack: Ack, turn: &mut Turn<'_>) {
        if !self.is_connected() && !matches!(operation, Operation::Disconnect(_) | Operation::Commands(_)) {
            return;
        }
        match operation {
            Operation::Disconnect(disconnect) => self.close(disconnect.clone(), turn),
            Operation::Unsubscribe(channel, why) => {
                for key in self.keys_in(channel.as_deref()) {
                    self.take_away_when_live(key, why, turn);
                }
            }
            Operation::Subscribe(operation) => self.server_subscribe(operation, ack, turn),
            Operation::Refresh { expired, expire_at, info } => {
                self.server_refresh(*expired, *expire_at, info.clone(), turn);
            }
            Operation::Commands(frame) => self.forwarded(frame.clone(), turn),
            Operation::Send(data) => {
                let message = Message { data: data.clone() };
                self.push(Push { message: Some(message.into()), ..Default::default() }, turn);
            }
        }
    }

    fn keys_in(&self, channel: Option<&str>) -> Vec<SubKey> {
        let wanted = |name: &str| channel.is_none_or(|channel| channel == name);
        self.subs.iter().filter(|(_, sub)| wanted(&sub.channel)).map(|(key, _)| key).collect()
    }

    /// Ends a subscription now, or as soon as it is live: its subscribe command is still owed a reply.
    fn take_away_when_live(&mut self, key: SubKey, why: &Unsubscribed, turn: &mut Turn<'_>) {
        let Some(sub) = self.subs.of(key) else { return };
        match &mut sub.stage {
            SubStage::Live { .. } => self.take_away(key, why, turn),
            SubStage::Authorizing(attempt) | SubStage::Joining { attempt, .. } => {
                attempt.taken_away = Some(why.clone());
            }
            SubStage::Leaving(_) | SubStage::LeavingWhenIdle(_) => {}
        }
    }

    fn server_subscribe(&mut self, operation: &SubscribeOperation, ack: Ack, turn: &mut Turn<'_>) {
        let options = turn.node.options();
        let Ok(rules) = options.channel.rules(&operation.channel) else {
            return;
        };
        if self.subs.find(&operation.channel).is_some() {
            return; // done already
        }
        if self.subs.len() >= options.client.channel_limit {
            return self.close(Disconnect::CHANNEL_LIMIT, turn);
        }
        let attempt = Attempt { since: operation.recover_since.clone(), ..Attempt::new(Origin::Api(ack)) };
        let key = self.reserve(operation.channel.clone(), Arc::clone(rules), attempt);
        if let Some(sub) = self.subs.of(key) {
            sub.server_side = true;
        }
        if let Err(refusal) = self.join(key, operation.grant.clone(), false, turn) {
            self.subs.remove(key);
            self.api_failed(refusal, turn);
        }
    }

    /// The engine has answered: the client is told, then publications flow.
    pub(super) fn finish_api(&mut self, key: SubKey, turn: &mut Turn<'_>) {
        match self.merge(key, turn) {
            Ok((channel, result)) => {
                let subscribe = Subscribe {
                    recoverable: result.recoverable,
                    epoch: result.epoch,
                    offset: result.offset,
                    positioned: result.positioned,
                    data: result.data,
                };
                let push = Push {
                    channel: channel.to_string(),
                    subscribe: Some(subscribe.into()),
                    ..Default::default()
                };
                self.push(push, turn);
                for publication in result.publications {
                    let push = Push {
                        channel: channel.to_string(),
                        publication: Some(publication.into()),
                        ..Default::default()
                    };
                    self.push(push, turn);
                }
                self.go_live(key, turn);
                self.arm_tending(turn);
            }
            Err(refusal) => {
                self.abandon(key, turn);
                self.api_failed(refusal, turn);
            }
        }
    }

    /// A subscription of the server API failed; the caller has no way to hear of it, so the log does.
    pub(super) fn api_failed(&mut self, refusal: Refusal, turn: &mut Turn<'_>) {
        match refusal {
            Refusal::Disconnect(disconnect) => self.close(disconnect, turn),
            Refusal::Error(error) => {
                tracing::warn!(client = %self.client, code = error.code, "server-side subscribe failed");
            }
        }
    }

    fn server_refresh(
        &mut self,
        expired: bool,
        expire_at: i64,
        info: Option<bytes::Bytes>,
        turn: &mut Turn<'_>,
    ) {
        let now_s = turn.now.unix_s();
        if expired || (expire_at != 0 && expire_at <= now_s) {
            return self.close(Disconnect::EXPIRED, turn);
        }
        let identity = self.identity_mut();
        identity.expire_at = expire_at;
        if let Some(info) = info {
            identity.info = info;
        }
        self.arm_expiry(turn);
        let refresh =
            Refresh { expires: expire_at > 0, ttl: if expire_at > 0 { ttl(expire_at, now_s) } else { 0 } };
        self.push(Push { refresh: Some(refresh.into()), ..Default::default() }, turn);
    }
}
