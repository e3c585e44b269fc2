//! The hot paths, each on its own, for `scripts/guard` to count.
//!
//! Times on a shared machine say nothing about a few percent; instructions and allocations do. Each case does its work in
//! [`counted`]. Two binaries run all cases: `tidewire-guard-instructions` has the server's allocator and runs under
//! callgrind, which collects only in there and dumps when it is left; `tidewire-guard-allocations` has one that counts.
//!
//! `cases`: what is counted. `world`: a node and its clients without sockets. A [`Plant`] makes every case worse on
//! purpose: what counts it must notice.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a case that cannot be prepared ends the measurement")]

mod cases;
mod world;

use std::hint::black_box;

/// Rounds of a case that are counted together.
const ROUNDS: usize = 10;

/// Rounds before that: the first ones fill caches and make room that later ones find.
const WARM_UP: usize = 3;

/// How a case is made worse, to see that it is noticed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    /// Not at all.
    Nothing,
    /// A tenth more work.
    Work,
    /// One allocation more each round.
    Allocation,
}

/// A case ready to go: each call is one round.
type Rounds = Box<dyn FnMut()>;

/// Runs all cases and prints the name of each, and behind it what `count` returns, which must call what it is given once.
///
/// # Panics
/// The command line is not understood, or a case does not do what it should.
pub fn run(count: fn(&mut dyn FnMut()) -> String) {
    let plant = match std::env::args().nth(1).as_deref() {
        None => Plant::Nothing,
        Some("--plant-work") => Plant::Work,
        Some("--plant-allocation") => Plant::Allocation,
        Some(other) => panic!("unknown option {other}"),
    };
    println!("rounds {ROUNDS}");
    for (name, prepare) in cases::ALL {
        let mut round = prepare();
        (0..WARM_UP).for_each(|_| round());
        println!("{name} {}", count(&mut || counted(&mut *round, plant)));
    }
}

/// What is counted. Nothing may be inlined into it or out of it, and there is no closure in it, whose name would look the
/// same.
#[inline(never)]
fn counted(round: &mut dyn FnMut(), plant: Plant) {
    let rounds = if plant == Plant::Work { ROUNDS + ROUNDS / 10 } else { ROUNDS };
    for _ in 0..rounds {
        round();
        if plant == Plant::Allocation {
            drop(black_box(Box::new(black_box(0_u8))));
        }
    }
}
