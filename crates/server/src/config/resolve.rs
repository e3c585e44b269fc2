//! From what was set to what the server uses, with every rule that spans more than one key.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use tidewire_core::options::{ClientOptions, Options, PersonalChannel, RecoveryMode};

use super::model::{
    Admission, Compression, Config, Endpoint, HttpApi, HttpServer, Insecure, Listen, Log, LogLevel,
    PemSource, Shutdown, Tls, WebSocket,
};
use super::reader::Reader;
use super::secret::Secret;
use super::{channels, redis, secrets, tokens};

/// What a timer that is off is set to.
const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);
/// Presence entries live at least this long without a renewal.
const PRESENCE_TTL_MIN: Duration = Duration::from_secs(60);

/// Resolves everything; problems go to the reader's report and leave a default in their place.
pub(super) fn config(reader: &mut Reader<'_>) -> Config {
    let websocket = websocket(reader);
    let config = Config {
        http_server: http_server(reader),
        admission: admission(reader),
        http_api: http_api(reader),
        health: Endpoint {
            enabled: reader.bool("health.enabled"),
            path: path(reader, "health.handler_prefix"),
        },
        prometheus: Endpoint {
            enabled: reader.bool("prometheus.enabled"),
            path: path(reader, "prometheus.handler_prefix"),
        },
        tokens: tokens::resolve(reader),
        log: log(reader),
        shutdown: shutdown(reader),
        reactor_threads: reader.count("reactor.threads").and_then(NonZeroUsize::new),
        pid_file: reader.some_text("pid_file").map(PathBuf::from),
        core: core(reader, command_bytes_max(&websocket)),
        redis: redis::resolve(reader),
        insecure: insecure(reader),
        websocket,
    };
    paths_differ(reader, &config);
    ways_in(reader, &config);
    recoveries_fit(reader, &config.core);
    config
}

// === listeners ===

fn http_server(reader: &mut Reader<'_>) -> HttpServer {
    let host = reader.some_text("http_server.address");
    let port = u16::try_from(reader.int("http_server.port")).unwrap_or_default();
    let tls = tls(reader, "http_server.tls");
    let internal_tls = self::tls(reader, "http_server.internal_tls");
    let internal_host = reader.some_text("http_server.internal_address").or_else(|| host.clone());
    let internal_port = match reader.some_text("http_server.internal_port").map(|text| text.parse::<u16>()) {
        None => port,
        Some(Ok(port)) => port,
        Some(Err(_)) => {
            reader.error("http_server.internal_port", "expected a port, 0 to 65535");
            port
        }
    };
    let shared = (&internal_host, internal_port) == (&host, port);
    if shared && internal_tls.is_some() {
        let text = "has no effect without http_server.internal_port or internal_address";
        reader.warning("http_server.internal_tls.enabled", text);
    }
    // As upstream: `tls` covers both ports unless `tls_external` narrows it; `internal_tls` overrides on the internal one.
    let inherited = if reader.bool("http_server.tls_external") { None } else { tls.clone() };
    let internal = Listen { host: internal_host, port: internal_port, tls: internal_tls.or(inherited) };
    HttpServer { external: Listen { host, port, tls }, internal: (!shared).then_some(internal) }
}

fn tls(reader: &mut Reader<'_>, section: &str) -> Option<Tls> {
    if !reader.bool(&format!("{section}.enabled")) {
        return None;
    }
    let mut source = |name: &str, needed: bool| {
        let path = format!("{section}.{name}");
        let text = reader.text(&path);
        if text.is_empty() {
            if needed {
                reader.error(&format!("{section}.enabled"), format!("needs {path}"));
            }
            return None;
        }
        match pem_source(&text) {
            Ok(source) => Some(source),
            Err(problem) => {
                reader.error(&path, problem);
                None
            }
        }
    };
    let (certificate, key) = (source("cert_pem", true), source("key_pem", true));
    let client_authorities = source("client_ca_pem", false);
    Some(Tls { certificate: certificate?, key: key?, client_authorities })
}

