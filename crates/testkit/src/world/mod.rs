//! What happens when: one node, its workers and its clients, event by event.
//!
//! `sockets`: what a reactor does for the workers, and the links. `trouble`: faults that come by themselves, the backend
//! and the operator. `verdict`: what must hold at the end.
//!
//! A world has three parts: trouble, in which faults happen; calm, in which none do, publishing goes on for a while and
//! everything must converge; and the end, when all clients leave and nothing may be left.

mod sockets;
mod trouble;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidewire_core::hooks::{ConnectGrant, Hooks, NoTokens, Refusal, SubscribeGrant};
use tidewire_core::{Completion, Node, Now, Parts, Worker};
use tidewire_engine::{BoxFuture, ManualClock};
use tidewire_protocol::{ChannelName, ErrorCode};

use crate::client::Client;
use crate::draw::Draw;
use crate::engine::{Manners, SimEngine};
use crate::env::{Due, Env};
use crate::executor::Executor;
use crate::fault::Fault;
use crate::link::Link;
use crate::outcome::Outcome;
use crate::plan::Plan;
use crate::trace::{Trace, Tracing};

/// Publishing goes on this long after the last fault.
const CALM_PUBLISHING: Duration = Duration::from_secs(5);

/// A call that had no fault may take this long after the last fault, since it may wait for one that had.
const STRICT_AFTER: Duration = Duration::from_secs(30);

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
    /// A second has passed.
    Second,
}

/// What a future of a world ends with.
enum Done {
    Task(usize, Completion),
    Published { lane: usize, ok: bool },
    Ticked,
    Nothing,
}

/// One publisher of the backend: one publication after the other.
struct Lane {
    publisher: u32,
    sequence: u64,
}

struct World {
    plan: Plan,
    env: Arc<Env>,
    draw: Draw,
    engine: Arc<SimEngine>,
    node: Arc<Node>,
    workers: Vec<Worker>,
    /// When each worker has something to do by itself.
    deadlines: Vec<Option<Duration>>,
    stalled_until: Vec<Duration>,
    executor: Executor<Done>,
    clients: Vec<Client>,
    /// The link each client uses.
    lines: Vec<Option<usize>>,
    reads_from: Vec<Duration>,
    links: Vec<Link>,
    /// The link behind each key of each worker.
    by_key: Vec<Vec<Option<usize>>>,
    lanes: Vec<Lane>,
    publishing: bool,
    ticking: bool,
}

