use proptest::prelude::*;

use super::*;

fn publication(offset: u64) -> Arc<Publication> {
    Arc::new(Publication { offset, ..Default::default() })
}

fn position(offset: u64, epoch: &str) -> StreamPosition {
    StreamPosition { offset, epoch: epoch.into() }
}

fn history(offsets: impl IntoIterator<Item = u64>, top: u64) -> History {
    History { publications: offsets.into_iter().map(publication).collect(), top: position(top, "e") }
}

fn buffer(offsets: impl IntoIterator<Item = u64>) -> Vec<Buffered> {
    offsets.into_iter().map(|o| Buffered { publication: publication(o), epoch: "e".into() }).collect()
}

fn offsets(joined: &Joined) -> Vec<u64> {
    joined.publications.iter().map(|p| p.offset).collect()
}

#[test]
fn inv_d1_missed_publications_come_with_the_reply() {
    let joined = join(&Resume::Stream(position(2, "e")), history([3, 4], 4), &[]).unwrap();
    assert!(joined.recovered);
    assert_eq!(offsets(&joined), [3, 4]);
    assert_eq!(joined.position, position(4, "e"));
}

#[test]
fn inv_d1_what_history_and_buffer_both_hold_is_delivered_once() {
    let joined = join(&Resume::Stream(position(2, "e")), history([3, 4], 4), &buffer([4, 5, 3, 6])).unwrap();
    assert_eq!(offsets(&joined), [3, 4, 5, 6]);
    assert_eq!(joined.position.offset, 6);
}

#[test]
fn inv_d1_a_hole_between_history_and_buffer_is_torn() {
    assert_eq!(join(&Resume::Stream(position(2, "e")), history([3], 3), &buffer([5])), Err(Torn));
    assert_eq!(join(&Resume::No, history([], 3), &buffer([4, 6])), Err(Torn));
}

#[test]
fn inv_d1_a_buffer_of_another_epoch_is_torn() {
    let mut other = buffer([4]);
    other[0].epoch = "f".into();
    assert_eq!(join(&Resume::No, history([], 3), &other), Err(Torn));
}

#[test]
fn inv_d2_trimmed_history_is_not_recovered() {
    let joined = join(&Resume::Stream(position(2, "e")), history([4, 5], 5), &[]).unwrap();
    assert_eq!((joined.recovered, offsets(&joined), joined.position.offset), (false, vec![], 5));
}

#[test]
fn inv_d2_history_cut_off_by_the_limit_is_not_recovered() {
    let joined = join(&Resume::Stream(position(2, "e")), history([3, 4], 9), &[]).unwrap();
    assert!(!joined.recovered);
    assert_eq!(joined.position.offset, 9);
}

#[test]
fn inv_d2_another_epoch_is_not_recovered_and_an_empty_one_matches_any() {
    assert!(!join(&Resume::Stream(position(3, "other")), history([], 3), &[]).unwrap().recovered);
    assert!(join(&Resume::Stream(position(3, "")), history([], 3), &[]).unwrap().recovered);
    assert!(join(&Resume::Stream(position(0, "")), history([1, 2], 2), &[]).unwrap().recovered);
}

#[test]
fn inv_d2_a_position_ahead_of_the_stream_is_not_recovered() {
    assert!(!join(&Resume::Stream(position(9, "e")), history([], 3), &[]).unwrap().recovered);
    assert!(!join(&Resume::Stream(position(u64::MAX, "e")), history([], 3), &[]).unwrap().recovered);
}

#[test]
fn a_fresh_subscriber_stands_after_what_was_buffered() {
    let joined = join(&Resume::No, history([], 3), &buffer([4, 5])).unwrap();
    assert_eq!((joined.recovered, offsets(&joined), joined.position.offset), (false, vec![], 5));
}

