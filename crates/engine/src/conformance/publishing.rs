//! What a publish does and answers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidewire_protocol::ClientInfo;

use super::bench::{Bench, channel, passing};
use super::{Announced, model};
use crate::{HistoryFilter, NewPublication, Published, Suppressed};

fn with_key(new: NewPublication, key: &str) -> NewPublication {
    NewPublication { idempotency_key: key.into(), ..new }
}

fn with_version(new: NewPublication, version: u64, version_epoch: &str) -> NewPublication {
    NewPublication { version, version_epoch: version_epoch.into(), ..new }
}

/// The first publication has offset 1, each next one more, all one non-empty epoch.
pub async fn inv_d1_offsets_start_at_one_and_rise_by_one_within_one_epoch(bench: Bench) {
    let c = channel("c");
    let first = bench.place(&c, bench.kept("1")).await;
    assert!(!first.epoch.is_empty());
    for offset in 2..=25 {
        let position = bench.place(&c, bench.kept("n")).await;
        assert_eq!((position.offset, &position.epoch), (offset, &first.epoch));
    }
    assert_eq!(first.offset, 1);
    assert_eq!(bench.top(&c).await.offset, 25);
}

/// Without retention a publish only delivers.
pub async fn a_publish_without_history_has_no_position_and_keeps_nothing(bench: Bench) {
    let c = channel("c");
    bench.subscribe(&c).await;
    assert_eq!(bench.publish(&c, passing("gone")).await, Published::default());
    match &bench.recorder.hear(&c, 1).await[..] {
        [Announced::Publication { publication, epoch: None, previous: None }] => {
            assert_eq!(publication.offset, 0)
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(bench.top(&c).await.offset, 0);
    assert!(bench.texts(&c).await.is_empty());
}

/// A skipped history leaves no hole in the offsets.
pub async fn a_publish_without_history_takes_no_offset_from_the_stream(bench: Bench) {
    let c = channel("c");
    bench.place(&c, bench.kept("1")).await;
    assert_eq!(bench.publish(&c, passing("skipped")).await.position, None);
    assert_eq!(bench.place(&c, bench.kept("2")).await.offset, 2);
    assert_eq!(bench.texts(&c).await, ["1", "2"]);
}

/// Payload, info, tags and version arrive as given, the same in history and announcement.
pub async fn a_publication_is_announced_and_kept_as_it_was_published(bench: Bench) {
    let c = channel("c");
    bench.subscribe(&c).await;
    let new = NewPublication {
        data: Bytes::from_static(b"\x00\xff\n payload"),
        info: Some(ClientInfo {
            user: "user".into(),
            client: "client".into(),
            conn_info: Bytes::from_static(b"{}"),
            chan_info: Bytes::from_static(b"[]"),
        }),
        tags: BTreeMap::from([("colour".to_owned(), "grün".to_owned())]),
        ..with_version(bench.kept(""), 7, "life")
    };
    let position = bench.place(&c, new.clone()).await;
    let heard = bench.recorder.hear(&c, 1).await;
    let [Announced::Publication { publication, epoch, .. }] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!((publication.offset, epoch.as_ref()), (1, Some(&position.epoch)));
    assert_eq!((&publication.data, &publication.info, &publication.tags), (&new.data, &new.info, &new.tags));
    assert_eq!((publication.version, publication.delta), (7, false));
    let kept = bench.read(&c, HistoryFilter::default()).await.publications;
    assert_eq!(kept[..], *std::slice::from_ref(publication));
}

/// The second publish with a key does nothing and answers the first one's position.
pub async fn inv_d5_a_repeated_key_publishes_once_and_answers_the_same(bench: Bench) {
    let c = channel("c");
    bench.subscribe(&c).await;
    let first = bench.place(&c, with_key(bench.kept("first"), "k")).await;
    bench.place(&c, bench.kept("between")).await;
    let again = bench.publish(&c, with_key(bench.kept("again"), "k")).await;
    assert_eq!(again, Published { position: Some(first), suppressed: Some(Suppressed::Idempotency) });
    bench.place(&c, with_key(bench.kept("other"), "another")).await;
    assert_eq!(bench.texts(&c).await, ["first", "between", "other"]);
    assert_eq!(bench.hear(&c, 3).await, ["first", "between", "other"]);
}

/// Keys hold without history too.
pub async fn inv_d5_a_repeated_key_without_history_delivers_once(bench: Bench) {
    let c = channel("c");
    bench.subscribe(&c).await;
    bench.publish(&c, with_key(passing("first"), "k")).await;
    let again = bench.publish(&c, with_key(passing("again"), "k")).await;
    assert_eq!(again, Published { position: None, suppressed: Some(Suppressed::Idempotency) });
    bench.publish(&c, passing("last")).await;
    assert_eq!(bench.hear(&c, 2).await, ["first", "last"]);
}

/// A key belongs to its channel.
pub async fn inv_d5_the_same_key_in_another_channel_publishes(bench: Bench) {
    for name in ["a", "b"] {
        assert_eq!(bench.place(&channel(name), with_key(bench.kept(name), "k")).await.offset, 1);
    }
}

/// Whether the publication is still kept does not matter to its key.
pub async fn inv_d5_a_key_answers_after_its_history_is_removed(bench: Bench) {
    let c = channel("c");
    let first = bench.place(&c, with_key(bench.kept("first"), "k")).await;
    bench.remove_history(&c).await;
    let again = bench.publish(&c, with_key(bench.kept("again"), "k")).await;
    assert_eq!((again.position, again.suppressed), (Some(first), Some(Suppressed::Idempotency)));
    assert!(bench.texts(&c).await.is_empty());
}

/// A repeated publish is told apart from an old version; and a key used by a suppressed publish is used.
pub async fn inv_d5_a_key_is_looked_at_before_the_version(bench: Bench) {
    let c = channel("c");
    let versioned = |data, version, key| with_key(with_version(bench.kept(data), version, ""), key);
    bench.place(&c, versioned("first", 5, "k")).await;
    let by_key = bench.publish(&c, versioned("again", 5, "k")).await;
    assert_eq!(by_key.suppressed, Some(Suppressed::Idempotency));
    let by_version = bench.publish(&c, versioned("old", 4, "old")).await;
    assert_eq!(by_version.suppressed, Some(Suppressed::Version));
    let newer = bench.publish(&c, versioned("newer", 6, "old")).await;
    assert_eq!((newer.position, newer.suppressed), (by_version.position, Some(Suppressed::Idempotency)));
    assert_eq!(bench.texts(&c).await, ["first"]);
}

/// Five minutes from the first use, not from the last; at exactly five minutes it is over.
pub async fn inv_d5_a_key_ends_five_minutes_after_its_first_use(bench: Bench) {
    if !bench.is_exact() {
        return;
    }
    let c = channel("c");
    let keyed = || with_key(passing("x"), "k");
    let suppressed = |published: Published| published.suppressed;
    assert_eq!(suppressed(bench.publish(&c, keyed()).await), None);
    bench.advance(model::IDEMPOTENCY_WINDOW - Duration::from_nanos(1)).await;
    assert_eq!(suppressed(bench.publish(&c, keyed()).await), Some(Suppressed::Idempotency));
    bench.advance(Duration::from_nanos(1)).await;
    assert_eq!(suppressed(bench.publish(&c, keyed()).await), None);
}

/// However the publishes meet, one is made and all answer its position.
pub async fn inv_d5_concurrent_publishes_with_one_key_publish_once(bench: Bench) {
    let c = channel("c");
    for round in 1..=50 {
        let key = format!("key {round}");
        let publish = |_| {
            let (engine, c) = (Arc::clone(&bench.engine), c.clone());
            let new = with_key(bench.kept("x"), &key);
            tokio::spawn(async move { engine.publish(&c, new).await.unwrap() })
        };
        let tasks: Vec<_> = (0..8).map(publish).collect();
        let mut made = 0;
        for task in tasks {
            let published = task.await.unwrap();
            assert_eq!(published.position.unwrap().offset, round);
            made += usize::from(published.suppressed.is_none());
        }
        assert_eq!(made, 1);
    }
}

/// Equal or lower versions publish nothing and answer the top; version 0 always publishes and changes nothing.
pub async fn a_version_not_above_the_stored_one_is_suppressed(bench: Bench) {
    let c = channel("c");
    bench.subscribe(&c).await;
    bench.place(&c, with_version(bench.kept("5"), 5, "")).await;
    let top = bench.place(&c, bench.kept("none")).await;
    for version in [5, 4, 1] {
        let published = bench.publish(&c, with_version(bench.kept("old"), version, "")).await;
        assert_eq!(
            (published.position, published.suppressed),
            (Some(top.clone()), Some(Suppressed::Version))
        );
    }
    bench.place(&c, with_version(bench.kept("6"), 6, "")).await;
    assert_eq!(bench.hear(&c, 3).await, ["5", "none", "6"]);
    assert_eq!(bench.texts(&c).await, ["5", "none", "6"]);
}

/// Versions are compared within one version epoch, or if the publisher names none.
pub async fn a_new_version_epoch_starts_the_versions_anew(bench: Bench) {
    let c = channel("c");
    bench.place(&c, with_version(bench.kept("a5"), 5, "a")).await;
    bench.place(&c, with_version(bench.kept("b1"), 1, "b")).await;
    for (version, version_epoch) in [(1, "b"), (1, "")] {
        let published = bench.publish(&c, with_version(bench.kept("old"), version, version_epoch)).await;
        assert_eq!(published.suppressed, Some(Suppressed::Version), "{version} {version_epoch}");
    }
    bench.place(&c, with_version(bench.kept("b2"), 2, "b")).await;
    assert_eq!(bench.texts(&c).await, ["a5", "b1", "b2"]);
}

/// There is nowhere to keep a version.
pub async fn a_version_means_nothing_without_history(bench: Bench) {
    let c = channel("c");
    for _ in 0..2 {
        assert_eq!(bench.publish(&c, with_version(passing("x"), 1, "")).await, Published::default());
    }
}

/// The version belongs to the position, not to the publications.
pub async fn a_version_outlives_removed_history(bench: Bench) {
    let c = channel("c");
    bench.place(&c, with_version(bench.kept("5"), 5, "")).await;
    bench.remove_history(&c).await;
    let old = bench.publish(&c, with_version(bench.kept("4"), 4, "")).await;
    assert_eq!(old.suppressed, Some(Suppressed::Version));
}
