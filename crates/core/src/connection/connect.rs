//! The connect command: who is this, and which server-side subscriptions come with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidewire_protocol::{
    ChannelName, ConnectRequest, ConnectResult, Disconnect, ErrorCode, Reply, StreamPosition,
    SubscribeRequest, SubscribeResult,
};

use super::intake::Begun;
use super::subscriptions::{Attempt, Origin};
use super::{Connection, Identity, Stage, Turn};
use crate::auth::{Authenticated, authenticate};
use crate::hooks::{Refusal, SubscribeGrant, UpgradeRequest};
use crate::registry::Place;
use crate::rules;
use crate::rules::Wishes;
use crate::task::{Answer, SubKey};
use crate::time::{NEVER, millis};

/// Longest time to live that clients are told: beyond it their timers overflow.
pub(super) const TTL_SECONDS_MAX: i64 = 365 * 24 * 3600;

/// Longest client name kept, in bytes.
const CLIENT_NAME_MAX: usize = 16;

/// A connect command that is being answered.
pub(super) struct Connecting {
    pub(super) id: u32,
    /// Server-side subscriptions the client remembers, with their positions.
    remembered: BTreeMap<String, SubscribeRequest>,
    /// The result but for its subscriptions.
    result: ConnectResult,
    /// Attempts that the engine has not answered yet.
    pending: usize,
    /// In the registry, so that the server API reaches it.
    pub(super) registered: bool,
}

/// A server-side subscription to be made with the connect.
struct Wanted {
    channel: ChannelName,
    grant: SubscribeGrant,
    from_token: bool,
}

impl Connection {
    pub(super) fn connect(
        &mut self,
        id: u32,
        mut request: ConnectRequest,
        turn: &mut Turn<'_>,
    ) -> Result<Begun, Refusal> {
        let remembered = std::mem::take(&mut request.subs);
        let upgrade = match &self.stage {
            Stage::Opened(upgrade) => Arc::clone(upgrade),
            _ => return Err(Disconnect::BAD_REQUEST.into()),
        };
        request.subs =
            remembered.keys().map(|channel| (channel.clone(), SubscribeRequest::default())).collect();
        request.name.truncate(char_floor(&request.name, CLIENT_NAME_MAX));
        self.stage = Stage::Connecting(Box::new(Connecting {
            id,
            remembered,
            result: ConnectResult::default(),
            pending: 0,
            registered: false,
        }));
        self.ask_who(id, upgrade, request, turn);
        Ok(Begun::Yes)
    }

    fn ask_who(
        &mut self,
        id: u32,
        upgrade: Arc<UpgradeRequest>,
        request: ConnectRequest,
        turn: &mut Turn<'_>,
    ) {
        let (node, context, now_s) = (Arc::clone(turn.node), self.context(), turn.now.unix_s());
        self.spawn(turn, async move {
            let outcome = authenticate(&node, context, upgrade, request, now_s).await.map(Box::new);
            Answer::Authenticated { id, outcome }
        });
    }

    pub(super) fn authenticated(
        &mut self,
        id: u32,
        outcome: Result<Box<Authenticated>, Refusal>,
        turn: &mut Turn<'_>,
    ) {
        if !matches!(self.stage, Stage::Connecting(_)) {
            return;
        }
        if let Err(refusal) = outcome.and_then(|who| self.admit(*who, turn)) {
            self.refuse_connect(id, refusal, turn);
        }
    }

