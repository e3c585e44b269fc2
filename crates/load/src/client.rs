//! One client connection without I/O: bytes of the server in, bytes for the server and events out.
//!
//! Upgrade, connect and subscribe happen by themselves, one after the other; pings are answered where the server wants that.
//! `frames`: what arrives, down to single messages. `cache` makes the same message, received by thousands of clients, cost
//! one decoding.

mod cache;
mod frames;

use std::sync::Arc;

use bytes::Bytes;
use tidewire_checker::{Delivery, Position};
use tidewire_protocol::{
    Command, ConnectRequest, DecodeError, EncodeError, Encoding, Publication, PublishRequest, Push, Reply,
    SubscribeRequest, SubscribeResult, frame,
};

use cache::{FrameCache, KnownFrame};

use crate::payload::Payload;
use crate::ws::handshake::{self, HandshakeError, Key, Terms};
use crate::ws::{Opcode, WsError, append_close, append_frame};

/// Id of the first command; later ones count on.
const CONNECT_ID: u32 = 1;

/// Channels that a server may subscribe a client to by itself; more are not remembered. Servers allow 128 in all by default.
const GIVEN_MAX: usize = 1_024;

/// What all clients of a run have in common.
#[derive(Debug, Clone)]
pub struct Dialect {
    /// Host and port, for the `Host` header.
    pub authority: String,
    /// Path and query.
    pub path: String,
    /// JSON or protobuf.
    pub encoding: Encoding,
    /// Ask for a recoverable subscription.
    pub recoverable: bool,
    /// Offer permessage-deflate, and take nothing less.
    pub compression: bool,
}

/// What one client does.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Role {
    /// The connection token; empty for none.
    pub token: String,
    /// The channel to subscribe to; `None` to only connect.
    pub channel: Option<Arc<str>>,
    /// Where it was when it lost its connection.
    pub since: Option<Position>,
}

/// A client connection.
#[derive(Debug)]
pub struct Client {
    stage: Stage,
    channel: Option<Arc<str>>,
    /// The start of a frame (or of the answer to the upgrade) whose end has not arrived.
    partial: Vec<u8>,
    /// The parts of a message that has not ended.
    fragments: Option<(Vec<u8>, bool)>,
    position: Option<Position>,
    /// Channels that the server subscribed it to by itself. What is pushed there is not what is measured.
    given: Vec<String>,
    /// The server said that it wants its pings answered. To who did not, an answer breaks the protocol.
    answers_pings: bool,
    /// Of the last subscribe command.
    subscribe_id: u32,
    next_id: u32,
}

#[derive(Debug, Clone, PartialEq)]
enum Stage {
    Upgrading(Key, Box<Role>),
    Connecting(Box<Role>),
    Subscribing,
    Live,
    Closed,
}

/// Something that happened to a client, for whoever watches.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The connect command was accepted.
    Connected,
    /// The subscribe command was accepted.
    Subscribed {
        /// Of the reply; `None` if the subscription has no positions.
        position: Option<Position>,
        /// The reply says that recovery was tried.
        was_recovering: bool,
        /// The reply says that nothing is missing.
        recovered: bool,
        /// What the reply brought.
        publications: Vec<Arrival>,
    },
    /// A publication was pushed.
    Publication(Arrival),
    /// A publish command of this client was answered, with the error's code if it was refused.
    Published {
        /// What [`Client::publish`] returned.
        command: u32,
        /// `None` if it was accepted.
        error: Option<u32>,
    },
    /// A publication was pushed under the name of a channel that the client is not in.
    Stray(Arrival),
    /// The server ended the subscription.
    Unsubscribed {
        /// From 2500 on, a client is to subscribe again.
        code: u32,
    },
    /// A ping of the server. It has been answered, if it is to be.
    Ping,
    /// The server says goodbye.
    Closed {
        /// Its code.
        code: u32,
    },
}

/// A publication as it arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Its offset, 0 if it has none.
    pub offset: u64,
    /// What it carries; `None` if that cannot be read.
    pub payload: Option<Payload>,
}

