//! A TLS session over a socket that does not block.

use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

use super::scratch;

/// Largest plaintext of a record (RFC 8446 §5.1).
const PLAIN_BYTES_MAX: usize = 16 << 10;

/// Largest record as it is sent: header, plaintext, and what TLS 1.2 allows for encryption (RFC 5246 §6.2.3).
const RECORD_BYTES_MAX: usize = 5 + PLAIN_BYTES_MAX + 2048;

/// The header of a record: type, version, length.
const RECORD_HEADER_BYTES: usize = 5;

/// What a record of a handshake begins with: its type and the major version.
const HANDSHAKE_RECORD: [u8; 2] = [22, 3];

/// Input is read this far into a buffer, so that what is opened can gather in front of what is not: of the records so far,
/// plaintext is shorter than ciphertext, and one more is as long as this at most.
const HEADROOM: usize = PLAIN_BYTES_MAX;

/// A buffer with room for any record.
pub(crate) const READ_BUFFER_BYTES_MIN: usize = HEADROOM + RECORD_BYTES_MAX;

/// Ciphertext of a handshake's flight: rustls takes messages of 64 KiB (certificates of clients).
const FLIGHT_BYTES_MAX: usize = (64 << 10) + RECORD_BYTES_MAX;

/// Plaintext sealed in one go. What the socket does not take of it stays with the session, so this bounds that too.
const SEAL_BYTES_MAX: usize = 64 << 10;

/// What a record adds to its plaintext, and messages of TLS itself that go out before it: a guess, corrected by rustls.
const SEAL_OVERHEAD: usize = 256;

/// A server's session. Idle it holds no buffer.
pub(crate) struct Session {
    tls: UnbufferedServerConnection,
    /// The beginning of a record whose rest has not come.
    unread: Vec<u8>,
    /// Sealed bytes the socket has not taken.
    unsent: Vec<u8>,
    /// Nothing more will come: the peer has said goodbye, or its direction ended.
    ended: bool,
    /// The peer broke the protocol: rustls is not to be asked again.
    failed: bool,
    /// We have said goodbye: nothing may follow.
    parted: bool,
}

/// What a read gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Received {
    /// Bytes at the front of the buffer; 0 at the end of the stream.
    pub(crate) bytes: usize,
    /// Whether the socket gave less than there was room for, so that an edge will tell of more.
    pub(crate) emptied: bool,
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    /// Bytes of the caller's that were taken.
    pub(crate) taken: usize,
    /// Whether the kernel took anything: with TLS this differs.
    pub(crate) progress: bool,
    /// Whether the kernel takes no more for now.
    pub(crate) blocked: bool,
}

/// How the session is with respect to new output.
enum Readiness {
    Sealed(usize),
    TooSmall(usize),
}

// === impl Session ===

impl Session {
    pub(super) fn new(config: Arc<ServerConfig>) -> Result<Self, rustls::Error> {
        let tls = UnbufferedServerConnection::new(config)?;
        Ok(Self { tls, unread: Vec::new(), unsent: Vec::new(), ended: false, failed: false, parted: false })
    }

