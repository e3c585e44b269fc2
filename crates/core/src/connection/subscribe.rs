//! The subscribe command, and what all ways of subscribing share: reserve, authorise, join, merge, go live.
//!
//! The order matters (§10 of the protocol): the subscriber is seated and gathers publications *before* the engine is
//! asked for history, and the reply is written *before* the first push of the channel.

use std::sync::Arc;

use bytes::Bytes;
use tidewire_engine::{Engine, History, HistoryFilter};
use tidewire_protocol::{
    ChannelName, Disconnect, Epoch, ErrorCode, Reply, Request, StreamPosition, SubscribeRequest,
    SubscribeResult,
};

use super::connect::ttl;
use super::intake::Begun;
use super::subscriptions::{Attempt, Leaving, Origin, SubStage, Subscription};
use super::{Connection, Turn};
use crate::auth::{by_subscribe_hook, by_subscription_token, engine_refusal};
use crate::delta::{self, DeltaState};
use crate::frame::Event;
use crate::hooks::{Refusal, SubscribeEvent, SubscribeGrant};
use crate::local::Subscriber;
use crate::node::Node;
use crate::options::{ChannelOptions, RecoveryMode};
use crate::recovery::{self, Buffered, Resume};
use crate::rules::{self, SubscribeRule, Wishes};
use crate::task::{Answer, Authorized, SubKey};

/// `SubscribeRequest.flag`, bit 1: answer 112 instead of `recovered: false`.
const FLAG_REJECT_UNRECOVERED: i64 = 2;

/// `SubscribeRequest.type` of a shared poll.
const TYPE_SHARED_POLL: i32 = 4;

impl Connection {
    pub(super) fn subscribe(
        &mut self,
        id: u32,
        request: Box<SubscribeRequest>,
        turn: &mut Turn<'_>,
    ) -> Result<Begun, Refusal> {
        let channel = request.channel.as_str();
        let known = self.subs.find(channel);
        if known.is_some_and(|(_, sub)| sub.is_leaving()) {
            return Ok(Begun::NotYet(Request::Subscribe(request)));
        }
        let subscribed = known.is_some();
        let rules = self.check_subscribe(&request, subscribed, turn)?;
        let attempt = Attempt {
            wishes: Wishes {
                positioned: request.positioned,
                recoverable: request.recoverable,
                join_leave: request.join_leave,
            },
            since: request
                .recover
                .then(|| StreamPosition { offset: request.offset, epoch: request.epoch.as_str().into() }),
            reject_unrecovered: request.flag & FLAG_REJECT_UNRECOVERED != 0,
            wants_delta: !request.delta.is_empty(),
            ..Attempt::new(Origin::Command(id))
        };
        self.waiting += 1;
        let key = self.reserve(channel.into(), rules, attempt);
        self.authorize(key, *request, turn);
        Ok(Begun::Yes)
    }

    /// §6 of the protocol, in its order.
    fn check_subscribe(
        &self,
        request: &SubscribeRequest,
        subscribed: bool,
        turn: &Turn<'_>,
    ) -> Result<Arc<ChannelOptions>, Refusal> {
        let options = turn.node.options();
        let channel = request.channel.as_str();
        if channel.is_empty() {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        if request.r#type == TYPE_SHARED_POLL {
            return Err(ErrorCode::NotAvailable.into());
        }
        if !matches!(request.delta.as_str(), "" | "fossil") {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        if channel.len() > options.channel.max_length {
            return Err(ErrorCode::BadRequest.into());
        }
        if subscribed {
            return Err(ErrorCode::AlreadySubscribed.into());
        }
        if self.subs.len() >= options.client.channel_limit {
            return Err(ErrorCode::LimitExceeded.into());
        }
        let rules = options.channel.client_rules(channel)?;
        if request.r#type != 0 {
            return Err(ErrorCode::PermissionDenied.into());
        }
        // No namespace of this server lets clients filter by tags yet.
        if request.tf.is_some() {
            return Err(ErrorCode::BadRequest.into());
        }
        Ok(Arc::clone(rules))
    }

