//! The nodes: their threads, and what happens to their processes.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidewire_core::hooks::NoTokens;
use tidewire_core::{Node, Now, Parts, Worker};
use tidewire_engine::Clock;

use super::hooks::hooks;
use super::{Done, Event, World};
use crate::broker::BrokerEngine;
use crate::engine::Lie;
use crate::fault::Fault;

/// How long connections have while a node drains, and the node after that.
const DRAIN_SPREAD: Duration = Duration::from_secs(2);
const DRAIN_END: Duration = Duration::from_secs(5);

/// One node, dead or alive. Its number is the broker's number of it, and who owns its futures.
pub(super) struct Host {
    pub(super) node: Arc<Node>,
    /// Its connection with a broker that others share.
    broker: Option<Arc<BrokerEngine>>,
    life: Life,
    stands_until: Duration,
    pub(super) ticking: bool,
    pub(super) prolonging: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Life {
    Serving,
    Draining,
    Over,
}

/// A worker and the thread it is on.
pub(super) struct Thread {
    pub(super) host: usize,
    pub(super) worker: Worker,
    /// When it has something to do by itself.
    pub(super) deadline: Option<Duration>,
    pub(super) stalled_until: Duration,
    /// The link behind each key.
    pub(super) keys: Vec<Option<usize>>,
}

// === impl Host ===

impl Host {
    pub(super) fn is_alive(&self) -> bool {
        self.life != Life::Over
    }
}

// === impl World: which nodes there are ===

impl World {
    /// One more node comes up.
    pub(super) fn start(&mut self) {
        let host = self.hosts.len();
        let (engine, broker) = self.backend.connect();
        let clock = Arc::clone(self.env.clock()) as Arc<dyn Clock>;
        let node = Node::new(Parts {
            id: uuid::Uuid::from_u128((u128::from(self.plan.seed) << 32) | host as u128),
            options: self.plan.options(),
            engine,
            hooks: hooks(&self.env, &self.plan, &self.clients, self.draw.fork(&format!("hooks {host}"))),
            tokens: Arc::new(NoTokens),
            clock,
        });
        self.env.note(format_args!("node {host} comes up"));
        let mut seeds = self.draw.fork(&format!("workers {host}"));
        for _ in 0..self.plan.workers {
            let worker = Worker::new(Arc::clone(&node), seeds.bytes32());
            let number = self.threads.len();
            let (env, jitter) = (Arc::clone(&self.env), Mutex::new(self.draw.fork("wake")));
            let wake = move || {
                let wait = Duration::from_micros(jitter.lock().below(300));
                env.after(wait, Event::Advance { worker: number });
            };
            worker.inbox().set_waker(Box::new(wake));
            let stalled_until = Duration::ZERO;
            self.threads.push(Thread { host, worker, deadline: None, stalled_until, keys: Vec::new() });
        }
        let serving = Arc::clone(&node);
        self.hosts.push(Host {
            node,
            broker,
            life: Life::Serving,
            stands_until: Duration::ZERO,
            ticking: false,
            prolonging: false,
        });
        if self.plan.lie != Some(Lie::NeverRepairs) {
            let serve = async move {
                serving.serve().await;
                Done::Nothing
            };
            self.spawn(host, Box::pin(serve));
        }
    }

    /// Nodes that live.
    pub(super) fn alive(&self) -> Vec<usize> {
        (0..self.hosts.len()).filter(|host| self.hosts[*host].is_alive()).collect()
    }

    /// A node that can be asked for something now; none if all of them stand.
    pub(super) fn any_host(&mut self) -> Option<usize> {
        let now = self.env.now();
        let mut able = self.alive();
        able.retain(|host| self.hosts[*host].stands_until <= now);
        (!able.is_empty()).then(|| *self.draw.pick(&able))
    }

    /// A thread that a new socket goes to. Whether its node stands, nobody can see from outside.
    pub(super) fn any_thread(&mut self) -> usize {
        let serving = (0..self.threads.len())
            .filter(|thread| self.hosts[self.threads[*thread].host].life == Life::Serving);
        let serving: Vec<usize> = serving.collect();
        *self.draw.pick(&serving)
    }

    /// A node that may end: there must be another one to go to.
    fn any_dispensable(&mut self) -> Option<usize> {
        let serving: Vec<usize> =
            self.alive().into_iter().filter(|host| self.hosts[*host].life == Life::Serving).collect();
        (serving.len() > 1).then(|| *self.draw.pick(&serving))
    }

    /// What a node does about once a second.
    pub(super) fn tick(&mut self, number: usize) {
        let now = self.env.now();
        let host = &mut self.hosts[number];
        if !host.is_alive() || host.stands_until > now {
            return;
        }
        if !std::mem::replace(&mut host.ticking, true) {
            let node = Arc::clone(&host.node);
            let tick = async move {
                node.tick().await;
                Done::Ticked { host: number }
            };
            self.spawn(number, Box::pin(tick));
        }
        let host = &mut self.hosts[number];
        if let Some(broker) = host.broker.clone()
            && !std::mem::replace(&mut host.prolonging, true)
        {
            let prolong = async move {
                // It comes again.
                let _ = broker.prolong().await;
                Done::Prolonged { host: number }
            };
            self.spawn(number, Box::pin(prolong));
        }
    }
}

// === impl World: what happens to processes ===

impl World {
    /// A node is killed; another one comes up after a while.
    pub(super) fn kill(&mut self) {
        if let Some(host) = self.any_dispensable() {
            self.stop(host);
        }
    }

