//! Announcements on their way from the engine to the node, and which life of a stream a channel is in.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tidewire_engine::Announcements;
use tidewire_protocol::{ChannelName, ClientInfo, Epoch, Publication};

use super::lie::Liar;
use super::{LIFE, Manners};
use crate::draw::Draw;
use crate::env::Env;
use crate::fault::Fault;

/// One announcement.
#[derive(Clone)]
pub(super) enum Word {
    Publication(Arc<Publication>, Option<Epoch>, Option<Arc<Publication>>),
    Join(Arc<ClientInfo>),
    Leave(Arc<ClientInfo>),
}

#[derive(Default)]
struct Line {
    /// The number of the stream's life; 0: the first.
    life: u32,
    /// The node wants announcements.
    wanted: bool,
    waiting: VecDeque<Word>,
    /// When the last of `waiting` comes.
    last_at: Duration,
    silent_until: Duration,
    /// Kept back to be told after the next one.
    held: Option<Word>,
}

struct State {
    lines: BTreeMap<ChannelName, Line>,
    draw: Draw,
    liar: Liar,
}

/// Between the embedded engine and the node.
pub(super) struct Relay {
    env: Arc<Env>,
    sink: OnceLock<Arc<dyn Announcements>>,
    manners: Manners,
    state: Mutex<State>,
    me: std::sync::Weak<Self>,
}

