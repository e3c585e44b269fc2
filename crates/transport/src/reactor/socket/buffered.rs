//! TLS by the session of an HTTP server that is not ours.

use std::io::{self, IoSlice, Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;
use rustls::ServerConnection;

use crate::tls::{Received, Written};

/// Ciphertext a session may hold for a socket that takes no more; what is beyond waits in the outbox.
const PENDING_BYTES_MAX: usize = 64 << 10;

/// A socket and the session on it. It costs twice what a session of ours does: rustls keeps a buffer to read into.
#[derive(Debug)]
pub(super) struct Buffered {
    tcp: TcpStream,
    session: ServerConnection,
}

// === impl Buffered ===

impl Buffered {
    pub(super) fn new(tcp: TcpStream, mut session: ServerConnection) -> Self {
        session.set_buffer_limit(Some(PENDING_BYTES_MAX));
        Self { tcp, session }
    }

    pub(super) fn tcp(&mut self) -> &mut TcpStream {
        &mut self.tcp
    }

    /// Reads one record or less; whether there is more is never known.
    pub(super) fn read(&mut self, into: &mut [u8]) -> io::Result<Received> {
        const END: Received = Received { bytes: 0, emptied: true };
        loop {
            match self.session.reader().read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // The peer left without a TLS farewell: for us the same as with one.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(END),
                other => return other.map(|bytes| Received { bytes, emptied: false }),
            }
            let ciphertext = self.session.read_tls(&mut self.tcp)?;
            if let Err(error) = self.session.process_new_packets() {
                // The alert that says what was wrong goes out if it can.
                let _ = self.session.write_tls(&mut self.tcp);
                return Err(io::Error::new(io::ErrorKind::InvalidData, error));
            }
            if ciphertext == 0 {
                return Ok(END);
            }
        }
    }

    /// Encrypts while the kernel takes what comes out; one vectored call takes at most the session's limit.
    pub(super) fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Written> {
        let (mut progress, blocked) = self.drain()?;
        if blocked {
            return Ok(Written { taken: 0, progress, blocked });
        }
        let taken = self.session.writer().write_vectored(slices)?;
        let (more, blocked) = self.drain()?;
        progress |= more;
        Ok(Written { taken, progress, blocked })
    }

    /// Gives the kernel what is encrypted; returns whether it took any and whether it refused the rest.
    fn drain(&mut self) -> io::Result<(bool, bool)> {
        let mut progress = false;
        while self.session.wants_write() {
            match self.session.write_tls(&mut self.tcp) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => progress = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok((progress, true)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok((progress, false))
    }

    pub(super) fn holds_output(&self) -> bool {
        self.session.wants_write()
    }

    pub(super) fn say_goodbye(&mut self) {
        self.session.send_close_notify();
    }

    pub(super) fn shutdown_write(&self) -> io::Result<()> {
        self.tcp.shutdown(Shutdown::Write)
    }
}
