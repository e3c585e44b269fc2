//! Hears what an engine announces.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tidewire_protocol::{ChannelName, ClientInfo, Epoch, Publication};
use tokio::sync::Notify;

use crate::Announcements;

/// How long an announcement may take before a case gives up on it.
const PATIENCE: Duration = Duration::from_secs(10);

/// One announcement of a channel.
#[derive(Debug, Clone, PartialEq)]
pub enum Announced {
    /// A publication.
    Publication {
        /// What was published.
        publication: Arc<Publication>,
        /// The epoch of its offset.
        epoch: Option<Epoch>,
        /// The base of a delta.
        previous: Option<Arc<Publication>>,
    },
    /// Somebody joined.
    Join(Arc<ClientInfo>),
    /// Somebody left.
    Leave(Arc<ClientInfo>),
    /// Something may have been lost.
    Lost,
}

/// Keeps what is announced, by channel and in order.
#[derive(Debug, Default)]
pub struct Recorder {
    heard: Mutex<HashMap<ChannelName, Vec<Announced>>>,
    changed: Notify,
    dawdles: AtomicBool,
}

// === impl Recorder ===

impl Recorder {
    /// From now on lets other threads run before it takes note of every other publication, so that an engine which
    /// announces out of turn is heard to.
    pub fn dawdle(&self) {
        self.dawdles.store(true, Ordering::Relaxed);
    }

    /// Everything heard of the channel, once that is at least `count` announcements.
    ///
    /// # Panics
    /// If they do not come within ten seconds.
    pub async fn hear(&self, channel: &ChannelName, count: usize) -> Vec<Announced> {
        let enough = async {
            loop {
                let changed = self.changed.notified();
                let heard = self.heard_so_far(channel);
                if heard.len() >= count {
                    return heard;
                }
                changed.await;
            }
        };
        match tokio::time::timeout(PATIENCE, enough).await {
            Ok(heard) => heard,
            Err(_) => {
                panic!("{channel}: waited for {count} announcements, heard {:?}", self.heard_so_far(channel))
            }
        }
    }

    fn heard_so_far(&self, channel: &ChannelName) -> Vec<Announced> {
        self.lock().get(channel).cloned().unwrap_or_default()
    }

    fn note(&self, channel: &ChannelName, announced: Announced) {
        self.lock().entry(channel.clone()).or_default().push(announced);
        self.changed.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<ChannelName, Vec<Announced>>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Announcements for Recorder {
    fn publication(
        &self,
        channel: &ChannelName,
        publication: Arc<Publication>,
        epoch: Option<&Epoch>,
        previous: Option<Arc<Publication>>,
    ) {
        if publication.offset % 2 == 1 && self.dawdles.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_micros(20));
        }
        self.note(channel, Announced::Publication { publication, epoch: epoch.cloned(), previous });
    }

    fn join(&self, channel: &ChannelName, info: Arc<ClientInfo>) {
        self.note(channel, Announced::Join(info));
    }

    fn leave(&self, channel: &ChannelName, info: Arc<ClientInfo>) {
        self.note(channel, Announced::Leave(info));
    }

    fn lost(&self, channel: &ChannelName) {
        self.note(channel, Announced::Lost);
    }
}
