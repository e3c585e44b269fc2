//! Whether a positioned subscriber can still be told everything: checks against the stream, and publications that come late.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod harness;

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use harness::{Setup, World, anonymous, now_or_never, settle};
use serde_json::{Value, json};
use tidewire_core::hooks::SubscribeGrant;
use tidewire_core::{ConnectionKey, PublishOptions};

const LAG: Duration = Duration::from_secs(2);

fn setup(lag: Duration) -> Setup {
    let mut setup = Setup::default();
    // Nobody answers pings here.
    setup.options.client.pong_timeout = Duration::ZERO;
    setup.options.client.channel_position_max_time_lag = lag;
    setup
}

/// Publishes, and lets the publication reach this node's connections `after` it was made.
fn publish_late(world: &mut World, channel: &str, after: Duration, options: PublishOptions) {
    now_or_never(world.node.publish(channel, Bytes::from_static(b"1"), options)).unwrap();
    world.pass(after);
}

fn subscribed(world: &mut World, channel: &str) -> ConnectionKey {
    let key = world.connected();
    let replies = world.say(key, &json!({"id": 2, "subscribe": {"channel": channel}}).to_string());
    assert!(replies[0].get("subscribe").is_some(), "{replies:?}");
    world.heard(key);
    key
}

/// What was pushed, without joins, leaves and pings: offsets of publications, and the code of an unsubscribe.
fn pushes(world: &mut World, key: ConnectionKey) -> Vec<Value> {
    let heard = world.heard(key).into_iter().filter_map(|mut message| match message["push"].take() {
        Value::Object(push) => push
            .get("pub")
            .map(|publication| publication["offset"].clone())
            .or_else(|| push.get("unsubscribe").map(|unsubscribe| unsubscribe["code"].clone())),
        _ => None,
    });
    heard.collect()
}

#[test]
fn a_publication_that_comes_too_late_makes_positioned_subscribers_start_over() {
    let mut world = setup(LAG).build();
    let key = subscribed(&mut world, "h:a");
    publish_late(&mut world, "h:a", LAG, PublishOptions::default());
    assert_eq!(pushes(&mut world, key), [json!(1)], "not too late yet");
    publish_late(&mut world, "h:a", LAG + Duration::from_millis(1), PublishOptions::default());
    assert_eq!(pushes(&mut world, key), [json!(2500)]);
    assert_eq!(world.closing(key), None);
    assert_eq!(world.node.metrics().insufficient_states.total(), 1);

    // As the SDKs do then: nothing is lost.
    let again = json!({"id": 3, "subscribe": {"channel": "h:a", "recover": true, "offset": 1}});
    let replies = world.say(key, &again.to_string());
    let result = &replies[0]["subscribe"];
    assert_eq!(
        (&result["recovered"], &result["publications"]),
        (&json!(true), &json!([{"data": 1, "offset": 2}]))
    );
    world.publish("h:a", "3");
    assert_eq!(pushes(&mut world, key), [json!(3)]);
}

#[test]
fn a_server_side_subscriber_loses_its_connection_to_a_late_publication() {
    let mut world = setup(LAG).build();
    let key = world.connected();
    let node = std::sync::Arc::clone(&world.node);
    settle(&mut world, node.subscribe(&anonymous(), "h:a", SubscribeGrant::default(), None)).unwrap();
    publish_late(&mut world, "h:a", 2 * LAG, PublishOptions::default());
    assert_eq!(world.closing(key), Some(3010));
}

#[test]
fn lateness_is_not_judged_where_nothing_is_promised() {
    let mut world = setup(LAG).build();
    let (positioned, plain) = (subscribed(&mut world, "h:a"), subscribed(&mut world, "a"));
    publish_late(&mut world, "a", 2 * LAG, PublishOptions::default());
    assert_eq!(pushes(&mut world, plain), [Value::Null], "it has no position");
    let unnumbered = PublishOptions { skip_history: true, ..Default::default() };
    publish_late(&mut world, "h:a", 2 * LAG, unnumbered);
    assert_eq!(pushes(&mut world, positioned), [Value::Null], "it has no place in the stream");

    let mut off = setup(Duration::ZERO).build();
    let key = subscribed(&mut off, "h:a");
    publish_late(&mut off, "h:a", Duration::from_secs(3600), PublishOptions::default());
    assert_eq!(pushes(&mut off, key), [json!(1)], "off by default");
}

#[test]
fn inv_g3_a_wall_clock_that_goes_back_makes_nothing_late() {
    let mut world = setup(LAG).build();
    let key = subscribed(&mut world, "h:a");
    now_or_never(world.node.publish("h:a", Bytes::from_static(b"1"), PublishOptions::default())).unwrap();
    world.turn_wall_clock(-3_600_000);
    world.run();
    assert_eq!(pushes(&mut world, key), [json!(1)]);
}

