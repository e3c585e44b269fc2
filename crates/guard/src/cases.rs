//! What is counted. A case prepares itself and returns one round of its work.

use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use tidewire_core::metrics::Metrics;
use tidewire_core::{Deflate, Framing, Window, Wire};
use tidewire_protocol::frame::{self, DecodeLimits};
use tidewire_protocol::{Command, Encoding, Publication, PublishRequest, SubscribeRequest};

use crate::world::{LOG, PAYLOAD, PLAIN, World, command, records, subscribe};
use crate::{ROUNDS, Rounds};

/// Its name in `scripts/guard.table`, and how it is prepared.
type Case = (&'static str, fn() -> Rounds);

/// Subscribers of a channel.
const CROWD: usize = 1_000;

const JSON: Wire = plain(Encoding::Json);
/// As the configuration has it by default, for a browser's offer.
const DEFLATE: Wire = Wire {
    encoding: Encoding::Json,
    framing: Framing::WebSocketDeflate(Deflate { window: Window::Usual, level: 1, min_size: 0 }),
};

const fn plain(encoding: Encoding) -> Wire {
    Wire { encoding, framing: Framing::WebSocket }
}

/// Every case.
pub(crate) const ALL: &[Case] = &[
    ("encode_publication_json", || encode(Encoding::Json)),
    ("encode_publication_protobuf", || encode(Encoding::Protobuf)),
    ("decode_publish_json", || decode(Encoding::Json, &publish_command())),
    ("decode_publish_protobuf", || decode(Encoding::Protobuf, &publish_command())),
    ("decode_subscribe_json", || decode(Encoding::Json, &subscribe_command())),
    ("decode_subscribe_protobuf", || decode(Encoding::Protobuf, &subscribe_command())),
    ("publish_without_subscribers", publish_alone),
    ("compress_message_512", || compress(512)),
    ("compress_message_2048", || compress(2_048)),
    ("fan_out_1000_json", || fan_out(JSON, PLAIN, 1)),
    ("fan_out_1000_protobuf", || fan_out(plain(Encoding::Protobuf), PLAIN, 1)),
    ("fan_out_1000_with_positions", || fan_out(JSON, LOG, 1)),
    ("fan_out_1000_eight_gathered", || fan_out(JSON, PLAIN, 8)),
    ("fan_out_1000_long", || fan_out_long(JSON)),
    ("fan_out_1000_long_compressed", || fan_out_long(DEFLATE)),
    ("recovery_merge_json", || recover(Encoding::Json)),
    ("recovery_merge_protobuf", || recover(Encoding::Protobuf)),
    ("connect_and_subscribe", connect),
    ("ping_and_pong_1000", ping),
];

// === codecs ===

/// Encodes and frames one publication, a hundred times.
fn encode(encoding: Encoding) -> Rounds {
    let wire = plain(encoding);
    let metrics = Metrics::default();
    let publication =
        Publication { data: Bytes::from_static(PAYLOAD), offset: 123_456_789, ..Default::default() };
    Box::new(move || {
        for _ in 0..100 {
            let mut message = Vec::new();
            frame::append_publication(encoding, LOG, black_box(&publication), &mut message).unwrap();
            black_box(wire.finish(&message, &metrics));
        }
    })
}

/// Makes a compressed frame of a message of about as many bytes, a hundred times.
fn compress(bytes: usize) -> Rounds {
    let (message, metrics) = (records(bytes), Metrics::default());
    Box::new(move || {
        for _ in 0..100 {
            let frame = DEFLATE.finish(black_box(&message), &metrics);
            assert!(black_box(frame).len() < message.len());
        }
    })
}

/// Decodes one command, a hundred times.
fn decode(encoding: Encoding, what: &Command) -> Rounds {
    let (received, limits) = (command(encoding, what), DecodeLimits::default());
    Box::new(move || {
        for _ in 0..100 {
            for command in frame::commands(encoding, black_box(&received), &limits) {
                black_box(command.unwrap());
            }
        }
    })
}

fn publish_command() -> Command {
    let publish =
        PublishRequest { channel: LOG.into(), data: Bytes::from_static(PAYLOAD), ..Default::default() };
    Command { id: 77, publish: Some(Box::new(publish)), ..Default::default() }
}

fn subscribe_command() -> Command {
    let subscribe = SubscribeRequest {
        channel: LOG.into(),
        recover: true,
        epoch: "abcd".into(),
        offset: 123_456,
        positioned: true,
        recoverable: true,
        ..Default::default()
    };
    Command { id: 2, subscribe: Some(Box::new(subscribe)), ..Default::default() }
}

// === the node ===

/// Publishes where nobody listens, a hundred times, and keeps it.
fn publish_alone() -> Rounds {
    let mut world = World::new();
    // The stream is as long as it gets.
    (0..300).for_each(|_| world.publish(LOG));
    Box::new(move || {
        (0..100).for_each(|_| world.publish(LOG));
        world.advance();
    })
}

/// Publishes to a thousand subscribers, and empties what they are to be sent.
fn fan_out(wire: Wire, channel: &'static str, publications: usize) -> Rounds {
    let mut world = World::new();
    world.crowd(wire, channel, CROWD);
    if channel == LOG {
        (0..300).for_each(|_| world.publish(LOG));
        world.advance();
        world.drain();
    }
    Box::new(move || {
        (0..publications).for_each(|_| world.publish(channel));
        world.advance();
        let (connections, bytes) = world.drain();
        assert_eq!(connections, CROWD);
        assert!(bytes > CROWD * publications * PAYLOAD.len());
    })
}

/// The same with 2 KiB: compressed, the frame is made once and shared all the same.
fn fan_out_long(wire: Wire) -> Rounds {
    let mut world = World::new();
    world.crowd(wire, PLAIN, CROWD);
    let payload = records(2_048);
    Box::new(move || {
        world.publish_data(PLAIN, payload.clone());
        world.advance();
        let (connections, bytes) = world.drain();
        assert_eq!(connections, CROWD);
        assert_eq!(bytes < CROWD * payload.len(), wire == DEFLATE);
    })
}

/// Subscribes from a position 100 publications back, while 10 more come after history was read.
fn recover(encoding: Encoding) -> Rounds {
    let mut world = World::new();
    (0..150).for_each(|_| world.publish(LOG));
    // More than there are rounds.
    let mut clients: Vec<_> = (0..ROUNDS * 2).map(|_| world.connected(plain(encoding))).collect();
    world.drain();
    let mut top = 150;
    Box::new(move || {
        let client = clients.pop().unwrap();
        let since = top - 100;
        let request = SubscribeRequest {
            channel: LOG.into(),
            recover: true,
            offset: since,
            positioned: true,
            recoverable: true,
            ..Default::default()
        };
        world.message(client, &subscribe(encoding, request));
        while let Some(task) = world.worker.next_task() {
            let done = futures_util::FutureExt::now_or_never(task.future).unwrap();
            (0..10).for_each(|_| world.publish(LOG));
            top += 10;
            world.advance();
            let now = world.node.now();
            world.worker.complete(done, now);
        }
        let (_, bytes) = world.drain();
        assert!(bytes > 110 * PAYLOAD.len(), "{bytes} bytes are no recovery of 110");
    })
}

/// Connects a hundred clients, subscribes and lets them go.
fn connect() -> Rounds {
    let mut world = World::new();
    // The channel stays.
    world.crowd(JSON, PLAIN, 1);
    Box::new(move || {
        let members = world.crowd(JSON, PLAIN, 100);
        for key in members {
            let now = world.node.now();
            world.worker.gone(key, now);
        }
        world.settle();
    })
}

/// Lets 25 s pass for a thousand idle clients, each of which is asked once whether it is there and says so.
fn ping() -> Rounds {
    let mut world = World::new();
    world.crowd(JSON, PLAIN, CROWD);
    let pong = Bytes::from_static(b"{}");
    Box::new(move || {
        let mut pings = 0;
        for _ in 0..250 {
            world.pass(Duration::from_millis(100));
            world.settle();
            let now = world.node.now();
            let (asked, _) = world.drain_with(|worker, key| worker.message(key, pong.clone(), now));
            pings += asked;
        }
        assert!((CROWD - CROWD / 20..=CROWD + CROWD / 20).contains(&pings), "{pings} pings");
    })
}
