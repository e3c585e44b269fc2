//! Sessions against rustls' own client, over sockets made of memory: any way of cutting what passes can be tried.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::sync::Arc;

use proptest::prelude::*;
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ServerConfig, SupportedProtocolVersion};

use super::session::{READ_BUFFER_BYTES_MIN, Session};
use crate::serve::tls::server_config;

/// A server's end of a socket.
#[derive(Default)]
struct Pipe {
    input: VecDeque<u8>,
    /// Most that one read gives.
    at_a_time: usize,
    /// The peer sends no more.
    closed: bool,
    output: Vec<u8>,
    /// What it still takes.
    room: usize,
}

impl Read for Pipe {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return if self.closed { Ok(0) } else { Err(io::ErrorKind::WouldBlock.into()) };
        }
        let length = into.len().min(self.at_a_time).min(self.input.len());
        for (to, from) in into.iter_mut().zip(self.input.drain(..length)) {
            *to = from;
        }
        Ok(length)
    }
}

impl Write for Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(self.room);
        if length == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.room -= length;
        self.output.extend_from_slice(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Certificates for both sides.
struct Party {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl Party {
    fn of(version: &'static SupportedProtocolVersion) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let server =
            server_config(made.cert.pem().as_bytes(), made.signing_key.serialize_pem().as_bytes()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { server, client: Arc::new(client) }
    }

    fn meet(&self) -> Pair {
        let client =
            ClientConnection::new(Arc::clone(&self.client), ServerName::try_from("localhost").unwrap());
        Pair {
            client: client.unwrap(),
            session: Session::new(Arc::clone(&self.server)).unwrap(),
            pipe: Pipe { at_a_time: usize::MAX, room: usize::MAX, ..Pipe::default() },
            buffer: vec![0; READ_BUFFER_BYTES_MIN],
        }
    }

    /// Two that have shaken hands.
    fn acquainted(&self) -> Pair {
        let mut pair = self.meet();
        while pair.client.is_handshaking() || pair.session.is_handshaking() {
            pair.shake().unwrap();
        }
        pair.send_to_client();
        pair
    }
}

struct Pair {
    client: ClientConnection,
    session: Session,
    pipe: Pipe,
    buffer: Vec<u8>,
}

impl Pair {
    /// What the client has to send.
    fn sealed(&mut self) -> Vec<u8> {
        let mut sent = Vec::new();
        while self.client.wants_write() {
            self.client.write_tls(&mut sent).unwrap();
        }
        sent
    }

    fn send_to_server(&mut self) {
        let sent = self.sealed();
        self.pipe.input.extend(sent);
    }

    /// Lets the client read what the server sent.
    fn send_to_client(&mut self) {
        let output = std::mem::take(&mut self.pipe.output);
        let mut output = &*output;
        while !output.is_empty() {
            self.client.read_tls(&mut output).unwrap();
            self.client.process_new_packets().unwrap();
        }
    }

    /// One round of the handshake. Input that the server has by then is dropped.
    fn shake(&mut self) -> io::Result<()> {
        self.send_to_server();
        self.take_flight()?;
        self.send_to_client();
        Ok(())
    }

    fn take_flight(&mut self) -> io::Result<Vec<u8>> {
        let mut opened = Vec::new();
        while !self.pipe.input.is_empty() {
            self.session.gather(&mut self.pipe)?;
            if self.session.has_record() {
                let went_on = self.session.go_on();
                self.session.flush(&mut self.pipe)?;
                opened.append(&mut went_on?);
            }
        }
        Ok(opened)
    }

    fn say(&mut self, bytes: &[u8]) {
        self.client.writer().write_all(bytes).unwrap();
        self.send_to_server();
    }

    /// Everything the server can read now.
    fn read(&mut self) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            match self.session.read(&mut self.pipe, &mut self.buffer) {
                Ok(received) if received.bytes == 0 => return Ok(all),
                Ok(received) => all.extend_from_slice(&self.buffer[..received.bytes]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(all),
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes everything, giving the socket room for `room` bytes whenever it takes no more.
    fn answer(&mut self, mut bytes: &[u8], room: usize) {
        while !bytes.is_empty() || self.session.holds_output() {
            let written = self.session.write(&mut self.pipe, &[IoSlice::new(bytes)]).unwrap();
            bytes = &bytes[written.taken..];
            if written.blocked {
                self.pipe.room = room;
            }
        }
    }

    fn heard(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let output = std::mem::take(&mut self.pipe.output);
        let mut output = &*output;
        while !output.is_empty() {
            self.client.read_tls(&mut output).unwrap();
            self.client.process_new_packets().unwrap();
            match self.client.reader().read_to_end(&mut all) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                other => _ = other.unwrap(),
            }
        }
        all
    }

    /// The alert that the client got.
    fn alert(&mut self) -> Option<rustls::AlertDescription> {
        let output = std::mem::take(&mut self.pipe.output);
        self.client.read_tls(&mut &*output).unwrap();
        match self.client.process_new_packets() {
            Err(rustls::Error::AlertReceived(alert)) => Some(alert),
            _ => None,
        }
    }

    /// No memory but the session's own.
    fn assert_lean(&self) {
        let (unread, unsent) = self.session.buffers();
        assert_eq!((unread, unsent), (0, 0));
    }
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

#[test]
fn messages_of_any_length_pass_whole_however_they_are_cut() {
    for version in VERSIONS {
        let party = Party::of(version);
        for at_a_time in [1, 7, 4096, usize::MAX] {
            let mut pair = party.meet();
            pair.pipe.at_a_time = at_a_time;
            while pair.client.is_handshaking() || pair.session.is_handshaking() {
                pair.shake().unwrap();
            }
            for length in [1, 125, 16_383, 16_384, 16_385, 40_000] {
                let bytes = pattern(length);
                pair.say(&bytes);
                assert!(pair.read().unwrap() == bytes, "{version:?} {length} in pieces of {at_a_time}");
                pair.pipe.room = 3;
                pair.answer(&bytes, at_a_time);
                assert!(pair.heard() == bytes, "{version:?} {length} out in pieces of {at_a_time}");
                pair.assert_lean();
            }
        }
    }
}

#[test]
fn many_slices_are_one_record() {
    let mut pair = Party::of(&TLS13).acquainted();
    let slices = [IoSlice::new(b"many "), IoSlice::new(b""), IoSlice::new(b"slices")];
    let written = pair.session.write(&mut pair.pipe, &slices).unwrap();
    assert_eq!((written.taken, written.progress, written.blocked), (11, true, false));
    // Header, plaintext, type, tag.
    assert_eq!(pair.pipe.output.len(), 5 + 11 + 1 + 16);
    assert_eq!(pair.heard(), b"many slices");
}

#[test]
fn what_is_sealed_for_a_stuck_socket_is_bounded() {
    let mut pair = Party::of(&TLS13).acquainted();
    pair.pipe.room = 0;
    let bytes = pattern(1 << 20);
    let written = pair.session.write(&mut pair.pipe, &[IoSlice::new(&bytes)]).unwrap();
    assert_eq!((written.taken, written.progress, written.blocked), (64 << 10, false, true));
    let again = pair.session.write(&mut pair.pipe, &[IoSlice::new(&bytes)]).unwrap();
    assert_eq!((again.taken, again.blocked), (0, true));
    pair.answer(&bytes[written.taken..], 10_000);
    assert!(pair.heard() == bytes);
    pair.assert_lean();
}

#[test]
fn input_behind_the_last_flight_is_not_lost() {
    for version in VERSIONS {
        let party = Party::of(version);
        let mut pair = party.meet();
        while pair.client.is_handshaking() {
            pair.shake().unwrap();
        }
        pair.client.writer().write_all(b"at once").unwrap();
        pair.send_to_server();
        let mut opened = pair.take_flight().unwrap();
        opened.extend(pair.read().unwrap());
        assert_eq!(opened, b"at once");
    }
}

#[test]
fn a_hello_in_many_records_is_understood() {
    let mut pair = Party::of(&TLS13).meet();
    let hello = pair.sealed();
    for byte in &hello[5..] {
        pair.pipe.input.extend([22, 3, 1, 0, 1, *byte]);
    }
    pair.take_flight().unwrap();
    pair.send_to_client();
    while pair.client.is_handshaking() || pair.session.is_handshaking() {
        pair.shake().unwrap();
    }
    pair.say(b"well");
    assert_eq!(pair.read().unwrap(), b"well");
}

#[test]
fn keys_are_changed_when_the_client_wants_it() {
    let mut pair = Party::of(&TLS13).acquainted();
    for round in 0..50_u8 {
        // It wants ours changed too.
        pair.client.refresh_traffic_keys().unwrap();
        pair.say(&[round]);
        assert_eq!(pair.read().unwrap(), [round]);
        pair.answer(&[round, round], 10);
        assert_eq!(pair.heard(), [round, round]);
        pair.assert_lean();
    }
    // Several at once, and nothing else: they are answered with what is sent next.
    for _ in 0..3 {
        pair.client.refresh_traffic_keys().unwrap();
    }
    pair.send_to_server();
    assert_eq!(pair.read().unwrap(), b"");
    pair.answer(b"new keys", usize::MAX);
    assert_eq!(pair.heard(), b"new keys");
}

#[test]
fn a_flood_of_key_changes_is_refused() {
    let mut pair = Party::of(&TLS13).acquainted();
    for _ in 0..100 {
        pair.client.refresh_traffic_keys().unwrap();
    }
    pair.send_to_server();
    assert_eq!(pair.read().unwrap_err().kind(), io::ErrorKind::InvalidData);
}

#[test]
fn both_may_say_goodbye_first() {
    for version in VERSIONS {
        let party = Party::of(version);
        let mut pair = party.acquainted();
        pair.say(b"last words");
        pair.client.send_close_notify();
        pair.send_to_server();
        assert_eq!(pair.read().unwrap(), b"last words");
        // Our direction is still open (RFC 8446 §6.1).
        if version.version == rustls::ProtocolVersion::TLSv1_3 {
            pair.answer(b"ours", 5);
            assert_eq!(pair.heard(), b"ours");
        }
        pair.session.say_goodbye();
        pair.session.say_goodbye();
        pair.answer(b"", usize::MAX);
        let output = std::mem::take(&mut pair.pipe.output);
        pair.client.read_tls(&mut &*output).unwrap();
        assert!(pair.client.process_new_packets().unwrap().peer_has_closed());

        let mut pair = party.acquainted();
        pair.session.say_goodbye();
        pair.answer(b"", 1);
        let output = std::mem::take(&mut pair.pipe.output);
        pair.client.read_tls(&mut &*output).unwrap();
        assert!(pair.client.process_new_packets().unwrap().peer_has_closed());
        assert!(pair.session.write(&mut pair.pipe, &[IoSlice::new(b"too late")]).is_err());
    }
}

#[test]
fn a_socket_that_ends_without_goodbye_is_an_end() {
    let mut pair = Party::of(&TLS13).acquainted();
    pair.say(b"whole");
    let half = pair.pipe.input.len();
    pair.say(b"cut");
    pair.pipe.input.truncate(half + 7);
    pair.pipe.closed = true;
    assert_eq!(pair.read().unwrap(), b"whole");
    assert_eq!(pair.read().unwrap(), b"");
    pair.session.say_goodbye();
}

#[test]
fn sessions_are_resumed() {
    for version in VERSIONS {
        let party = Party::of(version);
        let first = party.acquainted();
        assert!(!first.session.is_resumed());
        for _ in 0..2 {
            let pair = party.acquainted();
            assert!(pair.session.is_resumed());
            assert_eq!(pair.client.handshake_kind(), Some(HandshakeKind::Resumed));
        }
    }
}

#[test]
fn records_that_are_none_are_answered_with_an_alert() {
    use rustls::AlertDescription as Alert;
    type Damage = fn(&mut Vec<u8>);
    let table: [(Damage, Alert); 6] = [
        (|record| *record.last_mut().unwrap() ^= 1, Alert::BadRecordMac),
        (|record| record[5] ^= 0x80, Alert::BadRecordMac),
        (|record| record[3] = 0xff, Alert::DecodeError),
        (|record| record[0] = 99, Alert::DecodeError),
        (|record| record.splice(.., [23, 3, 3, 0, 0]).for_each(drop), Alert::BadRecordMac),
        (
            |record| record.splice(.., *b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").for_each(drop),
            Alert::DecodeError,
        ),
    ];
    for version in VERSIONS {
        let party = Party::of(version);
        for (number, (damage, alert)) in table.iter().enumerate() {
            let mut pair = party.acquainted();
            pair.client.writer().write_all(b"secret").unwrap();
            let mut record = pair.sealed();
            damage(&mut record);
            pair.pipe.input.extend(record);
            assert_eq!(pair.read().unwrap_err().kind(), io::ErrorKind::InvalidData, "{version:?} {number}");
            assert_eq!(pair.alert().as_ref(), Some(alert), "{version:?} {number}");
            assert_dead(&mut pair);
        }
    }
}

/// Whatever is asked of a session that failed, nothing comes of it.
fn assert_dead(pair: &mut Pair) {
    pair.pipe.input.extend([23, 3, 3, 0, 1, 0]);
    assert_eq!(pair.read().unwrap(), b"");
    assert!(pair.session.write(&mut pair.pipe, &[IoSlice::new(b"answer")]).is_err());
    pair.session.say_goodbye();
    let _ = pair.session.flush(&mut pair.pipe);
    assert_eq!(pair.pipe.output, b"");
}

#[test]
fn hellos_that_are_none_are_answered_with_an_alert() {
    let party = Party::of(&TLS13);
    let hello = party.meet().sealed();
    let mut of_another_time = hello.clone();
    // Older than TLS 1.2 by its own words, and without the extension that says otherwise.
    of_another_time[9..11].copy_from_slice(&[3, 1]);
    let beginning = [&[22, 3, 1, 0, 40][..], &hello[5..45]].concat();
    for bad in [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10".to_vec(),
        vec![22, 3, 1, 0xff, 0xff, 1, 0, 0, 0],
        vec![22, 3, 1, 0, 4, 1, 0xff, 0xff, 0xff],
        vec![22, 3, 1, 0, 4, 2, 0, 0, 0],
        vec![23, 3, 3, 0, 1, 0],
        vec![21, 3, 3, 0, 2, 2, 40],
        [&hello[..60], &vec![0xff; hello.len() - 60]].concat(),
        // The beginning of a hello, then what does not belong there.
        [&beginning[..], &[23, 3, 3, 0, 1, 0]].concat(),
        [&beginning[..], b"GET / HTTP/1.1\r\n\r\n"].concat(),
        [&beginning[..], &hello[..]].concat(),
    ] {
        let mut pair = party.meet();
        pair.pipe.input.extend(&bad);
        let refused = pair.take_flight();
        assert_eq!(refused.map_err(|error| error.kind()), Err(io::ErrorKind::InvalidData), "{bad:?}");
        pair.session.say_goodbye();
        assert!(pair.session.write(&mut pair.pipe, &[IoSlice::new(b"answer")]).is_err());
    }
}

#[test]
fn a_hello_without_end_is_given_up() {
    let mut pair = Party::of(&TLS13).meet();
    // A message of 16 MiB, as its header has it, in full records.
    pair.pipe.input.extend([22, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff]);
    pair.pipe.input.extend([0; 0x4000 - 4]);
    for _ in 0..1024 {
        pair.pipe.input.extend([22, 3, 1, 0x40, 0]);
        pair.pipe.input.extend([0; 0x4000]);
    }
    assert_eq!(pair.take_flight().unwrap_err().kind(), io::ErrorKind::InvalidData);
    assert!(pair.session.buffers().0 <= 200 << 10);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Nothing a network can do to a client's bytes makes the server take what was not said.
    #[test]
    fn damage_anywhere_is_found(
        tls13: bool,
        acquainted: bool,
        at in 0.0..1.0_f64,
        change in prop_oneof![
            (1..=255_u8).prop_map(Change::Flip),
            (1..300_usize).prop_map(Change::Drop),
            proptest::collection::vec(any::<u8>(), 1..40).prop_map(Change::Insert),
            Just(Change::Twice),
        ],
        at_a_time in 1..5000_usize,
    ) {
        let party = Party::of(if tls13 { &TLS13 } else { &TLS12 });
        let mut pair = if acquainted { party.acquainted() } else { party.meet() };
        if acquainted {
            pair.client.writer().write_all(&pattern(300)).unwrap();
            pair.client.writer().write_all(&pattern(20_000)).unwrap();
        }
        let mut sent = pair.sealed();
        let at = (at * sent.len() as f64) as usize;
        change.apply(&mut sent, at);
        pair.pipe.at_a_time = at_a_time;
        pair.pipe.input.extend(sent);
        if acquainted {
            let said = [pattern(300), pattern(20_000)].concat();
            if let Ok(read) = pair.read() {
                prop_assert!(read.len() < said.len() && said.starts_with(&read));
            }
        } else {
            // A hello is signed by nobody: only that nothing breaks.
            let _ = pair.take_flight();
        }
        pair.session.say_goodbye();
        let _ = pair.session.write(&mut pair.pipe, &[IoSlice::new(b"answer")]);
    }
}

#[derive(Debug, Clone)]
enum Change {
    Flip(u8),
    Drop(usize),
    Insert(Vec<u8>),
    Twice,
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>, at: usize) {
        match self {
            Self::Flip(bits) => bytes[at] ^= bits,
            Self::Drop(count) => _ = bytes.drain(at..(at + count).min(bytes.len())),
            Self::Insert(new) => _ = bytes.splice(at..at, new.iter().copied()),
            Self::Twice => {
                let again = bytes[at..].to_vec();
                bytes.extend(again);
            }
        }
    }
}
