//! What a channel's name says and what its rules allow. Pure.

use std::sync::Arc;

use tidewire_engine::HistoryRetention;
use tidewire_protocol::{ErrorCode, payload};

use crate::hooks::Overrides;
use crate::options::{ChannelNamespaces, ChannelOptions, ClientOptions, DataFormat};

/// The parts of a channel name that rules look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Parts<'a> {
    private: bool,
    namespace: Option<&'a str>,
    /// What follows the namespace.
    rest: &'a str,
}

impl ChannelNamespaces {
    fn parts<'a>(&self, channel: &'a str) -> Parts<'a> {
        let prefix = self.private_prefix.as_str();
        let private = !prefix.is_empty() && channel.starts_with(prefix);
        let name = if private { &channel[prefix.len()..] } else { channel };
        let boundary = self.namespace_boundary.as_str();
        match name.split_once(boundary) {
            Some((namespace, rest)) if !boundary.is_empty() && !namespace.is_empty() => {
                Parts { private, namespace: Some(namespace), rest }
            }
            _ => Parts { private, namespace: None, rest: name },
        }
    }

    /// The rules of a channel.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownChannel`] if its namespace is not configured.
    pub fn rules(&self, channel: &str) -> Result<&Arc<ChannelOptions>, ErrorCode> {
        match self.parts(channel).namespace {
            None => Ok(&self.without_namespace),
            Some(namespace) => self.namespaces.get(namespace).ok_or(ErrorCode::UnknownChannel),
        }
    }

    /// The rules of a channel that a client names, whose name must be one that clients may use.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownChannel`] for an unknown namespace, [`ErrorCode::BadRequest`] for a name that is not allowed.
    pub(crate) fn client_rules(&self, channel: &str) -> Result<&Arc<ChannelOptions>, ErrorCode> {
        if channel.len() > self.max_length {
            return Err(ErrorCode::BadRequest);
        }
        let rules = self.rules(channel)?;
        let lawful = match &rules.channel_regex {
            Some(regex) => regex.is_match(self.parts(channel).rest),
            None => channel.is_ascii(),
        };
        // Control characters forge log lines and mean something to brokers: no expression can allow them.
        let clean = !channel.chars().any(char::is_control);
        if lawful && clean { Ok(rules) } else { Err(ErrorCode::BadRequest) }
    }

    /// Whether the channel may only be had with a subscription token.
    pub(crate) fn is_private(&self, channel: &str) -> bool {
        self.parts(channel).private
    }

    /// The users the name lists, or `None` if it lists none.
    fn listed_users<'a>(&self, channel: &'a str) -> Option<&'a str> {
        let boundary = self.user_boundary.as_str();
        if boundary.is_empty() {
            return None;
        }
        channel.rsplit_once(boundary).map(|(_, users)| users)
    }

    fn lists_user(&self, users: &str, user: &str) -> bool {
        if user.is_empty() {
            return false;
        }
        match self.user_separator.as_str() {
            "" => users == user,
            separator => users.split(separator).any(|listed| listed == user),
        }
    }

    /// The personal channel of a user.
    pub(crate) fn personal_channel(&self, namespace: &str, user: &str) -> String {
        let boundary = if namespace.is_empty() { "" } else { &self.namespace_boundary };
        format!("{namespace}{boundary}{}{user}", self.user_boundary)
    }
}

/// Who decides about a subscribe without a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SubscribeRule {
    Allowed,
    /// The hook decides; if it has no opinion, `otherwise` holds.
    AskHook {
        otherwise: Option<ErrorCode>,
    },
    Denied(ErrorCode),
}

/// §9.2 of the protocol, the first rule that matches, for a subscribe without a token.
pub(crate) fn subscribe(
    channels: &ChannelNamespaces,
    client: &ClientOptions,
    channel: &str,
    rules: &ChannelOptions,
    user: &str,
    has_hook: bool,
) -> SubscribeRule {
    if channels.is_private(channel) {
        return SubscribeRule::Denied(ErrorCode::PermissionDenied);
    }
    if rules.unavailable {
        return SubscribeRule::Denied(ErrorCode::NotAvailable);
    }
    let listed = rules.allow_user_limited_channels.then(|| channels.listed_users(channel)).flatten();
    if let Some(users) = listed {
        let allowed = channels.lists_user(users, user) || client.insecure;
        return if allowed {
            SubscribeRule::Allowed
        } else {
            SubscribeRule::Denied(ErrorCode::PermissionDenied)
        };
    }
    let by_rules = client.insecure
        || rules.allow_subscribe_for_client && (!user.is_empty() || rules.allow_subscribe_for_anonymous);
    let denied = (!by_rules).then_some(ErrorCode::PermissionDenied);
    match (rules.subscribe_proxy_enabled, has_hook) {
        (true, false) => SubscribeRule::Denied(ErrorCode::NotAvailable),
        // Where the hook was named as the one who decides, its silence is no permission.
        (true, true) => SubscribeRule::AskHook { otherwise: Some(ErrorCode::PermissionDenied) },
        (false, true) => SubscribeRule::AskHook { otherwise: denied },
        (false, false) => denied.map_or(SubscribeRule::Allowed, SubscribeRule::Denied),
    }
}

