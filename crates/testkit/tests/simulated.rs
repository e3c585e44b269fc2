//! Worlds of one node under seeded faults: what must hold holds, a seed means the same every time, and deliberate bugs are noticed.

use std::collections::BTreeSet;

use tidewire_testkit::{Fault, FaultRates, Lie, Plan, Summary, Tracing, run};

/// Seeds of the everyday test. `tidewire-sim` runs any number.
const SEEDS: u64 = 2_000;

/// A bug must be noticed within so many seeds.
const SEEDS_TO_NOTICE: u64 = 500;

#[test]
fn inv_d1_inv_d2_inv_d3_simulated_seeds_hold() {
    let mut summary = Summary::default();
    for seed in 1..=SEEDS {
        let outcome = run(&Plan::drawn(seed), Tracing::Hash);
        summary.add(&outcome);
        assert!(outcome.is_clean(), "{outcome}");
    }
    println!("{summary}");
    // What never happens is not tested.
    for fault in Fault::ALL.iter().filter(|fault| !fault.needs_several()) {
        assert!(summary.faults.of(*fault) > 0, "{} never happened", fault.name());
    }
    assert!(summary.deliveries > 0 && summary.recoveries > 0 && summary.resets > 0, "{summary}");
}

#[test]
fn worlds_without_faults_tell_no_losses() {
    for seed in 1..=50 {
        let outcome = run(&Plan::with_rates(seed, FaultRates::none()), Tracing::Hash);
        assert!(outcome.is_clean(), "{outcome}");
        assert_eq!(outcome.faults.total(), 0);
    }
}

/// Slow answers and lost announcements together, and nothing published afterwards that could show the gap: a loss told
/// while a subscriber is still joining must not be forgotten.
#[test]
fn inv_d1_losses_told_while_joining_are_made_good() {
    let rates = FaultRates::none().with(Fault::EngineDelay, 0.5).with(Fault::AnnouncementDrop, 0.3);
    for seed in 1..=300 {
        let drawn = Plan::with_rates(seed, rates.clone());
        let outcome = run(&Plan { lossless: true, falls_silent: true, ..drawn }, Tracing::Hash);
        assert!(outcome.is_clean(), "{outcome}");
    }
}

/// Channels that were left while the engine refused must not be announced for ever.
#[test]
fn channels_whose_unsubscribe_failed_are_left_later() {
    let rates = FaultRates::none().with(Fault::EngineRefusal, 0.5).with(Fault::Operator, 0.5);
    for seed in 1..=150 {
        let outcome = run(&Plan::with_rates(seed, rates.clone()), Tracing::Hash);
        assert!(outcome.is_clean(), "{outcome}");
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let hashes =
        || -> Vec<u64> { (1..=100).map(|seed| run(&Plan::drawn(seed), Tracing::Hash).trace_hash).collect() };
    let first = hashes();
    assert_eq!(first, hashes());
    let distinct: BTreeSet<u64> = first.iter().copied().collect();
    assert_eq!(distinct.len(), first.len(), "two seeds have the same trace");
}

/// The first violation of the first world that shows a deliberate bug, and its seed.
fn noticed(lie: Lie) -> Option<(u64, String)> {
    (1..=SEEDS_TO_NOTICE).find_map(|seed| {
        let plan = Plan { lie: Some(lie), ..Plan::drawn(seed) };
        let violation = run(&plan, Tracing::Hash).violations.into_iter().next()?;
        Some((seed, violation))
    })
}

macro_rules! noticed {
    ($($test:ident: $lie:ident,)*) => { $(
        #[test]
        fn $test() {
            let Some((seed, violation)) = noticed(Lie::$lie) else {
                panic!("{:?} is not noticed", Lie::$lie);
            };
            println!("{:?} is noticed by seed {seed}: {violation}", Lie::$lie);
        }
    )* };
}

noticed! {
    inv_d4_an_announcement_dropped_in_silence_is_noticed: DropsSilently,
    inv_d1_a_history_that_hides_the_newest_is_noticed: HidesNewest,
    inv_d2_an_epoch_change_that_is_not_reported_is_noticed: KeepsEpoch,
    inv_d3_announcements_that_change_places_are_noticed: Reorders,
    inv_d2_a_recovery_with_a_hole_is_noticed: LeavesHoles,
    inv_d1_an_altered_publication_is_noticed: Alters,
    inv_d1_a_repeated_announcement_is_noticed: Repeats,
    inv_p1_presence_that_stays_is_noticed: KeepsPresence,
    a_call_that_is_never_answered_is_noticed: NeverAnswers,
}
