//! Who is in a channel. Every look compares list and numbers.

use std::time::Duration;

use super::bench::{Bench, channel, client};

const LONG: Duration = Duration::from_secs(3600);

/// Added, seen, removed, gone; removing twice is fine.
pub async fn an_entry_is_there_until_it_is_removed(bench: Bench) {
    let (c, a, b) = (channel("c"), client("a", "u"), client("b", "v"));
    assert!(bench.present(&c).await.is_empty());
    bench.enter(&c, &a, LONG).await;
    bench.enter(&c, &b, LONG).await;
    assert_eq!(bench.present(&c).await, [a, b.clone()]);
    bench.leave(&c, "a").await;
    bench.leave(&c, "a").await;
    assert_eq!(bench.present(&c).await, [b]);
    bench.leave(&c, "b").await;
    assert!(bench.present(&c).await.is_empty());
}

/// One client is one entry, whatever changes about it.
pub async fn a_second_entry_of_a_client_replaces_the_first(bench: Bench) {
    let (c, before, after) = (channel("c"), client("a", "before"), client("a", "after"));
    bench.enter(&c, &before, LONG).await;
    bench.enter(&c, &after, LONG).await;
    assert_eq!(bench.present(&c).await, [after]);
}

/// The order of arrival does not show.
pub async fn entries_are_ordered_by_client(bench: Bench) {
    let c = channel("c");
    for name in ["m", "a", "z", "k", "B"] {
        bench.enter(&c, &client(name, "u"), LONG).await;
    }
    let names: Vec<String> = bench.present(&c).await.iter().map(|info| info.client.clone()).collect();
    assert_eq!(names, ["B", "a", "k", "m", "z"]);
}

/// Two connections of a user are one user; so are all without a name.
pub async fn users_are_counted_once_and_anonymous_ones_as_one(bench: Bench) {
    let c = channel("c");
    for (name, user) in [("a", "u"), ("b", "u"), ("c", "v"), ("d", ""), ("e", "")] {
        bench.enter(&c, &client(name, user), LONG).await;
    }
    let stats = bench.engine.presence_stats(&c).await.unwrap();
    assert_eq!((stats.clients, stats.users), (5, 3));
    bench.leave(&c, "a").await;
    bench.leave(&c, "c").await;
    let stats = bench.engine.presence_stats(&c).await.unwrap();
    assert_eq!((stats.clients, stats.users), (3, 2));
    bench.present(&c).await;
}

/// One client in two channels is two entries.
pub async fn channels_do_not_share_presence(bench: Bench) {
    let (a, b, info) = (channel("a"), channel("b"), client("x", "u"));
    bench.enter(&a, &info, LONG).await;
    bench.enter(&b, &info, LONG).await;
    bench.leave(&a, "x").await;
    assert!(bench.present(&a).await.is_empty());
    assert_eq!(bench.present(&b).await, [info]);
}

/// A node that no longer refreshes its entries leaves no ghosts.
pub async fn inv_p1_an_entry_runs_out_unless_it_is_refreshed(bench: Bench) {
    let (c, kept, left) = (channel("c"), client("kept", "u"), client("left", "u"));
    bench.enter(&c, &left, bench.units(2.0)).await;
    bench.enter(&c, &kept, bench.units(2.0)).await;
    bench.advance(bench.units(1.2)).await;
    assert_eq!(bench.present(&c).await.len(), 2);
    bench.enter(&c, &kept, bench.units(2.0)).await;
    bench.advance(bench.units(1.2)).await;
    assert_eq!(bench.present(&c).await, [kept]);
    bench.advance(bench.units(1.2)).await;
    assert!(bench.present(&c).await.is_empty());
}

/// There a nanosecond before, gone at the time itself; a shorter ttl counts.
pub async fn inv_p1_an_entry_ends_at_exactly_its_time(bench: Bench) {
    if !bench.is_exact() {
        return;
    }
    let (c, info) = (channel("c"), client("a", "u"));
    bench.enter(&c, &info, LONG).await;
    bench.enter(&c, &info, bench.units(1.0)).await;
    bench.advance(bench.units(1.0) - Duration::from_nanos(1)).await;
    assert_eq!(bench.present(&c).await, [info]);
    bench.advance(Duration::from_nanos(1)).await;
    assert!(bench.present(&c).await.is_empty());
}
