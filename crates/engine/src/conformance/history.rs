//! What is kept, for how long, and how it is read.

use std::time::Duration;

use tidewire_protocol::ChannelName;

use super::bench::{Bench, channel};
use crate::{HistoryFilter, HistoryRetention, NewPublication};

const NANOSECOND: Duration = Duration::from_nanos(1);

fn with_retention(bench: &Bench, data: &str, retention: HistoryRetention) -> NewPublication {
    NewPublication { retention: Some(retention), ..bench.kept(data) }
}

async fn offsets(bench: &Bench, channel: &ChannelName, filter: HistoryFilter) -> Vec<u64> {
    let history = bench.read(channel, filter).await;
    history.publications.iter().map(|publication| publication.offset).collect()
}

/// The first read starts the stream, and it stays the same one.
pub async fn an_unused_channel_gets_a_stream_at_offset_zero(bench: Bench) {
    let c = channel("c");
    let history = bench.read(&c, HistoryFilter::default()).await;
    assert!(history.publications.is_empty() && history.top.offset == 0 && !history.top.epoch.is_empty());
    assert_eq!(bench.top(&c).await, history.top);
    assert_eq!(bench.place(&c, bench.kept("1")).await.epoch, history.top.epoch);
}

/// Of what is above the size only the offsets tell.
pub async fn inv_d2_the_size_keeps_the_newest_and_shows_what_is_gone(bench: Bench) {
    let c = channel("c");
    let sized = |size| HistoryRetention { size, ..bench.keep() };
    for n in 1..=4 {
        bench.place(&c, with_retention(&bench, &n.to_string(), sized(3))).await;
    }
    let after_the_first = HistoryFilter { since: Some(0), ..Default::default() };
    assert_eq!(offsets(&bench, &c, after_the_first.clone()).await, [2, 3, 4]);
    // A smaller size counts at once, a larger one brings nothing back.
    bench.place(&c, with_retention(&bench, "5", sized(1))).await;
    assert_eq!(offsets(&bench, &c, after_the_first.clone()).await, [5]);
    bench.place(&c, with_retention(&bench, "6", sized(10))).await;
    assert_eq!(offsets(&bench, &c, after_the_first).await, [5, 6]);
}

/// Every combination of since, limit and direction, at the edges and past them.
pub async fn filters_choose_by_offset_direction_and_limit(bench: Bench) {
    let c = channel("c");
    for _ in 0..15 {
        bench.place(&c, bench.kept("x")).await;
    }
    let kept: Vec<u64> = (6..=15).collect();
    for since in
        [None, Some(0), Some(1), Some(5), Some(6), Some(10), Some(14), Some(15), Some(16), Some(1 << 40)]
    {
        for limit in [None, Some(0), Some(1), Some(3), Some(10), Some(11), Some(1 << 20)] {
            for reverse in [false, true] {
                let mut expected = kept.clone();
                if reverse {
                    expected.reverse();
                }
                expected.retain(|&offset| {
                    since.is_none_or(|since| if reverse { offset < since } else { offset > since })
                });
                expected.truncate(limit.unwrap_or(usize::MAX));
                let filter = HistoryFilter { since, limit, reverse };
                let history = bench.read(&c, filter.clone()).await;
                assert_eq!(history.top.offset, 15, "{filter:?}");
                assert_eq!(offsets(&bench, &c, filter.clone()).await, expected, "{filter:?}");
            }
        }
    }
}

/// The publications end, offset and epoch go on.
pub async fn inv_d2_publications_run_out_and_the_position_stays(bench: Bench) {
    let c = channel("c");
    let short = HistoryRetention { ttl: bench.units(1.0), ..bench.keep() };
    let position = bench.place(&c, with_retention(&bench, "1", short)).await;
    bench.advance(bench.units(1.5)).await;
    assert!(bench.texts(&c).await.is_empty());
    assert_eq!(bench.top(&c).await, position);
    let next = bench.place(&c, with_retention(&bench, "2", short)).await;
    assert_eq!((next.offset, next.epoch), (2, position.epoch));
    assert_eq!(bench.texts(&c).await, ["2"]);
}

