//! `channel` and `rpc`: names, namespaces and their rules, as the core takes them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use regex::Regex;
use tidewire_core::options::{
    ChannelNamespaces, ChannelOptions, DataFormat, PersonalChannel, RecoveryMode, RpcOptions,
};
use tidewire_engine::HistoryRetention;

use super::reader::Reader;

/// Publications of one channel that are kept at most, whatever is configured.
const HISTORY_SIZE_MAX: usize = 100_000;

/// Resolves `channel`.
pub(super) fn resolve(reader: &mut Reader<'_>, personal: Option<&PersonalChannel>) -> ChannelNamespaces {
    let without_namespace = options(reader, "channel.without_namespace");
    let mut namespaces = BTreeMap::new();
    for index in 0..reader.settings.length("channel.namespaces") {
        let path = format!("channel.namespaces[{index}]");
        let options = options(reader, &path);
        if let Some(name) = namespace_name(reader, &path)
            && namespaces.insert(name.clone(), Arc::new(options)).is_some()
        {
            reader.error(&format!("{path}.name"), format!("there is another namespace {name}"));
        }
    }
    let channel = ChannelNamespaces {
        without_namespace: Arc::new(without_namespace),
        namespaces,
        max_length: reader.limit("channel.max_length").map_or(usize::MAX, std::num::NonZeroUsize::get),
        private_prefix: reader.text("channel.private_prefix"),
        namespace_boundary: reader.text("channel.namespace_boundary"),
        user_boundary: reader.text("channel.user_boundary"),
        user_separator: reader.text("channel.user_separator"),
    };
    if let Some(personal) = personal {
        personal_channel(reader, &channel, personal);
    }
    channel
}

/// Resolves `rpc`.
pub(super) fn rpc(reader: &mut Reader<'_>) -> RpcOptions {
    let mut namespaces = Vec::new();
    for index in 0..reader.settings.length("rpc.namespaces") {
        let path = format!("rpc.namespaces[{index}]");
        match namespace_name(reader, &path) {
            Some(name) if namespaces.contains(&name) => {
                reader.error(&format!("{path}.name"), format!("there is another namespace {name}"));
            }
            Some(name) => namespaces.push(name),
            None => {}
        }
    }
    RpcOptions {
        namespaces,
        namespace_boundary: reader.text("rpc.namespace_boundary"),
        ping_method: reader.bool("rpc.ping.enabled").then(|| reader.text("rpc.ping.method")),
    }
}

fn namespace_name(reader: &mut Reader<'_>, path: &str) -> Option<String> {
    let key = format!("{path}.name");
    let name = reader.text(&key);
    let lawful =
        name.len() >= 2 && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
    if lawful {
        return Some(name);
    }
    let text = match name.is_empty() {
        true => "a namespace needs a name".to_owned(),
        false => format!("{name:?} is not a name: at least two of a-z A-Z 0-9 - _ and the dot"),
    };
    reader.error(&key, text);
    None
}

fn personal_channel(reader: &mut Reader<'_>, channel: &ChannelNamespaces, personal: &PersonalChannel) {
    let section = "client.subscribe_to_user_personal_channel";
    let options = match personal.namespace.as_str() {
        "" => Some(&channel.without_namespace),
        name => channel.namespaces.get(name),
    };
    let Some(options) = options else {
        let key = format!("{section}.personal_channel_namespace");
        return reader.error(&key, format!("there is no namespace {:?}", personal.namespace));
    };
    if personal.single_connection && !options.presence {
        reader.error(
            &format!("{section}.single_connection"),
            "needs presence in the namespace of personal channels",
        );
    }
}

