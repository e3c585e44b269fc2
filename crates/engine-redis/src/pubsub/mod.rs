//! The connection that brings announcements.
//!
//! `table`: what is wanted and what is confirmed, pure. `inbox`: what waits for the node, bounded. Here: the socket
//! between them. Subscriptions gather by themselves: whatever is wished while a batch is written goes into the next one.
//!
//! Redis confirms in the order of commands, so the commands under way are a queue, as on any other connection.

mod inbox;
mod table;

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::BytesMut;
use parking_lot::Mutex;
use tidewire_engine::{Announcements, BusReceiver};
use tidewire_protocol::{ChannelName, Publication};
use tokio::io::AsyncReadExt;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::backoff::Backoff;
use crate::bus;
use crate::dial::{Socket, make_room, send_some};
use crate::durable::Replicas;
use crate::envelope::{self, Announcement};
use crate::error::{Error, Result};
use crate::keys::Keys;
use crate::link::{STEADY, Way};
use crate::metrics::Metrics;
use crate::resp::{Command, Value};

use inbox::{Inbox, Item};
pub(crate) use table::Moving;
use table::{Meaning, Table, Wishes};

/// Channels in one command.
const BATCH: usize = 1_000;
/// When Redis is asked again for what it announced before and then refused, as after a change of rights.
const REFUSED_AGAIN: Duration = Duration::from_secs(3);
/// Items the node is told before other tasks have a turn.
const TURN: usize = 256;

/// What all connections that bring announcements share.
#[derive(Clone)]
pub(crate) struct Ear {
    pub(crate) keys: Arc<Keys>,
    pub(crate) sink: Arc<OnceLock<Arc<dyn Announcements>>>,
    pub(crate) inbox_bytes_max: usize,
    /// Who takes messages of other nodes.
    pub(crate) bus: Arc<OnceLock<Arc<dyn BusReceiver>>>,
    /// How many replicas publishes with history wait for.
    pub(crate) replicas: Option<Replicas>,
    /// Woken when a server says that channels belong elsewhere; in a cluster.
    pub(crate) misplaced: Option<Arc<Notify>>,
}

/// The announcements of one server.
pub(crate) struct PubSub {
    shared: Arc<Shared>,
    /// Why there is no connection right now.
    down: watch::Receiver<Option<Error>>,
    tasks: [JoinHandle<()>; 2],
}

struct Shared {
    way: Way,
    ear: Ear,
    table: Mutex<Table>,
    wake: Notify,
    inbox: Inbox,
}

/// A command under way.
enum Sent {
    Ping,
    Wish(Vec<ChannelName>, usize),
}

// === impl PubSub ===

impl PubSub {
    /// Begins to connect.
    pub(crate) fn start(way: Way, ear: Ear) -> Self {
        let inbox = Inbox::new(ear.inbox_bytes_max, Arc::clone(&way.metrics));
        let shared = Arc::new(Shared { way, ear, table: Mutex::default(), wake: Notify::new(), inbox });
        let not_yet = Error::Connect { server: "redis".into(), cause: "not connected yet".into() };
        let (downs, down) = watch::channel(Some(not_yet));
        let tasks = [tokio::spawn(keep(Arc::clone(&shared), downs)), tokio::spawn(tell(Arc::clone(&shared)))];
        Self { shared, down, tasks }
    }

    /// Wishes announcements of a channel, or none. The receiver hears of it when Redis has confirmed it.
    pub(crate) fn wish(&self, channel: &ChannelName, wanted: bool) -> oneshot::Receiver<Result<()>> {
        let (waiter, answer) = oneshot::channel();
        self.wish_for(channel, wanted, waiter);
        answer
    }

    /// As [`PubSub::wish`], for somebody who waits already.
    pub(crate) fn wish_for(&self, channel: &ChannelName, wanted: bool, waiter: oneshot::Sender<Result<()>>) {
        self.shared.table.lock().wish(channel, wanted, waiter);
        self.shared.wake.notify_one();
    }

    /// Why there are no announcements right now.
    pub(crate) fn down(&self) -> Option<Error> {
        self.down.borrow().clone()
    }

    /// Takes the channels that belong elsewhere.
    pub(crate) fn move_out(&self, belongs_elsewhere: impl Fn(&ChannelName) -> bool) -> Vec<Moving> {
        let moving = self.shared.table.lock().move_out(belongs_elsewhere);
        self.shared.wake.notify_one();
        moving
    }

    /// Takes in a channel that was elsewhere.
    pub(crate) fn move_in(&self, moving: Moving) {
        self.shared.table.lock().move_in(moving);
        self.shared.wake.notify_one();
    }

    /// How many channels are known here.
    pub(crate) fn channels(&self) -> usize {
        self.shared.table.lock().len()
    }

