//! File descriptors that run out.

use std::process::Command;
use std::time::Duration;

use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::client::Client;
use crate::support::binary::{Server, command, loopback};
use crate::support::http::request;

/// A server that may have few files open.
fn with_limit(limit: u32) -> Server {
    let directory = tempfile::tempdir().unwrap();
    let config = loopback(json!({ "client": { "insecure": true }, "http_api": { "insecure": true } }));
    let inner = command(directory.path(), &config);
    let mut outer = Command::new("sh");
    outer.arg("-c").arg(format!("ulimit -n {limit}; exec \"$0\" \"$@\"")).arg(inner.get_program());
    outer.args(inner.get_args()).current_dir(directory.path());
    Server::spawn(outer, directory)
}

#[tokio::test]
async fn connections_beyond_the_limit_are_refused_and_the_others_do_not_notice() {
    let server = with_limit(200);
    assert!(server.wait_for("connections that fit").contains(r#""open_files":200"#));
    assert!(server.wait_for("few files").contains("WARN"), "the start says so");

    let mut clients = Vec::new();
    let refused = loop {
        match Client::open_with(server.external, tidewire::protocol::Encoding::Json, &[]).await {
            Ok(mut client) => {
                client.connect(Default::default()).await.unwrap();
                client.subscribe("news").await.unwrap();
                clients.push(client);
            }
            Err(status) => break status,
        }
        assert!(clients.len() < 200);
    };
    assert_eq!(refused, 503);
    assert_eq!(clients.len(), 100, "half of the files are kept for everything else");
    let line = server.wait_for("connection limit is reached");
    assert!(line.contains("WARN") && line.contains("ulimit"), "{line}");

    // Backends still get through, and everybody who is connected hears of it.
    let answer =
        request(server.external, "POST", "/api/publish", &[], br#"{"channel":"news","data":1}"#).await;
    assert_eq!(answer.status, 200);
    for client in &mut clients {
        assert_eq!(client.text().await, "1");
    }
    // A place that becomes free is given away again.
    clients.truncate(50);
    tokio::time::timeout(Duration::from_secs(20), async {
        while Client::open_with(server.external, tidewire::protocol::Encoding::Json, &[]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn sockets_that_use_up_every_descriptor_do_not_disturb_who_is_connected() {
    let server = with_limit(120);
    let mut client = Client::connected(server.external).await;
    client.subscribe("news").await.unwrap();
    // These ask for nothing; each holds a descriptor of the server until it gives up on them.
    let mut idle = Vec::new();
    for _ in 0..150 {
        idle.push(TcpStream::connect(server.external).await.unwrap());
    }
    let line = server.wait_for("cannot be accepted");
    assert!(line.contains("ERROR") && line.contains("open files"), "{line}");
    client.publish("news", "7").await.unwrap();
    assert_eq!(client.text().await, "7", "whoever is connected goes on");
    // Somebody beyond the limit is told so rather than left waiting.
    let mut told = 0;
    for socket in &mut idle {
        let mut answer = [0; 12];
        let read = tokio::time::timeout(Duration::from_millis(20), socket.read_exact(&mut answer)).await;
        told += usize::from(matches!(read, Ok(Ok(_))) && &answer == b"HTTP/1.1 503");
    }
    assert!(told > 0);
    drop(idle);
    let answer = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            let mut socket = TcpStream::connect(server.external).await.unwrap();
            let request =
                b"POST /api/info HTTP/1.1\r\nhost: t\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
            let written = tokio::io::AsyncWriteExt::write_all(&mut socket, request).await;
            let mut answer = String::new();
            if written.is_ok() && socket.read_to_string(&mut answer).await.is_ok() && answer.contains(" 200 ")
            {
                return answer;
            }
        }
    })
    .await;
    assert!(answer.is_ok(), "descriptors that are free again are used again");
}
