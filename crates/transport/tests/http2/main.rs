//! HTTP/2 as no lawful client speaks it (family H2), frame by frame over TLS; and where it is not spoken.
//!
//! Every case has a connection of its own. It is answered as RFC 9113 says or does no harm, and whoever else is connected
//! goes on being served.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod client;
mod frames;
#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use tidewire_transport::HttpOptions;
use tokio::net::TcpStream;

use client::{Client, Frame, Tls};
use frames::*;
use support::{Raw, Server, Setup, UPGRADE};

/// What a frame that cannot be read ends with: `h2` tells a wrong size from other faults only where it must.
const MALFORMED: &[u32] = &[FRAME_SIZE_ERROR, PROTOCOL_ERROR, FLOW_CONTROL_ERROR];

/// What must come of a case.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Outcome {
    /// The connection ends with this code, or one of these where the RFC leaves a choice.
    GoAway(&'static [u32]),
    /// The stream ends with one of these codes, and the connection serves on.
    Reset(&'static [u32]),
    /// The request is answered with one of these, and the connection serves on.
    Status(&'static [u16]),
    /// The connection ends, with or without a word.
    End,
    /// Nothing but that the connection serves on.
    Nothing,
}

// === cases ===

struct Case {
    what: &'static str,
    /// Sent behind the preface and empty settings.
    sent: Vec<u8>,
    outcome: Outcome,
    /// For the request afterwards.
    next_stream: u32,
}

fn case(what: &'static str, sent: impl Into<Vec<u8>>, outcome: Outcome) -> Case {
    Case { what, sent: sent.into(), outcome, next_stream: 1_001 }
}

fn framing() -> Vec<Case> {
    use Outcome::{GoAway, Nothing, Reset};
    let ping = |flags, stream, len| frame(PING, flags, stream, &vec![0; len]);
    vec![
        case("settings cut short", frame(SETTINGS, 0, 0, &[0; 5]), GoAway(MALFORMED)),
        case("settings of a stream", frame(SETTINGS, 0, 1, &[]), GoAway(&[PROTOCOL_ERROR])),
        case("an acknowledgement with settings", frame(SETTINGS, ACK, 0, &[0; 6]), GoAway(MALFORMED)),
        case("a window above 2^31-1", settings(&[(4, 1 << 31)]), GoAway(MALFORMED)),
        case("frames of one byte", settings(&[(5, 1)]), GoAway(&[PROTOCOL_ERROR])),
        case("frames of 16 MiB", settings(&[(5, 1 << 24)]), GoAway(&[PROTOCOL_ERROR])),
        case("push neither on nor off", settings(&[(2, 2)]), GoAway(&[PROTOCOL_ERROR])),
        case("a ping of seven bytes", ping(0, 0, 7), GoAway(MALFORMED)),
        case("a ping of nine bytes", ping(0, 0, 9), GoAway(MALFORMED)),
        case("a ping of a stream", ping(0, 1, 8), GoAway(&[PROTOCOL_ERROR])),
        case("an answer to no ping", ping(ACK, 0, 8), Nothing),
        case(
            "a frame above 16 KiB",
            frame(DATA, 0, 1, &[0; 16_385]),
            GoAway(&[FRAME_SIZE_ERROR, PROTOCOL_ERROR]),
        ),
        case("headers above 16 KiB", frame(HEADERS, 4, 1, &[0; 16_385]), GoAway(MALFORMED)),
        case("a frame of a kind nobody knows", frame(0xbe, 0xff, 7, &[1; 100]), Nothing),
        case("data of no stream", frame(DATA, 0, 0, b"x"), GoAway(&[PROTOCOL_ERROR])),
        case("data of an idle stream", frame(DATA, 0, 5, b"x"), GoAway(&[PROTOCOL_ERROR])),
        case("a push by a client", frame(PUSH_PROMISE, 4, 1, &[0, 0, 0, 2, 0x82]), GoAway(&[PROTOCOL_ERROR])),
        case("a reset of no stream", frame(RST_STREAM, 0, 0, &[0; 4]), GoAway(&[PROTOCOL_ERROR])),
        case("a reset of an idle stream", frame(RST_STREAM, 0, 9, &[0; 4]), GoAway(&[PROTOCOL_ERROR])),
        case("a reset cut short", [open(1), frame(RST_STREAM, 0, 1, &[0; 3])].concat(), GoAway(MALFORMED)),
        case("a window opened by nothing", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), GoAway(&[PROTOCOL_ERROR])),
        case(
            "a window opened too wide",
            frame(WINDOW_UPDATE, 0, 0, &0x7fff_ffff_u32.to_be_bytes()),
            GoAway(&[FLOW_CONTROL_ERROR]),
        ),
        case("a window cut short", frame(WINDOW_UPDATE, 0, 0, &[0; 3]), GoAway(MALFORMED)),
        case(
            "a stream's window opened too wide",
            [open(1), frame(WINDOW_UPDATE, 0, 1, &0x7fff_ffff_u32.to_be_bytes())].concat(),
            Reset(&[FLOW_CONTROL_ERROR]),
        ),
        case(
            "a stream's window opened by nothing",
            [open(1), frame(WINDOW_UPDATE, 0, 1, &[0; 4])].concat(),
            // The RFC asks for the stream alone; more is allowed (§5.4.2).
            GoAway(&[PROTOCOL_ERROR]),
        ),
        case("a priority cut short", frame(PRIORITY, 0, 1, &[0; 4]), GoAway(MALFORMED)),
        case(
            "padding above the frame",
            [open(1), frame(DATA, PADDED, 1, &[9, 1])].concat(),
            GoAway(&[PROTOCOL_ERROR]),
        ),
    ]
}

fn streams_and_headers() -> Vec<Case> {
    use Outcome::{GoAway, Nothing, Reset, Status};
    let fields = |fields: &[(&str, &str)]| headers(1, fields);
    let get = [(":method", "GET"), (":scheme", "https"), (":path", "/"), (":authority", "localhost")];
    let with = |more: &[(&'static str, &'static str)]| fields(&[&get[..], more].concat());
    let depends_on_itself = [&1_u32.to_be_bytes()[..], &[15]].concat();
    let dynamic = [vec![0x40], string("x-bomb"), string(&"b".repeat(3_000))].concat();
    vec![
        case("headers of no stream", frame(HEADERS, 5, 0, &block(&[])), GoAway(&[PROTOCOL_ERROR])),
        case("a stream with an even number", request(2, &[]), GoAway(&[PROTOCOL_ERROR])),
        case(
            "a number below the last",
            [request(7, &[]), request(5, &[])].concat(),
            GoAway(&[PROTOCOL_ERROR, STREAM_CLOSED]),
        ),
        case("a continuation of nothing", frame(CONTINUATION, 4, 1, &block(&[])), GoAway(&[PROTOCOL_ERROR])),
        case(
            "another frame inside headers",
            [frame(HEADERS, 0, 1, &block(&[])), frame(PING, 0, 0, &[0; 8])].concat(),
            GoAway(&[PROTOCOL_ERROR]),
        ),
        case(
            "a continuation of another stream",
            [frame(HEADERS, 0, 1, &block(&[])), frame(CONTINUATION, 4, 3, &[])].concat(),
            GoAway(&[PROTOCOL_ERROR]),
        ),
        case(
            "data behind the end",
            [request(1, &[]), frame(DATA, 0, 1, b"more")].concat(),
            // The stream may be forgotten already.
            GoAway(&[STREAM_CLOSED, PROTOCOL_ERROR]),
        ),
        case(
            "a stream that depends on itself",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM | PRIORITIZED,
                1,
                &[depends_on_itself.clone(), block(&[])].concat(),
            ),
            Nothing,
        ),
        case("a priority of itself", frame(PRIORITY, 0, 1, &depends_on_itself), Reset(&[PROTOCOL_ERROR])),
        case("index zero", frame(HEADERS, 5, 1, &[0x80]), GoAway(&[COMPRESSION_ERROR, PROTOCOL_ERROR])),
        case(
            "an index behind the table",
            frame(HEADERS, 5, 1, &[0xff, 0x80, 1]),
            GoAway(&[COMPRESSION_ERROR, PROTOCOL_ERROR]),
        ),
        case(
            "an index without end",
            frame(HEADERS, 5, 1, &[0xff; 20]),
            GoAway(&[COMPRESSION_ERROR, PROTOCOL_ERROR]),
        ),
        case(
            "a table above its bound",
            frame(HEADERS, 5, 1, &[0x3f, 0xff, 0xff, 0x7f]),
            GoAway(&[COMPRESSION_ERROR, PROTOCOL_ERROR]),
        ),
        case(
            "text behind the block",
            frame(HEADERS, 5, 1, &[0, 9, b'x']),
            GoAway(&[COMPRESSION_ERROR, PROTOCOL_ERROR]),
        ),
        case(
            "Huffman's code with a wrong end",
            frame(HEADERS, 5, 1, &[0, 1, b'x', 0x81, 0]),
            GoAway(&[COMPRESSION_ERROR, PROTOCOL_ERROR]),
        ),
        case(
            "a header of 3 KB six times by its index",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                &[block(&[]), dynamic.clone(), vec![0xbe; 5]].concat(),
            ),
            Status(&[431]),
        ),
        case(
            "a header of 3 KB a hundred times by its index",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[block(&[]), dynamic, vec![0xbe; 100]].concat()),
            GoAway(&[ENHANCE_YOUR_CALM]),
        ),
        case("upper case", with(&[("X-Upper", "1")]), GoAway(&[PROTOCOL_ERROR])),
        case("a connection header", with(&[("connection", "close")]), Reset(&[PROTOCOL_ERROR])),
        case("transfer-encoding", with(&[("transfer-encoding", "chunked")]), Reset(&[PROTOCOL_ERROR])),
        case("te without trailers", with(&[("te", "gzip")]), Reset(&[PROTOCOL_ERROR])),
        case("no method", fields(&get[1..]), Reset(&[PROTOCOL_ERROR])),
        case("no path", fields(&[get[0], get[1]]), Status(&[400])),
        case("two paths", with(&[(":path", "/other")]), Reset(&[PROTOCOL_ERROR])),
        case("a pseudo header nobody knows", with(&[(":other", "x")]), GoAway(&[PROTOCOL_ERROR])),
        case("a pseudo header of answers", with(&[(":status", "200")]), Reset(&[PROTOCOL_ERROR])),
        case(
            "a pseudo header too late",
            fields(&[&[("x", "y")][..], &get].concat()),
            Reset(&[PROTOCOL_ERROR]),
        ),
        case("a newline in a value", with(&[("x", "a\r\nb: c")]), GoAway(&[PROTOCOL_ERROR])),
        case("a NUL in a value", with(&[("x", "a\0b")]), GoAway(&[PROTOCOL_ERROR])),
        case(
            "a body longer than said",
            [frame(HEADERS, 4, 1, &block(&[("content-length", "1")])), frame(DATA, 1, 1, b"more")].concat(),
            Reset(&[PROTOCOL_ERROR]),
        ),
        case(
            "a body shorter than said",
            [frame(HEADERS, 4, 1, &block(&[("content-length", "9")])), frame(DATA, 1, 1, b"less")].concat(),
            Reset(&[PROTOCOL_ERROR]),
        ),
        case("no body where one was said", request(1, &[("content-length", "9")]), Reset(&[PROTOCOL_ERROR])),
        case(
            "a WebSocket over CONNECT without the setting",
            fields(&[
                (":method", "CONNECT"),
                (":protocol", "websocket"),
                (":scheme", "https"),
                (":path", "/"),
                (":authority", "localhost"),
            ]),
            Reset(&[PROTOCOL_ERROR]),
        ),
        case(
            "CONNECT",
            fields(&[(":method", "CONNECT"), (":authority", "localhost:22")]),
            Status(&[400, 404, 405]),
        ),
        case(
            "an upgrade to a WebSocket",
            with(&[("sec-websocket-version", "13"), ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==")]),
            Status(&[400, 426]),
        ),
        case("no window for the answer", [settings(&[(4, 0)]), request(1, &[])].concat(), Nothing),
        case("an end by the client", frame(GOAWAY, 0, 0, &[0; 8]), Outcome::End),
    ]
}