    /// Takes the channel's name for an attempt, so that a second one meets "already subscribed".
    pub(super) fn reserve(
        &mut self,
        channel: ChannelName,
        rules: Arc<ChannelOptions>,
        attempt: Attempt,
    ) -> SubKey {
        let number = self.subs.next_attempt();
        self.subs.insert(Subscription {
            channel,
            attempt: number,
            stage: SubStage::Authorizing(Box::new(attempt)),
            rules,
            features: Default::default(),
            server_side: false,
            from_token: false,
            busy: false,
            delta: DeltaState::Off,
            position: StreamPosition::default(),
            expire_at: 0,
            info: Bytes::new(),
        })
    }

    /// §9.2 of the protocol.
    fn authorize(&mut self, key: SubKey, request: SubscribeRequest, turn: &mut Turn<'_>) {
        let options = turn.node.options();
        let Some(sub) = self.subs.of(key) else { return };
        let (channel, rules) = (sub.channel.clone(), Arc::clone(&sub.rules));
        let (node, client) = (Arc::clone(turn.node), self.context());
        if !request.token.is_empty() && !rules.unavailable {
            let now_s = turn.now.unix_s();
            return self.spawn(turn, async move {
                let outcome = by_subscription_token(&node, &request.token, &channel, &client, now_s).await;
                Answer::Authorized { sub: key, outcome }
            });
        }
        let has_hook = turn.node.hooks().subscribe.is_some();
        match rules::subscribe(&options.channel, &options.client, &channel, &rules, &self.user, has_hook) {
            SubscribeRule::Allowed => {
                self.authorized(key, Ok(Authorized::ByRules(SubscribeGrant::default())), turn);
            }
            SubscribeRule::Denied(code) => self.authorized(key, Err(code.into()), turn),
            SubscribeRule::AskHook { otherwise } => {
                let event = SubscribeEvent { client, channel, data: request.data };
                self.spawn(turn, async move {
                    let outcome = by_subscribe_hook(&node, event, otherwise).await;
                    Answer::Authorized { sub: key, outcome }
                });
            }
        }
    }

    pub(super) fn authorized(
        &mut self,
        key: SubKey,
        outcome: Result<Authorized, Refusal>,
        turn: &mut Turn<'_>,
    ) {
        if self.is_closed() {
            self.subs.remove(key);
            return;
        }
        let joining = outcome.and_then(|authorized| {
            let client_wishes = matches!(authorized, Authorized::ByRules(_));
            self.join(key, authorized.into_grant(), client_wishes, turn)
        });
        if let Err(refusal) = joining {
            self.fail_attempt(key, refusal, turn);
        }
    }

