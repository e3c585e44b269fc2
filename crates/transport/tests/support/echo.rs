//! A connection that sends every message back: conformance is checked with it over the same sockets as the real one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use slab::Slab;
use tidewire_core::metrics::Metrics;
use tidewire_core::{Closing, Completion, ConnectionKey, Framing, Inbox, Now, Opening, Outbox, Task, Wire};
use tidewire_protocol::{Disconnect, Encoding};
use tidewire_transport::Driven;
use tidewire_transport::ws::MessageKind;

/// The echoing counterpart of a worker.
#[derive(Default)]
pub(crate) struct Echo {
    inbox: Arc<Inbox>,
    connections: Slab<Connection>,
    ready: VecDeque<ConnectionKey>,
    metrics: Metrics,
}

struct Connection {
    framing: Framing,
    outbox: Outbox,
    closing: Option<Closing>,
}

impl Echo {
    fn list(&mut self, key: ConnectionKey) {
        self.ready.push_back(key);
    }
}

impl Driven for Echo {
    fn inbox(&self) -> Arc<Inbox> {
        Arc::clone(&self.inbox)
    }

    fn open(&mut self, opening: Opening, _: Now) -> ConnectionKey {
        let framing = opening.wire.framing;
        let slot = self.connections.insert(Connection { framing, outbox: Outbox::default(), closing: None });
        ConnectionKey::new(u32::try_from(slot).expect("few connections"))
    }

    fn message(&mut self, key: ConnectionKey, kind: MessageKind, payload: Bytes, _: Now) {
        // The frames of the real thing, compressed where that was agreed on.
        let encoding = match kind {
            MessageKind::Text => Encoding::Json,
            MessageKind::Binary => Encoding::Protobuf,
        };
        let connection = &mut self.connections[key.index()];
        let wire = Wire { encoding, framing: connection.framing };
        connection.outbox.push(wire.finish(&payload, &self.metrics));
        self.list(key);
    }

    fn gone(&mut self, key: ConnectionKey, _: Now) {
        self.connections.remove(key.index());
    }

    fn close(&mut self, key: ConnectionKey, why: Disconnect, _: Now) {
        let linger = if matches!(why.code, 3000 | 3008 | 3009) {
            tidewire_core::Linger::DropNow
        } else {
            tidewire_core::Linger::Handshake
        };
        self.connections[key.index()].closing = Some(Closing { disconnect: why, linger });
        self.list(key);
    }

    fn advance(&mut self, _: Now) {}

    fn deadline(&self) -> Option<Duration> {
        None
    }

    fn next_task(&mut self) -> Option<Task> {
        None
    }

    fn complete(&mut self, _: Completion, _: Now) {}

    fn next_ready(&mut self) -> Option<ConnectionKey> {
        self.ready.pop_front()
    }

    fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    fn outbox(&mut self, key: ConnectionKey) -> &mut Outbox {
        &mut self.connections[key.index()].outbox
    }

    fn wants_read(&self, _: ConnectionKey) -> bool {
        true
    }

    fn closing(&self, key: ConnectionKey) -> Option<&Closing> {
        self.connections.get(key.index())?.closing.as_ref()
    }
}
