//! Who is in a channel; and until when this node counts as alive.
//!
//! An entry is seen while its own time lasts and its node's lease does. A node prolongs its lease every few seconds in
//! each place where it has entries, so entries of a node that died vanish within a lease, not with their own times.
//!
//! A client that leaves while Redis cannot be asked is owed its removal: it is made up for once that is possible.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;
use prost::Message;
use tidewire_engine::{BoxFuture, EngineError, PresenceStats, PresenceStore};
use tidewire_protocol::{ChannelName, ClientInfo};
use tokio::time::{Instant, MissedTickBehavior};

use crate::engine::{NODE_LETTERS, RedisEngine, Shared, ms};
use crate::error::{Error, Result};
use crate::resp::{Command, Value};
use crate::router::{Manner, Router};
use crate::script;

/// Leases are prolonged so many times within one.
const PROLONGED_PER_LEASE: u32 = 3;

/// Removals that may be owed. Entries beyond end with their own times.
const OWED_MAX: usize = 100_000;
/// Those that are made up for together.
const OWED_TOGETHER: usize = 256;

/// The name of this node, its lease, and where it has one.
pub(crate) struct Leases {
    node: String,
    lease: Duration,
    /// By target of the router.
    used: Vec<AtomicBool>,
    owed: Mutex<Owed>,
}

/// Entries to be removed as soon as Redis can be asked: channel and client.
type Owed = BTreeSet<(ChannelName, String)>;

// === impl Leases ===

impl Leases {
    pub(crate) fn new(node: String, lease: Duration, targets: u16) -> Self {
        Self {
            node,
            lease,
            used: (0..targets).map(|_| AtomicBool::new(false)).collect(),
            owed: Mutex::default(),
        }
    }
}

/// Prolongs the leases, for ever.
pub(crate) async fn keep_leases(shared: Arc<Shared>) {
    let leases = &shared.leases;
    let mut tick = tokio::time::interval((leases.lease / PROLONGED_PER_LEASE).max(Duration::from_millis(10)));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let deadline = Instant::now() + leases.lease / PROLONGED_PER_LEASE;
        let used = leases.used.iter().enumerate().filter(|(_, used)| used.load(Ordering::Relaxed));
        let prolonged = used.map(|(target, _)| shared.prolong(target as u16, deadline));
        for result in join_all(prolonged).await {
            if let Err(error) = result {
                tracing::warn!(%error, "presence of this node cannot be prolonged");
            }
        }
        shared.make_up_for_removals(deadline).await;
    }
}

impl Shared {
    async fn prolong(&self, target: u16, deadline: Instant) -> Result<()> {
        let partition = matches!(self.router, Router::Cluster(_)).then_some(target);
        let keys = [self.keys.leases(partition)];
        let leases = &self.leases;
        let command = script::LEASE.call(&keys, &[leases.node.as_bytes(), ms(leases.lease).as_bytes()]);
        self.router.call(target, &command, Manner::HARMLESS, deadline).await.map(drop)
    }

    async fn enter(&self, channel: &ChannelName, info: &ClientInfo, ttl: Duration) -> Result<()> {
        // Who comes back owes nothing. A removal on its way right now may still come behind; the next renewal makes it good.
        self.leases.owed.lock().remove(&(channel.clone(), info.client.clone()));
        let target = self.router.target(&self.keys, channel);
        if let Some(used) = self.leases.used.get(usize::from(target)) {
            used.store(true, Ordering::Relaxed);
        }
        let command = script::PRESENCE_ADD.call(
            &self.keys.presence(channel),
            &[
                info.client.as_bytes(),
                &entry(&self.leases.node, info),
                ms(ttl).as_bytes(),
                ms(self.leases.lease).as_bytes(),
            ],
        );
        self.call(channel, &command, Manner::HARMLESS).await.map(drop)
    }

    async fn leave(&self, channel: &ChannelName, client: &str, deadline: Instant) -> Result<()> {
        let keys = self.keys.presence(channel);
        let command = script::PRESENCE_REMOVE.call(&keys, &[client.as_bytes()]);
        let target = self.router.target(&self.keys, channel);
        self.router.call(target, &command, Manner::HARMLESS, deadline).await.map(drop)
    }

    /// Removes what could not be removed before, until one more cannot.
    async fn make_up_for_removals(&self, deadline: Instant) {
        loop {
            let some: Vec<_> = self.leases.owed.lock().iter().take(OWED_TOGETHER).cloned().collect();
            if some.is_empty() {
                return;
            }
            let leaving = some.iter().map(|(channel, client)| self.leave(channel, client, deadline));
            let left = join_all(leaving).await;
            let mut owed = self.leases.owed.lock();
            for (entry, _) in some.iter().zip(&left).filter(|(_, result)| result.is_ok()) {
                owed.remove(entry);
            }
            if left.iter().any(Result::is_err) {
                return;
            }
        }
    }

