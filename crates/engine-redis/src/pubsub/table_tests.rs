use super::*;

fn connected() -> Table {
    let mut table = Table::default();
    table.connected();
    table
}

fn wish(table: &mut Table, channel: &str, wanted: bool) -> oneshot::Receiver<Result<()>> {
    let (waiter, answer) = oneshot::channel();
    table.wish(&channel.into(), wanted, waiter);
    answer
}

fn is_answered(answer: &mut oneshot::Receiver<Result<()>>) -> bool {
    matches!(answer.try_recv(), Ok(Ok(())))
}

fn subscribed(table: &mut Table, channel: &str) {
    let mut answer = wish(table, channel, true);
    assert_eq!(table.wishes(10).subscribe, [channel.into()]);
    assert_eq!(table.confirmed(channel, true), Meaning::Settled);
    assert!(is_answered(&mut answer));
}

#[test]
fn a_wish_is_answered_once_redis_confirms_it() {
    let mut table = connected();
    let mut answer = wish(&mut table, "c", true);
    assert_eq!(table.wishes(10).subscribe, ["c".into()]);
    assert_eq!(table.wishes(10), Wishes::default());
    assert!(!is_answered(&mut answer));
    table.confirmed("c", true);
    assert!(is_answered(&mut answer));
    let mut again = wish(&mut table, "c", true);
    assert!(is_answered(&mut again));
    let mut end = wish(&mut table, "c", false);
    assert_eq!(table.find("c"), None);
    assert_eq!(table.wishes(10).unsubscribe, ["c".into()]);
    assert!(!is_answered(&mut end));
    table.confirmed("c", false);
    assert!(is_answered(&mut end));
    assert_eq!(table.len(), 0);
}

#[test]
fn a_wish_that_changes_before_it_is_asked_asks_nothing() {
    let mut table = connected();
    let mut first = wish(&mut table, "c", true);
    let mut second = wish(&mut table, "c", false);
    assert_eq!(table.wishes(10), Wishes::default());
    assert!(is_answered(&mut second));
    assert!(first.try_recv().is_err());
    assert_eq!(table.len(), 0);
}

#[test]
fn a_wish_that_changes_under_way_waits_for_the_last_confirmation() {
    let mut table = connected();
    let mut first = wish(&mut table, "c", true);
    assert_eq!(table.wishes(10).subscribe.len(), 1);
    let mut second = wish(&mut table, "c", false);
    assert_eq!(table.wishes(10).unsubscribe.len(), 1);
    let mut third = wish(&mut table, "c", true);
    table.confirmed("c", true);
    table.confirmed("c", false);
    assert!(!is_answered(&mut first) && !is_answered(&mut second) && !is_answered(&mut third));
    assert_eq!(table.wishes(10).subscribe.len(), 1);
    table.confirmed("c", true);
    assert!(is_answered(&mut first) && is_answered(&mut second) && is_answered(&mut third));
}

#[test]
fn batches_are_bounded() {
    let mut table = connected();
    let _answers: Vec<_> = (0..25).map(|n| wish(&mut table, &n.to_string(), true)).collect();
    let sizes: Vec<_> = (0..4).map(|_| table.wishes(10).subscribe.len()).collect();
    assert_eq!(sizes, [10, 10, 5, 0]);
}

#[test]
fn inv_d4_what_was_announced_before_a_break_is_lost_once_it_is_announced_again() {
    let mut table = connected();
    subscribed(&mut table, "old");
    let mut under_way = wish(&mut table, "new", true);
    table.wishes(10);
    table.disconnected();
    assert_eq!(table.wishes(10), Wishes::default());
    table.connected();
    let mut asked = table.wishes(10).subscribe;
    asked.sort();
    assert_eq!(asked, ["new".into(), "old".into()]);
    assert_eq!(table.confirmed("old", true), Meaning::Lost);
    assert_eq!(table.confirmed("new", true), Meaning::Settled);
    assert!(is_answered(&mut under_way));
    // A second break owes it again, a break in the middle does not forget it.
    table.disconnected();
    table.connected();
    table.wishes(10);
    table.disconnected();
    table.connected();
    table.wishes(10);
    assert_eq!(table.confirmed("old", true), Meaning::Lost);
    assert_eq!(table.confirmed("new", true), Meaning::Lost);
}