    /// §5.3 of the protocol, in its order.
    fn admit(&mut self, who: Authenticated, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        let wanted = self.wanted_subscriptions(&who, turn)?;
        let options = &turn.node.options().client;
        if wanted.len() > options.channel_limit {
            return Err(Disconnect::CHANNEL_LIMIT.into());
        }
        let Authenticated { grant, renewed_by_hook, .. } = who;
        let now_s = turn.now.unix_s();
        let session = self.session();
        // The limit is looked at before the expiry; registering comes after both.
        let place = Place { worker: turn.worker, slot: turn.slot };
        let registry = turn.node.registry();
        self.user = registry
            .add(self.client, &grant.user, place, options.user_connection_limit)
            .map_err(|_| Disconnect::CONNECTION_LIMIT)?;
        if let Some(session) = session {
            registry.add_session(session, self.client, place);
        }
        if let Stage::Connecting(connecting) = &mut self.stage {
            connecting.registered = true;
        }
        if grant.expire_at != 0 && grant.expire_at <= now_s {
            return Err(ErrorCode::Expired.into());
        }
        let expires = grant.expire_at > 0 && !renewed_by_hook;
        let pong = !options.pong_timeout.is_zero();
        let result = ConnectResult {
            client: self.client.to_string(),
            version: turn.node.options().version.clone(),
            expires,
            ttl: if expires { ttl(grant.expire_at, now_s) } else { 0 },
            data: grant.data,
            ping: u32::try_from(options.ping_interval.as_secs()).unwrap_or(u32::MAX),
            pong,
            time: if options.connect_include_server_time { turn.now.unix_ms } else { 0 },
            session: session.map(|session| session.to_string()).unwrap_or_default(),
            node: session.map(|_| turn.node.id().to_string()).unwrap_or_default(),
            ..Default::default()
        };
        if !grant.info.is_empty() || !grant.meta.is_empty() || grant.expire_at > 0 {
            let (info, meta, expire_at) = (grant.info, grant.meta, grant.expire_at);
            *self.identity_mut() = Identity { info, meta, expire_at, renewed_by_hook, session };
        }
        self.begin_server_side(wanted, result, turn)
    }

    fn begin_server_side(
        &mut self,
        wanted: Vec<Wanted>,
        result: ConnectResult,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let Stage::Connecting(connecting) = &mut self.stage else {
            return Ok(());
        };
        connecting.result = result;
        connecting.pending = wanted.len();
        let mut remembered = std::mem::take(&mut connecting.remembered);
        if wanted.is_empty() {
            self.connected(turn);
            return Ok(());
        }
        for Wanted { channel, grant, from_token } in wanted {
            let rules = Arc::clone(turn.node.options().channel.rules(&channel)?);
            let asked = remembered.remove(channel.as_str()).unwrap_or_default();
            let attempt = Attempt {
                wishes: Wishes::default(),
                since: asked
                    .recover
                    .then(|| StreamPosition { offset: asked.offset, epoch: asked.epoch.into() }),
                wants_delta: asked.delta == "fossil",
                ..Attempt::new(Origin::Connect)
            };
            let key = self.reserve(channel, rules, attempt);
            if let Some(sub) = self.subs.of(key) {
                sub.server_side = true;
                sub.from_token = from_token;
            }
            self.join(key, grant, false, turn)?;
        }
        Ok(())
    }

    /// One more of the connect's subscriptions has been answered by the engine.
    pub(super) fn connect_progress(&mut self, turn: &mut Turn<'_>) {
        let Stage::Connecting(connecting) = &mut self.stage else {
            return;
        };
        connecting.pending = connecting.pending.saturating_sub(1);
        if connecting.pending == 0 {
            self.connected(turn);
        }
    }

    /// Everything is there: reply first, then let the subscriptions go live.
    fn connected(&mut self, turn: &mut Turn<'_>) {
        let mut joined: Vec<(SubKey, ChannelName, SubscribeResult)> = Vec::new();
        for key in self.subs.keys() {
            match self.merge(key, turn) {
                Ok((channel, result)) => joined.push((key, channel, result)),
                Err(refusal) => {
                    let Stage::Connecting(connecting) = &self.stage else {
                        return;
                    };
                    let id = connecting.id;
                    return self.refuse_connect(id, refusal, turn);
                }
            }
        }
        let Stage::Connecting(connecting) = std::mem::replace(&mut self.stage, Stage::Connected) else {
            return;
        };
        let Connecting { id, mut result, .. } = *connecting;
        result.subs = joined.iter().map(|(_, name, result)| (name.to_string(), result.clone())).collect();
        turn.node.metrics().connects.increment();
        self.reply(Reply { id, connect: Some(Box::new(result)), ..Default::default() }, turn);
        for (key, ..) in joined {
            self.go_live(key, turn);
        }
        self.arm_tending(turn);
        self.start_timers(turn);
        self.evict_others(turn);
    }

