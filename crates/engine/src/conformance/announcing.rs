//! What an engine tells its node.

use std::sync::Arc;

use super::Announced;
use super::bench::{Bench, channel, client, passing, text};
use crate::{HistoryRetention, NewPublication};

/// What is published while nobody listens is not announced, not even later.
pub async fn only_subscribed_channels_are_announced(bench: Bench) {
    let (c, other) = (channel("c"), channel("other"));
    bench.publish(&c, bench.kept("too early")).await;
    bench.subscribe(&c).await;
    bench.publish(&other, bench.kept("elsewhere")).await;
    bench.publish(&c, bench.kept("heard")).await;
    assert_eq!(bench.hear(&c, 1).await, ["heard"]);
    bench.subscribe(&other).await;
    bench.publish(&other, bench.kept("last")).await;
    assert_eq!(bench.hear(&other, 1).await, ["last"]);
}

/// Between unsubscribe and subscribe there is silence; the channel goes on meanwhile.
pub async fn a_channel_subscribed_again_is_announced_again(bench: Bench) {
    let c = channel("c");
    bench.subscribe(&c).await;
    bench.subscribe(&c).await;
    bench.publish(&c, bench.kept("1")).await;
    assert_eq!(bench.hear(&c, 1).await, ["1"]);
    bench.unsubscribe(&c).await;
    bench.unsubscribe(&c).await;
    bench.publish(&c, bench.kept("2")).await;
    bench.subscribe(&c).await;
    bench.publish(&c, bench.kept("3")).await;
    assert_eq!(bench.hear(&c, 2).await, ["1", "3"]);
    assert_eq!(bench.texts(&c).await, ["1", "2", "3"]);
}

/// With history and without, one publisher's order is everyone's order.
pub async fn inv_d3_sequential_publishes_are_announced_in_order(bench: Bench) {
    let c = channel("c");
    bench.subscribe(&c).await;
    let expected: Vec<String> = (0..200).map(|n| n.to_string()).collect();
    for (n, data) in expected.iter().enumerate() {
        let new = if n % 3 == 0 { passing(data) } else { bench.kept(data) };
        bench.publish(&c, new).await;
    }
    assert_eq!(bench.hear(&c, expected.len()).await, expected);
}

/// Publishers race; the announcements are the stream, from the first offset to the last.
pub async fn inv_d3_concurrent_publishes_are_announced_in_offset_order_each_once(bench: Bench) {
    const PUBLISHERS: usize = 8;
    const EACH: usize = 200;
    let c = channel("c");
    bench.recorder.dawdle();
    bench.subscribe(&c).await;
    let keep = HistoryRetention { size: PUBLISHERS * EACH, ..bench.keep() };
    let publisher = |p: usize| {
        let (engine, c) = (Arc::clone(&bench.engine), c.clone());
        tokio::spawn(async move {
            for n in 0..EACH {
                let new = NewPublication { retention: Some(keep), ..passing(&format!("{p}.{n}")) };
                engine.publish(&c, new).await.unwrap();
                tokio::task::yield_now().await;
            }
        })
    };
    let tasks: Vec<_> = (0..PUBLISHERS).map(publisher).collect();
    for task in tasks {
        task.await.unwrap();
    }
    let heard = bench.recorder.hear(&c, PUBLISHERS * EACH).await;
    let mut payloads = Vec::new();
    for (at, announced) in heard.iter().enumerate() {
        let Announced::Publication { publication, .. } = announced else { panic!("{announced:?}") };
        assert_eq!(publication.offset, at as u64 + 1);
        payloads.push(text(publication));
    }
    assert_eq!(payloads, bench.texts(&c).await, "announced and kept differ");
    for p in 0..PUBLISHERS {
        let own = payloads.iter().filter_map(|payload| payload.strip_prefix(&format!("{p}.")));
        assert!(own.eq((0..EACH).map(|n| n.to_string())), "publisher {p} was reordered");
    }
}

/// Register first, read after: the seam a recovery relies on.
pub async fn inv_d1_every_publish_after_subscribe_returns_is_announced(bench: Bench) {
    for round in 0..50 {
        let c = channel(&format!("c{round}"));
        let publisher = {
            let (engine, c, keep) = (Arc::clone(&bench.engine), c.clone(), bench.keep());
            tokio::spawn(async move {
                for n in 1..=10 {
                    let new = NewPublication { retention: Some(keep), ..passing(&n.to_string()) };
                    engine.publish(&c, new).await.unwrap();
                    tokio::task::yield_now().await;
                }
            })
        };
        bench.subscribe(&c).await;
        let top = bench.top(&c).await.offset;
        publisher.await.unwrap();
        bench.publish(&c, bench.kept("last")).await;
        // All above the top that was read must be heard; what is below may be, since it can have been on its way.
        let mut count = usize::try_from(11 - top).unwrap();
        let heard = loop {
            let heard = bench.hear(&c, count).await;
            match heard.last() {
                Some(last) if last == "last" => break heard,
                _ => count = heard.len() + 1,
            }
        };
        let expected: Vec<String> =
            (top + 1..=10).map(|n| n.to_string()).chain(["last".to_owned()]).collect();
        assert!(heard.ends_with(&expected), "top {top}, heard {heard:?}");
    }
}

/// Only if the publisher wants deltas, and the entry before is kept.
pub async fn the_base_of_a_delta_comes_with_the_publication(bench: Bench) {
    let c = channel("c");
    bench.subscribe(&c).await;
    let delta = |data| NewPublication { delta: true, ..bench.kept(data) };
    bench.publish(&c, delta("first")).await;
    bench.publish(&c, delta("second")).await;
    bench.publish(&c, bench.kept("no delta")).await;
    bench.publish(&c, NewPublication { delta: true, ..passing("no history") }).await;
    bench.publish(&c, delta("third")).await;
    bench.remove_history(&c).await;
    bench.publish(&c, delta("after removal")).await;
    let base = |announced: &Announced| match announced {
        Announced::Publication { previous, .. } => previous.as_deref().map(text),
        other => panic!("{other:?}"),
    };
    let bases: Vec<_> = bench.recorder.hear(&c, 6).await.iter().map(base).collect();
    assert_eq!(bases, [None, Some("first".into()), None, None, Some("no delta".into()), None]);
}

/// They take no offset and reach only a subscribed node.
pub async fn joins_and_leaves_are_announced_and_not_kept(bench: Bench) {
    let (c, info) = (channel("c"), client("client", "user"));
    bench.engine.publish_join(&c, info.clone()).await.unwrap();
    bench.subscribe(&c).await;
    bench.engine.publish_join(&c, info.clone()).await.unwrap();
    bench.engine.publish_leave(&c, info.clone()).await.unwrap();
    assert_eq!(bench.recorder.hear(&c, 2).await, [Announced::Join(info.clone()), Announced::Leave(info)]);
    assert_eq!(bench.top(&c).await.offset, 0);
    assert!(bench.present(&c).await.is_empty());
}

/// A node finds out by asking, and leaves out what one node alone does not need.
pub async fn an_engine_that_nodes_share_has_a_bus(bench: Bench) {
    assert_eq!(bench.engine.bus().is_some(), bench.engine.capabilities().shared);
}
