//! Every kind of violation is planted once and found, as what it is and nothing else.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidewire_checker::{
    Audience, ChannelKey, Checker, Delivery, Event, Kind, Mode, PayloadId, Position, Report, SubscriptionKey,
    Told,
};

fn at(offset: u64) -> Position {
    Position::new("epoch", offset)
}

fn id(sequence: u64) -> PayloadId {
    PayloadId { publisher: 1, sequence }
}

/// The publication that stands at `offset` in all these runs.
fn of(offset: u64) -> Delivery {
    Delivery::new(offset, id(offset))
}

struct Run {
    checker: Checker,
    channel: ChannelKey,
    reader: SubscriptionKey,
}

impl Run {
    /// `count` publications, acknowledged at 1, 2, 3…, and one reader that subscribed before them.
    fn of(count: u64, mode: Mode) -> Self {
        let mut checker = Checker::new();
        let channel = checker.channel("c");
        for sequence in 1..=count {
            checker.published(channel, id(sequence), Audience::Channel);
            checker.acknowledged(channel, id(sequence), Some(at(sequence)));
        }
        let reader = checker.subscription(channel, 7, mode);
        let mut run = Self { checker, channel, reader };
        run.event(Event::subscribed_at(at(0)));
        run
    }

    fn event(&mut self, event: Event) -> &mut Self {
        self.checker.observe(self.reader, event);
        self
    }

    fn get(&mut self, deliveries: impl IntoIterator<Item = Delivery>) -> &mut Self {
        for delivery in deliveries {
            self.event(Event::Publication(delivery));
        }
        self
    }

    fn finish(self, head: u64) -> Report {
        let channel = self.channel;
        self.checker.finish([(channel, at(head))])
    }
}

/// The report tells of this kind, so often, and of no other.
#[track_caller]
fn only(report: &Report, kind: Kind, count: u64) {
    let counts = Kind::ALL.map(|kind| (kind, report.count(kind)));
    let expected = Kind::ALL.map(|each| (each, if each == kind { count } else { 0 }));
    assert_eq!(counts, expected, "{report}");
    assert!(!report.is_clean() && report.to_string().contains(&report.violations()[0].to_string()));
}

#[test]
fn a_lawful_run_is_clean_and_counted() {
    let mut run = Run::of(3, Mode::Positioned);
    run.get([of(1), of(2), of(3)]);
    let report = run.finish(3);
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.published, report.acknowledged), (3, 3));
    assert_eq!((report.subscriptions, report.deliveries), (1, 3));
}

#[test]
fn inv_d1_a_gap_is_lost() {
    let mut run = Run::of(5, Mode::Positioned);
    run.get([of(1), of(4), of(5)]);
    let report = run.finish(5);
    only(&report, Kind::Lost, 2);
    let lost = &report.violations()[0];
    assert_eq!((lost.offset, lost.publications, lost.id, lost.subscriber), (2, 2, Some(id(2)), Some(7)));
}

#[test]
fn inv_d1_a_missing_end_is_lost_with_a_head_or_by_acknowledgement() {
    for head in [Some(3), None] {
        let mut run = Run::of(3, Mode::Positioned);
        run.get([of(1)]);
        let channel = run.channel;
        only(&run.checker.finish(head.map(|head| (channel, at(head)))), Kind::Lost, 2);
    }
}

#[test]
fn inv_d1_a_gap_over_an_unnoticed_reconnect_is_lost() {
    let mut run = Run::of(4, Mode::Positioned);
    run.get([of(1)]).event(Event::Disconnected { code: 0 });
    run.event(Event::recovered_from(at(1), vec![of(2)]));
    run.get([of(4)]);
    only(&run.finish(4), Kind::Lost, 1);
}

#[test]
fn inv_d1_a_client_left_behind_in_an_old_epoch_is_lost() {
    let mut run = Run::of(1, Mode::Positioned);
    run.get([of(1)]);
    let channel = run.channel;
    only(&run.checker.finish([(channel, Position::new("next", 2))]), Kind::Lost, 2);
}

