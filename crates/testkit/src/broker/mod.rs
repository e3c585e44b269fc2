//! A model of the Redis that several nodes share, which misbehaves as a real one does.
//!
//! Each node has its own connection to the server: for commands, and for announcements. Connections break, with a word
//! and without one; servers stand still, die, and are succeeded by a copy that lacks the last of what was acknowledged,
//! while some nodes go on with the old one. Commands come late, are refused, or are done though nobody says so.
//!
//! In reading order: `store`, what one server holds and does in one step; `ear`, what one node is told; here, which node
//! is connected to which server; `command`, a step on its way; `announce`, words on theirs; `engine`, the engine's traits
//! on top; `trouble`, what happens to servers and connections. With all faults off it passes the conformance suite.

mod announce;
mod command;
mod ear;
mod engine;
mod store;
mod trouble;

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tidewire_engine::HistoryFilter;
use tidewire_protocol::{ChannelName, ClientInfo, Epoch, StreamPosition};

use self::ear::{Ear, Word};
pub(crate) use self::engine::BrokerEngine;
use self::store::{Moment, Store};
use crate::draw::Draw;
use crate::engine::Lie;
use crate::env::Env;
use crate::fault::{Fault, FaultRates};
use crate::plan::Several;

/// How the broker behaves.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manners {
    pub(crate) rates: FaultRates,
    pub(crate) several: Several,
    pub(crate) lie: Option<Lie>,
}

/// All servers, and all nodes' connections to them.
pub(crate) struct Broker {
    env: Arc<Env>,
    manners: Manners,
    state: Mutex<State>,
    /// What is read with [`Lie::ReadsStale`].
    stale: Mutex<Option<Store>>,
    me: Weak<Self>,
}

struct State {
    /// By number; more than one only while some nodes have not found the new primary.
    servers: BTreeMap<u64, Server>,
    primary: u64,
    last_server: u64,
    epochs: u64,
    /// By node.
    links: Vec<Link>,
    draw: Draw,
    /// Commands of the latest second, and which that is.
    busy: (u64, u32),
}

struct Server {
    store: Store,
    replication_id: u64,
    /// Its process stands.
    stands_until: Duration,
}

/// The connections of one node.
struct Link {
    server: u64,
    alive: bool,
    /// Nothing gets through.
    cut_until: Duration,
    ear: Ear,
    /// Held while the node is told something, so that words stay in order.
    telling: Arc<Mutex<()>>,
}

// === impl Broker ===

impl Broker {
    pub(crate) fn new(env: Arc<Env>, draw: &Draw, manners: Manners) -> Arc<Self> {
        let first = Server::new(Store::default(), 1);
        let state = State {
            servers: BTreeMap::from([(1, first)]),
            primary: 1,
            last_server: 1,
            epochs: 0,
            links: Vec::new(),
            draw: draw.fork("broker"),
            busy: (0, 0),
        };
        Arc::new_cyclic(|me| Self {
            env,
            manners,
            state: Mutex::new(state),
            stale: Mutex::default(),
            me: me.clone(),
        })
    }

    /// Connects one more node.
    pub(crate) fn connect(self: &Arc<Self>) -> Arc<BrokerEngine> {
        let mut state = self.state.lock();
        let ear = Ear::new();
        let (server, telling) = (state.primary, Arc::default());
        state.links.push(Link { server, alive: true, cut_until: Duration::ZERO, ear, telling });
        Arc::new(BrokerEngine::new(Arc::clone(self), state.links.len() - 1))
    }

    /// The node's process is gone, and its connections with it. What it has sent may still be done.
    pub(crate) fn died(&self, node: usize) {
        let link = &mut self.state.lock().links[node];
        link.alive = false;
        link.ear = Ear::default();
    }

    /// The node's process stands, or goes on.
    pub(crate) fn stand(&self, node: usize, stands: bool) {
        let unread = {
            let ear = &mut self.state.lock().links[node].ear;
            ear.stands = stands;
            ear.unread(self.env.now())
        };
        for channel in unread {
            self.tell(node, &channel);
        }
    }

    fn strikes(&self, state: &mut State, fault: Fault) -> bool {
        let strikes = self.env.is_troubled() && state.draw.chance(self.manners.rates.chance(fault));
        if strikes {
            self.env.fault(fault);
        }
        strikes
    }

    fn lies(&self, lie: Lie) -> bool {
        self.manners.lie == Some(lie)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Runs something later, if the broker is still there.
    fn at(&self, at: Duration, act: impl FnOnce(&Arc<Self>) + Send + 'static) {
        let me = self.me.clone();
        self.env.call_at(at, move || {
            if let Some(me) = me.upgrade() {
                act(&me);
            }
        });
    }
}

// === impl Broker: for the world's checks, without faults ===

impl Broker {
    /// Where the stream ends.
    pub(crate) fn head(&self, channel: &ChannelName) -> StreamPosition {
        let state = &mut *self.state();
        let at = state.moment(&self.env, state.primary);
        // On a copy: looking must not change how long anything lasts.
        let mut store = state.primary().store.clone();
        let nothing = HistoryFilter { limit: Some(0), ..Default::default() };
        store.history(&at, channel, &nothing, Duration::ZERO).top
    }

    /// Who is present.
    pub(crate) fn look_presence(&self, channel: &ChannelName) -> Vec<Arc<ClientInfo>> {
        self.state().primary().store.present(self.env.now(), channel)
    }

    /// Whether nobody is present anywhere.
    pub(crate) fn is_deserted(&self) -> bool {
        self.state().primary().store.is_deserted(self.env.now())
    }

    /// Channels that a node wants announcements of.
    pub(crate) fn wanted(&self, node: usize) -> Vec<ChannelName> {
        self.state().links[node].ear.wanted()
    }
}

// === impl Server, State ===

impl Server {
    fn new(store: Store, replication_id: u64) -> Self {
        Self { store, replication_id, stands_until: Duration::ZERO }
    }
}

impl State {
    fn primary(&mut self) -> &mut Server {
        let number = self.primary;
        self.servers.entry(number).or_insert_with(|| Server::new(Store::default(), number))
    }

    fn moment(&mut self, env: &Env, server: u64) -> Moment {
        self.epochs += 1;
        let replication_id = self.servers.get(&server).map_or(server, |server| server.replication_id);
        Moment {
            now: env.now(),
            unix_ms: tidewire_engine::Clock::unix_ms(&**env.clock()),
            server: replication_id,
            fresh: Epoch::from(format!("e{}", self.epochs)),
        }
    }

    /// Lets go of servers that nobody is connected to any more.
    fn retire(&mut self) {
        let (links, primary) = (&self.links, self.primary);
        self.servers.retain(|number, _| {
            *number == primary || links.iter().any(|link| link.alive && link.server == *number)
        });
    }
}
