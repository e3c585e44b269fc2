//! Random operations, from a seed, held against the model. A failure names its seed and the operations before it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use tidewire_protocol::{ChannelName, Epoch, StreamPosition};

use super::Announced;
use super::bench::{Bench, channel, client, text};
use super::model::{Model, Place, Publish};
use crate::{HistoryFilter, HistoryRetention, NewPublication};

const SEEDS: u64 = 200;
const OPERATIONS: u64 = 150;
/// Seeds under way at once where nothing turns the clock: each is alone on its channel, and an engine across a network
/// spends most of its time waiting.
const AT_ONCE: usize = 16;

/// Publishes of every kind, reads with every filter, removals and time, on a channel that is announced and on one that
/// is not.
pub async fn inv_d1_inv_d2_inv_d5_random_histories_agree_with_the_model(bench: Bench) {
    let bench = &bench;
    each_seed(bench, |seed| async move {
        let c = channel(&format!("c{seed}"));
        let subscribed = seed % 2 == 0;
        if subscribed {
            bench.subscribe(&c).await;
        }
        StreamRun::new(bench, c, seed, subscribed).run().await;
    })
    .await;
}

/// Entries coming, changing and going, by themselves and by time.
pub async fn inv_p1_random_presence_agrees_with_the_model(bench: Bench) {
    let bench = &bench;
    each_seed(bench, |seed| async move {
        let c = channel(&format!("c{seed}"));
        let mut dice = Dice(seed);
        let mut model = Model::default();
        for _ in 0..OPERATIONS {
            let name = dice.pick(&["a", "b", "c", "d", "e", "f"]);
            match dice.below(10) {
                0..5 => {
                    let ttl = if bench.is_exact() { dice.time(bench) } else { bench.units(1000.0) };
                    let user = dice.pick(&["", "u", "v"]);
                    bench.enter(&c, &client(name, user), ttl).await;
                    model.enter(name, user, ttl);
                }
                5..7 => {
                    bench.leave(&c, name).await;
                    model.leave(name);
                }
                _ if bench.is_exact() => {
                    let by = dice.time(bench);
                    bench.advance(by).await;
                    model.advance(by);
                }
                _ => {}
            }
            let present = bench.present(&c).await;
            let present: Vec<_> =
                present.iter().map(|info| (info.client.clone(), info.user.clone())).collect();
            assert_eq!(present, model.present(), "seed {seed}");
        }
    })
    .await;
}

async fn each_seed<F: Future<Output = ()>>(bench: &Bench, run: impl Fn(u64) -> F) {
    let at_once = if bench.is_exact() { 1 } else { AT_ONCE };
    futures_util::stream::iter(0..SEEDS).for_each_concurrent(at_once, run).await;
}

#[derive(Debug, Clone)]
enum Operation {
    Publish(Publish),
    Read(HistoryFilter, Duration),
    RemoveHistory,
    Advance(Duration),
}

/// One seed on one channel.
struct StreamRun<'a> {
    bench: &'a Bench,
    channel: ChannelName,
    seed: u64,
    dice: Dice,
    model: Model,
    // Which epoch is which life of the model.
    epochs: BTreeMap<u64, Epoch>,
    // Ids and places of what must have been announced; empty if nobody listens.
    announced: Option<Vec<(u64, Option<Place>)>>,
    recent: VecDeque<Operation>,
    ids: u64,
}

// === impl StreamRun ===

impl<'a> StreamRun<'a> {
    fn new(bench: &'a Bench, channel: ChannelName, seed: u64, subscribed: bool) -> Self {
        Self {
            bench,
            channel,
            seed,
            dice: Dice(seed),
            model: Model::default(),
            epochs: BTreeMap::new(),
            announced: subscribed.then(Vec::new),
            recent: VecDeque::new(),
            ids: 0,
        }
    }

    async fn run(mut self) {
        for _ in 0..OPERATIONS {
            let operation = self.draw();
            self.recent.push_back(operation.clone());
            if self.recent.len() > 12 {
                self.recent.pop_front();
            }
            self.step(operation).await;
        }
        self.compare_announcements().await;
        let distinct: BTreeSet<&str> = self.epochs.values().map(Epoch::as_str).collect();
        assert_eq!(distinct.len(), self.epochs.len(), "{}: an epoch came back", self.context());
    }

    fn draw(&mut self) -> Operation {
        let bench = self.bench;
        match self.dice.below(20) {
            0..11 => Operation::Publish(self.draw_publish()),
            11..16 => {
                let since = [None, Some(self.dice.below(30)), Some(u64::MAX)][self.dice.index(3)];
                let limit = [None, Some(self.dice.index(6))][self.dice.index(2)];
                let filter = HistoryFilter { since, limit, reverse: self.dice.below(2) == 0 };
                Operation::Read(filter, self.draw_ttl())
            }
            16 => Operation::RemoveHistory,
            _ if bench.is_exact() => Operation::Advance(self.dice.time(bench)),
            _ => Operation::Read(HistoryFilter::default(), self.draw_ttl()),
        }
    }