    // === handshake ===

    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.is_handshaking()
    }

    /// What was agreed to be spoken inside.
    pub(super) fn alpn_protocol(&self) -> Option<&[u8]> {
        self.tls.alpn_protocol()
    }

    /// Whether an earlier session was resumed; meant for after the handshake.
    pub(super) fn is_resumed(&self) -> bool {
        self.tls.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// Takes what the socket has and computes nothing.
    ///
    /// # Errors
    /// `WouldBlock` if it has nothing, `UnexpectedEof` at its end, `InvalidData` if there is more than a handshake can need.
    pub(super) fn gather(&mut self, io: &mut impl Read) -> io::Result<()> {
        let room = FLIGHT_BYTES_MAX.saturating_sub(self.unread.len()).min(8 << 10);
        if room == 0 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "TLS handshake is too long"));
        }
        scratch::with(|scratch| {
            let input = sized(&mut scratch.input, room);
            match io.read(input)? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                read => {
                    self.unread.extend_from_slice(input.get(..read).unwrap_or_default());
                    Ok(())
                }
            }
        })
    }

    /// Whether what was gathered begins with a whole record, or with what cannot become one of a handshake.
    pub(super) fn has_record(&self) -> bool {
        if !self.unread.iter().zip(HANDSHAKE_RECORD).all(|(byte, expected)| *byte == expected) {
            return true;
        }
        let Some(header) = self.unread.first_chunk::<RECORD_HEADER_BYTES>() else { return false };
        let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
        length > RECORD_BYTES_MAX || self.unread.len() >= RECORD_HEADER_BYTES + length
    }

    /// Goes on with what was gathered; the answer waits to be flushed. Returns input that came after the handshake.
    ///
    /// # Errors
    /// `InvalidData` for what TLS does not allow, after which the alert that says so waits to be flushed.
    pub(super) fn go_on(&mut self) -> io::Result<Vec<u8>> {
        scratch::with(|scratch| {
            let gathered = std::mem::take(&mut self.unread);
            let input = sized(&mut scratch.input, HEADROOM + gathered.len());
            if let Some(area) = input.get_mut(HEADROOM..) {
                area.copy_from_slice(&gathered);
            }
            let plain = self.open(input, gathered.len())?;
            Ok(input.get(..plain).unwrap_or_default().to_vec())
        })
    }

    // === input ===

    /// Reads what is there and opens it, into the front of `buffer`, which has at least [`READ_BUFFER_BYTES_MIN`] bytes.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing, `InvalidData` for what TLS does not allow; the alert that says so went out if it could.
    pub(crate) fn read(&mut self, io: &mut (impl Read + Write), buffer: &mut [u8]) -> io::Result<Received> {
        while !self.ended && !self.failed {
            let held = self.unread.len();
            let Some((kept, room)) =
                buffer.get_mut(HEADROOM..).and_then(|area| area.split_at_mut_checked(held))
            else {
                return Err(too_long());
            };
            if room.is_empty() {
                return Err(too_long());
            }
            kept.copy_from_slice(&self.unread);
            let (room, read) = (room.len(), io.read(room)?);
            if read == 0 {
                // The peer left without a farewell: for us the same as with one, since messages have their own ends.
                self.ended = true;
                break;
            }
            let opened = self.open(buffer, held + read);
            if !self.unsent.is_empty() {
                // What TLS itself has to say. An error will show again at the next write.
                let _ = self.flush(io);
            }
            let bytes = opened?;
            if bytes > 0 {
                return Ok(Received { bytes, emptied: read < room });
            }
        }
        Ok(Received { bytes: 0, emptied: true })
    }

    /// As [`Self::read`], into memory of this thread, which `take` sees.
    pub(super) fn read_with<T>(
        &mut self,
        io: &mut (impl Read + Write),
        take: impl FnOnce(&[u8]) -> T,
    ) -> io::Result<T> {
        scratch::with(|scratch| {
            let input = sized(&mut scratch.input, READ_BUFFER_BYTES_MIN);
            let received = self.read(io, input)?;
            Ok(take(input.get(..received.bytes).unwrap_or_default()))
        })
    }

    /// Opens `filled` bytes after the headroom into the front of `buffer` and returns how many those are. Keeps what is
    /// not a whole record.
    fn open(&mut self, buffer: &mut [u8], filled: usize) -> io::Result<usize> {
        let mut plain = 0;
        let mut begin = HEADROOM;
        let end = (HEADROOM + filled).min(buffer.len());
        let mut error = None;
        loop {
            let (front, input) = buffer.split_at_mut(begin);
            let input = input.get_mut(..end - begin).unwrap_or_default();
            let UnbufferedStatus { mut discard, state } = self.tls.process_tls_records(input);
            let go_on = match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    while let Some(record) = traffic.next_record() {
                        let record = record.map_err(invalid)?;
                        discard += record.discard;
                        let room = front.get_mut(plain..plain + record.payload.len()).ok_or_else(too_long)?;
                        room.copy_from_slice(record.payload);
                        plain += record.payload.len();
                    }
                    true
                }
                Ok(ConnectionState::EncodeTlsData(mut message)) => {
                    append(&mut self.unsent, |room| message.encode(room))?;
                    true
                }
                Ok(ConnectionState::TransmitTlsData(message)) => {
                    // It waits in `unsent`, in front of everything sealed later.
                    message.done();
                    true
                }
                Ok(ConnectionState::PeerClosed) => {
                    self.ended = true;
                    true
                }
                Ok(ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_)) => false,
                // Early data is not offered, and after the last farewell nothing is read.
                Ok(_) => {
                    self.ended = true;
                    false
                }
                Err(what) => {
                    error = Some(what);
                    false
                }
            };
            begin = (begin + discard).min(end);
            if !go_on {
                break;
            }
        }
        if let Some(error) = error {
            self.failed = true;
            self.unread = Vec::new();
            self.queue_alert(buffer.get_mut(begin..end).unwrap_or_default());
            return Err(invalid(error));
        }
        self.unread = match buffer.get(begin..end) {
            Some(rest) if !rest.is_empty() && !self.ended => rest.to_vec(),
            _ => Vec::new(),
        };
        Ok(plain)
    }

    /// Takes the alert that says what was wrong. `input`: what rustls has not discarded.
    fn queue_alert(&mut self, input: &mut [u8]) {
        // As long as it has something to say it does not look at the input again, which it must not after an error.
        while self.tls.wants_write() {
            let Ok(ConnectionState::EncodeTlsData(mut message)) = self.tls.process_tls_records(input).state
            else {
                return;
            };
            if append(&mut self.unsent, |room| message.encode(room)).is_err() {
                return;
            }
        }
    }

    /// Memory held for input and for output.
    #[cfg(test)]
    pub(super) fn buffers(&self) -> (usize, usize) {
        (self.unread.capacity(), self.unsent.capacity())
    }

    // === output ===

    /// Seals and writes as much of `slices` as goes. Bytes of an earlier call come first; as long as the socket does not
    /// take those, nothing is taken. Without slices only those are written.
    ///
    /// # Errors
    /// When the socket or the session is broken.
    pub(crate) fn write(&mut self, io: &mut impl Write, slices: &[IoSlice<'_>]) -> io::Result<Written> {
        let progress = self.flush(io)?;
        if self.holds_output() {
            return Ok(Written { taken: 0, progress, blocked: true });
        }
        let mut filled = slices.iter().filter(|slice| !slice.is_empty());
        let Some(first) = filled.next() else { return Ok(Written { taken: 0, progress, blocked: false }) };
        scratch::with(|scratch| {
            let sealed = &mut scratch.sealed;
            let mut plain: &[u8] = first.get(..SEAL_BYTES_MAX).unwrap_or(first);
            if filled.next().is_some() {
                join(slices, &mut scratch.plain);
                plain = &scratch.plain;
            }
            let length = self.seal(plain, sealed)?;
            let sealed = sealed.get(..length).unwrap_or_default();
            let sent = send(io, sealed)?;
            let rest = sealed.get(sent..).unwrap_or_default();
            if !rest.is_empty() {
                self.unsent = rest.to_vec();
            }
            Ok(Written { taken: plain.len(), progress: progress || sent > 0, blocked: !rest.is_empty() })
        })
    }

    /// Whether sealed bytes wait for the socket.
    pub(crate) fn holds_output(&self) -> bool {
        !self.unsent.is_empty()
    }

    /// Gives the socket what waits for it; returns whether it took anything.
    ///
    /// # Errors
    /// When the socket is broken.
    pub(crate) fn flush(&mut self, io: &mut impl Write) -> io::Result<bool> {
        if self.unsent.is_empty() {
            return Ok(false);
        }
        let sent = send(io, &self.unsent)?;
        if sent == self.unsent.len() {
            self.unsent = Vec::new();
        } else {
            self.unsent.drain(..sent);
        }
        Ok(sent > 0)
    }

    /// Queues TLS's farewell (`close_notify`); it goes out with the next write.
    pub(crate) fn say_goodbye(&mut self) {
        let sealed = scratch::with(|scratch| {
            sized(&mut scratch.sealed, SEAL_OVERHEAD);
            let length =
                self.encrypt(&mut scratch.sealed, |traffic, room| traffic.queue_close_notify(room))?;
            io::Result::Ok(scratch.sealed.get(..length).unwrap_or_default().to_vec())
        });
        self.parted = true;
        // A session that is broken, or has said it before, has none.
        if let Ok(sealed) = sealed {
            self.unsent.extend_from_slice(&sealed);
        }
    }

    /// Seals `plain` into the front of `into` and returns how much that is.
    fn seal(&mut self, plain: &[u8], into: &mut Vec<u8>) -> io::Result<usize> {
        let expected = plain.len() + (1 + plain.len() / PLAIN_BYTES_MAX) * SEAL_OVERHEAD;
        sized(into, expected);
        self.encrypt(into, |traffic, room| traffic.encrypt(plain, room))
    }

    /// Lets rustls write into `into`, which grows if it must.
    fn encrypt(
        &mut self,
        into: &mut Vec<u8>,
        mut write: impl FnMut(&mut Traffic<'_>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> io::Result<usize> {
        if self.failed || self.parted {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        // What TLS itself has to say comes first.
        let mut before = Vec::new();
        loop {
            // The input is not touched by this; rustls wants to see it all the same if it knows the beginning of a message.
            let UnbufferedStatus { discard, state } = self.tls.process_tls_records(&mut self.unread);
            let readiness = match state.map_err(invalid)? {
                ConnectionState::WriteTraffic(mut traffic) => match write(&mut traffic, into) {
                    Ok(length) => Some(Readiness::Sealed(length)),
                    Err(EncryptError::InsufficientSize(size)) => {
                        Some(Readiness::TooSmall(size.required_size))
                    }
                    Err(error) => return Err(io::Error::other(error)),
                },
                ConnectionState::EncodeTlsData(mut message) => {
                    append(&mut before, |room| message.encode(room))?;
                    None
                }
                ConnectionState::TransmitTlsData(message) => {
                    message.done();
                    None
                }
                ConnectionState::PeerClosed => {
                    self.ended = true;
                    None
                }
                // Both have said goodbye, or the handshake is not done.
                _ => return Err(io::ErrorKind::BrokenPipe.into()),
            };
            self.unread.drain(..discard.min(self.unread.len()));
            match readiness {
                Some(Readiness::Sealed(length)) if before.is_empty() => return Ok(length),
                Some(Readiness::Sealed(length)) => {
                    into.truncate(length);
                    into.splice(..0, before.iter().copied());
                    return Ok(before.len() + length);
                }
                Some(Readiness::TooSmall(required)) => _ = sized(into, required),
                None => {}
            }
        }
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Neither keys nor what was said.
        f.debug_struct("Session")
            .field("unread", &self.unread.len())
            .field("unsent", &self.unsent.len())
            .finish()
    }
}

type Traffic<'c> = rustls::unbuffered::WriteTraffic<'c, rustls::server::ServerConnectionData>;

/// The first `length` bytes of a vector that is made at least as long.
fn sized(bytes: &mut Vec<u8>, length: usize) -> &mut [u8] {
    if bytes.len() < length {
        bytes.resize(length, 0);
    }
    bytes.get_mut(..length).unwrap_or_default()
}

/// Gathers slices, as many bytes as are sealed in one go.
fn join(slices: &[IoSlice<'_>], into: &mut Vec<u8>) {
    into.clear();
    for slice in slices {
        let room = SEAL_BYTES_MAX.saturating_sub(into.len());
        if room == 0 {
            return;
        }
        into.extend_from_slice(slice.get(..room).unwrap_or(slice));
    }
}

/// Lets rustls write a message of its own behind `into`.
fn append(
    into: &mut Vec<u8>,
    mut write: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
) -> io::Result<()> {
    let length = into.len();
    let required = match write(&mut []) {
        Ok(_) => return Ok(()),
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        Err(error) => return Err(io::Error::other(error)),
    };
    into.resize(length + required, 0);
    let written = write(into.get_mut(length..).unwrap_or_default()).map_err(io::Error::other)?;
    into.truncate(length + written);
    Ok(())
}

/// Writes until everything is written or the socket takes no more; returns how much it took.
fn send(io: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
        match io.write(rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(more) => sent += more,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

fn invalid(error: rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "TLS message is too long")
}
