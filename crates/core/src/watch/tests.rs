use proptest::prelude::*;
use tidewire_protocol::ClientInfo;

use super::*;

const CHANNEL: &str = "c";

fn publication(offset: u64) -> Arc<Publication> {
    Arc::new(Publication { offset, data: offset.to_string().into(), ..Default::default() })
}

fn announcement(offset: u64, epoch: &str) -> Arc<Broadcast> {
    Arc::new(Broadcast::new(CHANNEL.into(), Event::Publication(publication(offset)), epoch.into()))
}

fn join() -> Arc<Broadcast> {
    Arc::new(Broadcast::new(CHANNEL.into(), Event::Join(Arc::new(ClientInfo::default())), "".into()))
}

fn position(offset: u64, epoch: &str) -> StreamPosition {
    StreamPosition { offset, epoch: epoch.into() }
}

fn history(offsets: std::ops::RangeInclusive<u64>, top: u64, epoch: &str) -> Result<History, EngineError> {
    Ok(History { publications: offsets.map(publication).collect(), top: position(top, epoch) })
}

fn nothing(top: u64, epoch: &str) -> Result<History, EngineError> {
    Ok(History { publications: Vec::new(), top: position(top, epoch) })
}

fn watch_at(offset: u64) -> Watch {
    Watch::new(position(offset, "e"), None, Duration::from_secs(1), 0)
}

fn offsets(broadcasts: &[Arc<Broadcast>]) -> Vec<u64> {
    broadcasts.iter().map(|broadcast| broadcast.offset()).collect()
}

fn repaired(watch: &mut Watch, history: Result<History, EngineError>) -> Option<Repaired> {
    let read = watch.read(0);
    watch.repaired(&CHANNEL.into(), &read, history, 0)
}

#[test]
fn what_comes_in_order_passes_and_repetitions_do_not() {
    let mut watch = watch_at(3);
    assert!(matches!(watch.hear(announcement(4, "e"), 0), Heard::Pass(_)));
    assert!(matches!(watch.hear(join(), 0), Heard::Pass(_)));
    assert!(matches!(watch.hear(announcement(4, "e"), 0), Heard::Taken));
    assert!(matches!(watch.hear(announcement(5, "e"), 0), Heard::Pass(_)));
}

#[test]
fn what_was_under_way_when_the_first_follower_joined_passes_once() {
    let mut watch = watch_at(5);
    assert!(matches!(watch.hear(announcement(4, "e"), 0), Heard::Pass(_)));
    assert!(matches!(watch.hear(announcement(5, "e"), 0), Heard::Pass(_)));
    assert!(matches!(watch.hear(announcement(5, "e"), 0), Heard::Taken));
}

/// A follower's position comes from a read, and what was announced after that may be in its worker's inbox by now.
#[test]
fn inv_d4_what_has_passed_since_the_first_followers_read_is_no_hole() {
    let follow = |passed: &[(u64, &str)], at: u64| {
        let mut before = Passed::default();
        passed.iter().for_each(|(offset, epoch)| before.note(&announcement(*offset, epoch)));
        Watch::new(position(at, "e"), Some(&before), Duration::from_secs(1), 0)
    };
    let passes =
        |mut watch: Watch, offset| matches!(watch.hear(announcement(offset, "e"), 0), Heard::Pass(_));
    let is_hole =
        |mut watch: Watch, offset| matches!(watch.hear(announcement(offset, "e"), 0), Heard::Gap(_));
    for passed in [&[(4, "e")][..], &[(1, "e"), (3, "e"), (4, "e")], &[(9, "d"), (4, "e"), (4, "e")]] {
        assert!(passes(follow(passed, 3), 5), "{passed:?}");
        assert!(is_hole(follow(passed, 3), 6), "{passed:?}");
        assert!(!passes(follow(passed, 3), 4), "{passed:?} again");
    }
    // What was missing before, or is of another life, says nothing.
    for passed in [&[(5, "e")][..], &[(4, "d")], &[(4, "e"), (6, "e")], &[]] {
        assert!(is_hole(follow(passed, 3), 7), "{passed:?}");
    }
    assert!(passes(follow(&[(4, "e"), (5, "e")], 7), 8), "the read was later than all of it");
}

