//! The end of the real binary.

use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::client::Client;
use crate::support::binary::Server;
use crate::support::http::read;

fn open(spread: &str, timeout: &str) -> Server {
    Server::start(json!({
        "client": { "insecure": true },
        "http_api": { "insecure": true },
        "shutdown": { "spread": spread, "timeout": timeout },
    }))
}

#[tokio::test]
async fn clients_are_told_to_reconnect_within_the_spread() {
    const SPREAD: Duration = Duration::from_millis(1500);
    for signal in ["TERM", "INT"] {
        let mut server = open("1500ms", "20s");
        let mut clients = Vec::new();
        for _ in 0..20 {
            clients.push(Client::connected(server.external).await);
        }
        server.signal(signal);
        server.wait_for(r#""message":"stopping"#);
        let began = Instant::now();
        let ends = futures_util::future::join_all(
            clients.iter_mut().map(async |client| (client.end().await, began.elapsed())),
        )
        .await;
        for (end, at) in &ends {
            assert_eq!(*end, Some((3001, "shutdown".into())));
            assert!(*at < SPREAD + Duration::from_secs(5), "{at:?}");
        }
        let first = ends.iter().map(|(_, at)| at).min().unwrap();
        let last = ends.iter().map(|(_, at)| at).max().unwrap();
        assert!(*last - *first > SPREAD / 10, "not all at once: {first:?} to {last:?}");
        assert!(server.ended().await.success(), "{}", server.written());
    }
}

#[tokio::test]
async fn requests_under_way_are_finished_and_new_ones_not_taken() {
    let mut server = open("10ms", "20s");
    let mut socket = TcpStream::connect(server.external).await.unwrap();
    let head = b"POST /api/info HTTP/1.1\r\nhost: t\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    socket.write_all(head).await.unwrap();
    // The handler reads the body by now: it has asked for it.
    let mut interim = [0; 25];
    tokio::io::AsyncReadExt::read_exact(&mut socket, &mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    server.signal("TERM");
    server.wait_for(r#""message":"stopping"#);
    while TcpStream::connect(server.external).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    socket.write_all(b"{}").await.unwrap();
    assert_eq!(read(&mut socket).await.status, 200);
    assert!(server.ended().await.success());
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut server = open("50s", "60s");
    let mut client = Client::connected(server.external).await;
    client.subscribe("news").await.unwrap();
    server.signal("TERM");
    server.wait_for(r#""message":"stopping"#);
    let began = Instant::now();
    server.signal("TERM");
    server.ended().await;
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn clients_that_do_not_leave_hold_nothing_up_beyond_the_timeout() {
    let mut server = open("10ms", "1s");
    // It never answers the close frame, and it never sends a request.
    let _silent = Client::connected(server.external).await;
    let _idle = TcpStream::connect(server.external).await.unwrap();
    let mut half = TcpStream::connect(server.external).await.unwrap();
    half.write_all(b"POST /api/info HTTP/1.1\r\nhost: t\r\ncontent-length: 2\r\n\r\n").await.unwrap();
    let began = Instant::now();
    server.signal("TERM");
    assert!(server.ended().await.success(), "{}", server.written());
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}

#[tokio::test]
async fn the_pid_file_names_the_process_and_goes_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("tidewire.pid");
    let mut server = Server::start(json!({ "pid_file": file }));
    assert_eq!(std::fs::read_to_string(&file).unwrap().trim(), server.pid().to_string());
    server.signal("TERM");
    server.ended().await;
    assert!(!file.exists());
}
