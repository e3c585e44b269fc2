//! Wrong configurations: what is wrong is said, in words that lead to the option.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidewire_engine::{Broker, Engine, PresenceStore, Recipients};
use tidewire_engine_redis::{Address, Error, Login, Options, RedisEngine, Secret, Tls, Topology};
use tidewire_protocol::{ChannelName, ClientInfo};
use tidewire_redis_testkit::{Cluster, Flavour, Replicated, Server, Start};

use crate::rig::{Node, PATIENCE, address, only};

async fn refusal(options: Options) -> Error {
    let begun = Instant::now();
    let engine = RedisEngine::start(&options).expect("options that can be used");
    let error = engine.connected(PATIENCE).await.expect_err("a wrong configuration");
    assert!(error.is_permanent(), "{error}");
    assert!(begun.elapsed() < PATIENCE / 2, "it is not waited for what cannot come: {error}");
    // Calls do not wait either.
    let called = engine.remove_history(&ChannelName::from("c")).await.expect_err("a wrong configuration");
    assert!(begun.elapsed() < PATIENCE / 2, "{called}");
    error
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_c2_a_wrong_password_is_told_and_not_shown() {
    let server = Start::new(Flavour::Redis).with(&["--requirepass", "right-one"]).run();
    let login = |user: &str, password: &str| Login { user: user.into(), password: Secret::new(password) };
    for wrong in [Login::default(), login("", "marker-wrong"), login("nobody", "right-one")] {
        let error = refusal(Options { topology: only(&server), login: wrong, ..Options::default() }).await;
        let text = error.to_string();
        assert!(matches!(error, Error::Login { .. }), "{text}");
        assert!(
            text.contains(&server.address()) && !text.contains("marker") && !text.contains("right-one"),
            "{text}"
        );
    }
    let right = Options { topology: only(&server), login: login("", "right-one"), ..Options::default() };
    assert_eq!(Node::with(right).await.publish(&"c".into(), "in").await.offset, 1);
    // The URL of an address decides for that address.
    let url = format!("redis://:right-one@{}/3", server.address());
    let by_url = Topology::Servers(vec![Address::parse(&url).expect("an address")]);
    let options = Options { topology: by_url, login: login("", "marker-wrong"), ..Options::default() };
    assert_eq!(Node::with(options).await.publish(&"c".into(), "in").await.offset, 1);
}

/// What docs/operations.md tells operators to allow.
const RIGHTS: &str = "on >pw resetkeys ~centrifugo.tw.* resetchannels &centrifugo.tw.* -@all +@read +@write +@pubsub +evalsha \
    +script|load +hello +ping +select +info +time +client|setname";
/// And in a cluster, with replicas to wait for.
const RIGHTS_IN_CLUSTERS: &str = "+cluster|slots +asking +wait";

/// Makes a user `node` with these rights and no others.
fn admit(server: &Server, rights: &[&str]) {
    let rule = rights.iter().flat_map(|rights| rights.split_whitespace());
    let command: Vec<&str> = ["ACL", "SETUSER", "node"].into_iter().chain(rule).collect();
    server.ask(&command);
}

fn as_node(topology: Topology) -> Options {
    let login = Login { user: "node".into(), password: Secret::new("pw") };
    Options { topology, login, client_name: "tidewire".into(), ..Options::default() }
}

/// Everything that a node does with its engine.
async fn use_everything(node: &Node) {
    let c = ChannelName::from("c");
    node.subscribe(&c).await;
    node.publish(&c, "x").await;
    node.hears(&c, "x").await;
    assert_eq!(node.read(&c).await.0, ["x"]);
    let engine = &node.engine;
    engine.remove_history(&c).await.expect("history removed");
    let info = Arc::new(ClientInfo { client: "1".into(), user: "ann".into(), ..ClientInfo::default() });
    engine.presence_add(&c, Arc::clone(&info), Duration::from_secs(60)).await.expect("present");
    assert_eq!(engine.presence(&c).await.expect("who is there").len(), 1);
    assert_eq!(engine.presence_stats(&c).await.expect("how many are there").clients, 1);
    engine.presence_remove(&c, "1").await.expect("gone");
    engine.publish_join(&c, info).await.expect("told");
    let bus = engine.bus().expect("a bus");
    bus.send(Recipients::Others, Bytes::from_static(b"hello")).await.expect("sent");
    engine.unsubscribe(&[c]).await.expect("unsubscribed");
    engine.ready().await.expect("ready");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_the_documented_rights_can_do_everything() {
    let server = Start::new(Flavour::Redis).run();
    admit(&server, &[RIGHTS]);
    let options = as_node(only(&server));
    use_everything(&Node::with(options.clone()).await).await;

    let c = ChannelName::from("c");
    let elsewhere = Node::with(Options { prefix: "foreign".into(), ..options }).await;
    let error = elsewhere.try_publish(&c, "x").await.expect_err("no right to these keys");
    assert!(error.to_string().contains("NOPERM") || error.to_string().contains("No permissions"), "{error}");
    let error = elsewhere.engine.subscribe(&[c]).await.expect_err("no right to these channels");
    assert!(error.to_string().contains("NOPERM"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_with_the_documented_rights_can_do_everything_in_a_cluster_that_waits_for_replicas() {
    let cluster = Cluster::start(Flavour::Redis, 3);
    cluster.servers.iter().for_each(|server| admit(server, &[RIGHTS, RIGHTS_IN_CLUSTERS]));
    let topology = Topology::Cluster(vec![address(&cluster.servers[0])]);
    let options = Options { replicas_min: 1, ..as_node(topology) };
    use_everything(&Node::with(options).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_c2_a_wrong_topology_is_told_with_the_option_to_use() {
    let alone = Start::new(Flavour::Redis).run();
    let replicated = Replicated::start(Flavour::Redis, 1);
    let bus =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port").port();
    let options = ["--cluster-enabled", "yes", "--cluster-port", &bus.to_string()];
    let of_cluster = Start::new(Flavour::Redis).with(&options).run();
    let sentinel = &replicated.sentinels[0];
    let by_sentinel =
        |server, name: &str| Topology::Sentinel { sentinels: vec![server], names: vec![name.into()] };
    let cases = [
        (only(&of_cluster), "is a node of a cluster; use cluster_address"),
        (only(sentinel), "is a Sentinel; use sentinel_address"),
        (only(&replicated.servers[1]), "is a replica"),
        (Topology::Cluster(vec![address(&alone)]), "is not a node of a cluster; use address"),
        (by_sentinel(address(&alone), "primary"), "is not a Sentinel; use address"),
        (by_sentinel(address(sentinel), "other"), "knows no primary called other"),
    ];
    for (topology, expected) in cases {
        let error = refusal(Options { topology, ..Options::default() }).await;
        assert!(matches!(error, Error::Topology { .. }) && error.to_string().contains(expected), "{error}");
    }
    for (topology, prefix) in [
        (Topology::Servers(vec![]), "p"),
        (Topology::Cluster(vec![]), "p"),
        (by_sentinel(address(sentinel), "x"), "p"),
        (Topology::Cluster(vec![address(&alone)]), "{p}"),
    ] {
        let topology = match topology {
            Topology::Sentinel { sentinels, .. } => Topology::Sentinel { sentinels, names: vec![] },
            other => other,
        };
        let options = Options { topology, prefix: prefix.into(), ..Options::default() };
        assert!(RedisEngine::start(&options).is_err());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_spoken_and_strangers_are_not_trusted() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = rcgen::generate_simple_self_signed(["redis.test".to_owned()]).expect("a certificate");
    let (cert, key) = (folder.path().join("cert"), folder.path().join("key"));
    std::fs::write(&cert, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let path = |path: &std::path::Path| path.to_str().expect("text").to_owned();
    let tls_port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|port| port.local_addr()).expect("a port").port();
    let server = Start::new(Flavour::Redis)
        .with(&["--tls-port", &tls_port.to_string(), "--tls-auth-clients", "no"])
        .with(&["--tls-cert-file", &path(&cert), "--tls-key-file", &path(&key)])
        .run();
    let options = |tls: Tls| Options {
        topology: Topology::Servers(vec![Address::tcp("127.0.0.1", tls_port)]),
        tls: Some(tls),
        io_timeout: Duration::from_secs(5),
        ..Options::default()
    };
    let trusted =
        Tls { server_ca_pem: made.cert.pem().into(), server_name: "redis.test".into(), ..Tls::default() };
    let node = Node::with(options(trusted.clone())).await;
    let c = ChannelName::from("c");
    node.subscribe(&c).await;
    let large = "x".repeat(300_000);
    for _ in 0..3 {
        node.publish(&c, &large).await;
        node.publish(&c, "small").await;
    }
    node.recorder.hear(&c, 6).await;
    assert_eq!(node.read(&c).await.0.len(), 6);
    let careless = Tls { insecure_skip_verify: true, ..Tls::default() };
    Node::with(options(careless)).await.publish(&c, "x").await;
    for wrong in [
        Tls { server_name: "other.test".into(), ..trusted },
        Tls { server_name: "redis.test".into(), ..Tls::default() },
    ] {
        let engine = RedisEngine::start(&options(wrong)).expect("options that can be used");
        let error = engine.connected(Duration::from_millis(300)).await.expect_err("not to be trusted");
        assert!(error.to_string().contains("certificate"), "{error}");
    }
    let no_pem = Tls { server_ca_pem: b"no certificate".to_vec(), ..Tls::default() };
    assert!(RedisEngine::start(&options(no_pem)).is_err());
    drop(server);
}
