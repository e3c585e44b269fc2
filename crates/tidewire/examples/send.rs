//! Messages without a channel and without an answer, in both directions: clients `send` what they do, the application
//! sends what concerns one user.
//!
//! Here clients tell that they are typing, and whoever they write to is told, on all his connections. Run it with
//! `cargo run -p tidewire --example send`.

use axum::Router;
use serde::{Deserialize, Serialize};
use tidewire::{BuildError, ConnectGrant, ErrorCode, MessageEvent, Refusal, Target, Tidewire, WeakTidewire};

/// What a client sends: `{"typing_to":"anna"}`.
#[derive(Deserialize)]
struct FromClient {
    typing_to: String,
}

/// What the other one receives: `{"typing":"bert"}`.
#[derive(Serialize)]
struct ToClient<'a> {
    typing: &'a str,
}

/// The node and its routes.
pub fn app() -> Result<(Router, Tidewire), BuildError> {
    let builder = Tidewire::builder();
    // Hooks call the node that they are a part of, so they hold it weakly.
    let node = builder.weak();
    let tidewire = builder
        .on_connect(|event| async move {
            // Whoever says a name is believed; see the chat example for real sign-in.
            let user = serde_json::from_slice(&event.data).map_err(|_| ErrorCode::Unauthorized)?;
            Ok(Some(ConnectGrant { user, ..Default::default() }))
        })
        .on_message(move |event| told(event, node.clone()))
        .build()?;
    Ok((tidewire.router(), tidewire))
}

async fn told(event: MessageEvent, node: WeakTidewire) -> Result<(), Refusal> {
    // A client that sends anything else is not ours.
    let message: FromClient =
        serde_json::from_slice(&event.data).map_err(|_| tidewire::Disconnect::BAD_REQUEST)?;
    if let Some(tidewire) = node.upgrade() {
        let notice = ToClient { typing: &event.client.user };
        let notice = serde_json::to_vec(&notice).map_err(|_| ErrorCode::Internal)?;
        tidewire.send(&Target::user(message.typing_to), notice).await;
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (router, tidewire) = app()?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    axum::serve(listener, router).with_graceful_shutdown(interrupted()).await?;
    tidewire.shutdown(Default::default()).await;
    Ok(())
}

async fn interrupted() {
    // Without signals there is nothing to wait for.
    let _ = tokio::signal::ctrl_c().await;
}
