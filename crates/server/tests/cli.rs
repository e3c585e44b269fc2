//! The command line as a person or a script meets it: the real binary, its output and its exit codes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests a panic is a failure with a place")]

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn tidewire(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewire"));
    command.args(arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(arguments: &[&str]) -> Output {
    tidewire(arguments).output().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn fixture(name: &str) -> String {
    format!("{}/tests/data/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn file(directory: &tempfile::TempDir, name: &str, text: &str) -> String {
    let path = directory.path().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// A server of our own, ended with the test.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    fn start(port: Option<u16>) -> Self {
        let port = port.unwrap_or_else(free_port);
        let mut child = tidewire(&["serve", "--dev", "--port", &port.to_string()]).spawn().unwrap();
        // The URLs are printed once it serves.
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let serving =
            lines.find(|line| line.as_ref().is_ok_and(|line| line.contains("/connection/websocket")));
        assert!(serving.is_some(), "the server did not start");
        let mut log = child.stderr.take().unwrap();
        std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
        Self { child, port }
    }

    fn subscribe(&self, more: &[&str]) -> Subscriber {
        let url = format!("ws://127.0.0.1:{}/connection/websocket", self.port);
        Subscriber::start(&[&["subscribe", "--url", &url], more].concat())
    }

    fn publish(&self, more: &[&str]) -> Output {
        let url = format!("http://127.0.0.1:{}/api", self.port);
        run(&[&["publish", "--api-url", &url], more].concat())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Subscriber {
    child: Child,
    lines: BufReader<ChildStdout>,
    notes: BufReader<std::process::ChildStderr>,
}

impl Subscriber {
    fn start(arguments: &[&str]) -> Self {
        let mut child = tidewire(arguments).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let notes = BufReader::new(child.stderr.take().unwrap());
        Self { child, lines, notes }
    }

    /// Reads what is said until it holds these words.
    fn wait_for(&mut self, words: &str) -> String {
        loop {
            let mut note = String::new();
            assert_ne!(self.notes.read_line(&mut note).unwrap(), 0, "ended without saying {words:?}");
            if note.contains(words) {
                return note;
            }
        }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    fn exit_code(mut self) -> i32 {
        self.child.wait().unwrap().code().unwrap()
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
fn every_command_explains_itself_with_examples() {
    let top = run(&["--help"]);
    assert_eq!(code(&top), 0);
    assert!(out(&top).contains("Exit codes: 0 done"));
    for command in [
        &["serve"][..],
        &["config", "check"],
        &["token", "create"],
        &["token", "check"],
        &["publish"],
        &["subscribe"],
        &["doctor"],
    ] {
        let help = run(&[command, &["--help"]].concat());
        assert!(code(&help) == 0 && out(&help).contains("Examples:\n  "), "{command:?}");
    }
    assert!(out(&run(&["--version"])).starts_with("tidewire "));
}

#[test]
fn bad_c2_wrong_command_lines_exit_with_2() {
    for arguments in [
        &["no-such-command"][..],
        &[],
        &["serve", "--prot", "1"],
        &["serve", "--set", "client.insecure"],
        &["serve", "--set", "client.insecur=true"],
        &["serve", "--port", "70000"],
        &["serve", "--dev", "--address", "0.0.0.0"],
        &["serve", "--config", "/nowhere.json"],
        &["config", "check", "--config", "/nowhere.json"],
        &["doctor", "--set", "client.ping_interval=1s"],
        &["subscribe", "--offset", "1", "chat"],
        &["subscribe", "--count", "0", "chat"],
        &["publish", "chat"],
    ] {
        let output = run(arguments);
        assert_eq!(code(&output), 2, "{arguments:?}: {}", err(&output));
        assert!(!err(&output).is_empty() && out(&output).is_empty(), "{arguments:?}");
    }
}

#[test]
fn config_check_reports_everything_and_strict_refuses_warnings() {
    let config = fixture("centrifugo-config.json");
    let output = run(&["config", "check", "--config", &config]);
    assert_eq!(code(&output), 0, "{}", err(&output));
    assert!(out(&output).contains("0 errors, 31 warnings\n\nLimits:\n  connections of this node: 20000\n"));
    assert_eq!(out(&output).matches("centrifugo-config.json:").count(), 31, "each with its line");

    let output = run(&["config", "check", "--strict", "--config", &config]);
    assert_eq!(code(&output), 2);
    assert!(err(&output).contains("31 errors, 0 warnings"));

    let directory = tempfile::tempdir().unwrap();
    let config =
        file(&directory, "bad.yaml", "client:\n  insecur: true\n  ping_interval: 5\nlog:\n  level: loud\n");
    let output = run(&["config", "check", "--config", &config]);
    assert_eq!(code(&output), 2);
    for words in
        ["bad.yaml:2: client.insecur: ", "did you mean insecure?", "bad.yaml:3: ", "bad.yaml:5: ", "3 errors"]
    {
        assert!(err(&output).contains(words), "{words} is missing in {}", err(&output));
    }
    // The same by the environment, and the file by its variable.
    let output = tidewire(&["config", "check"]).env("TIDEWIRE_CONFIG", &config).output().unwrap();
    assert_eq!(code(&output), 2);
    let output = tidewire(&["config", "check"]).env("CENTRIFUGO_CLIENT_PING_INTERVAL", "5").output().unwrap();
    assert!(
        code(&output) == 2 && err(&output).contains("environment variable CENTRIFUGO_CLIENT_PING_INTERVAL: ")
    );
}

#[test]
fn bad_l1_config_check_shows_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    let marker = "MARKER-of-a-secret-0123456789-0123456789";
    let config = file(
        &directory,
        "config.json",
        &format!(
            r#"{{"client":{{"token":{{"hmac_secret_key":"{marker}","hmac_previous_secret_key":"{marker}"}}}},
                "http_api":{{"key":"{marker}"}},"admin":{{"password":"{marker}","secret":"{marker}"}},
                "engine":{{"redis":{{"password":"{marker}"}}}},"shared_poll":{{"hmac_secret_key":"{marker}"}}}}"#
        ),
    );
    for arguments in [
        &["config", "check"][..],
        &["config", "check", "--strict"],
        &["doctor"],
        &["token", "check", "a.b.c"],
    ] {
        let output = run(&[arguments, &["--config", &config]].concat());
        assert!(!format!("{}{}", out(&output), err(&output)).contains(marker), "{arguments:?}");
    }
}

#[test]
fn the_printed_default_configuration_is_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(&["config", "default"]);
    let config = file(&directory, "default.json", &out(&output));
    assert_eq!(code(&run(&["config", "check", "--config", &config])), 0);
    let doc = out(&run(&["config", "doc"]));
    assert!(doc.contains("client.queue_max_size: int = 1048576\n    Bytes that may wait for one connection"));
}

#[test]
fn a_created_token_checks_out_and_a_changed_one_does_not() {
    let with_secret = |arguments: &[&str], stdin: &str| {
        let mut command = tidewire(arguments);
        let mut child = command
            .env("TIDEWIRE_CLIENT_TOKEN_HMAC_SECRET_KEY", SECRET)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let created =
        with_secret(&["token", "create", "--user", "42", "--info", r#"{"a":1}"#, "--claim", "meta={}"], "");
    let token = out(&created).trim().to_owned();
    let checked = with_secret(&["token", "check", &token], "");
    assert_eq!(code(&checked), 0, "{}", out(&checked));
    assert!(out(&checked).starts_with("verdict: valid connection token\nclaims: {"), "{}", out(&checked));
    assert!(out(&checked).contains(r#""info":{"a":1}"#) && out(&checked).contains("\nexp: 20"));
    assert_eq!(code(&with_secret(&["token", "check", "-"], &format!("{token}\n"))), 0);

    let changed = with_secret(&["token", "check", &format!("{token}A")], "");
    assert!(code(&changed) == 1 && out(&changed).starts_with("verdict: invalid: "), "{}", out(&changed));
    assert!(out(&changed).contains("claims (not to be believed): "));
    let old = with_secret(&["token", "create", "--expires-in", "0s", "--channel", "chat"], "");
    let old = with_secret(&["token", "check", out(&old).trim()], "");
    assert!(code(&old) == 1 && out(&old).starts_with("verdict: expired: since 20"), "{}", out(&old));

    let nothing = run(&["token", "create", "--user", "42"]);
    assert!(code(&nothing) == 1 && err(&nothing).contains("token secret"), "{}", err(&nothing));
    let secret = run(&["token", "secret"]);
    assert!(out(&secret).trim().len() >= 43 && out(&secret) != out(&run(&["token", "secret"])));
}

#[test]
fn publish_and_subscribe_meet_in_a_shell() {
    let server = Server::start(None);
    let mut subscriber = server.subscribe(&["--join-leave", "--count", "2", "chat"]);
    let note = subscriber.wait_for("subscribed at offset 0 of epoch ");
    let epoch = note.trim_end().rsplit(' ').next().unwrap().to_owned();
    let published = server.publish(&["chat", r#"{"text":"hé\n","n":1.10}"#, "--tag", "a=b"]);
    assert_eq!(code(&published), 0, "{}", err(&published));
    assert_eq!(out(&published).trim(), format!(r#"{{"epoch":"{epoch}","offset":1}}"#));
    assert_eq!(code(&server.publish(&["chat", "--text", "hello"])), 0);

    assert!(subscriber.line().starts_with(r#"{"type":"join","channel":"chat","info":{"#));
    let first = r#"{"type":"publication","channel":"chat","data":{"text":"hé\n","n":1.10},"offset":1,"tags":{"a":"b"}}"#;
    let second = r#"{"type":"publication","channel":"chat","data":"hello","offset":2}"#;
    assert_eq!((subscriber.line().as_str(), subscriber.line().as_str()), (first, second));
    assert_eq!(subscriber.exit_code(), 0, "after as many as were asked for");

    let mut late = server.subscribe(&["--offset", "1", "--epoch", &epoch, "--count", "1", "chat"]);
    assert_eq!(late.line(), second, "recovered");
    assert_eq!(late.exit_code(), 0);

    for (arguments, words) in [
        (&["chat", "not json"][..], "--text"),
        (&["", "1"], "107"),
        (&["nosuch:channel", "1"], "102"),
        (&["chat", "1", "--tag", "a"], "--tag"),
    ] {
        let output = server.publish(arguments);
        assert!(code(&output) == 1 && err(&output).contains(words), "{arguments:?}: {}", err(&output));
    }
    let mut refused = server.subscribe(&["nosuch:channel"]);
    refused.wait_for("refused to subscribe: 102");
    assert_eq!(refused.exit_code(), 1);
    let mut refused = server.subscribe(&["--token", "a.b.c", "chat"]);
    refused.wait_for("3500 ");
    assert_eq!(refused.exit_code(), 1);
}

#[test]
fn a_subscriber_ends_cleanly_when_nobody_reads_it() {
    let server = Server::start(None);
    let mut subscriber = server.subscribe(&["chat"]);
    subscriber.wait_for("subscribed");
    let Subscriber { mut child, lines, .. } = subscriber;
    // Nothing is ever published: the closed pipe alone must end it.
    drop(lines);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_subscriber_comes_back_after_the_server_does() {
    let server = Server::start(None);
    let port = server.port;
    let mut subscriber = server.subscribe(&["--count", "1", "chat"]);
    subscriber.wait_for("subscribed");
    let mut strict = server.subscribe(&["--no-reconnect", "chat"]);
    strict.wait_for("subscribed");
    drop(server);
    strict.wait_for("connection lost");
    assert_eq!(strict.exit_code(), 1);
    subscriber.wait_for("trying again in");
    let server = Server::start(Some(port));
    subscriber.wait_for("cannot be recovered");
    subscriber.wait_for("subscribed");
    assert_eq!(code(&server.publish(&["chat", "7"])), 0);
    assert!(subscriber.line().contains(r#""data":7"#));
    assert_eq!(subscriber.exit_code(), 0);
}

#[test]
fn commands_without_a_server_say_so() {
    let port = free_port();
    let output = run(&["publish", "--api-url", &format!("http://127.0.0.1:{port}/api"), "chat", "1"]);
    assert!(code(&output) == 1 && err(&output).contains("is the server running there?"), "{}", err(&output));
    let url = format!("ws://127.0.0.1:{port}/connection/websocket");
    let output = run(&["subscribe", "--no-reconnect", "--url", &url, "chat"]);
    assert!(code(&output) == 1 && err(&output).contains("refused"), "{}", err(&output));
}

#[test]
fn doctor_finds_what_would_keep_the_server_from_serving() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (port, free) = (taken.local_addr().unwrap().port().to_string(), free_port().to_string());
    let directory = tempfile::tempdir().unwrap();
    let config = |port: &str| {
        file(
            &directory,
            "config.json",
            &format!(
                r#"{{"http_server":{{"address":"127.0.0.1","port":"{port}"}},"client":{{"insecure":true,
                "token":{{"hmac_secret_key":"secret"}}}},"http_api":{{"key":"{SECRET}"}}}}"#
            ),
        )
    };
    let output = run(&["doctor", "--config", &config(&port)]);
    assert_eq!(code(&output), 1);
    assert!(out(&output).contains(&format!("error    127.0.0.1:{port} is in use: stop what listens there")));
    let output = run(&["doctor", "--config", &config(&free)]);
    assert_eq!(code(&output), 0, "{}", out(&output));
    for words in [
        "ok       the configuration holds",
        &format!("ok       127.0.0.1:{free} is free"),
        "warning  client.insecure: INSECURE: ",
        "warning  client.token.hmac_secret_key: a secret that stands in documentation",
        "warning  client.allowed_origins is empty",
        "config.json can be read by everyone",
        "files may be open",
        "the engine is this node's memory",
    ] {
        assert!(out(&output).contains(words), "{words} is missing in {}", out(&output));
    }
}