#[test]
fn inv_d4_a_hole_is_filled_from_history_before_anything_later_is_handed_out() {
    let mut watch = watch_at(3);
    assert!(matches!(watch.hear(announcement(6, "e"), 0), Heard::Gap(_)));
    assert!(matches!(watch.hear(join(), 0), Heard::Taken));
    assert!(matches!(watch.hear(announcement(7, "e"), 0), Heard::Taken));
    let repaired = repaired(&mut watch, history(4..=6, 6, "e")).unwrap();
    assert_eq!(offsets(&repaired.broadcasts), [4, 5, 6, 0, 7]);
    assert_eq!((repaired.found, repaired.lost, repaired.again), (2, false, false));
    assert!(matches!(watch.hear(announcement(8, "e"), 0), Heard::Pass(_)));
}

/// Such an announcement is forged, or history comes from a copy that lags. It must cost no read after the other.
#[test]
fn bad_b1_an_announcement_that_history_does_not_have_ends_its_repair() {
    let mut watch = watch_at(3);
    assert!(matches!(watch.hear(announcement(9, "e"), 0), Heard::Gap(_)));
    let first = repaired(&mut watch, nothing(3, "e")).unwrap();
    assert_eq!((first.lost, first.again, first.broadcasts.len()), (false, true, 0));
    assert!(matches!(watch.hear(join(), 0), Heard::Taken));
    let second = repaired(&mut watch, nothing(3, "e")).unwrap();
    assert_eq!((second.lost, second.again), (true, false));
    assert_eq!(offsets(&second.broadcasts), [9, 0]);
    assert!(matches!(watch.hear(announcement(10, "e"), 0), Heard::Pass(_)));
}

/// It was heard while the first read was under way, so only the second can have it.
#[test]
fn inv_d4_a_hole_that_comes_up_during_a_read_is_found_by_the_next() {
    let mut watch = watch_at(3);
    let read = watch.read(0);
    assert!(matches!(watch.hear(announcement(5, "e"), 0), Heard::Taken));
    let first = watch.repaired(&CHANNEL.into(), &read, nothing(3, "e"), 0).unwrap();
    assert_eq!((first.lost, first.again), (false, true));
    let second = repaired(&mut watch, history(4..=5, 5, "e")).unwrap();
    assert_eq!((offsets(&second.broadcasts), second.lost, second.again), (vec![4, 5], false, false));
}

#[test]
fn inv_d4_a_hole_behind_the_read_is_read_again() {
    let mut watch = watch_at(3);
    assert!(matches!(watch.hear(announcement(5, "e"), 0), Heard::Gap(_)));
    let read = watch.read(0);
    assert!(matches!(watch.hear(announcement(8, "e"), 0), Heard::Taken));
    let first = watch.repaired(&CHANNEL.into(), &read, history(4..=6, 6, "e"), 0).unwrap();
    assert_eq!((offsets(&first.broadcasts), first.again), (vec![4, 5, 6], true));
    let second = repaired(&mut watch, history(7..=8, 8, "e")).unwrap();
    assert_eq!((offsets(&second.broadcasts), second.again), (vec![7, 8], false));
}

#[test]
fn inv_d4_a_doubt_during_a_read_brings_another_read() {
    let mut watch = watch_at(3);
    assert!(watch.doubt());
    let read = watch.read(0);
    assert!(!watch.doubt());
    assert!(watch.repaired(&CHANNEL.into(), &read, nothing(3, "e"), 0).unwrap().again);
    let second = repaired(&mut watch, history(4..=4, 4, "e")).unwrap();
    assert_eq!((offsets(&second.broadcasts), second.again), (vec![4], false));
}

#[test]
fn inv_d2_what_history_no_longer_has_is_told() {
    for history in [history(6..=7, 7, "e"), nothing(7, "e"), nothing(2, "e"), nothing(1, "f")] {
        let mut watch = watch_at(3);
        assert!(watch.doubt());
        let repaired = repaired(&mut watch, history).unwrap();
        assert!(repaired.lost && repaired.broadcasts.is_empty(), "{repaired:?}");
    }
}

