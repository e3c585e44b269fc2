//! Configuration files, variables and flags as people write them, right and wrong.

mod bad;
mod environment;

use std::path::Path;
use std::time::Duration;

use tidewire_core::options::{DataFormat, RecoveryMode};

use super::model::PemSource;
use super::report::{Problem, Report};
use super::{Config, Sources, load};

fn fixture(name: &str) -> String {
    format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn from_file(path: &str) -> Result<(Config, Report), Report> {
    load(&Sources { file: Some(path.to_owned()), ..Sources::default() })
}

/// Writes a file and loads it; paths in problems end with the file's name.
fn from_text(name: &str, text: &str) -> Result<(Config, Report), Report> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    from_file(path.to_str().unwrap())
}

fn errors(report: &Report) -> Vec<String> {
    report.errors().map(ToString::to_string).collect()
}

fn accepted(text: &str) -> (Config, Report) {
    match from_text("config.json", text) {
        Ok(loaded) => loaded,
        Err(report) => panic!("{report}"),
    }
}

fn refused(text: &str) -> Report {
    match from_text("config.json", text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(report) => report,
    }
}

#[test]
fn an_existing_configuration_starts_unchanged() {
    let (config, report) = match from_file(&fixture("centrifugo-config.json")) {
        Ok(loaded) => loaded,
        Err(report) => panic!("{report}"),
    };

    assert_eq!(config.http_server.external.port, 8000);
    assert_eq!(config.http_server.internal.as_ref().map(|listen| listen.port), Some(9000));
    assert_eq!(config.admission.allowed_origins, ["https://example.com", "https://*.example.com"]);
    assert_eq!(config.admission.connection_limit.map(usize::from), Some(20_000));
    let client = &config.core.client;
    assert_eq!(
        (client.ping_interval, client.pong_timeout),
        (Duration::from_secs(20), Duration::from_secs(5))
    );
    assert_eq!(client.stale_close_delay, Duration::from_secs(10), "an unset key has Centrifugo's default");
    assert!(client.personal_channel.as_ref().unwrap().single_connection);
    assert!(config.tokens.connection.hmac.is_some() && config.tokens.subscription.is_some());
    assert!(
        config.tokens.connection.audience.allows("realtime")
            && !config.tokens.connection.audience.allows("x")
    );

    let chat = &config.core.channel.namespaces["chat"];
    let history = chat.history.unwrap();
    assert_eq!((history.size, history.ttl), (50, Duration::from_secs(24 * 3600)));
    assert_eq!(history.meta_ttl, Duration::from_secs(1440 * 3600), "from channel.history_meta_ttl");
    assert!(chat.force_recovery && chat.allow_publish_for_subscriber && !chat.allow_publish_for_client);
    assert!(chat.channel_regex.as_ref().unwrap().is_match("room-1"));
    let orders = &config.core.channel.namespaces["orders"];
    assert_eq!((orders.recovery_mode, orders.data_format), (RecoveryMode::Cache, DataFormat::JsonObject));
    assert_eq!(config.core.rpc.namespaces, ["billing"]);
    assert_eq!(config.core.rpc.ping_method.as_deref(), Some("ping"));
    assert!(config.http_api.transport_errors && config.prometheus.enabled && config.health.enabled);
    assert_eq!(config.shutdown.timeout, Duration::from_secs(45));
    assert!(config.insecure.is_empty());

    let mut warned: Vec<&str> = report.warnings().map(|problem| problem.key.as_str()).collect();
    warned.sort_unstable();
    assert_eq!(
        warned,
        [
            "admin.enabled",
            "admin.password",
            "admin.secret",
            "channel.namespaces[1].publish_proxy_enabled",
            "channel.namespaces[1].subscribe_proxy_enabled",
            "channel.namespaces[3].map.client_publish_debounce_interval",
            "channel.namespaces[3].map.key_ttl",
            "channel.namespaces[3].map.mode",
            "channel.namespaces[3].subscription_type",
            "channel.proxy.publish.endpoint",
            "channel.proxy.subscribe.endpoint",
            "client.batch_periodic_events",
            "client.proxy.connect.enabled",
            "client.proxy.connect.endpoint",
            "client.proxy.connect.http_headers",
            "client.proxy.connect.timeout",
            "client.proxy.refresh.enabled",
            "client.proxy.refresh.endpoint",
            "client.write_delay",
            "consumers",
            "grpc_api.enabled",
            "http_stream.enabled",
            "proxies[0].endpoint",
            "proxies[0].grpc.credentials_key",
            "proxies[0].name",
            "rpc.namespaces[0].proxy_enabled",
            "rpc.namespaces[0].proxy_name",
            "rpc.proxy.endpoint",
            "rpc.without_namespace.proxy_enabled",
            "sse.enabled",
            "swagger.enabled",
        ],
        "one warning for each key that has no effect and is not at its default"
    );
}

