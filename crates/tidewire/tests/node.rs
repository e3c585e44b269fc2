//! A node inside an application: hooks, calls, mounting, stopping.

#![allow(clippy::unwrap_used, clippy::panic, reason = "in tests a panic is a failure with a place")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use common::{Client, serve};
use tidewire::engine::HistoryRetention;
use tidewire::options::{ChannelOptions, ClientOptions, Options};
use tidewire::protocol::{ConnectRequest, Encoding};
use tidewire::{
    Builder, ConnectGrant, Disconnect, ErrorCode, PublishGrant, PublishOptions, RefreshGrant, Refusal,
    Shutdown, StreamPosition, SubscribeGrant, Target, Tidewire,
};
use tokio::sync::mpsc;

/// Channels with everything on; publishes and subscribes of `asked:` go through hooks.
fn options() -> Options {
    let retention =
        HistoryRetention { size: 10, ttl: Duration::from_secs(60), meta_ttl: Duration::from_secs(600) };
    let open = ChannelOptions {
        presence: true,
        history: Some(retention),
        allow_subscribe_for_client: true,
        allow_subscribe_for_anonymous: true,
        ..Default::default()
    };
    let asked =
        ChannelOptions { subscribe_proxy_enabled: true, publish_proxy_enabled: true, ..Default::default() };
    let client = ClientOptions { allow_anonymous_connect_without_token: true, ..Default::default() };
    let mut options = Options { client, ..Default::default() };
    options.channel.without_namespace = Arc::new(open);
    options.channel.namespaces.insert("asked".into(), Arc::new(asked));
    options
}

fn builder() -> Builder {
    Tidewire::builder().options(options())
}

/// The data of a connect says who the client is.
fn by_data(builder: Builder) -> Builder {
    builder.on_connect(|event| async move {
        let user = String::from_utf8_lossy(&event.data).trim_matches('"').to_owned();
        Ok(Some(ConnectGrant { user, ..Default::default() }))
    })
}

async fn connected_as(address: SocketAddr, user: &str) -> (Client, String) {
    let mut client = Client::open(address).await;
    let request = ConnectRequest { data: format!("\"{user}\"").into(), ..Default::default() };
    let id = client.connect(request).await.unwrap().client;
    (client, id)
}