/// The ttl is the stream's, not the publication's.
pub async fn inv_d2_a_publish_prolongs_everything_kept(bench: Bench) {
    let c = channel("c");
    let short = HistoryRetention { ttl: bench.units(2.0), ..bench.keep() };
    bench.place(&c, with_retention(&bench, "1", short)).await;
    bench.advance(bench.units(1.2)).await;
    bench.place(&c, with_retention(&bench, "2", short)).await;
    bench.advance(bench.units(1.2)).await;
    assert_eq!(bench.texts(&c).await, ["1", "2"]);
    bench.advance(bench.units(1.2)).await;
    assert!(bench.texts(&c).await.is_empty());
}

/// There a nanosecond before, gone at the time itself.
pub async fn inv_d2_publications_end_at_exactly_their_time(bench: Bench) {
    if !bench.is_exact() {
        return;
    }
    let c = channel("c");
    bench.place(&c, bench.kept("1")).await;
    bench.advance(bench.keep().ttl - NANOSECOND).await;
    assert_eq!(bench.texts(&c).await, ["1"]);
    bench.advance(NANOSECOND).await;
    assert!(bench.texts(&c).await.is_empty());
}

/// A stream that is used again after its meta ttl is another one.
pub async fn inv_d2_the_epoch_changes_once_the_position_is_lost(bench: Bench) {
    let c = channel("c");
    let short = HistoryRetention { size: 10, ttl: bench.units(1.0), meta_ttl: bench.units(2.0) };
    let before = bench.place(&c, with_retention(&bench, "1", short)).await;
    bench.advance(bench.units(2.5)).await;
    let after = bench.place(&c, with_retention(&bench, "2", short)).await;
    assert_eq!(after.offset, 1);
    assert_ne!(after.epoch, before.epoch);
    assert_eq!(bench.texts(&c).await, ["2"]);
}

/// The same a nanosecond before, another at the time itself.
pub async fn inv_d2_the_position_ends_at_exactly_its_time(bench: Bench) {
    if !bench.is_exact() {
        return;
    }
    let c = channel("c");
    let first = bench.top(&c).await;
    bench.advance(bench.keep().meta_ttl - NANOSECOND).await;
    assert_eq!(bench.top(&c).await, first);
    bench.advance(bench.keep().meta_ttl).await;
    assert_ne!(bench.top(&c).await.epoch, first.epoch);
}

/// A stream that is used is not lost.
pub async fn reads_and_publishes_prolong_the_position(bench: Bench) {
    let (read, published) = (channel("read"), channel("published"));
    let meta_ttl = bench.units(2.0);
    let short = HistoryRetention { size: 10, ttl: bench.units(0.1), meta_ttl };
    let top_only = HistoryFilter { limit: Some(0), ..Default::default() };
    let mut epochs = Vec::new();
    for _ in 0..4 {
        let history = bench.engine.history(&read, top_only.clone(), meta_ttl).await.unwrap();
        let position = bench.place(&published, with_retention(&bench, "x", short)).await;
        epochs.push((history.top.epoch, position.epoch));
        bench.advance(bench.units(1.2)).await;
    }
    assert!(epochs.iter().all(|pair| *pair == epochs[0]), "{epochs:?}");
}

/// The removed publications show as a jump of the first offset.
pub async fn inv_d2_removed_history_keeps_offset_and_epoch(bench: Bench) {
    let c = channel("c");
    bench.place(&c, bench.kept("1")).await;
    let position = bench.place(&c, bench.kept("2")).await;
    bench.remove_history(&c).await;
    assert!(bench.texts(&c).await.is_empty());
    assert_eq!(bench.top(&c).await, position);
    let next = bench.place(&c, bench.kept("3")).await;
    assert_eq!((next.offset, next.epoch), (3, position.epoch));
    bench.remove_history(&channel("unused")).await;
}

/// Offsets, epochs and publications of one channel mean nothing in another.
pub async fn channels_do_not_share_streams(bench: Bench) {
    let (a, b) = (channel("a"), channel("b"));
    let in_a = bench.place(&a, bench.kept("in a")).await;
    assert_eq!(bench.top(&b).await.offset, 0);
    assert_ne!(bench.top(&b).await.epoch, in_a.epoch);
    bench.remove_history(&b).await;
    assert_eq!(bench.texts(&a).await, ["in a"]);
}
