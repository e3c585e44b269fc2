//! What happens when: nodes, their workers and their clients, event by event.
//!
//! `hosts`: the nodes, and what happens to their processes. `backend`: the engine, or the broker they share. `sockets`:
//! what a reactor does for the workers, and the links. `publishing`: the backend's publications. `trouble`: faults that
//! come by themselves, and the operator. `hooks`: the application. `verdict`: what must hold at the end.
//!
//! A world has three parts: trouble, in which faults happen; calm, in which none do, publishing goes on for a while and
//! everything must converge; and the end, when all clients leave and nothing may be left.

mod backend;
mod hooks;
mod hosts;
mod publishing;
mod sockets;
mod trouble;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use tidewire_core::Completion;
use tidewire_engine::{BoxFuture, ManualClock};

use self::backend::Backend;
use self::hosts::{Host, Thread};
use self::publishing::Lane;
use self::verdict::Survey;
use crate::client::Client;
use crate::draw::Draw;
use crate::env::{Due, Env};
use crate::executor::{Executor, Owner};
use crate::fault::Fault;
use crate::link::Link;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::trace::{Trace, Tracing};

/// Publishing goes on this long after the last fault.
const CALM_PUBLISHING: Duration = Duration::from_secs(5);

/// A call that had no fault may take this long after the last fault, since it may wait for one that had.
const STRICT_AFTER: Duration = Duration::from_secs(30);

/// A node is asked who is where this long before judgement.
const SURVEY_BEFORE: Duration = Duration::from_secs(3);

/// How many events may happen at one moment before the world counts as hung.
const EVENTS_PER_MOMENT_MAX: u32 = 200_000;

/// Something that happens.
#[derive(Debug)]
pub(crate) enum Event {
    /// A client opens a socket.
    Open { client: usize },
    /// The node takes it.
    Accept { link: usize },
    /// Bytes reach a client.
    Down { link: usize, bytes: bytes::Bytes },
    /// A message reaches the node.
    Up { link: usize, message: bytes::Bytes },
    /// The client finds that its socket has ended.
    ClientEnd { link: usize },
    /// The node finds that the socket has ended.
    NodeEnd { link: usize },
    /// A link begins to swallow everything.
    Hole { link: usize },
    /// A client reads again.
    Read { client: usize },
    /// The node may be able to write again.
    Writable { link: usize },
    /// A worker's thread is woken.
    Advance { worker: usize },
    /// A client's application does something.
    Act { client: usize },
    /// A client looks for what is overdue.
    LookAfter { client: usize },
    /// The backend publishes.
    Publish { lane: usize },
    /// A fault that comes by itself.
    Trouble { fault: Fault },
    /// One more node comes up.
    Start,
    /// A node's process ends.
    Stop { host: usize },
    /// A node's process goes on.
    GoOn { host: usize },
    /// A second has passed.
    Second,
}

/// What a future of a world ends with.
enum Done {
    Task(usize, Completion),
    Published { lane: usize, ok: bool },
    Ticked { host: usize },
    Prolonged { host: usize },
    Surveyed(Survey),
    Nothing,
}

struct World {
    plan: Plan,
    env: Arc<Env>,
    draw: Draw,
    backend: Backend,
    /// Every node there ever was.
    hosts: Vec<Host>,
    /// The workers of all of them.
    threads: Vec<Thread>,
    executor: Executor<Done>,
    clients: Vec<Client>,
    /// The link each client uses.
    lines: Vec<Option<usize>>,
    reads_from: Vec<Duration>,
    links: Vec<Link>,
    lanes: Vec<Lane>,
    publishing: bool,
    /// What a node says of all of them, once it has been asked.
    surveyed: Option<Survey>,
}

/// Plays a plan to its end.
pub fn run(plan: &Plan, tracing: Tracing) -> Outcome {
    let mut world = World::new(plan.clone(), tracing);
    world.begin();
    world.play_until(plan.trouble);
    world.calm_down();
    let settled = match plan.found_within {
        Some(patience) => plan.trouble + patience,
        None => {
            world.play_until(plan.trouble + CALM_PUBLISHING);
            world.publish_last();
            let settled = plan.trouble + STRICT_AFTER.max(CALM_PUBLISHING) + plan.convergence();
            world.play_until(settled - SURVEY_BEFORE);
            world.survey();
            settled
        }
    };
    world.play_until(settled);
    let report = world.judge();
    world.leave();
    world.play_until(settled + Duration::from_secs(8));
    world.judge_emptiness();
    let env = &world.env;
    let violations = std::mem::take(&mut env.record().violations);
    Outcome {
        plan: plan.clone(),
        violations,
        report,
        trace_hash: env.trace().hash(),
        simulated: env.now(),
        faults: env.counts(),
    }
}

// === impl World: its beginning ===