#[test]
fn inv_d1_a_repeated_delivery_is_duplicated() {
    let mut run = Run::of(2, Mode::Positioned);
    run.get([of(1), of(2), of(1)]);
    only(&run.finish(2), Kind::Duplicated, 1);
}

#[test]
fn inv_d1_a_recovery_that_repeats_is_duplicated() {
    let mut run = Run::of(3, Mode::Positioned);
    run.get([of(1), of(2)]).event(Event::recovered_from(at(1), vec![of(2), of(3)]));
    only(&run.finish(3), Kind::Duplicated, 1);
}

#[test]
fn inv_d5_one_publish_at_two_offsets_is_duplicated() {
    let mut run = Run::of(1, Mode::Positioned);
    run.get([of(1), Delivery::new(2, id(1))]);
    only(&run.finish(2), Kind::Duplicated, 1);
}

#[test]
fn inv_d3_a_late_delivery_is_reordered_and_not_lost() {
    let mut run = Run::of(4, Mode::Positioned);
    run.get([of(1), of(4), of(3), of(2)]);
    only(&run.finish(4), Kind::Reordered, 2);
}

#[test]
fn inv_d3_subscribers_that_disagree_are_reordered_even_without_acknowledgements() {
    let mut checker = Checker::new();
    let channel = checker.channel("c");
    for sequence in [1, 2] {
        checker.published(channel, id(sequence), Audience::Channel);
    }
    for (subscriber, ids) in [(1, [1, 2]), (2, [2, 1])] {
        let key = checker.subscription(channel, subscriber, Mode::Positioned);
        checker.observe(key, Event::subscribed_at(at(0)));
        for (offset, sequence) in [1, 2].into_iter().zip(ids) {
            checker.observe(key, Event::Publication(Delivery::new(offset, id(sequence))));
        }
    }
    let report = checker.finish([(channel, at(2))]);
    only(&report, Kind::Reordered, 2);
    assert_eq!(report.violations()[0].subscriber, Some(2));
}

#[test]
fn inv_d3_an_acknowledgement_that_disagrees_with_a_delivery_is_reordered() {
    let mut checker = Checker::new();
    let channel = checker.channel("c");
    let key = checker.subscription(channel, 1, Mode::Positioned);
    checker.observe(key, Event::subscribed_at(at(0)));
    for sequence in [1, 2] {
        checker.published(channel, id(sequence), Audience::Channel);
    }
    checker.observe(key, Event::Publication(Delivery::new(1, id(2))));
    checker.acknowledged(channel, id(1), Some(at(1)));
    let report = checker.finish([(channel, at(1))]);
    only(&report, Kind::Reordered, 1);
    assert_eq!(report.violations()[0].subscriber, None);
}

#[test]
fn inv_d3_a_stream_against_its_publishers_order_is_reordered() {
    let mut checker = Checker::new();
    let channel = checker.channel("c");
    for (sequence, offset) in [(1, 2), (2, 1)] {
        checker.published(channel, id(sequence), Audience::Channel);
        checker.acknowledged(channel, id(sequence), Some(at(offset)));
    }
    only(&checker.finish([]), Kind::Reordered, 1);
}

#[test]
fn publishes_at_the_same_time_may_stand_in_any_order() {
    let mut checker = Checker::new();
    let channel = checker.channel("c");
    for sequence in [1, 2] {
        checker.published(channel, id(sequence), Audience::Channel);
    }
    for (sequence, offset) in [(1, 2), (2, 1)] {
        checker.acknowledged(channel, id(sequence), Some(at(offset)));
    }
    assert!(checker.finish([]).is_clean());
}

#[test]
fn inv_d3_a_head_below_what_was_delivered_is_reordered() {
    let mut run = Run::of(0, Mode::Positioned);
    run.checker.published(run.channel, id(1), Audience::Channel);
    run.get([of(1)]);
    only(&run.finish(0), Kind::Reordered, 1);
    let mut run = Run::of(2, Mode::Positioned);
    run.get([of(1), of(2)]).event(Event::not_recovered(at(1)));
    run.get([of(2)]);
    only(&run.finish(2), Kind::Reordered, 1);
}