fn floods() -> Vec<Case> {
    use Outcome::GoAway;
    let calm = GoAway(&[ENHANCE_YOUR_CALM]);
    let of_streams = |each: &dyn Fn(u32) -> Vec<u8>, count: u32| -> Vec<u8> {
        (0..count).flat_map(|n| each(2 * n + 1)).collect()
    };
    let reset = |stream| frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]);
    vec![
        case("rapid reset", of_streams(&|n| [open(n), reset(n)].concat(), 10_000), calm),
        case(
            "rapid reset of whole requests",
            of_streams(&|n| [request(n, &[]), reset(n)].concat(), 10_000),
            calm,
        ),
        case(
            "resets made by the server: windows opened too wide",
            of_streams(
                &|n| [open(n), frame(WINDOW_UPDATE, 0, n, &0x7fff_ffff_u32.to_be_bytes())].concat(),
                10_000,
            ),
            calm,
        ),
        case(
            "resets made by the server: bodies longer than said",
            of_streams(
                &|n| {
                    let head = frame(HEADERS, 4, n, &block(&[("content-length", "1")]));
                    [head, frame(DATA, 1, n, b"more")].concat()
                },
                10_000,
            ),
            calm,
        ),
        case("streams above their number", of_streams(&open, 100_000), calm),
        case("pings", frame(PING, 0, 0, &[0; 8]).repeat(100_000), calm),
        case("settings", settings(&[(4, 65_535)]).repeat(100_000), calm),
        case("empty settings", settings(&[]).repeat(100_000), calm),
        case("priorities", frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1]).repeat(100_000), calm),
        case(
            "priorities in a circle",
            [frame(PRIORITY, 0, 1, &[0, 0, 0, 3, 1]), frame(PRIORITY, 0, 3, &[0, 0, 0, 1, 1])]
                .concat()
                .repeat(50_000),
            calm,
        ),
        case("empty data", [open(1), frame(DATA, 0, 1, &[]).repeat(100_000)].concat(), calm),
        case("padding alone", [open(1), frame(DATA, PADDED, 1, &[0]).repeat(100_000)].concat(), calm),
        case(
            "continuations",
            [
                frame(HEADERS, 0, 1, &block(&[])),
                frame(CONTINUATION, 0, 1, &literal("x", "y")).repeat(100_000),
            ]
            .concat(),
            calm,
        ),
        case(
            "empty continuations",
            [frame(HEADERS, 0, 1, &block(&[])), frame(CONTINUATION, 0, 1, &[]).repeat(100_000)].concat(),
            calm,
        ),
        case("frames of no known kind", frame(0xbe, 0, 0, &[]).repeat(100_000), calm),
    ]
}

