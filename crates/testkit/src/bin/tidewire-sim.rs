//! Runs many simulated worlds, or one of them in detail.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use tidewire_testkit::{FaultRates, Outcome, Plan, Summary, Tracing, run};

/// Between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// Failures told in full.
const TOLD_MAX: u64 = 10;

/// Simulates nodes and their clients under seeded faults and judges what happened.
#[derive(Debug, Parser)]
#[command(name = "tidewire-sim", version)]
struct Arguments {
    /// How many seeds to run
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Run this seed only
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// How many nodes share a broker; 1: one node with an engine of its own
    #[arg(long, default_value_t = 1)]
    nodes: usize,
    /// Let nothing go wrong: then nobody may be told that something is missing
    #[arg(long)]
    without_faults: bool,
    /// Print everything that happens
    #[arg(long)]
    trace: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let (first, count) = match arguments.seed {
        Some(seed) => (seed, 1),
        None => (arguments.from, arguments.seeds),
    };
    let tracing = if arguments.trace { Tracing::Print } else { Tracing::Hash };
    let summary = run_seeds(first, count, &arguments, tracing);
    print!("{summary}");
    if summary.failed > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn plan(seed: u64, arguments: &Arguments) -> Plan {
    match (arguments.nodes, arguments.without_faults) {
        (0..=1, false) => Plan::drawn(seed),
        (0..=1, true) => Plan::with_rates(seed, FaultRates::none()),
        (nodes, false) => Plan::of_nodes(seed, nodes),
        (nodes, true) => Plan::of_nodes_with(seed, nodes, FaultRates::none()),
    }
}

fn run_seeds(first: u64, count: u64, arguments: &Arguments, tracing: Tracing) -> Summary {
    let mut summary = Summary::default();
    let mut told_at = Instant::now();
    for seed in first..first.saturating_add(count) {
        let outcome = run(&plan(seed, arguments), tracing);
        summary.add(&outcome);
        if !outcome.is_clean() && summary.failed <= TOLD_MAX {
            eprintln!("{outcome}");
        }
        if count == 1 {
            describe(&outcome);
        }
        if told_at.elapsed() >= PROGRESS_EVERY {
            told_at = Instant::now();
            eprintln!("{} of {count} seeds, {} failed", summary.seeds, summary.failed);
        }
    }
    summary
}

fn describe(outcome: &Outcome) {
    println!("{}", outcome.plan);
    println!("trace {:016x}", outcome.trace_hash);
    print!("{}", outcome.report);
}
