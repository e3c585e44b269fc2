//! Out of file descriptors. Alone in its file, since the limit is the process's.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod support;

use std::time::Instant;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpStream;

use support::{PATIENCE, Raw, Server, Setup, UPGRADE};

#[tokio::test]
async fn clients_beyond_the_descriptor_limit_are_refused_and_the_others_served() {
    let server = Server::start(Setup::default()).await;
    let mut served = server.raw().await;
    let used = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(used + 20), ..before }).unwrap();

    // Each connection takes two descriptors here, since both ends are in this process; the client's end is had first,
    // so at some point the server is left without one.
    let mut waiting = Vec::new();
    while let Ok(socket) = TcpStream::connect(server.address).await {
        waiting.push(socket);
    }
    assert!(waiting.len() >= 10, "{}", waiting.len());
    let started = Instant::now();
    let mut refused = Raw::new(waiting.pop().unwrap());
    assert!(refused.http_head().await.starts_with("HTTP/1.1 503 "));
    assert_eq!(refused.fill().await, 0);
    assert!(started.elapsed() < PATIENCE);
    served.text("served").await;
    assert_eq!(served.next_text().await, "served");

    // With descriptors again, new clients are served, whatever became of those who waited.
    drop(refused);
    drop(waiting);
    setrlimit(Resource::Nofile, before).unwrap();
    let mut new = Raw::new(TcpStream::connect(server.address).await.unwrap());
    new.send(UPGRADE).await;
    assert!(new.http_head().await.starts_with("HTTP/1.1 101 "));
}