/// What came of a case: the first word about it.
async fn outcome(client: &mut Client, case: &Case) -> (Outcome, String) {
    client.send(&case.sent).await;
    match case.outcome {
        Outcome::GoAway(codes) => match client.goes_away().await {
            Some(code) if codes.contains(&code) => (case.outcome, String::new()),
            other => (Outcome::End, format!("the connection ended with {other:?}")),
        },
        Outcome::End => {
            client.goes_away().await;
            (Outcome::End, String::new())
        }
        Outcome::Nothing => match client.serves(case.next_stream).await {
            Ok(()) => (Outcome::Nothing, String::new()),
            Err(code) => (Outcome::End, format!("the connection ended with {code:?}")),
        },
        Outcome::Reset(codes) => loop {
            match client.next().await {
                Some(Frame { kind: RST_STREAM, stream: 1, payload, .. })
                    if codes.contains(&code(&payload)) =>
                {
                    break (case.outcome, String::new());
                }
                Some(Frame { kind: kind @ (RST_STREAM | GOAWAY | HEADERS), payload, .. }) => {
                    break (Outcome::End, format!("kind {kind}: {payload:?}"));
                }
                Some(_) => {}
                None => break (Outcome::End, "no word".to_owned()),
            }
        },
        Outcome::Status(statuses) => loop {
            match client.next().await {
                Some(Frame { kind: HEADERS, stream: 1, payload, .. })
                    if statuses.contains(&status(&payload)) =>
                {
                    break (case.outcome, String::new());
                }
                Some(Frame { kind: kind @ (RST_STREAM | GOAWAY | HEADERS), payload, .. }) => {
                    break (Outcome::End, format!("kind {kind}: {payload:?}"));
                }
                Some(_) => {}
                None => break (Outcome::End, "no word".to_owned()),
            }
        },
    }
}