#[test]
fn an_existing_redis_configuration_is_taken_as_it_is() {
    use tidewire_engine_redis::Topology;
    let (config, _) =
        from_file(&fixture("centrifugo-config.json")).unwrap_or_else(|report| panic!("{report}"));
    let redis = config.redis.expect("engine.type is redis");
    assert!(
        matches!(&redis.topology, Topology::Servers(servers) if servers[0].to_string() == "redis.internal:6379")
    );
    assert_eq!((redis.login.password.expose(), redis.prefix.as_str()), ("hunter2-hunter2", "centrifugo"));
    assert!(redis.tls.is_some_and(|tls| !tls.insecure_skip_verify));
    let topology = |section: &str| {
        let text = format!(r#"{{"engine":{{"type":"redis","redis":{section}}}}}"#);
        let (config, _) = accepted(&text);
        format!("{:?}", config.redis.expect("engine.type is redis").topology)
    };
    let by_key = topology(r#"{"sentinel_address":["a:1","b:2"],"sentinel_master_name":"m","address":[]}"#);
    let by_url = topology(
        r#"{"address":["redis+sentinel://a:1?sentinel_master_name=m","redis+sentinel://b:2?sentinel_master_name=m"]}"#,
    );
    assert!(by_key.starts_with("Sentinel") && by_key == by_url, "{by_key} {by_url}");
    let by_key = topology(r#"{"cluster_address":["a:1"]}"#);
    assert!(by_key.starts_with("Cluster") && by_key == topology(r#"{"address":"redis+cluster://a:1"}"#));
    assert!(topology(r#"{"address":["a:1","b:2"]}"#).starts_with("Servers"));
}

#[test]
fn bad_c2_redis_options_that_cannot_be_used_are_refused_with_their_keys() {
    let cases = [
        (r#"{"address":"http://marker@host"}"#, "engine.redis.address"),
        (r#"{"address":[]}"#, "engine.redis.address"),
        (r#"{"cluster_address":["host:x"]}"#, "engine.redis.cluster_address"),
        (r#"{"sentinel_address":["a:1"]}"#, "engine.redis.sentinel_master_name"),
        (
            r#"{"sentinel_address":["a:1"],"sentinel_master_name":"m","cluster_address":["b:2"]}"#,
            "engine.redis.cluster_address",
        ),
        (r#"{"db":-1}"#, "engine.redis.db"),
        (r#"{"io_timeout":"0s"}"#, "engine.redis.io_timeout"),
        (r#"{"node_lease":"0s"}"#, "engine.redis.node_lease"),
        (r#"{"cluster_partitions":70000}"#, "engine.redis.cluster_partitions"),
        (r#"{"publish_replicas":"0"}"#, "engine.redis.publish_replicas"),
        (r#"{"client_name":"a b"}"#, "engine.redis.client_name"),
        (r#"{"tls":{"enabled":true,"cert_pem":"/nowhere/marker"}}"#, "engine.redis.tls.cert_pem"),
    ];
    for (section, key) in cases {
        let text = format!(r#"{{"engine":{{"type":"redis","redis":{section}}}}}"#);
        let report = refused(&text).to_string();
        assert!(report.contains(key) && !report.contains("marker"), "{report}");
    }
}

#[test]
fn compression_has_the_defaults_of_centrifugo_and_room_for_what_it_inflates() {
    let websocket = |text: &str| {
        let set = format!("websocket:\n  message_size_limit: 1000\n{text}");
        let (config, report) = from_text("config.yaml", &set).unwrap_or_else(|report| panic!("{report}"));
        assert!(!report.warnings().any(|problem| problem.key.starts_with("websocket.")), "{report}");
        (config.websocket.clone(), config.core.client.command_bytes_max)
    };
    let (off, command) = websocket("  compression_level: 9\n");
    assert_eq!((off.compression, off.inflated_bytes_max, command), (None, 10_000, 1000));
    let (on, command) = websocket("  compression: true\n");
    let compression = on.compression.unwrap();
    assert_eq!((compression.level, compression.min_size), (1, 0));
    assert_eq!((on.inflated_bytes_max, command), (10_000, 10_000));
    let (tuned, command) = websocket(
        "  compression: true\n  compression_level: 6\n  compression_min_size: 200\n  \
         decompressed_message_size_limit: 5000\n",
    );
    let compression = tuned.compression.unwrap();
    assert_eq!((compression.level, compression.min_size), (6, 200));
    assert_eq!((tuned.inflated_bytes_max, command), (5000, 5000));
}

#[test]
fn what_a_missing_proxy_would_decide_is_refused() {
    let (config, _) =
        from_file(&fixture("centrifugo-config.json")).unwrap_or_else(|report| panic!("{report}"));
    assert!(config.core.client.connect_proxy_missing);
    assert!(config.core.client.refresh_proxy_missing);
    let orders = &config.core.channel.namespaces["orders"];
    assert!(orders.subscribe_proxy_enabled && orders.publish_proxy_enabled);
    assert!(config.core.channel.namespaces["cursors"].unavailable);
    assert!(!config.core.channel.namespaces["chat"].unavailable);

    let namespace = |option: &str| {
        let (config, report) = accepted(&format!(r#"{{"channel":{{"without_namespace":{{{option}}}}}}}"#));
        assert!(
            report.warnings().any(|problem| problem.key.starts_with("channel.")),
            "{option} is not warned of"
        );
        config.core.channel.without_namespace
    };
    assert!(namespace(r#""subscribe_stream_proxy_enabled":true"#).unavailable);
    for kind in ["map", "map_clients", "map_users", "shared_poll"] {
        assert!(namespace(&format!(r#""subscription_type":"{kind}""#)).unavailable);
    }
    assert!(namespace(r#""sub_refresh_proxy_enabled":true"#).sub_refresh_proxy_enabled);
    assert!(
        namespace(r#""subscribe_cel":"user != ''","allow_subscribe_for_client":true"#)
            .subscribe_proxy_enabled
    );
    assert!(namespace(r#""publish_cel":"false","allow_publish_for_client":true"#).publish_proxy_enabled);
    assert!(!namespace(r#""history_cel":"false","allow_history_for_client":true"#).allow_history_for_client);
    assert!(
        !namespace(r#""presence_cel":"false","allow_presence_for_client":true"#).allow_presence_for_client
    );
    // Not a truth value: it must not open what it was meant to close.
    assert!(namespace(r#""subscribe_proxy_enabled":"yes""#).subscribe_proxy_enabled);
}

#[test]
fn yaml_and_toml_say_the_same_as_json() {
    let told = |file: &str| {
        let (config, report) = from_file(&fixture(file)).unwrap_or_else(|report| panic!("{report}"));
        let mut warnings: Vec<_> =
            report.problems().iter().map(|problem| (&problem.key, &problem.text)).collect();
        warnings.sort();
        let tokens = &config.tokens;
        format!(
            "{:#?} {:?} {:?} {:?} {:?} {warnings:#?} {} {}",
            config.core,
            config.admission,
            config.websocket,
            config.log,
            config.shutdown,
            tokens.connection.hmac.as_ref().unwrap().expose(),
            config.http_api.key.as_ref().unwrap().expose(),
        )
    };
    let json = told("centrifugo-config.json");
    assert_eq!(json, told("centrifugo-config.yaml"));
    assert_eq!(json, told("centrifugo-config.toml"));
}

#[test]
fn a_problem_names_file_and_line_in_every_format() {
    let files = [
        ("a.json", "{\n  \"client\": {\n    \"insecure\": false,\n    \"chanel_limit\": 5\n  }\n}", 4),
        ("a.yaml", "# first\nclient:\n  insecure: false\n  chanel_limit: 5\n", 4),
        ("a.toml", "[client]\ninsecure = false\n\nchanel_limit = 5\n", 4),
        (
            "b.json",
            "{\"channel\":{\"namespaces\":[\n{\"name\":\"aa\"},\n{\"name\":\"bb\",\n\"presense\":true}]}}",
            4,
        ),
        ("b.yml", "channel:\n  namespaces:\n    - name: aa\n    - name: bb\n      presense: true\n", 5),
        (
            "b.toml",
            "[[channel.namespaces]]\nname = 'aa'\n[[channel.namespaces]]\nname = 'bb'\npresense = true\n",
            5,
        ),
    ];
    for (name, text, line) in files {
        let report = from_text(name, text).err().unwrap();
        let told = &errors(&report)[0];
        assert!(told.contains(&format!("{name}:{line}: ")), "{told}");
        assert!(told.contains("channel_limit?") || told.contains("presence?"), "{told}");
    }
}

#[test]
fn every_problem_is_in_one_report() {
    let report = refused(
        r#"{"clinet":{}, "client":{"ping_interval":5,"pong_timeout":"x","token":{"rsa_public_key":"no"}},
            "http_server":{"port":70000}, "channel":{"namespaces":[{"name":"a"},{"name":"ok","history_size":1}]}}"#,
    );
    let keys: Vec<&str> = report.errors().map(|problem| problem.key.as_str()).collect();
    for key in [
        "clinet",
        "client.ping_interval",
        "client.pong_timeout",
        "client.token.rsa_public_key",
        "http_server.port",
        "channel.namespaces[0].name",
        "channel.namespaces[1].history_size",
    ] {
        assert!(keys.contains(&key), "{key} is missing in {keys:?}");
    }
}

#[test]
fn nearest_names_lead_to_the_key_that_was_meant() {
    let table = [
        (r#"{"client":{"alowed_origins":[]}}"#, "allowed_origins"),
        (r#"{"http_serve":{"port":1}}"#, "http_server"),
        // Names of older versions, and keys in the wrong table.
        (r#"{"token_hmac_secret_key":"x"}"#, "client.token.hmac_secret_key"),
        (r#"{"api_key":"x"}"#, "http_api.key"),
        (r#"{"allowed_origins":[]}"#, "client.allowed_origins"),
        (r#"{"port":8000}"#, "http_server.port"),
        (r#"{"namespaces":[]}"#, "channel.namespaces"),
        (r#"{"channel":{"presence":true}}"#, "channel.without_namespace.presence"),
        (r#"{"client":{"hmac_secret_key":"x"}}"#, "client.token.hmac_secret_key"),
        (r#"{"client":{"zzzzzzzzzzzzzz":1}}"#, "the nearest known name is"),
    ];
    for (text, expected) in table {
        let told = errors(&refused(text)).join("\n");
        assert!(told.contains(expected), "{text}: {told}");
    }
}

#[test]
fn strict_makes_every_warning_an_error() {
    let file = Some(fixture("centrifugo-config.json"));
    let report = load(&Sources { file, strict: true, ..Sources::default() }).err().unwrap();
    assert_eq!(report.warnings().count(), 0);
    assert!(report.errors().count() > 30);
}

#[test]
fn secrets_never_stand_in_a_report() {
    let marker = "MARKER-0123456789-0123456789-0123456789";
    let text = format!(
        r#"{{"client":{{"token":{{"hmac_secret_key":"{marker}","rsa_public_key":"{marker}","ecdsa_public_key":"-----BEGIN {marker}-----"}},
            "insecure":"{marker}"}},
            "http_api":{{"key":["{marker}"]}},"admin":{{"password":"{marker}"}},"license":"{marker}",
            "http_server":{{"tls":{{"enabled":true,"cert_pem":"{marker}","key_pem":"{marker}"}}}},
            "engine":{{"redis":{{"password":{{"a":"{marker}"}}}}}}}}"#
    );
    let told = refused(&text).to_string().replace(&format!("found \"{marker}\""), "");
    // The one place is the value of a key that is no secret.
    assert!(!told.contains("MARKER-0123456789-0123456789-0123456789"), "{told}");
}

#[test]
fn an_empty_configuration_serves_nobody_and_says_so() {
    let (config, report) = load(&Sources::default()).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!((config.http_server.external.port, config.http_server.external.host), (8000, None));
    assert!(config.insecure.is_empty() && !config.health.enabled && !config.prometheus.enabled);
    let keys: Vec<&str> = report.problems().iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["client.token.hmac_secret_key", "http_api.key"]);
}

#[test]
fn a_queue_that_no_full_recovery_fits_is_warned_of() {
    let warned = |client: &str, options: &str| {
        let text = format!(
            r#"{{"client":{{"allow_anonymous_connect_without_token":true,{client}}},"http_api":{{"disabled":true}},
                "channel":{{"namespaces":[{{"name":"feed","history_ttl":"1m",{options}}}]}}}}"#
        );
        let (_, report) = accepted(&text);
        let warnings: Vec<_> = report.warnings().map(ToString::to_string).collect();
        assert!(
            warnings.iter().all(|text| text.contains("client.queue_max_size: a recovery of")),
            "{warnings:?}"
        );
        warnings.len() == 1
    };
    let default = r#""queue_max_size":1048576"#;
    let recoverable = |size: u32| format!(r#""history_size":{size},"force_recovery":true"#);
    assert!(!warned(default, &recoverable(100_000)), "300 are recovered at most");
    let unlimited = r#""recovery_max_publication_limit":0"#;
    assert!(!warned(unlimited, &recoverable(26_214)));
    assert!(warned(unlimited, &recoverable(26_215)));
    assert!(warned(unlimited, r#""history_size":50000,"allow_recovery":true"#));
    assert!(warned(r#""queue_max_size":11999"#, &recoverable(300)));
    assert!(!warned(r#""queue_max_size":12000"#, &recoverable(300)));
    assert!(
        !warned(r#""queue_max_size":0,"recovery_max_publication_limit":0"#, &recoverable(100_000)),
        "no limit"
    );
    assert!(!warned(unlimited, r#""history_size":50000"#), "nobody recovers");
    let cache = r#""history_size":50000,"force_recovery":true,"force_recovery_mode":"cache""#;
    assert!(!warned(unlimited, cache), "one is sent");
}

#[test]
fn the_default_file_means_the_same_as_none() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("default.json");
    std::fs::write(&path, super::document::defaults().to_string()).unwrap();
    let (written, report) = from_file(path.to_str().unwrap()).unwrap_or_else(|report| panic!("{report}"));
    let (none, _) = load(&Sources::default()).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(format!("{:#?}", written.core), format!("{:#?}", none.core));
    assert_eq!(report.errors().count(), 0);
    assert_eq!(report.warnings().count(), 2, "{report}");
}

#[test]
fn defaults_are_those_of_the_core() {
    let (config, _) = load(&Sources::default()).unwrap_or_else(|report| panic!("{report}"));
    let core = tidewire_core::options::Options::default();
    assert_eq!(format!("{:#?}", config.core.client), format!("{:#?}", core.client));
    assert_eq!(format!("{:#?}", config.core.channel), format!("{:#?}", core.channel));
}

#[test]
fn the_reference_names_every_supported_key() {
    let text = super::document::reference();
    for key in super::keys::all().iter().filter(|key| key.support.works()) {
        assert!(text.contains(&format!("\n{}: ", key.path)), "{}", key.path);
    }
    assert!(
        text.contains("client.ping_interval: duration = \"25s\"\n    Time between pings of the server.\n")
    );
}

#[test]
fn dev_opens_everything_on_loopback_alone() {
    let dev = |file: Option<String>| load(&Sources { file, dev: true, ..Sources::default() });
    let (config, report) = dev(None).unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(config.http_server.external.host.as_deref(), Some("127.0.0.1"));
    assert!(config.core.client.insecure && config.http_api.insecure);
    assert!(config.health.enabled && config.prometheus.enabled);
    let channels = &config.core.channel.without_namespace;
    assert!(
        channels.presence && channels.join_leave && channels.history.is_some() && channels.force_recovery
    );
    assert_eq!(report.problems(), &[] as &[Problem], "what --dev sets is not warned of");
    assert_eq!(config.insecure.len(), 2);

    let (kept, _) = load(&Sources {
        flags: vec![
            ("channel.without_namespace.history_size".into(), "7".into(), "--set".into()),
            ("channel.without_namespace.history_ttl".into(), "1m".into(), "--set".into()),
        ],
        dev: true,
        ..Sources::default()
    })
    .unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(kept.core.channel.without_namespace.history.unwrap().size, 7, "what is configured stays");

    for (address, allowed) in [
        ("127.0.0.1", true),
        ("::1", true),
        ("localhost", true),
        ("127.8.8.8", true),
        ("0.0.0.0", false),
        ("192.168.1.5", false),
        ("::", false),
        ("example.com", false),
        ("127.0.0.1.example.com", false),
    ] {
        for key in ["http_server.address", "http_server.internal_address"] {
            let flags = vec![(key.to_owned(), address.to_owned(), "--set".to_owned())];
            let loaded = load(&Sources { flags, dev: true, ..Sources::default() });
            assert_eq!(loaded.is_ok(), allowed, "{key} {address}");
        }
    }
}

#[test]
fn insecure_options_are_shown_at_each_start() {
    let (config, report) = accepted(r#"{"client":{"insecure":true},"http_api":{"insecure":true}}"#);
    let keys: Vec<&str> = config.insecure.iter().map(|option| option.key.as_str()).collect();
    assert_eq!(keys, ["client.insecure", "http_api.insecure"]);
    assert_eq!(report.warnings().filter(|problem| problem.text.contains("INSECURE")).count(), 2);
}

#[test]
fn a_secret_can_stand_in_a_file_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "0123456789abcdef0123456789abcdef\n").unwrap();
    private(&secret);
    let (config, _) = accepted(&format!(r#"{{"client":{{"token":{{"hmac_secret_key_file":{secret:?}}}}}}}"#));
    assert_eq!(config.tokens.connection.hmac.unwrap().expose(), "0123456789abcdef0123456789abcdef");
}

fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_certificate_is_a_file_or_the_text_itself() {
    use base64::Engine as _;
    let pem = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cert.pem");
    std::fs::write(&file, pem).unwrap();
    let base64 = base64::engine::general_purpose::STANDARD.encode(pem);
    for given in [pem.to_owned(), base64, file.to_str().unwrap().to_owned()] {
        let text =
            serde_json::json!({"http_server":{"tls":{"enabled":true,"cert_pem":given,"key_pem":given}}});
        let (config, _) = accepted(&text.to_string());
        let tls = config.http_server.external.tls.unwrap();
        assert_eq!(tls.certificate.read().unwrap(), pem.as_bytes());
        assert_eq!(matches!(tls.certificate, PemSource::File(_)), given.ends_with("cert.pem"));
    }
}

#[test]
fn odd_but_lawful_notations_are_read() {
    let (config, _) = accepted(
        r#"{"http_server":{"port":"8001"},"client":{"allowed_origins":"*","insecure":"false","pong_timeout":0,
            "ping_interval":"1m30s","channel_limit":null},"channel":{"namespaces":null},"rpc":null}"#,
    );
    assert_eq!(config.http_server.external.port, 8001);
    assert_eq!(config.admission.allowed_origins, ["*"]);
    assert_eq!(config.core.client.pong_timeout, Duration::ZERO);
    assert_eq!(config.core.client.channel_limit, 128);
    let yaml = "base: &base\n  presence: true\n";
    assert!(from_text("a.yaml", yaml).is_err(), "an anchor on a key of its own is an unknown key");
    let yaml = "channel:\n  without_namespace: &base\n    presence: true\n    join_leave: true\n  namespaces:\n    \
                - name: chat\n      <<: *base\n      join_leave: false\n";
    let (config, _) = from_text("a.yaml", yaml).unwrap_or_else(|report| panic!("{report}"));
    let chat = &config.core.channel.namespaces["chat"];
    assert!(chat.presence && !chat.join_leave);
    assert!(from_text("empty.yaml", "").is_ok() && from_text("empty.toml", "").is_ok());
}

#[test]
fn limits_that_are_off_by_default_can_be_set() {
    let (config, _) = accepted("{}");
    assert_eq!((config.admission.ip_connection_limit, config.core.client.command_rate_limit), (None, 0));
    let (config, warnings) = accepted(r#"{"client":{"ip_connection_limit":1000,"command_rate_limit":100}}"#);
    assert_eq!(config.admission.ip_connection_limit.map(usize::from), Some(1000));
    assert_eq!(config.core.client.command_rate_limit, 100);
    assert!(!warnings.warnings().any(|problem| problem.key.contains("limit")), "{warnings}");
}

#[test]
fn zero_keeps_centrifugos_meaning_of_no_limit() {
    let (config, _) = accepted(
        r#"{"client":{"channel_limit":0,"queue_max_size":0,"connection_limit":0,"stale_close_delay":"0s"},"channel":{"max_length":0}}"#,
    );
    assert_eq!(config.core.client.channel_limit, usize::MAX);
    assert_eq!(config.core.client.queue_max_size, usize::MAX);
    assert_eq!(config.admission.connection_limit, None);
    assert_eq!(config.core.channel.max_length, usize::MAX);
    assert!(config.core.client.stale_close_delay > Duration::from_secs(24 * 3600));
}
