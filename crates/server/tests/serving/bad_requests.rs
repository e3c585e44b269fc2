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
async fn bad_h4_bodies_that_are_encoded() {
    let backend = Backend::start().await;
    // Made to be unpacked: blocks of a gzip stream that never ends.
    let bomb =
        [&b"\x1f\x8b\x08\0\0\0\0\0\x02\x03"[..], &b"\xed\xc1\x01\x01\0\0\0\x80\x90\xfe\xaf".repeat(3_000)]
            .concat();
    for coding in [
        "gzip",
        "GZIP",
        "x-gzip",
        "br",
        "zstd",
        "deflate",
        "compress",
        "gzip, identity",
        "identity, gzip",
        "gzip, gzip, gzip",
        "unheard-of",
        ";",
    ] {
        for body in [&b"{}"[..], &bomb] {
            let headers = [("x-api-key", KEY), ("content-encoding", coding)];
            let answer = request(backend.address, "POST", "/api/info", &headers, body).await;
            assert_eq!(answer.status, 415, "{coding}");
        }
    }
    let answer = request(backend.address, "POST", "/api/info", &[("x-api-key", KEY)], &bomb).await;
    assert_eq!(answer.status, 400, "what is not said to be encoded is not decoded");
    assert_eq!(backend.post("/api/info", &[("content-encoding", "identity")], "{}").await.status, 200);
    // Any content type is read as JSON in UTF-8: curl -d says it is a form.
    for kind in [
        "application/x-www-form-urlencoded",
        "text/plain",
        "application/json; charset=utf-8",
        "application/json; charset=utf-16",
        "multipart/form-data",
        "no type at all",
        "",
    ] {
        assert_eq!(backend.post("/api/info", &[("content-type", kind)], "{}").await.status, 200, "{kind}");
    }
    let utf16: Vec<u8> = "{}".encode_utf16().flat_map(u16::to_be_bytes).collect();
    let headers = [("x-api-key", KEY), ("content-type", "application/json; charset=utf-16")];
    assert_eq!(request(backend.address, "POST", "/api/info", &headers, &utf16).await.status, 400);
}

/// Sends a call of `info` whose head ends in `lines`, then `body`, then ends; the statuses of all answers.
async fn info_with(backend: &Backend, lines: &str, body: &[u8]) -> Vec<u16> {
    let head = format!("POST /api/info HTTP/1.1\r\nhost: t\r\nx-api-key: {KEY}\r\n{lines}\r\n\r\n");
    let mut socket = TcpStream::connect(backend.address).await.unwrap();
    // The server may have closed before everything is written.
    let _ = socket.write_all(&[head.as_bytes(), body].concat()).await;
    let _ = socket.shutdown().await;
    let mut answers = Vec::new();
    let reading = tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut answers);
    let _ = tokio::time::timeout(Duration::from_secs(30), reading).await.expect("the server closes");
    let answers = String::from_utf8_lossy(&answers).into_owned();
    answers.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().unwrap()).collect()
}

#[tokio::test]
async fn bad_h4_bodies_that_are_shorter_or_longer_than_said() {
    let backend = Backend::start().await;
    let expect = "expect: 100-continue\r\ncontent-length";
    let mut wrong = Vec::new();
    for (lines, body, statuses) in [
        // Shorter, then the end: nothing is carried out, and who hears of it is gone.
        ("content-length: 10", &b"{}"[..], &[][..]),
        ("content-length: 1", b"", &[]),
        ("transfer-encoding: chunked", b"2\r\n{}\r\n", &[]),
        ("transfer-encoding: chunked", b"2\r\n{", &[]),
        ("transfer-encoding: chunked", b"ff\r\n{}\r\n0\r\n\r\n", &[]),
        ("transfer-encoding: chunked", b"", &[]),
        // Longer: the rest is a request of its own, and none.
        ("content-length: 2", b"{}{}", &[200, 400]),
        ("content-length: 2", b"{}\0", &[200, 400]),
        ("transfer-encoding: chunked", b"2\r\n{}\r\n0\r\n\r\n{}", &[200, 400]),
        ("transfer-encoding: chunked", b"1\r\n{}\r\n0\r\n\r\n", &[400]),
        ("transfer-encoding: chunked", b"x\r\n{}\r\n0\r\n\r\n", &[400]),
        // None at all where one is needed, and none that was said.
        ("content-length: 0", b"", &[400]),
        ("x: y", b"", &[400]),
        // Above the limit: refused before it comes, also if the client asks first.
        ("content-length: 1048577", b"", &[413]),
        ("content-length: 9223372036854775807", b"{}", &[413]),
        (&format!("{expect}: 1048577"), b"", &[413]),
        (&format!("{expect}: 9223372036854775807"), b"", &[413]),
        // Asked, answered, and then not what was said.
        (&format!("{expect}: 10"), b"{}", &[100]),
        (&format!("{expect}: 2"), b"{}{}", &[100, 200, 400]),
        ("expect: 100-continue\r\ntransfer-encoding: chunked", b"2\r\n{}\r\n", &[100]),
    ] {
        let answered = info_with(&backend, lines, body).await;
        // Whoever is gone may be told so all the same.
        let told: Vec<u16> = answered.iter().copied().filter(|status| *status != 408).collect();
        let wanted: Vec<u16> = statuses.to_vec();
        let shown = String::from_utf8_lossy(body);
        let half = told.len() == wanted.len() + 1 && told.last() == Some(&400) && !wanted.contains(&200);
        if told != wanted && !half {
            wrong.push(format!("{lines} {shown:?}: {answered:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Endless chunks end at the limit.
    let chunk = [&b"10000\r\n"[..], &[b' '; 0x10000], b"\r\n"].concat();
    let answered = info_with(&backend, "transfer-encoding: chunked", &chunk.repeat(64)).await;
    assert_eq!(answered, [413]);
}

#[tokio::test(start_paused = true)]
async fn bad_h4_a_body_that_was_asked_for_and_does_not_come() {
    let backend = Backend::start().await;
    for length in ["content-length: 2", "transfer-encoding: chunked"] {
        let head = format!(
            "POST /api/info HTTP/1.1\r\nhost: t\r\nx-api-key: {KEY}\r\nexpect: 100-continue\r\n{length}\r\n\r\n"
        );
        let mut socket = TcpStream::connect(backend.address).await.unwrap();
        socket.write_all(head.as_bytes()).await.unwrap();
        let mut interim = [0; 25];
        tokio::io::AsyncReadExt::read_exact(&mut socket, &mut interim).await.unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
        let began = tokio::time::Instant::now();
        let answer = read(&mut socket).await;
        assert_eq!((answer.status, answer.header("connection")), (408, Some("close")));
        assert!(began.elapsed() >= Duration::from_secs(9), "{:?}", began.elapsed());
    }
    // Without the key nobody is asked for a body.
    let head = "POST /api/info HTTP/1.1\r\nhost: t\r\nconnection: close\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    let mut socket = TcpStream::connect(backend.address).await.unwrap();
    socket.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(read(&mut socket).await.status, 401);
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
