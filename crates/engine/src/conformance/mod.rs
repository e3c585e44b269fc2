//! The cases every engine passes, so that a node behaves the same on each.
//!
//! `publishing`, `history`, `announcing`, `presence`: behaviour, a case each. `random`: seeded random operations held
//! against `model`, the engine in its most obvious form. `shared`: several nodes on one engine. `bench`: an engine under test and its ear, the `recorder`.
//!
//! An engine's tests say how to make one and get a test for each case:
//!
//! ```ignore
//! async fn embedded() -> Subject { .. }
//! tidewire_engine::conformance!(tests: embedded);
//! ```
//!
//! Where nodes share an engine there is a second list, for three of them:
//!
//! ```ignore
//! async fn three() -> Vec<Arc<dyn Engine>> { .. }
//! tidewire_engine::shared_conformance!(tests: three);
//! ```
//!
//! A failed case panics with what it saw. Needs tokio, with threads where concurrency is the point.

// A failed case is a panic, here as in any test.
#![allow(clippy::panic, clippy::unwrap_used)]

pub mod announcing;
mod bench;
pub mod history;
pub mod model;
pub mod presence;
pub mod publishing;
pub mod random;
mod recorder;
pub mod shared;

use std::sync::Arc;

use futures_util::StreamExt;

use crate::Engine;

pub use bench::{Advance, Bench, Subject};
pub use recorder::{Announced, Recorder};

/// Runs every case, a few at once, each on an engine of its own. `make` gives an engine without anything in it.
///
/// For engines whose servers take too long to start for each case: `conformance!(tests: make)` writes a test for each.
///
/// # Panics
/// At the first case that fails, with its name.
pub async fn run<F, Fut>(make: F)
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Subject> + Send + 'static,
{
    let make = Arc::new(make);
    let mut cases: Cases = Vec::new();
    crate::conformance!(run: make, cases);
    run_all(cases).await;
}

/// Runs every case of several nodes, a few at once. `make` gives three engines or more that share everything, without
/// anything in it.
///
/// # Panics
/// At the first case that fails, with its name.
pub async fn run_shared<F, Fut>(make: F)
where
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Vec<Arc<dyn Engine>>> + Send + 'static,
{
    let make = Arc::new(make);
    let mut cases: Cases = Vec::new();
    crate::shared_conformance!(run: make, cases);
    run_all(cases).await;
}

type Cases = Vec<(&'static str, crate::BoxFuture<'static, ()>)>;

async fn run_all(cases: Cases) {
    let each = cases.into_iter().map(|(name, case)| async move {
        if let Err(error) = tokio::spawn(case).await {
            panic!("{name}: {error}");
        }
    });
    // Most of them wait most of the time.
    futures_util::stream::iter(each).for_each_concurrent(8, |case| case).await;
}

