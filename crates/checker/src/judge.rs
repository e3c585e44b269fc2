//! One subscription, judged event by event.

use crate::ledger::{ChannelKey, EpochKey, Ledger, Standing};
use crate::report::{Kind, Report, Violation};
use crate::{Delivery, Event, Mode, PayloadId, Position};

/// Gaps that wait for a late arrival or for word of what was in them. Beyond, the oldest is judged by what is known.
const HOLES_MAX: usize = 64;

/// How far back a repetition of a publication without offset is noticed, in sequences of its publisher.
const WINDOW: u64 = 64;

/// The view of one client on one channel, across its reconnects. A client that forgets its position and starts anew is
/// a new subscription.
#[derive(Debug)]
pub struct SubscriptionJudge {
    channel: ChannelKey,
    subscriber: u32,
    mode: Mode,
    live: bool,
    position: Option<(EpochKey, u64)>,
    // Only of the epoch of `position`.
    holes: Vec<Hole>,
    // By publisher, sorted; only of publications without offset.
    lanes: Vec<Lane>,
}

/// Offsets that were passed over.
#[derive(Debug, Clone, Copy)]
struct Hole {
    first: u64,
    last: u64,
    kind: Kind,
    why: &'static str,
}

/// What came from one publisher without offsets.
#[derive(Debug)]
struct Lane {
    publisher: u32,
    last: u64,
    // Bit n: sequence `last - n` has come.
    seen: u64,
    // What had been answered before the newest arrival was sent: none of that may come any more.
    settled: Option<u64>,
}

/// Where a publication was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Live,
    Recovery,
}

// === impl SubscriptionJudge ===

impl SubscriptionJudge {
    /// A subscription that has not happened yet. `subscriber` is the number that audiences know it by.
    pub fn new(channel: ChannelKey, subscriber: u32, mode: Mode) -> Self {
        Self { channel, subscriber, mode, live: false, position: None, holes: Vec::new(), lanes: Vec::new() }
    }

    /// Judges the next event. Publications must have been noted in the ledger before; acknowledgements may come later.
    pub fn observe(&mut self, event: Event, ledger: &mut Ledger, report: &mut Report) {
        match event {
            Event::Subscribed { position, was_recovering, recovered, publications } => {
                self.live = true;
                report.recoveries += u64::from(recovered);
                match (self.mode, position) {
                    (Mode::AtMostOnce, _) => {}
                    (_, Some(position)) if recovered => {
                        self.resume(&position, was_recovering, &publications, ledger, report);
                        return;
                    }
                    (_, Some(position)) => self.restart(&position, ledger, report),
                    (_, None) => {
                        let why = "subscribed without a position";
                        self.report(Kind::Corrupted, None, None, why, ledger, report);
                    }
                }
                if !publications.is_empty() {
                    let why = "publications in a reply that does not claim recovery";
                    self.report(Kind::WronglyRecovered, self.position, None, why, ledger, report);
                }
            }
            Event::Publication(delivery) => self.deliver(delivery, Source::Live, ledger, report),
            Event::Stray(Delivery { id, .. }) => {
                let why = "under the name of a channel that the client is not in";
                self.report(Kind::WrongRecipient, None, id, why, ledger, report);
            }
            Event::Unsubscribed { code } => {
                self.live = false;
                report.told.unsubscribed += u64::from(code >= 2500);
            }
            Event::Disconnected { .. } => {
                self.live = false;
                report.told.disconnected += 1;
            }
        }
    }

    /// Judges the end of the run. `head` is the end of the stream, read once everything had come to rest; without it a
    /// client that missed a change of epoch goes unnoticed. A subscription that is down is not judged further.
    pub fn finish(mut self, head: Option<&Position>, ledger: &mut Ledger, report: &mut Report) {
        report.subscriptions += 1;
        if let (true, Some((epoch, offset))) = (self.live, self.position) {
            let mut end = ledger.acknowledged_top(self.channel, epoch);
            match head.map(|head| (ledger.epoch(self.channel, &head.epoch), head.offset)) {
                Some((same, top)) if same == epoch => {
                    end = end.max(top);
                    if top < offset {
                        let why = "the stream ends before what was delivered";
                        self.report(Kind::Reordered, Some((epoch, top)), None, why, ledger, report);
                    }
                }
                // An epoch without a publication has lost nothing yet; the first one will tell.
                Some((_, 0)) | None => {}
                Some((other, top)) => {
                    let why = "live in an epoch that is over, and not told";
                    let violation = ledger.violation(Kind::Lost, self.channel, Some((other, 1)), None, why);
                    let subscriber = Some(self.subscriber);
                    report.violation(Violation { subscriber, publications: top, ..violation });
                }
            }
            self.pass_over(end, Kind::Lost, "never arrived", ledger, report);
        }
        self.settle(0, ledger, report);
    }