/// Plays a plan to its end.
pub fn run(plan: &Plan, tracing: Tracing) -> Outcome {
    let mut world = World::new(plan.clone(), tracing);
    world.begin();
    world.play_until(plan.trouble);
    world.calm_down();
    world.play_until(plan.trouble + CALM_PUBLISHING);
    world.publish_last();
    let settled = plan.trouble + STRICT_AFTER.max(CALM_PUBLISHING) + plan.convergence();
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

// === impl World: its beginning and its loop ===

impl World {
    fn new(plan: Plan, tracing: Tracing) -> Self {
        let draw = Draw::new(plan.seed).fork("world");
        let clock = Arc::new(ManualClock::new());
        clock.set_unix_ms(1_700_000_000_000);
        let env = Env::new(Arc::clone(&clock), Trace::new(tracing));
        let manners = Manners { rates: plan.rates.clone(), lossless: plan.lossless, lie: plan.lie };
        let engine = SimEngine::new(Arc::clone(&env), &draw, manners);
        let clients: Vec<Client> =
            (0..plan.clients).map(|number| Client::new(Arc::clone(&env), number, &plan, &draw)).collect();
        let node = Node::new(Parts {
            id: uuid::Uuid::from_u128(u128::from(plan.seed)),
            options: plan.options(),
            engine: Arc::clone(&engine) as Arc<dyn tidewire_engine::Engine>,
            hooks: hooks(&env, &plan, &clients, draw.fork("hooks")),
            tokens: Arc::new(NoTokens),
            clock,
        });
        let mut seeds = draw.fork("workers");
        let workers: Vec<Worker> =
            (0..plan.workers).map(|_| Worker::new(Arc::clone(&node), seeds.bytes32())).collect();
        for (number, worker) in workers.iter().enumerate() {
            let (env, jitter) = (Arc::clone(&env), Mutex::new(draw.fork("wake")));
            let wake = move || {
                let wait = Duration::from_micros(jitter.lock().below(300));
                env.after(wait, Event::Advance { worker: number });
            };
            worker.inbox().set_waker(Box::new(wake));
        }
        Self {
            env,
            draw,
            engine,
            node,
            deadlines: vec![None; workers.len()],
            stalled_until: vec![Duration::ZERO; workers.len()],
            by_key: vec![Vec::new(); workers.len()],
            workers,
            executor: Executor::new(),
            lines: vec![None; clients.len()],
            reads_from: vec![Duration::ZERO; clients.len()],
            clients,
            links: Vec::new(),
            lanes: (1..=2).map(|publisher| Lane { publisher: publisher * 10_000, sequence: 0 }).collect(),
            publishing: true,
            ticking: false,
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
        let node = Arc::clone(&self.node);
        self.spawn(Box::pin(async move {
            node.serve().await;
            Done::Nothing
        }));
        self.begin_trouble();
    }

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
            .deadlines
            .iter()
            .zip(&self.stalled_until)
            .filter_map(|(deadline, stalled)| deadline.map(|deadline| deadline.max(*stalled)));
        timers.chain(self.env.next_at()).min()
    }

    /// Turns every worker whose deadline has come and whose thread is not standing.
    fn fire_timers(&mut self) {
        let now = self.env.now();
        for number in 0..self.workers.len() {
            let due = self.deadlines[number].is_some_and(|deadline| deadline <= now);
            if !due || self.stalled_until[number] > now {
                continue;
            }
            let before = self.deadlines[number];
            self.with_worker(number, |worker, now| worker.advance(now));
            if self.deadlines[number] == before {
                let text = format!("worker {number} does nothing at its deadline {before:?}");
                self.env.record().violation(text);
                self.deadlines[number] = Some(now + Duration::from_secs(1));
            }
        }
    }

    fn now(&self) -> Now {
        self.node.now()
    }

    /// Lets a worker do something, then does for it what a reactor would.
    fn with_worker<T>(&mut self, number: usize, act: impl FnOnce(&mut Worker, Now) -> T) -> T {
        let now = self.now();
        let done = act(&mut self.workers[number], now);
        self.settle(number);
        done
    }

    /// Runs the worker's tasks as far as they go at once, and serves the sockets that have news.
    fn settle(&mut self, number: usize) {
        loop {
            if let Some(task) = self.workers[number].next_task() {
                let future = task.future;
                let job = async move { Done::Task(number, future.await) };
                if let Some(Done::Task(_, completion)) = self.executor.begin(job) {
                    let now = self.now();
                    self.workers[number].complete(completion, now);
                }
            } else if let Some(key) = self.workers[number].next_ready() {
                if let Some(link) = self.by_key[number].get(key.index()).copied().flatten() {
                    self.serve(link);
                }
            } else if self.workers[number].is_behind() {
                let now = self.now();
                self.workers[number].advance(now);
            } else {
                break;
            }
        }
        self.deadlines[number] = self.workers[number].deadline();
    }

    /// Starts a future that is no worker's task.
    fn spawn(&mut self, job: BoxFuture<'static, Done>) {
        if let Some(done) = self.executor.begin(job) {
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
            Done::Task(worker, completion) => self.workers[worker].inbox().push_completion(completion),
            Done::Published { lane, ok } => self.lane_done(lane, ok),
            Done::Ticked => self.ticking = false,
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
        let until = self.stalled_until[worker];
        (until > self.env.now()).then_some(until)
    }

    fn advance(&mut self, number: usize) {
        if self.env.is_troubled() && self.draw.chance(self.plan.rates.chance(Fault::WorkerStall) * 0.05) {
            self.env.fault(Fault::WorkerStall);
            let until = self.env.now() + self.draw.millis(1, 2_000);
            self.env.note(format_args!("worker {number} stands until {until:?}"));
            self.stalled_until[number] = until;
            return self.env.at(until, Event::Advance { worker: number });
        }
        self.with_worker(number, |worker, now| worker.advance(now));
    }
}

/// The application's part: who a client is and what the server subscribes it to. Slow and failing if that is drawn.
fn hooks(env: &Arc<Env>, plan: &Plan, clients: &[Client], draw: Draw) -> Hooks {
    let server_side: Vec<(String, Vec<ChannelName>)> =
        clients.iter().map(|client| (client.user(), client.server_side_channels())).collect();
    let (env, chance) = (Arc::clone(env), plan.rates.chance(Fault::HookTrouble));
    let draw = Mutex::new(draw);
    let connect = move |event: tidewire_core::hooks::ConnectEvent| {
        let user = String::from_utf8_lossy(&event.data).trim_matches('"').to_owned();
        let subs = server_side.iter().find(|(name, _)| *name == user);
        let subs = subs.map(|(_, channels)| channels.clone()).unwrap_or_default();
        let grant = ConnectGrant {
            user,
            subs: subs.into_iter().map(|channel| (channel, SubscribeGrant::default())).collect(),
            ..Default::default()
        };
        let mut draw = draw.lock();
        let strikes = env.is_troubled() && draw.chance(chance);
        let (wait, fails) = (draw.millis(1, 3_000), draw.chance(0.3));
        if strikes {
            env.fault(Fault::HookTrouble);
        }
        let env = Arc::clone(&env);
        let answer = async move {
            if strikes {
                env.sleep(wait).await;
                if fails {
                    return Err(Refusal::from(ErrorCode::Internal));
                }
            }
            Ok(Some(grant))
        };
        Box::pin(answer) as BoxFuture<'static, _>
    };
    Hooks { connect: Some(Arc::new(connect)), ..Default::default() }
}
