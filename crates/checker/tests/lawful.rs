//! Random runs of a small lawful server give no violation; the same runs with one fault in them do.

use std::collections::VecDeque;

use proptest::prelude::*;
use tidewire_checker::{
    Audience, Checker, Delivery, Event, Kind, Mode, PayloadId, Position, Report, SubscriptionKey,
};

const READERS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Publish { publisher: u32, acknowledged: bool },
    Deliver { reader: usize },
    Cut { reader: usize },
    Resubscribe { reader: usize, asks_recovery: bool },
    InsufficientState { reader: usize },
    Trim { keep: usize },
    NewEpoch,
}

fn step() -> impl Strategy<Value = Step> {
    let reader = 0..READERS;
    prop_oneof![
        8 => (1..4_u32, any::<bool>()).prop_map(|(publisher, acknowledged)| Step::Publish { publisher, acknowledged }),
        12 => reader.clone().prop_map(|reader| Step::Deliver { reader }),
        1 => reader.clone().prop_map(|reader| Step::Cut { reader }),
        3 => (reader.clone(), any::<bool>())
            .prop_map(|(reader, asks_recovery)| Step::Resubscribe { reader, asks_recovery }),
        1 => reader.prop_map(|reader| Step::InsufficientState { reader }),
        1 => (0..4_usize).prop_map(|keep| Step::Trim { keep }),
        1 => Just(Step::NewEpoch),
    ]
}

/// What is done to one live delivery of a reader, by how many deliveries come before it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Drop,
    Repeat,
    Alter,
}

struct Reader {
    key: SubscriptionKey,
    live: bool,
    position: Option<Position>,
    pipe: VecDeque<Delivery>,
}

/// One channel of a server that keeps its promises, and the checker that watches.
struct Server {
    checker: Checker,
    channel: tidewire_checker::ChannelKey,
    epoch: u32,
    top: u64,
    history: Vec<Delivery>,
    sequence: u64,
    readers: Vec<Reader>,
    fault: Option<(Fault, usize)>,
    delivered: usize,
    happened: bool,
}

impl Server {
    fn new(fault: Option<(Fault, usize)>) -> Self {
        let mut checker = Checker::new();
        let channel = checker.channel("c");
        let reader = |n| Reader {
            key: checker.subscription(channel, n as u32, Mode::Positioned),
            live: false,
            position: None,
            pipe: VecDeque::new(),
        };
        let readers = (0..READERS).map(reader).collect();
        Self {
            checker,
            channel,
            epoch: 0,
            top: 0,
            history: Vec::new(),
            sequence: 0,
            readers,
            fault,
            delivered: 0,
            happened: false,
        }
    }

    fn run(mut self, steps: &[Step]) -> (Report, bool) {
        for reader in 0..READERS {
            self.resubscribe(reader, false);
        }
        for step in steps {
            match *step {
                Step::Publish { publisher, acknowledged } => self.publish(publisher, acknowledged),
                Step::Deliver { reader } => self.deliver(reader),
                Step::Cut { reader } => self.down(reader, Event::Disconnected { code: 0 }),
                Step::InsufficientState { reader } => self.down(reader, Event::Unsubscribed { code: 2500 }),
                Step::Resubscribe { reader, asks_recovery } => self.resubscribe(reader, asks_recovery),
                Step::Trim { keep } => self.trim(keep),
                Step::NewEpoch => self.new_epoch(),
            }
        }
        for reader in 0..READERS {
            self.resubscribe(reader, true);
            while !self.readers[reader].pipe.is_empty() {
                self.deliver(reader);
            }
        }
        let head = self.position();
        (self.checker.finish([(self.channel, head)]), self.happened)
    }

    fn position(&self) -> Position {
        Position::new(&self.epoch.to_string(), self.top)
    }

    fn publish(&mut self, publisher: u32, acknowledged: bool) {
        self.sequence += 1;
        self.top += 1;
        let id = PayloadId { publisher, sequence: self.sequence };
        let delivery = Delivery::new(self.top, id);
        self.checker.published(self.channel, id, Audience::Channel);
        if acknowledged {
            self.checker.acknowledged(self.channel, id, Some(self.position()));
        }
        self.history.push(delivery);
        for reader in self.readers.iter_mut().filter(|reader| reader.live) {
            reader.pipe.push_back(delivery);
        }
    }

