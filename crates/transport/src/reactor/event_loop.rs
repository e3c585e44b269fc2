//! One reactor: readiness in, reads and writes out.
//!
//! `read` and `write` hold the two directions, `end` the ways a socket goes.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll as TaskPoll, Waker};
use std::time::Duration;

use mio::{Events, Poll, Token};
use slab::Slab;
use tidewire_core::{ConnectionKey, Framing, Inbox, Now};
use tidewire_engine::Clock;
use tokio::runtime::Handle;

use super::address::AddressPlace;
use super::driven::Driven;
use super::entry::Entry;
use super::mailbox::{Command, Incoming, Mailbox};
use super::{ReactorOptions, millis};
use crate::ws::Extension;

/// The token of the waker; slab keys stay far below.
pub(super) const WAKE: Token = Token(usize::MAX);

/// Bytes one connection may bring in before the others get their turn; also the size of the shared read buffer.
pub(super) const READ_BYTES_PER_TURN: usize = 64 << 10;
const _: () = assert!(READ_BYTES_PER_TURN >= crate::tls::READ_BUFFER_BYTES_MIN);

/// Sockets written between two looks at what else is ready.
const WRITES_PER_SWEEP: usize = 256;

pub(super) struct EventLoop<D> {
    pub(super) poll: Poll,
    pub(super) driven: D,
    pub(super) inbox: Arc<Inbox>,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) runtime: Handle,
    pub(super) options: Arc<ReactorOptions>,
    pub(super) entries: Slab<Entry>,
    /// Connection key to slab key.
    pub(super) by_key: Vec<u32>,
    /// Places of sockets whose address counts; empty unless that is limited.
    pub(super) addresses: HashMap<u32, AddressPlace>,
    /// Shared by all connections; what must outlive a turn is copied out.
    pub(super) buffer: Vec<u8>,
    /// Sockets that are to be written for the reactor's own reasons: room after a stall, a share used up, an ending.
    pub(super) to_write: VecDeque<u32>,
    pub(super) to_read: VecDeque<u32>,
    /// Moments at which stalled or ending sockets are looked at. An entry may be stale: what is due is decided by the socket.
    pub(super) timers: BinaryHeap<Reverse<(Duration, u32)>>,
    pub(super) now: Now,
    /// Writes that are not counted in the mailbox yet.
    pub(super) writes: u64,
    pub(super) stopping: bool,
}

impl<D: Driven> EventLoop<D> {
    pub(super) fn new(
        poll: Poll,
        driven: D,
        mailbox: Arc<Mailbox>,
        clock: Arc<dyn Clock>,
        runtime: Handle,
        options: Arc<ReactorOptions>,
    ) -> Self {
        let inbox = driven.inbox();
        let waker = Arc::clone(&mailbox);
        inbox.set_waker(Box::new(move || waker.wake()));
        let now = read(&*clock);
        Self {
            poll,
            driven,
            inbox,
            mailbox,
            clock,
            runtime,
            options,
            entries: Slab::new(),
            by_key: Vec::new(),
            addresses: HashMap::new(),
            buffer: vec![0; READ_BYTES_PER_TURN],
            to_write: VecDeque::new(),
            to_read: VecDeque::new(),
            timers: BinaryHeap::new(),
            now,
            writes: 0,
            stopping: false,
        }
    }

