//! What every part of a world shares: the clock, what is to happen when, the trace, and the count of faults.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use parking_lot::Mutex;
use tidewire_engine::{Clock, ManualClock};

use crate::fault::{Fault, FaultCounts};
use crate::record::Record;
use crate::trace::Trace;
use crate::world::Event;

/// Something that happens at a moment.
pub(crate) enum Due {
    /// The world handles it.
    Event(Event),
    /// A part of the world handles it by itself.
    Call(Box<dyn FnOnce() + Send>),
}

#[derive(Default)]
struct Agenda {
    queue: BTreeMap<(Duration, u64), Due>,
    sequence: u64,
}

/// Shared by everything in a world.
pub(crate) struct Env {
    clock: Arc<ManualClock>,
    agenda: Mutex<Agenda>,
    /// Faults may happen.
    troubled: AtomicBool,
    counts: Mutex<FaultCounts>,
    trace: Mutex<Trace>,
    record: Mutex<Record>,
}

impl Env {
    pub(crate) fn new(clock: Arc<ManualClock>, trace: Trace) -> Arc<Self> {
        Arc::new(Self {
            clock,
            agenda: Mutex::default(),
            troubled: AtomicBool::new(true),
            counts: Mutex::default(),
            trace: Mutex::new(trace),
            record: Mutex::default(),
        })
    }

    pub(crate) fn now(&self) -> Duration {
        self.clock.monotonic()
    }

    pub(crate) fn clock(&self) -> &Arc<ManualClock> {
        &self.clock
    }

    /// Plans an event. Events of the same moment happen in the order they were planned.
    pub(crate) fn at(&self, at: Duration, event: Event) {
        self.plan(at, Due::Event(event));
    }

    pub(crate) fn after(&self, wait: Duration, event: Event) {
        self.at(self.now() + wait, event);
    }

    pub(crate) fn call_at(&self, at: Duration, call: impl FnOnce() + Send + 'static) {
        self.plan(at, Due::Call(Box::new(call)));
    }

    fn plan(&self, at: Duration, due: Due) {
        let mut agenda = self.agenda.lock();
        agenda.sequence += 1;
        let key = (at.max(self.clock.monotonic()), agenda.sequence);
        agenda.queue.insert(key, due);
    }

    /// When something happens next.
    pub(crate) fn next_at(&self) -> Option<Duration> {
        self.agenda.lock().queue.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes the first thing that is due now.
    pub(crate) fn pop_due(&self) -> Option<Due> {
        let now = self.now();
        let mut agenda = self.agenda.lock();
        let due = agenda.queue.first_key_value().is_some_and(|((at, _), _)| *at <= now);
        due.then(|| agenda.queue.pop_first().map(|(_, due)| due)).flatten()
    }

    /// A future that is done after a while.
    pub(crate) fn sleep(self: &Arc<Self>, wait: Duration) -> Sleep {
        Sleep { env: Arc::clone(self), until: self.now() + wait }
    }

    pub(crate) fn is_troubled(&self) -> bool {
        self.troubled.load(Ordering::Relaxed)
    }

    /// From now on nothing goes wrong.
    pub(crate) fn calm_down(&self) {
        self.troubled.store(false, Ordering::Relaxed);
    }

    /// Counts a fault that happens.
    pub(crate) fn fault(&self, fault: Fault) {
        self.counts.lock().add(fault);
    }

    pub(crate) fn counts(&self) -> FaultCounts {
        self.counts.lock().clone()
    }

    /// Writes a line of the trace.
    pub(crate) fn note(&self, line: fmt::Arguments<'_>) {
        self.trace.lock().note(self.now(), line);
    }

    pub(crate) fn trace(&self) -> parking_lot::MutexGuard<'_, Trace> {
        self.trace.lock()
    }

    pub(crate) fn record(&self) -> parking_lot::MutexGuard<'_, Record> {
        self.record.lock()
    }
}

/// See [`Env::sleep`].
pub(crate) struct Sleep {
    env: Arc<Env>,
    until: Duration,
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.env.now() >= self.until {
            return Poll::Ready(());
        }
        let waker = context.waker().clone();
        self.env.call_at(self.until, move || waker.wake());
        Poll::Pending
    }
}