pub(super) fn pem_source(text: &str) -> Result<PemSource, String> {
    use base64::Engine as _;
    if text.contains("-----BEGIN ") {
        return Ok(PemSource::Text(Secret::new(text)));
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(text.trim());
    if let Some(pem) = decoded.ok().and_then(|bytes| String::from_utf8(bytes).ok())
        && pem.contains("-----BEGIN ")
    {
        return Ok(PemSource::Text(Secret::new(pem)));
    }
    match std::fs::File::open(text) {
        Ok(_) => Ok(PemSource::File(PathBuf::from(text))),
        // The text may be a mangled key, so it is not repeated.
        Err(error) => Err(format!("neither PEM text nor a file that can be read: {error}")),
    }
}

fn websocket(reader: &mut Reader<'_>) -> WebSocket {
    let message_bytes_max = at_least_one(reader, "websocket.message_size_limit");
    let inflated = reader.limit("websocket.decompressed_message_size_limit");
    WebSocket {
        enabled: !reader.bool("websocket.disabled"),
        path: path(reader, "websocket.handler_prefix"),
        write_timeout: positive(reader, "websocket.write_timeout"),
        message_bytes_max,
        inflated_bytes_max: inflated.map_or(message_bytes_max.saturating_mul(10), NonZeroUsize::get),
        compression: compression(reader),
    }
}

fn compression(reader: &mut Reader<'_>) -> Option<Compression> {
    let level = u8::try_from(reader.size("websocket.compression_level")).ok().filter(|level| *level <= 9);
    let level = level.unwrap_or_else(|| {
        reader.error("websocket.compression_level", "expected 1 to 9");
        1
    });
    let min_size = u32::try_from(reader.size("websocket.compression_min_size")).unwrap_or(u32::MAX);
    reader.bool("websocket.compression").then_some(Compression { level, min_size })
}

fn admission(reader: &mut Reader<'_>) -> Admission {
    Admission {
        allowed_origins: reader
            .list("client.allowed_origins")
            .iter()
            .map(|origin| origin.to_lowercase())
            .collect(),
        connection_limit: reader.limit("client.connection_limit"),
        ip_connection_limit: reader.limit("client.ip_connection_limit"),
        connection_rate_limit: reader.limit("client.connection_rate_limit"),
    }
}

fn http_api(reader: &mut Reader<'_>) -> HttpApi {
    HttpApi {
        enabled: !reader.bool("http_api.disabled"),
        path: path(reader, "http_api.handler_prefix"),
        key: secrets::read(reader, "http_api.key"),
        insecure: reader.bool("http_api.insecure"),
        external: reader.bool("http_api.external"),
        transport_errors: reader.text("http_api.error_mode") == "transport",
        body_bytes_max: reader.count("http_api.max_body_size"),
        batch_max: reader.count("http_api.max_batch_size"),
        publication_bytes_max: reader.count("http_api.max_publication_size"),
    }
}

// === process ===

fn log(reader: &Reader<'_>) -> Log {
    let level = match reader.text("log.level").as_str() {
        "trace" => LogLevel::Trace,
        "debug" => LogLevel::Debug,
        "warn" => LogLevel::Warn,
        "error" | "fatal" => LogLevel::Error,
        "none" => LogLevel::Off,
        _ => LogLevel::Info,
    };
    Log { level, file: reader.some_text("log.file").map(PathBuf::from) }
}

fn shutdown(reader: &mut Reader<'_>) -> Shutdown {
    let timeout = positive(reader, "shutdown.timeout");
    let spread = reader.duration("shutdown.spread");
    if spread < timeout {
        return Shutdown { timeout, spread };
    }
    if reader.is_set("shutdown.spread") {
        reader.error("shutdown.spread", "must be less than shutdown.timeout");
    }
    Shutdown { timeout, spread: timeout / 2 }
}

fn insecure(reader: &mut Reader<'_>) -> Vec<Insecure> {
    let options = [
        ("client.insecure", "every client may do everything without a token"),
        ("client.insecure_skip_token_signature_verify", "every token is believed, signed or not"),
        ("http_api.insecure", "anyone who reaches the API may publish and disconnect"),
        ("client.token.insecure_skip_jwks_endpoint_safety_check", "token keys may come over plain HTTP"),
        (
            "client.subscription_token.insecure_skip_jwks_endpoint_safety_check",
            "token keys may come over plain HTTP",
        ),
    ];
    let mut on = Vec::new();
    for (key, meaning) in options {
        if reader.bool(key) {
            if !reader.is_dev(key) {
                reader.warning(key, format!("INSECURE: {meaning}; never use it in production"));
            }
            on.push(Insecure { key: key.to_owned(), meaning });
        }
    }
    on
}

// === core ===

/// Whatever fits into a message, in the form that has more room.
fn command_bytes_max(websocket: &WebSocket) -> usize {
    match websocket.compression {
        Some(_) => websocket.message_bytes_max.max(websocket.inflated_bytes_max),
        None => websocket.message_bytes_max,
    }
}

fn core(reader: &mut Reader<'_>, command_bytes_max: usize) -> Options {
    let client = client(reader, command_bytes_max);
    Options {
        node_name: reader.text("node.name"),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        channel: channels::resolve(reader, client.personal_channel.as_ref()),
        rpc: channels::rpc(reader),
        client,
    }
}

fn client(reader: &mut Reader<'_>, command_bytes_max: usize) -> ClientOptions {
    let (ping_interval, pong_timeout) =
        (positive(reader, "client.ping_interval"), reader.duration("client.pong_timeout"));
    if ping_interval <= pong_timeout {
        reader.error("client.pong_timeout", "must be less than client.ping_interval");
    }
    let presence_update_interval = positive(reader, "client.presence_update_interval");
    let header = reader.some_text("client.user_id_http_header");
    let user_id_http_header = header.and_then(|name| match name.parse::<http::HeaderName>() {
        Ok(name) => Some(name),
        Err(_) => {
            reader.error("client.user_id_http_header", "not a name that a header can have");
            None
        }
    });
    ClientOptions {
        insecure: reader.bool("client.insecure"),
        allow_anonymous_connect_without_token: reader.bool("client.allow_anonymous_connect_without_token"),
        disallow_anonymous_connection_tokens: reader.bool("client.disallow_anonymous_connection_tokens"),
        user_id_http_header,
        ping_interval,
        pong_timeout,
        expired_close_delay: reader.duration("client.expired_close_delay"),
        expired_sub_close_delay: reader.duration("client.expired_sub_close_delay"),
        stale_close_delay: or_never(reader.duration("client.stale_close_delay")),
        channel_limit: or_none(reader, "client.channel_limit"),
        queue_max_size: or_none(reader, "client.queue_max_size"),
        presence_update_interval,
        presence_ttl: redis::presence_ttl(reader)
            .unwrap_or(PRESENCE_TTL_MIN)
            .max(presence_update_interval.saturating_mul(2)),
        concurrency: reader.size("client.concurrency"),
        command_rate_limit: u32::try_from(reader.size("client.command_rate_limit")).unwrap_or(u32::MAX),
        channel_position_check_delay: reader.duration("client.channel_position_check_delay"),
        channel_position_max_time_lag: reader.duration("client.channel_position_max_time_lag"),
        user_connection_limit: reader.size("client.user_connection_limit"),
        connect_include_server_time: reader.bool("client.connect_include_server_time"),
        history_max_publication_limit: reader.size("client.history_max_publication_limit"),
        recovery_max_publication_limit: reader.size("client.recovery_max_publication_limit"),
        personal_channel: personal_channel(reader),
        connect_proxy_missing: reader.bool("client.proxy.connect.enabled"),
        refresh_proxy_missing: reader.bool("client.proxy.refresh.enabled"),
        command_bytes_max,
    }
}

fn personal_channel(reader: &Reader<'_>) -> Option<PersonalChannel> {
    let section = "client.subscribe_to_user_personal_channel";
    reader.bool(&format!("{section}.enabled")).then(|| PersonalChannel {
        namespace: reader.text(&format!("{section}.personal_channel_namespace")),
        single_connection: reader.bool(&format!("{section}.single_connection")),
    })
}

// === small rules ===

fn path(reader: &mut Reader<'_>, key: &str) -> String {
    let path = reader.text(key);
    if !path.starts_with('/') || path.contains(['?', '#', ' ']) {
        reader.error(key, "expected a path that begins with /");
    }
    if path.len() > 1 { path.trim_end_matches('/').to_owned() } else { path }
}

pub(super) fn positive(reader: &mut Reader<'_>, key: &str) -> Duration {
    let time = reader.duration(key);
    if time.is_zero() {
        reader.error(key, "must be more than zero");
    }
    time
}

fn at_least_one(reader: &mut Reader<'_>, key: &str) -> usize {
    let size = reader.size(key);
    if size == 0 {
        reader.error(key, "must be more than zero");
    }
    size
}

/// Limits where Centrifugo's 0 means that there is none.
fn or_none(reader: &Reader<'_>, key: &str) -> usize {
    reader.limit(key).map_or(usize::MAX, NonZeroUsize::get)
}

fn or_never(time: Duration) -> Duration {
    if time.is_zero() { NEVER } else { time }
}

fn paths_differ(reader: &mut Reader<'_>, config: &Config) {
    let endpoints = [
        (config.websocket.enabled, &config.websocket.path, "websocket.handler_prefix"),
        (config.http_api.enabled, &config.http_api.path, "http_api.handler_prefix"),
        (config.health.enabled, &config.health.path, "health.handler_prefix"),
        (config.prometheus.enabled, &config.prometheus.path, "prometheus.handler_prefix"),
    ];
    for (index, (enabled, path, key)) in endpoints.iter().enumerate() {
        let before = endpoints.iter().take(index).find(|(on, other, _)| *on && other == path);
        if let (true, Some((_, _, other))) = (*enabled, before) {
            reader.error(key, format!("the path is {other}'s already"));
        }
    }
}

/// A recovery is one message. If it does not fit into the queue the client is cut off as slow, comes back and asks for
/// the same again, until its history is gone. How large publications are is not known here, so this warns only where even
/// the smallest would not fit.
fn recoveries_fit(reader: &mut Reader<'_>, core: &Options) {
    /// A payload of a few bytes with its offset.
    const PUBLICATION_BYTES_MIN: usize = 40;
    let limit = core.client.recovery_max_publication_limit;
    let limit = if limit == 0 { usize::MAX } else { limit };
    let all = core.channel.namespaces.values().chain([&core.channel.without_namespace]);
    let recoverable = all.filter(|rules| rules.force_recovery || rules.allow_recovery);
    let streams = recoverable.filter(|rules| rules.recovery_mode == RecoveryMode::Stream);
    let longest = streams.filter_map(|rules| rules.history).map(|history| history.size.min(limit)).max();
    let bytes = longest.unwrap_or(0).saturating_mul(PUBLICATION_BYTES_MIN);
    if bytes > core.client.queue_max_size {
        let publications = longest.unwrap_or(0);
        let text = format!(
            "a recovery of {publications} publications needs {bytes} or more: clients that missed so many are cut off and \
             ask again; raise it, or lower client.recovery_max_publication_limit"
        );
        reader.warning("client.queue_max_size", text);
    }
}

/// Nothing is open by accident, so an empty configuration serves nobody: say which key would open it.
fn ways_in(reader: &mut Reader<'_>, config: &Config) {
    let client = &config.core.client;
    let open = config.tokens.connection.has_keys()
        || config.tokens.insecure_skip_signature
        || client.insecure
        || client.allow_anonymous_connect_without_token
        || client.user_id_http_header.is_some();
    if config.websocket.enabled && !open {
        let text = "not set, nor any other way for clients to connect: every connect is refused";
        reader.warning("client.token.hmac_secret_key", text);
    }
    if config.http_api.enabled && config.http_api.key.is_none() && !config.http_api.insecure {
        reader.warning("http_api.key", "not set: every call of the HTTP API is refused");
    }
}
