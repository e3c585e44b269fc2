//! Drives futures on one thread, in the order in which they are woken.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;

type Job<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Woken = Arc<Mutex<VecDeque<u64>>>;

/// Whose futures they are: a process that may stand or die.
pub(crate) type Owner = usize;

struct JobWaker {
    id: u64,
    woken: Woken,
}

impl Wake for JobWaker {
    fn wake(self: Arc<Self>) {
        self.woken.lock().push_back(self.id);
    }
}

/// Futures under way.
pub(crate) struct Executor<T> {
    jobs: BTreeMap<u64, (Owner, Job<T>)>,
    woken: Woken,
    last_id: u64,
    /// Owners that stand, and what was woken of theirs meanwhile.
    standing: BTreeMap<Owner, Vec<u64>>,
}

impl<T> Executor<T> {
    pub(crate) fn new() -> Self {
        Self { jobs: BTreeMap::new(), woken: Woken::default(), last_id: 0, standing: BTreeMap::new() }
    }

    /// Polls a future once; keeps it if it is not done.
    pub(crate) fn begin(&mut self, owner: Owner, job: impl Future<Output = T> + Send + 'static) -> Option<T> {
        self.last_id += 1;
        self.poll(self.last_id, owner, Box::pin(job))
    }

    /// Goes on with what has been woken, until something is done.
    pub(crate) fn next_done(&mut self) -> Option<T> {
        loop {
            let id = self.woken.lock().pop_front()?;
            let Some((owner, job)) = self.jobs.remove(&id) else {
                continue;
            };
            if let Some(woken) = self.standing.get_mut(&owner) {
                woken.push(id);
                self.jobs.insert(id, (owner, job));
                continue;
            }
            if let Some(done) = self.poll(id, owner, job) {
                return Some(done);
            }
        }
    }

    /// Nothing of this owner goes on until [`Self::go_on`].
    pub(crate) fn stand(&mut self, owner: Owner) {
        self.standing.entry(owner).or_default();
    }

    pub(crate) fn go_on(&mut self, owner: Owner) {
        let woken = self.standing.remove(&owner).unwrap_or_default();
        self.woken.lock().extend(woken);
    }

    /// Everything of this owner ends where it is.
    pub(crate) fn end(&mut self, owner: Owner) {
        self.standing.remove(&owner);
        let ended: Vec<_> = self.jobs.extract_if(.., |_, (of, _)| *of == owner).collect();
        drop(ended);
    }

    /// Futures that are not done.
    pub(crate) fn len(&self) -> usize {
        self.jobs.len()
    }

    fn poll(&mut self, id: u64, owner: Owner, mut job: Job<T>) -> Option<T> {
        let woken = Arc::clone(&self.woken);
        let waker = Waker::from(Arc::new(JobWaker { id, woken }));
        match job.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => Some(done),
            Poll::Pending => {
                self.jobs.insert(id, (owner, job));
                None
            }
        }
    }
}