    fn deliver(&mut self, reader: usize) {
        let reader = &mut self.readers[reader];
        let Some(delivery) = reader.pipe.pop_front() else { return };
        if let Some(position) = &mut reader.position {
            position.offset = delivery.offset;
        }
        self.delivered += 1;
        let fault = self.fault.filter(|(_, at)| *at == self.delivered).map(|(fault, _)| fault);
        self.happened |= fault.is_some();
        let altered = Delivery { id: Some(PayloadId { publisher: 0, sequence: 0 }), ..delivery };
        let arrivals = match fault {
            None => vec![delivery],
            Some(Fault::Drop) => vec![],
            Some(Fault::Repeat) => vec![delivery, delivery],
            Some(Fault::Alter) => vec![altered],
        };
        for arrival in arrivals {
            self.checker.observe(reader.key, Event::Publication(arrival));
        }
    }

    fn down(&mut self, reader: usize, event: Event) {
        let reader = &mut self.readers[reader];
        if reader.live {
            reader.live = false;
            reader.pipe.clear();
            self.checker.observe(reader.key, event);
        }
    }

    fn resubscribe(&mut self, reader: usize, asks_recovery: bool) {
        let top = self.position();
        let reader = &mut self.readers[reader];
        if reader.live {
            return;
        }
        let event = match reader.position.clone().filter(|_| asks_recovery) {
            None => Event::subscribed_at(top.clone()),
            Some(since) => {
                let missed: Vec<_> =
                    self.history.iter().filter(|kept| kept.offset > since.offset).copied().collect();
                let continuous = since.offset + missed.len() as u64 == top.offset;
                if since.epoch == top.epoch && continuous {
                    Event::recovered_from(since, missed)
                } else {
                    Event::not_recovered(top.clone())
                }
            }
        };
        reader.live = true;
        reader.position = Some(top);
        self.checker.observe(reader.key, event);
    }

    fn trim(&mut self, keep: usize) {
        let surplus = self.history.len().saturating_sub(keep);
        self.history.drain(..surplus);
    }

    /// The stream is lost; whoever is connected finds out and is told.
    fn new_epoch(&mut self) {
        self.epoch += 1;
        self.top = 0;
        self.history.clear();
        for reader in 0..READERS {
            self.down(reader, Event::Unsubscribed { code: 2500 });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn inv_d1_inv_d2_inv_d3_lawful_runs_are_clean(steps in proptest::collection::vec(step(), 0..200)) {
        let (report, _) = Server::new(None).run(&steps);
        prop_assert!(report.is_clean(), "{}", report);
        prop_assert_eq!(report.unjudged, 0);
    }

    /// A single fault is found, unless the client was told to reload before it could have noticed.
    #[test]
    fn inv_d1_one_fault_in_a_lawful_run_is_found(
        steps in proptest::collection::vec(step(), 50..200),
        fault in prop_oneof![Just(Fault::Drop), Just(Fault::Repeat), Just(Fault::Alter)],
        at in 1..40_usize,
    ) {
        let (report, happened) = Server::new(Some((fault, at))).run(&steps);
        let kind = match fault {
            Fault::Drop => Kind::Lost,
            Fault::Repeat => Kind::Duplicated,
            Fault::Alter => Kind::Corrupted,
        };
        let found: u64 = Kind::ALL.iter().map(|kind| report.count(*kind)).sum();
        let told = fault == Fault::Drop && report.told.resets > 0;
        // A client that recovers right after a dropped delivery sees its hole in the recovery instead.
        let in_recovery = fault == Fault::Drop && report.count(Kind::WronglyRecovered) == found;
        prop_assert_eq!(found, u64::from(happened && !(told && found == 0)), "{}", &report);
        prop_assert!(report.count(kind) == found || in_recovery, "{}", &report);
    }
}