#[test]
fn a_wish_to_stop_is_fulfilled_by_a_break() {
    let mut table = connected();
    subscribed(&mut table, "c");
    let mut end = wish(&mut table, "c", false);
    table.wishes(10);
    table.disconnected();
    assert!(is_answered(&mut end));
    let mut never = wish(&mut table, "other", false);
    assert!(is_answered(&mut never));
    assert_eq!(table.len(), 0);
}

#[test]
fn a_refusal_reaches_who_waits_and_is_not_repeated() {
    let mut table = connected();
    let mut answer = wish(&mut table, "c", true);
    table.wishes(10);
    table.refused(&"c".into(), &Error::Server("NOPERM no".into()));
    assert!(matches!(answer.try_recv(), Ok(Err(Error::Server(_)))));
    table.disconnected();
    table.connected();
    assert_eq!(table.wishes(10), Wishes::default());
}

#[test]
fn inv_d4_a_channel_that_moves_to_another_server_is_lost_there() {
    let (mut from, mut to) = (connected(), connected());
    subscribed(&mut from, "stays");
    subscribed(&mut from, "moves");
    assert_eq!(from.confirmed("moves", false), Meaning::Misplaced);
    let mut waiting = wish(&mut from, "moves", true);
    // Not asked for here again before it is known where it belongs.
    assert_eq!(from.wishes(10), Wishes::default());
    for moving in from.move_out(|channel| channel.as_str() == "moves") {
        to.move_in(moving);
    }
    assert_eq!((from.find("moves"), from.len()), (None, 1));
    assert_eq!(to.wishes(10).subscribe, ["moves".into()]);
    assert_eq!(to.confirmed("moves", true), Meaning::Lost);
    assert!(is_answered(&mut waiting));
}

#[test]
fn a_channel_thought_misplaced_that_belongs_here_is_asked_for_again() {
    let mut table = connected();
    subscribed(&mut table, "c");
    assert_eq!(table.confirmed("c", false), Meaning::Misplaced);
    assert!(table.move_out(|_| false).is_empty());
    assert_eq!(table.wishes(10).subscribe, ["c".into()]);
    assert_eq!(table.confirmed("c", true), Meaning::Lost);
}

#[test]
fn a_channel_that_moves_while_it_is_announced_is_stopped_where_it_was() {
    let (mut from, mut to) = (connected(), connected());
    subscribed(&mut from, "c");
    for moving in from.move_out(|_| true) {
        to.move_in(moving);
    }
    assert_eq!(from.wishes(10).unsubscribe, ["c".into()]);
    assert_eq!(from.confirmed("c", false), Meaning::Settled);
    assert_eq!(from.len(), 0);
    to.wishes(10);
    assert_eq!(to.confirmed("c", true), Meaning::Lost);
}

#[test]
fn what_was_announced_and_is_refused_after_a_reconnect_is_asked_for_again_and_told_as_lost() {
    let mut table = connected();
    subscribed(&mut table, "c");
    table.disconnected();
    table.connected();
    assert_eq!(table.wishes(10).subscribe, ["c".into()]);
    table.refused(&"c".into(), &Error::Server("NOPERM".into()));
    assert_eq!(table.wishes(10), Wishes::default(), "not at once");
    table.ask_refused_again();
    assert_eq!(table.wishes(10).subscribe, ["c".into()]);
    assert_eq!(table.confirmed("c", true), Meaning::Lost);
}

#[test]
fn a_refused_channel_can_be_wished_anew_or_given_up() {
    let refused = || {
        let mut table = connected();
        subscribed(&mut table, "c");
        table.disconnected();
        table.connected();
        table.wishes(10);
        table.refused(&"c".into(), &Error::Server("NOPERM".into()));
        table
    };
    let mut table = refused();
    let mut end = wish(&mut table, "c", false);
    assert!(is_answered(&mut end));
    assert_eq!(table.len(), 0);

    let mut table = refused();
    let mut anew = wish(&mut table, "c", true);
    assert_eq!(table.wishes(10).subscribe, ["c".into()]);
    table.refused(&"c".into(), &Error::Server("NOPERM".into()));
    assert!(matches!(anew.try_recv(), Ok(Err(Error::Server(_)))), "who waits is told");
    assert_eq!(table.len(), 0);
}