/// Why a client cannot go on.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ClientError {
    /// The upgrade failed.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    /// The server broke RFC 6455.
    #[error(transparent)]
    WebSocket(#[from] WsError),
    /// The server broke the client protocol.
    #[error("a frame of the server cannot be read: {0}")]
    Decode(#[from] DecodeError),
    /// A command cannot be written.
    #[error("a command cannot be written: {0}")]
    Encode(#[from] EncodeError),
    /// The server refused connect or subscribe.
    #[error("{command} was refused with error {code} ({message})")]
    Refused {
        /// Which command.
        command: &'static str,
        /// The error's code.
        code: u32,
        /// The error's text.
        message: String,
    },
    /// The server closed with a code.
    #[error("the server closed with {code} ({reason})")]
    Closed {
        /// Its code.
        code: u32,
        /// Its reason.
        reason: String,
    },
}

/// What is shared by all clients of one thread while they take in bytes.
#[derive(Debug)]
pub struct Context {
    /// See there.
    pub dialect: Dialect,
    frames: FrameCache,
    scratch: Vec<u8>,
}

/// Where a client's answers go.
pub struct Output<'a> {
    /// Bytes to send.
    pub bytes: &'a mut Vec<u8>,
    /// What happened, in order.
    pub event: &'a mut dyn FnMut(Event),
}

// === impl Context ===

impl Context {
    /// An empty context.
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, frames: FrameCache::default(), scratch: Vec::new() }
    }

    fn append(&mut self, command: &Command, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.scratch.clear();
        frame::append_command(self.dialect.encoding, command, &mut self.scratch)?;
        let opcode = match self.dialect.encoding {
            Encoding::Json => Opcode::Text,
            Encoding::Protobuf => Opcode::Binary,
        };
        append_frame(opcode, &self.scratch, rand::random(), out);
        Ok(())
    }
}

// === impl Dialect ===

impl Dialect {
    fn subprotocol(&self) -> Option<&'static str> {
        match self.encoding {
            Encoding::Json => None,
            Encoding::Protobuf => Some("centrifuge-protobuf"),
        }
    }

    fn terms(&self) -> Terms {
        Terms { subprotocol: self.subprotocol(), compression: self.compression }
    }
}

// === impl Client: outside ===

impl Client {
    /// A client whose socket has just been connected; appends the upgrade request.
    pub fn open(role: Role, context: &Context, out: &mut Vec<u8>) -> Self {
        let key = Key::new(rand::random());
        let Dialect { authority, path, .. } = &context.dialect;
        handshake::append_request(key, authority, path, context.dialect.terms(), out);
        Self {
            channel: role.channel.clone(),
            position: role.since.clone(),
            stage: Stage::Upgrading(key, Box::new(role)),
            partial: Vec::new(),
            fragments: None,
            given: Vec::new(),
            answers_pings: false,
            subscribe_id: 0,
            next_id: CONNECT_ID + 1,
        }
    }

    /// Where its subscription stands, if it has positions.
    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// Whether it has everything it asked for.
    pub fn is_live(&self) -> bool {
        self.stage == Stage::Live
    }

    /// Takes in bytes of the server.
    ///
    /// # Errors
    /// See [`ClientError`]; the connection is to be dropped.
    pub fn receive(
        &mut self,
        input: &[u8],
        context: &mut Context,
        out: &mut Output<'_>,
    ) -> Result<(), ClientError> {
        if self.partial.is_empty() {
            let taken = self.take(input, context, out)?;
            self.partial.extend_from_slice(input.get(taken..).unwrap_or_default());
            return Ok(());
        }
        let mut partial = std::mem::take(&mut self.partial);
        partial.extend_from_slice(input);
        let taken = self.take(&partial, context, out)?;
        partial.drain(..taken);
        // Keeps its buffer only while there is something in it: most clients are between two frames.
        if !partial.is_empty() {
            self.partial = partial;
        }
        Ok(())
    }

    /// Appends a publish command; the returned number comes back in [`Event::Published`].
    ///
    /// # Errors
    /// The data is not JSON and the connection speaks JSON.
    pub fn publish(
        &mut self,
        channel: &str,
        data: Bytes,
        context: &mut Context,
        out: &mut Vec<u8>,
    ) -> Result<u32, ClientError> {
        let id = self.id();
        let publish = PublishRequest { channel: channel.to_owned(), data, ..Default::default() };
        context.append(&Command { id, publish: Some(Box::new(publish)), ..Default::default() }, out)?;
        Ok(id)
    }

    /// Appends the close frame of a client that leaves.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        if !matches!(self.stage, Stage::Upgrading(..) | Stage::Closed) {
            append_close(1000, rand::random(), out);
        }
        self.stage = Stage::Closed;
    }
}

// === impl Client: the protocol ===

impl Client {
    fn id(&mut self) -> u32 {
        let id = self.next_id;
        self.next_id = self.next_id.checked_add(1).unwrap_or(CONNECT_ID + 1);
        id
    }

    fn connect(
        &mut self,
        mut role: Box<Role>,
        context: &mut Context,
        out: &mut Output<'_>,
    ) -> Result<(), ClientError> {
        let connect = ConnectRequest {
            token: std::mem::take(&mut role.token),
            name: "tidewire-load".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            ..Default::default()
        };
        self.stage = Stage::Connecting(role);
        let connect = Command { id: CONNECT_ID, connect: Some(Box::new(connect)), ..Default::default() };
        Ok(context.append(&connect, out.bytes)?)
    }

