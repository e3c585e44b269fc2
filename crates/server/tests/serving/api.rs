//! Every method of the API: its answer, and each of its errors, in both error modes.

use serde_json::{Value, json};
use tidewire::protocol::ConnectRequest;

use crate::client::Client;
use crate::support::{Backend, error};

#[tokio::test]
async fn publish_reaches_subscribers_and_history() {
    let backend = Backend::start().await;
    let mut client = Client::connected(backend.address).await;
    client.subscribe("news").await.unwrap();
    let body =
        json!({ "channel": "news", "data": { "text": "hi\nyou é" }, "tags": { "a": "b" }, "unknown": [1] });
    let answer = backend.call("publish", body).await;
    let epoch = answer["result"]["epoch"].as_str().unwrap();
    assert_eq!(answer, json!({ "result": { "offset": 1, "epoch": epoch } }));
    let publication = client.publication().await;
    assert_eq!(publication.data, r#"{"text":"hi\nyou é"}"#);
    assert_eq!((publication.offset, publication.tags["a"].as_str()), (1, "b"));

    // Without history there is no position, and zero values are left out.
    assert_eq!(
        backend.call("publish", json!({ "channel": "plain:x", "data": {} })).await,
        json!({ "result": {} })
    );
    let only_delivered = json!({ "channel": "news", "data": 2, "skip_history": true });
    assert_eq!(backend.call("publish", only_delivered).await, json!({ "result": {} }));
    assert_eq!(client.text().await, "2");
    // Base64 wins over JSON, and an idempotency key publishes once.
    for _ in 0..2 {
        let body = json!({ "channel": "news", "data": 1, "b64data": "IjY0Ig==", "idempotency_key": "k" });
        assert_eq!(backend.call("publish", body).await["result"]["offset"], 2);
    }
    assert_eq!(client.text().await, r#""64""#);
    // Null is a payload; members that are null are not set.
    let body =
        json!({ "channel": "news", "data": null, "tags": null, "idempotency_key": null, "version": null });
    assert_eq!(backend.call("publish", body).await["result"]["offset"], 3);
    assert_eq!(client.text().await, "null");
}

#[tokio::test]
async fn a_version_that_is_not_newer_publishes_nothing() {
    let backend = Backend::start().await;
    let publish = async |version: u64| {
        let body = json!({ "channel": "v", "data": version, "version": version });
        backend.call("publish", body).await["result"]["offset"].clone()
    };
    assert_eq!(publish(5).await, 1);
    assert_eq!(publish(5).await, 1);
    assert_eq!(publish(4).await, 1);
    assert_eq!(publish(6).await, 2);
}

#[tokio::test]
async fn broadcast_answers_for_each_channel_in_order() {
    let backend = Backend::start().await;
    let body = json!({ "channels": ["a", "nobody:x", "plain:x", "json:x", "", "map:x"], "data": [1] });
    let answer = backend.call("broadcast", body.clone()).await;
    let responses = answer["result"]["responses"].as_array().unwrap();
    assert_eq!(responses[0]["result"]["offset"], 1);
    assert_eq!(responses[1], error(102, "unknown channel"));
    assert_eq!(responses[2], json!({ "result": {} }));
    for refused in &responses[3..6] {
        assert_eq!(*refused, error(107, "bad request"));
    }
    // Errors of single channels stay in the body in every mode.
    assert_eq!(backend.call_by_status("broadcast", body).await.status, 200);
}

#[tokio::test]
async fn connections_are_addressed_by_user_and_client() {
    let backend = Backend::start().await;
    let mut client = Client::open(backend.address).await;
    let id = client.connect(ConnectRequest::default()).await.unwrap().client;
    let mut other = Client::connected(backend.address).await;

    backend.call("publish", json!({ "channel": "own", "data": 1 })).await;
    let epoch = backend.call("history", json!({ "channel": "own" })).await["result"]["epoch"].clone();
    let body = json!({
        "user": "", "client": id, "channel": "own", "data": { "d": 1 }, "b64info": "eyJpIjoxfQ==",
        "recover_since": { "offset": 0, "epoch": epoch },
        "override": { "force_recovery": { "value": true }, "presence": { "value": true } },
    });
    for _ in 0..2 {
        // The second time it counts as done.
        assert_eq!(backend.call("subscribe", body.clone()).await, json!({ "result": {} }));
    }
    let push = client.push().await;
    let subscribed = push.subscribe.unwrap();
    assert_eq!((push.channel.as_str(), subscribed.data.as_ref()), ("own", br#"{"d":1}"#.as_slice()));
    assert!(subscribed.recoverable);

    let presence = backend.call("presence", json!({ "channel": "own" })).await;
    assert_eq!(
        presence,
        json!({ "result": { "presence": { id.as_str(): { "user": "", "client": id, "chan_info": { "i": 1 } } } } })
    );
    assert_eq!(
        backend.call("presence_stats", json!({ "channel": "own" })).await,
        json!({ "result": { "num_clients": 1, "num_users": 1 } })
    );
    assert_eq!(
        backend.call("channels", json!({})).await,
        json!({ "result": { "channels": { "own": { "num_clients": 1 } } } })
    );
    assert_eq!(
        backend.call("channels", json!({ "pattern": "x*" })).await,
        json!({ "result": { "channels": {} } })
    );

    // Sessions belong to transports that are not here, so nobody is meant.
    for method in ["unsubscribe", "disconnect"] {
        let nobody = json!({ "channel": "own", "session": "some" });
        assert_eq!(backend.call(method, nobody).await, json!({ "result": {} }));
    }
    assert_eq!(
        backend.call("unsubscribe", json!({ "channel": "own", "client": id })).await,
        json!({ "result": {} })
    );
    let mut push = client.push().await;
    if push.publication.take().is_some_and(|publication| publication.data == "1") {
        push = client.push().await;
    }
    assert_eq!((push.channel.as_str(), push.unsubscribe.unwrap().code), ("own", 2000));

    let expires = json!({ "client": id, "expire_at": 4_000_000_000_u64, "info": { "new": true } });
    assert_eq!(backend.call("refresh", expires).await, json!({ "result": {} }));
    let refreshed = client.push().await.refresh.unwrap();
    assert!(refreshed.expires && refreshed.ttl > 1000);

    let all_but_other = json!({ "whitelist": [id], "disconnect": { "code": 4100, "reason": "moved" } });
    assert_eq!(backend.call("disconnect", all_but_other).await, json!({ "result": {} }));
    assert_eq!(other.end().await, Some((4100, "moved".into())));
    assert_eq!(backend.call("disconnect", json!({ "client": id })).await, json!({ "result": {} }));
    assert_eq!(client.end().await, Some((3503, "force disconnect".into())));
}

#[tokio::test]
async fn history_is_read_in_pages_and_removed() {
    let backend = Backend::start().await;
    for n in 1..=4 {
        backend.call("publish", json!({ "channel": "h", "data": n })).await;
    }
    let read = async |body: Value| {
        let answer = backend.call("history", body).await["result"].clone();
        assert_eq!(answer["offset"], 4);
        let publications = answer["publications"].as_array().expect("a list, also when it is empty").clone();
        publications.iter().map(|publication| publication["data"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(read(json!({ "channel": "h" })).await, [0_i64; 0]);
    assert_eq!(read(json!({ "channel": "h", "limit": -1 })).await, [1, 2, 3, 4]);
    assert_eq!(read(json!({ "channel": "h", "limit": 2 })).await, [1, 2]);
    assert_eq!(read(json!({ "channel": "h", "limit": 2, "reverse": true })).await, [4, 3]);
    let since = json!({ "offset": 2, "epoch": "" });
    assert_eq!(read(json!({ "channel": "h", "limit": -1, "since": since })).await, [3, 4]);
    assert_eq!(read(json!({ "channel": "h", "limit": -1, "since": since, "reverse": true })).await, [1]);
    assert_eq!(backend.call("history_remove", json!({ "channel": "h" })).await, json!({ "result": {} }));
    assert_eq!(read(json!({ "channel": "h", "limit": -1 })).await, [0_i64; 0]);
}

#[tokio::test]
async fn history_says_who_published_and_shows_what_is_not_json_in_base64() {
    let backend = Backend::start().await;
    let mut client = Client::open(backend.address).await;
    let id = client.connect(ConnectRequest::default()).await.unwrap().client;
    client.publish("h", "[1]").await.unwrap();
    backend.call("publish", json!({ "channel": "h", "b64data": "/wA=", "tags": { "t": "u" } })).await;
    let history = backend.call("history", json!({ "channel": "h", "limit": -1 })).await;
    assert_eq!(
        history["result"]["publications"],
        json!([
            { "data": [1], "info": { "user": "", "client": id }, "offset": 1 },
            { "b64data": "/wA=", "offset": 2, "tags": { "t": "u" } },
        ])
    );
}

#[tokio::test]
async fn info_and_rpc() {
    let backend = Backend::start().await;
    let mut client = Client::connected(backend.address).await;
    client.subscribe("a").await.unwrap();
    client.subscribe("b").await.unwrap();
    let info = backend.call("info", json!({})).await;
    let node = &info["result"]["nodes"][0];
    for (member, expected) in [
        ("name", json!("node")),
        ("version", json!("1.2.3")),
        ("num_clients", json!(1)),
        ("num_users", json!(1)),
        ("num_channels", json!(2)),
        ("num_subs", json!(2)),
    ] {
        assert_eq!(node[member], expected, "{member}");
    }
    assert_eq!(node["uid"].as_str().unwrap().len(), 36);
    assert!(node["process"]["rss"].as_u64().unwrap() > 1 << 20);

    let echo = json!({ "method": "echo", "params": { "n": [1] } });
    assert_eq!(backend.call("rpc", echo).await, json!({ "result": { "data": { "n": [1] } } }));
    assert_eq!(
        backend.call("rpc", json!({ "method": "bytes" })).await,
        json!({ "result": { "b64data": "/wA=" } })
    );
    assert_eq!(backend.call("rpc", json!({ "method": "sold" })).await, error(1400, "sold out"));
}

#[tokio::test]
async fn every_error_has_its_code_and_its_status() {
    let backend = Backend::start().await;
    backend.call("publish", json!({ "channel": "h", "data": 1 })).await;
    let (bad, unknown, off) =
        ((107, 400, "bad request"), (102, 404, "unknown channel"), (108, 400, "not available"));
    let foreign = json!({ "offset": 1, "epoch": "other" });
    for (method, body, (code, status, message)) in [
        ("publish", json!({ "data": 1 }), bad),
        ("publish", json!({ "channel": "a" }), bad),
        ("publish", json!({ "channel": "a", "b64data": "%%" }), bad),
        ("publish", json!({ "channel": "nobody:a", "data": 1 }), unknown),
        // Bad base64 comes before an unknown namespace.
        ("publish", json!({ "channel": "nobody:a", "b64data": "%%" }), bad),
        ("publish", json!({ "channel": "json:a", "data": [1] }), bad),
        ("publish", json!({ "channel": "map:a", "data": 1 }), bad),
        ("broadcast", json!({ "data": 1 }), bad),
        ("broadcast", json!({ "channels": [], "data": 1 }), bad),
        ("broadcast", json!({ "channels": ["a"], "b64data": "%%" }), bad),
        ("subscribe", json!({ "user": "u" }), bad),
        ("subscribe", json!({ "user": "u", "channel": "nobody:a" }), unknown),
        ("subscribe", json!({ "user": "u", "channel": "map:a" }), bad),
        ("subscribe", json!({ "user": "u", "channel": "a", "b64info": "%%" }), bad),
        ("subscribe", json!({ "user": "u", "channel": "a", "b64data": "%%" }), bad),
        ("unsubscribe", json!({ "user": "u", "channel": "nobody:a" }), unknown),
        ("disconnect", json!({ "disconnect": { "code": 2999, "reason": "r" } }), bad),
        ("disconnect", json!({ "disconnect": { "code": 5000, "reason": "r" } }), bad),
        ("disconnect", json!({ "disconnect": { "code": 4000, "reason": "r".repeat(124) } }), bad),
        ("presence", json!({}), bad),
        ("presence", json!({ "channel": "nobody:a" }), unknown),
        ("presence", json!({ "channel": "plain:a" }), off),
        ("presence_stats", json!({}), bad),
        ("presence_stats", json!({ "channel": "nobody:a" }), unknown),
        ("presence_stats", json!({ "channel": "plain:a" }), off),
        ("history", json!({}), bad),
        ("history", json!({ "channel": "nobody:a" }), unknown),
        ("history", json!({ "channel": "plain:a" }), off),
        (
            "history",
            json!({ "channel": "h", "since": foreign, "limit": 1 }),
            (112, 416, "unrecoverable position"),
        ),
        ("history", json!({ "channel": "h", "since": { "offset": 0 }, "reverse": true }), bad),
        ("history_remove", json!({}), bad),
        ("history_remove", json!({ "channel": "nobody:a" }), unknown),
        ("history_remove", json!({ "channel": "plain:a" }), off),
        ("channels", json!({ "pattern": "[" }), bad),
        ("rpc", json!({}), bad),
        ("rpc", json!({ "method": "none" }), (104, 404, "not found")),
        ("rpc", json!({ "method": "fail" }), (100, 500, "internal server error")),
        ("rpc", json!({ "method": "sold" }), (1400, 500, "sold out")),
        ("map_publish", json!({ "channel": "a", "key": "k" }), off),
        ("map_remove", json!({ "channel": "a", "key": "k" }), off),
        ("map_read_state", json!({ "channel": "a" }), off),
        ("map_read_stream", json!({ "channel": "a" }), off),
        ("map_stats", json!({ "channel": "a" }), off),
        ("map_clear", json!({ "channel": "a" }), off),
        ("shared_poll_publish", json!({ "channel": "a", "key": "k" }), off),
    ] {
        assert_eq!(backend.call(method, body.clone()).await, error(code, message), "{method} {body}");
        let answer = backend.call_by_status(method, body.clone()).await;
        assert_eq!(answer.status, status, "{method} {body}");
        assert_eq!(answer.json(), json!({ "code": code, "message": message }), "{method} {body}");
    }
}

#[tokio::test]
async fn batch_answers_in_order_and_alone_without_a_result_member() {
    let backend = Backend::start().await;
    for parallel in [false, true] {
        let channel = format!("batch-{parallel}");
        let commands = json!([
            { "publish": { "channel": channel, "data": 1 } },
            { "publish": { "channel": "nobody:a", "data": 1 } },
            { "unheard_of": {} },
            {},
            { "publish": null },
            { "batch": { "commands": [] } },
            { "map_stats": { "channel": "a" } },
            { "rpc": { "method": "echo", "params": 7 } },
            { "broadcast": { "channels": ["plain:a"], "data": 1 } },
            { "info": {}, "unheard_of": {} },
        ]);
        let body = json!({ "commands": commands, "parallel": parallel });
        let answer = backend.call("batch", body.clone()).await;
        let replies = answer["replies"].as_array().expect("replies without a result around them");
        assert_eq!(replies[0]["publish"]["offset"], 1);
        for (at, expected) in [
            (1, error(102, "unknown channel")),
            (2, error(104, "not found")),
            (3, error(104, "not found")),
            (4, error(107, "bad request")),
            (5, error(104, "not found")),
            (6, error(108, "not available")),
            (7, json!({ "rpc": { "data": 7 } })),
            (8, json!({ "broadcast": { "responses": [{ "result": {} }] } })),
        ] {
            assert_eq!(replies[at], expected, "{at}");
        }
        assert_eq!(replies[9]["info"]["nodes"][0]["name"], "node");
        assert_eq!(replies.len(), 10);
        assert_eq!(
            backend.call_by_status("batch", body).await.status,
            200,
            "errors of items stay in the body"
        );
    }
    assert_eq!(backend.call("batch", json!({})).await, json!({ "replies": [] }));
}

#[tokio::test]
async fn a_batch_in_sequence_keeps_the_order_of_publications() {
    let backend = Backend::start().await;
    let mut client = Client::connected(backend.address).await;
    client.subscribe("ordered").await.unwrap();
    let commands: Vec<_> =
        (0..100).map(|n| json!({ "publish": { "channel": "ordered", "data": n } })).collect();
    backend.call("batch", json!({ "commands": commands })).await;
    for n in 0..100 {
        assert_eq!(client.text().await, n.to_string());
    }
}

#[tokio::test]
async fn older_clients_send_one_call_a_line() {
    let backend = Backend::start().await;
    let lines = [
        r#"{"id":1,"method":"publish","params":{"channel":"plain:a","data":{}}}"#,
        r#"{"method":"publish","params":{"channel":"nobody:a","data":{}}}"#,
        "",
        r#"{"id":3,"method":"presence_stats","params":{"channel":"quiet"}}"#,
        r#"{"id":4,"method":"unheard_of","params":{}}"#,
        r#"{"id":5,"method":"publish","params":{"channel":1}}"#,
        r#"{"id":6,"method":"map_stats"}"#,
        r#"{"id":7}"#,
    ];
    let answer = backend.post("/api", &[], &lines.join("\n")).await;
    assert_eq!(answer.status, 200);
    let answers: Vec<Value> = answer.body.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let failed = |id: u32, code: u32, message: &str| json!({ "id": id, "error": { "code": code, "message": message } });
    assert_eq!(
        answers,
        [
            json!({ "id": 1, "result": {} }),
            error(102, "unknown channel"),
            json!({ "id": 3, "result": { "num_clients": 0, "num_users": 0 } }),
            failed(4, 104, "not found"),
            failed(5, 107, "bad request"),
            failed(6, 108, "not available"),
            failed(7, 104, "not found"),
        ]
    );
}
