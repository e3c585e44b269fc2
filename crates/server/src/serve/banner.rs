//! What a person is told at the start: lines in the log, and with `--dev` what to try first.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use super::listeners::Listeners;
use super::{Mode, demo};
use crate::config::Config;

/// Says where everything is.
pub(super) fn show(config: &Config, listeners: &Listeners, mode: Mode) {
    let version = env!("CARGO_PKG_VERSION");
    let external =
        listeners.external().map(|address| url(address, config.http_server.external.tls.is_some()));
    let internal_tls = config.http_server.internal.as_ref().is_some_and(|listen| listen.tls.is_some());
    let internal = listeners.internal().map(|address| url(address, internal_tls));
    tracing::info!(version, external, internal, "serving");
    if mode == Mode::Development {
        let external = external.unwrap_or_default();
        let text = development(config, &external, internal.as_deref().unwrap_or(&external));
        // Nobody may be reading, which is no reason to stop.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
    }
}

fn development(config: &Config, external: &str, internal: &str) -> String {
    let mut lines: Vec<(&str, String)> = Vec::new();
    if demo::has_place(config) {
        lines.push(("Demo page", format!("{external}/")));
    }
    if config.websocket.enabled {
        lines.push(("WebSocket", format!("{}{}", external.replacen("http", "ws", 1), config.websocket.path)));
    }
    let api = format!("{internal}{}", config.http_api.path.trim_end_matches('/'));
    lines.push(("HTTP API", api.clone()));
    if config.health.enabled {
        lines.push(("Health", format!("{internal}{}", config.health.path)));
    }
    if config.prometheus.enabled {
        lines.push(("Metrics", format!("{internal}{}", config.prometheus.path)));
    }
    let mut text = format!(
        "Tidewire {} for development: whoever reaches this machine's loopback address may do everything.\n\n",
        env!("CARGO_PKG_VERSION")
    );
    for (what, url) in lines {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "  {what:<10} {url}");
    }
    let _ = write!(
        text,
        "\nPublish to everybody who is subscribed to the channel \"news\":\n\n  \
         curl {api}/publish -d '{{\"channel\":\"news\",\"data\":{{\"text\":\"hello\"}}}}'\n\n"
    );
    text
}

/// The address as something to paste into another program on this machine.
fn url(address: SocketAddr, tls: bool) -> String {
    let scheme = if tls { "https" } else { "http" };
    let host = match address.ip() {
        ip if ip.is_unspecified() => "localhost".to_owned(),
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    format!("{scheme}://{host}:{}", address.port())
}