    /// Asks a script that answers nothing while it has only cleared away a part of what is due.
    async fn present(&self, channel: &ChannelName, command: &Command) -> Result<Vec<Value>> {
        let deadline = Instant::now() + self.io_timeout;
        let target = self.router.target(&self.keys, channel);
        loop {
            match self.router.call(target, command, Manner::HARMLESS, deadline).await? {
                Value::List(found) => return Ok(found),
                Value::Nil if Instant::now() < deadline => {}
                Value::Nil => return Err(Error::Timeout(self.io_timeout)),
                _ => return Err(Error::protocol("to a read of presence")),
            }
        }
    }
}

/// What scripts read of an entry comes first: see `presence.lua`.
fn entry(node: &str, info: &ClientInfo) -> Vec<u8> {
    let mut out = format!("{node}{}:{}", info.user.len(), info.user).into_bytes();
    let rest = ClientInfo { user: String::new(), ..info.clone() };
    // Into a vector nothing can fail for lack of room.
    rest.encode_raw(&mut out);
    out
}

fn info(entry: &Value) -> Option<Arc<ClientInfo>> {
    let entry = entry.bytes()?;
    let head = entry.get(NODE_LETTERS..)?;
    let colon = memchr::memchr(b':', head)?;
    let length: usize = std::str::from_utf8(&head[..colon]).ok()?.parse().ok()?;
    let user = head.get(colon + 1..)?.get(..length)?;
    let user = std::str::from_utf8(user).ok()?.to_owned();
    let rest = entry.slice(NODE_LETTERS + colon + 1 + length..);
    ClientInfo::decode(rest).ok().map(|info| Arc::new(ClientInfo { user, ..info }))
}

// === impl PresenceStore ===

impl PresenceStore for RedisEngine {
    fn presence_add(
        &self,
        channel: &ChannelName,
        info: Arc<ClientInfo>,
        ttl: Duration,
    ) -> BoxFuture<'_, Result<(), EngineError>> {
        let channel = channel.clone();
        Box::pin(async move { Ok(self.shared.enter(&channel, &info, ttl).await?) })
    }

    fn presence_remove(&self, channel: &ChannelName, client: &str) -> BoxFuture<'_, Result<(), EngineError>> {
        let (channel, client) = (channel.clone(), client.to_owned());
        Box::pin(async move {
            let deadline = Instant::now() + self.shared.io_timeout;
            let left = self.shared.leave(&channel, &client, deadline).await;
            if left.is_err() {
                self.presence_forget(&channel, &client);
            }
            Ok(left?)
        })
    }

    fn presence_forget(&self, channel: &ChannelName, client: &str) {
        let mut owed = self.shared.leases.owed.lock();
        if owed.len() < OWED_MAX {
            owed.insert((channel.clone(), client.to_owned()));
        }
    }

    fn presence(&self, channel: &ChannelName) -> BoxFuture<'_, Result<Vec<Arc<ClientInfo>>, EngineError>> {
        let channel = channel.clone();
        Box::pin(async move {
            let command = script::PRESENCE_LIST.call(&self.shared.keys.presence(&channel), &[]);
            let entries = self.shared.present(&channel, &command).await?;
            let infos: Option<Vec<_>> = entries.iter().map(info).collect();
            let mut infos = infos.ok_or_else(|| Error::protocol("an entry of presence that is none"))?;
            infos.sort_by(|one, other| one.client.cmp(&other.client));
            Ok(infos)
        })
    }

    fn presence_stats(&self, channel: &ChannelName) -> BoxFuture<'_, Result<PresenceStats, EngineError>> {
        let channel = channel.clone();
        Box::pin(async move {
            let command = script::PRESENCE_STATS.call(&self.shared.keys.presence(&channel), &[]);
            let numbers = self.shared.present(&channel, &command).await?;
            let number = |at: usize| {
                let number = numbers.get(at).and_then(Value::int)?;
                u32::try_from(number).ok()
            };
            match (number(0), number(1)) {
                (Some(clients), Some(users)) => Ok(PresenceStats { clients, users }),
                _ => Err(Error::protocol("to a question for numbers of presence").into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_as_it_was_made() {
        for user in ["", "u", "1:2:3", "grün"] {
            let made = ClientInfo {
                user: user.into(),
                client: "c".into(),
                conn_info: "{}".into(),
                chan_info: "[1]".into(),
            };
            let bytes = entry("abcdefghijklmnop", &made);
            assert_eq!(info(&Value::Text(bytes.clone().into())).as_deref(), Some(&made));
            for end in 0..NODE_LETTERS + 2 {
                let _ = info(&Value::Text(bytes[..end].to_vec().into()));
            }
        }
    }
}
