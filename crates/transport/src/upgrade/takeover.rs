//! Taking the socket out of the HTTP server's hands.

use std::io;

use bytes::Bytes;
use hyper::upgrade::Upgraded as HyperUpgraded;
use hyper_util::rt::TokioIo;
use hyper_util::server::conn::auto;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::server::TlsStream;

use crate::reactor::{Socket, Upgraded};
use crate::serve::{HttpStream, Transport};

/// Takes the raw socket and what was already read out of an upgraded connection.
///
/// It knows the streams of [`crate::serve`], of `axum::serve` and of plain or TLS hyper servers on tokio. Anything else is
/// copied to and from a local socket by a task, which works but costs that connection its frugality.
pub(super) fn take(upgraded: HyperUpgraded) -> io::Result<Upgraded> {
    macro_rules! try_as {
        ($upgraded:ident, $stream:ty, $into:path) => {
            let $upgraded = match $upgraded.downcast::<TokioIo<$stream>>() {
                Ok(parts) => return $into(parts.io.into_inner(), parts.read_buf),
                Err(other) => other,
            };
            let $upgraded = match auto::upgrade::downcast::<TokioIo<$stream>>($upgraded) {
                Ok(parts) => return $into(parts.io.into_inner(), parts.read_buf),
                Err(other) => other,
            };
        };
    }
    try_as!(upgraded, HttpStream, ours);
    try_as!(upgraded, TcpStream, tcp);
    try_as!(upgraded, TlsStream<TcpStream>, tls);
    bridge(upgraded)
}

fn ours(stream: HttpStream, unread: Bytes) -> io::Result<Upgraded> {
    match stream.into_transport() {
        Transport::Plain(stream) => tcp(stream, unread),
        Transport::Tls(stream) => {
            let (stream, session, later) = stream.into_parts();
            // hyper has read a part of what was opened.
            let unread = if later.is_empty() { unread } else { [&*unread, &later].concat().into() };
            Ok(Upgraded { socket: Socket::session(stream.into_std()?, session)?, unread })
        }
    }
}

fn tcp(stream: TcpStream, unread: Bytes) -> io::Result<Upgraded> {
    Ok(Upgraded { socket: Socket::tcp(stream.into_std()?)?, unread })
}

fn tls(stream: TlsStream<TcpStream>, unread: Bytes) -> io::Result<Upgraded> {
    let (stream, session) = stream.into_inner();
    Ok(Upgraded { socket: Socket::tls(stream.into_std()?, session)?, unread })
}

fn bridge(upgraded: HyperUpgraded) -> io::Result<Upgraded> {
    let (near, far) = std::os::unix::net::UnixStream::pair()?;
    near.set_nonblocking(true)?;
    let mut near = UnixStream::from_std(near)?;
    let mut upgraded = TokioIo::new(upgraded);
    // Ends with either side; the reactor closes its own.
    tokio::spawn(async move { tokio::io::copy_bidirectional(&mut upgraded, &mut near).await });
    Ok(Upgraded { socket: Socket::unix(far)?, unread: Bytes::new() })
}
