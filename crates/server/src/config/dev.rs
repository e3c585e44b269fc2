//! `--dev`: everything switched on and open, for this machine alone.

use std::net::IpAddr;

use super::keys;
use super::report::Report;
use super::settings::Settings;
use super::tree::Origin;
use super::value::Typed;

/// The flag.
pub(super) const FLAG: &str = "--dev";

/// What is set whatever the configuration says.
const FORCED: [(&str, &str); 5] = [
    ("client.insecure", "true"),
    ("http_api.insecure", "true"),
    ("http_api.disabled", "false"),
    ("health.enabled", "true"),
    ("prometheus.enabled", "true"),
];

/// What is set unless the configuration says something.
const OFFERED: [(&str, &str); 8] = [
    ("http_server.address", "127.0.0.1"),
    // Pages of this machine may connect; pages of strangers, open in the same browser, may not.
    (
        "client.allowed_origins",
        "http://localhost http://localhost:* http://127.0.0.1 http://127.0.0.1:* http://[::1] http://[::1]:*",
    ),
    ("client.connect_include_server_time", "true"),
    ("rpc.ping.enabled", "true"),
    ("channel.without_namespace.presence", "true"),
    ("channel.without_namespace.join_leave", "true"),
    ("channel.without_namespace.allow_user_limited_channels", "true"),
    ("channel.without_namespace.allow_positioning", "true"),
];

/// History of channels without a namespace, offered only as a whole: halves of it do not fit what may be configured.
const OFFERED_HISTORY: [(&str, &str); 3] = [
    ("channel.without_namespace.history_size", "100"),
    ("channel.without_namespace.history_ttl", "300s"),
    ("channel.without_namespace.force_recovery", "true"),
];

/// Applies `--dev`; refuses to listen on more than this machine.
pub(super) fn apply(settings: &mut Settings, report: &mut Report) {
    for key in ["http_server.address", "http_server.internal_address"] {
        let Some(setting) = settings.get(key) else { continue };
        if let Typed::Text(address) = &setting.value
            && !is_loopback(address)
        {
            let text = format!(
                "{address:?} is not a loopback address, and {FLAG} serves this machine only: leave it out"
            );
            report.error(setting.origin.clone(), key, text);
        }
    }
    for (key, value) in FORCED {
        set(settings, key, value, report);
    }
    for (key, value) in OFFERED {
        if settings.get(key).is_none() {
            set(settings, key, value, report);
        }
    }
    if OFFERED_HISTORY.iter().all(|(key, _)| settings.get(key).is_none()) {
        for (key, value) in OFFERED_HISTORY {
            set(settings, key, value, report);
        }
    }
}

fn set(settings: &mut Settings, path: &str, value: &str, report: &mut Report) {
    let key = keys::find(path).unwrap_or_else(|| unreachable!("{path} is not in keys.table"));
    settings.put_text(key, path.to_owned(), value, Origin::Flag(FLAG.to_owned()), report);
}

fn is_loopback(address: &str) -> bool {
    address == "localhost"
        || address.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}
