//! One deadline per connection, for many connections.
//!
//! A hashed wheel of [`SLOTS`] slots, each a doubly linked list through a table indexed by key: setting, moving and
//! cancelling a deadline are a few writes, and a connection costs one table row of 16 bytes. Deadlines beyond one
//! round of the wheel wait in the last slot and are put in again when it comes up.

use crate::time::{Millis, NEVER};

/// Slots of the wheel; with [`SLOT_MS`] a round is 32.8 s, longer than the usual ping interval.
const SLOTS: usize = 1024;
/// Deadlines fire up to this much late, never early.
const SLOT_MS: Millis = 32;
const NONE: u32 = u32::MAX;
const IDLE: u16 = u16::MAX;

#[derive(Clone, Copy)]
struct Node {
    deadline_low: u32,
    previous: u32,
    next: u32,
    slot: u16,
    deadline_high: u16,
}

impl Node {
    const EMPTY: Self = Self { deadline_low: 0, previous: NONE, next: NONE, slot: IDLE, deadline_high: 0 };

    fn deadline(&self) -> Millis {
        (Millis::from(self.deadline_high) << 32) | Millis::from(self.deadline_low)
    }

    fn set_deadline(&mut self, at: Millis) {
        // 48 bits of milliseconds are 8 900 years of uptime.
        self.deadline_low = (at & 0xffff_ffff) as u32;
        self.deadline_high = ((at >> 32) & 0xffff) as u16;
    }
}

/// Deadlines by key. Keys are small dense numbers, such as the slots of a slab.
pub(crate) struct TimerWheel {
    nodes: Vec<Node>,
    heads: Box<[u32; SLOTS]>,
    /// The next tick to be looked at; everything before has fired.
    tick: Millis,
    armed: usize,
}

impl TimerWheel {
    pub(crate) fn new(now: Millis) -> Self {
        Self { nodes: Vec::new(), heads: Box::new([NONE; SLOTS]), tick: now / SLOT_MS, armed: 0 }
    }

    /// Sets or moves the deadline of `key`; [`NEVER`] cancels.
    pub(crate) fn set(&mut self, key: u32, at: Millis) {
        let index = key as usize;
        if index >= self.nodes.len() {
            if at == NEVER {
                return;
            }
            self.nodes.resize(index + 1, Node::EMPTY);
        }
        if self.nodes[index].slot != IDLE {
            if self.nodes[index].deadline() == at {
                return;
            }
            self.unlink(key);
        }
        if at != NEVER {
            self.nodes[index].set_deadline(at);
            self.link(key, at);
        }
    }

    /// When [`TimerWheel::expire`] has something to do next, if ever.
    pub(crate) fn next_deadline(&self) -> Option<Millis> {
        if self.armed == 0 {
            return None;
        }
        (self.tick..self.tick + SLOTS as Millis)
            .find(|tick| self.heads[slot_of(*tick)] != NONE)
            .map(|tick| (tick + 1) * SLOT_MS)
    }

    /// Moves the keys whose deadline has come to `due`; they are no longer armed.
    pub(crate) fn expire(&mut self, now: Millis, due: &mut Vec<u32>) {
        let end = now / SLOT_MS;
        if self.armed == 0 {
            self.tick = self.tick.max(end);
            return;
        }
        // After a long pause one round is enough: every slot has been seen then.
        let last = end.min(self.tick + SLOTS as Millis);
        while self.tick < last {
            let slot = slot_of(self.tick);
            // Advanced first, so that what is put in again never lands in the slot being emptied.
            self.tick += 1;
            let mut key = std::mem::replace(&mut self.heads[slot], NONE);
            while key != NONE {
                let node = &mut self.nodes[key as usize];
                let (next, deadline) = (node.next, node.deadline());
                *node = Node::EMPTY;
                self.armed -= 1;
                if deadline <= now {
                    due.push(key);
                } else {
                    self.nodes[key as usize].set_deadline(deadline);
                    self.link(key, deadline);
                }
                key = next;
            }
        }
        self.tick = self.tick.max(end);
    }

    fn link(&mut self, key: u32, at: Millis) {
        // A deadline inside a slot fires when the slot is over, so never early.
        let tick = (at / SLOT_MS).clamp(self.tick, self.tick + SLOTS as Millis - 1);
        let slot = slot_of(tick);
        let head = self.heads[slot];
        let node = &mut self.nodes[key as usize];
        node.slot = slot as u16;
        node.previous = NONE;
        node.next = head;
        if head != NONE {
            self.nodes[head as usize].previous = key;
        }
        self.heads[slot] = key;
        self.armed += 1;
    }

    fn unlink(&mut self, key: u32) {
        let Node { previous, next, slot, .. } = self.nodes[key as usize];
        if previous == NONE {
            self.heads[slot as usize] = next;
        } else {
            self.nodes[previous as usize].next = next;
        }
        if next != NONE {
            self.nodes[next as usize].previous = previous;
        }
        self.nodes[key as usize] = Node::EMPTY;
        self.armed -= 1;
    }
}

fn slot_of(tick: Millis) -> usize {
    (tick % SLOTS as Millis) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn expire(wheel: &mut TimerWheel, now: Millis) -> Vec<u32> {
        let mut due = Vec::new();
        wheel.expire(now, &mut due);
        due.sort_unstable();
        due
    }

    #[test]
    fn a_deadline_fires_once_and_not_early() {
        let mut wheel = TimerWheel::new(1_000);
        wheel.set(3, 5_000);
        assert_eq!(expire(&mut wheel, 4_999), []);
        assert_eq!(expire(&mut wheel, 5_000 + SLOT_MS), [3]);
        assert_eq!(expire(&mut wheel, 60_000), []);
        assert_eq!(wheel.next_deadline(), None);
    }

    #[test]
    fn a_deadline_beyond_one_round_waits_its_time() {
        let mut wheel = TimerWheel::new(0);
        wheel.set(0, 100_000);
        let mut now = 0;
        while let Some(next) = wheel.next_deadline().filter(|next| *next <= 99_999) {
            assert!(next > now, "the wheel must make progress");
            now = next;
            assert_eq!(expire(&mut wheel, now), []);
        }
        assert_eq!(expire(&mut wheel, 100_000 + SLOT_MS), [0]);
    }

    #[test]
    fn a_row_is_sixteen_bytes() {
        assert_eq!(std::mem::size_of::<Node>(), 16);
    }

    proptest! {
        #[test]
        fn agrees_with_a_map(ops in proptest::collection::vec((0u32..20, 0u64..90_000, 0u64..3_000, any::<bool>()), 1..200)) {
            let mut wheel = TimerWheel::new(0);
            let mut model: BTreeMap<u32, Millis> = BTreeMap::new();
            let mut now = 0;
            for (key, ahead, pass, cancel) in ops {
                if cancel {
                    wheel.set(key, NEVER);
                    model.remove(&key);
                } else {
                    wheel.set(key, now + ahead);
                    model.insert(key, now + ahead);
                }
                now += pass;
                let due = expire(&mut wheel, now);
                for key in &due {
                    let at = model.remove(key);
                    prop_assert!(at.is_some_and(|at| at <= now), "fired {key} early or twice");
                }
                prop_assert!(model.values().all(|at| *at + SLOT_MS > now), "a deadline was missed at {now}: {model:?}");
            }
        }
    }
}