    fn draw_publish(&mut self) -> Publish {
        self.ids += 1;
        let retention = HistoryRetention {
            size: 1 + self.dice.index(6),
            ttl: self.draw_ttl(),
            meta_ttl: self.draw_ttl() + self.draw_ttl(),
        };
        let version = if self.dice.below(3) == 0 { self.dice.below(8) } else { 0 };
        Publish {
            id: self.ids,
            retention: (self.dice.below(5) > 0).then_some(retention),
            key: self.dice.pick(&["", "", "", "k1", "k2", "k3"]).to_owned(),
            version,
            version_epoch: self.dice.pick(&["", "v", "w"]).to_owned(),
        }
    }

    fn draw_ttl(&mut self) -> Duration {
        if self.bench.is_exact() { self.dice.time(self.bench) } else { self.bench.units(1000.0) }
    }

    async fn step(&mut self, operation: Operation) {
        match operation {
            Operation::Publish(publish) => self.publish(&publish).await,
            Operation::Read(filter, meta_ttl) => {
                let history =
                    self.bench.engine.history(&self.channel, filter.clone(), meta_ttl).await.unwrap();
                let id = |data: &Bytes| std::str::from_utf8(data).unwrap().parse::<u64>().unwrap();
                let found: Vec<_> = history.publications.iter().map(|p| (p.offset, id(&p.data))).collect();
                let (expected, top) = self.model.history(&filter, meta_ttl);
                assert_eq!(found, expected, "{}", self.context());
                self.compare_place(Some(history.top), Some(top));
            }
            Operation::RemoveHistory => {
                self.bench.remove_history(&self.channel).await;
                self.model.remove_history();
            }
            Operation::Advance(by) => {
                self.bench.advance(by).await;
                self.model.advance(by);
            }
        }
    }

    async fn publish(&mut self, publish: &Publish) {
        let new = NewPublication {
            data: publish.id.to_string().into(),
            retention: publish.retention,
            idempotency_key: publish.key.clone(),
            version: publish.version,
            version_epoch: publish.version_epoch.clone(),
            ..Default::default()
        };
        let published = self.bench.publish(&self.channel, new).await;
        let expected = self.model.publish(publish);
        assert_eq!(published.suppressed, expected.suppressed, "{}", self.context());
        self.compare_place(published.position, expected.place);
        if expected.suppressed.is_none()
            && let Some(announced) = &mut self.announced
        {
            announced.push((publish.id, expected.place));
        }
    }

    fn compare_place(&mut self, position: Option<StreamPosition>, place: Option<Place>) {
        let Some((position, place)) = position.clone().zip(place) else {
            assert_eq!((position, place), (None, None), "{}", self.context());
            return;
        };
        let epoch = self.epochs.entry(place.life).or_insert_with(|| position.epoch.clone()).clone();
        assert_eq!((position.offset, position.epoch), (place.offset, epoch), "{}", self.context());
    }

    async fn compare_announcements(&self) {
        let Some(expected) = &self.announced else { return };
        let heard = self.bench.recorder.hear(&self.channel, expected.len()).await;
        assert_eq!(heard.len(), expected.len(), "{}", self.context());
        for (announced, (id, place)) in heard.iter().zip(expected) {
            let Announced::Publication { publication, epoch, .. } = announced else {
                panic!("{announced:?}")
            };
            let place = place.map(|place| (place.offset, &self.epochs[&place.life]));
            let found = epoch.as_ref().map(|epoch| (publication.offset, epoch));
            assert_eq!((text(publication), found), (id.to_string(), place), "{}", self.context());
        }
    }

    fn context(&self) -> String {
        format!("seed {}, the last of {:#?}", self.seed, self.recent)
    }
}

/// Numbers from a seed (SplitMix64, whose state is the seed itself).
struct Dice(u64);

// === impl Dice ===

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn index(&mut self, bound: usize) -> usize {
        self.below(bound as u64) as usize
    }

    fn pick<'s>(&mut self, from: &[&'s str]) -> &'s str {
        from[self.index(from.len())]
    }

    /// A few whole units, so that things often end at the very moment something happens; sometimes none, sometimes
    /// minutes.
    fn time(&mut self, bench: &Bench) -> Duration {
        match self.below(12) {
            0 => Duration::ZERO,
            1 => Duration::from_secs(60 * self.below(6)),
            _ => bench.units(self.below(8) as f64),
        }
    }
}
