//! Family C2 of bad inputs: configurations that must not start, each naming the key.

use super::{errors, from_text, refused};
use crate::config::{Sources, load};

/// A file in JSON, the key that a report must name, and words it must hold.
const FILES: [(&str, &str, &str); 70] = [
    // Unknown keys, at every depth.
    (r#"{"foo":1}"#, "foo", "unknown"),
    (r#"{"http_server":{"prt":1}}"#, "http_server.prt", "port"),
    (r#"{"client":{"token":{"hmac_secret":"x"}}}"#, "client.token.hmac_secret", "unknown"),
    (
        r#"{"channel":{"namespaces":[{"name":"aa","presance":true}]}}"#,
        "channel.namespaces[0].presance",
        "presence",
    ),
    (r#"{"engine":{"redis":{"adress":"x"}}}"#, "engine.redis.adress", "address"),
    (r#"{"proxies":[{"name":"a","endpont":"x"}]}"#, "proxies[0].endpont", "endpoint"),
    (r#"{"Client":{}}"#, "Client", "client"),
    (r#"{"client.insecure":true}"#, "client.insecure", "unknown"),
    (r#"{"":1}"#, "", "unknown"),
    // Wrong types.
    (r#"{"http_server":{"port":"abc"}}"#, "http_server.port", "port"),
    (r#"{"http_server":{"port":true}}"#, "http_server.port", "port"),
    (r#"{"http_server":{"port":[8000]}}"#, "http_server.port", "a list"),
    (r#"{"http_server":{"port":80.5}}"#, "http_server.port", "a fraction"),
    (r#"{"http_server":{"port":65536}}"#, "http_server.port", "65535"),
    (r#"{"http_server":{"port":99999999999999999999}}"#, "http_server.port", "a fraction"),
    (r#"{"http_server":{"internal_port":"x"}}"#, "http_server.internal_port", "port"),
    (r#"{"websocket":{"compression_level":10}}"#, "websocket.compression_level", "1 to 9"),
    (r#"{"websocket":{"compression_level":-3}}"#, "websocket.compression_level", "negative"),
    (r#"{"websocket":{"compression":"maybe"}}"#, "websocket.compression", "true"),
    (r#"{"websocket":{"compression_min_size":"1k"}}"#, "websocket.compression_min_size", "number"),
    (r#"{"http_server":[]}"#, "http_server", "a list"),
    (r#"{"client":"x"}"#, "client", "text"),
    (r#"{"client":{"insecure":"yes"}}"#, "client.insecure", "true or false"),
    (r#"{"client":{"insecure":1}}"#, "client.insecure", "true or false"),
    (r#"{"client":{"allowed_origins":{"a":1}}}"#, "client.allowed_origins", "a table"),
    (r#"{"client":{"allowed_origins":[["a"]]}}"#, "client.allowed_origins", "list of texts"),
    (r#"{"client":{"ping_interval":25}}"#, "client.ping_interval", "unit"),
    (r#"{"client":{"ping_interval":"25"}}"#, "client.ping_interval", "unit"),
    (r#"{"client":{"ping_interval":"25 s"}}"#, "client.ping_interval", "unit"),
    (r#"{"client":{"ping_interval":"-25s"}}"#, "client.ping_interval", "unit"),
    (r#"{"client":{"ping_interval":""}}"#, "client.ping_interval", "unit"),
    (r#"{"client":{"token":{"hmac_secret_key":12345}}}"#, "client.token.hmac_secret_key", "quotes"),
    (r#"{"client":{"token":{"hmac_secret_key":["x"]}}}"#, "client.token.hmac_secret_key", "a list"),
    (r#"{"channel":{"namespaces":{"chat":{}}}}"#, "channel.namespaces", "a list"),
    (r#"{"channel":{"namespaces":["chat"]}}"#, "channel.namespaces[0]", "a table"),
    // Negative numbers and zeros.
    (r#"{"client":{"channel_limit":-1}}"#, "client.channel_limit", "negative"),
    (
        r#"{"client":{"token":{"hmac_previous_secret_key_valid_until":-5}}}"#,
        "client.token.hmac_previous_secret_key_valid_until",
        "negative",
    ),
    (r#"{"http_server":{"port":-1}}"#, "http_server.port", "negative"),
    (
        r#"{"channel":{"without_namespace":{"history_size":-1,"history_ttl":"1s"}}}"#,
        "channel.without_namespace.history_size",
        "negative",
    ),
    (r#"{"http_api":{"max_body_size":0}}"#, "http_api.max_body_size", "unlimited"),
    (r#"{"http_api":{"max_batch_size":0}}"#, "http_api.max_batch_size", "unlimited"),
    (r#"{"reactor":{"threads":0}}"#, "reactor.threads", "unlimited"),
    (r#"{"client":{"ping_interval":"0s"}}"#, "client.ping_interval", "zero"),
    (r#"{"client":{"presence_update_interval":"0s"}}"#, "client.presence_update_interval", "zero"),
    (r#"{"websocket":{"message_size_limit":0}}"#, "websocket.message_size_limit", "zero"),
    (r#"{"shutdown":{"timeout":"0s"}}"#, "shutdown.timeout", "zero"),
    // Words that are none.
    (r#"{"log":{"level":"loud"}}"#, "log.level", "trace"),
    (r#"{"engine":{"type":"postgres"}}"#, "engine.type", "memory"),
    (
        r#"{"channel":{"without_namespace":{"subscription_type":"queue"}}}"#,
        "channel.without_namespace.subscription_type",
        "stream",
    ),
    (
        r#"{"channel":{"without_namespace":{"force_recovery_mode":"all"}}}"#,
        "channel.without_namespace.force_recovery_mode",
        "cache",
    ),
    (r#"{"channel":{"publication_data_format":"xml"}}"#, "channel.publication_data_format", "json_object"),
    (r#"{"http_api":{"error_mode":"http"}}"#, "http_api.error_mode", "transport"),
    // Keys that do not fit each other.
    (r#"{"client":{"ping_interval":"5s"}}"#, "client.pong_timeout", "less than"),
    (r#"{"client":{"ping_interval":"8s","pong_timeout":"8s"}}"#, "client.pong_timeout", "less than"),
    (
        r#"{"channel":{"without_namespace":{"history_size":5}}}"#,
        "channel.without_namespace.history_size",
        "history_ttl",
    ),
    (
        r#"{"channel":{"without_namespace":{"history_ttl":"5s"}}}"#,
        "channel.without_namespace.history_ttl",
        "history_size",
    ),
    (
        r#"{"channel":{"without_namespace":{"history_size":5,"history_ttl":"1500ms"}}}"#,
        "channel.without_namespace.history_ttl",
        "whole seconds",
    ),
    (
        r#"{"channel":{"without_namespace":{"history_size":5,"history_ttl":"721h"}}}"#,
        "channel.without_namespace.history_ttl",
        "channel.history_meta_ttl",
    ),
    (
        r#"{"channel":{"without_namespace":{"force_recovery":true}}}"#,
        "channel.without_namespace.force_recovery",
        "needs",
    ),
    (
        r#"{"channel":{"without_namespace":{"history_size":1,"history_ttl":"1s","force_recovery":true,"auto_cache_recover":true}}}"#,
        "channel.without_namespace.auto_cache_recover",
        "cache",
    ),
    (
        r#"{"client":{"subscribe_to_user_personal_channel":{"enabled":true,"single_connection":true}}}"#,
        "client.subscribe_to_user_personal_channel.single_connection",
        "presence",
    ),
    (
        r#"{"client":{"subscribe_to_user_personal_channel":{"enabled":true,"personal_channel_namespace":"zz"}}}"#,
        "client.subscribe_to_user_personal_channel.personal_channel_namespace",
        "no namespace",
    ),
    (r#"{"shutdown":{"timeout":"5s","spread":"6s"}}"#, "shutdown.spread", "less than"),
    (
        r#"{"client":{"token":{"audience":"a","audience_regex":"a"}}}"#,
        "client.token.audience_regex",
        "keep one",
    ),
    (r#"{"websocket":{"handler_prefix":"/api"}}"#, "http_api.handler_prefix", "already"),
    // Names and patterns.
    (r#"{"channel":{"namespaces":[{"name":"aa"},{"name":"aa"}]}}"#, "channel.namespaces[1].name", "another"),
    (r#"{"channel":{"namespaces":[{"presence":true}]}}"#, "channel.namespaces[0].name", "needs a name"),
    (r#"{"channel":{"namespaces":[{"name":"a b"}]}}"#, "channel.namespaces[0].name", "not a name"),
    (
        r#"{"channel":{"without_namespace":{"channel_regex":"(["}}}"#,
        "channel.without_namespace.channel_regex",
        "regular expression",
    ),
    (r#"{"client":{"user_id_http_header":"X User"}}"#, "client.user_id_http_header", "header"),
];

#[test]
fn bad_c2_files_are_refused_and_the_key_is_named() {
    for (text, key, words) in FILES {
        let report = refused(text);
        let problem = report.errors().find(|problem| problem.key == key);
        let problem = problem.unwrap_or_else(|| panic!("{text}: {key} is not named in {report}"));
        assert!(problem.text.contains(words), "{text}: {problem}");
        assert!(
            problem.to_string().contains("config.json:1: ")
                || problem.key == "client.pong_timeout"
                || problem.key == "http_api.handler_prefix"
                || problem.key == "channel.namespaces[0].name",
            "{problem}"
        );
    }
}

#[test]
fn bad_c2_keys_for_tokens_are_refused() {
    let table = [
        ("rsa_public_key", "text", "-----BEGIN PUBLIC KEY-----"),
        (
            "rsa_public_key",
            "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----",
            "private key",
        ),
        ("rsa_public_key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "not an RSA"),
        ("rsa_public_key", "-----BEGIN PUBLIC KEY-----\n????\n-----END PUBLIC KEY-----", "damaged"),
        ("rsa_public_key", "-----BEGIN PUBLIC KEY-----", "cut off"),
        (
            "ecdsa_public_key",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
            "found a certificate",
        ),
        ("ecdsa_public_key", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "P-256"),
        ("jwks_public_endpoint", "http://keys.example.com/jwks", "https"),
        ("jwks_public_endpoint", "ftp://keys.example.com", "https"),
        ("jwks_public_endpoint", "keys.example.com", "https"),
        ("jwks_public_endpoint", "file:///etc/passwd", "https"),
        ("jwks_public_endpoint", "https://{{tenant}}.example.com/jwks", "templates"),
        ("user_id_claim", "user-id", "letters"),
        ("audience_regex", "(", "regular expression"),
        ("issuer_regex", "(?<", "regular expression"),
    ];
    for section in ["token", "subscription_token"] {
        for (name, value, words) in table {
            let text = serde_json::json!({"client":{section:{name:value}}}).to_string();
            let told = errors(&refused(&text)).join("\n");
            assert!(
                told.contains(&format!("client.{section}.{name}")) && told.contains(words),
                "{text}: {told}"
            );
        }
    }
}

#[test]
fn bad_c2_secret_files_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str, mode: u32| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let open = file("open", "0123456789abcdef0123456789abcdef", 0o644);
    let empty = file("empty", "\n", 0o600);
    let binary = directory.path().join("binary");
    std::fs::write(&binary, [0xff, 0xfe]).unwrap();
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o600)).unwrap();
    let missing = directory.path().join("missing");
    for (path, words) in [(&open, "chmod"), (&empty, "empty"), (&binary, "read"), (&missing, "read")] {
        let told = errors(&refused(&format!(r#"{{"http_api":{{"key_file":{path:?}}}}}"#))).join("\n");
        assert!(told.contains("http_api.key_file") && told.contains(words), "{told}");
    }
    let good = file("good", "0123456789abcdef0123456789abcdef", 0o640);
    let both =
        format!(r#"{{"client":{{"token":{{"hmac_secret_key":"x","hmac_secret_key_file":{good:?}}}}}}}"#);
    assert!(errors(&refused(&both)).join("\n").contains("keep one of them"));
}

#[test]
fn bad_c2_example_and_short_secrets_are_warned_of() {
    for (secret, words) in [
        ("secret", "documentation"),
        ("bbe7d157-a253-4094-9759-06a8236543f9", "documentation"),
        ("<your secret here, please>", "documentation"),
        ("0123456789abcdef0123456789abcde", "31 bytes"),
    ] {
        let (_, report) =
            super::accepted(&format!(r#"{{"client":{{"token":{{"hmac_secret_key":"{secret}"}}}}}}"#));
        let told: Vec<_> =
            report.warnings().filter(|problem| problem.key == "client.token.hmac_secret_key").collect();
        assert!(told.len() == 1 && told[0].text.contains(words), "{told:?}");
        assert!(secret == "secret" || !told[0].text.contains(secret), "{told:?}");
    }
    let (_, report) =
        super::accepted(r#"{"client":{"token":{"hmac_secret_key":"0123456789abcdef0123456789abcdef"}}}"#);
    assert!(!report.warnings().any(|problem| problem.key == "client.token.hmac_secret_key"));
}

#[test]
fn bad_c2_files_that_are_no_configuration_are_refused_with_their_line() {
    let table = [
        ("a.json", "{\n\"client\": {\n", 2),
        ("a.json", "{\n\"client\": nul\n}", 2),
        ("a.json", "{\"a\":1,}", 1),
        ("a.json", "{}\n{}", 2),
        ("a.json", "", 1),
        ("a.json", "// comment\n{}", 1),
        ("a.json", "[1]", 1),
        ("a.yaml", "a: [1\nb: 2\n", 2),
        ("a.yaml", "client:\n\tinsecure: true\n", 2),
        ("a.yaml", "a: 1\n---\nb: 2\n", 3),
        ("a.yaml", "- 1\n", 1),
        ("a.yaml", "client: *nowhere\n", 1),
        ("a.toml", "[client\n", 1),
        ("a.toml", "a = 1\na = 2\n", 2),
        ("a.toml", "\n\na 1\n", 3),
        ("a.ini", "", 1),
        ("noextension", "", 1),
    ];
    for (name, text, line) in table {
        let report = from_text(name, text).err().unwrap_or_else(|| panic!("accepted {text:?}"));
        let told = errors(&report).join("\n");
        assert!(told.contains(&format!("{name}:{line}: ")), "{name} {text:?}: {told}");
    }
    let sources = Sources { file: Some("/nowhere/config.json".into()), ..Sources::default() };
    assert!(errors(&load(&sources).err().unwrap())[0].contains("cannot be read"));
}

#[test]
fn bad_c2_deep_and_growing_files_are_refused() {
    let deep = format!("{}1{}", "[".repeat(2000), "]".repeat(2000));
    for name in ["deep.json", "deep.yaml"] {
        assert!(from_text(name, &deep).is_err());
    }
    assert!(from_text("deep.toml", &format!("a = {deep}")).is_err());
    let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..12 {
        let below = format!("*a{}", level - 1);
        let items = [below.as_str(); 10].join(",");
        laughs.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    let told = errors(&from_text("laughs.yaml", &laughs).err().unwrap()).join("\n");
    assert!(told.contains("values"), "{told}");
}

#[test]
fn bad_c2_a_key_that_stands_twice_is_refused() {
    let report = refused("{\"client\":{\"insecure\":false,\n\"insecure\":true}}");
    let told = errors(&report).join("\n");
    assert!(
        told.contains("config.json:2: client.insecure: set twice, first at") && told.contains(":1"),
        "{told}"
    );
    assert!(from_text("a.yaml", "client:\n  insecure: false\n  insecure: true\n").is_err());
}
