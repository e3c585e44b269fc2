//! The socket between a client and the node: bytes that are on their way, late, and perhaps never arrive.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tidewire_core::ConnectionKey;

use crate::draw::Draw;
use crate::fault::{Fault, FaultRates};
use crate::frames::FrameReader;

/// What happens to bytes handed to a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Passage {
    /// They arrive at this time.
    Arrive(Duration, Bytes),
    /// These arrive at this time, and then the socket ends at both sides.
    Cut(Duration, Bytes),
    /// They do not arrive, and nobody is told.
    Vanish,
}

/// One direction of a link. Bytes keep their order.
#[derive(Debug)]
pub(crate) struct Way {
    latency: Duration,
    last_at: Duration,
    sent: u64,
    /// After so many bytes the socket ends.
    cut_after: Option<u64>,
}

/// One socket, both its ends.
pub(crate) struct Link {
    pub(crate) client: usize,
    pub(crate) worker: usize,
    /// The node's end, while it has one.
    pub(crate) key: Option<ConnectionKey>,
    /// The client's end is open.
    pub(crate) client_open: bool,
    pub(crate) down: Way,
    pub(crate) up: Way,
    /// Bytes written by the node that the client has not read.
    pub(crate) unread: usize,
    /// Arrived, and not read.
    pub(crate) arrived: VecDeque<Bytes>,
    pub(crate) reader: FrameReader,
    /// Messages that wait until the node wants to read.
    pub(crate) held: VecDeque<Bytes>,
    /// Swallows everything.
    pub(crate) hole: bool,
    /// The node has begun to close it.
    pub(crate) closing: bool,
    pub(crate) close_sent: bool,
    /// Since when the node could not write although it had to.
    pub(crate) blocked_since: Option<Duration>,
    /// Drawn for each passage.
    draw: Draw,
    delay: f64,
}

impl Link {
    pub(crate) fn new(
        client: usize,
        worker: usize,
        rates: &FaultRates,
        troubled: bool,
        mut draw: Draw,
    ) -> Self {
        let latency = draw.millis(0, 40);
        let cut = |draw: &mut Draw| {
            let chance = if troubled { rates.chance(Fault::Cut).sqrt() / 2.0 } else { 0.0 };
            draw.chance(chance).then(|| {
                let longest = *draw.pick(&[30, 300, 3_000, 60_000]);
                draw.between(1, longest)
            })
        };
        let down_cut = cut(&mut draw);
        let up_cut = cut(&mut draw);
        let way = |cut_after| Way { latency, last_at: Duration::ZERO, sent: 0, cut_after };
        Self {
            client,
            worker,
            key: None,
            client_open: true,
            down: way(down_cut),
            up: way(up_cut),
            unread: 0,
            arrived: VecDeque::new(),
            reader: FrameReader::default(),
            held: VecDeque::new(),
            hole: false,
            closing: false,
            close_sent: false,
            blocked_since: None,
            delay: rates.chance(Fault::LinkDelay),
            draw,
        }
    }

    pub(crate) fn latency(&self) -> Duration {
        self.down.latency
    }

    /// Sends bytes to the client. Returns also whether they are late.
    pub(crate) fn send_down(&mut self, bytes: Bytes, now: Duration, troubled: bool) -> (Passage, bool) {
        self.unread += bytes.len();
        let late = self.lateness(troubled);
        let passage = match self.hole {
            true => Passage::Vanish,
            false => self.down.pass(bytes, now, late, troubled),
        };
        (passage, !late.is_zero())
    }

    /// Sends a message to the node; one that is cut does not arrive at all.
    pub(crate) fn send_up(&mut self, message: Bytes, now: Duration, troubled: bool) -> (Passage, bool) {
        let late = self.lateness(troubled);
        let passage = match self.hole {
            true => Passage::Vanish,
            false => self.up.pass(message, now, late, troubled),
        };
        (passage, !late.is_zero())
    }

    /// How much of what is to be written goes out at once.
    pub(crate) fn piece(&mut self, length: usize) -> usize {
        self.draw.between(1, length.max(1) as u64) as usize
    }

    /// Whether a fault of this probability strikes.
    pub(crate) fn strikes(&mut self, chance: f64) -> bool {
        self.draw.chance(chance)
    }

    /// A wait of this link's own.
    pub(crate) fn wait(&mut self, low_ms: u64, high_ms: u64) -> Duration {
        self.draw.millis(low_ms, high_ms)
    }

    fn lateness(&mut self, troubled: bool) -> Duration {
        if troubled && self.draw.chance(self.delay) {
            let longest = *self.draw.pick(&[5, 100, 2_500]);
            self.draw.millis(1, longest)
        } else {
            Duration::ZERO
        }
    }
}

impl Way {
    /// When the last byte on its way arrives.
    pub(crate) fn last_at(&self) -> Duration {
        self.last_at
    }

    fn pass(&mut self, bytes: Bytes, now: Duration, late: Duration, troubled: bool) -> Passage {
        let before = self.sent;
        self.sent += bytes.len() as u64;
        self.last_at = self.last_at.max(now + self.latency + late);
        match self.cut_after {
            Some(cut) if troubled && cut <= self.sent => {
                let kept = cut.saturating_sub(before).min(bytes.len() as u64) as usize;
                Passage::Cut(self.last_at, bytes.slice(..kept))
            }
            _ => Passage::Arrive(self.last_at, bytes),
        }
    }
}