    /// Runs until told to stop.
    ///
    /// # Errors
    /// When the system refuses to wait for readiness, which ends every connection of this reactor.
    pub(super) fn run(mut self) -> io::Result<()> {
        let runtime = self.runtime.clone();
        // Tasks are polled here first and may want the runtime's timers and sockets.
        let _inside = runtime.enter();
        // As few as are written per sweep: what many sockets sent is answered before more of it is read.
        let mut events = Events::with_capacity(WRITES_PER_SWEEP);
        while !self.stopping {
            match self.poll.poll(&mut events, self.timeout()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            if catch_unwind(AssertUnwindSafe(|| self.turn(&events))).is_err() {
                self.start_over();
            }
        }
        self.abandon_all();
        Ok(())
    }

    fn turn(&mut self, events: &Events) {
        self.now = read(&*self.clock);
        for event in events {
            if event.token() != WAKE {
                self.on_socket(event);
            }
        }
        self.mailbox.awake();
        self.take_mail();
        self.driven.advance(self.now);
        self.run_tasks();
        self.read_again();
        self.fire_timers();
        self.sweep();
        self.run_tasks();
        self.mailbox.counts.writes.fetch_add(std::mem::take(&mut self.writes), Ordering::Relaxed);
    }

    /// Drops every connection after a panic that was over none of them alone: what they have missed is not known, and
    /// their clients come back and recover. Others find a reactor that serves them.
    fn start_over(&mut self) {
        tracing::error!("a reactor's turn panicked and its connections are dropped; please report this");
        self.driven.panicked();
        // What woke this turn may not have been looked at.
        self.mailbox.awake();
        self.mailbox.wake();
        self.drop_all();
    }

    /// How long to wait for readiness.
    fn timeout(&self) -> Option<Duration> {
        if !self.to_write.is_empty() || !self.to_read.is_empty() || self.driven.has_ready() {
            return Some(Duration::ZERO);
        }
        let own = self.timers.peek().map(|Reverse((at, _))| *at);
        let next = [own, self.driven.deadline()].into_iter().flatten().min()?;
        Some(next.saturating_sub(self.clock.monotonic()))
    }

    fn on_socket(&mut self, event: &mio::event::Event) {
        let Ok(id) = u32::try_from(event.token().0) else { return };
        // An event of a socket that has gone in this batch may meet its successor in the slot: a look too many.
        let Some(entry) = self.entries.get_mut(id as usize) else { return };
        if event.is_read_closed() || event.is_error() {
            entry.read_closed = true;
        }
        if event.is_writable() && entry.stalled {
            self.list_to_write(id);
        }
        if event.is_readable() || event.is_read_closed() || event.is_error() {
            self.contained(id, |this| this.read(id));
        }
    }

    fn take_mail(&mut self) {
        for command in self.mailbox.take() {
            match command {
                Command::Adopt(incoming) => self.adopt(*incoming),
                Command::Stop => self.stopping = true,
            }
        }
    }

    fn adopt(&mut self, incoming: Incoming) {
        let Incoming { upgraded, opening, place, address } = incoming;
        let slot = self.entries.vacant_entry();
        let Ok(id) = u32::try_from(slot.key()) else { return };
        let extension = match opening.wire.framing {
            Framing::WebSocket => Extension::None,
            Framing::WebSocketDeflate(_) => Extension::Deflate,
        };
        let mut entry = Entry::new(upgraded.socket, extension);
        if let Err(error) = entry.socket.register(self.poll.registry(), Token(id as usize)) {
            tracing::warn!(%error, "socket cannot be watched");
            return;
        }
        let key = self.driven.open(opening, self.now);
        entry.key = Some(key);
        slot.insert(entry);
        place.hand_over();
        if let Some(address) = address {
            self.addresses.insert(id, address);
        }
        let index = key.index();
        if self.by_key.len() <= index {
            self.by_key.resize(index + 1, u32::MAX);
        }
        self.by_key[index] = id;
        if !upgraded.unread.is_empty() {
            self.contained(id, |this| this.take_input(id, &mut upgraded.unread.to_vec()));
        }
        // TLS may hold input that no edge will tell of, and output that nothing else would send.
        self.list_to_read(id);
        if self.entries.get(id as usize).is_some_and(|entry| entry.socket.holds_output()) {
            self.list_to_write(id);
        }
    }

    fn read_again(&mut self) {
        for _ in 0..self.to_read.len() {
            let Some(id) = self.to_read.pop_front() else { return };
            if let Some(entry) = self.entries.get_mut(id as usize) {
                entry.to_read = false;
                self.contained(id, |this| this.read(id));
            }
        }
    }

    /// Lets one socket have its turn. Should that panic, the socket goes, and the others do not notice.
    fn contained(&mut self, id: u32, act: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| act(self))).is_ok() {
            return;
        }
        tracing::error!("a socket's turn panicked and it is dropped; please report this");
        self.driven.panicked();
        // It may have been on loan.
        self.buffer.resize(READ_BYTES_PER_TURN, 0);
        self.lost(id);
    }

    /// Polls each task once, where nearly every one is ready; those that are not go to the runtime.
    pub(super) fn run_tasks(&mut self) {
        while let Some(task) = self.driven.next_task() {
            let mut future = task.future;
            let mut context = Context::from_waker(Waker::noop());
            match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut context))) {
                Ok(TaskPoll::Ready(done)) => self.driven.complete(done, self.now),
                Ok(TaskPoll::Pending) => {
                    let inbox = Arc::clone(&self.inbox);
                    self.runtime.spawn(async move { inbox.push_completion(future.await) });
                }
                Err(_) => {
                    tracing::error!("a task of a connection panicked; please report this");
                    self.driven.panicked();
                }
            }
        }
    }

    /// Serves the next sockets with something to do, each up to what is in its outbox at that moment: those the reactor
    /// has listed itself, then those the driven has.
    fn sweep(&mut self) {
        for _ in 0..self.to_write.len().min(WRITES_PER_SWEEP) {
            let Some(id) = self.to_write.pop_front() else { break };
            if let Some(entry) = self.entries.get_mut(id as usize) {
                entry.to_write = false;
                self.contained(id, |this| this.attend(id));
            }
        }
        for _ in 0..WRITES_PER_SWEEP {
            let Some(key) = self.driven.next_ready() else { return };
            if let Some(id) = self.id_of(key) {
                self.contained(id, |this| this.attend(id));
            }
        }
    }

    fn fire_timers(&mut self) {
        while let Some(Reverse((at, id))) = self.timers.peek().copied() {
            if at > self.now.mono {
                return;
            }
            self.timers.pop();
            self.contained(id, |this| this.on_timer(id));
        }
    }

    // === small parts ===

    pub(super) fn id_of(&self, key: ConnectionKey) -> Option<u32> {
        let id = *self.by_key.get(key.index())?;
        self.entries.get(id as usize)?.key.filter(|of| *of == key).map(|_| id)
    }

    pub(super) fn list_to_write(&mut self, id: u32) {
        if let Some(entry) = self.entries.get_mut(id as usize)
            && !std::mem::replace(&mut entry.to_write, true)
        {
            self.to_write.push_back(id);
        }
    }

    pub(super) fn list_to_read(&mut self, id: u32) {
        if let Some(entry) = self.entries.get_mut(id as usize)
            && !std::mem::replace(&mut entry.to_read, true)
        {
            self.to_read.push_back(id);
        }
    }

    pub(super) fn now_ms(&self) -> u32 {
        millis(self.now.mono)
    }
}

fn read(clock: &dyn Clock) -> Now {
    Now { mono: clock.monotonic(), unix_ms: clock.unix_ms() }
}
