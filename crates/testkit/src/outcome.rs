//! What is reported of one world, and of many.

use std::fmt;
use std::time::Duration;

use tidewire_checker::Report;

use crate::fault::{Fault, FaultCounts};
use crate::plan::Plan;

/// What became of one world.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// How it began.
    pub plan: Plan,
    /// What must not have happened.
    pub violations: Vec<String>,
    /// The checker's report.
    pub report: Report,
    /// The hash of the trace.
    pub trace_hash: u64,
    /// How long it lasted on its own clock.
    pub simulated: Duration,
    /// The faults that happened.
    pub faults: FaultCounts,
}

impl Outcome {
    /// Whether nothing went wrong that must not.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}

/// A failure: what went wrong, in which world, and how to see it again.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.plan)?;
        for violation in &self.violations {
            writeln!(f, "  violation: {violation}")?;
        }
        let seed = self.plan.seed;
        let nodes = self.plan.several.as_ref().map_or(1, |several| several.nodes);
        let drawn = if nodes > 1 { Plan::of_nodes(seed, nodes) } else { Plan::drawn(seed) };
        if self.plan.to_string() == drawn.to_string() {
            let tool = "cargo run -p tidewire-testkit --bin tidewire-sim --";
            writeln!(f, "  replay: {tool} --nodes {nodes} --seed {seed} --trace")
        } else {
            writeln!(f, "  replay: run this test's own plan of seed {seed} with Tracing::Print")
        }
    }
}

/// What became of many worlds.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Worlds.
    pub seeds: u64,
    /// Worlds with a violation.
    pub failed: u64,
    /// The time that passed in all of them together.
    pub simulated: Duration,
    /// The faults that happened.
    pub faults: FaultCounts,
    /// Publications checked.
    pub published: u64,
    /// Deliveries checked.
    pub deliveries: u64,
    /// Recoveries checked.
    pub recoveries: u64,
    /// Losses that clients were told of.
    pub resets: u64,
}

impl Summary {
    /// Adds a world.
    pub fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.failed += u64::from(!outcome.is_clean());
        self.simulated += outcome.simulated;
        self.faults += &outcome.faults;
        self.published += outcome.report.published;
        self.deliveries += outcome.report.deliveries;
        self.recoveries += outcome.report.recoveries;
        self.resets += outcome.report.told.resets;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} seeds, {} failed, {:.1} simulated hours",
            self.seeds,
            self.failed,
            self.simulated.as_secs_f64() / 3600.0
        )?;
        writeln!(
            f,
            "{} publications, {} deliveries checked, {} recoveries, {} losses told",
            self.published, self.deliveries, self.recoveries, self.resets
        )?;
        writeln!(f, "{} faults:", self.faults.total())?;
        for fault in Fault::ALL {
            writeln!(f, "  {:>10} {}", self.faults.of(*fault), fault.name())?;
        }
        Ok(())
    }
}