impl World {
    fn new(plan: Plan, tracing: Tracing) -> Self {
        let draw = Draw::new(plan.seed).fork("world");
        let clock = Arc::new(ManualClock::new());
        clock.set_unix_ms(1_700_000_000_000);
        let env = Env::new(clock, Trace::new(tracing));
        let clients: Vec<Client> =
            (0..plan.clients).map(|number| Client::new(Arc::clone(&env), number, &plan, &draw)).collect();
        Self {
            backend: Backend::new(&env, &draw, &plan),
            env,
            draw,
            hosts: Vec::new(),
            threads: Vec::new(),
            executor: Executor::new(),
            lines: vec![None; clients.len()],
            reads_from: vec![Duration::ZERO; clients.len()],
            clients,
            links: Vec::new(),
            lanes: (1..=2).map(|publisher| Lane::of(publisher * 10_000)).collect(),
            publishing: true,
            surveyed: None,
            plan,
        }
    }

    fn begin(&mut self) {
        self.env.note(format_args!("{}", self.plan));
        for client in 0..self.clients.len() {
            let at = self.draw.millis(0, 2_000);
            self.env.at(at, Event::Open { client });
            let wait = self.draw.around(self.plan.act_every);
            self.env.at(at + wait, Event::Act { client });
            self.env.at(at, Event::LookAfter { client });
        }
        for lane in 0..self.lanes.len() {
            let wait = self.draw.around(self.plan.publish_every);
            self.env.at(wait, Event::Publish { lane });
        }
        self.env.at(Duration::from_secs(1), Event::Second);
        for _ in 0..self.plan.several.as_ref().map_or(1, |several| several.nodes) {
            self.start();
        }
        self.begin_trouble();
    }
}

// === impl World: its loop ===

impl World {
    /// Lets everything happen that happens before `end`.
    fn play_until(&mut self, end: Duration) {
        let mut at_once = 0u32;
        loop {
            self.run_woken();
            let due = self.next_at().filter(|at| *at < end);
            let now = self.env.now();
            let Some(at) = due else {
                self.env.clock().advance(end.saturating_sub(now));
                return;
            };
            at_once = if at > now { 0 } else { at_once + 1 };
            if at_once > EVENTS_PER_MOMENT_MAX {
                self.env.record().violation("the world hangs: time does not move on".into());
                return;
            }
            self.env.clock().advance(at.saturating_sub(now));
            self.fire_timers();
            match self.env.pop_due() {
                Some(Due::Event(event)) => self.handle(event),
                Some(Due::Call(call)) => call(),
                None => {}
            }
        }
    }

    fn next_at(&self) -> Option<Duration> {
        let timers = self
            .threads
            .iter()
            .filter_map(|thread| thread.deadline.map(|deadline| deadline.max(thread.stalled_until)));
        timers.chain(self.env.next_at()).min()
    }

    /// Starts a future that is no worker's task.
    fn spawn(&mut self, owner: Owner, job: BoxFuture<'static, Done>) {
        if let Some(done) = self.executor.begin(owner, job) {
            self.done(done);
        }
    }

    fn run_woken(&mut self) {
        while let Some(done) = self.executor.next_done() {
            self.done(done);
        }
    }

    fn done(&mut self, done: Done) {
        match done {
            // As on a runtime: the result comes back through the inbox, which wakes the worker.
            Done::Task(thread, completion) => {
                self.threads[thread].worker.inbox().push_completion(completion);
            }
            Done::Published { lane, ok } => self.lane_done(lane, ok),
            Done::Ticked { host } => self.hosts[host].ticking = false,
            Done::Prolonged { host } => self.hosts[host].prolonging = false,
            Done::Surveyed(survey) => self.surveyed = Some(survey),
            Done::Nothing => {}
        }
    }

    fn handle(&mut self, event: Event) {
        if let Some(later) = self.stalled(&event) {
            return self.env.at(later, event);
        }
        match event {
            Event::Open { client } => self.open(client),
            Event::Accept { link } => self.accept(link),
            Event::Down { link, bytes } => self.reached_client(link, bytes),
            Event::Up { link, message } => self.reached_node(link, message),
            Event::ClientEnd { link } => self.client_end(link, None),
            Event::NodeEnd { link } => self.node_end(link),
            Event::Hole { link } => self.begin_hole(link),
            Event::Read { client } => self.read(client),
            Event::Writable { link } => self.writable(link),
            Event::Advance { worker } => self.advance(worker),
            Event::Act { client } => self.act(client),
            Event::LookAfter { client } => self.look_after(client),
            Event::Publish { lane } => self.publish(lane),
            Event::Trouble { fault } => self.trouble(fault),
            Event::Start => self.start(),
            Event::Stop { host } => self.stop(host),
            Event::GoOn { host } => self.go_on(host),
            Event::Second => self.second(),
        }
    }

    /// When the thread that has to handle the event runs again, if it stands.
    fn stalled(&self, event: &Event) -> Option<Duration> {
        let worker = match event {
            Event::Accept { link }
            | Event::Up { link, .. }
            | Event::NodeEnd { link }
            | Event::Writable { link } => self.links[*link].worker,
            Event::Advance { worker } => *worker,
            _ => return None,
        };
        let thread = &self.threads[worker];
        let stalled = thread.stalled_until > self.env.now() && self.hosts[thread.host].is_alive();
        stalled.then_some(thread.stalled_until)
    }

    fn second(&mut self) {
        self.env.after(Duration::from_secs(1), Event::Second);
        self.backend.sweep();
        self.check_writes();
        for host in 0..self.hosts.len() {
            self.tick(host);
        }
    }
}