fn options(reader: &mut Reader<'_>, path: &str) -> ChannelOptions {
    let key = |name: &str| format!("{path}.{name}");
    let history = history(reader, path);
    let channel_regex = reader.some_text(&key("channel_regex")).and_then(|pattern| Regex::new(&pattern).ok());
    let recovery_mode = match reader.text(&key("force_recovery_mode")).as_str() {
        "cache" => RecoveryMode::Cache,
        _ => RecoveryMode::Stream,
    };
    let on = |name: &str| reader.bool(&key(name));
    let is_set = |name: &str| reader.some_text(&key(name)).is_some();
    // A proxy or a check that this server does not have decides nothing, so what it would decide is refused.
    let kind = reader.text(&key("subscription_type"));
    let deltas = reader.list(&key("allowed_delta_types"));
    let history_unknown = is_set("history_cel");
    let presence_unknown = is_set("presence_cel");
    let options = ChannelOptions {
        presence: on("presence"),
        join_leave: on("join_leave"),
        force_push_join_leave: on("force_push_join_leave"),
        history,
        force_positioning: on("force_positioning"),
        allow_positioning: on("allow_positioning"),
        force_recovery: on("force_recovery"),
        allow_recovery: on("allow_recovery"),
        recovery_mode,
        auto_cache_recover: on("auto_cache_recover"),
        allow_subscribe_for_client: on("allow_subscribe_for_client"),
        allow_subscribe_for_anonymous: on("allow_subscribe_for_anonymous"),
        allow_publish_for_client: on("allow_publish_for_client"),
        allow_publish_for_subscriber: on("allow_publish_for_subscriber"),
        allow_publish_for_anonymous: on("allow_publish_for_anonymous"),
        allow_presence_for_client: on("allow_presence_for_client") && !presence_unknown,
        allow_presence_for_subscriber: on("allow_presence_for_subscriber") && !presence_unknown,
        allow_presence_for_anonymous: on("allow_presence_for_anonymous"),
        allow_history_for_client: on("allow_history_for_client") && !history_unknown,
        allow_history_for_subscriber: on("allow_history_for_subscriber") && !history_unknown,
        allow_history_for_anonymous: on("allow_history_for_anonymous"),
        allow_user_limited_channels: on("allow_user_limited_channels"),
        channel_regex,
        data_format: data_format(reader, path),
        subscribe_proxy_enabled: on("subscribe_proxy_enabled") || is_set("subscribe_cel"),
        publish_proxy_enabled: on("publish_proxy_enabled") || is_set("publish_cel"),
        sub_refresh_proxy_enabled: on("sub_refresh_proxy_enabled"),
        unavailable: on("subscribe_stream_proxy_enabled") || !matches!(kind.as_str(), "" | "stream"),
        allow_fossil_delta: deltas.iter().any(|kind| kind == "fossil"),
        delta_publish: on("delta_publish"),
    };
    rules(reader, path, &options);
    if let Some(other) = deltas.iter().find(|kind| *kind != "fossil") {
        reader.error(&key("allowed_delta_types"), format!("{other:?} is no kind of delta: only fossil is"));
    }
    options
}

fn rules(reader: &mut Reader<'_>, path: &str, options: &ChannelOptions) {
    let key = |name: &str| format!("{path}.{name}");
    if options.force_recovery && options.history.is_none() {
        reader.error(&key("force_recovery"), "needs history_size and history_ttl");
    }
    let cache = options.force_recovery && options.recovery_mode == RecoveryMode::Cache;
    if options.auto_cache_recover && !cache {
        reader.error(&key("auto_cache_recover"), "needs force_recovery and force_recovery_mode \"cache\"");
    }
}

fn history(reader: &mut Reader<'_>, path: &str) -> Option<HistoryRetention> {
    let key = |name: &str| format!("{path}.{name}");
    let (size, ttl) = (reader.size(&key("history_size")), reader.duration(&key("history_ttl")));
    match (size, ttl.is_zero()) {
        (0, true) => return None,
        (0, false) => {
            reader.error(&key("history_ttl"), "needs history_size");
            return None;
        }
        (_, true) => {
            reader.error(&key("history_size"), "needs history_ttl");
            return None;
        }
        (_, false) => {}
    }
    if ttl.subsec_nanos() != 0 {
        reader.error(&key("history_ttl"), "must be whole seconds");
    }
    let own = reader.duration(&key("history_meta_ttl"));
    let meta_ttl = if own.is_zero() { reader.duration("channel.history_meta_ttl") } else { own };
    if meta_ttl != Duration::ZERO && ttl > meta_ttl {
        let longer =
            if own.is_zero() { "channel.history_meta_ttl".to_owned() } else { key("history_meta_ttl") };
        reader.error(&key("history_ttl"), format!("must not be longer than {longer}"));
    }
    if size > HISTORY_SIZE_MAX {
        let text = format!("only the newest {HISTORY_SIZE_MAX} publications of a channel are kept");
        reader.warning(&key("history_size"), text);
    }
    Some(HistoryRetention { size: size.min(HISTORY_SIZE_MAX), ttl, meta_ttl: meta_ttl.max(ttl) })
}

fn data_format(reader: &Reader<'_>, path: &str) -> DataFormat {
    let own = reader.some_text(&format!("{path}.publication_data_format"));
    match own.unwrap_or_else(|| reader.text("channel.publication_data_format")).as_str() {
        "json" => DataFormat::Json,
        "json_object" => DataFormat::JsonObject,
        "binary" => DataFormat::Binary,
        _ => DataFormat::NotEmpty,
    }
}