#[test]
fn a_payload_nobody_published_is_corrupted() {
    let mut run = Run::of(1, Mode::Positioned);
    run.get([of(1), Delivery::new(2, id(99))]);
    only(&run.finish(2), Kind::Corrupted, 1);
}

#[test]
fn a_payload_that_cannot_be_read_is_corrupted_and_not_lost() {
    let mut run = Run::of(2, Mode::Positioned);
    run.get([of(1), Delivery { offset: 2, id: None }]);
    only(&run.finish(2), Kind::Corrupted, 1);
}

#[test]
fn a_positioned_subscription_without_a_position_is_corrupted() {
    let mut run = Run::of(0, Mode::Positioned);
    run.event(Event::Subscribed {
        position: None,
        was_recovering: false,
        recovered: false,
        publications: Vec::new(),
    });
    only(&run.finish(0), Kind::Corrupted, 1);
}

#[test]
fn a_publication_of_another_channel_has_the_wrong_recipient() {
    let mut run = Run::of(0, Mode::AtMostOnce);
    let other = run.checker.channel("other");
    run.checker.published(other, id(1), Audience::Channel);
    run.get([Delivery::new(0, id(1))]);
    only(&run.finish(0), Kind::WrongRecipient, 1);
}

#[test]
fn a_publication_for_others_has_the_wrong_recipient() {
    let mut run = Run::of(0, Mode::Filtered);
    let others = Audience::Only(Arc::new(BTreeSet::from([8])));
    run.checker.published(run.channel, id(1), others);
    run.checker.acknowledged(run.channel, id(1), Some(at(1)));
    run.get([of(1)]);
    only(&run.finish(1), Kind::WrongRecipient, 1);
}

#[test]
fn a_delivery_after_unsubscribing_has_the_wrong_recipient() {
    for end in [Event::Unsubscribed { code: 0 }, Event::Disconnected { code: 3001 }] {
        let mut run = Run::of(2, Mode::Positioned);
        run.get([of(1)]).event(end).get([of(2)]);
        only(&run.finish(2), Kind::WrongRecipient, 1);
    }
}

#[test]
fn what_names_a_channel_that_the_client_is_not_in_has_the_wrong_recipient() {
    for mode in [Mode::Positioned, Mode::AtMostOnce] {
        let mut run = Run::of(2, mode);
        // It may even be one of the client's own channel, which is missing there then.
        run.get([of(1)]).event(Event::Stray(of(2))).get([of(2)]);
        only(&run.finish(2), Kind::WrongRecipient, 1);
    }
}

#[test]
fn inv_d2_a_recovery_with_a_hole_is_wrongly_claimed() {
    let mut run = Run::of(4, Mode::Positioned);
    run.get([of(1)]).event(Event::recovered_from(at(1), vec![of(2), of(4)]));
    only(&run.finish(4), Kind::WronglyRecovered, 1);
}

#[test]
fn inv_d2_a_recovery_that_starts_too_late_is_wrongly_claimed() {
    let mut run = Run::of(4, Mode::Positioned);
    run.get([of(1)]).event(Event::recovered_from(at(1), vec![of(3), of(4)]));
    only(&run.finish(4), Kind::WronglyRecovered, 1);
}

#[test]
fn inv_d2_a_recovery_that_claims_a_place_it_did_not_lead_to_is_wrongly_claimed() {
    let mut run = Run::of(4, Mode::Positioned);
    run.get([of(1)]).event(Event::recovered_from(at(4), Vec::new()));
    only(&run.finish(4), Kind::WronglyRecovered, 3);
}

#[test]
fn inv_d2_a_recovery_into_another_epoch_is_wrongly_claimed() {
    let mut run = Run::of(1, Mode::Positioned);
    run.get([of(1)]).event(Event::recovered_from(Position::new("next", 1), Vec::new()));
    let channel = run.channel;
    only(&run.checker.finish([(channel, Position::new("next", 1))]), Kind::WronglyRecovered, 1);
}