    fn reply(
        &mut self,
        reply: Reply,
        context: &mut Context,
        out: &mut Output<'_>,
    ) -> Result<(), ClientError> {
        match (reply.id, reply.push) {
            (0, Some(push)) => self.push(*push, context, out)?,
            (0, None) => {
                if self.answers_pings {
                    context.append(&Command::default(), out.bytes)?;
                }
                (out.event)(Event::Ping);
            }
            (CONNECT_ID, _) => {
                refused("connect", reply.error.as_deref())?;
                let result = *reply.connect.unwrap_or_default();
                self.answers_pings = result.pong;
                self.given = result.subs.into_keys().take(GIVEN_MAX).collect();
                if let Stage::Connecting(role) = &self.stage {
                    let has_channel = role.channel.is_some();
                    (out.event)(Event::Connected);
                    self.stage = Stage::Live;
                    if has_channel {
                        self.subscribe(context, out)?;
                    }
                }
            }
            (id, _) if id == self.subscribe_id => {
                refused("subscribe", reply.error.as_deref())?;
                self.subscribed(*reply.subscribe.unwrap_or_default(), out);
            }
            (command, _) => {
                let error = reply.error.map(|error| error.code);
                (out.event)(Event::Published { command, error });
            }
        }
        Ok(())
    }

    fn push(&mut self, push: Push, context: &mut Context, out: &mut Output<'_>) -> Result<(), ClientError> {
        // Joins, leaves and messages are not what is measured; publications do not come here.
        let Push { channel, subscribe, unsubscribe, .. } = push;
        if subscribe.is_some() && !self.given.contains(&channel) && self.given.len() < GIVEN_MAX {
            self.given.push(channel);
            return Ok(());
        }
        let Some(unsubscribe) = unsubscribe else { return Ok(()) };
        self.given.retain(|given| *given != channel);
        if self.channel.as_deref() != Some(&*channel) {
            return Ok(());
        }
        (out.event)(Event::Unsubscribed { code: unsubscribe.code });
        match unsubscribe.code {
            2500.. => self.subscribe(context, out),
            _ => Ok(()),
        }
    }

    /// Subscribes, from where it was if it was somewhere.
    fn subscribe(&mut self, context: &mut Context, out: &mut Output<'_>) -> Result<(), ClientError> {
        let recoverable = context.dialect.recoverable;
        let mut subscribe = SubscribeRequest {
            channel: self.channel.as_deref().unwrap_or_default().to_owned(),
            recoverable,
            positioned: recoverable,
            ..Default::default()
        };
        if let Some(since) = &self.position {
            subscribe.recover = true;
            subscribe.epoch = since.epoch.to_string();
            subscribe.offset = since.offset;
        }
        self.stage = Stage::Subscribing;
        self.subscribe_id = self.id();
        let id = self.subscribe_id;
        let subscribe = Command { id, subscribe: Some(Box::new(subscribe)), ..Default::default() };
        Ok(context.append(&subscribe, out.bytes)?)
    }

    fn subscribed(&mut self, result: SubscribeResult, out: &mut Output<'_>) {
        let SubscribeResult { epoch, offset, recovered, was_recovering, publications, .. } = result;
        let has_position = result.positioned || result.recoverable;
        let position = has_position.then(|| Position { epoch: epoch.into(), offset });
        let newest = publications.last().map_or(0, |publication| publication.offset);
        self.position =
            position.clone().map(|position| Position { offset: position.offset.max(newest), ..position });
        let publications = publications.iter().map(Arrival::of).collect();
        self.stage = Stage::Live;
        (out.event)(Event::Subscribed { position, was_recovering, recovered, publications });
    }

    fn arrived(&mut self, known: &KnownFrame, out: &mut Output<'_>) {
        let KnownFrame { channel, arrival } = known;
        if self.channel.as_deref() != Some(&**channel) {
            if !self.given.iter().any(|given| **given == **channel) {
                (out.event)(Event::Stray(*arrival));
            }
            return;
        }
        if let (Some(position), true) = (&mut self.position, arrival.offset > 0) {
            position.offset = arrival.offset;
        }
        (out.event)(Event::Publication(*arrival));
    }
}

fn refused(command: &'static str, error: Option<&tidewire_protocol::Error>) -> Result<(), ClientError> {
    match error {
        None => Ok(()),
        Some(error) => {
            Err(ClientError::Refused { command, code: error.code, message: error.message.clone() })
        }
    }
}

// === impl Arrival ===

impl Arrival {
    fn of(publication: &Publication) -> Self {
        Self { offset: publication.offset, payload: Payload::parse(&publication.data) }
    }

    /// For the checker.
    pub fn delivery(&self) -> Delivery {
        Delivery { offset: self.offset, id: self.payload.map(|payload| payload.id) }
    }
}

#[cfg(test)]
mod tests;