    /// A server-side subscription of the connect failed.
    pub(super) fn connect_failed(&mut self, refusal: Refusal, turn: &mut Turn<'_>) {
        if let Stage::Connecting(connecting) = &self.stage {
            let id = connecting.id;
            self.refuse_connect(id, refusal, turn);
        }
    }

    /// A server-side subscription failed, or the connect itself: its reply is the error.
    pub(super) fn refuse_connect(&mut self, id: u32, refusal: Refusal, turn: &mut Turn<'_>) {
        if let Refusal::Error(_) = &refusal {
            for key in self.subs.keys() {
                self.abandon(key, turn);
            }
            self.refuse(id, refusal, turn);
            if let Stage::Connecting(connecting) = std::mem::replace(&mut self.stage, Stage::Unusable)
                && connecting.registered
            {
                self.unregister(turn);
            }
            self.deadlines.stage = turn.now.ms() + millis(super::close::UNUSABLE_LINGER);
        } else {
            self.refuse(id, refusal, turn);
        }
    }

    /// Sources of §17: what the credentials name, the personal channel, and what the client asks for and may have.
    fn wanted_subscriptions(&self, who: &Authenticated, turn: &Turn<'_>) -> Result<Vec<Wanted>, Refusal> {
        let options = turn.node.options();
        let mut wanted: BTreeMap<ChannelName, Wanted> = BTreeMap::new();
        let mut add = |channel: ChannelName, grant, from_token| {
            wanted.entry(channel.clone()).or_insert(Wanted { channel, grant, from_token });
        };
        for (channel, grant) in &who.grant.subs {
            options.channel.rules(channel)?;
            add(channel.clone(), grant.clone(), true);
        }
        if let Some(personal) =
            options.client.personal_channel.as_ref().filter(|_| !who.grant.user.is_empty())
        {
            let channel = options.channel.personal_channel(&personal.namespace, &who.grant.user);
            options.channel.rules(&channel)?;
            add(channel.into(), SubscribeGrant::default(), false);
        }
        let Stage::Connecting(connecting) = &self.stage else {
            return Ok(Vec::new());
        };
        for channel in connecting.remembered.keys().filter(|_| who.may_request_subs) {
            let rules = options.channel.rules(channel).map_err(|_| Disconnect::BAD_REQUEST)?;
            let user = &who.grant.user;
            if rules::may_request_in_connect(&options.channel, &options.client, channel, rules, user) {
                add(channel.as_str().into(), SubscribeGrant::default(), false);
            }
        }
        Ok(wanted.into_values().collect())
    }

    /// `single_connection`: the user's other connections, as the personal channel's presence shows them, are closed.
    fn evict_others(&mut self, turn: &mut Turn<'_>) {
        let options = turn.node.options();
        let personal = options.client.personal_channel.as_ref().filter(|personal| personal.single_connection);
        let Some(personal) = personal.filter(|_| !self.user.is_empty()) else {
            return;
        };
        let channel = options.channel.personal_channel(&personal.namespace, &self.user);
        let (node, me) = (Arc::clone(turn.node), self.client.to_string());
        let user = self.user.to_string();
        self.spawn(turn, async move {
            for other in node.presence(&channel).await.unwrap_or_default() {
                if other.client != me {
                    let target = crate::node::Target {
                        user: user.clone(),
                        client: other.client.clone(),
                        except: Vec::new(),
                    };
                    node.disconnect_soon(&target, Disconnect::CONNECTION_LIMIT);
                }
            }
            Answer::Done
        });
    }

    fn start_timers(&mut self, turn: &mut Turn<'_>) {
        let options = &turn.node.options().client;
        self.deadlines.stage = NEVER;
        self.arm_expiry(turn);
        self.arm_ping(options.ping_interval, turn);
    }
}

/// Seconds from now until `expire_at`, as clients are told.
pub(super) fn ttl(expire_at: i64, now_s: i64) -> u32 {
    (expire_at - now_s).clamp(0, TTL_SECONDS_MAX) as u32
}

/// The largest length of at most `max` bytes that does not split a character.
fn char_floor(text: &str, max: usize) -> usize {
    (0..=max.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}
