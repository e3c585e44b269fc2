//! The frames of an HTTP/2 connection (RFC 9113 §4.1), watched from outside for floods of those that cost their sender
//! next to nothing: resets, pings, settings and their like. What a frame means is not looked at.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep};

/// Cheap frames of one connection in one [`WINDOW`].
const CHEAP_MAX: u32 = 1_000;
const WINDOW: Duration = Duration::from_secs(60);

/// What a client sends before its first frame: `PRI * HTTP/2.0` and so on.
const PREFACE_BYTES: usize = 24;
const HEAD_BYTES: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;

/// A frame that ends the connection, with the code ENHANCE_YOUR_CALM and no word on which streams were looked at.
pub(super) const CALM_DOWN: [u8; 17] = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0, 0, 0, 11];

/// What one HTTP/2 connection has sent and been sent so far.
#[derive(Debug)]
pub(super) struct FrameWatch {
    incoming: Frames,
    outgoing: Frames,
    cheap: u32,
    since: Instant,
    /// Until the preface has come.
    preface: Option<Pin<Box<Sleep>>>,
    pub(super) is_over: bool,
}

/// Progress through one direction.
#[derive(Debug, Default)]
struct Frames {
    /// Bytes to pass over: the rest of a payload, or the preface.
    skip: usize,
    head: [u8; HEAD_BYTES],
    /// How much of `head` has come.
    have: usize,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    len: usize,
    kind: u8,
    flags: u8,
}

// === impl FrameWatch ===

impl FrameWatch {
    pub(super) fn new(preface_timeout: Duration) -> Self {
        Self {
            incoming: Frames { skip: PREFACE_BYTES, ..Frames::default() },
            outgoing: Frames::default(),
            cheap: 0,
            since: Instant::now(),
            preface: Some(Box::pin(sleep(preface_timeout))),
            is_over: false,
        }
    }

    /// Looks at bytes of the client; whether they are too much.
    pub(super) fn read(&mut self, bytes: &[u8]) -> bool {
        let mut cheap = 0;
        self.incoming.feed(bytes, |head| cheap += u32::from(head.is_cheap()));
        if self.incoming.is_past_preface() {
            self.preface = None;
        }
        self.count(cheap)
    }

    /// Looks at bytes of ours: a client can have us reset streams as well as do it itself.
    pub(super) fn wrote(&mut self, bytes: &[u8]) {
        let mut cheap = 0;
        self.outgoing.feed(bytes, |head| cheap += u32::from(head.kind == RST_STREAM));
        self.count(cheap);
    }

    /// Whether a frame of ours may follow what is written.
    pub(super) fn is_between_frames(&self) -> bool {
        self.outgoing.skip == 0 && self.outgoing.have == 0
    }

    /// Ready when the preface has taken too long.
    pub(super) fn poll_preface(&mut self, context: &mut Context<'_>) -> Poll<()> {
        match &mut self.preface {
            Some(timeout) => timeout.as_mut().poll(context),
            None => Poll::Pending,
        }
    }

    fn count(&mut self, cheap: u32) -> bool {
        if cheap > 0 {
            let now = Instant::now();
            if now.duration_since(self.since) >= WINDOW {
                (self.cheap, self.since) = (0, now);
            }
            self.cheap = self.cheap.saturating_add(cheap);
        }
        self.cheap > CHEAP_MAX
    }
}

// === impl Frames ===

impl Frames {
    fn feed(&mut self, mut bytes: &[u8], mut seen: impl FnMut(Head)) {
        while !bytes.is_empty() {
            let passed = self.skip.min(bytes.len());
            self.skip -= passed;
            bytes = bytes.get(passed..).unwrap_or_default();
            let wanted = (HEAD_BYTES - self.have).min(bytes.len());
            let (part, rest) = bytes.split_at(wanted);
            if let Some(place) = self.head.get_mut(self.have..self.have + wanted) {
                place.copy_from_slice(part);
            }
            self.have += wanted;
            bytes = rest;
            if self.have == HEAD_BYTES {
                let [a, b, c, kind, flags, ..] = self.head;
                let len = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                (self.skip, self.have) = (len, 0);
                seen(Head { len, kind, flags });
            }
        }
    }

    /// Whether the first frame has begun.
    fn is_past_preface(&self) -> bool {
        self.skip == 0 || self.head != [0; HEAD_BYTES]
    }
}

// === impl Head ===

impl Head {
    /// Headers and data carry requests, which have limits of their own; windows open as fast as a client reads.
    fn is_cheap(self) -> bool {
        match self.kind {
            DATA => self.len == 0 && self.flags & END_STREAM == 0,
            HEADERS | WINDOW_UPDATE => false,
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let len = (payload.len() as u32).to_be_bytes();
        [&len[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    fn started() -> FrameWatch {
        let mut watch = FrameWatch::new(Duration::from_secs(5));
        watch.read(&[b'P'; PREFACE_BYTES]);
        watch
    }

    #[tokio::test(start_paused = true)]
    async fn bad_h2_cheap_frames_are_counted_however_they_are_cut() {
        let flood = [frame(6, 0, &[0; 8]), frame(3, 0, &[0; 4]), frame(4, 0, &[]), frame(0, 0, &[])].concat();
        for size in [1, 3, 7, 9, 1_000] {
            let mut watch = started();
            let whole = flood.repeat(250);
            assert!(!whole.chunks(size).any(|part| watch.read(part)), "1,000 are allowed");
            assert!(watch.read(&frame(6, 0, &[0; 8])), "one more is not");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn requests_and_windows_are_not_counted_and_a_minute_forgives() {
        let mut watch = started();
        let request = [frame(1, 4, &[1; 30]), frame(0, 0, &[6; 90]), frame(0, 1, &[]), frame(8, 0, &[0; 4])];
        assert!(!watch.read(&request.concat().repeat(10_000)));
        for _ in 0..5 {
            assert!(!watch.read(&frame(6, 0, &[0; 8]).repeat(1_000)));
            tokio::time::advance(WINDOW).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bad_h2_resets_of_ours_count_as_well() {
        let mut watch = started();
        assert!(watch.is_between_frames());
        watch.wrote(&frame(3, 0, &[0; 4]).repeat(1_001)[..13_012]);
        assert!(!watch.is_between_frames(), "a byte is missing");
        assert!(watch.read(&frame(1, 5, &[0])));
    }
}
