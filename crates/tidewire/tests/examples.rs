//! The examples, each with real clients.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests a panic is a failure with a place")]

#[path = "../examples/chat.rs"]
#[allow(dead_code, unreachable_pub, reason = "here it is a module, not a program")]
mod chat;
mod common;
#[path = "../examples/rpc.rs"]
#[allow(dead_code, unreachable_pub, reason = "here it is a module, not a program")]
mod rpc;
#[path = "../examples/send.rs"]
#[allow(dead_code, unreachable_pub, reason = "here it is a module, not a program")]
mod send;

use std::net::SocketAddr;

use common::{Client, Failed, serve};
use tidewire_protocol::{ConnectRequest, Encoding, ErrorCode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// One HTTP request; the status, and the whole answer.
async fn post(address: SocketAddr, path: &str, headers: &str, body: &str) -> (u16, String) {
    let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!(
        "POST {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer)
}

async fn sign_in(address: SocketAddr, name: &str) -> String {
    let (status, answer) = post(address, "/sign-in", "", &format!(r#"{{"name":"{name}"}}"#)).await;
    assert_eq!(status, 204);
    let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: ")).expect("a cookie");
    cookie.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn chat_knows_its_users_by_cookie_and_brings_messages_to_everybody_in_the_room() {
    let (app, tidewire) = chat::app().unwrap();
    let address = serve(app).await;
    let (anna, bert) = (sign_in(address, "anna").await, sign_in(address, "bert").await);

    let mut annas = Client::open_with(address, Encoding::Json, &[("cookie", &anna)]).await.unwrap();
    annas.connect(ConnectRequest::default()).await.unwrap();
    annas.subscribe("room:lobby").await.unwrap();
    let joined = annas.push().await.join.expect("one's own join").info.unwrap();
    assert_eq!((joined.user.as_str(), &joined.conn_info[..]), ("anna", br#"{"name":"anna"}"#.as_slice()));

    // A page of the application itself may connect too, in either encoding.
    let headers = [("cookie", bert.as_str()), ("origin", "http://localhost:3000")];
    let mut berts = Client::open_with(address, Encoding::Protobuf, &headers).await.unwrap();
    berts.connect(ConnectRequest::default()).await.unwrap();
    berts.subscribe("room:lobby").await.unwrap();
    assert_eq!(annas.push().await.join.unwrap().info.unwrap().user, "bert");
    assert_eq!(berts.push().await.join.unwrap().info.unwrap().user, "bert");

    let cookie = format!("cookie: {bert}\r\n");
    let said = post(address, "/rooms/lobby/messages", &cookie, r#"{"text":"hello\nyou"}"#).await;
    assert_eq!(said.0, 204);
    for client in [&mut annas, &mut berts] {
        assert_eq!(client.text().await, r#"{"from":"bert","text":"hello\nyou"}"#);
    }

    let stats = tidewire.presence_stats("room:lobby").await.unwrap();
    assert_eq!((stats.clients, stats.users), (2, 2));
    drop((annas, berts));
    tidewire.shutdown(Default::default()).await;
}

#[tokio::test]
async fn chat_lets_nobody_in_without_its_cookie_or_from_a_foreign_page() {
    let (app, tidewire) = chat::app().unwrap();
    let address = serve(app).await;
    for cookie in ["session=guessed", "other=1"] {
        let mut stranger = Client::open_with(address, Encoding::Json, &[("cookie", cookie)]).await.unwrap();
        let refused = stranger.connect(ConnectRequest::default()).await.unwrap_err();
        assert_eq!(refused.code(), ErrorCode::Unauthorized.number());
    }
    let (status, _) = post(address, "/rooms/lobby/messages", "", r#"{"text":"hi"}"#).await;
    assert_eq!(status, 401);

    let cookie = sign_in(address, "anna").await;
    let foreign = [("cookie", cookie.as_str()), ("origin", "http://evil.example")];
    assert_eq!(Client::open_with(address, Encoding::Json, &foreign).await.err(), Some(403));

    let mut anna = Client::open_with(address, Encoding::Json, &[("cookie", &cookie)]).await.unwrap();
    anna.connect(ConnectRequest::default()).await.unwrap();
    let refused = anna.publish("room:lobby", "{}").await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::PermissionDenied.number(), "messages go through the application");
    drop(anna);
    tidewire.shutdown(Default::default()).await;
}

#[tokio::test]
async fn rpc_answers_computes_asks_others_and_refuses() {
    let (router, tidewire) = rpc::app().unwrap();
    let mut client = Client::connected(serve(router).await).await;
    assert_eq!(client.rpc("sum", "[1,2,3.5]").await.unwrap(), "6.5");
    assert_eq!(client.rpc("quote", r#""SEK""#).await.unwrap(), r#"{"rate":11.5}"#);
    let refused = client.rpc("quote", r#""XXX""#).await.unwrap_err();
    assert!(
        matches!(&refused, Failed::Error(error) if error.code == 1001 && error.message == "no such currency")
    );
    for (method, data, code) in [
        ("sum", "{}", ErrorCode::BadRequest),
        ("quote", "1", ErrorCode::BadRequest),
        ("nothing", "{}", ErrorCode::MethodNotFound),
    ] {
        assert_eq!(client.rpc(method, data).await.unwrap_err().code(), code.number(), "{method}");
    }
    drop(client);
    tidewire.shutdown(Default::default()).await;
}

#[tokio::test]
async fn send_goes_from_client_to_application_to_all_connections_of_a_user() {
    let (router, tidewire) = send::app().unwrap();
    let address = serve(router).await;
    let connect = async |name: &str| {
        let mut client = Client::open(address).await;
        let request = ConnectRequest { data: format!("\"{name}\"").into(), ..Default::default() };
        client.connect(request).await.unwrap();
        client
    };
    let (mut desk, mut phone, mut bert) =
        (connect("anna").await, connect("anna").await, connect("bert").await);
    bert.send(r#"{"typing_to":"anna"}"#).await;
    for anna in [&mut desk, &mut phone] {
        let message = anna.push().await.message.expect("a message");
        assert_eq!(message.data, r#"{"typing":"bert"}"#);
    }
    bert.send(r#"{"typing_to":42}"#).await;
    assert_eq!(bert.end().await, Some((3501, "bad request".into())));
    drop((desk, phone, bert));
    tidewire.shutdown(Default::default()).await;
}
