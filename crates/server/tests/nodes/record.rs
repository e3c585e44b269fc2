//! What publishers sent and clients saw, judged as it comes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write as _;
use std::time::Instant;

use parking_lot::Mutex;
use serde_json::Value;
use tidewire_checker::{
    Audience, ChannelKey, Checker, Delivery, Event, Mode, PayloadId, Position, Report, SubscriptionKey,
};
use tokio::sync::Notify;

use crate::PATIENCE;
use crate::rig::position;

/// Lines kept for whoever has to find out what went wrong.
const LINES_MAX: usize = 200_000;

/// The record of one run.
#[derive(Default)]
pub(crate) struct Record {
    seen: Mutex<Seen>,
    changed: Notify,
}

/// What there is to be seen of it.
#[derive(Default)]
pub(crate) struct Seen {
    checker: Checker,
    /// It has been judged; what comes now comes after the end.
    over: bool,
    channels: HashMap<String, ChannelKey>,
    /// By client and channel.
    pub(crate) views: BTreeMap<(u32, String), View>,
    pub(crate) members: BTreeMap<u32, Member>,
    pub(crate) answers: Vec<Value>,
    /// Client, channel and offset of publications that came by subscriptions of the server's making.
    pub(crate) server_side: Vec<(u32, String, u64)>,
    /// Publishes of clients that failed.
    pub(crate) failed: u64,
    pub(crate) quiet: u64,
    lines: VecDeque<String>,
}

/// One client.
#[derive(Default)]
pub(crate) struct Member {
    /// Its id at the node, while it is connected.
    pub(crate) id: Option<String>,
    pub(crate) connects: usize,
    /// Codes of its ends: `connecting` and `disconnected`.
    pub(crate) ends: Vec<u64>,
}

/// One client's view of one channel.
pub(crate) struct View {
    key: SubscriptionKey,
    pub(crate) live: bool,
    /// Ended, and not to come back.
    over: bool,
    pub(crate) position: Option<Position>,
    /// Publications that arrived.
    pub(crate) deliveries: usize,
    /// The newest of each publisher.
    pub(crate) newest: HashMap<u32, u64>,
    /// Recoveries that brought everything, and those that were refused.
    pub(crate) recovered: usize,
    pub(crate) refused: usize,
    /// How it was ended from the server's side.
    pub(crate) ends: Vec<u64>,
    pub(crate) joins: Vec<String>,
    pub(crate) leaves: Vec<String>,
}

// === impl Record ===

impl Record {
    /// A subscription that is going to be.
    pub(crate) fn expect(&self, client: u32, channel: &str) {
        let seen = &mut *self.seen.lock();
        let mode = if channel.starts_with("plain:") { Mode::AtMostOnce } else { Mode::Positioned };
        let at = seen.channel(channel);
        let key = seen.checker.subscription(at, client, mode);
        seen.members.entry(client).or_default();
        seen.views.insert((client, channel.to_owned()), View::new(key));
    }

    /// Notes a publish before it is sent.
    pub(crate) fn published(&self, channel: &str, id: PayloadId) {
        let seen = &mut *self.seen.lock();
        let at = seen.channel(channel);
        seen.checker.published(at, id, Audience::Channel);
    }

    /// Notes its answer.
    pub(crate) fn acknowledged(&self, channel: &str, id: PayloadId, position: Option<Position>) {
        let seen = &mut *self.seen.lock();
        let at = seen.channel(channel);
        seen.checker.acknowledged(at, id, position);
    }

