//! What a client makes of what it is sent.

use bytes::Bytes;
use tidewire_protocol::frame::replies;
use tidewire_protocol::{Command, ConnectResult, Error, Push, Reply};

use super::{Asked, Client, Phase, SubState};
use crate::frames::Frame;

/// What is to be done with the socket after a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    Stay,
    /// The client closes it; with the server's code if that is why.
    Close(Option<u16>),
}

impl Client {
    /// Takes a complete frame.
    pub(crate) fn frame(&mut self, frame: Frame) -> Then {
        match frame {
            Frame::Close(code) => Then::Close(Some(code)),
            Frame::Message { text, payload } => {
                let json = self.encoding == tidewire_protocol::Encoding::Json;
                if text != json {
                    self.violation("a frame of the wrong kind");
                }
                self.message(&payload)
            }
        }
    }

    fn message(&mut self, payload: &Bytes) -> Then {
        for reply in replies(self.encoding, payload) {
            let then = match reply {
                Ok(reply) => self.reply(reply),
                Err(error) => {
                    self.violation(&format!("cannot read a frame: {error}"));
                    Then::Close(None)
                }
            };
            if then != Then::Stay {
                return then;
            }
        }
        Then::Stay
    }

    fn reply(&mut self, reply: Reply) -> Then {
        if let Some(push) = reply.push {
            self.push(*push);
            return Then::Stay;
        }
        if reply.id == 0 {
            self.ping();
            return Then::Stay;
        }
        let Some(waiting) = self.waiting.remove(&reply.id) else {
            let again = if self.answered.contains(&reply.id) { "again" } else { "though nobody asked" };
            self.violation(&format!("command {} is answered {again}", reply.id));
            return Then::Stay;
        };
        self.answered.insert(reply.id);
        self.env.note(format_args!(
            "client {} has answer {} {:?} error {:?}",
            self.number,
            reply.id,
            waiting.asked,
            reply.error.as_ref().map(|error| error.code)
        ));
        match (waiting.asked, reply) {
            (Asked::Connect, Reply { error: None, connect: Some(result), .. }) => self.connected(*result),
            (Asked::Connect, Reply { error, .. }) => {
                if !error.as_ref().is_some_and(|error| error.temporary) {
                    self.violation(&format!("connect refused: {error:?}"));
                }
                return Then::Close(None);
            }
            (Asked::Subscribe(index), Reply { error: None, subscribe: Some(result), .. }) => {
                self.with_sub(index, |sub, env, number| sub.accepted(env, number, &result));
            }
            (Asked::Subscribe(index), Reply { error, .. }) => self.subscribe_refused(index, error),
            (Asked::Unsubscribe(index), Reply { error: None, unsubscribe: Some(_), .. }) => {
                self.unsubscribed(index, waiting.sent_at);
            }
            (Asked::Publish, Reply { error, .. }) if waiting.given_up => drop(error),
            (Asked::Publish, Reply { error: None, publish: Some(_), .. }) => self.publishing = false,
            // It may have happened all the same, at any time.
            (Asked::Publish, Reply { error: Some(error), .. }) if error.temporary => self.new_publisher(),
            (Asked::Query, Reply { error, .. }) => self.query_answered(error),
            (asked, reply) => self.violation(&format!("{asked:?} is answered with {reply:?}")),
        }
        Then::Stay
    }

    fn connected(&mut self, result: ConnectResult) {
        self.phase = Phase::Connected;
        self.failures = 0;
        self.id = result.client;
        self.last_ping = self.env.now();
        self.ping_every = std::time::Duration::from_secs(u64::from(result.ping));
        for index in 0..self.subs.len() {
            let Some(sub) = self.subs.get(index).filter(|sub| sub.server_side) else {
                continue;
            };
            match result.subs.get(sub.channel.as_str()) {
                Some(result) => self.with_sub(index, |sub, env, number| sub.accepted(env, number, result)),
                None => self.violation("a server-side subscription is missing"),
            }
        }
        self.subscribe_all();
    }

    fn subscribe_refused(&mut self, index: usize, error: Option<Box<Error>>) {
        let code = error.as_ref().map_or(0, |error| error.code);
        let temporary = error.as_ref().is_some_and(|error| error.temporary);
        if !temporary && code != 112 {
            self.violation(&format!("subscribe refused: {error:?}"));
        }
        let (env, draw) = (&self.env, &mut self.draw);
        if let Some(sub) = self.subs.get_mut(index) {
            sub.refused(env, code == 112, draw);
        }
    }

    fn unsubscribed(&mut self, index: usize, _sent_at: std::time::Duration) {
        let forgets = self.draw.chance(0.3);
        if let Some(sub) = self.subs.get_mut(index) {
            sub.state = SubState::Off;
            if forgets {
                sub.forget();
            }
        }
    }

    fn query_answered(&mut self, error: Option<Box<Error>>) {
        // 108: the channel has no presence or history, or there is no such procedure.
        if let Some(error) = error.filter(|error| !error.temporary && error.code != 108 && error.code != 112)
        {
            self.violation(&format!("a query is refused: {error:?}"));
        }
    }

    fn ping(&mut self) {
        if self.phase != Phase::Connected {
            self.violation("a ping before the connect reply");
        }
        self.last_ping = self.env.now();
        self.out.push(Command::default());
    }

    fn push(&mut self, push: Push) {
        if self.phase != Phase::Connected {
            self.violation("a push before the connect reply");
        }
        if push.refresh.is_some() {
            return; // SDKs ignore it
        }
        let index = self.subs.iter().position(|sub| *sub.channel == *push.channel);
        let Some(index) = index else {
            self.violation(&format!("a push of channel {:?}", push.channel));
            return;
        };
        if let Some(publication) = push.publication {
            self.env
                .note(format_args!("client {} gets {} {}", self.number, push.channel, publication.offset));
            self.with_sub(index, |sub, env, number| sub.received(env, number, &publication));
        } else if push.join.is_some() || push.leave.is_some() {
            self.with_sub(index, |sub, _, _| sub.heard_of_members());
        } else if let Some(unsubscribe) = push.unsubscribe {
            self.env.note(format_args!(
                "client {} unsubscribed from {} with {}",
                self.number, push.channel, unsubscribe.code
            ));
            self.with_sub(index, |sub, env, _| sub.taken(env, unsubscribe.code));
            self.subscribe_all();
        } else if let Some(subscribe) = push.subscribe {
            self.with_sub(index, |sub, env, number| sub.pushed(env, number, &subscribe));
        } else {
            self.violation("a push of a kind nobody expects");
        }
    }

    fn with_sub(
        &mut self,
        index: usize,
        act: impl FnOnce(&mut super::Subscription, &crate::env::Env, usize) -> Result<(), String>,
    ) {
        let outcome = match self.subs.get_mut(index) {
            Some(sub) => act(sub, &self.env, self.number),
            None => Ok(()),
        };
        if let Err(what) = outcome {
            self.violation(&what);
        }
    }
}