    /// Nothing is missing, says the reply. Where the client had been counts, not what the reply repeats.
    fn resume(
        &mut self,
        claimed: &Position,
        was_recovering: bool,
        publications: &[Delivery],
        ledger: &mut Ledger,
        report: &mut Report,
    ) {
        let claim = (ledger.epoch(self.channel, &claimed.epoch), claimed.offset);
        if !was_recovering {
            let why = "recovered without having tried";
            self.report(Kind::WronglyRecovered, Some(claim), None, why, ledger, report);
        }
        match self.position {
            Some((epoch, _)) if epoch == claim.0 => {}
            Some(_) => {
                let why = "recovered into another epoch";
                self.report(Kind::WronglyRecovered, Some(claim), None, why, ledger, report);
                self.settle(0, ledger, report);
                self.position = Some(claim);
            }
            None => self.position = Some(claim),
        }
        for &delivery in publications {
            self.deliver(delivery, Source::Recovery, ledger, report);
        }
        let why = "between where the client was and where recovery says it is";
        self.pass_over(claim.1, Kind::WronglyRecovered, why, ledger, report);
    }

    /// The subscription goes on from another place, and the client knows.
    fn restart(&mut self, position: &Position, ledger: &mut Ledger, report: &mut Report) {
        let start = (ledger.epoch(self.channel, &position.epoch), position.offset);
        if let Some((epoch, offset)) = self.position.filter(|was| *was != start) {
            let same_epoch = epoch == start.0;
            if same_epoch && start.1 < offset {
                let why = "the stream ends before what was delivered";
                self.report(Kind::Reordered, Some(start), None, why, ledger, report);
            }
            report.told.resets += 1;
            report.told.publications += if same_epoch { start.1.saturating_sub(offset) } else { 0 };
        }
        self.settle(0, ledger, report);
        self.position = Some(start);
    }

    fn deliver(&mut self, delivery: Delivery, source: Source, ledger: &mut Ledger, report: &mut Report) {
        report.deliveries += 1;
        let Delivery { offset, id } = delivery;
        let epoch =
            self.position.map(|(epoch, _)| epoch).filter(|_| self.mode != Mode::AtMostOnce && offset > 0);
        let place = epoch.map(|epoch| (epoch, offset));
        let known = self.judge_recipient(place, id, ledger, report);
        if !self.live {
            let why = "arrived while not subscribed";
            self.report(Kind::WrongRecipient, place, id, why, ledger, report);
            return;
        }
        match (place, known) {
            (Some((epoch, offset)), _) => {
                if let Some(id) = known {
                    ledger.place(self.channel, epoch, offset, id, Some(self.subscriber), report);
                }
                self.advance(offset, id, source, ledger, report);
            }
            (None, Some(id)) => self.judge_sequence(id, ledger, report),
            (None, None) => {}
        }
    }

    /// Whether the payload is one of this channel and for this subscriber. Returns the id if it is one of this channel.
    fn judge_recipient(
        &self,
        place: Option<(EpochKey, u64)>,
        id: Option<PayloadId>,
        ledger: &Ledger,
        report: &mut Report,
    ) -> Option<PayloadId> {
        let standing = id.map_or(Standing::Unknown, |id| ledger.standing(self.channel, id, self.subscriber));
        let (kind, why) = match standing {
            Standing::Intended => return id,
            Standing::ForOthers => (Kind::WrongRecipient, "meant for others"),
            Standing::OtherChannel => (Kind::WrongRecipient, "published in another channel"),
            Standing::Unknown => (Kind::Corrupted, "nobody published this"),
        };
        self.report(kind, place, id, why, ledger, report);
        id.filter(|_| standing == Standing::ForOthers)
    }

    /// Moves the position to an arrival, or finds that it was passed already.
    fn advance(
        &mut self,
        arrived: u64,
        id: Option<PayloadId>,
        source: Source,
        ledger: &Ledger,
        report: &mut Report,
    ) {
        let Some((epoch, offset)) = self.position else { return };
        if arrived > offset {
            let (kind, why) = match source {
                Source::Live => (Kind::Lost, "passed over without a word"),
                Source::Recovery => (Kind::WronglyRecovered, "missing in a recovery"),
            };
            self.pass_over(arrived - 1, kind, why, ledger, report);
            self.position = Some((epoch, arrived));
        } else if self.fill_hole(arrived) {
            let why = "arrived after a later one";
            self.report(Kind::Reordered, Some((epoch, arrived)), id, why, ledger, report);
        } else {
            let why = "arrived again";
            self.report(Kind::Duplicated, Some((epoch, arrived)), id, why, ledger, report);
        }
    }

