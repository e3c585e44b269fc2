//! Accepting, also when descriptors run out.

use std::fs::File;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};

/// How long to wait when the system has nothing to accept with.
const BACK_OFF: Duration = Duration::from_millis(100);

/// At most one log line about refused connections in this time.
const LOG_EVERY: Duration = Duration::from_secs(1);

/// What a client reads that cannot be served because descriptors have run out.
const OUT_OF_DESCRIPTORS: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// An accept loop's body that does not fail.
pub(super) struct Acceptor {
    listener: TcpListener,
    /// A descriptor kept back, so that a client can be told when there is none for it.
    reserve: Option<File>,
    logged: Option<Instant>,
    refused: u64,
}

impl Acceptor {
    pub(super) fn new(listener: TcpListener) -> Self {
        Self { listener, reserve: reserve(), logged: None, refused: 0 }
    }

    /// The next connection. Cancel safe.
    pub(super) async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => return accepted,
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    self.log(&error);
                    if !self.refuse_one() {
                        tokio::time::sleep(BACK_OFF).await;
                    }
                }
            }
        }
    }

    /// Tells the next waiting client that it cannot be served, with the descriptor kept back for this. False if that was
    /// not possible.
    fn refuse_one(&mut self) -> bool {
        let Some(reserve) = self.reserve.take() else {
            self.reserve = reserve_again();
            return false;
        };
        drop(reserve);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let refused = match self.listener.poll_accept(&mut context) {
            std::task::Poll::Ready(Ok((stream, _))) => {
                self.refused += 1;
                // Best effort: the socket's buffer is empty, so this small answer fits.
                stream.into_std().and_then(|mut stream| stream.write_all(OUT_OF_DESCRIPTORS)).is_ok()
            }
            _ => false,
        };
        self.reserve = reserve_again();
        refused && self.reserve.is_some()
    }

    fn log(&mut self, error: &io::Error) {
        let now = Instant::now();
        if self.logged.is_none_or(|before| now.duration_since(before) >= LOG_EVERY) {
            self.logged = Some(now);
            tracing::error!(%error, refused = self.refused, "connections cannot be accepted; raise the limit of open files");
        }
    }
}

/// Whether only the connection that was to be accepted is affected.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

fn reserve() -> Option<File> {
    File::open("/dev/null").ok()
}

/// Opens the reserve again; none if someone else was faster, then the next refusal tries.
fn reserve_again() -> Option<File> {
    reserve()
}
