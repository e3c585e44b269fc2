//! A Redis that cannot be used: the start and `tidewire doctor` say what is wrong, where, and what to do.

use std::process::Command;

use serde_json::{Value, json};
use tidewire_redis_testkit::{Cluster, Flavour, Replicated, Server as Redis, Start};

use crate::binary::{Server, command, loopback};
use crate::redis_trouble::{on_cluster, under_sentinel};
use crate::rig::{config, eventually, request, try_call};

/// No waiting mends these: the start fails.
#[test]
fn bad_c2_a_redis_that_the_configuration_does_not_fit_ends_the_start() {
    let guarded = Start::new(Flavour::Redis).with(&["--requirepass", "right-one"]).run();
    let alone = Start::new(Flavour::Valkey).run();
    alone.ask(&["ACL", "SETUSER", "reader", "on", ">right-one", "~*", "&*", "+@read", "+hello", "+ping"]);
    let replicated = Replicated::start(Flavour::Redis, 1);
    let (sentinel, replica) = (&replicated.sentinels[0], &replicated.servers[1]);
    let cluster = Cluster::start(Flavour::Redis, 3);
    let of_cluster = &cluster.servers[0];
    let at = |server: &Redis| json!([server.address()]);
    let named =
        |server: &Redis, name: &str| json!({ "sentinel_address": at(server), "sentinel_master_name": name });
    let cases: [(Value, &Redis, &[&str]); 12] = [
        (json!({ "address": at(&guarded) }), &guarded, &["NOAUTH", "set password"]),
        (
            json!({ "address": at(&guarded), "password": "marker-wrong" }),
            &guarded,
            &["refuses the login: WRONGPASS", "correct user and password"],
        ),
        (
            json!({ "address": format!("redis://:marker-wrong@{}", guarded.address()) }),
            &guarded,
            &["WRONGPASS", "correct user and password"],
        ),
        (
            json!({ "address": at(&alone), "user": "reader", "password": "right-one" }),
            &alone,
            &["NOPERM", "docs/operations.md"],
        ),
        (json!({ "address": at(&alone), "db": 99 }), &alone, &["DB index is out of range", "correct db"]),
        (json!({ "address": at(of_cluster) }), of_cluster, &["is a node of a cluster; use cluster_address"]),
        (json!({ "address": at(sentinel) }), sentinel, &["is a Sentinel; use sentinel_address"]),
        (json!({ "address": at(replica) }), replica, &["is a replica; name its primary, or its Sentinels"]),
        (json!({ "cluster_address": at(&alone) }), &alone, &["is not a node of a cluster; use address"]),
        (json!({ "cluster_address": at(sentinel) }), sentinel, &["is a Sentinel; use sentinel_address"]),
        (named(&alone, "primary"), &alone, &["is not a Sentinel; use address"]),
        (named(sentinel, "other"), sentinel, &["knows no primary called other", "sentinel_master_name"]),
    ];
    for (redis, server, expected) in cases {
        let directory = tempfile::tempdir().unwrap();
        let served = command(directory.path(), &loopback(config(&redis))).output().unwrap();
        let said = String::from_utf8_lossy(&served.stderr).into_owned();
        assert_eq!(served.status.code(), Some(1), "{redis}: {said}");
        let last = said.lines().last().unwrap_or_default();
        assert!(last.starts_with("tidewire: engine.redis: Redis cannot be used: "), "{redis}: {said}");
        let doctor = doctor(directory.path());
        for part in expected.iter().copied().chain([server.address().as_str()]) {
            assert!(last.contains(part), "{redis}: {part:?} is not in {last}");
            assert!(doctor.error.contains(part), "{redis}: {part:?} is not in {}", doctor.error);
        }
        assert_eq!(doctor.code, Some(1));
        assert!(!said.contains("marker") && !doctor.error.contains("marker"), "{said}{}", doctor.error);
    }
}