#[test]
fn inv_d2_publications_without_the_claim_or_a_claim_without_the_attempt_are_wrong() {
    for (was_recovering, recovered, publications) in [(true, false, vec![of(1)]), (false, true, vec![])] {
        let mut run = Run::of(1, Mode::Positioned);
        run.get([of(1)]);
        run.event(Event::Subscribed { position: Some(at(1)), was_recovering, recovered, publications });
        only(&run.finish(1), Kind::WronglyRecovered, 1);
    }
}

#[test]
fn losses_that_are_told_are_counted_apart() {
    let mut run = Run::of(9, Mode::Positioned);
    run.get([of(1)]).event(Event::Unsubscribed { code: 2500 });
    run.event(Event::not_recovered(at(3))).get([of(4)]);
    run.event(Event::Disconnected { code: 3000 }).event(Event::subscribed_at(at(9)));
    run.event(Event::not_recovered(Position::new("next", 0)));
    let channel = run.channel;
    let report = run.checker.finish([(channel, Position::new("next", 0))]);
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.told, Told { resets: 3, publications: 7, unsubscribed: 1, disconnected: 1 });
}

#[test]
fn whoever_is_gone_at_the_end_has_lost_nothing() {
    for end in [Event::Unsubscribed { code: 2000 }, Event::Disconnected { code: 0 }] {
        let mut run = Run::of(3, Mode::Positioned);
        run.get([of(1)]).event(end);
        assert!(run.finish(3).is_clean());
    }
}

#[test]
fn inv_d1_a_filtered_subscription_gets_what_is_meant_for_it() {
    let mut run = Run::of(0, Mode::Filtered);
    for sequence in 1..=6 {
        let audience = Audience::Only(Arc::new(BTreeSet::from([if sequence % 2 == 0 { 7 } else { 8 }])));
        run.checker.published(run.channel, id(sequence), audience);
        run.checker.acknowledged(run.channel, id(sequence), Some(at(sequence)));
    }
    run.get([of(2), of(6)]);
    let report = run.finish(8);
    only(&report, Kind::Lost, 1);
    assert_eq!((report.violations()[0].offset, report.unjudged), (4, 2));
}

#[test]
fn inv_d3_at_most_once_is_in_order_without_duplicates() {
    let without = |sequences: &[u64]| {
        let mut run = Run::of(300, Mode::AtMostOnce);
        run.get(sequences.iter().map(|&sequence| Delivery::new(0, id(sequence))));
        run.finish(300)
    };
    assert!(without(&[1, 2, 5, 200, 300]).is_clean());
    only(&without(&[1, 5, 5, 6]), Kind::Duplicated, 1);
    only(&without(&[5, 1, 6]), Kind::Reordered, 1);
    only(&without(&[5, 300, 4]), Kind::Reordered, 1);
}

#[test]
fn at_most_once_a_publish_that_was_given_up_may_come_late() {
    let mut checker = Checker::new();
    let channel = checker.channel("c");
    let key = checker.subscription(channel, 1, Mode::AtMostOnce);
    checker.observe(
        key,
        Event::Subscribed {
            position: None,
            was_recovering: false,
            recovered: false,
            publications: Vec::new(),
        },
    );
    checker.published(channel, id(1), Audience::Channel); // never answered
    for sequence in [2, 3] {
        checker.published(channel, id(sequence), Audience::Channel);
        checker.acknowledged(channel, id(sequence), None);
    }
    for sequence in [2, 3, 1] {
        checker.observe(key, Event::Publication(Delivery::new(0, id(sequence))));
    }
    assert!(checker.finish([]).is_clean());
}

#[test]
fn details_are_bounded_and_counts_are_not() {
    let mut run = Run::of(1, Mode::Positioned);
    run.get((0..1000).map(|_| of(1)));
    let mut report = run.finish(1);
    assert_eq!(report.count(Kind::Duplicated), 999);
    assert_eq!(report.violations().len(), tidewire_checker::VIOLATIONS_MAX);
    report.merge(report.clone());
    assert_eq!((report.count(Kind::Duplicated), report.violations().len()), (1998, 100));
}
