//! Requests that never reach a method: who calls, how, and with what body.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::support::http::{raw, read, request};
use crate::support::{Backend, KEY, api_config, error};

const PUBLISH: &[u8] = br#"{"channel":"plain:a","data":{}}"#;

#[tokio::test]
async fn bad_a1_callers_without_the_key() {
    let backend = Backend::start().await;
    let longer = format!("{KEY}x");
    let spaced = format!("apikey {KEY} x");
    let (no_scheme, bearer) = (KEY.to_owned(), format!("Bearer {KEY}"));
    let upper = KEY.to_uppercase();
    for headers in [
        &[][..],
        &[("x-api-key", "")],
        &[("x-api-key", "wrong")],
        &[("x-api-key", &KEY[1..])],
        &[("x-api-key", &longer)],
        &[("x-api-key", &upper)],
        &[("x-api-key", "\u{e9}")],
        &[("authorization", "apikey")],
        &[("authorization", "apikey wrong")],
        &[("authorization", &spaced)],
        &[("authorization", &no_scheme)],
        &[("authorization", &bearer)],
        &[("cookie", "api_key=the-key-of-these-tests")],
        &[("x-forwarded-for", "127.0.0.1")],
    ] {
        for path in
            ["/api/publish", "/api/publish?api_key=wrong", "/api/publish?api_key=%00", "/api", "/api/batch"]
        {
            let answer = request(backend.address, "POST", path, headers, PUBLISH).await;
            assert_eq!(answer.status, 401, "{headers:?} {path}");
            assert!(!answer.body.contains(KEY) && answer.body.len() < 100);
        }
    }
    // A key that no header may hold is refused by the HTTP layer.
    for key in [&b"a\0b"[..], b"a\rb", b"\x01"] {
        let mut bytes = b"POST /api/info HTTP/1.1\r\nhost: t\r\nconnection: close\r\nx-api-key: ".to_vec();
        bytes.extend_from_slice(key);
        bytes.extend_from_slice(b"\r\ncontent-length: 2\r\n\r\n{}");
        assert_eq!(raw(backend.address, &bytes).await.status, 400, "{key:?}");
    }
}

#[tokio::test]
async fn the_key_is_taken_in_three_places() {
    let backend = Backend::start().await;
    let in_query = format!("/api/publish?api_key={KEY}");
    let authorization = format!("apikey {KEY}");
    for (path, headers) in [
        (in_query.as_str(), &[][..]),
        ("/api/publish", &[("x-api-key", KEY)]),
        ("/api/publish", &[("authorization", authorization.as_str())]),
    ] {
        let answer = request(backend.address, "POST", path, headers, PUBLISH).await;
        assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"result":{}}"#));
    }
}

#[tokio::test]
async fn bad_a1_without_a_configured_key_everybody_is_refused_unless_insecure() {
    for (insecure, status) in [(false, 401), (true, 200)] {
        let backend =
            Backend::with(tidewire_server::config::model::HttpApi { key: None, insecure, ..api_config() })
                .await;
        for headers in [&[][..], &[("x-api-key", "")], &[("authorization", "apikey ")]] {
            let answer = request(backend.address, "POST", "/api/publish", headers, PUBLISH).await;
            assert_eq!(answer.status, status, "{headers:?}");
        }
    }
}

#[tokio::test]
async fn bad_a1_other_http_methods_before_the_key_is_looked_at() {
    let backend = Backend::start().await;
    for method in ["GET", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "BREW"] {
        for headers in [&[][..], &[("x-api-key", KEY)]] {
            for path in ["/api/publish", "/api", "/api/batch"] {
                let answer = request(backend.address, method, path, headers, b"").await;
                assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method} {path}");
            }
        }
    }
}

