//! How other threads reach a reactor.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use mio::Waker;
use parking_lot::Mutex;
use tidewire_core::Opening;

use super::Upgraded;
use super::address::AddressPlace;

/// What a reactor is told.
pub(super) enum Command {
    /// A socket to look after.
    Adopt(Box<Incoming>),
    /// Drop every connection and end.
    Stop,
}

/// A socket and what it is the beginning of.
pub(super) struct Incoming {
    pub(super) upgraded: Upgraded,
    pub(super) opening: Opening,
    pub(super) place: Place,
    pub(super) address: Option<AddressPlace>,
}

/// The letters of one reactor and the way to wake it.
pub(super) struct Mailbox {
    commands: Mutex<Vec<Command>>,
    waker: Waker,
    /// A wake-up is on its way: more of them would only cost system calls.
    woken: AtomicBool,
    /// Nobody reads it any more.
    closed: AtomicBool,
    pub(super) counts: Counts,
}

impl Mailbox {
    pub(super) fn new(waker: Waker, counts: Counts) -> Self {
        Self {
            commands: Mutex::default(),
            waker,
            woken: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            counts,
        }
    }

    pub(super) fn send(&self, command: Command) {
        let mut commands = self.commands.lock();
        if self.is_closed() {
            return;
        }
        commands.push(command);
        drop(commands);
        self.wake();
    }

    /// The reactor has ended: what comes now is dropped, and what came too late to be read.
    pub(super) fn close(&self) {
        let mut commands = self.commands.lock();
        self.closed.store(true, Ordering::Release);
        let unread = std::mem::take(&mut *commands);
        drop(commands);
        // Sockets among them, which take a while.
        drop(unread);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub(super) fn wake(&self) {
        if !self.woken.swap(true, Ordering::AcqRel)
            && let Err(error) = self.waker.wake()
        {
            tracing::error!(%error, "reactor cannot be woken");
        }
    }

    /// The reactor is about to look at everything others may have left: from now on it must be woken again.
    pub(super) fn awake(&self) {
        self.woken.store(false, Ordering::Release);
    }

    pub(super) fn take(&self) -> Vec<Command> {
        std::mem::take(&mut self.commands.lock())
    }
}

/// One of the sockets that reactors count; gives its place back when dropped.
#[derive(Debug)]
pub(super) struct Place(Option<Counts>);

/// Sockets looked after, with those on their way.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// Of one reactor: new sockets go where it is lowest.
    pub(super) here: Arc<AtomicUsize>,
    /// Of all reactors: what the connection limit is compared with.
    pub(super) total: Arc<AtomicUsize>,
    /// Writes of all reactors so far.
    pub(super) writes: Arc<AtomicU64>,
}

impl Place {
    /// Takes a place unless `limit` places are taken.
    pub(super) fn take(counts: &Counts, limit: usize) -> Option<Self> {
        let raise = |taken: usize| (taken < limit).then_some(taken + 1);
        counts.total.fetch_update(Ordering::Relaxed, Ordering::Relaxed, raise).ok()?;
        counts.here.fetch_add(1, Ordering::Relaxed);
        Some(Self(Some(counts.clone())))
    }

    /// The reactor counts from here on: its entries are too small to hold a guard.
    pub(super) fn hand_over(mut self) {
        self.0 = None;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(counts) = &self.0 {
            counts.leave();
        }
    }
}

impl Counts {
    /// Gives one place back.
    pub(super) fn leave(&self) {
        self.here.fetch_sub(1, Ordering::Relaxed);
        self.total.fetch_sub(1, Ordering::Relaxed);
    }
}
