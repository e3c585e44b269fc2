//! An echo that also does as it is told, so that a test can make a connection slow, closing or busy.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use slab::Slab;
use tidewire_core::metrics::Metrics;
use tidewire_core::{
    Closing, Completion, ConnectionKey, Framing, Inbox, Linger, Now, Opening, Outbox, Task, Wire,
};
use tidewire_protocol::{Disconnect, Encoding};
use tidewire_transport::Driven;
use tidewire_transport::ws::{MessageKind, Opcode, server_frame};

/// What a test sees and decides from outside.
#[derive(Default)]
pub(crate) struct Controls {
    /// While set, connections that sent `hold` are not read.
    pub(crate) holding: AtomicBool,
    /// Messages that came.
    pub(crate) messages: AtomicUsize,
    /// Connections the driver has let go of.
    pub(crate) gone: AtomicUsize,
    /// Codes the driver asked to close with.
    pub(crate) closed_by_driver: parking_lot::Mutex<Vec<u32>>,
    /// Panics the driver was told of.
    pub(crate) panics: AtomicUsize,
}

/// Echoes, except for `close CODE REASON`, `flood COUNT BYTES` (that many binary messages), `all` (a text to every
/// connection), `all BYTES` (a binary message to every connection), `hold` (no reading until the test lets go), `panic`,
/// and `panic soon` (when the reactor lets the driver act by itself).
pub(crate) struct Scripted {
    controls: Arc<Controls>,
    inbox: Arc<Inbox>,
    connections: Slab<Connection>,
    ready: VecDeque<ConnectionKey>,
    now: Duration,
    panic_soon: bool,
}

struct Connection {
    framing: Framing,
    outbox: Outbox,
    closing: Option<Closing>,
    held: bool,
}

impl Scripted {
    pub(crate) fn new(controls: Arc<Controls>) -> Self {
        let (inbox, connections, ready) = Default::default();
        Self { controls, inbox, connections, ready, now: Duration::ZERO, panic_soon: false }
    }

    fn echo(&mut self, key: ConnectionKey, kind: MessageKind, payload: &Bytes) {
        let encoding = match kind {
            MessageKind::Text => Encoding::Json,
            MessageKind::Binary => Encoding::Protobuf,
        };
        let connection = &mut self.connections[key.index()];
        let wire = Wire { encoding, framing: connection.framing };
        connection.outbox.push(wire.finish(payload, &Metrics::default()));
        self.ready.push_back(key);
    }

    fn push_to_all(&mut self, frame: &Bytes) {
        for (slot, connection) in &mut self.connections {
            connection.outbox.push(frame.clone());
            self.ready.push_back(ConnectionKey::new(slot as u32));
        }
    }

    fn close_with(&mut self, key: ConnectionKey, disconnect: Disconnect) {
        let linger =
            if matches!(disconnect.code, 3000 | 3008 | 3009) { Linger::DropNow } else { Linger::Handshake };
        self.connections[key.index()].closing = Some(Closing { disconnect, linger });
        self.ready.push_back(key);
    }
}

impl Driven for Scripted {
    fn inbox(&self) -> Arc<Inbox> {
        Arc::clone(&self.inbox)
    }

    fn open(&mut self, opening: Opening, _: Now) -> ConnectionKey {
        let framing = opening.wire.framing;
        let connection = Connection { framing, outbox: Outbox::default(), closing: None, held: false };
        ConnectionKey::new(self.connections.insert(connection) as u32)
    }

    fn message(&mut self, key: ConnectionKey, kind: MessageKind, payload: Bytes, _: Now) {
        self.controls.messages.fetch_add(1, Ordering::SeqCst);
        let text = String::from_utf8_lossy(&payload).into_owned();
        let mut words = text.splitn(3, ' ');
        match (words.next(), words.next(), words.next()) {
            (Some("close"), Some(code), Some(reason)) => {
                self.close_with(key, Disconnect::custom(code.parse().expect("a code"), reason.to_owned()));
            }
            (Some("flood"), Some(count), Some(bytes)) => {
                let frame = server_frame(Opcode::Binary, &vec![7; bytes.parse().expect("a size")]);
                let connection = &mut self.connections[key.index()];
                for _ in 0..count.parse().expect("a count") {
                    connection.outbox.push(frame.clone());
                }
                self.ready.push_back(key);
            }
            (Some("all"), None, None) => self.push_to_all(&server_frame(Opcode::Text, b"to all")),
            (Some("all"), Some(bytes), None) => {
                self.push_to_all(&server_frame(Opcode::Binary, &vec![7; bytes.parse().expect("a size")]));
            }
            (Some("panic"), Some("soon"), None) => self.panic_soon = true,
            (Some("panic"), None, None) => panic!("as the test wants it"),
            (Some("hold"), None, None) => self.connections[key.index()].held = true,
            _ => self.echo(key, kind, &payload),
        }
    }

    fn gone(&mut self, key: ConnectionKey, _: Now) {
        self.connections.remove(key.index());
        self.controls.gone.fetch_add(1, Ordering::SeqCst);
    }

    fn close(&mut self, key: ConnectionKey, why: Disconnect, _: Now) {
        self.controls.closed_by_driver.lock().push(why.code);
        self.close_with(key, why);
    }

    fn advance(&mut self, now: Now) {
        self.now = now.mono;
        assert!(!std::mem::take(&mut self.panic_soon), "as the test wants it");
        if !self.controls.holding.load(Ordering::SeqCst) {
            for (slot, connection) in &mut self.connections {
                if std::mem::take(&mut connection.held) {
                    self.ready.push_back(ConnectionKey::new(slot as u32));
                }
            }
        }
    }

    fn deadline(&self) -> Option<Duration> {
        let held = self.connections.iter().any(|(_, connection)| connection.held);
        held.then(|| self.now + Duration::from_millis(2))
    }

    fn next_task(&mut self) -> Option<Task> {
        None
    }

    fn complete(&mut self, _: Completion, _: Now) {}

    fn next_ready(&mut self) -> Option<ConnectionKey> {
        loop {
            let key = self.ready.pop_front()?;
            if self.connections.contains(key.index()) {
                return Some(key);
            }
        }
    }

    fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    fn outbox(&mut self, key: ConnectionKey) -> &mut Outbox {
        &mut self.connections[key.index()].outbox
    }

    fn wants_read(&self, key: ConnectionKey) -> bool {
        !self.connections[key.index()].held
    }

    fn closing(&self, key: ConnectionKey) -> Option<&Closing> {
        self.connections.get(key.index())?.closing.as_ref()
    }

    fn panicked(&mut self) {
        self.controls.panics.fetch_add(1, Ordering::SeqCst);
    }
}