/// Whether a user could subscribe to a channel that his connect command names as a server-side subscription (§17).
pub(crate) fn may_request_in_connect(
    channels: &ChannelNamespaces,
    client: &ClientOptions,
    channel: &str,
    rules: &ChannelOptions,
    user: &str,
) -> bool {
    !rules.subscribe_proxy_enabled
        && channels.client_rules(channel).is_ok()
        && subscribe(channels, client, channel, rules, user, false) == SubscribeRule::Allowed
}

/// Who asks for a channel operation, as far as the rules care.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) user: &'a str,
    pub(crate) subscribed: bool,
    pub(crate) insecure: bool,
}

impl Asker<'_> {
    fn passes(self, for_client: bool, for_subscriber: bool, for_anonymous: bool) -> bool {
        let known = !self.user.is_empty() || for_anonymous;
        self.insecure || known && (for_client || for_subscriber && self.subscribed)
    }
}

/// Who decides about a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PublishRule {
    Allowed,
    AskHook { otherwise: Option<ErrorCode> },
    Denied(ErrorCode),
}

/// §9.3 of the protocol for publish.
pub(crate) fn publish(rules: &ChannelOptions, asker: Asker<'_>, has_hook: bool) -> PublishRule {
    if rules.unavailable {
        return PublishRule::Denied(ErrorCode::NotAvailable);
    }
    let by_rules = asker.passes(
        rules.allow_publish_for_client,
        rules.allow_publish_for_subscriber,
        rules.allow_publish_for_anonymous,
    );
    let denied = (!by_rules).then_some(ErrorCode::PermissionDenied);
    match (rules.publish_proxy_enabled, has_hook) {
        (true, false) => PublishRule::Denied(ErrorCode::NotAvailable),
        (true, true) => PublishRule::AskHook { otherwise: Some(ErrorCode::PermissionDenied) },
        (false, true) => PublishRule::AskHook { otherwise: denied },
        (false, false) => denied.map_or(PublishRule::Allowed, PublishRule::Denied),
    }
}

/// §9.3 of the protocol for history; the retention the history has, if it may be read.
pub(crate) fn history(rules: &ChannelOptions, asker: Asker<'_>) -> Result<HistoryRetention, ErrorCode> {
    let retention = rules.history.ok_or(ErrorCode::NotAvailable)?;
    let allowed = asker.passes(
        rules.allow_history_for_client,
        rules.allow_history_for_subscriber,
        rules.allow_history_for_anonymous,
    );
    if allowed { Ok(retention) } else { Err(ErrorCode::PermissionDenied) }
}

/// §9.3 of the protocol for presence and presence stats.
pub(crate) fn presence(rules: &ChannelOptions, asker: Asker<'_>) -> Result<(), ErrorCode> {
    if !rules.presence {
        return Err(ErrorCode::NotAvailable);
    }
    let allowed = asker.passes(
        rules.allow_presence_for_client,
        rules.allow_presence_for_subscriber,
        rules.allow_presence_for_anonymous,
    );
    if allowed { Ok(()) } else { Err(ErrorCode::PermissionDenied) }
}

/// Whether a payload is what the channel wants.
pub(crate) fn data_fits(format: DataFormat, data: &[u8]) -> bool {
    match format {
        DataFormat::NotEmpty => !data.is_empty(),
        DataFormat::Json => payload::is_json(data),
        DataFormat::JsonObject => payload::is_json_object(data),
        DataFormat::Binary => true,
    }
}

/// What a client asked for beyond being subscribed.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wishes {
    pub(crate) positioned: bool,
    pub(crate) recoverable: bool,
    pub(crate) join_leave: bool,
}

/// What a subscription does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Features {
    /// Offsets are watched for gaps.
    pub(crate) positioned: bool,
    /// The client may come back with a position. Always also positioned.
    pub(crate) recoverable: bool,
    /// The subscriber is in the presence set.
    pub(crate) presence: bool,
    /// Its coming and going is announced.
    pub(crate) emit_join_leave: bool,
    /// It is told about others' coming and going.
    pub(crate) push_join_leave: bool,
}

