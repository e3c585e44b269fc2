//! Which connections have news for the driver, and in what order it hears of them.
//!
//! Two lines, served in turn: an answer to a client does not wait behind a broadcast to all the others, nor does a
//! broadcast starve among answers. What one connection is sent keeps its order, since that is its outbox's.

use std::collections::VecDeque;

/// Which line a connection stands in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Line {
    /// Something of its own: a reply, a ping, a reason to close.
    Answer,
    /// A broadcast.
    Broadcast,
}

/// The two lines.
#[derive(Default)]
pub(crate) struct Ready {
    answers: VecDeque<u32>,
    broadcasts: VecDeque<u32>,
    /// The line that is served next.
    broadcast_next: bool,
}

impl Ready {
    /// Lists a connection, which remembers in `listed` where it stands. One that is listed for a broadcast moves up for
    /// an answer; its old place counts for nothing then.
    pub(crate) fn list(&mut self, slot: u32, line: Line, listed: &mut Option<Line>) {
        let queue = match (line, *listed) {
            (_, Some(Line::Answer)) | (Line::Broadcast, Some(Line::Broadcast)) => return,
            (Line::Answer, _) => &mut self.answers,
            (Line::Broadcast, None) => &mut self.broadcasts,
        };
        *listed = Some(line);
        queue.push_back(slot);
    }

    /// The next place in either line. It counts only if the connection still says that it stands in that line.
    pub(crate) fn next(&mut self) -> Option<(u32, Line)> {
        let answer = |ready: &mut Self| ready.answers.pop_front().map(|slot| (slot, Line::Answer));
        let broadcast = |ready: &mut Self| ready.broadcasts.pop_front().map(|slot| (slot, Line::Broadcast));
        self.broadcast_next = !self.broadcast_next;
        match self.broadcast_next {
            true => answer(self).or_else(|| broadcast(self)),
            false => broadcast(self).or_else(|| answer(self)),
        }
    }

    /// Whether nobody stands anywhere: all that was listed has been taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.answers.is_empty() && self.broadcasts.is_empty()
    }

    /// Gives memory back after a crowd has left.
    pub(crate) fn shrink(&mut self) {
        self.answers.shrink_to_fit();
        self.broadcasts.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes whoever is next and still stands there.
    fn take(ready: &mut Ready, listed: &mut [Option<Line>]) -> Option<u32> {
        loop {
            let (slot, line) = ready.next()?;
            let listed = &mut listed[slot as usize];
            if *listed == Some(line) {
                *listed = None;
                return Some(slot);
            }
        }
    }

    #[test]
    fn an_answer_waits_for_one_broadcast_at_most() {
        let (mut ready, mut listed) = (Ready::default(), [None; 10]);
        for slot in 0..9 {
            ready.list(slot, Line::Broadcast, &mut listed[slot as usize]);
        }
        assert_eq!(take(&mut ready, &mut listed), Some(0));
        ready.list(9, Line::Answer, &mut listed[9]);
        let next = [take(&mut ready, &mut listed), take(&mut ready, &mut listed)];
        assert!(next.contains(&Some(9)), "{next:?}");
    }

    #[test]
    fn who_moves_up_is_heard_once() {
        let (mut ready, mut listed) = (Ready::default(), [None; 3]);
        for slot in 0..3 {
            ready.list(slot, Line::Broadcast, &mut listed[slot as usize]);
        }
        ready.list(2, Line::Answer, &mut listed[2]);
        ready.list(2, Line::Broadcast, &mut listed[2]);
        let mut taken: Vec<u32> = std::iter::from_fn(|| take(&mut ready, &mut listed)).collect();
        taken.sort_unstable();
        assert_eq!(taken, [0, 1, 2]);
        assert!(ready.is_empty());
    }

    #[test]
    fn a_broadcast_does_not_starve_among_answers() {
        let (mut ready, mut listed) = (Ready::default(), [None; 10]);
        ready.list(0, Line::Broadcast, &mut listed[0]);
        for slot in 1..10 {
            ready.list(slot, Line::Answer, &mut listed[slot as usize]);
        }
        let first: Vec<_> = (0..2).map(|_| take(&mut ready, &mut listed)).collect();
        assert!(first.contains(&Some(0)), "{first:?}");
    }
}