#[test]
fn cache_recovery_brings_the_newest_only() {
    let resume = |offset, epoch| Resume::Cache(position(offset, epoch));
    let at = |resume: Resume, history, buffered: &[Buffered]| {
        let joined = join(&resume, history, buffered).unwrap();
        (joined.recovered, offsets(&joined))
    };
    assert_eq!(at(resume(0, ""), history([7], 7), &[]), (true, vec![7]));
    assert_eq!(at(resume(7, "e"), history([7], 7), &[]), (true, vec![]));
    assert_eq!(at(resume(7, "f"), history([7], 7), &[]), (true, vec![7]));
    assert_eq!(at(resume(3, "e"), history([], 7), &[]), (false, vec![]), "expired history");
    assert_eq!(at(resume(7, "e"), history([], 7), &[]), (true, vec![]), "expired, but nothing was missed");
    assert_eq!(at(resume(0, ""), history([], 0), &[]), (false, vec![]), "never published");
    assert_eq!(at(resume(3, "e"), history([7], 7), &buffer([8, 9])), (true, vec![9]));
}

/// A stream as an engine keeps it, with trimming and epoch changes.
#[derive(Default)]
struct Stream {
    epoch: u32,
    top: u64,
    first: u64,
}

#[derive(Debug, Clone)]
enum Op {
    Publish,
    Trim(u64),
    NewEpoch,
    Register,
    Read,
    Finish,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => Just(Op::Publish),
        1 => (1u64..4).prop_map(Op::Trim),
        1 => Just(Op::NewEpoch),
        2 => Just(Op::Register),
        2 => Just(Op::Read),
        2 => Just(Op::Finish),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// One subscriber leaves at some point of the stream and comes back in the middle of publishes, trims and epoch
    /// changes, in any order of register, read and finish. Whatever it is told must be true.
    #[test]
    fn inv_d1_inv_d2_recovery_never_loses_or_doubles_without_saying_so(
        before in 0u64..6,
        ops in proptest::collection::vec(op(), 1..40),
        limit in prop_oneof![Just(0usize), 1usize..6],
    ) {
        let mut stream = Stream { epoch: 1, top: before, first: 1 };
        let since = position(before, "1");
        let mut buffered: Option<Vec<Buffered>> = None;
        let mut read: Option<History> = None;
        for op in ops.into_iter().chain([Op::Register, Op::Read, Op::Finish]) {
            match op {
                Op::Publish => {
                    stream.top += 1;
                    if let Some(buffered) = &mut buffered {
                        let epoch = Epoch::from(stream.epoch.to_string());
                        buffered.push(Buffered { publication: publication(stream.top), epoch });
                    }
                }
                Op::Trim(keep) => stream.first = stream.first.max((stream.top + 1).saturating_sub(keep)),
                Op::NewEpoch => stream = Stream { epoch: stream.epoch + 1, top: 0, first: 1 },
                Op::Register => { buffered.get_or_insert_default(); }
                Op::Read if buffered.is_some() && read.is_none() => {
                    let all = (since.offset + 1).max(stream.first)..=stream.top;
                    let kept = all.take(if limit == 0 { usize::MAX } else { limit }).map(publication).collect();
                    read = Some(History { publications: kept, top: position(stream.top, &stream.epoch.to_string()) });
                }
                Op::Read => {}
                Op::Finish => {
                    let (Some(buffer), Some(history)) = (&buffered, read.take()) else { continue };
                    let Ok(joined) = join(&Resume::Stream(since.clone()), history, buffer) else {
                        return Ok(()); // told: insufficient state
                    };
                    let epoch = Epoch::from(stream.epoch.to_string());
                    // The live subscription either stands where the stream does or will notice at the next publication.
                    let mut position = joined.position.clone();
                    let step = advance(&mut position, stream.top + 1, &epoch);
                    if joined.recovered {
                        let expected: Vec<u64> = (since.offset + 1..=joined.position.offset).collect();
                        prop_assert_eq!(offsets(&joined), expected);
                        prop_assert_eq!(joined.position.epoch.as_str(), "1");
                    } else {
                        prop_assert_eq!(joined.publications.len(), 0);
                    }
                    if joined.position.epoch == epoch && buffer.iter().all(|b| b.epoch == epoch) {
                        prop_assert_eq!(joined.position.offset, stream.top);
                        prop_assert_eq!(step, Step::Deliver);
                    } else {
                        prop_assert_eq!(step, Step::Insufficient);
                    }
                    return Ok(());
                }
            }
        }
    }
}
