//! Sends every WebSocket message back, over the same listener, upgrade, reactor and codec as the server: for RFC 6455
//! test suites.
//!
//! `cargo run -p tidewire-transport --example echo -- [ADDRESS] [--message-bytes-max N] [--message-frames-max N]
//! [--control-frames-max N] [--deflate LEVEL] [--tls CERTIFICATE_FILE KEY_FILE]` prints the address it listens on and runs until it is ended.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use tidewire_engine::SystemClock;
use tidewire_transport::{
    CompressionOptions, HttpOptions, Listener, OriginPolicy, ReactorOptions, Reactors, WebSocketEndpoint,
    WebSocketOptions, serve,
};
use tokio_util::sync::CancellationToken;

#[path = "../tests/support/echo.rs"]
mod echo;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut address = "127.0.0.1:0".parse()?;
    let mut options = ReactorOptions::default();
    let mut tls = None;
    let mut web_socket =
        WebSocketOptions { origins: OriginPolicy::parse(&["*"])?, ..WebSocketOptions::default() };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().ok_or("a number is missing");
        match argument.as_str() {
            "--message-bytes-max" => {
                options.limits.message_bytes_max = number()?.parse()?;
                options.limits.inflated_bytes_max = options.limits.message_bytes_max;
            }
            "--message-frames-max" => options.limits.message_frames_max = number()?.parse()?,
            "--control-frames-max" => options.limits.control_frames_max = number()?.parse()?,
            "--deflate" => {
                let level = number()?.parse()?;
                web_socket.compression = Some(CompressionOptions { level, ..CompressionOptions::default() });
            }
            "--tls" => {
                let certificate = std::fs::read(arguments.next().ok_or("a file is missing")?)?;
                let key = std::fs::read(arguments.next().ok_or("a file is missing")?)?;
                tls = Some(serve::tls::server_config(&certificate, &key)?);
            }
            other => address = other.parse()?,
        }
    }
    let runtime = tokio::runtime::Handle::current();
    let reactors =
        Reactors::start(options, &runtime, Arc::new(SystemClock::new()), |_| echo::Echo::default())?;
    let endpoint = WebSocketEndpoint::new(reactors, web_socket);
    let app = Router::new().fallback(any(move |request: axum::extract::Request| async move {
        endpoint.upgrade(request).map(Body::from)
    }));
    let listener = Listener::bind(address, tls.map(Into::into), HttpOptions::default()).await?;
    println!("{}", listener.local_addr()?);
    listener.serve(app, CancellationToken::new()).await;
    Ok(())
}
