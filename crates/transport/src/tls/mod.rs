//! TLS that owns no buffers while it is idle.
//!
//! `session`: a server's session over any non-blocking socket; what is not a whole record yet and what the socket has not
//! taken is all it keeps. `stream`: the handshake, and a session under HTTP. `scratch`: where records are opened and sealed, lent
//! by the thread.
//!
//! rustls does the protocol, by its unbuffered interface: its usual one keeps 4 KiB to read into for as long as a connection
//! lives. A session begins under [`stream::TlsStream`] and goes to a reactor with its socket.

mod scratch;
mod session;
mod stream;

pub(crate) use self::session::{READ_BUFFER_BYTES_MIN, Received, Session, Written};
pub(crate) use self::stream::TlsStream;

#[cfg(test)]
mod tests;