/// Runs cases, each on a connection of its own. Two others are there all the time and are served.
async fn try_all(cases: Vec<Case>) {
    let tls = Tls::new();
    let server = Server::start(Setup { tls: Some(tls.server.clone()), ..Setup::default() }).await;
    let mut other = tls.client(&server).await;
    other.send(&[PREFACE, &settings(&[])].concat()).await;
    let mut web_socket = Raw::new(tls.connect(&server, &["http/1.1"]).await.unwrap());
    web_socket.send(UPGRADE).await;
    assert!(web_socket.http_head().await.contains(" 101 "));
    let mut failed = Vec::new();
    for (n, case) in (0_u32..).zip(cases) {
        let mut client = tls.client(&server).await;
        client.send(&[PREFACE, &settings(&[])].concat()).await;
        let (came, why) = outcome(&mut client, &case).await;
        if client.silent {
            failed.push(format!("{}: silence", case.what));
        } else if came != case.outcome {
            failed.push(format!("{}: {why}, not {:?}", case.what, case.outcome));
        } else if matches!(came, Outcome::Reset(_) | Outcome::Status(_))
            && let Err(end) = client.serves(case.next_stream).await
        {
            failed.push(format!("{}: the connection ended behind it with {end:?}", case.what));
        }
        assert_eq!(other.serves(2 * n + 1).await, Ok(()), "{}", case.what);
        web_socket.text(case.what).await;
        assert_eq!(web_socket.next_text().await, case.what);
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[tokio::test]
async fn bad_h2_frames_that_break_the_protocol() {
    try_all(framing()).await;
}

#[tokio::test]
async fn bad_h2_streams_and_headers_that_break_the_protocol() {
    try_all(streams_and_headers()).await;
}

#[tokio::test]
async fn bad_h2_floods_end_the_connection_that_makes_them() {
    try_all(floods()).await;
}

#[tokio::test]
async fn bad_h2_streams_above_a_hundred_are_refused() {
    let tls = Tls::new();
    let server = Server::start(Setup { tls: Some(tls.server.clone()), ..Setup::default() }).await;
    let mut client = tls.client(&server).await;
    let streams: Vec<u8> = (0..110_u32).flat_map(|n| open(2 * n + 1)).collect();
    // The limit counts from when the client knows of it.
    client.send(&[PREFACE, &settings(&[])].concat()).await;
    let told = client.next().await.unwrap();
    assert_eq!(told.kind, SETTINGS);
    let limits: Vec<(u16, u32)> = told
        .payload
        .chunks(6)
        .map(|pair| (u16::from_be_bytes([pair[0], pair[1]]), code(&pair[2..])))
        .collect();
    assert!(limits.contains(&(3, 100)), "100 streams at a time: {limits:?}");
    assert!(limits.contains(&(6, 16 << 10)), "16 KiB of headers: {limits:?}");
    client.send(&frame(SETTINGS, ACK, 0, &[])).await;
    client.send(&streams).await;
    let mut refused = 0;
    while refused < 10 {
        let frame = client.next().await.expect("the connection goes on");
        if frame.kind == RST_STREAM {
            assert_eq!(code(&frame.payload), REFUSED_STREAM);
            assert!(frame.stream > 200);
            refused += 1;
        }
    }
}

#[tokio::test]
async fn bad_h2_a_client_that_does_not_begin_or_does_nothing_is_given_up() {
    let tls = Tls::new();
    let http = HttpOptions {
        head_timeout: Duration::from_millis(200),
        idle_timeout: Duration::from_millis(400),
        ..HttpOptions::default()
    };
    let server = Server::start(Setup { tls: Some(tls.server.clone()), http, ..Setup::default() }).await;
    for sent in [
        // Nothing, half of the preface, and other words than the preface.
        vec![],
        PREFACE[..10].to_vec(),
        b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(),
        b"PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n".to_vec(),
        // No settings behind it.
        [PREFACE, &request(1, &[])].concat(),
        // Lawful, and then nothing more; headers that do not end.
        [PREFACE, &settings(&[])].concat(),
        [PREFACE, &settings(&[]), &frame(HEADERS, 0, 1, &block(&[]))].concat(),
    ] {
        let mut client = tls.client(&server).await;
        client.send(&sent).await;
        loop {
            match client.next().await {
                // A graceful end asks whether the client has heard of it.
                Some(Frame { kind: PING, flags: 0, payload, .. }) => {
                    client.send(&frame(PING, ACK, 0, &payload)).await
                }
                Some(_) => {}
                None => break,
            }
        }
    }
    // A request that is under way is no idleness, however long it takes.
    let mut client = tls.client(&server).await;
    client.send(&[PREFACE, &settings(&[]), &open(1)].concat()).await;
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    client.send(&frame(DATA, END_STREAM, 1, b"at last")).await;
    loop {
        let frame = client.next().await.expect("an answer");
        assert_ne!(frame.kind, GOAWAY);
        if frame.kind == HEADERS {
            assert_eq!(status(&frame.payload), 200);
            break;
        }
    }
}

#[tokio::test]
async fn bad_h2_where_it_is_not_spoken_it_is_refused() {
    let server = Server::start(Setup::default()).await;
    let mut raw = Raw::new(TcpStream::connect(server.address).await.unwrap());
    raw.send(&[PREFACE, &settings(&[]), &request(1, &[])].concat()).await;
    // Whoever begins like this understands no answer of HTTP/1.1: the connection ends at once.
    assert_eq!(raw.fill().await, 0);

    // An upgrade to it is not taken: the request is answered as the HTTP/1.1 that it is.
    let upgrade = "POST /plain HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                   HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\nContent-Length: 2\r\n\r\nhi";
    let mut raw = Raw::new(TcpStream::connect(server.address).await.unwrap());
    raw.send(upgrade.as_bytes()).await;
    assert!(raw.http_head().await.starts_with("HTTP/1.1 200 "));

    // Over TLS it is spoken if it was agreed on, and nothing unknown is agreed on.
    let tls = Tls::new();
    let server = Server::start(Setup { tls: Some(tls.server.clone()), ..Setup::default() }).await;
    assert!(tls.connect(&server, &["h3"]).await.is_err(), "nothing in common");
    let mut raw = Raw::new(tls.connect(&server, &[]).await.unwrap());
    raw.send(&[PREFACE, &settings(&[])].concat()).await;
    assert_eq!(raw.fill().await, 0, "without ALPN it is HTTP/1.1");
}