    /// Ends both tasks.
    pub(crate) fn stop(&self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Drop for PubSub {
    fn drop(&mut self) {
        self.stop();
    }
}

// === Redis to inbox ===

/// Connects, for ever.
async fn keep(shared: Arc<Shared>, down: watch::Sender<Option<Error>>) {
    let way = &shared.way;
    let mut backoff = Backoff::default();
    loop {
        let error = match connect(way).await {
            Ok((address, socket)) => {
                Metrics::count(&way.metrics.connects);
                shared.table.lock().connected();
                down.send_replace(None);
                let since = Instant::now();
                let error = tokio::select! {
                    error = run(&shared, socket) => error,
                    () = way.locator.moved(&address) => {
                        Error::Broken { server: address.to_string().into(), cause: "the primary has moved".into() }
                    }
                };
                Metrics::count(&way.metrics.disconnects);
                shared.table.lock().disconnected();
                if since.elapsed() > STEADY {
                    backoff.reset();
                }
                error
            }
            Err(error) => {
                Metrics::count(&way.metrics.connect_failures);
                error
            }
        };
        tracing::warn!(name = way.locator.name(), %error, "no announcements from Redis");
        down.send_replace(Some(error));
        tokio::time::sleep(backoff.next()).await;
    }
}

async fn connect(way: &Way) -> Result<(crate::Address, Socket)> {
    let address = way.locator.find().await?;
    let socket = way.dialer.dial(&address, &[]).await?;
    Ok((address, socket))
}

/// Moves words until the connection breaks; why it did.
async fn run(shared: &Shared, mut socket: Socket) -> Error {
    let server = Arc::clone(&socket.server);
    let broken = |cause: String| Error::Broken { server: Arc::clone(&server), cause: cause.into() };
    let silence_max = shared.way.silence_max;
    let mut tick = tokio::time::interval((silence_max / 8).max(Duration::from_millis(20)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut again = tokio::time::interval(REFUSED_AGAIN);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut sending = BytesMut::new();
    let mut unflushed = false;
    let mut sent = VecDeque::new();
    let mut heard_at = Instant::now();
    let mut items = Vec::new();
    loop {
        if sending.is_empty() {
            let wishes = shared.table.lock().wishes(BATCH);
            ask(shared, wishes, &mut sending, &mut sent);
        }
        make_room(&mut socket.frames.buffer);
        tokio::select! {
            read = socket.reader.read_buf(&mut socket.frames.buffer) => {
                match read {
                    Ok(0) => return broken("closed by the server".into()),
                    Ok(_) => heard_at = Instant::now(),
                    Err(cause) => return broken(cause.to_string()),
                }
                let heard = loop {
                    match socket.frames.next_value() {
                        Ok(Some(value)) => match hear(shared, value, &mut sent, &mut items) {
                            Ok(()) => {}
                            Err(cause) => break Some(cause),
                        },
                        Ok(None) => break None,
                        Err(cause) => break Some(cause.to_string()),
                    }
                };
                shared.inbox.put(&mut items);
                if let Some(cause) = heard {
                    return broken(cause);
                }
            }
            written = send_some(&mut socket.writer, &mut sending, &mut unflushed), if unflushed || !sending.is_empty() => {
                if let Err(cause) = written {
                    return broken(cause.to_string());
                }
            }
            () = shared.wake.notified(), if sending.is_empty() => {}
            _ = again.tick() => shared.table.lock().ask_refused_again(),
            _ = tick.tick() => {
                if sent.is_empty() {
                    heard_at = Instant::now();
                    sent.push_back(Sent::Ping);
                    sending.extend_from_slice(Command::words(&["PING"]).bytes());
                } else if heard_at.elapsed() >= silence_max {
                    return broken(format!("silent for {silence_max:?}"));
                }
            }
        }
    }
}

/// Writes down commands for the wishes: in a cluster one for each part, since a command must stay in one slot.
fn ask(shared: &Shared, wishes: Wishes, sending: &mut BytesMut, sent: &mut VecDeque<Sent>) {
    let keys = &shared.ear.keys;
    let sharded = shared.ear.misplaced.is_some();
    let kinds = [
        (wishes.subscribe, if sharded { "SSUBSCRIBE" } else { "SUBSCRIBE" }),
        (wishes.unsubscribe, if sharded { "SUNSUBSCRIBE" } else { "UNSUBSCRIBE" }),
    ];
    for (mut channels, command) in kinds {
        channels.sort_by_cached_key(|channel| keys.partition(channel));
        for together in channels.chunk_by(|one, other| keys.partition(one) == keys.partition(other)) {
            let names: Vec<String> = together.iter().map(|channel| keys.announcements(channel)).collect();
            let mut parts: Vec<&str> = vec![command];
            parts.extend(names.iter().map(String::as_str));
            sending.extend_from_slice(Command::words(&parts).bytes());
            sent.push_back(Sent::Wish(together.to_vec(), together.len()));
        }
    }
}

/// Sorts one word from Redis.
///
/// # Errors
/// If it cannot be one: the connection is of no use any more.
fn hear(
    shared: &Shared,
    value: Value,
    sent: &mut VecDeque<Sent>,
    items: &mut Vec<Item>,
) -> Result<(), String> {
    match value {
        Value::Push(mut parts) => {
            let [kind, name, rest] = &mut parts[..] else {
                return Ok(());
            };
            let subscribed = match kind.text() {
                Some("message" | "smessage") => {
                    if let (Value::Text(name), Value::Text(payload)) = (name, rest) {
                        items.push(Item::Message(std::mem::take(name), std::mem::take(payload)));
                    }
                    return Ok(());
                }
                Some("subscribe" | "ssubscribe") => true,
                Some("unsubscribe" | "sunsubscribe") => false,
                _ => return Ok(()),
            };
            let channel = name.text().and_then(|name| shared.ear.keys.announced(name));
            let channel = channel.ok_or("a confirmation of what nobody asked for")?;
            confirmed(shared, channel, subscribed, sent, items);
            Ok(())
        }
        Value::Error(text) => refused(shared, &String::from_utf8_lossy(&text), sent),
        _ => match sent.pop_front() {
            Some(Sent::Ping) => Ok(()),
            _ => Err("an answer to nothing".to_owned()),
        },
    }
}

fn confirmed(
    shared: &Shared,
    channel: &str,
    subscribed: bool,
    sent: &mut VecDeque<Sent>,
    items: &mut Vec<Item>,
) {
    let mut table = shared.table.lock();
    match table.confirmed(channel, subscribed) {
        Meaning::Settled => {}
        Meaning::Lost => items.extend(table.find(channel).map(Item::Lost)),
        Meaning::Misplaced => {
            if let Some(misplaced) = &shared.ear.misplaced {
                misplaced.notify_one();
            }
            return;
        }
    }
    drop(table);
    if let Some(Sent::Wish(_, left)) = sent.front_mut() {
        *left -= 1;
        if *left == 0 {
            sent.pop_front();
        }
    }
}

/// A command was refused as a whole.
fn refused(shared: &Shared, text: &str, sent: &mut VecDeque<Sent>) -> Result<(), String> {
    let Some(Sent::Wish(channels, _)) = sent.pop_front() else {
        return Err(text.to_owned());
    };
    let mut table = shared.table.lock();
    match (&shared.ear.misplaced, text.split(' ').next()) {
        (Some(misplaced), Some("MOVED" | "ASK" | "CLUSTERDOWN" | "TRYAGAIN")) => {
            for channel in &channels {
                table.misplaced(channel);
            }
            misplaced.notify_one();
        }
        _ => {
            Metrics::count(&shared.way.metrics.errors);
            tracing::warn!(error = text, channels = channels.len(), "Redis refuses subscriptions");
            let error = Error::Server(text.into());
            for channel in &channels {
                table.refused(channel, &error);
            }
        }
    }
    Ok(())
}

// === Inbox to node ===

/// Tells the node what comes, in order, for ever.
async fn tell(shared: Arc<Shared>) {
    loop {
        let (items, dropped) = shared.inbox.take(TURN).await;
        let items: Vec<_> = {
            let table = shared.table.lock();
            let known = |item| match item {
                Item::Message(name, payload) => {
                    let name = std::str::from_utf8(&name).ok()?;
                    Some((table.find(shared.ear.keys.announced(name)?)?, Some(payload)))
                }
                Item::Lost(channel) => Some((channel, None)),
            };
            let dropped = dropped.into_iter().filter_map(|name| {
                let name = std::str::from_utf8(&name).ok()?;
                Some((table.find(shared.ear.keys.announced(name)?)?, None))
            });
            items.into_iter().filter_map(known).chain(dropped).collect()
        };
        for (channel, payload) in items {
            if bus::is_reserved(&channel) {
                if let (Some(receiver), Some(payload)) = (shared.ear.bus.get(), payload) {
                    receiver.receive(payload);
                }
                continue;
            }
            let Some(sink) = shared.ear.sink.get() else {
                continue;
            };
            match payload.map(envelope::announcement) {
                Some(Ok(announcement)) => announce(&shared, &**sink, &channel, announcement),
                Some(Err(envelope::Malformed)) => {
                    Metrics::count(&shared.way.metrics.announcements_malformed);
                    lost(&shared, &**sink, &channel);
                }
                None => lost(&shared, &**sink, &channel),
            }
        }
        tokio::task::yield_now().await;
    }
}

fn announce(shared: &Shared, sink: &dyn Announcements, channel: &ChannelName, announcement: Announcement) {
    let metrics = &shared.way.metrics;
    Metrics::count(&metrics.announcements);
    match announcement {
        Announcement::Publication(publication, epoch, previous) => {
            metrics.lag.count(age_ms(&publication));
            sink.publication(channel, publication, epoch.as_ref(), previous);
        }
        Announcement::Join(info) => sink.join(channel, Arc::new(info)),
        Announcement::Leave(info) => sink.leave(channel, Arc::new(info)),
    }
}

fn lost(shared: &Shared, sink: &dyn Announcements, channel: &ChannelName) {
    Metrics::count(&shared.way.metrics.channels_lost);
    sink.lost(channel);
}

fn age_ms(publication: &Publication) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    let now = i64::try_from(now).unwrap_or(i64::MAX);
    u64::try_from(now.saturating_sub(publication.time)).unwrap_or(0)
}