/// The list of cases. `tests: path` writes a `#[tokio::test]` for each; `path` names an `async fn() -> Subject`. `run:
/// make, cases` adds each, with its name, to a vector.
#[macro_export]
macro_rules! conformance {
    (tests: $make:path) => { $crate::conformance! { @cases @tests $make } };
    (run: $make:ident, $cases:ident) => { $crate::conformance! { @cases @run $make $cases } };
    (@cases $($then:tt)*) => { $crate::conformance! { $($then)* =>
        publishing: [
            inv_d1_offsets_start_at_one_and_rise_by_one_within_one_epoch,
            a_publish_without_history_has_no_position_and_keeps_nothing,
            a_publish_without_history_takes_no_offset_from_the_stream,
            a_publication_is_announced_and_kept_as_it_was_published,
            inv_d5_a_repeated_key_publishes_once_and_answers_the_same,
            inv_d5_a_repeated_key_without_history_delivers_once,
            inv_d5_the_same_key_in_another_channel_publishes,
            inv_d5_a_key_answers_after_its_history_is_removed,
            inv_d5_a_key_is_looked_at_before_the_version,
            inv_d5_a_key_ends_five_minutes_after_its_first_use,
            inv_d5_concurrent_publishes_with_one_key_publish_once,
            a_version_not_above_the_stored_one_is_suppressed,
            a_new_version_epoch_starts_the_versions_anew,
            a_version_means_nothing_without_history,
            a_version_outlives_removed_history,
        ],
        history: [
            an_unused_channel_gets_a_stream_at_offset_zero,
            inv_d2_the_size_keeps_the_newest_and_shows_what_is_gone,
            filters_choose_by_offset_direction_and_limit,
            inv_d2_publications_run_out_and_the_position_stays,
            inv_d2_a_publish_prolongs_everything_kept,
            inv_d2_publications_end_at_exactly_their_time,
            inv_d2_the_epoch_changes_once_the_position_is_lost,
            inv_d2_the_position_ends_at_exactly_its_time,
            reads_and_publishes_prolong_the_position,
            inv_d2_removed_history_keeps_offset_and_epoch,
            channels_do_not_share_streams,
        ],
        announcing: [
            only_subscribed_channels_are_announced,
            a_channel_subscribed_again_is_announced_again,
            inv_d3_sequential_publishes_are_announced_in_order,
            inv_d3_concurrent_publishes_are_announced_in_offset_order_each_once,
            inv_d1_every_publish_after_subscribe_returns_is_announced,
            the_base_of_a_delta_comes_with_the_publication,
            joins_and_leaves_are_announced_and_not_kept,
            an_engine_that_nodes_share_has_a_bus,
        ],
        presence: [
            an_entry_is_there_until_it_is_removed,
            a_second_entry_of_a_client_replaces_the_first,
            entries_are_ordered_by_client,
            users_are_counted_once_and_anonymous_ones_as_one,
            channels_do_not_share_presence,
            inv_p1_an_entry_runs_out_unless_it_is_refreshed,
            inv_p1_an_entry_ends_at_exactly_its_time,
        ],
        random: [
            inv_d1_inv_d2_inv_d5_random_histories_agree_with_the_model,
            inv_p1_random_presence_agrees_with_the_model,
        ],
    } };
    (@tests $make:path => $($module:ident: [$($case:ident,)*],)*) => { $($(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            $crate::conformance::$module::$case($crate::conformance::Bench::new($make().await)).await;
        }
    )*)* };
    (@run $make:ident $cases:ident => $($module:ident: [$($case:ident,)*],)*) => { $($(
        let make = std::sync::Arc::clone(&$make);
        $cases.push((stringify!($case), Box::pin(async move {
            $crate::conformance::$module::$case($crate::conformance::Bench::new(make().await)).await;
        })));
    )*)* };
}

/// As [`conformance!`](crate::conformance), for the cases of several nodes; `path` names an `async fn() -> Vec<Arc<dyn
/// Engine>>`.
#[macro_export]
macro_rules! shared_conformance {
    (tests: $make:path) => { $crate::shared_conformance! { @cases @tests $make } };
    (run: $make:ident, $cases:ident) => { $crate::shared_conformance! { @cases @run $make $cases } };
    (@cases $($then:tt)*) => { $crate::shared_conformance! { $($then)* => [
        a_stream_is_the_same_from_every_node,
        inv_d3_every_node_hears_one_order,
        a_node_that_leaves_a_channel_takes_it_from_no_other,
        inv_d5_a_key_that_one_node_has_used_answers_on_another,
        inv_p1_presence_is_the_same_from_every_node,
        a_message_for_others_reaches_all_of_them,
        a_message_for_one_node_reaches_that_node_alone,
        messages_of_one_sender_keep_their_order,
        a_message_for_a_node_that_is_not_there_reaches_nobody,
        a_large_message_arrives_whole,
        channels_and_messages_do_not_meet,
    ] } };
    (@tests $make:path => [$($case:ident,)*]) => { $(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $case() {
            let nodes = $crate::conformance::shared::Nodes::meet($make().await).await;
            $crate::conformance::shared::$case(nodes).await;
        }
    )* };
    (@run $make:ident $cases:ident => [$($case:ident,)*]) => { $(
        let make = std::sync::Arc::clone(&$make);
        $cases.push((stringify!($case), Box::pin(async move {
            let nodes = $crate::conformance::shared::Nodes::meet(make().await).await;
            $crate::conformance::shared::$case(nodes).await;
        })));
    )* };
}
