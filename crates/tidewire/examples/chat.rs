//! A chat inside an axum application: its own sign-in with a cookie, its own routes, and live rooms.
//!
//! Run it with `cargo run -p tidewire --example chat` and open <http://localhost:3000> in two windows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Path, Request, State};
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{Html, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use serde::Deserialize;
use tidewire::engine::HistoryRetention;
use tidewire::options::{ChannelOptions, Options};
use tidewire::transport::{OriginPolicy, WebSocketOptions};
use tidewire::{ConnectGrant, ErrorCode, Tidewire};

/// Who is signed in, by the secret in the cookie.
#[derive(Clone, Default)]
struct Sessions(Arc<Mutex<HashMap<String, User>>>);

/// A person of the application.
#[derive(Clone, PartialEq)]
struct User(String);

#[derive(Deserialize)]
struct SignIn {
    name: String,
}

#[derive(Deserialize)]
struct Message {
    text: String,
}

/// The application, and the node inside it.
pub fn app() -> Result<(Router, Tidewire), Box<dyn std::error::Error>> {
    let tidewire = Tidewire::builder()
        .options(options())
        // Only the application's own pages may connect with the cookies of its users.
        .websocket(WebSocketOptions {
            origins: OriginPolicy::parse(&["http://localhost:3000", "http://127.0.0.1:3000"])?,
            ..Default::default()
        })
        .on_connect(|event| async move {
            // The middleware below has looked at the cookie, for this request as for all others.
            let User(name) = event.request.extensions.get().cloned().ok_or(ErrorCode::Unauthorized)?;
            let info = serde_json::json!({ "name": name }).to_string().into();
            Ok(Some(ConnectGrant { user: name, info, ..Default::default() }))
        })
        .build()?;
    let sessions = Sessions::default();
    let app = Router::new()
        .route("/", get(async || Html(include_str!("chat.html"))))
        .route("/sign-in", post(sign_in))
        .with_state(sessions.clone())
        .merge(Router::new().route("/rooms/{room}/messages", post(say)).with_state(tidewire.clone()))
        .merge(tidewire.router())
        .layer(middleware::from_fn_with_state(sessions, recognise));
    Ok((app, tidewire))
}

/// Rooms: everybody who is signed in may listen and see who is there; the last messages are kept, so that a reload or a
/// lost connection misses nothing. Nobody may publish directly: messages go through the application.
fn options() -> Options {
    let hour = Duration::from_secs(3600);
    let room = ChannelOptions {
        presence: true,
        join_leave: true,
        force_push_join_leave: true,
        history: Some(HistoryRetention { size: 50, ttl: hour, meta_ttl: 24 * hour }),
        force_recovery: true,
        allow_subscribe_for_client: true,
        allow_presence_for_subscriber: true,
        allow_history_for_subscriber: true,
        ..Default::default()
    };
    let mut options = Options::default();
    options.channel.namespaces.insert("room".into(), Arc::new(room));
    options
}

/// Attaches the user to every request whose cookie is known.
async fn recognise(State(sessions): State<Sessions>, mut request: Request, next: Next) -> Response {
    if let Some(user) = session_cookie(request.headers()).and_then(|secret| sessions.user(secret)) {
        request.extensions_mut().insert(user);
    }
    next.run(request).await
}

async fn sign_in(State(sessions): State<Sessions>, Json(form): Json<SignIn>) -> (StatusCode, HeaderMap) {
    let mut headers = HeaderMap::new();
    let name = form.name.trim();
    if name.is_empty() || name.len() > 32 {
        return (StatusCode::UNPROCESSABLE_ENTITY, headers);
    }
    let cookie = format!("session={}; HttpOnly; SameSite=Strict; Path=/", sessions.add(User(name.into())));
    headers.extend(cookie.parse().ok().map(|cookie| (SET_COOKIE, cookie)));
    (StatusCode::NO_CONTENT, headers)
}

/// A message is an ordinary request to the application, which checks it, could store it, and then publishes it.
async fn say(
    State(tidewire): State<Tidewire>,
    Path(room): Path<String>,
    user: Option<Extension<User>>,
    Json(message): Json<Message>,
) -> StatusCode {
    let Some(Extension(User(name))) = user else { return StatusCode::UNAUTHORIZED };
    let line = serde_json::json!({ "from": name, "text": message.text });
    match tidewire.publish(&format!("room:{room}"), line.to_string()).await {
        Ok(_) => StatusCode::NO_CONTENT,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

// === impl Sessions ===

impl Sessions {
    fn add(&self, user: User) -> String {
        let secret = format!("{:032x}", rand::random::<u128>());
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(secret.clone(), user);
        secret
    }

    fn user(&self, secret: &str) -> Option<User> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(secret).cloned()
    }
}

fn session_cookie(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
    cookies.flat_map(|line| line.split(';')).find_map(|cookie| cookie.trim().strip_prefix("session="))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (app, tidewire) = app()?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("http://localhost:3000");
    axum::serve(listener, app).with_graceful_shutdown(interrupted()).await?;
    tidewire.shutdown(Default::default()).await;
    Ok(())
}

async fn interrupted() {
    // Without signals there is nothing to wait for.
    let _ = tokio::signal::ctrl_c().await;
}
