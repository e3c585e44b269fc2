//! The HTTP listener: accepts, does TLS, speaks HTTP/1.1 (and HTTP/2 where TLS agrees on it), and lets go of sockets that
//! are upgraded.
//!
//! `accept`: the accept loop, and what it does when the system is out of descriptors. `stream`: a socket that gives up on
//! slow request heads and on floods. `frames`: what counts as a flood of HTTP/2. `tls`: certificates and their
//! replacement.

mod accept;
mod frames;
mod stream;
pub mod tls;

use std::convert::Infallible;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;

use self::accept::Acceptor;
pub use self::stream::HttpStream;
pub(crate) use self::stream::Transport;
use self::tls::ServerTls;
use crate::tls::TlsStream;
use crate::upgrade::Peer;

/// Bounds of the HTTP layer. Each names the answer a client gets that passes it.
#[derive(Debug, Clone)]
pub struct HttpOptions {
    /// From the connection, or the first byte of a later request, to the end of the request's head: closed.
    pub head_timeout: Duration,
    /// Between two requests on one connection: closed.
    pub idle_timeout: Duration,
    /// For the TLS handshake: closed.
    pub tls_timeout: Duration,
    /// TLS handshakes computed at a time; the others wait, as does none for a client that is slow.
    pub tls_handshakes_max: usize,
    /// Request line and headers together: 431.
    pub head_bytes_max: usize,
    /// Headers: 431.
    pub headers_max: usize,
}

impl Default for HttpOptions {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            head_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(75),
            tls_timeout: Duration::from_secs(5),
            tls_handshakes_max: 100 * cores,
            head_bytes_max: 16 << 10,
            headers_max: 100,
        }
    }
}

/// Connections the kernel keeps ready for us to accept; it cuts this down to `net.core.somaxconn`. With the usual 128 a
/// crowd that reconnects at once has its SYNs dropped and waits a second or more each.
const BACKLOG: u32 = 4096;

/// A bound address, before it serves.
#[derive(Debug)]
pub struct Listener {
    tcp: TcpListener,
    tls: Option<ServerTls>,
    options: HttpOptions,
}

impl Listener {
    /// Binds. With `tls` every connection begins with a TLS handshake.
    ///
    /// # Errors
    /// When the address cannot be had, most often because something else listens there.
    pub async fn bind(address: SocketAddr, tls: Option<ServerTls>, options: HttpOptions) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // A restarted server must get its port back while old connections are still in TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(Self { tcp: socket.listen(BACKLOG)?, tls, options })
    }

    /// The address, with the port that port 0 became.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Serves until `stop` is cancelled; then accepts no more, lets requests under way finish, and returns. Upgraded
    /// sockets are no longer its concern. To bound the wait for slow requests, put a timeout around it.
    ///
    /// `service` is called for each request: an axum `Router`, or anything like it.
    pub async fn serve<S, B>(self, service: S, stop: CancellationToken)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let connections = TaskTracker::new();
        let handshakes = Arc::new(Semaphore::new(self.options.tls_handshakes_max));
        let mut acceptor = Acceptor::new(self.tcp);
        let shared =
            Arc::new(Shared { tls: self.tls, options: self.options, handshakes, stop: stop.clone() });
        loop {
            let (stream, peer) = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                accepted = acceptor.accept() => accepted,
            };
            let connection = Arc::clone(&shared).connection(stream, peer, service.clone());
            connections.spawn(connection);
        }
        drop(acceptor);
        connections.close();
        connections.wait().await;
    }
}

/// What all connections of a listener share.
struct Shared {
    tls: Option<ServerTls>,
    options: HttpOptions,
    handshakes: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Shared {
    async fn connection<S, B>(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>
            + Clone
            + Send
            + Sync
            + 'static,
        S::Future: Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        // Answers are written whole: waiting for more only delays them. A socket that refuses is about to fail anyway.
        let _ = stream.set_nodelay(true);
        let Some(tls) = &self.tls else {
            return self.http1(Transport::Plain(stream), peer, service).await;
        };
        let stream = tokio::select! {
            biased;
            () = self.stop.cancelled() => return,
            done = self.handshake(stream, tls) => match done {
                Ok(stream) => stream,
                Err(error) => {
                    tls.count_failed();
                    return tracing::debug!(%error, %peer, "TLS handshake failed");
                }
            },
        };
        tls.count_done(stream.is_resumed());
        let http2 = stream.alpn_protocol() == Some(b"h2");
        let stream = Transport::Tls(Box::new(stream));
        if http2 { self.http2(stream, peer, service).await } else { self.http1(stream, peer, service).await }
    }

    async fn handshake(&self, stream: TcpStream, tls: &ServerTls) -> io::Result<TlsStream> {
        let handshake = TlsStream::accept(stream, tls.current(), &self.handshakes);
        let done = tokio::time::timeout(self.options.tls_timeout, handshake).await;
        done.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "took too long")))
    }

    async fn http1<S, B>(&self, transport: Transport, peer: SocketAddr, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let stream = HttpStream::new(transport, self.options.head_timeout);
        let phase = stream.phase();
        let service = service_fn(move |mut request: Request<Incoming>| {
            let guard = phase.request();
            request.extensions_mut().insert(Peer(peer));
            let mut service = service.clone();
            async move {
                let response = ready_call(&mut service, request).await;
                drop(guard);
                response
            }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.options.idle_timeout)
            .max_headers(self.options.headers_max)
            .max_buf_size(self.options.head_bytes_max)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, %peer, "HTTP connection ended");
        }
    }

    async fn http2<S, B>(&self, transport: Transport, peer: SocketAddr, service: S)
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
        S::Future: Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
    {
        let stream = HttpStream::of_frames(transport, self.options.head_timeout);
        let (requests, mut open) = tokio::sync::watch::channel(0_usize);
        let requests = Arc::new(requests);
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(Peer(peer));
            let mut service = service.clone();
            let open = OpenRequest::new(&requests);
            async move {
                let response = ready_call(&mut service, request).await;
                drop(open);
                response
            }
        });
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Duration::from_secs(20))
            .keep_alive_timeout(Duration::from_secs(20))
            .max_concurrent_streams(100)
            .max_pending_accept_reset_streams(20)
            .max_header_list_size(u32::try_from(self.options.head_bytes_max).unwrap_or(u32::MAX))
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = async { tokio::select! {
                () = self.stop.cancelled() => {}
                () = idle(&mut open, self.options.idle_timeout) => {}
            } } => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, %peer, "HTTP/2 connection ended");
        }
    }
}

/// Counts as a request of its HTTP/2 connection until it is dropped.
struct OpenRequest(Arc<tokio::sync::watch::Sender<usize>>);

impl OpenRequest {
    fn new(requests: &Arc<tokio::sync::watch::Sender<usize>>) -> Self {
        requests.send_modify(|open| *open += 1);
        Self(Arc::clone(requests))
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

/// Returns when no request has been open for `timeout`.
async fn idle(open: &mut tokio::sync::watch::Receiver<usize>, timeout: Duration) {
    loop {
        if open.wait_for(|open| *open == 0).await.is_err() {
            return;
        }
        if tokio::time::timeout(timeout, open.wait_for(|open| *open > 0)).await.is_err() {
            return;
        }
    }
}

async fn ready_call<S, B>(service: &mut S, request: Request<Incoming>) -> Result<Response<B>, Infallible>
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
{
    std::future::poll_fn(|context| service.poll_ready(context)).await?;
    service.call(request).await
}
