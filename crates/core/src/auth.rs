//! Who a connection is and whether a subscription with a token is good: what must be asked before the rules apply.

use std::sync::Arc;

use tidewire_engine::EngineError;
use tidewire_protocol::{ChannelName, ConnectRequest, Disconnect, ErrorCode};

use crate::hooks::{
    ClientContext, ConnectEvent, ConnectGrant, Refusal, SubscribeEvent, SubscriptionClaims, TokenError,
    UpgradeRequest,
};
use crate::node::Node;
use crate::task::Authorized;

/// Who a connection is, and how we know.
#[derive(Debug)]
pub(crate) struct Authenticated {
    pub(crate) grant: ConnectGrant,
    /// The refresh hook renews the connection, not the client.
    pub(crate) renewed_by_hook: bool,
    /// The client may name server-side subscriptions in its connect command.
    pub(crate) may_request_subs: bool,
}

/// §5.2 of the protocol: token, connect hook, anonymous, header, in this order.
pub(crate) async fn authenticate(
    node: &Node,
    client: ClientContext,
    upgrade: Arc<UpgradeRequest>,
    request: ConnectRequest,
    now_unix_s: i64,
) -> Result<Authenticated, Refusal> {
    let options = &node.options().client;
    if !request.token.is_empty() {
        return by_token(node, &request.token, now_unix_s).await;
    }
    let id = client.client.clone();
    if let Some(hook) = &node.hooks().connect {
        let channels = request.subs.into_keys().collect();
        let ConnectRequest { name, version, data, .. } = request;
        let event = ConnectEvent { client, request: Arc::clone(&upgrade), name, version, data, channels };
        if let Some(grant) = hook(event).await? {
            return Ok(Authenticated { grant, renewed_by_hook: true, may_request_subs: false });
        }
    } else if options.connect_proxy_missing {
        return Err(ErrorCode::NotAvailable.into());
    }
    if options.allow_anonymous_connect_without_token || options.insecure {
        return Ok(Authenticated {
            grant: ConnectGrant::default(),
            renewed_by_hook: false,
            may_request_subs: true,
        });
    }
    let named = options.user_id_http_header.as_ref().and_then(|header| upgrade.headers.get(header));
    if let Some(user) = named.and_then(|value| value.to_str().ok()).filter(|user| !user.is_empty()) {
        let grant = ConnectGrant { user: user.to_owned(), ..Default::default() };
        return Ok(Authenticated { grant, renewed_by_hook: false, may_request_subs: false });
    }
    tracing::info!(client = id, "connect refused: credentials not found");
    Err(Disconnect::BAD_REQUEST.into())
}

async fn by_token(node: &Node, token: &str, now_unix_s: i64) -> Result<Authenticated, Refusal> {
    let options = &node.options().client;
    let claims = node.tokens().connection(token, now_unix_s).await.map_err(|error| match error {
        TokenError::Expired => ErrorCode::TokenExpired.into(),
        TokenError::Invalid(why) => {
            tracing::info!(why, "connect refused: invalid token");
            Disconnect::INVALID_TOKEN.into()
        }
        TokenError::Unavailable(why) => keys_unavailable(&why),
    })?;
    for (channel, _) in &claims.subs {
        node.options().channel.rules(channel)?;
    }
    if claims.user.is_empty() && options.disallow_anonymous_connection_tokens {
        return Err(Disconnect::PERMISSION_DENIED.into());
    }
    let grant = ConnectGrant {
        user: claims.user,
        expire_at: if options.insecure { 0 } else { claims.expire_at },
        info: claims.info,
        meta: claims.meta,
        subs: claims.subs,
        ..Default::default()
    };
    Ok(Authenticated { grant, renewed_by_hook: false, may_request_subs: true })
}

/// A subscription token for `channel`, held by the user and client of this connection.
pub(crate) async fn by_subscription_token(
    node: &Node,
    token: &str,
    channel: &ChannelName,
    client: &ClientContext,
    now_unix_s: i64,
) -> Result<Authorized, Refusal> {
    let claims = node.tokens().subscription(token, now_unix_s).await.map_err(|error| match error {
        TokenError::Expired => ErrorCode::TokenExpired.into(),
        TokenError::Invalid(why) => {
            tracing::info!(why, "subscribe refused: invalid token");
            ErrorCode::PermissionDenied.into()
        }
        TokenError::Unavailable(why) => keys_unavailable(&why),
    })?;
    if !is_for(&claims, channel, &client.user, &client.client) {
        return Err(Disconnect::INVALID_TOKEN.into());
    }
    Ok(Authorized::ByRules(claims.grant))
}

/// Whether a token is about this subscription.
pub(crate) fn is_for(claims: &SubscriptionClaims, channel: &str, user: &str, client: &str) -> bool {
    claims.channel == channel && claims.user == user && (claims.client.is_empty() || claims.client == client)
}

/// The subscribe hook's word, or `otherwise` where it has none.
pub(crate) async fn by_subscribe_hook(
    node: &Node,
    event: SubscribeEvent,
    otherwise: Option<ErrorCode>,
) -> Result<Authorized, Refusal> {
    let Some(hook) = &node.hooks().subscribe else {
        return Err(ErrorCode::NotAvailable.into());
    };
    match (hook(event).await?, otherwise) {
        (Some(grant), _) => Ok(Authorized::ByHook(grant)),
        (None, None) => Ok(Authorized::ByRules(Default::default())),
        (None, Some(code)) => Err(code.into()),
    }
}

/// Nobody can say whether the token is good: the client may try again.
pub(crate) fn keys_unavailable(why: &str) -> Refusal {
    tracing::warn!(why, "token keys are unavailable, the client is asked to retry");
    ErrorCode::Internal.into()
}

/// The one table from engine errors to what a client is told.
pub(crate) fn engine_refusal(error: &EngineError) -> Refusal {
    match error {
        EngineError::Unavailable(why) => {
            tracing::warn!(why, "engine unavailable");
            ErrorCode::Internal.into()
        }
        EngineError::UnrecoverablePosition => ErrorCode::UnrecoverablePosition.into(),
        EngineError::Unsupported => ErrorCode::NotAvailable.into(),
    }
}
