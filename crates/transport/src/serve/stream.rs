//! A socket under HTTP that gives up on a request head that does not come, and on floods of HTTP/2.

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

use super::frames::{CALM_DOWN, FrameWatch};

/// The socket of an HTTP connection of [`super::Listener`].
///
/// hyper's own timeout for heads also runs between requests, where a client may be silent for long; so that one is the
/// idle timeout, and this stream watches the head: from the start, or from a request's first byte, until the service is
/// called.
#[derive(Debug)]
pub struct HttpStream {
    transport: Transport,
    watch: Watch,
}

/// What is looked for in the bytes that pass.
#[derive(Debug)]
enum Watch {
    /// HTTP/1: heads that do not come.
    Heads(HeadWatch),
    /// HTTP/2, whose heads come in frames among others: floods of those.
    Frames(FrameWatch),
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
        let watch = HeadWatch { timeout: head_timeout, phase: Phase::default(), running };
        Self { transport, watch: Watch::Heads(watch) }
    }

    /// For HTTP/2.
    pub(super) fn of_frames(transport: Transport, preface_timeout: Duration) -> Self {
        Self { transport, watch: Watch::Frames(FrameWatch::new(preface_timeout)) }
    }

    pub(super) fn phase(&self) -> Phase {
        match &self.watch {
            Watch::Heads(watch) => watch.phase.clone(),
            Watch::Frames(_) => Phase::default(),
        }
    }

    pub(crate) fn into_transport(self) -> Transport {
        self.transport
    }

    /// Ends an HTTP/2 connection; tells the client why if that can be done at once.
    fn calm_down(&mut self, context: &mut Context<'_>) {
        tracing::debug!("a flood of HTTP/2 control frames");
        let Watch::Frames(watch) = &mut self.watch else { return };
        watch.is_over = true;
        if watch.is_between_frames() {
            let _ = self.transport.poll_write(context, &CALM_DOWN);
            let _ = self.transport.poll_flush(context);
        }
    }
}

// === impl Transport ===

impl Transport {
    fn poll_read(&mut self, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Plain(stream) => Pin::new(stream).poll_read(context, into),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_read(context, into),
        }
    }

    fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Transport::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Transport::Plain(stream) => Pin::new(stream).poll_flush(context),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_flush(context),
        }
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
        if matches!(&this.watch, Watch::Frames(watch) if watch.is_over) {
            return Poll::Ready(Ok(()));
        }
        let read = this.transport.poll_read(context, into);
        if let Poll::Ready(Err(error)) = read {
            return Poll::Ready(Err(error));
        }
        let read = read.is_ready();
        match &mut this.watch {
            Watch::Heads(watch) if read => watch.on_bytes(into.filled().len() - before),
            Watch::Heads(watch) => {
                ready!(watch.poll_timeout(context));
                return Poll::Ready(Err(too_slow("request head")));
            }
            Watch::Frames(watch) if read => {
                if watch.read(into.filled().get(before..).unwrap_or_default()) {
                    // To the server it looks like the end of the stream.
                    into.set_filled(before);
                    this.calm_down(context);
                }
            }
            Watch::Frames(watch) => {
                ready!(watch.poll_preface(context));
                return Poll::Ready(Err(too_slow("HTTP/2 preface")));
            }
        }
        Poll::Ready(Ok(()))
    }
}

fn too_slow(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("{what} took too long"))
}

impl AsyncWrite for HttpStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(self.transport.poll_write(context, bytes))?;
        if let Watch::Frames(watch) = &mut self.watch {
            watch.wrote(bytes.get(..written).unwrap_or_default());
        }
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(match &mut self.transport {
            Transport::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Transport::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(context, slices),
        })?;
        if let Watch::Frames(watch) = &mut self.watch {
            let mut left = written;
            for slice in slices {
                let part = slice.get(..left.min(slice.len())).unwrap_or_default();
                watch.wrote(part);
                left -= part.len();
            }
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.transport.poll_flush(context)
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