#[tokio::test]
async fn bad_h3_paths_that_are_no_method() {
    let backend = Backend::start().await;
    for path in [
        "/api/",
        "/api/unheard_of",
        "/api/Publish",
        "/api/publish/",
        "/api/publish/x",
        "/api//publish",
        "/apipublish",
        "/api/publish%00",
        "/api/..%2fapi/publish",
        "/api/../api/publish",
        "/api/connections",
        "/api/block_user",
        "/api/revoke_token",
        "/api/pub%6",
        "/",
    ] {
        for method in ["POST", "GET"] {
            let answer = request(backend.address, method, path, &[("x-api-key", KEY)], b"{}").await;
            assert!(matches!(answer.status, 400 | 404), "{method} {path}: {}", answer.status);
        }
    }
    // A percent sign that only spells a name is that name.
    let answer = backend.post("/api/publis%68", &[], r#"{"channel":"plain:a","data":1}"#).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn bodies_that_cannot_be_read() {
    let backend = Backend::start().await;
    for body in [
        &b""[..],
        b" ",
        b"null",
        b"[]",
        b"[\"plain:a\",[],1]",
        b"1",
        b"\"\"",
        b"{",
        b"{}}",
        b"{},",
        b"nul",
        b"{\"channel\":}",
        b"{\"channel\":\"a\",}",
        b"{'channel':'a'}",
        b"{\"channel\":1}",
        b"{\"channel\":[\"a\"]}",
        b"{\"channel\":{}}",
        b"{\"tags\":[]}",
        b"{\"tags\":{\"a\":1}}",
        b"{\"version\":-1}",
        b"{\"version\":1.5}",
        b"{\"version\":18446744073709551616}",
        b"{\"skip_history\":1}",
        b"{\"skip_history\":\"true\"}",
        b"{\"data\":NaN}",
        b"{\"data\":01}",
        b"{\"b64data\":1}",
        b"\xef\xbb\xbf{}",
        b"{\"channel\":\"\xff\"}",
        b"{\"channel\":\"\\ud800\"}",
        b"// {}",
        b"\0",
        b"{\"channel\":\"a\n\"}",
        b"channel=a&data=1",
    ] {
        let text = String::from_utf8_lossy(body);
        let answer = request(backend.address, "POST", "/api/publish", &[("x-api-key", KEY)], body).await;
        assert_eq!(answer.status, 400, "{text:?} {}", answer.body);
        assert!(answer.body.len() < 100, "nothing of the body is repeated: {}", answer.body);
    }
    let commands = r#"{"commands":[{"publish":{"channel":"seen","data":1}},{"publish":{"channel":1}}]}"#;
    assert_eq!(backend.post("/api/batch", &[], commands).await.status, 400);
    let history = backend.call("history", json!({ "channel": "seen" })).await;
    assert_eq!(history["result"]["offset"], 0, "nothing of a broken batch is carried out");
    for lines in ["", "\n", "{}\n[]", "{\"id\":-1}", "{\"method\":1}"] {
        assert_eq!(backend.post("/api", &[], lines).await.status, 400, "{lines:?}");
    }
}

#[tokio::test]
async fn payloads_nested_deeper_than_clients_read_are_refused() {
    let backend = Backend::start().await;
    for (depth, refused) in [(512, false), (513, true), (100_000, true)] {
        let data = "[".repeat(depth) + &"]".repeat(depth);
        let answer = backend.post("/api/publish", &[], &format!(r#"{{"channel":"h","data":{data}}}"#)).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json() == error(107, "bad request"), refused, "{depth}");
    }
}

#[tokio::test]
async fn limits_on_bodies_batches_and_publications() {
    let backend = Backend::start().await;
    let publish = |size: usize| format!(r#"{{"channel":"plain:a","data":"{}"}}"#, "x".repeat(size - 2));
    let limit = 64 << 10;
    assert_eq!(backend.post("/api/publish", &[], &publish(limit)).await.json(), json!({ "result": {} }));
    let message = format!("publication in bytes is {}, the limit is {limit}", limit + 1);
    assert_eq!(backend.post("/api/publish", &[], &publish(limit + 1)).await.json(), error(107, &message));
    let mode = [("x-centrifugo-error-mode", "transport")];
    assert_eq!(backend.post("/api/publish", &mode, &publish(limit + 1)).await.status, 413);

    let answer = backend.post("/api/publish", &[], &" ".repeat((1 << 20) + 1)).await;
    assert_eq!((answer.status, answer.header("connection")), (413, Some("close")));

    let batch = |count: usize| json!({ "commands": vec![json!({ "info": {} }); count] });
    assert_eq!(backend.call("batch", batch(100)).await["replies"].as_array().unwrap().len(), 100);
    assert_eq!(backend.call("batch", batch(101)).await["error"]["code"], 107);
    let broadcast = |count: usize| json!({ "channels": vec!["plain:a"; count], "data": 1 });
    assert_eq!(
        backend.call("broadcast", broadcast(100)).await["result"]["responses"].as_array().unwrap().len(),
        100
    );
    assert_eq!(backend.call("broadcast", broadcast(101)).await["error"]["code"], 107);
}

#[tokio::test]
async fn bad_h4_bodies_that_are_encoded_or_not_what_was_said() {
    let backend = Backend::start().await;
    for coding in ["gzip", "br", "deflate", "gzip, identity"] {
        let answer = backend.post("/api/info", &[("content-encoding", coding)], "{}").await;
        assert_eq!(answer.status, 415, "{coding}");
    }
    assert_eq!(backend.post("/api/info", &[("content-encoding", "identity")], "{}").await.status, 200);
    // Any content type is read as JSON: curl -d says it is a form.
    for kind in ["application/x-www-form-urlencoded", "text/plain", "application/json; charset=utf-8"] {
        assert_eq!(backend.post("/api/info", &[("content-type", kind)], "{}").await.status, 200);
    }
    // The client ends before the length it announced.
    let head =
        format!("POST /api/info HTTP/1.1\r\nhost: t\r\nx-api-key: {KEY}\r\ncontent-length: 10\r\n\r\n{{}}");
    let mut socket = TcpStream::connect(backend.address).await.unwrap();
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut left = Vec::new();
    let _ = tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut left).await;
    assert!(!String::from_utf8_lossy(&left).contains(" 200 "), "half a body is not carried out");
}

#[tokio::test(start_paused = true)]
async fn bad_h5_a_body_that_does_not_come() {
    let backend = Backend::start().await;
    let head =
        format!("POST /api/info HTTP/1.1\r\nhost: t\r\nx-api-key: {KEY}\r\ncontent-length: 10\r\n\r\n{{");
    let mut socket = TcpStream::connect(backend.address).await.unwrap();
    socket.write_all(head.as_bytes()).await.unwrap();
    // The clock moves on by itself while everybody waits.
    let began = tokio::time::Instant::now();
    let answer = read(&mut socket).await;
    assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
    assert!(began.elapsed() >= Duration::from_secs(10));
}