    /// Moves the position up to `last` (not back), leaving a hole.
    fn pass_over(&mut self, last: u64, kind: Kind, why: &'static str, ledger: &Ledger, report: &mut Report) {
        let Some((epoch, offset)) = self.position.filter(|(_, offset)| *offset < last) else { return };
        self.holes.push(Hole { first: offset + 1, last, kind, why });
        self.position = Some((epoch, last));
        self.settle(HOLES_MAX, ledger, report);
    }

    /// Takes one offset out of the hole it is in. Returns whether there is one.
    fn fill_hole(&mut self, offset: u64) -> bool {
        let Some(index) = self.holes.iter().position(|hole| (hole.first..=hole.last).contains(&offset))
        else {
            return false;
        };
        let hole = self.holes.remove(index);
        let before = Hole { last: offset - 1, ..hole };
        let after = Hole { first: offset + 1, ..hole };
        let rest = [before, after].into_iter().filter(|hole| hole.first <= hole.last);
        self.holes.splice(index..index, rest);
        true
    }

    /// Judges the oldest holes until only `keep` are left.
    fn settle(&mut self, keep: usize, ledger: &Ledger, report: &mut Report) {
        let Some((epoch, _)) = self.position else { return };
        let surplus = self.holes.len().saturating_sub(keep);
        let settled: Vec<Hole> = self.holes.drain(..surplus).collect();
        for hole in settled {
            if self.mode == Mode::Filtered {
                self.judge_filtered(epoch, hole, ledger, report);
                continue;
            }
            let id = ledger.id_at(self.channel, epoch, hole.first);
            let place = Some((epoch, hole.first));
            let violation = ledger.violation(hole.kind, self.channel, place, id, hole.why);
            let publications = hole.last - hole.first + 1;
            report.violation(Violation { subscriber: Some(self.subscriber), publications, ..violation });
        }
    }

    /// With a filter only those count that should have passed it.
    fn judge_filtered(&self, epoch: EpochKey, hole: Hole, ledger: &Ledger, report: &mut Report) {
        let known = ledger.ids_between(self.channel, epoch, hole.first, hole.last);
        let mut unknown = hole.last - hole.first + 1;
        for (offset, id) in known {
            unknown -= 1;
            if ledger.standing(self.channel, id, self.subscriber) == Standing::Intended {
                self.report(hole.kind, Some((epoch, offset)), Some(id), hole.why, ledger, report);
            }
        }
        report.unjudged += unknown;
    }

    /// Without offsets the publisher's own sequence must rise.
    fn judge_sequence(&mut self, id: PayloadId, ledger: &Ledger, report: &mut Report) {
        let index = match self.lanes.binary_search_by_key(&id.publisher, |lane| lane.publisher) {
            Ok(index) => index,
            Err(index) => {
                self.lanes.insert(index, Lane { publisher: id.publisher, last: 0, seen: 0, settled: None });
                index
            }
        };
        let lane = &mut self.lanes[index];
        let is_late = lane.settled >= Some(id.sequence) && ledger.is_acknowledged(self.channel, id);
        lane.settled = lane.settled.max(ledger.settled_before(self.channel, id));
        if lane.is_repeated(id.sequence) {
            self.report(Kind::Duplicated, None, Some(id), "arrived again", ledger, report);
        } else if is_late {
            let why = "arrived after what was sent when it had been answered";
            self.report(Kind::Reordered, None, Some(id), why, ledger, report);
        }
    }

    fn report(
        &self,
        kind: Kind,
        place: Option<(EpochKey, u64)>,
        id: Option<PayloadId>,
        why: &'static str,
        ledger: &Ledger,
        report: &mut Report,
    ) {
        let violation = ledger.violation(kind, self.channel, place, id, why);
        report.violation(Violation { subscriber: Some(self.subscriber), ..violation });
    }
}

// === impl Lane ===

impl Lane {
    /// Whether the sequence has come before; notes it. Further back than the window nobody remembers.
    fn is_repeated(&mut self, sequence: u64) -> bool {
        if sequence > self.last {
            let ahead = sequence - self.last;
            self.seen = if ahead < WINDOW { self.seen << ahead } else { 0 };
            self.last = sequence;
        }
        let behind = self.last - sequence;
        let bit = if behind < WINDOW { 1 << behind } else { 0 };
        let repeated = self.seen & bit != 0;
        self.seen |= bit;
        repeated
    }
}