#[tokio::test]
async fn the_connect_hook_sees_the_request_and_what_middleware_attached() {
    #[derive(Clone)]
    struct Tenant(&'static str);

    async fn attach(mut request: Request, next: Next) -> axum::response::Response {
        request.extensions_mut().insert(Tenant("acme"));
        next.run(request).await
    }

    let (seen, mut events) = mpsc::unbounded_channel();
    let tidewire = builder()
        .on_connect(move |event| {
            seen.send(event).unwrap();
            async { Ok(None) }
        })
        .build()
        .unwrap();
    let inner = Router::new().merge(tidewire.router()).layer(middleware::from_fn(attach));
    let address = serve(inner).await;
    let mut client = Client::open_with(address, Encoding::Protobuf, &[("x-secret", "s")]).await.unwrap();
    let request = ConnectRequest { name: "test".into(), data: "{}".into(), ..Default::default() };
    client.connect(request).await.expect("without an opinion of the hook, the rules decide");

    let event = events.recv().await.unwrap();
    assert_eq!(event.request.headers["x-secret"], "s");
    assert_eq!(event.request.uri.path(), "/connection/websocket");
    assert_eq!(event.request.peer.unwrap().ip(), address.ip());
    assert_eq!(event.request.extensions.get::<Tenant>().unwrap().0, "acme");
    assert_eq!((event.name.as_str(), &event.data[..]), ("test", b"{}".as_slice()));
    assert_eq!((event.client.encoding, event.client.transport), (Encoding::Protobuf, "websocket"));
    drop(client);
    tidewire.shutdown(Shutdown::default()).await;
}

#[tokio::test]
async fn hooks_decide_change_and_are_told() {
    let (told, mut ends) = mpsc::unbounded_channel();
    let tidewire = by_data(builder())
        .on_subscribe(|event| async move {
            match &*event.channel {
                "asked:info" => {
                    Ok(Some(SubscribeGrant { data: r#"{"welcome":1}"#.into(), ..Default::default() }))
                }
                "asked:closed" => Err(Disconnect::custom(4501, "out").into()),
                _ => Err(ErrorCode::PermissionDenied.into()),
            }
        })
        .on_publish(|event| async move {
            // Another service is asked meanwhile.
            tokio::task::yield_now().await;
            let data = format!(
                r#"{{"by":"{}","said":{}}}"#,
                event.client.user,
                String::from_utf8_lossy(&event.data)
            );
            Ok(Some(PublishGrant { data: Some(data.into()), skip_history: false }))
        })
        .on_rpc(|_| async { panic!("a bug of the application") })
        .on_disconnect(move |event| {
            let told = told.clone();
            async move { told.send((event.client.user.to_string(), event.disconnect.code)).unwrap() }
        })
        .build()
        .unwrap();
    let address = serve(tidewire.router()).await;
    let (mut anna, _) = connected_as(address, "anna").await;
    assert_eq!(anna.subscribe("asked:info").await.unwrap().data, r#"{"welcome":1}"#);
    let refused = anna.subscribe("asked:other").await.unwrap_err();
    assert_eq!(refused.code(), ErrorCode::PermissionDenied.number());
    anna.publish("asked:info", "[1]").await.unwrap();
    assert_eq!(anna.text().await, r#"{"by":"anna","said":[1]}"#);
    assert_eq!(anna.rpc("any", "{}").await.unwrap_err().code(), ErrorCode::Internal.number());
    let closed = anna.subscribe("asked:closed").await.unwrap_err();
    assert_eq!(closed.code(), 4501);
    assert_eq!(ends.recv().await.unwrap(), ("anna".to_owned(), 4501));
    drop(anna);
    tidewire.shutdown(Shutdown::default()).await;
}

#[tokio::test]
async fn the_refresh_hook_renews_who_the_connect_hook_let_in() {
    let (asked, mut refreshes) = mpsc::unbounded_channel();
    let tidewire = builder()
        .on_connect(|_| async {
            let soon = unix_now() + 1;
            Ok(Some(ConnectGrant { user: "anna".into(), expire_at: soon, ..Default::default() }))
        })
        .on_refresh(move |event| {
            asked.send(event.client.user.to_string()).unwrap();
            async { Ok(RefreshGrant { expired: true, ..Default::default() }) }
        })
        .build()
        .unwrap();
    let mut client = Client::connected(serve(tidewire.router()).await).await;
    assert_eq!(client.end().await, Some((3005, "connection expired".into())));
    assert_eq!(refreshes.recv().await.unwrap(), "anna");
    drop(client);
    tidewire.shutdown(Shutdown::default()).await;
}

fn unix_now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64
}

#[tokio::test]
async fn publishing_reading_and_forgetting() {
    let tidewire = builder().build().unwrap();
    let mut client = Client::connected(serve(tidewire.router()).await).await;
    client.subscribe("news").await.unwrap();

    let first = tidewire.publish("news", "1").await.unwrap().position.unwrap();
    let options = PublishOptions { idempotency_key: "k".into(), ..Default::default() };
    let second = tidewire.publish_with("news", "2", options.clone()).await.unwrap();
    let again = tidewire.publish_with("news", "other", options).await.unwrap();
    assert_eq!(second.position, again.position);
    let sent = tidewire.broadcast(&["news", "nobody:here", "other"], "3", PublishOptions::default()).await;
    assert_eq!(sent[0].as_ref().unwrap().position.as_ref().unwrap().offset, 3);
    assert_eq!(sent[1], Err(ErrorCode::UnknownChannel.into()));
    assert_eq!(sent[2].as_ref().unwrap().position.as_ref().unwrap().offset, 1);
    for expected in ["1", "2", "3"] {
        assert_eq!(client.text().await, expected);
    }

    let since = Some(StreamPosition { offset: 1, epoch: first.epoch.clone() });
    let history = tidewire.history("news", since, Some(1), false).await.unwrap();
    assert_eq!((history.publications[0].data.as_ref(), history.top.offset), (b"2".as_slice(), 3));
    let foreign = Some(StreamPosition { offset: 1, epoch: "other".into() });
    let refused = tidewire.history("news", foreign, None, false).await.unwrap_err();
    assert_eq!(refused, ErrorCode::UnrecoverablePosition.into());
    assert_eq!(refused.to_string(), "unrecoverable position (error 112)");
    tidewire.history_remove("news").await.unwrap();
    let history = tidewire.history("news", None, None, false).await.unwrap();
    assert_eq!((history.publications.len(), history.top.offset), (0, 3));
    assert_eq!(tidewire.history("asked:x", None, None, false).await, Err(ErrorCode::NotAvailable.into()));

    let channels = tidewire.channels("n?w*").await.unwrap();
    assert_eq!(channels, [("news".into(), 1)]);
    assert_eq!(tidewire.channels("nobody*").await.unwrap(), []);
    assert_eq!(tidewire.channels("[").await.unwrap_err(), ErrorCode::BadRequest.into());
    assert_eq!(tidewire.info().clients, 1);
    tidewire.ready(Duration::from_secs(5)).await.unwrap();
    drop(client);
    tidewire.shutdown(Shutdown::default()).await;
    assert!(tidewire.ready(Duration::from_secs(5)).await.is_err(), "a stopped node is not ready");
}

#[tokio::test]
async fn connections_are_subscribed_unsubscribed_and_closed_by_user_client_and_exception() {
    let tidewire = by_data(builder()).build().unwrap();
    let address = serve(tidewire.router()).await;
    let (mut desk, desk_id) = connected_as(address, "anna").await;
    let (mut phone, phone_id) = connected_as(address, "anna").await;
    let (mut bert, _) = connected_as(address, "bert").await;

    let anna = Target::user("anna");
    let grant = SubscribeGrant { data: "7".into(), ..Default::default() };
    assert_eq!(tidewire.subscribe(&anna, "own", grant, None).await.unwrap().connections, 2);
    for client in [&mut desk, &mut phone] {
        let push = client.push().await;
        assert_eq!((push.channel.as_str(), push.subscribe.unwrap().data.as_ref()), ("own", b"7".as_slice()));
    }
    let present = tidewire.presence("own").await.unwrap();
    assert!(present.iter().all(|info| info.user == "anna") && present.len() == 2);
    assert_eq!(
        tidewire.subscribe(&anna, "nobody:here", SubscribeGrant::default(), None).await,
        Err(ErrorCode::UnknownChannel.into())
    );

    let only_phone = Target { client: phone_id.clone(), ..Target::user("anna") };
    assert_eq!(tidewire.unsubscribe(&only_phone, Some("own")).await.connections, 1);
    assert_eq!(phone.push().await.unsubscribe.unwrap().code, 2000);
    assert_eq!(tidewire.channels("").await.unwrap(), [("own".into(), 1)]);

    assert_eq!(tidewire.send(&anna, r#"{"n":1}"#).await.connections, 2);
    assert_eq!(desk.push().await.message.unwrap().data, r#"{"n":1}"#);

    let but_desk = Target { except: vec![desk_id], ..Target::user("anna") };
    let why = Disconnect::custom(4001, "elsewhere");
    assert_eq!(tidewire.disconnect(&but_desk, why).await.connections, 1);
    assert_eq!(phone.push().await.message.unwrap().data, r#"{"n":1}"#);
    assert_eq!(phone.end().await, Some((4001, "elsewhere".into())));
    assert_eq!(tidewire.refresh(&anna, true, 0, None).await.connections, 1);
    assert_eq!(desk.end().await, Some((3005, "connection expired".into())));

    bert.subscribe("news").await.unwrap();
    tidewire.publish("news", "1").await.unwrap();
    assert_eq!(bert.text().await, "1", "others are left alone");
    assert_eq!(
        tidewire.disconnect(&Target::user("nobody"), Disconnect::FORCE_NO_RECONNECT).await.connections,
        0
    );
    drop((desk, phone, bert));
    tidewire.shutdown(Shutdown::default()).await;
}

#[tokio::test]
async fn procedures_are_called_by_name() {
    let tidewire = builder()
        .procedure("double", |params| async move {
            let n: i64 = serde_json::from_slice(&params).map_err(|_| ErrorCode::BadRequest)?;
            Ok((2 * n).to_string().into())
        })
        .build()
        .unwrap();
    assert_eq!(tidewire.rpc("double", "21".into()).await.unwrap(), "42");
    assert_eq!(tidewire.rpc("double", "{}".into()).await, Err(ErrorCode::BadRequest.into()));
    assert_eq!(tidewire.rpc("triple", "1".into()).await, Err(Refusal::from(ErrorCode::MethodNotFound)));
    tidewire.shutdown(Shutdown::default()).await;
}

#[tokio::test]
async fn a_shutdown_tells_everybody_to_come_back_within_the_spread() {
    const SPREAD: Duration = Duration::from_millis(600);
    let tidewire = builder().build().unwrap();
    let address = serve(tidewire.router()).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Client::connected(address).await);
    }
    let began = tokio::time::Instant::now();
    let reading = tokio::spawn(async move {
        let mut ends = Vec::new();
        for client in &mut clients {
            ends.push(client.end());
        }
        futures_util::future::join_all(ends.into_iter().map(async |end| (end.await, began.elapsed()))).await
    });
    tidewire.shutdown(Shutdown { spread: SPREAD, timeout: Duration::from_secs(10) }).await;
    let ends = reading.await.unwrap();
    assert!(ends.iter().all(|(end, _)| *end == Some((3001, "shutdown".into()))), "{ends:?}");
    let (first, last) =
        (ends.iter().map(|(_, at)| at).min().unwrap(), ends.iter().map(|(_, at)| at).max().unwrap());
    // With twenty of them, all in one tenth of the spread happens once in 10^17 runs.
    assert!(*last - *first > SPREAD / 10, "not all at once: {first:?} to {last:?}");
    assert_eq!((tidewire.sockets(), tidewire.info().clients), (0, 0));
}

#[tokio::test]
async fn dropping_the_last_handle_ends_the_node() {
    let builder = builder();
    let weak = builder.weak();
    assert!(weak.upgrade().is_none(), "not built yet");
    let tidewire = builder.build().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = axum::serve(listener, tidewire.router());
    let serving = tokio::spawn(async move { served.await });
    let mut client = Client::connected(address).await;
    assert!(weak.upgrade().is_some());
    serving.abort();
    drop(tidewire);
    // The threads of the node end, and its sockets with them.
    assert_eq!(client.end().await, None);
    assert!(weak.upgrade().is_none());
}

#[test]
fn a_node_needs_a_runtime() {
    let built = Tidewire::builder().build();
    assert!(matches!(built, Err(tidewire::BuildError::NoRuntime)));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let tidewire = Tidewire::builder().runtime(runtime.handle().clone()).build().unwrap();
    runtime.block_on(tidewire.shutdown(Shutdown::default()));
}
