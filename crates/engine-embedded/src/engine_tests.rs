use super::*;
use tidewire_engine::{HistoryRetention, ManualClock};

const KEEP: HistoryRetention =
    HistoryRetention { size: 10, ttl: Duration::from_secs(60), meta_ttl: Duration::from_secs(600) };

fn engine() -> (Arc<ManualClock>, EmbeddedEngine) {
    let clock = Arc::new(ManualClock::new());
    (clock.clone(), EmbeddedEngine::new(clock))
}

fn kept() -> NewPublication {
    NewPublication { retention: Some(KEEP), ..Default::default() }
}

fn info(client: &str) -> Arc<ClientInfo> {
    Arc::new(ClientInfo { client: client.into(), ..Default::default() })
}

#[test]
fn a_channel_without_history_and_presence_leaves_nothing_behind() {
    let (_, engine) = engine();
    let channel = ChannelName::from("c");
    drop(engine.subscribe(std::slice::from_ref(&channel)));
    drop(engine.publish(&channel, NewPublication::default()));
    drop(engine.unsubscribe(std::slice::from_ref(&channel)));
    drop(engine.presence(&channel));
    drop(engine.presence_add(&channel, info("a"), Duration::ZERO));
    drop(engine.presence_add(&channel, info("a"), Duration::from_secs(1)));
    drop(engine.presence_remove(&channel, "a"));
    drop(engine.remove_history(&channel));
    assert_eq!(engine.usage(), Usage::default());
}

#[test]
fn a_sweep_frees_what_nobody_looks_at_any_more() {
    let (clock, engine) = engine();
    let quiet = ChannelName::from("quiet");
    drop(engine.publish(&quiet, NewPublication { idempotency_key: "k".into(), ..kept() }));
    drop(engine.presence_add(&quiet, info("a"), Duration::from_secs(60)));
    assert_eq!(engine.usage(), Usage { channels: 1, presence_channels: 1, idempotency_keys: 1 });
    clock.advance(Duration::from_secs(60));
    engine.sweep();
    assert_eq!(engine.usage(), Usage { channels: 1, presence_channels: 0, idempotency_keys: 1 });
    clock.advance(Duration::from_secs(240));
    engine.sweep();
    assert_eq!(engine.usage(), Usage { channels: 1, presence_channels: 0, idempotency_keys: 0 });
    clock.advance(Duration::from_secs(300));
    assert!(!engine.sweep());
    assert_eq!(engine.usage(), Usage::default());
}

#[test]
fn a_sweep_keeps_subscriptions_and_streams_in_use() {
    let (clock, engine) = engine();
    let channels = ["subscribed", "published", "read"].map(ChannelName::from);
    drop(engine.subscribe(&channels[..1]));
    for channel in &channels {
        drop(engine.publish(channel, kept()));
    }
    clock.advance(Duration::from_secs(599));
    drop(engine.publish(&channels[1], kept()));
    drop(engine.history(&channels[2], HistoryFilter::default(), KEEP.meta_ttl));
    clock.advance(Duration::from_secs(1));
    engine.sweep();
    assert_eq!(engine.usage().channels, 3);
    clock.advance(Duration::from_secs(600));
    engine.sweep();
    engine.sweep();
    assert_eq!(engine.usage().channels, 1);
}

#[test]
fn one_sweep_does_a_bounded_amount_of_work_and_says_what_is_left() {
    let (clock, engine) = engine();
    let count = 3 * SHARDS * SWEEP_WORK_MAX;
    for n in 0..count {
        drop(engine.publish(&ChannelName::from(n.to_string()), kept()));
    }
    clock.advance(KEEP.meta_ttl);
    assert!(engine.sweep());
    // Each was due once for its publications and comes up again for its position.
    let before = engine.usage().channels;
    assert!(before >= count - SHARDS * SWEEP_WORK_MAX, "{before} of {count} left");
    let mut rounds = 1;
    while engine.sweep() {
        rounds += 1;
    }
    assert!((3..=12).contains(&rounds), "{rounds} rounds");
    assert_eq!(engine.usage(), Usage::default());
}

#[test]
fn epochs_come_from_the_given_source_and_are_eight_letters_by_default() {
    let mut n = 0;
    let epochs = move || {
        n += 1;
        format!("epoch{n}")
    };
    let seeded = EmbeddedEngine::with_epochs(Arc::new(ManualClock::new()), Box::new(epochs));
    let of = |engine: &EmbeddedEngine, channel: &str| {
        engine.publish_now(&ChannelName::from(channel), kept()).position.expect("it has history").epoch
    };
    assert_eq!((of(&seeded, "a").as_str(), of(&seeded, "b").as_str()), ("epoch1", "epoch2"));
    let (_, random) = engine();
    let (a, b) = (of(&random, "a"), of(&random, "b"));
    assert_ne!(a, b);
    assert!(a.as_str().len() == 8 && a.as_str().bytes().all(|byte| byte.is_ascii_alphabetic()));
}
