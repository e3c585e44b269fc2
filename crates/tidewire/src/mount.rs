//! The WebSocket endpoint as a part of an axum application.

use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use axum::routing::any;
use tidewire_transport::Peer;

use crate::handle::Tidewire;

impl Tidewire {
    /// Routes of this node: WebSocket clients at [`crate::WEBSOCKET_PATH`] or where the builder said.
    ///
    /// Merge it into an application's router after the application's `with_state`. Layers put around it see the upgrade
    /// request first; extensions they attach arrive in the connect hook. The peer's address arrives there too if the
    /// application is served with `into_make_service_with_connect_info::<SocketAddr>()`.
    ///
    /// ```
    /// use axum::Router;
    /// use axum::routing::get;
    ///
    /// # async fn mount(tidewire: tidewire::Tidewire, listener: tokio::net::TcpListener) -> std::io::Result<()> {
    /// let app: Router = Router::new()
    ///     .route("/", get(async || "hello"))
    ///     .merge(tidewire.router());
    /// axum::serve(listener, app).await
    /// # }
    /// ```
    pub fn router(&self) -> Router {
        Router::new().route(self.websocket_path(), any(upgrade)).with_state(self.clone())
    }
}

async fn upgrade(State(tidewire): State<Tidewire>, mut request: Request) -> Response {
    let extensions = request.extensions_mut();
    let peer = extensions.get::<ConnectInfo<SocketAddr>>().map(|info| Peer(info.0));
    if let (Some(peer), None) = (peer, extensions.get::<Peer>()) {
        extensions.insert(peer);
    }
    tidewire.endpoint().upgrade(request).map(Body::from)
}