/// Grants what the rules force and, of what the client wishes, what they allow. Without history nothing is positioned.
pub(crate) fn features(
    rules: &ChannelOptions,
    overrides: Overrides,
    wishes: Wishes,
    asker: Asker<'_>,
) -> Features {
    let may_read_history = history(rules, asker).is_ok();
    let emit_join_leave = overrides.join_leave.unwrap_or(rules.join_leave);
    let presence_on = overrides.presence.unwrap_or(rules.presence);
    let forced_recovery = overrides.force_recovery.unwrap_or(rules.force_recovery);
    let forced_positioning = overrides.force_positioning.unwrap_or(rules.force_positioning);
    let has_stream = rules.history.is_some();
    let recoverable =
        has_stream && (forced_recovery || wishes.recoverable && (rules.allow_recovery || may_read_history));
    let positioned = recoverable
        || has_stream
            && (forced_positioning || wishes.positioned && (rules.allow_positioning || may_read_history));
    let forced_push = overrides.force_push_join_leave.unwrap_or(rules.force_push_join_leave);
    let wished_push = wishes.join_leave && emit_join_leave && presence(rules, asker).is_ok();
    Features {
        positioned,
        recoverable,
        presence: presence_on,
        emit_join_leave,
        push_join_leave: forced_push || wished_push,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn namespaces() -> ChannelNamespaces {
        let mut namespaces = ChannelNamespaces::default();
        namespaces.namespaces.insert("chat".into(), Arc::new(ChannelOptions::default()));
        let regex = Some(regex::Regex::new("^[a-zé]+$").unwrap());
        let rules = ChannelOptions { channel_regex: regex, ..Default::default() };
        namespaces.namespaces.insert("re".into(), Arc::new(rules));
        namespaces
    }

    #[test]
    fn a_name_tells_its_namespace() {
        let n = namespaces();
        assert!(n.rules("news").is_ok());
        assert!(n.rules(":news").is_ok(), "nothing before the boundary is no namespace");
        assert!(n.rules("chat:a:b").is_ok());
        assert!(n.rules("$chat:a").is_ok());
        assert_eq!(n.rules("other:a").unwrap_err(), ErrorCode::UnknownChannel);
        assert!(n.is_private("$chat:a") && !n.is_private("chat:$a"));
    }

    #[test]
    fn bad_n1_names_clients_may_not_use() {
        let n = namespaces();
        for name in ["chat:\n", "chat:é", "re:A", "re:a\u{7f}", &"a".repeat(256)] {
            assert_eq!(n.client_rules(name).unwrap_err(), ErrorCode::BadRequest, "{name:?}");
        }
        for name in ["chat:a", "re:é", &"a".repeat(255), "a*b?[c]{d}"] {
            assert!(n.client_rules(name).is_ok(), "{name:?}");
        }
    }

    #[test]
    fn inv_a1_a_channel_that_lists_users_is_for_them() {
        let n = namespaces();
        let client = ClientOptions::default();
        let rules = ChannelOptions {
            allow_user_limited_channels: true,
            allow_subscribe_for_client: true,
            ..Default::default()
        };
        let rule = |channel, user| subscribe(&n, &client, channel, &rules, user, false);
        assert_eq!(rule("d#1,2", "2"), SubscribeRule::Allowed);
        assert_eq!(rule("d#1,2", "3"), SubscribeRule::Denied(ErrorCode::PermissionDenied));
        assert_eq!(rule("d#1,", ""), SubscribeRule::Denied(ErrorCode::PermissionDenied));
        assert_eq!(rule("d", "3"), SubscribeRule::Allowed);
        assert_eq!(rule("d", ""), SubscribeRule::Denied(ErrorCode::PermissionDenied));
    }

    #[test]
    fn inv_a1_a_missing_hook_is_never_a_permission() {
        let n = namespaces();
        let client = ClientOptions { insecure: true, ..Default::default() };
        let rules = ChannelOptions {
            subscribe_proxy_enabled: true,
            publish_proxy_enabled: true,
            allow_subscribe_for_client: true,
            allow_publish_for_client: true,
            ..Default::default()
        };
        let asker = Asker { user: "1", subscribed: true, insecure: true };
        assert_eq!(
            subscribe(&n, &client, "c", &rules, "1", false),
            SubscribeRule::Denied(ErrorCode::NotAvailable)
        );
        assert_eq!(publish(&rules, asker, false), PublishRule::Denied(ErrorCode::NotAvailable));
    }

    #[test]
    fn inv_a1_client_operations_follow_the_table() {
        for bits in 0u8..64 {
            let [client, subscriber, anonymous, signed_in, subscribed, insecure] =
                std::array::from_fn(|i| bits & (1 << i) != 0);
            let rules = ChannelOptions {
                presence: true,
                allow_presence_for_client: client,
                allow_presence_for_subscriber: subscriber,
                allow_presence_for_anonymous: anonymous,
                allow_publish_for_client: client,
                allow_publish_for_subscriber: subscriber,
                allow_publish_for_anonymous: anonymous,
                ..Default::default()
            };
            let asker = Asker { user: if signed_in { "1" } else { "" }, subscribed, insecure };
            let expected = insecure || (signed_in || anonymous) && (client || (subscriber && subscribed));
            assert_eq!(presence(&rules, asker).is_ok(), expected, "{bits:06b}");
            assert_eq!(publish(&rules, asker, false) == PublishRule::Allowed, expected, "{bits:06b}");
            assert_eq!(history(&rules, asker), Err(ErrorCode::NotAvailable));
        }
    }
}