    /// Seats the subscriber and asks the engine for what it needs to go live.
    pub(super) fn join(
        &mut self,
        key: SubKey,
        grant: SubscribeGrant,
        client_wishes: bool,
        turn: &mut Turn<'_>,
    ) -> Result<(), Refusal> {
        let now_s = turn.now.unix_s();
        if grant.expire_at != 0 && grant.expire_at <= now_s {
            return Err(ErrorCode::Expired.into());
        }
        let Some(sub) = self.subs.of(key) else {
            return Ok(());
        };
        let channel = sub.channel.clone();
        let mut asker = self.asker(&channel, turn);
        // The "subscriber" permissions count the subscription being made.
        asker.subscribed = true;
        let Some((_, sub)) = self.subs.find(&channel) else {
            return Ok(());
        };
        let SubStage::Authorizing(attempt) = &sub.stage else {
            return Ok(());
        };
        let wishes = if client_wishes { attempt.wishes } else { Wishes::default() };
        let features = rules::features(&sub.rules, grant.overrides, wishes, asker);

        let Some(sub) = self.subs.of(key) else {
            return Ok(());
        };
        let (seat, shared_name) = turn.channels.add(&channel, Subscriber { slot: turn.slot, sub: key.index });
        sub.channel = shared_name;
        sub.features = features;
        sub.expire_at = grant.expire_at;
        sub.info = grant.info;
        let renewed_by_hook = sub.rules.sub_refresh_proxy_enabled;
        let SubStage::Authorizing(mut attempt) =
            std::mem::replace(&mut sub.stage, SubStage::LeavingWhenIdle(Leaving::silent()))
        else {
            return Ok(());
        };
        attempt.data = grant.data;
        attempt.expires_in = (grant.expire_at > 0 && !renewed_by_hook).then(|| ttl(grant.expire_at, now_s));
        attempt.resume = resume(&sub.rules, features.recoverable, attempt.since.take());
        if attempt.wants_delta && sub.rules.allow_fossil_delta && features.positioned {
            sub.delta = DeltaState::NoBase;
        }
        sub.busy = true;
        let question = Question::of(sub, &attempt.resume, turn);
        sub.stage = SubStage::Joining { seat, attempt, gathered: Vec::new(), gathered_bytes: 0 };
        let presence = features.presence.then(|| {
            let (_, sub) = self.subs.find(&channel)?;
            Some(Arc::new(self.client_info(Some(sub))))
        });
        let (node, worker) = (Arc::clone(turn.node), turn.worker);
        let released_at = turn.now.ms();
        self.spawn(turn, async move {
            let mut outcome =
                node.hub().acquire(worker, &channel).await.map_err(|error| engine_refusal(&error));
            if outcome.is_ok() {
                match question.ask(&node, &channel, presence.flatten()).await {
                    Ok(history) => {
                        return Answer::Joined { sub: key, outcome: Ok(history) };
                    }
                    Err(refusal) => {
                        node.hub().release(worker, &channel, released_at);
                        outcome = Err(refusal);
                    }
                }
            }
            Answer::Joined { sub: key, outcome: outcome.map(|()| None) }
        });
        Ok(())
    }

    pub(super) fn joined(
        &mut self,
        key: SubKey,
        outcome: Result<Option<History>, Refusal>,
        turn: &mut Turn<'_>,
    ) {
        let Some(sub) = self.subs.of(key) else { return };
        sub.busy = false;
        match (outcome, &mut sub.stage) {
            (Ok(history), SubStage::Joining { attempt, .. }) => {
                attempt.history = history;

                match &attempt.origin {
                    Origin::Connect => self.connect_progress(turn),
                    Origin::Command(id) => {
                        let id = *id;
                        self.finish_command(key, id, turn);
                    }
                    Origin::Api(_) => self.finish_api(key, turn),
                }
            }
            // Given up meanwhile: what the engine was told is taken back.
            (Ok(_), _) => self.leave_now(key, turn),
            (Err(refusal), SubStage::Joining { .. }) => self.fail_attempt(key, refusal, turn),
            (Err(_), _) => drop(self.forget(key, turn)),
        }
    }

    fn finish_command(&mut self, key: SubKey, id: u32, turn: &mut Turn<'_>) {
        match self.merge(key, turn) {
            Ok((_, result)) => {
                self.answered(
                    id,
                    Ok(Reply { subscribe: Some(Box::new(result)), ..Default::default() }),
                    turn,
                );
                self.go_live(key, turn);
                self.arm_tending(turn);
            }
            Err(refusal) => {
                self.abandon(key, turn);
                self.answered(id, Err(refusal), turn);
            }
        }
    }

