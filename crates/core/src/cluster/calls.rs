//! What this node has asked the others, and what it has been asked: each answer counted, nothing done twice.
//!
//! The bus loses messages, so who does not answer is asked once more. A node that gets the same request again does not do
//! it again, but repeats its answer.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use bytes::Bytes;
use futures_channel::oneshot;
use uuid::Uuid;

use super::message::Answer;
use crate::time::Millis;

/// When a node that has not answered is asked again. Calls are looked at once a second, so it may be as much later.
const ASK_AGAIN_MS: Millis = 1_000;
/// When waiting for answers ends.
const GIVE_UP_MS: Millis = 5_000;
/// Requests of others that are remembered, to recognise the same one again.
const REMEMBERED_MAX: usize = 4_096;

/// What came of asking the other nodes.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    pub(crate) answers: Vec<Answer>,
    /// Nodes that were there and did not answer.
    pub(crate) silent: usize,
}

struct Call {
    message: Bytes,
    waiting_for: BTreeSet<Uuid>,
    so_far: Answers,
    begun: Millis,
    asked_again: bool,
    done: oneshot::Sender<Answers>,
}

/// The requests of this node that wait for answers.
#[derive(Default)]
pub(super) struct Calls {
    last_id: u64,
    open: BTreeMap<u64, Call>,
}

impl Calls {
    /// Begins to wait for the answers of these nodes; `encode` makes the message of the request's id.
    pub(super) fn begin(
        &mut self,
        waiting_for: BTreeSet<Uuid>,
        now: Millis,
        encode: impl FnOnce(u64) -> Bytes,
    ) -> (Bytes, oneshot::Receiver<Answers>) {
        self.last_id += 1;
        let message = encode(self.last_id);
        let (done, answers) = oneshot::channel();
        let call = Call {
            message: message.clone(),
            waiting_for,
            so_far: Answers::default(),
            begun: now,
            asked_again: false,
            done,
        };
        self.open.insert(self.last_id, call);
        (message, answers)
    }

    /// A node has answered. An answer that nobody waits for is dropped.
    pub(super) fn answered(&mut self, from: Uuid, answer: Answer) {
        let id = answer.id;
        if let Some(call) = self.open.get_mut(&id)
            && call.waiting_for.remove(&from)
        {
            call.so_far.answers.push(answer);
            self.close_if(id, |call| call.waiting_for.is_empty());
        }
    }

    /// A node is not there any more; whoever waits for it need not.
    pub(super) fn gone(&mut self, node: Uuid) {
        let ids: Vec<u64> = self.open.keys().copied().collect();
        for id in ids {
            if let Some(call) = self.open.get_mut(&id)
                && call.waiting_for.remove(&node)
            {
                call.so_far.silent += 1;
                self.close_if(id, |call| call.waiting_for.is_empty());
            }
        }
    }

    /// Ends what has waited for too long; what is to be sent again, and to whom.
    pub(super) fn tick(&mut self, now: Millis) -> Vec<(Uuid, Bytes)> {
        let ids: Vec<u64> = self.open.keys().copied().collect();
        let mut again = Vec::new();
        for id in ids {
            self.close_if(id, |call| now >= call.begun + GIVE_UP_MS || call.done.is_canceled());
            if let Some(call) = self.open.get_mut(&id)
                && !call.asked_again
                && now >= call.begun + ASK_AGAIN_MS
            {
                call.asked_again = true;
                again.extend(call.waiting_for.iter().map(|node| (*node, call.message.clone())));
            }
        }
        again
    }

    fn close_if(&mut self, id: u64, over: impl FnOnce(&Call) -> bool) {
        if self.open.get(&id).is_some_and(over)
            && let Some(Call { mut so_far, waiting_for, done, .. }) = self.open.remove(&id)
        {
            so_far.silent += waiting_for.len();
            // A caller that no longer waits is no error.
            let _ = done.send(so_far);
        }
    }
}