/// These may pass: the server starts, says so at once, and needs no restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_c2_a_redis_that_is_full_is_told_and_is_used_once_it_is_not() {
    for flavour in [Flavour::Redis, Flavour::Valkey] {
        let redis = Start::new(flavour).with(&["--maxmemory", "1", "--maxmemory-policy", "noeviction"]).run();
        let config = config(&json!({ "address": [redis.address()] }));
        let expected = ["OOM", "raise its maxmemory", "history_size"];
        refused_for_now(&config, &expected);
        let server = Server::start(config);
        told(&server, &expected);
        let publish = async || {
            let body = json!({ "channel": "log:a", "data": {} });
            try_call(server.external, "publish", &body).await
        };
        let refused = publish().await.unwrap_err();
        assert!(refused.contains("100"), "{refused}");
        redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
        assert_eq!(publish().await.unwrap()["offset"], 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_c2_one_full_primary_of_a_cluster_is_told() {
    let cluster = Cluster::start(Flavour::Redis, 3);
    cluster.servers[1].ask(&["CONFIG", "SET", "maxmemory", "1"]);
    refused_for_now(&config(&on_cluster(&cluster)), &["OOM", "raise its maxmemory"]);
    cluster.servers[1].ask(&["CONFIG", "SET", "maxmemory", "0"]);
    approved(&config(&on_cluster(&cluster)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_c2_a_redis_that_wants_replicas_or_is_not_there_is_told_and_is_used_once_it_is_well() {
    let mut redis = Start::new(Flavour::Redis).run();
    redis.ask(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    let config = config(&json!({ "address": [redis.address()] }));
    refused_for_now(&config, &["NOREPLICAS", "min-replicas-to-write"]);
    redis.kill();
    let expected = [redis.address(), "cannot connect".into(), "see that it runs".into()];
    let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    refused_for_now(&config, &expected);
    let server = Server::start(config.clone());
    told(&server, &expected);
    redis.start_again();
    eventually("ready", async || {
        let answer =
            request(server.external, "GET", "/health/ready", "").await.map_err(|error| error.to_string())?;
        if answer.status == 200 { Ok(()) } else { Err(answer.status.to_string()) }
    })
    .await;
    approved(&config);
}

#[test]
fn the_doctor_approves_of_every_topology_that_fits() {
    let alone = Start::new(Flavour::Valkey).with(&["--requirepass", "right-one"]).run();
    approved(&config(&json!({ "address": [alone.address()], "password": "right-one" })));
    let replicated = Replicated::start(Flavour::Redis, 1);
    approved(&config(&under_sentinel(&replicated)));
}

struct Doctor {
    /// The line that begins with `error`.
    error: String,
    said: String,
    code: Option<i32>,
}

fn doctor(directory: &std::path::Path) -> Doctor {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidewire"));
    command.arg("doctor").arg("--config").arg(directory.join("config.json")).env_clear();
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = said
        .lines()
        .filter(|line| line.starts_with("error    engine.redis: Redis cannot be used: "))
        .collect();
    Doctor { error, said, code: output.status.code() }
}

fn examined(config: &Value) -> Doctor {
    let directory = tempfile::tempdir().unwrap();
    drop(command(directory.path(), &loopback(config.clone())));
    doctor(directory.path())
}

fn refused_for_now(config: &Value, expected: &[&str]) {
    let doctor = examined(config);
    for part in expected {
        assert!(doctor.error.contains(part), "{part:?} is not in\n{}", doctor.said);
    }
    assert_eq!(doctor.code, Some(1));
}

fn approved(config: &Value) {
    let doctor = examined(config);
    assert!(doctor.said.contains("ok       Redis answers") && doctor.code == Some(0), "{}", doctor.said);
}

/// In the log of a server that serves all the same.
fn told(server: &Server, expected: &[&str]) {
    let line = server.wait_for("serving all the same");
    assert!(line.contains(r#""level":"ERROR""#), "{line}");
    for part in expected {
        assert!(line.contains(part), "{part:?} is not in {line}");
    }
}
