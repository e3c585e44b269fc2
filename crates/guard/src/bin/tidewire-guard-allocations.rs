//! All cases, with the allocations of each: room that grows counts as well.

use std::alloc::System;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    tidewire_guard::run(|case| {
        let region = Region::new(ALLOCATOR);
        case();
        let change = region.change();
        (change.allocations + change.reallocations).to_string()
    });
}