#[test]
fn inv_d2_followers_are_told_before_they_get_what_gathered() {
    let mut watch = watch_at(3);
    assert!(matches!(watch.hear(announcement(9, "e"), 0), Heard::Gap(_)));
    let repaired = repaired(&mut watch, history(8..=9, 9, "e")).unwrap();
    assert_eq!((offsets(&repaired.broadcasts), repaired.lost), (vec![9], true));
    assert!(matches!(watch.hear(announcement(10, "e"), 0), Heard::Pass(_)));
}

#[test]
fn inv_d2_offsets_that_an_engine_lost_and_used_again_are_told() {
    let mut watch = watch_at(3);
    assert!(matches!(watch.hear(announcement(4, "e"), 0), Heard::Pass(_)));
    assert!(watch.doubt());
    assert!(repaired(&mut watch, nothing(2, "e")).unwrap().lost);
    assert!(matches!(watch.hear(announcement(3, "e"), 0), Heard::Pass(_)));
    assert!(matches!(watch.hear(announcement(4, "e"), 0), Heard::Pass(_)));
}

#[test]
fn inv_d2_a_read_that_goes_on_failing_is_given_up_and_told() {
    let failure = || Err(EngineError::Unavailable("test".into()));
    let mut watch = watch_at(3);
    assert!(matches!(watch.hear(announcement(5, "e"), 0), Heard::Gap(_)));
    for _ in 0..FAILURES_MAX {
        assert!(repaired(&mut watch, failure()).is_none());
        assert!(watch.take_due(RETRY_MS, 0));
        assert!(!watch.take_due(RETRY_MS, 0), "asked for once");
    }
    let given_up = repaired(&mut watch, failure()).unwrap();
    assert_eq!((offsets(&given_up.broadcasts), given_up.lost), (vec![5], true));
}

#[test]
fn a_read_that_does_not_end_is_replaced_and_its_answer_ignored() {
    let mut watch = watch_at(3);
    assert!(watch.doubt());
    let stuck = watch.read(0);
    assert!(!watch.take_due(READ_MS_MAX - 1, 0));
    assert!(watch.take_due(READ_MS_MAX, 0));
    let next = watch.read(READ_MS_MAX);
    assert!(watch.repaired(&CHANNEL.into(), &stuck, nothing(3, "e"), 0).is_none());
    assert!(!watch.repaired(&CHANNEL.into(), &next, nothing(3, "e"), 0).unwrap().lost);
}

#[test]
fn inv_d4_a_position_is_looked_at_when_nothing_has_confirmed_it_for_the_delay() {
    let mut watch = watch_at(3);
    assert!(!watch.take_due(39_999, 40_000));
    assert!(matches!(watch.hear(announcement(4, "e"), 39_999), Heard::Pass(_)));
    assert!(!watch.take_due(79_998, 40_000));
    assert!(watch.take_due(79_999, 40_000));
    assert!(!watch.take_due(1_000_000, 0), "never, if the engine loses nothing");
}

#[test]
fn inv_b2_what_gathers_is_bounded() {
    let mut watch = watch_at(3);
    assert!(watch.doubt());
    let big = Publication { offset: 4, data: vec![b'x'; 1 << 20].into(), ..Default::default() };
    for _ in 0..6 {
        let event = Event::Publication(Arc::new(big.clone()));
        watch.hear(Arc::new(Broadcast::new(CHANNEL.into(), event, "e".into())), 0);
    }
    let kept: usize =
        watch.repair.as_ref().unwrap().gathered.iter().map(|broadcast| broadcast.weight()).sum();
    assert!(kept <= GATHERED_BYTES_MAX);
    assert!(repaired(&mut watch, history(4..=4, 4, "e")).unwrap().lost);
}

/// One thing that happens to a channel.
#[derive(Debug, Clone)]
enum Happens {
    Publish { announced: bool, told: bool, twice: bool },
    ReadBegins,
    ReadEnds { fails: bool },
    Trim,
    NewLife,
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        6 => (prop::bool::weighted(0.7), any::<bool>(), prop::bool::weighted(0.1))
            .prop_map(|(announced, told, twice)| Happens::Publish { announced, told, twice }),
        3 => Just(Happens::ReadBegins),
        3 => prop::bool::weighted(0.2).prop_map(|fails| Happens::ReadEnds { fails }),
        1 => Just(Happens::Trim),
        1 => Just(Happens::NewLife),
    ]
}

