//! Remote procedure calls: clients call, the application answers, and may ask others meanwhile.
//!
//! Run it with `cargo run -p tidewire --example rpc`, then connect any client of the protocol to
//! `ws://localhost:3000/connection/websocket` and call `sum` with `[1,2,3]` or `quote` with `"EUR"`.

use axum::Router;
use tidewire::options::{ClientOptions, Options};
use tidewire::{ErrorCode, HookResult, RpcEvent, Tidewire};
use tokio::sync::{mpsc, oneshot};

/// A question to the rates service, and where its answer goes.
type Question = (String, oneshot::Sender<Option<f64>>);

/// The node, its routes, and everything behind it.
pub fn app() -> Result<(Router, Tidewire), tidewire::BuildError> {
    let rates = start_rates_service();
    let client = ClientOptions { allow_anonymous_connect_without_token: true, ..Default::default() };
    let tidewire = Tidewire::builder()
        .options(Options { client, ..Default::default() })
        .on_rpc(move |event| answer(event, rates.clone()))
        .build()?;
    Ok((tidewire.router(), tidewire))
}

async fn answer(event: RpcEvent, rates: mpsc::Sender<Question>) -> HookResult<bytes::Bytes> {
    match event.method.as_str() {
        "sum" => {
            let numbers: Vec<f64> = serde_json::from_slice(&event.data).map_err(|_| ErrorCode::BadRequest)?;
            Ok(numbers.iter().sum::<f64>().to_string().into())
        }
        "quote" => {
            let currency: String = serde_json::from_slice(&event.data).map_err(|_| ErrorCode::BadRequest)?;
            // While the service thinks, the connection's thread serves others.
            let (sender, rate) = oneshot::channel();
            rates.send((currency, sender)).await.map_err(|_| ErrorCode::Internal)?;
            match rate.await {
                Ok(Some(rate)) => Ok(format!(r#"{{"rate":{rate}}}"#).into()),
                // Codes from 1000 are the application's own; clients receive them as they are.
                Ok(None) => Err(tidewire::Refusal::Error(tidewire::protocol::Error {
                    code: 1001,
                    message: "no such currency".into(),
                    temporary: false,
                })),
                Err(_) => Err(ErrorCode::Internal.into()),
            }
        }
        _ => Err(ErrorCode::MethodNotFound.into()),
    }
}

/// Stands for another service of the application: a database, or something over the network.
fn start_rates_service() -> mpsc::Sender<Question> {
    let (sender, mut questions) = mpsc::channel::<Question>(16);
    tokio::spawn(async move {
        while let Some((currency, answer)) = questions.recv().await {
            let rate = match currency.as_str() {
                "EUR" => Some(1.0),
                "SEK" => Some(11.5),
                _ => None,
            };
            // Whoever asked may have left.
            let _ = answer.send(rate);
        }
    });
    sender
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