    pub(crate) fn look<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        look(&self.seen.lock())
    }

    /// Waits until there is something to be seen.
    pub(crate) async fn until<T>(&self, what: &str, mut look: impl FnMut(&Seen) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            let changed = self.changed.notified();
            if let Some(found) = look(&self.seen.lock()) {
                return found;
            }
            let left = PATIENCE.saturating_sub(begun.elapsed());
            if tokio::time::timeout(left, changed).await.is_err() {
                panic!("never: {what}\n{}", self.tail());
            }
        }
    }

    /// Judges the end. `heads`: where the streams end. A record that does not hold is left in a file.
    pub(crate) fn finish(&self, heads: &[(String, Position)]) -> Report {
        let seen = &mut *self.seen.lock();
        let heads: Vec<_> =
            heads.iter().map(|(channel, position)| (seen.channel(channel), position.clone())).collect();
        let report = std::mem::take(&mut seen.checker).finish(heads);
        seen.over = true;
        if !report.is_clean() {
            let file = std::env::temp_dir().join(format!("tidewire-nodes-{}.jsonl", std::process::id()));
            let lines: Vec<&str> = seen.lines.iter().map(String::as_str).collect();
            let _ = std::fs::write(&file, lines.join("\n"));
            panic!("{report}\nall that the clients saw: {}", file.display());
        }
        report
    }

    /// Takes one line of the clients' process.
    pub(crate) fn take(&self, line: &str) {
        let seen = &mut *self.seen.lock();
        if seen.over {
            return;
        }
        if seen.lines.len() == LINES_MAX {
            seen.lines.pop_front();
        }
        seen.lines.push_back(line.to_owned());
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        seen.take(&event);
        self.changed.notify_waiters();
    }

    /// The last that was seen.
    fn tail(&self) -> String {
        let seen = self.seen.lock();
        let mut text = String::new();
        for ((client, channel), view) in &seen.views {
            let View { live, position, deliveries, ends, .. } = view;
            let _ = writeln!(
                text,
                "{client} {channel}: live {live}, {position:?}, {deliveries} came, ended {ends:?}"
            );
        }
        let is_common = |line: &str| line.contains("\"publication\":[");
        for line in
            seen.lines.iter().rev().filter(|line| !is_common(line)).take(60).collect::<Vec<_>>().iter().rev()
        {
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

// === impl Seen ===

impl Seen {
    fn channel(&mut self, name: &str) -> ChannelKey {
        let checker = &mut self.checker;
        *self.channels.entry(name.to_owned()).or_insert_with(|| checker.channel(name))
    }

    /// Those who are in a channel, or on their way back to it.
    pub(crate) fn views_of<'a>(&'a self, channel: &'a str) -> impl Iterator<Item = (u32, &'a View)> {
        let of = move |((client, name), view): (&'a (u32, String), &'a View)| {
            (name == channel && !view.over).then_some((*client, view))
        };
        self.views.iter().filter_map(of)
    }

    /// Whether everyone is in every channel.
    pub(crate) fn all_live(&self) -> bool {
        self.views.values().all(|view| view.live || view.over)
    }

    /// Client ids of those who are in a channel, sorted; `None` while somebody is not.
    pub(crate) fn ids_in(&self, channel: &str) -> Option<Vec<String>> {
        let mut ids = Vec::new();
        for (client, view) in self.views_of(channel) {
            ids.push(self.members.get(&client)?.id.clone().filter(|_| view.live)?);
        }
        ids.sort();
        Some(ids)
    }

    fn take(&mut self, event: &Value) {
        let Some(kind) = event["event"].as_str() else { return };
        if kind == "quiet" {
            self.quiet += 1;
            return;
        }
        let client = number(&event["client"]) as u32;
        let text = |name: &str| event[name].as_str().unwrap_or_default().to_owned();
        let channel = text("channel");
        match kind {
            "connected" => {
                let member = self.members.entry(client).or_default();
                member.id = Some(text("id"));
                member.connects += 1;
            }
            "connecting" | "disconnected" => {
                let member = self.members.entry(client).or_default();
                member.id = None;
                // 0: it was told to connect.
                member.ends.extend(Some(number(&event["code"])).filter(|code| *code > 0));
                if kind == "disconnected" {
                    let mine = self.views.iter_mut().filter(|((one, _), _)| *one == client);
                    mine.for_each(|(_, view)| view.over = true);
                }
            }
            "answer" => self.answers.push(event.clone()),
            "failed" => self.failed += 1,
            "server_side" => {
                self.server_side.push((client, channel, delivery(&event["publication"]).offset));
            }
            "published" | "acknowledged" => {
                let Some(id) = delivery(&event["publication"]).id else { return };
                let at = self.channel(&channel);
                match kind {
                    "published" => self.checker.published(at, id, Audience::Channel),
                    _ => self.checker.acknowledged(at, id, None),
                }
            }
            _ => {
                let Some(view) = self.views.get_mut(&(client, channel)) else { return };
                if let Some(judged) = view.take(kind, event) {
                    self.checker.observe(view.key, judged);
                }
            }
        }
    }
}

// === impl View ===

impl View {
    fn new(key: SubscriptionKey) -> Self {
        Self {
            key,
            live: false,
            over: false,
            position: None,
            deliveries: 0,
            newest: HashMap::new(),
            recovered: 0,
            refused: 0,
            ends: Vec::new(),
            joins: Vec::new(),
            leaves: Vec::new(),
        }
    }

    /// Notes an event; what the checker is to know of it.
    fn take(&mut self, kind: &str, event: &Value) -> Option<Event> {
        let is = |name: &str| event[name].as_bool().unwrap_or_default();
        let id = || event["id"].as_str().unwrap_or_default().to_owned();
        match kind {
            "subscribed" => {
                let (was_recovering, recovered) = (is("was_recovering"), is("recovered"));
                let position = event["position"].is_object().then(|| position(&event["position"]));
                self.live = true;
                self.position = position.clone();
                self.recovered += usize::from(recovered);
                self.refused += usize::from(was_recovering && !recovered);
                let publications = event["publications"].as_array().into_iter().flatten().map(delivery);
                let publications: Vec<_> = publications.inspect(|delivery| self.note(*delivery)).collect();
                Some(Event::Subscribed { position, was_recovering, recovered, publications })
            }
            "publication" => {
                let delivery = delivery(&event["publication"]);
                self.note(delivery);
                Some(Event::Publication(delivery))
            }
            "subscribing" | "unsubscribed" => {
                let was_live = std::mem::take(&mut self.live);
                self.over |= kind == "unsubscribed";
                let code = number(&event["code"]);
                self.ends.extend((code >= 2000).then_some(code));
                let event = if code >= 2000 || kind == "unsubscribed" {
                    Event::Unsubscribed { code: code as u32 }
                } else {
                    Event::Disconnected { code: 0 }
                };
                was_live.then_some(event)
            }
            "join" => {
                self.joins.push(id());
                None
            }
            "leave" => {
                self.leaves.push(id());
                None
            }
            _ => None,
        }
    }

    fn note(&mut self, delivery: Delivery) {
        self.deliveries += 1;
        if let Some(position) = &mut self.position
            && delivery.offset > 0
        {
            position.offset = delivery.offset;
        }
        if let Some(PayloadId { publisher, sequence }) = delivery.id {
            self.newest.insert(publisher, sequence);
        }
    }
}

/// `[offset, publisher, sequence]`.
pub(crate) fn delivery(value: &Value) -> Delivery {
    let id = match (value[1].as_u64(), value[2].as_u64()) {
        (Some(publisher), Some(sequence)) => Some(PayloadId { publisher: publisher as u32, sequence }),
        _ => None,
    };
    Delivery { offset: number(&value[0]), id }
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_default()
}
