//! The same frame to many sockets, some of which are slow, closing or gone.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod support;

use std::sync::atomic::Ordering;
use std::time::Duration;

use tidewire_transport::ReactorOptions;
use tidewire_transport::ws::{Event, Opcode, client_frame};
use tokio::net::{TcpSocket, TcpStream};

use support::{Raw, Server, Setup, UPGRADE, eventually};

type Client = Raw<TcpStream>;

async fn clients(server: &Server, count: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    for _ in 0..count {
        let mut client = server.raw().await;
        present(&mut client).await;
        clients.push(client);
    }
    clients
}

/// Waits until the reactor has a client, which may be after the answer to its upgrade.
async fn present(client: &mut Client) {
    client.text("here").await;
    assert_eq!(client.next_text().await, "here");
}

/// A client for whom the kernels hold little.
async fn small_client(server: &Server) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(32 << 10).unwrap();
    let mut client = Raw::new(socket.connect(server.address).await.unwrap());
    client.send(UPGRADE).await;
    client.http_head().await;
    present(&mut client).await;
    client
}

async fn next_is(client: &mut Client, bytes: usize) {
    match client.next().await {
        Some(Event::Message { payload, .. }) => assert_eq!(payload.len(), bytes),
        other => panic!("no message but {other:?}"),
    }
}

#[tokio::test]
async fn inv_d3_broadcasts_reach_everyone_once_and_in_order() {
    let server = Server::start(Setup::default()).await;
    let mut clients = clients(&server, 200).await;
    let before = server.reactors.writes();
    for bytes in 1..=10 {
        clients[0].text(&format!("all {bytes}")).await;
        for client in &mut clients {
            next_is(client, bytes).await;
        }
    }
    eventually(|| server.reactors.writes() - before >= 2_000).await;
    assert_eq!(server.reactors.writes() - before, 2_000, "one write each");
    // So quickly that some gather.
    for (client, bytes) in clients.iter_mut().zip(11..=60) {
        client.text(&format!("all {bytes}")).await;
    }
    for client in &mut clients {
        let mut seen = Vec::new();
        for _ in 11..=60 {
            let Some(Event::Message { payload, .. }) = client.next().await else { panic!("an end") };
            seen.push(payload.len());
        }
        seen.sort_unstable();
        assert_eq!(seen, (11..=60).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn inv_b1_who_does_not_read_is_cut_and_the_others_get_every_broadcast() {
    let write_timeout = Duration::from_millis(300);
    let reactor = ReactorOptions { threads: 1, write_timeout, ..ReactorOptions::default() };
    let server = Server::start(Setup { reactor, ..Setup::default() }).await;
    let mut healthy = clients(&server, 20).await;
    let _stuck = [small_client(&server).await, small_client(&server).await];
    let mut rounds = 0;
    while server.controls.closed_by_driver.lock().len() < 2 {
        healthy[0].text("all 200000").await;
        for client in &mut healthy {
            next_is(client, 200_000).await;
        }
        rounds += 1;
        assert!(rounds < 2_000, "400 MB went nowhere");
    }
    assert_eq!(*server.controls.closed_by_driver.lock(), [3009, 3009]);
    server.connections_become(healthy.len()).await;
}

#[tokio::test]
async fn who_reads_late_gets_what_was_cut_short_whole_and_in_order() {
    // Whoever is late here is not slow enough to be cut, however slow the machine is.
    let reactor =
        ReactorOptions { threads: 1, write_timeout: support::PATIENCE, ..ReactorOptions::default() };
    let server = Server::start(Setup { reactor, ..Setup::default() }).await;
    let mut prompt = clients(&server, 3).await;
    let mut late = small_client(&server).await;
    let sizes = 200_000..200_040;
    for bytes in sizes.clone() {
        prompt[0].text(&format!("all {bytes}")).await;
        for client in &mut prompt {
            next_is(client, bytes).await;
        }
    }
    for bytes in sizes {
        next_is(&mut late, bytes).await;
    }
    prompt[0].text("all 7").await;
    next_is(&mut late, 7).await;
    assert!(server.controls.closed_by_driver.lock().is_empty());
}

#[tokio::test]
async fn who_vanishes_amid_broadcasts_is_let_go_of_and_the_others_get_everything() {
    let server = Server::start(Setup::default()).await;
    let mut clients = clients(&server, 120).await;
    for round in 1..=10 {
        // A reset is found by whichever comes first, a read or a write.
        for vanishing in clients.split_off(clients.len() - 10) {
            socket2::SockRef::from(&vanishing.socket).set_linger(Some(Duration::ZERO)).unwrap();
        }
        clients[0].text(&format!("all {round}")).await;
        for client in &mut clients {
            next_is(client, round).await;
        }
    }
    server.connections_become(20).await;
    eventually(|| server.controls.gone.load(Ordering::SeqCst) == 100).await;
}

#[tokio::test]
async fn who_closes_with_a_broadcast_on_its_way_gets_it_first() {
    let server = Server::start(Setup::default()).await;
    let mut clients = clients(&server, 50).await;
    let frames = ["all 5", "close 3503 force disconnect"]
        .map(|text| client_frame(Opcode::Text, text.as_bytes(), [1; 4]));
    clients[9].send(&frames.concat()).await;
    for client in &mut clients {
        next_is(client, 5).await;
    }
    clients[9].closed_after_answer(3503).await;
    server.connections_become(49).await;
}
