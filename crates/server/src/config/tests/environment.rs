//! Environment variables in every form they can have, and flags over them.

use super::{Config, Report, Sources, errors, fixture, load};

fn with(variables: &[(&str, &str)]) -> Result<(Config, Report), Report> {
    let environment =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    load(&Sources { environment, ..Sources::default() })
}

fn accepted(variables: &[(&str, &str)]) -> (Config, Report) {
    with(variables).unwrap_or_else(|report| panic!("{report}"))
}

#[test]
fn every_key_has_a_variable_under_both_prefixes() {
    for prefix in ["TIDEWIRE_", "CENTRIFUGO_"] {
        let name = |rest: &str| format!("{prefix}{rest}");
        let (config, _) = accepted(&[
            (&name("HTTP_SERVER_PORT"), "8123"),
            (&name("CLIENT_INSECURE"), "1"),
            (&name("CLIENT_ALLOWED_ORIGINS"), "https://a.com https://B.com"),
            (&name("CLIENT_PING_INTERVAL"), "30s"),
            (&name("CLIENT_TOKEN_HMAC_SECRET_KEY"), "0123456789abcdef0123456789abcdef"),
            (&name("CHANNEL_WITHOUT_NAMESPACE_PRESENCE"), "true"),
            (&name("CHANNEL_WITHOUT_NAMESPACE_JOIN_LEAVE"), ""),
            (&name("CLIENT_PROXY_CONNECT_ENABLED"), "true"),
        ]);
        assert_eq!(config.http_server.external.port, 8123);
        assert!(config.core.client.insecure && config.core.client.connect_proxy_missing);
        assert_eq!(config.admission.allowed_origins, ["https://a.com", "https://b.com"]);
        assert_eq!(config.core.client.ping_interval.as_secs(), 30);
        assert!(config.core.channel.without_namespace.presence);
        assert!(!config.core.channel.without_namespace.join_leave, "an empty variable is none");
    }
}

#[test]
fn lists_of_named_tables_have_three_forms() {
    let (config, report) = accepted(&[
        ("CENTRIFUGO_CHANNEL_NAMESPACES", "chat user-1.x"),
        ("CENTRIFUGO_CHANNEL_NAMESPACES_CHAT_PRESENCE", "true"),
        ("CENTRIFUGO_CHANNEL_NAMESPACES_USER_1_X_HISTORY_SIZE", "10"),
        ("CENTRIFUGO_CHANNEL_NAMESPACES_USER_1_X_HISTORY_TTL", "60s"),
        ("TIDEWIRE_CHANNEL_NAMESPACES_CHAT_JOIN_LEAVE", "true"),
        ("CENTRIFUGO_RPC_NAMESPACES", "billing"),
    ]);
    let channels = &config.core.channel.namespaces;
    assert!(channels["chat"].presence && channels["chat"].join_leave);
    assert_eq!(channels["user-1.x"].history.unwrap().size, 10);
    assert_eq!(config.core.rpc.namespaces, ["billing"]);
    assert!(!report.warnings().any(|problem| problem.text.contains("no such key")), "{report}");

    let (config, _) = accepted(&[
        ("TIDEWIRE_CHANNEL_NAMESPACES", r#"[{"name":"chat","presence":true},{"name":"news"}]"#),
        ("TIDEWIRE_CHANNEL_NAMESPACES_NEWS_PRESENCE", "1"),
        ("TIDEWIRE_CLIENT_ALLOWED_ORIGINS", r#"["https://a.com"]"#),
    ]);
    assert!(
        config.core.channel.namespaces["chat"].presence && config.core.channel.namespaces["news"].presence
    );
    assert_eq!(config.admission.allowed_origins, ["https://a.com"]);
}

#[test]
fn a_member_of_a_list_from_a_file_can_be_changed() {
    let environment = vec![("TIDEWIRE_CHANNEL_NAMESPACES_CHAT_HISTORY_SIZE".to_owned(), "7".to_owned())];
    let file = Some(fixture("centrifugo-config.json"));
    let (config, _) = load(&Sources { file, environment, ..Sources::default() })
        .unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(config.core.channel.namespaces["chat"].history.unwrap().size, 7);
}

#[test]
fn ours_wins_over_theirs_and_flags_win_over_both() {
    let variables = [("TIDEWIRE_HTTP_SERVER_PORT", "2"), ("CENTRIFUGO_HTTP_SERVER_PORT", "1")];
    assert_eq!(accepted(&variables).0.http_server.external.port, 2);
    let environment = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let flags = vec![("http_server.port".to_owned(), "3".to_owned(), "--port".to_owned())];
    let file = Some(fixture("centrifugo-config.json"));
    let (config, _) = load(&Sources { file, environment, flags, ..Sources::default() })
        .unwrap_or_else(|report| panic!("{report}"));
    assert_eq!(config.http_server.external.port, 3);
}

#[test]
fn unknown_variables_are_warned_of_and_no_more() {
    let (_, report) = accepted(&[
        ("TIDEWIRE_SERVICE_HOST", "10.0.0.1"),
        ("TIDEWIRE_PORT_8000_TCP", "tcp://10.0.0.1:8000"),
        ("CENTRIFUGO_CLIENT_INSECUR", "true"),
        ("TIDEWIRE_CONFIG", "x"),
        ("TIDEWIRE_API_KEY", "x"),
        ("PATH", "/bin"),
    ]);
    let told: Vec<String> =
        report.warnings().map(ToString::to_string).filter(|told| told.contains("no such key")).collect();
    assert_eq!(told.len(), 3, "{told:#?}");
    assert!(told.iter().any(|told| told.contains("did you mean CENTRIFUGO_CLIENT_INSECURE?")));
}

#[test]
fn bad_c2_values_of_variables_are_refused_with_the_variable() {
    let table = [
        ("TIDEWIRE_HTTP_SERVER_PORT", "tcp://10.0.0.1:8000"),
        ("TIDEWIRE_CLIENT_INSECURE", "on"),
        ("CENTRIFUGO_CLIENT_PING_INTERVAL", "5"),
        ("TIDEWIRE_CHANNEL_NAMESPACES", "[{"),
        ("TIDEWIRE_CHANNEL_NAMESPACES", r#"[{"name":"aa","presance":true}]"#),
        ("TIDEWIRE_CHANNEL_NAMESPACES", "a"),
        ("TIDEWIRE_CLIENT_ALLOWED_ORIGINS", "[1"),
        ("TIDEWIRE_LOG_LEVEL", "loud"),
    ];
    for (name, value) in table {
        let told = errors(&with(&[(name, value)]).err().unwrap_or_else(|| panic!("accepted {name}={value}")))
            .join("\n");
        assert!(told.contains(&format!("environment variable {name}: ")), "{told}");
    }
}

#[test]
fn bad_c2_flags_are_refused_with_the_flag() {
    for (path, value) in
        [("http_server.port", "x"), ("http_server.prt", "1"), ("channel.namespaces[].name", "x")]
    {
        let flags = vec![(path.to_owned(), value.to_owned(), "--set".to_owned())];
        let report = load(&Sources { flags, ..Sources::default() }).err().unwrap();
        assert!(errors(&report)[0].contains("flag --set: "), "{report}");
        assert!(
            value != "1" || errors(&report)[0].ends_with("the nearest known name is http_server.port"),
            "{report}"
        );
    }
}
