//! What can go wrong, how often in one world, and how often it did.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use crate::draw::Draw;

macro_rules! faults {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// A kind of fault.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $($(#[$doc])* $name,)* }

        impl Fault {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// Its name in reports.
            pub fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}

faults! {
    /// The engine answers late, and so out of order.
    EngineDelay = "engine-delay",
    /// The engine refuses; nothing was done.
    EngineRefusal = "engine-refusal",
    /// The engine does what it is asked and then says that it could not.
    EngineUncertain = "engine-uncertain",
    /// An announcement comes late.
    AnnouncementDelay = "announcement-delay",
    /// An announcement never comes.
    AnnouncementDrop = "announcement-drop",
    /// An announcement comes twice.
    AnnouncementDouble = "announcement-double",
    /// No announcements at all for a while.
    AnnouncementOutage = "announcement-outage",
    /// A stream is gone; its channel begins a new one.
    StreamLost = "stream-lost",
    /// A stream's publications are removed.
    HistoryRemoved = "history-removed",
    /// A socket ends in the middle of a frame, or between two.
    Cut = "cut",
    /// A socket swallows everything and does not end.
    BlackHole = "black-hole",
    /// Bytes are long on their way.
    LinkDelay = "link-delay",
    /// A frame arrives in pieces.
    Split = "split",
    /// A client does not read for a while.
    SlowReader = "slow-reader",
    /// A worker's thread stands for a while.
    WorkerStall = "worker-stall",
    /// The connect hook is slow or fails.
    HookTrouble = "hook-trouble",
    /// The wall clock jumps.
    ClockJump = "clock-jump",
    /// The operator closes connections, ends or makes subscriptions.
    Operator = "operator",
    /// A node gives a command up, and it is done afterwards.
    CommandLate = "command-late",
    /// A node's connection for announcements breaks.
    EarLost = "ear-lost",
    /// Nothing gets through between a node and its server.
    NodeCut = "node-cut",
    /// The server's process stands.
    BrokerStands = "broker-stands",
    /// A copy of the server takes over, and lacks what was done last.
    Failover = "failover",
    /// A message from node to node gets lost.
    BusLoss = "bus-loss",
    /// A node's process is killed; another one comes up later.
    NodeKilled = "node-killed",
    /// A node's process stands.
    NodeStands = "node-stands",
    /// A node is told to stop, and does.
    NodeDrained = "node-drained",
}

impl Fault {
    /// Those that only happen where several nodes share a broker.
    const OF_SEVERAL: [Self; 9] = [
        Self::CommandLate,
        Self::EarLost,
        Self::NodeCut,
        Self::BrokerStands,
        Self::Failover,
        Self::BusLoss,
        Self::NodeKilled,
        Self::NodeStands,
        Self::NodeDrained,
    ];

    /// Whether it happens only where several nodes share a broker.
    pub fn needs_several(self) -> bool {
        Self::OF_SEVERAL.contains(&self)
    }

    /// Those after which a subscriber may have to be told that something is missing.
    const LOSING: [Self; 3] = [Self::AnnouncementDrop, Self::AnnouncementOutage, Self::StreamLost];
}

/// How often each kind happened.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FaultCounts(BTreeMap<Fault, u64>);

impl FaultCounts {
    pub(crate) fn add(&mut self, fault: Fault) {
        *self.0.entry(fault).or_default() += 1;
    }

    /// How often one kind happened.
    pub fn of(&self, fault: Fault) -> u64 {
        self.0.get(&fault).copied().unwrap_or(0)
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

impl AddAssign<&FaultCounts> for FaultCounts {
    fn add_assign(&mut self, other: &FaultCounts) {
        for (fault, count) in &other.0 {
            *self.0.entry(*fault).or_default() += count;
        }
    }
}

/// How likely, or how far apart on average, the faults of one world are. Zero: off.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FaultRates {
    chances: BTreeMap<Fault, f64>,
}

impl FaultRates {
    /// No faults at all.
    pub fn none() -> Self {
        Self::default()
    }

    /// The swarm rule: each world has about half of the kinds, each at a rate of its own, so that quiet but odd mixtures
    /// occur too.
    pub fn drawn(draw: &mut Draw, several: bool) -> Self {
        let mut chances = BTreeMap::new();
        let share = *draw.pick(&[0.0, 0.25, 0.5, 0.5, 0.8]);
        for fault in Fault::ALL.iter().filter(|fault| several || !fault.needs_several()) {
            let rate = *draw.pick(&[0.005, 0.02, 0.05, 0.15, 0.4]);
            if draw.chance(share) {
                chances.insert(*fault, rate);
            }
        }
        // In a part of the worlds nothing gets lost on the way, and then nobody may be told that something was.
        if draw.chance(0.3) {
            chances.retain(|fault, _| !Fault::LOSING.contains(fault));
        }
        Self { chances }
    }

    /// Whether nothing can go wrong.
    pub(crate) fn is_none(&self) -> bool {
        self.chances.values().all(|chance| *chance <= 0.0)
    }

    /// Whether something can get lost between engine and subscribers.
    pub(crate) fn lose(&self) -> bool {
        Fault::LOSING.iter().any(|fault| self.has(*fault))
    }

    /// The probability each time the fault could happen.
    pub fn chance(&self, fault: Fault) -> f64 {
        self.chances.get(&fault).copied().unwrap_or(0.0)
    }

    /// Whether it can happen at all.
    pub fn has(&self, fault: Fault) -> bool {
        self.chance(fault) > 0.0
    }

    /// The mean time between two, for faults that come by themselves.
    pub fn mean(&self, fault: Fault) -> Option<Duration> {
        let chance = self.chance(fault);
        (chance > 0.0).then(|| Duration::from_secs_f64((1.0 / chance).clamp(3.0, 40.0)))
    }

    /// Sets the probability of one kind.
    #[must_use]
    pub fn with(mut self, fault: Fault, chance: f64) -> Self {
        self.chances.insert(fault, chance);
        self
    }
}

impl fmt::Display for FaultRates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.chances.is_empty() {
            return f.write_str("none");
        }
        for (at, (fault, chance)) in self.chances.iter().enumerate() {
            let comma = if at == 0 { "" } else { ", " };
            write!(f, "{comma}{} {chance}", fault.name())?;
        }
        Ok(())
    }
}