    /// A node is told to stop: its connections are sent away, then it ends.
    pub(super) fn drain(&mut self) {
        let Some(number) = self.any_dispensable() else { return };
        self.env.note(format_args!("node {number} drains"));
        let host = &mut self.hosts[number];
        host.life = Life::Draining;
        host.node.drain(DRAIN_SPREAD);
        let node = Arc::clone(&host.node);
        let farewell = self.env.sleep(DRAIN_END - Duration::from_secs(1));
        let leave = async move {
            farewell.await;
            node.leave_cluster().await;
            Done::Nothing
        };
        self.spawn(number, Box::pin(leave));
        self.env.after(DRAIN_END, Event::Stop { host: number });
    }

    /// A node's process stands for a while.
    pub(super) fn stand(&mut self) {
        let Some(number) = self.any_host() else { return };
        let longest = *self.draw.pick(&[500, 3_000, 12_000]);
        let until = self.env.now() + self.draw.millis(50, longest);
        self.env.note(format_args!("node {number} stands until {until:?}"));
        self.hosts[number].stands_until = until;
        for thread in self.threads.iter_mut().filter(|thread| thread.host == number) {
            thread.stalled_until = thread.stalled_until.max(until);
        }
        self.executor.stand(number);
        if let Some(broker) = self.backend.broker() {
            broker.stand(number, true);
        }
        self.env.at(until, Event::GoOn { host: number });
    }

    pub(super) fn go_on(&mut self, number: usize) {
        if !self.hosts[number].is_alive() {
            return;
        }
        self.env.note(format_args!("node {number} goes on"));
        self.executor.go_on(number);
        if let Some(broker) = self.backend.broker() {
            broker.stand(number, false);
        }
    }

    /// A node's process is gone. Its sockets end, or nobody hears of them any more.
    pub(super) fn stop(&mut self, number: usize) {
        if !self.hosts[number].is_alive() {
            return;
        }
        self.env.note(format_args!("node {number} is gone"));
        self.hosts[number].life = Life::Over;
        self.executor.end(number);
        if let Some(broker) = self.backend.broker() {
            broker.died(number);
        }
        let silently = self.draw.chance(0.3);
        for link in 0..self.links.len() {
            if self.threads[self.links[link].worker].host == number {
                self.abandon(link, silently);
            }
        }
        for thread in self.threads.iter_mut().filter(|thread| thread.host == number) {
            thread.deadline = None;
            thread.keys.clear();
        }
        self.lanes_lost(number);
        let wait = self.draw.millis(500, 10_000);
        self.env.after(wait, Event::Start);
    }

    /// The socket's end at a node is gone with the node.
    fn abandon(&mut self, number: usize, silently: bool) {
        let link = &mut self.links[number];
        if link.key.take().is_none() {
            return;
        }
        link.held.clear();
        link.blocked_since = None;
        if silently {
            link.hole = true;
        } else if link.client_open && !link.hole {
            let at = link.down.last_at().max(self.env.now() + link.latency());
            self.env.at(at, Event::ClientEnd { link: number });
        }
    }
}

// === impl World: what a thread does ===

impl World {
    pub(super) fn now(&self) -> Now {
        Now { mono: self.env.now(), unix_ms: self.env.clock().unix_ms() }
    }

    /// Turns every worker whose deadline has come and whose thread is not standing.
    pub(super) fn fire_timers(&mut self) {
        let now = self.env.now();
        for number in 0..self.threads.len() {
            let Thread { deadline: before, stalled_until, .. } = self.threads[number];
            if stalled_until > now || before.is_none_or(|deadline| deadline > now) {
                continue;
            }
            self.with_worker(number, |worker, now| worker.advance(now));
            if self.threads[number].deadline == before {
                let text = format!("worker {number} does nothing at its deadline {before:?}");
                self.env.record().violation(text);
                self.threads[number].deadline = Some(now + Duration::from_secs(1));
            }
        }
    }

    /// Lets a worker do something, then does for it what a reactor would.
    pub(super) fn with_worker<T>(&mut self, number: usize, act: impl FnOnce(&mut Worker, Now) -> T) -> T {
        let now = self.now();
        let done = act(&mut self.threads[number].worker, now);
        self.settle(number);
        done
    }

    /// Runs the worker's tasks as far as they go at once, and serves the sockets that have news.
    pub(super) fn settle(&mut self, number: usize) {
        let host = self.threads[number].host;
        loop {
            let now = self.now();
            let thread = &mut self.threads[number];
            if let Some(task) = thread.worker.next_task() {
                let future = task.future;
                let job = async move { Done::Task(number, future.await) };
                if let Some(Done::Task(_, completion)) = self.executor.begin(host, job) {
                    self.threads[number].worker.complete(completion, now);
                }
            } else if let Some(key) = thread.worker.next_ready() {
                if let Some(link) = thread.keys.get(key.index()).copied().flatten() {
                    self.serve(link);
                }
            } else if thread.worker.is_behind() {
                thread.worker.advance(now);
            } else {
                break;
            }
        }
        let thread = &mut self.threads[number];
        thread.deadline = thread.worker.deadline().filter(|_| self.hosts[host].is_alive());
    }

    pub(super) fn advance(&mut self, number: usize) {
        if !self.hosts[self.threads[number].host].is_alive() {
            return;
        }
        if self.env.is_troubled() && self.draw.chance(self.plan.rates.chance(Fault::WorkerStall) * 0.05) {
            self.env.fault(Fault::WorkerStall);
            let until = self.env.now() + self.draw.millis(1, 2_000);
            self.env.note(format_args!("worker {number} stands until {until:?}"));
            self.threads[number].stalled_until = until;
            return self.env.at(until, Event::Advance { worker: number });
        }
        self.with_worker(number, |worker, now| worker.advance(now));
    }
}