#[test]
fn inv_d1_what_gathers_while_subscribing_is_merged_however_late_it_is() {
    let mut world = setup(LAG).build();
    let key = world.connected();
    let now = world.now();
    world.worker.message(key, Bytes::from_static(br#"{"id":2,"subscribe":{"channel":"h:a"}}"#), now);
    let joining = world.worker.next_task().unwrap();
    let done = now_or_never(joining.future);
    publish_late(&mut world, "h:a", 2 * LAG, PublishOptions::default());
    let now = world.now();
    world.worker.complete(done, now);
    world.run();
    let replies = world.heard(key);
    assert_eq!(replies[0]["subscribe"]["offset"], 1, "{replies:?}");
    world.publish("h:a", "2");
    assert_eq!(pushes(&mut world, key), [json!(2)]);
}

/// It was announced after the read and waits in the worker's inbox when the subscriber goes live: nothing is missing.
#[test]
fn inv_d1_what_waits_in_the_inbox_while_subscribing_is_not_read_and_told_again() {
    let mut world = setup(Duration::ZERO).build();
    let joined = json!({"id": 2, "subscribe": {"channel": "h:a"}}).to_string();
    let key = world.connected();
    let now = world.now();
    world.worker.message(key, Bytes::from(joined), now);
    let joining = world.worker.next_task().unwrap();
    let done = now_or_never(joining.future);
    now_or_never(world.node.publish("h:a", Bytes::from_static(b"1"), PublishOptions::default())).unwrap();
    let now = world.now();
    world.worker.complete(done, now);
    world.run();
    world.publish("h:a", "2");
    assert_eq!(pushes(&mut world, key), [json!(1), json!(2)]);
    assert_eq!(world.node.metrics().repaired.total(), 0, "nothing was missing");
}

// === the periodic check ===

#[test]
fn inv_d4_a_lost_publication_is_found_by_the_check() {
    let (mut world, link) = setup(Duration::ZERO).build_lossy();
    let key = subscribed(&mut world, "h:a");
    link.muffled.store(true, Ordering::Relaxed);
    world.publish("h:a", "1");
    link.muffled.store(false, Ordering::Relaxed);
    world.pass(Duration::from_secs(39));
    assert_eq!(pushes(&mut world, key), Vec::<Value>::new());
    world.pass(Duration::from_secs(2));
    assert_eq!(pushes(&mut world, key), [json!(1)], "late, but there");
    assert_eq!(world.node.metrics().repaired.total(), 1);
}

#[test]
fn inv_d4_a_lost_publication_is_found_by_the_next_one() {
    let (mut world, link) = setup(LAG).build_lossy();
    let keys = [subscribed(&mut world, "h:a"), subscribed(&mut world, "h:a")];
    link.muffled.store(true, Ordering::Relaxed);
    world.publish("h:a", "1");
    world.publish("h:a", "2");
    link.muffled.store(false, Ordering::Relaxed);
    world.pass(2 * LAG);
    world.publish("h:a", "3");
    for key in keys {
        assert_eq!(
            pushes(&mut world, key),
            [json!(1), json!(2), json!(3)],
            "however old, nobody starts over"
        );
    }
}

#[test]
fn inv_d2_a_lost_publication_that_history_no_longer_has_is_told() {
    let (mut world, link) = setup(Duration::ZERO).build_lossy();
    let key = subscribed(&mut world, "h:a");
    link.muffled.store(true, Ordering::Relaxed);
    for _ in 0..11 {
        world.publish("h:a", "1");
    }
    link.muffled.store(false, Ordering::Relaxed);
    world.publish("h:a", "2");
    assert_eq!(pushes(&mut world, key), [json!(2500)], "ten are kept");
    assert_eq!(world.node.metrics().unrepaired.total(), 1);
}

/// They have no place in the stream, so they say nothing about what was lost of it.
#[test]
fn inv_d4_publications_without_an_offset_do_not_put_the_check_off() {
    let (mut world, link) = setup(Duration::ZERO).build_lossy();
    let key = subscribed(&mut world, "h:a");
    link.muffled.store(true, Ordering::Relaxed);
    world.publish("h:a", "1");
    link.muffled.store(false, Ordering::Relaxed);
    for _ in 0..14 {
        let unnumbered = PublishOptions { skip_history: true, ..Default::default() };
        publish_late(&mut world, "h:a", Duration::from_secs(5), unnumbered);
    }
    assert!(pushes(&mut world, key).contains(&json!(1)));
}

// === interest ===

/// Whoever comes back at once must not have the engine subscribe anew.
#[test]
fn a_channel_without_subscribers_is_left_after_a_while_and_not_at_once() {
    let (mut world, link) = setup(Duration::ZERO).build_lossy();
    let told = || link.interest.lock().unwrap().clone();
    let tick = |world: &mut World| now_or_never(world.node.tick());
    let key = subscribed(&mut world, "a");
    let other = subscribed(&mut world, "a");
    assert_eq!(told(), ["+a"], "asked once for both");
    for key in [key, other] {
        world.say(key, r#"{"id":3,"unsubscribe":{"channel":"a"}}"#);
    }
    world.pass(Duration::from_millis(900));
    tick(&mut world);
    assert_eq!(told(), ["+a"]);
    world.say(key, r#"{"id":4,"subscribe":{"channel":"a"}}"#);
    world.pass(Duration::from_secs(10));
    tick(&mut world);
    assert_eq!(told(), ["+a"], "it is used again");
    world.say(key, r#"{"id":5,"unsubscribe":{"channel":"a"}}"#);
    world.pass(Duration::from_secs(10));
    tick(&mut world);
    assert_eq!(told(), ["+a", "-a"]);
    world.say(key, r#"{"id":6,"subscribe":{"channel":"a"}}"#);
    assert_eq!(told(), ["+a", "-a", "+a"]);
    world.publish("a", "1");
    assert_eq!(pushes(&mut world, key), [Value::Null]);
}