    /// Joins what the engine said with what has gathered, and sets the position. The subscription keeps gathering
    /// until it goes live.
    pub(super) fn merge(
        &mut self,
        key: SubKey,
        turn: &Turn<'_>,
    ) -> Result<(ChannelName, SubscribeResult), Refusal> {
        let Some(sub) = self.subs.of(key) else {
            return Err(Disconnect::SERVER_ERROR.into());
        };
        let SubStage::Joining { attempt, gathered, .. } = &mut sub.stage else {
            return Err(Disconnect::SERVER_ERROR.into());
        };
        let mut result = SubscribeResult {
            expires: attempt.expires_in.is_some(),
            ttl: attempt.expires_in.unwrap_or(0),
            data: attempt.data.clone(),
            ..Default::default()
        };
        if attempt.overflowed && sub.features.positioned {
            return Err(Disconnect::INSUFFICIENT_STATE.into());
        }
        let Some(history) = attempt.history.take() else {
            return Ok((sub.channel.clone(), result));
        };
        let buffered: Vec<Buffered> = gathered
            .iter()
            .filter_map(|broadcast| match &broadcast.event {
                Event::Publication(publication) => {
                    let (publication, epoch) = (Arc::clone(publication), broadcast.epoch.clone());
                    Some(Buffered { publication, epoch })
                }
                Event::Join(_) | Event::Leave(_) => None,
            })
            .collect();
        let joined = recovery::join(&attempt.resume, history, &buffered)
            .map_err(|_| Disconnect::INSUFFICIENT_STATE)?;
        // What was merged is covered by the position; only unnumbered publications are still to be delivered.
        gathered.retain(|broadcast| broadcast.offset() == 0);

        let recovering = !matches!(attempt.resume, Resume::No);
        if recovering {
            let metrics = turn.node.metrics();
            if joined.recovered { &metrics.recovered } else { &metrics.unrecovered }.increment();
        }
        let stream_mode = matches!(attempt.resume, Resume::Stream(_));
        if attempt.reject_unrecovered && stream_mode && !joined.recovered {
            return Err(ErrorCode::UnrecoverablePosition.into());
        }
        result.positioned = sub.features.positioned;
        result.recoverable = sub.features.recoverable;
        result.epoch = joined.position.epoch.as_str().to_owned();
        result.was_recovering = recovering;
        result.recovered = joined.recovered;
        result.offset = match &attempt.resume {
            Resume::Stream(since) | Resume::Cache(since) if joined.recovered => since.offset,
            _ => joined.position.offset,
        };
        result.delta = sub.delta != DeltaState::Off;
        result.publications = joined.publications.iter().map(|publication| (**publication).clone()).collect();
        if result.delta && !result.publications.is_empty() {
            result.publications = delta::chain(self.wire.encoding, std::mem::take(&mut result.publications))
                .ok_or(Disconnect::INAPPROPRIATE_PROTOCOL)?;
            // Only what is sent now is a base for sure: a client may come with a position and nothing else.
            sub.delta = DeltaState::HasBase;
        }
        sub.position = joined.position;
        if sub.features.positioned {
            let meta_ttl = sub.rules.history.map(|history| history.meta_ttl).unwrap_or_default();
            turn.node.hub().follow(&sub.channel, &sub.position, meta_ttl);
        }
        Ok((sub.channel.clone(), result))
    }

    /// Lets live publications flow. The reply has been written.
    pub(super) fn go_live(&mut self, key: SubKey, turn: &mut Turn<'_>) {
        let Some(sub) = self.subs.of(key) else { return };
        let stage = std::mem::replace(&mut sub.stage, SubStage::LeavingWhenIdle(Leaving::silent()));
        let SubStage::Joining { seat, gathered, attempt, .. } = stage else {
            sub.stage = stage;
            return;
        };
        sub.stage = SubStage::Live { seat };
        turn.node.metrics().subscribes.increment();
        if !gathered.is_empty() {
            self.flush(turn);
            // What has a position was merged, so nothing here is judged by it.
            for broadcast in gathered {
                self.deliver(key.index, &broadcast, false, turn.node.metrics());
            }
        }
        self.announce_join(key, turn);
        if let Some(why) = attempt.taken_away {
            self.take_away(key, &why, turn);
        }
    }

    fn announce_join(&mut self, key: SubKey, turn: &mut Turn<'_>) {
        let Some((_, sub)) = self.subs.iter().find(|(other, _)| *other == key) else {
            return;
        };
        if !sub.features.emit_join_leave || self.is_closed() {
            return;
        }
        let info = Arc::new(self.client_info(Some(sub)));
        let (engine, channel) = (Arc::clone(turn.node.engine()), sub.channel.clone());
        if let Some(sub) = self.subs.of(key) {
            sub.busy = true;
        }
        self.spawn(turn, async move {
            if let Err(error) = engine.publish_join(&channel, info).await {
                tracing::warn!(%error, "join could not be announced");
            }
            Answer::Tended { sub: key }
        });
    }

