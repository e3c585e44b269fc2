//! A socket under HTTP that gives up on a request head that does not come.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::tls::TlsStream;

/// The socket of an HTTP connection of [`super::Listener`].
///
/// hyper's own timeout for heads also runs between requests, where a client may be silent for long; so that one is the
/// idle timeout, and this stream watches the head: from the start, or from a request's first byte, until the service is
/// called.
#[derive(Debug)]
pub struct HttpStream {
    transport: Transport,
    watch: Option<HeadWatch>,
}

/// What bytes go over.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream>),
}

#[derive(Debug)]
struct HeadWatch {
    timeout: Duration,
    phase: Phase,
    running: Option<Pin<Box<Sleep>>>,
}

/// Whether a request is with the service.
#[derive(Debug, Clone, Default)]
pub(super) struct Phase {
    in_request: Arc<AtomicBool>,
    /// Set with every request, taken by the stream: the head it watched has come.
    head_came: Arc<AtomicBool>,
}

/// A request is with the service until this is dropped.
pub(super) struct RequestGuard(Phase);

// === impl HttpStream ===

impl HttpStream {
    pub(super) fn new(transport: Transport, head_timeout: Duration) -> Self {
        let running = Some(Box::pin(sleep(head_timeout)));
        Self { transport, watch: Some(HeadWatch { timeout: head_timeout, phase: Phase::default(), running }) }
    }

    /// For HTTP/2, whose heads come in frames among others.
    pub(super) fn unwatched(transport: Transport) -> Self {
        Self { transport, watch: None }
    }

    pub(super) fn phase(&self) -> Phase {
        self.watch.as_ref().map(|watch| watch.phase.clone()).unwrap_or_default()
    }

    pub(crate) fn into_transport(self) -> Transport {
        self.transport
    }
}

impl AsyncRead for HttpStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = into.filled().len();
        let read = match &mut this.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_read(context, into),
        };
        let Some(watch) = &mut this.watch else { return read };
        match read {
            Poll::Ready(Ok(())) => {
                watch.on_bytes(into.filled().len() - before);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                ready!(watch.poll_timeout(context));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "request head took too long")))
            }
        }
    }
}

impl AsyncWrite for HttpStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(context),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_flush(context),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(context),
        }
    }
}

// === impl HeadWatch ===

impl HeadWatch {
    /// Bytes outside a request begin a head; further ones do not win it more time.
    fn on_bytes(&mut self, count: usize) {
        self.note_head();
        if count > 0 && self.running.is_none() && !self.phase.in_request.load(Ordering::Acquire) {
            self.running = Some(Box::pin(sleep(self.timeout)));
        }
    }

    fn poll_timeout(&mut self, context: &mut Context<'_>) -> Poll<()> {
        self.note_head();
        match &mut self.running {
            Some(running) => running.as_mut().poll(context),
            None => Poll::Pending,
        }
    }

    fn note_head(&mut self) {
        if self.phase.head_came.swap(false, Ordering::AcqRel) {
            self.running = None;
        }
    }
}

// === impl Phase ===

impl Phase {
    /// The service is about to be called.
    pub(super) fn request(&self) -> RequestGuard {
        self.head_came.store(true, Ordering::Release);
        self.in_request.store(true, Ordering::Release);
        RequestGuard(self.clone())
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.in_request.store(false, Ordering::Release);
    }
}