impl Relay {
    pub(super) fn new(env: Arc<Env>, draw: Draw, manners: Manners) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            env,
            sink: OnceLock::new(),
            state: Mutex::new(State {
                lines: BTreeMap::new(),
                liar: Liar::new(manners.lie, draw.fork("lies")),
                draw,
            }),
            manners,
            me: me.clone(),
        })
    }

    pub(super) fn attach(&self, sink: Arc<dyn Announcements>) {
        let _ = self.sink.set(sink);
    }

    /// What the channel is called in the engine underneath.
    pub(super) fn life_of(&self, channel: &ChannelName) -> ChannelName {
        let state = self.state.lock();
        named(channel, state.lines.get(channel).map_or(0, |line| line.life))
    }

    /// Notes whether the node wants announcements of the channel; what it is called underneath.
    pub(super) fn want(&self, channel: &ChannelName, wanted: bool) -> ChannelName {
        let mut state = self.state.lock();
        let line = state.lines.entry(channel.clone()).or_default();
        line.wanted = wanted;
        named(channel, line.life)
    }

    pub(super) fn wanted(&self) -> Vec<ChannelName> {
        let state = self.state.lock();
        let wanted = state.lines.iter().filter(|(_, line)| line.wanted);
        wanted.map(|(channel, _)| channel.clone()).collect()
    }

    /// The old name, the new name, and whether announcements are wanted.
    pub(super) fn begin_life(&self, channel: &ChannelName) -> (ChannelName, ChannelName, bool) {
        let mut state = self.state.lock();
        let line = state.lines.entry(channel.clone()).or_default();
        line.life += 1;
        (named(channel, line.life - 1), named(channel, line.life), line.wanted)
    }

    fn say(&self, inner: &ChannelName, word: Word) {
        let name = inner.split(LIFE).next().unwrap_or_default();
        let channel = ChannelName::from(name);
        let mut now_said: Vec<Word> = Vec::new();
        {
            let state = &mut *self.state.lock();
            let line = state.lines.entry(channel.clone()).or_default();
            for word in state.liar.announcement(&channel, word, &mut line.held) {
                if !self.is_dropped(&channel, line, &mut state.draw) {
                    let double = self.strikes(Fault::AnnouncementDouble, &mut state.draw)
                        && matches!(&word, Word::Publication(publication, ..) if publication.offset > 0);
                    for word in std::iter::repeat_n(word, if double { 2 } else { 1 }) {
                        if let Some(word) = self.delayed(&channel, line, word, &mut state.draw) {
                            now_said.push(word);
                        }
                    }
                }
            }
        }
        for word in now_said {
            self.tell(&channel, word);
        }
    }

    fn strikes(&self, fault: Fault, draw: &mut Draw) -> bool {
        let strikes = self.env.is_troubled() && draw.chance(self.manners.rates.chance(fault));
        if strikes {
            self.env.fault(fault);
        }
        strikes
    }

    fn is_dropped(&self, channel: &ChannelName, line: &mut Line, draw: &mut Draw) -> bool {
        let now = self.env.now();
        if self.env.is_troubled() && now < line.silent_until {
            self.env.note(format_args!("announcement of {channel} in an outage"));
            return true;
        }
        // Rarer than other faults: each lasts long.
        if draw.chance(0.1) && self.strikes(Fault::AnnouncementOutage, draw) {
            line.silent_until = now + draw.millis(10, 6_000);
            self.tell_lost_sometimes(channel, line.silent_until, draw);
            return true;
        }
        if self.strikes(Fault::AnnouncementDrop, draw) {
            self.env.note(format_args!("announcement of {channel} dropped"));
            self.tell_lost_sometimes(channel, now, draw);
            return true;
        }
        false
    }

    /// Some brokers know that something was lost, others do not. Those that promise to lose nothing do.
    fn tell_lost_sometimes(&self, channel: &ChannelName, from: Duration, draw: &mut Draw) {
        if self.manners.lossless || draw.chance(0.5) {
            let (me, channel) = (self.me.clone(), channel.clone());
            self.env.call_at(from + draw.millis(0, 500), move || {
                if let Some(me) = me.upgrade() {
                    me.env.note(format_args!("lost {channel} told"));
                    if let Some(sink) = me.sink.get() {
                        sink.lost(&channel);
                    }
                }
            });
        }
    }

    /// Queues what comes later; hands back what comes now.
    fn delayed(&self, channel: &ChannelName, line: &mut Line, word: Word, draw: &mut Draw) -> Option<Word> {
        let wait = if self.strikes(Fault::AnnouncementDelay, draw) {
            let longest = *draw.pick(&[2, 40, 1_500]);
            draw.millis(0, longest)
        } else {
            Duration::ZERO
        };
        let now = self.env.now();
        if wait.is_zero() && line.waiting.is_empty() {
            return Some(word);
        }
        line.last_at = line.last_at.max(now + wait);
        line.waiting.push_back(word);
        let (me, channel) = (self.me.clone(), channel.clone());
        self.env.call_at(line.last_at, move || {
            if let Some(me) = me.upgrade() {
                me.tell_next(&channel);
            }
        });
        None
    }

    fn tell_next(&self, channel: &ChannelName) {
        let word = self.state.lock().lines.get_mut(channel).and_then(|line| line.waiting.pop_front());
        if let Some(word) = word {
            self.tell(channel, word);
        }
    }

    fn tell(&self, channel: &ChannelName, word: Word) {
        let Some(sink) = self.sink.get() else { return };
        match word {
            Word::Publication(publication, epoch, previous) => {
                self.env.note(format_args!("announced {channel} {}", publication.offset));
                sink.publication(channel, publication, epoch.as_ref(), previous);
            }
            Word::Join(info) => sink.join(channel, info),
            Word::Leave(info) => sink.leave(channel, info),
        }
    }
}

fn named(channel: &ChannelName, life: u32) -> ChannelName {
    match life {
        0 => channel.clone(),
        life => format!("{channel}{LIFE}{life}").into(),
    }
}

impl Announcements for Relay {
    fn publication(
        &self,
        channel: &ChannelName,
        publication: Arc<Publication>,
        epoch: Option<&Epoch>,
        previous: Option<Arc<Publication>>,
    ) {
        self.say(channel, Word::Publication(publication, epoch.cloned(), previous));
    }

    fn join(&self, channel: &ChannelName, info: Arc<ClientInfo>) {
        self.say(channel, Word::Join(info));
    }

    fn leave(&self, channel: &ChannelName, info: Arc<ClientInfo>) {
        self.say(channel, Word::Leave(info));
    }

    fn lost(&self, channel: &ChannelName) {
        if let Some(sink) = self.sink.get() {
            sink.lost(channel);
        }
    }
}
