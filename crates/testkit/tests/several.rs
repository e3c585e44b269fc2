//! Worlds of several nodes on one broker that misbehaves as Redis does.
//!
//! Nodes are killed, drained and stopped, cut off from the broker, and come up again; clients come back on others. The
//! broker stands, loses announcements with and without a word, and is succeeded by a copy that lacks what was
//! acknowledged last.

use std::collections::BTreeSet;
use std::time::Duration;

use tidewire_testkit::{Fault, FaultRates, Lie, Plan, Summary, Tracing, run};

/// Seeds of the everyday test, in parts that run side by side. `tidewire-sim --nodes` runs any number.
const SEEDS_PER_PART: u64 = 500;

/// A bug must be noticed within so many seeds.
const SEEDS_TO_NOTICE: u64 = 300;

fn plan(seed: u64) -> Plan {
    Plan::of_nodes(seed, 2 + (seed % 3) as usize)
}

fn part(number: u64) {
    let mut summary = Summary::default();
    let first = number * SEEDS_PER_PART + 1;
    for seed in first..first + SEEDS_PER_PART {
        let outcome = run(&plan(seed), Tracing::Hash);
        summary.add(&outcome);
        assert!(outcome.is_clean(), "{outcome}");
    }
    println!("{summary}");
    // What never happens is not tested.
    for fault in Fault::ALL {
        assert!(summary.faults.of(*fault) > 0, "{} never happened", fault.name());
    }
    assert!(summary.deliveries > 0 && summary.recoveries > 0 && summary.resets > 0, "{summary}");
}

#[test]
fn inv_d1_inv_d2_inv_d3_inv_d4_inv_p1_seeds_of_several_nodes_hold_1() {
    part(0);
}

#[test]
fn inv_d1_inv_d2_inv_d3_inv_d4_inv_p1_seeds_of_several_nodes_hold_2() {
    part(1);
}

#[test]
fn inv_d1_inv_d2_inv_d3_inv_d4_inv_p1_seeds_of_several_nodes_hold_3() {
    part(2);
}

#[test]
fn inv_d1_inv_d2_inv_d3_inv_d4_inv_p1_seeds_of_several_nodes_hold_4() {
    part(3);
}

#[test]
fn several_nodes_without_faults_tell_no_losses() {
    for seed in 1..=40 {
        let outcome = run(&Plan::of_nodes_with(seed, 3, FaultRates::none()), Tracing::Hash);
        assert!(outcome.is_clean(), "{outcome}");
        assert_eq!(outcome.faults.total(), 0);
    }
}

/// Only announcements get lost, and nothing is published afterwards that could show it: each loss is found by the check
/// of positions, within its delay and the second between two looks, and what a client then needs to subscribe again.
#[test]
fn inv_d4_silent_losses_are_found_within_the_check_delay_on_every_node() {
    let rates = FaultRates::none()
        .with(Fault::AnnouncementDrop, 0.3)
        .with(Fault::AnnouncementOutage, 0.3)
        .with(Fault::AnnouncementDouble, 0.1)
        .with(Fault::AnnouncementDelay, 0.1);
    for seed in 1..=200 {
        let drawn = Plan::of_nodes_with(seed, 3, rates.clone());
        let delay = drawn.client.channel_position_check_delay;
        let found_within = Some(delay + Duration::from_millis(3_000));
        let outcome = run(&Plan { found_within, falls_silent: true, ..drawn }, Tracing::Hash);
        assert!(outcome.is_clean(), "{outcome}");
        assert!(outcome.faults.total() > 0);
    }
}

#[test]
fn the_same_seed_of_several_nodes_gives_the_same_trace() {
    let hashes = || -> Vec<u64> { (1..=60).map(|seed| run(&plan(seed), Tracing::Hash).trace_hash).collect() };
    let first = hashes();
    assert_eq!(first, hashes());
    let distinct: BTreeSet<u64> = first.iter().copied().collect();
    assert_eq!(distinct.len(), first.len(), "two seeds have the same trace");
}

/// The seed of the first world that complains of a deliberate bug in these words, and the complaint.
fn noticed(lie: Lie, words: &str) -> Option<(u64, String)> {
    (1..=SEEDS_TO_NOTICE).find_map(|seed| {
        let outcome = run(&Plan { lie: Some(lie), ..plan(seed) }, Tracing::Hash);
        let violation = outcome.violations.into_iter().find(|violation| violation.contains(words))?;
        Some((seed, violation))
    })
}

macro_rules! noticed {
    ($($test:ident: $lie:ident, $words:literal;)*) => { $(
        #[test]
        fn $test() {
            let Some((seed, violation)) = noticed(Lie::$lie, $words) else {
                panic!("{:?} is not noticed", Lie::$lie);
            };
            println!("{:?} is noticed by seed {seed}: {violation}", Lie::$lie);
        }
    )* };
}

noticed! {
    inv_d2_a_failover_without_a_new_epoch_is_noticed: KeepsReplicationId, "another publication stands at this offset";
    inv_d5_idempotency_keys_that_are_forgotten_are_noticed: ForgetsKeys, "stands at two offsets of one epoch";
    inv_d4_losses_that_are_neither_told_nor_looked_for_are_noticed: LosesUntold, "never arrived";
    inv_d4_nodes_that_repair_nothing_are_noticed: NeverRepairs, "never arrived";
    inv_p1_presence_of_dead_nodes_is_noticed: DeadStayPresent, "too many";
    inv_d1_publications_that_are_announced_and_not_kept_are_noticed: AnnouncesOnly, "another publication stands at this offset";
    inv_d1_stale_reads_are_noticed: ReadsStale, "the stream ends before what was delivered";
    messages_between_nodes_that_never_arrive_are_noticed: DropsMessages, "knows the nodes";
}
