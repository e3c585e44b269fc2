//! A node's connections over real sockets.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use tidewire_core::hooks::{Hooks, NoTokens, RpcEvent};
use tidewire_core::options::{ClientOptions, Options};
use tidewire_core::{Node, Parts, PublishOptions, Worker};
use tidewire_engine::{Clock, SystemClock};
use tidewire_engine_embedded::EmbeddedEngine;
use tidewire_transport::ws::Event;
use tidewire_transport::{
    HttpOptions, Listener, ReactorOptions, Reactors, WebSocketEndpoint, WebSocketOptions,
};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use support::{PATIENCE, Raw, UPGRADE, eventually};

struct Served {
    node: Arc<Node>,
    reactors: Reactors,
    address: SocketAddr,
}

async fn serve(hooks: Hooks) -> Served {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let client = ClientOptions { insecure: true, ..ClientOptions::default() };
    let node = Node::new(Parts {
        id: "6f0e2a58-7c1d-4b6e-9a55-0d2f4c1b8e11".parse().unwrap(),
        options: Options { client, ..Options::default() },
        engine: Arc::new(EmbeddedEngine::new(Arc::clone(&clock))),
        hooks,
        tokens: Arc::new(NoTokens),
        clock: Arc::clone(&clock),
    });
    let of_worker = Arc::clone(&node);
    let options = ReactorOptions { threads: 2, ..ReactorOptions::default() };
    let make = move |number: usize| Worker::new(Arc::clone(&of_worker), [number as u8; 32]);
    let reactors = Reactors::start(options, &tokio::runtime::Handle::current(), clock, make).unwrap();
    let endpoint = WebSocketEndpoint::new(reactors.clone(), WebSocketOptions::default());
    let app = Router::new().fallback(any(move |request: axum::extract::Request| async move {
        endpoint.upgrade(request).map(Body::from)
    }));
    let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = Listener::bind(any_port, None, HttpOptions::default()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(listener.serve(app, CancellationToken::new()));
    Served { node, reactors, address }
}

impl Served {
    async fn client(&self, commands: &str) -> Raw<TcpStream> {
        let mut raw = Raw::new(TcpStream::connect(self.address).await.unwrap());
        raw.send(UPGRADE).await;
        raw.http_head().await;
        raw.text(&format!("{{\"id\":1,\"connect\":{{}}}}\n{commands}")).await;
        raw
    }
}

/// Reads until a message holds `text`.
async fn read_until(raw: &mut Raw<TcpStream>, text: &str) -> String {
    let mut all = String::new();
    while !all.contains(text) {
        all.push_str(&raw.next_text().await);
        all.push('\n');
    }
    all
}

#[tokio::test]
async fn inv_d3_publications_reach_everyone_in_order() {
    let served = serve(Hooks::default()).await;
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = served.client("{\"id\":2,\"subscribe\":{\"channel\":\"news\"}}").await;
        read_until(&mut client, "\"id\":2").await;
        clients.push(client);
    }
    for number in 0..100 {
        let data = format!("{{\"n\":{number}}}").into();
        served.node.publish("news", data, PublishOptions::default()).await.unwrap();
    }
    for client in &mut clients {
        for number in 0..100 {
            let message = client.next_text().await;
            assert!(message.contains(&format!("{{\"n\":{number}}}")), "{number}: {message}");
        }
    }
}

#[tokio::test]
async fn a_hook_that_waits_holds_up_its_own_connection_only_and_keeps_the_order() {
    let gate = Arc::new(Notify::new());
    let opened = Arc::clone(&gate);
    let rpc = move |event: RpcEvent| {
        let gate = Arc::clone(&opened);
        let answer: tidewire_engine::BoxFuture<'static, _> = Box::pin(async move {
            if event.method == "wait" {
                gate.notified().await;
            }
            Ok(event.data)
        });
        answer
    };
    let served = serve(Hooks { rpc: Some(Arc::new(rpc)), ..Hooks::default() }).await;
    let mut waiting = served.client("{\"id\":2,\"rpc\":{\"method\":\"wait\",\"data\":2}}").await;
    read_until(&mut waiting, "\"id\":1").await;
    for id in 3..20 {
        waiting.text(&format!("{{\"id\":{id},\"rpc\":{{\"method\":\"go\",\"data\":{id}}}}}")).await;
    }
    let mut other = served.client("{\"id\":2,\"rpc\":{\"method\":\"go\",\"data\":7}}").await;
    read_until(&mut other, "\"id\":2").await;
    gate.notify_one();
    let replies = read_until(&mut waiting, "\"id\":19").await;
    let ids: Vec<&str> = replies.lines().filter_map(|line| line.split([':', ',']).nth(1)).collect();
    let expected: Vec<String> = (2..20).map(|id| id.to_string()).collect();
    assert_eq!(ids, expected);
}

#[tokio::test]
async fn inv_g1_a_drain_closes_everyone_with_3001_and_lets_the_reactors_end() {
    let served = serve(Hooks::default()).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        let mut client = served.client("").await;
        read_until(&mut client, "\"id\":1").await;
        clients.push(client);
    }
    served.node.drain(Duration::from_millis(200));
    for client in &mut clients {
        client.closed_after_answer(3001).await;
    }
    tokio::time::timeout(PATIENCE / 2, served.reactors.shutdown(PATIENCE)).await.expect("nobody is left");
}

#[tokio::test]
async fn a_frame_that_is_no_command_is_answered_with_3501() {
    let served = serve(Hooks::default()).await;
    let mut raw = Raw::new(TcpStream::connect(served.address).await.unwrap());
    raw.send(UPGRADE).await;
    raw.http_head().await;
    raw.text("not a command").await;
    match raw.next().await {
        Some(Event::Close(Some(reason))) => assert_eq!((reason.code, &*reason.text), (3501, "bad request")),
        other => panic!("{other:?}"),
    }
    drop(raw);
    eventually(|| served.reactors.connections() == 0).await;
}
