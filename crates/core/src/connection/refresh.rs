//! Renewing what expires: the connection and its subscriptions, by the client or by a hook.

use std::sync::Arc;

use tidewire_protocol::{
    Disconnect, ErrorCode, RefreshResult, Reply, SubRefreshRequest, SubRefreshResult, Unsubscribed,
};

use super::connect::ttl;
use super::intake::Begun;
use super::{Connection, Turn};
use crate::auth::{is_for, keys_unavailable};
use crate::hooks::{ConnectionClaims, RefreshGrant, Refusal, SubscriptionClaims, TokenError};
use crate::task::{Answer, SubKey};
use crate::time::millis;

// === The connection ===

impl Connection {
    pub(super) fn refresh(&mut self, id: u32, token: String, turn: &mut Turn<'_>) -> Result<Begun, Refusal> {
        let by_hook = self.identity.as_ref().is_some_and(|identity| identity.renewed_by_hook);
        if token.is_empty() || by_hook {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        if turn.node.options().client.refresh_proxy_missing {
            return Err(ErrorCode::NotAvailable.into());
        }
        let (node, now_s) = (Arc::clone(turn.node), turn.now.unix_s());
        self.waiting += 1;
        self.spawn(turn, async move {
            let outcome = node.tokens().connection(&token, now_s).await;
            Answer::Refreshed { id, outcome }
        });
        Ok(Begun::Yes)
    }

    pub(super) fn refreshed(
        &mut self,
        id: u32,
        outcome: Result<ConnectionClaims, TokenError>,
        turn: &mut Turn<'_>,
    ) {
        let outcome = self
            .take_new_claims(outcome, turn)
            .map(|result| Reply { refresh: Some(Box::new(result)), ..Default::default() });
        self.answered(id, outcome, turn);
    }

    fn take_new_claims(
        &mut self,
        outcome: Result<ConnectionClaims, TokenError>,
        turn: &mut Turn<'_>,
    ) -> Result<RefreshResult, Refusal> {
        let claims = outcome.map_err(|error| match error {
            TokenError::Expired => Disconnect::EXPIRED.into(),
            TokenError::Invalid(why) => {
                tracing::info!(client = %self.client, why, "refresh refused: invalid token");
                Disconnect::INVALID_TOKEN.into()
            }
            TokenError::Unavailable(why) => keys_unavailable(&why),
        })?;
        let now_s = turn.now.unix_s();
        if claims.user != *self.user {
            return Err(Disconnect::INVALID_TOKEN.into());
        }
        if claims.expire_at != 0 && claims.expire_at <= now_s {
            return Err(ErrorCode::Expired.into());
        }
        if self.names_other_channels(&claims) {
            // Reconnecting with the new token brings the new set.
            return Err(Disconnect::INSUFFICIENT_STATE.into());
        }
        let identity = self.identity_mut();
        identity.expire_at = claims.expire_at;
        if !claims.info.is_empty() {
            identity.info = claims.info;
        }
        self.arm_expiry(turn);
        let expires = claims.expire_at > 0;
        Ok(RefreshResult {
            client: self.client.to_string(),
            version: turn.node.options().version.clone(),
            expires,
            ttl: if expires { ttl(claims.expire_at, now_s) } else { 0 },
        })
    }

    /// Whether the token names a channel that is not subscribed, or misses one that an earlier token brought.
    fn names_other_channels(&self, claims: &ConnectionClaims) -> bool {
        let named = |channel: &str| claims.subs.iter().any(|(name, _)| **name == *channel);
        claims.subs.iter().any(|(name, _)| !self.subs.is_live(name))
            || self.subs.iter().any(|(_, sub)| sub.from_token && !named(&sub.channel))
    }

    /// The refresh hook has answered.
    pub(super) fn renewed(&mut self, outcome: Result<RefreshGrant, Refusal>, turn: &mut Turn<'_>) {
        if self.is_closed() {
            return;
        }
        match outcome {
            Ok(grant) if is_renewed(&grant, turn.now.unix_s()) => {
                let identity = self.identity_mut();
                identity.expire_at = grant.expire_at;
                if !grant.info.is_empty() {
                    identity.info = grant.info;
                }
                self.arm_expiry(turn);
            }
            Ok(_) => self.close(Disconnect::EXPIRED, turn),
            Err(_) => {
                tracing::warn!(client = %self.client, "the refresh hook failed, it is asked again in a minute");
                self.deadlines.stage = turn.now.ms() + millis(super::timers::RETRY);
            }
        }
    }
}

fn is_renewed(grant: &RefreshGrant, now_s: i64) -> bool {
    !grant.expired && (grant.expire_at == 0 || grant.expire_at > now_s)
}

// === A subscription ===

impl Connection {
    pub(super) fn sub_refresh(
        &mut self,
        id: u32,
        request: SubRefreshRequest,
        turn: &mut Turn<'_>,
    ) -> Result<Begun, Refusal> {
        let SubRefreshRequest { channel, token, r#type, .. } = request;
        if r#type != 0 {
            return Err(ErrorCode::NotAvailable.into()); // tracking keys of a shared poll
        }
        if channel.is_empty() && token.is_empty() {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        let (node, now_s) = (Arc::clone(turn.node), turn.now.unix_s());
        if channel.is_empty() {
            // One SDK leaves the channel out; the token names it.
            self.waiting += 1;
            let nobody = SubKey { index: u32::MAX, attempt: 0 };
            self.spawn(turn, async move {
                let outcome = node.tokens().subscription(&token, now_s).await;
                Answer::SubRefreshed { id, sub: nobody, outcome }
            });
            return Ok(Begun::Yes);
        }
        let Some((key, sub)) = self.subs.find(&channel).filter(|(_, sub)| sub.is_live()) else {
            return Err(ErrorCode::PermissionDenied.into());
        };
        if sub.rules.sub_refresh_proxy_enabled {
            return Err(Disconnect::BAD_REQUEST.into());
        }
        if token.is_empty() {
            return Err(ErrorCode::BadRequest.into());
        }
        self.waiting += 1;
        self.spawn(turn, async move {
            let outcome = node.tokens().subscription(&token, now_s).await;
            Answer::SubRefreshed { id, sub: key, outcome }
        });
        Ok(Begun::Yes)
    }

    pub(super) fn sub_refreshed(
        &mut self,
        id: u32,
        key: SubKey,
        outcome: Result<SubscriptionClaims, TokenError>,
        turn: &mut Turn<'_>,
    ) {
        let outcome = self
            .take_new_grant(key, outcome, turn)
            .map(|result| Reply { sub_refresh: Some(Box::new(result)), ..Default::default() });
        self.answered(id, outcome, turn);
    }

    fn take_new_grant(
        &mut self,
        key: SubKey,
        outcome: Result<SubscriptionClaims, TokenError>,
        turn: &Turn<'_>,
    ) -> Result<SubRefreshResult, Refusal> {
        let claims = outcome.map_err(|error| match error {
            TokenError::Expired => ErrorCode::Expired.into(),
            TokenError::Invalid(why) => {
                tracing::info!(client = %self.client, why, "sub refresh refused: invalid token");
                Disconnect::INVALID_TOKEN.into()
            }
            TokenError::Unavailable(why) => keys_unavailable(&why),
        })?;
        let client = self.client.to_string();
        let user = Arc::clone(&self.user);
        let now_s = turn.now.unix_s();
        let named = self.subs.find(&claims.channel).map(|(key, _)| key);
        let key = if key.index == u32::MAX { named.ok_or(ErrorCode::PermissionDenied)? } else { key };
        let Some(sub) = self.subs.of(key).filter(|sub| sub.is_live()) else {
            return Err(ErrorCode::PermissionDenied.into());
        };
        if !is_for(&claims, &sub.channel, &user, &client) {
            return Err(Disconnect::INVALID_TOKEN.into());
        }
        let expire_at = claims.grant.expire_at;
        if expire_at != 0 && expire_at <= now_s {
            return Err(ErrorCode::Expired.into());
        }
        sub.expire_at = expire_at;
        if !claims.grant.info.is_empty() {
            sub.info = claims.grant.info;
        }
        let expires = expire_at > 0;
        let ttl = if expires { ttl(expire_at, now_s) } else { 0 };
        Ok(SubRefreshResult { expires, ttl, items: Vec::new() })
    }

    /// The sub-refresh hook has answered.
    pub(super) fn sub_renewed(
        &mut self,
        key: SubKey,
        outcome: Result<RefreshGrant, Refusal>,
        turn: &mut Turn<'_>,
    ) {
        if !self.idle_again(key, turn) {
            return;
        }
        let now_s = turn.now.unix_s();
        let Some(sub) = self.subs.of(key) else { return };
        match outcome {
            Ok(grant) if is_renewed(&grant, now_s) => {
                sub.expire_at = grant.expire_at;
                if !grant.info.is_empty() {
                    sub.info = grant.info;
                }
            }
            Ok(_) => {
                self.end_subscription(key, Unsubscribed::EXPIRED, Disconnect::SUBSCRIPTION_EXPIRED, turn);
            }
            Err(_) => {
                tracing::warn!(client = %self.client, "the sub-refresh hook failed, it is asked again in a minute");
                sub.expire_at = now_s + i64::try_from(super::timers::RETRY.as_secs()).unwrap_or(60);
            }
        }
    }
}