/// A channel, what a node hears of it, and one follower by position.
struct Model {
    watch: Watch,
    top: StreamPosition,
    kept_from: u64,
    /// The read that is wanted, and what the one under way will answer.
    wanted: bool,
    under_way: Option<(Read, History)>,
    follower: Option<StreamPosition>,
}

impl Model {
    fn new() -> Self {
        let top = position(0, "0");
        let watch = Watch::new(top.clone(), None, Duration::from_secs(1), 0);
        Self { watch, follower: Some(top.clone()), top, kept_from: 1, wanted: false, under_way: None }
    }

    fn read_now(&mut self) {
        let read = self.watch.read(0);
        let from = self.kept_from.max(read.since.offset + 1);
        let publications = (from..=self.top.offset).map(publication).collect();
        self.under_way = Some((read, History { publications, top: self.top.clone() }));
        self.wanted = false;
    }

    fn hand_out(&mut self, broadcast: &Broadcast) {
        if broadcast.offset() == 0 {
            return;
        }
        if let Some(at) = &mut self.follower
            && recovery::advance(at, broadcast.offset(), &broadcast.epoch) == recovery::Step::Insufficient
        {
            self.follower = None;
        }
    }

    fn apply(&mut self, happens: &Happens) {
        match happens {
            Happens::Publish { announced, told, twice } => {
                self.top.offset += 1;
                for _ in 0..if *announced { 1 + usize::from(*twice) } else { 0 } {
                    match self.watch.hear(announcement(self.top.offset, self.top.epoch.as_str()), 0) {
                        Heard::Pass(broadcast) => self.hand_out(&broadcast),
                        Heard::Gap(_) => self.wanted = true,
                        Heard::Taken => {}
                    }
                }
                if !announced && *told {
                    self.wanted |= self.watch.doubt();
                }
            }
            Happens::ReadBegins if self.wanted => self.read_now(),
            Happens::ReadBegins => {}
            Happens::ReadEnds { fails } => self.end_read(*fails),
            Happens::Trim => self.kept_from = self.top.offset,
            Happens::NewLife => {
                let life: u64 = self.top.epoch.as_str().parse().unwrap();
                self.top = position(0, &(life + 1).to_string());
                self.kept_from = 1;
            }
        }
    }

    fn end_read(&mut self, fails: bool) {
        let Some((read, history)) = self.under_way.take() else { return };
        let answer = if fails { Err(EngineError::Unavailable("test".into())) } else { Ok(history) };
        match self.watch.repaired(&CHANNEL.into(), &read, answer, 0) {
            Some(repaired) => {
                if repaired.lost {
                    self.follower = None;
                }
                repaired.broadcasts.iter().for_each(|broadcast| self.hand_out(broadcast));
                self.wanted |= repaired.again;
            }
            None => self.wanted |= self.watch.take_due(RETRY_MS, 0),
        }
    }

    /// What is under way ends, and one periodic look follows.
    fn come_to_rest(&mut self) {
        self.finish_reads();
        self.wanted |= self.watch.take_due(1, 1);
        self.finish_reads();
    }

    fn finish_reads(&mut self) {
        for _ in 0..20 {
            self.end_read(false);
            if !self.wanted {
                return;
            }
            self.read_now();
        }
        panic!("the repair does not end");
    }
}

proptest! {
    /// Whatever is lost, told or not: in the end the follower is at the top, or was told. `advance` refuses holes, so that
    /// it got everything in between follows.
    #[test]
    fn inv_d4_a_follower_reaches_the_top_or_is_told(steps in prop::collection::vec(happens(), 1..60)) {
        let mut model = Model::new();
        for step in &steps {
            model.apply(step);
        }
        model.come_to_rest();
        if let Some(at) = &model.follower {
            prop_assert_eq!(at, &model.top);
        }
    }

    /// As long as history reaches back and the stream lives, followers are never told: every hole is filled.
    #[test]
    fn inv_d4_what_history_has_is_never_lost(
        steps in prop::collection::vec(
            happens().prop_filter("nothing is trimmed", |step| {
                !matches!(step, Happens::Trim | Happens::NewLife | Happens::ReadEnds { fails: true })
            }),
            1..60,
        )
    ) {
        let mut model = Model::new();
        for step in &steps {
            model.apply(step);
        }
        model.come_to_rest();
        prop_assert_eq!(model.follower, Some(model.top));
    }
}
