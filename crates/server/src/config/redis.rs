//! `engine.redis`: which servers, and how to use them.

use std::time::Duration;

use tidewire_engine_redis::{Address, AddressError, Login, Options, Secret, Tls, Topology};

use super::reader::Reader;
use super::resolve::{pem_source, positive};

const SECTION: &str = "engine.redis";

/// How long presence entries live, if Redis keeps them.
pub(super) fn presence_ttl(reader: &mut Reader<'_>) -> Option<Duration> {
    is_chosen(reader).then(|| positive(reader, "engine.redis.presence_ttl"))
}

/// What the engine is started with; `None`: this node's memory is the engine.
pub(super) fn resolve(reader: &mut Reader<'_>) -> Option<Options> {
    if !is_chosen(reader) {
        return None;
    }
    let db = u32::try_from(reader.int("engine.redis.db")).unwrap_or_else(|_| {
        reader.error("engine.redis.db", "must not be negative");
        0
    });
    let partitions =
        reader.count("engine.redis.cluster_partitions").and_then(|count| u16::try_from(count).ok());
    let cluster_partitions = partitions.unwrap_or_else(|| {
        reader.error("engine.redis.cluster_partitions", "must be a number from 1 to 65535");
        1
    });
    let defaults = Options::default();
    Some(Options {
        topology: topology(reader),
        prefix: reader.text("engine.redis.prefix"),
        login: login(reader, ""),
        db,
        client_name: name(reader, "engine.redis.client_name"),
        connect_timeout: positive(reader, "engine.redis.connect_timeout"),
        io_timeout: positive(reader, "engine.redis.io_timeout"),
        tls: tls(reader, "tls"),
        sentinel_login: login(reader, "sentinel_"),
        sentinel_client_name: name(reader, "engine.redis.sentinel_client_name"),
        sentinel_tls: tls(reader, "sentinel_tls"),
        inbox_bytes_max: defaults.inbox_bytes_max,
        node_lease: positive(reader, "engine.redis.node_lease"),
        replicas_min: replicas(reader),
        replicas_timeout: positive(reader, "engine.redis.publish_replicas_timeout"),
        cluster_partitions,
    })
}

fn is_chosen(reader: &Reader<'_>) -> bool {
    reader.text("engine.type") == "redis"
}

// === where ===

/// By whichever of the lists is given; an address may also say itself what it leads to.
fn topology(reader: &mut Reader<'_>) -> Topology {
    let (mut servers, mut names) = (Vec::new(), Vec::new());
    let mut cluster = addresses(reader, "engine.redis.cluster_address");
    let mut sentinels = addresses(reader, "engine.redis.sentinel_address");
    names.extend(reader.some_text("engine.redis.sentinel_master_name"));
    for text in reader.list("engine.redis.address") {
        let (address, into) = match text.split_once("+") {
            Some(("redis" | "rediss", rest)) if rest.starts_with("cluster://") => {
                (text.replacen("+cluster", "", 1), &mut cluster)
            }
            Some(("redis" | "rediss", rest)) if rest.starts_with("sentinel://") => {
                let query = text.split_once('?').map_or("", |(_, query)| query);
                names.extend(
                    query
                        .split('&')
                        .filter_map(|pair| pair.strip_prefix("sentinel_master_name="))
                        .map(str::to_owned),
                );
                (text.replacen("+sentinel", "", 1), &mut sentinels)
            }
            _ => (text, &mut servers),
        };
        match Address::parse(&address) {
            Ok(address) => into.push(address),
            Err(error) => reader.error("engine.redis.address", refused(error)),
        }
    }
    if !cluster.is_empty() && !sentinels.is_empty() {
        reader.error("engine.redis.cluster_address", "set together with Sentinels: keep one of them");
    }
    if !sentinels.is_empty() {
        if names.is_empty() {
            reader.error("engine.redis.sentinel_master_name", "needed with Sentinels");
        }
        names.dedup();
        return Topology::Sentinel { sentinels, names };
    }
    if !cluster.is_empty() {
        return Topology::Cluster(cluster);
    }
    if servers.is_empty() {
        reader.error("engine.redis.address", "no server is named");
    }
    Topology::Servers(servers)
}

fn addresses(reader: &mut Reader<'_>, key: &str) -> Vec<Address> {
    let mut found = Vec::new();
    for text in reader.list(key) {
        match Address::parse(&text) {
            Ok(address) => found.push(address),
            Err(error) => reader.error(key, refused(error)),
        }
    }
    found
}

/// Does not repeat the address: it may hold a password.
fn refused(error: AddressError) -> String {
    format!("not an address: {error}")
}

// === how ===

fn login(reader: &Reader<'_>, which: &str) -> Login {
    let password = reader.secret(&format!("{SECTION}.{which}password"));
    Login {
        user: reader.text(&format!("{SECTION}.{which}user")),
        password: Secret::new(password.map(|password| password.expose().to_owned()).unwrap_or_default()),
    }
}

fn name(reader: &mut Reader<'_>, key: &str) -> String {
    let name = reader.text(key);
    if name.bytes().any(|byte| !byte.is_ascii_graphic()) {
        reader.error(key, "Redis takes no spaces or control characters in names of connections");
    }
    name
}

fn tls(reader: &mut Reader<'_>, section: &str) -> Option<Tls> {
    let section = format!("{SECTION}.{section}");
    if !reader.bool(&format!("{section}.enabled")) {
        return None;
    }
    let mut pem = |name: &str| {
        let key = format!("{section}.{name}");
        let text = reader.text(&key);
        if text.is_empty() {
            return Vec::new();
        }
        let read = pem_source(&text)
            .and_then(|source| source.read().map_err(|error| format!("cannot be read: {error}")));
        read.unwrap_or_else(|problem| {
            reader.error(&key, problem);
            Vec::new()
        })
    };
    let (server_ca_pem, cert_pem, key_pem) = (pem("server_ca_pem"), pem("cert_pem"), pem("key_pem"));
    if cert_pem.is_empty() != key_pem.is_empty() {
        reader.error(&format!("{section}.cert_pem"), "a certificate and its key go together");
    }
    let insecure_skip_verify = reader.bool(&format!("{section}.insecure_skip_verify"));
    if insecure_skip_verify {
        let text = "INSECURE: whoever is between this node and Redis reads and changes everything";
        reader.warning(&format!("{section}.insecure_skip_verify"), text);
    }
    Some(Tls {
        server_ca_pem,
        cert_pem,
        key_pem: Secret::new(String::from_utf8_lossy(&key_pem)),
        server_name: reader.text(&format!("{section}.server_name")),
        insecure_skip_verify,
    })
}

fn replicas(reader: &mut Reader<'_>) -> u32 {
    let Some(text) = reader.some_text("engine.redis.publish_replicas") else {
        return 0;
    };
    text.parse().ok().filter(|count| *count > 0).unwrap_or_else(|| {
        reader.error("engine.redis.publish_replicas", "expected a number from 1");
        0
    })
}