    /// An attempt that came to nothing.
    fn fail_attempt(&mut self, key: SubKey, refusal: Refusal, turn: &mut Turn<'_>) {
        let Some(sub) = self.forget(key, turn) else { return };
        let (SubStage::Authorizing(attempt) | SubStage::Joining { attempt, .. }) = sub.stage else {
            return;
        };
        match attempt.origin {
            Origin::Command(id) => self.answered(id, Err(refusal), turn),
            Origin::Connect => self.connect_failed(refusal, turn),
            Origin::Api(_) => self.api_failed(refusal, turn),
        }
    }

    /// Takes a subscription out that the engine does not know.
    fn forget(&mut self, key: SubKey, turn: &mut Turn<'_>) -> Option<Subscription> {
        let sub = self.subs.remove(key)?;
        if let SubStage::Joining { seat, .. } | SubStage::Live { seat } = sub.stage {
            turn.channels.remove(seat);
        }
        Some(sub)
    }
}

// === impl Attempt ===

impl Attempt {
    pub(super) fn new(origin: Origin) -> Self {
        Self {
            origin,
            wishes: Wishes::default(),
            since: None,
            resume: Resume::No,
            reject_unrecovered: false,
            wants_delta: false,
            data: Bytes::new(),
            expires_in: None,
            history: None,
            overflowed: false,
            taken_away: None,
        }
    }
}

/// How a subscription begins, by the rules and by what the client has.
fn resume(rules: &ChannelOptions, recoverable: bool, since: Option<StreamPosition>) -> Resume {
    match (rules.recovery_mode, since) {
        _ if !recoverable => Resume::No,
        (RecoveryMode::Stream, Some(since)) => Resume::Stream(since),
        (RecoveryMode::Cache, Some(since)) => Resume::Cache(since),
        (RecoveryMode::Cache, None) if rules.auto_cache_recover => {
            Resume::Cache(StreamPosition { offset: 0, epoch: Epoch::default() })
        }
        (_, None) => Resume::No,
    }
}

/// What the engine is asked for a subscription.
struct Question {
    /// `None` if the subscription has no position.
    filter: Option<HistoryFilter>,
    meta_ttl: std::time::Duration,
    presence_ttl: std::time::Duration,
}

impl Question {
    fn of(sub: &Subscription, resume: &Resume, turn: &Turn<'_>) -> Self {
        let options = &turn.node.options().client;
        let limit = Some(options.recovery_max_publication_limit).filter(|limit| *limit > 0);
        let filter = match resume {
            Resume::Stream(since) => HistoryFilter { since: Some(since.offset), limit, reverse: false },
            Resume::Cache(_) => HistoryFilter { since: None, limit: Some(1), reverse: true },
            Resume::No => HistoryFilter { since: None, limit: Some(0), reverse: false },
        };
        Self {
            filter: sub.features.positioned.then_some(filter),
            meta_ttl: sub.rules.history.map(|history| history.meta_ttl).unwrap_or_default(),
            presence_ttl: options.presence_ttl,
        }
    }

    /// Presence first, then history; a failure leaves no presence behind.
    async fn ask(
        self,
        node: &Node,
        channel: &ChannelName,
        presence: Option<Arc<tidewire_protocol::ClientInfo>>,
    ) -> Result<Option<History>, Refusal> {
        let engine: &Arc<dyn Engine> = node.engine();
        if let Some(info) = &presence {
            let added = engine.presence_add(channel, Arc::clone(info), self.presence_ttl).await;
            if let Err(error) = added {
                engine.presence_forget(channel, &info.client);
                return Err(engine_refusal(&error));
            }
        }
        let Some(filter) = self.filter else {
            return Ok(None);
        };
        match engine.history(channel, filter, self.meta_ttl).await {
            Ok(history) => Ok(Some(history)),
            Err(error) => {
                if let Some(info) = presence
                    && let Err(error) = engine.presence_remove(channel, &info.client).await
                {
                    tracing::warn!(%error, "presence stays until it runs out");
                }
                Err(engine_refusal(&error))
            }
        }
    }
}
