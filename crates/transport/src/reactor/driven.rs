//! The seam between sockets and what they carry.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewire_core::{Closing, Completion, ConnectionKey, Inbox, Now, Opening, Outbox, Task, Worker};
use tidewire_protocol::Disconnect;

use crate::ws::MessageKind;

/// The state of all connections of one reactor: what [`Worker`] is. A test's echo is one too, so that conformance is
/// checked over the same sockets.
///
/// It lives on the reactor's thread and never blocks.
pub trait Driven: 'static {
    /// Where other threads leave work. Its waker is set by the reactor.
    fn inbox(&self) -> Arc<Inbox>;
    /// A socket was upgraded.
    fn open(&mut self, opening: Opening, now: Now) -> ConnectionKey;
    /// A complete message came. Our protocol takes it the same as text and as bytes.
    fn message(&mut self, key: ConnectionKey, kind: MessageKind, payload: Bytes, now: Now);
    /// The socket is gone; `key` is not used any more.
    fn gone(&mut self, key: ConnectionKey, now: Now);
    /// The reactor wants the connection closed.
    fn close(&mut self, key: ConnectionKey, why: Disconnect, now: Now);
    /// Takes what is in the inbox and fires timers.
    fn advance(&mut self, now: Now);
    /// Monotonic time of the next timer.
    fn deadline(&self) -> Option<Duration>;
    /// Work that has to wait for something.
    fn next_task(&mut self) -> Option<Task>;
    /// The result of a task that was ready at once.
    fn complete(&mut self, done: Completion, now: Now);
    /// A connection with something to write, to close, or to be read again; each once per change. It is served before
    /// the next one is asked for.
    fn next_ready(&mut self) -> Option<ConnectionKey>;
    /// Whether there may be one.
    fn has_ready(&self) -> bool;
    /// Finished frames to write.
    fn outbox(&mut self, key: ConnectionKey) -> &mut Outbox;
    /// Something of the outbox was written; told while no messages are welcome.
    fn written(&mut self, _key: ConnectionKey, _now: Now) {}
    /// Whether more messages are welcome now.
    fn wants_read(&self, key: ConnectionKey) -> bool;
    /// Set if the connection is to be closed.
    fn closing(&self, key: ConnectionKey) -> Option<&Closing>;
    /// Something panicked on the reactor's thread and was contained. What it was over is told by [`Driven::gone`].
    fn panicked(&mut self) {}
}

impl Driven for Worker {
    fn inbox(&self) -> Arc<Inbox> {
        Worker::inbox(self)
    }
    fn open(&mut self, opening: Opening, now: Now) -> ConnectionKey {
        Worker::open(self, opening, now)
    }
    fn message(&mut self, key: ConnectionKey, _: MessageKind, payload: Bytes, now: Now) {
        Worker::message(self, key, payload, now);
    }
    fn gone(&mut self, key: ConnectionKey, now: Now) {
        Worker::gone(self, key, now);
    }
    fn close(&mut self, key: ConnectionKey, why: Disconnect, now: Now) {
        Worker::close(self, key, why, now);
    }
    fn advance(&mut self, now: Now) {
        Worker::advance(self, now);
    }
    fn deadline(&self) -> Option<Duration> {
        Worker::deadline(self)
    }
    fn next_task(&mut self) -> Option<Task> {
        Worker::next_task(self)
    }
    fn complete(&mut self, done: Completion, now: Now) {
        Worker::complete(self, done, now);
    }
    fn next_ready(&mut self) -> Option<ConnectionKey> {
        Worker::next_ready(self)
    }
    fn has_ready(&self) -> bool {
        Worker::has_ready(self)
    }
    fn outbox(&mut self, key: ConnectionKey) -> &mut Outbox {
        Worker::outbox(self, key)
    }
    fn written(&mut self, key: ConnectionKey, now: Now) {
        Worker::written(self, key, now);
    }
    fn wants_read(&self, key: ConnectionKey) -> bool {
        Worker::wants_read(self, key)
    }
    fn closing(&self, key: ConnectionKey) -> Option<&Closing> {
        Worker::closing(self, key)
    }
    fn panicked(&mut self) {
        Worker::panicked(self);
    }
}