/// What was done with a request before.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Seen {
    /// It is new.
    Never,
    /// It is being done.
    UnderWay,
    /// It was answered so.
    Answered(Answer),
}

/// The latest requests of other nodes.
#[derive(Default)]
pub(super) struct Handled {
    /// `None`: under way.
    answers: HashMap<(Uuid, u64), Option<Answer>>,
    order: VecDeque<(Uuid, u64)>,
}

impl Handled {
    /// Notes that a request has come, and says whether it had come before.
    pub(super) fn begin(&mut self, from: Uuid, id: u64) -> Seen {
        match self.answers.get(&(from, id)) {
            Some(Some(answer)) => return Seen::Answered(answer.clone()),
            Some(None) => return Seen::UnderWay,
            None => {}
        }
        if self.order.len() >= REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.answers.remove(&oldest);
        }
        self.order.push_back((from, id));
        self.answers.insert((from, id), None);
        Seen::Never
    }

    /// Keeps the answer, for the case that it gets lost.
    pub(super) fn answered(&mut self, from: Uuid, answer: &Answer) {
        if let Some(slot) = self.answers.get_mut(&(from, answer.id)) {
            *slot = Some(answer.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn node(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    fn answer(id: u64, connections: u64) -> Answer {
        Answer { id, connections, ..Default::default() }
    }

    fn result(receiver: oneshot::Receiver<Answers>) -> Option<(u64, usize)> {
        let answers = receiver.now_or_never()?.unwrap();
        Some((answers.answers.iter().map(|answer| answer.connections).sum(), answers.silent))
    }

    #[test]
    fn a_call_ends_with_the_last_answer_and_counts_each_node_once() {
        let mut calls = Calls::default();
        let (_, mut receiver) = calls.begin([node(1), node(2)].into(), 0, |_| Bytes::new());
        calls.answered(node(1), answer(1, 3));
        calls.answered(node(1), answer(1, 3));
        calls.answered(node(9), answer(1, 100));
        assert!((&mut receiver).now_or_never().is_none());
        calls.answered(node(2), answer(1, 4));
        assert_eq!(result(receiver), Some((7, 0)));
    }

    #[test]
    fn who_does_not_answer_is_asked_once_more_and_then_counted_as_silent() {
        let mut calls = Calls::default();
        let (message, receiver) = calls.begin([node(1), node(2)].into(), 0, |id| vec![id as u8].into());
        calls.answered(node(1), answer(1, 3));
        assert_eq!(calls.tick(999), []);
        assert_eq!(calls.tick(1_000), [(node(2), message)]);
        assert_eq!(calls.tick(4_999), []);
        assert_eq!(calls.tick(5_000), []);
        assert_eq!(result(receiver), Some((3, 1)));
    }

    #[test]
    fn a_node_that_goes_is_not_waited_for() {
        let mut calls = Calls::default();
        let (_, receiver) = calls.begin([node(1)].into(), 0, |_| Bytes::new());
        calls.gone(node(1));
        assert_eq!(result(receiver), Some((0, 1)));
    }

    #[test]
    fn the_same_request_is_done_once_and_its_answer_repeated() {
        let mut handled = Handled::default();
        assert_eq!(handled.begin(node(1), 7), Seen::Never);
        assert_eq!(handled.begin(node(1), 7), Seen::UnderWay);
        assert_eq!(handled.begin(node(2), 7), Seen::Never);
        handled.answered(node(1), &answer(7, 5));
        assert_eq!(handled.begin(node(1), 7), Seen::Answered(answer(7, 5)));
    }

    #[test]
    fn inv_b2_the_memory_of_requests_is_bounded() {
        let mut handled = Handled::default();
        for id in 0..10_000 {
            assert_eq!(handled.begin(node(1), id), Seen::Never);
        }
        assert_eq!((handled.answers.len(), handled.order.len()), (REMEMBERED_MAX, REMEMBERED_MAX));
        assert_eq!(handled.begin(node(1), 9_999), Seen::UnderWay);
    }
}
