//! Publishing and reading, for backends.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tidewire_engine::{History, HistoryFilter, HistoryRetention, NewPublication, PresenceStats, Published};
use tidewire_protocol::{ChannelName, ClientInfo, ErrorCode, StreamPosition};

use super::Node;
use crate::auth::engine_refusal;
use crate::glob::Glob;
use crate::hooks::Refusal;
use crate::options::ChannelOptions;
use crate::rules;

/// A publish from the backend.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PublishOptions {
    /// Only deliver.
    pub skip_history: bool,
    /// For tag filters.
    pub tags: BTreeMap<String, String>,
    /// The same key within five minutes publishes once.
    pub idempotency_key: String,
    /// Offer a delta to receivers that negotiated it.
    pub delta: bool,
    /// Not above the stored version publishes nothing; 0: none.
    pub version: u64,
    /// The life of the version counter.
    pub version_epoch: String,
}

impl Node {
    /// Publishes to a channel by the history rules of its namespace.
    ///
    /// # Errors
    /// 107 for an empty channel or a payload the namespace refuses, 102 for an unknown namespace, 108 for a namespace of a
    /// kind this server does not have, 100 if the engine cannot do it.
    pub async fn publish(
        &self,
        channel: &str,
        data: Bytes,
        options: PublishOptions,
    ) -> Result<Published, Refusal> {
        let rules = self.api_rules(channel)?;
        if rules.unavailable || !rules::data_fits(rules.data_format, &data) {
            return Err(ErrorCode::BadRequest.into());
        }
        let PublishOptions { skip_history, tags, idempotency_key, delta, version, version_epoch } = options;
        let new = NewPublication {
            data,
            info: None,
            tags,
            retention: rules.history.filter(|_| !skip_history),
            idempotency_key,
            version,
            version_epoch,
            delta: delta || rules.delta_publish,
        };
        self.engine().publish(&channel.into(), new).await.map_err(|error| engine_refusal(&error))
    }

    /// Who is in a channel.
    ///
    /// # Errors
    /// As [`Node::publish`], and 108 if the namespace keeps no presence.
    pub async fn presence(&self, channel: &str) -> Result<Vec<Arc<ClientInfo>>, Refusal> {
        self.presence_rules(channel)?;
        self.engine().presence(&channel.into()).await.map_err(|error| engine_refusal(&error))
    }

    /// How many are in a channel.
    ///
    /// # Errors
    /// As [`Node::presence`].
    pub async fn presence_stats(&self, channel: &str) -> Result<PresenceStats, Refusal> {
        self.presence_rules(channel)?;
        self.engine().presence_stats(&channel.into()).await.map_err(|error| engine_refusal(&error))
    }

    /// Reads a channel's history. `limit` `Some(0)` reads the position only, `None` everything.
    ///
    /// # Errors
    /// As [`Node::publish`], 108 without history, 112 if `since` is of another epoch.
    pub async fn history(
        &self,
        channel: &str,
        since: Option<StreamPosition>,
        limit: Option<usize>,
        reverse: bool,
    ) -> Result<History, Refusal> {
        let retention = self.history_rules(channel)?;
        self.read_history(&channel.into(), retention, since, limit, reverse).await
    }

    /// Deletes a channel's publications; its position stays.
    ///
    /// # Errors
    /// As [`Node::history`].
    pub async fn history_remove(&self, channel: &str) -> Result<(), Refusal> {
        self.history_rules(channel)?;
        self.engine().remove_history(&channel.into()).await.map_err(|error| engine_refusal(&error))
    }

    /// Channels with subscribers on any node, and how many those are, by name. In `pattern` stands a [`Glob`]; an empty one
    /// matches everything. It looks at every channel of every node.
    ///
    /// # Errors
    /// 107 if the pattern cannot be read; 100 if another node does not answer, since the list would have holes.
    pub async fn channels(&self, pattern: &str) -> Result<Vec<(ChannelName, u32)>, Refusal> {
        let glob = Glob::parse_or_all(pattern).ok_or(ErrorCode::BadRequest)?;
        let elsewhere = self.ask_for_channels(pattern).await;
        if elsewhere.failed() > 0 {
            return Err(ErrorCode::Internal.into());
        }
        let mut channels: BTreeMap<ChannelName, u32> = BTreeMap::new();
        let here = self.hub().channels().into_iter().filter(|(name, _)| glob.matches(name));
        for (name, subscribers) in here.chain(elsewhere.into_channels()) {
            *channels.entry(name).or_default() += subscribers;
        }
        Ok(channels.into_iter().collect())
    }

    pub(crate) async fn read_history(
        &self,
        channel: &ChannelName,
        retention: HistoryRetention,
        since: Option<StreamPosition>,
        limit: Option<usize>,
        reverse: bool,
    ) -> Result<History, Refusal> {
        let filter = HistoryFilter { since: since.as_ref().map(|since| since.offset), limit, reverse };
        let history = self
            .engine
            .history(channel, filter, retention.meta_ttl)
            .await
            .map_err(|error| engine_refusal(&error))?;
        match since {
            Some(since) if !since.epoch.is_empty() && since.epoch != history.top.epoch => {
                Err(ErrorCode::UnrecoverablePosition.into())
            }
            _ => Ok(history),
        }
    }

    pub(super) fn api_rules(&self, channel: &str) -> Result<&Arc<ChannelOptions>, Refusal> {
        if channel.is_empty() {
            return Err(ErrorCode::BadRequest.into());
        }
        Ok(self.options().channel.rules(channel)?)
    }

    fn presence_rules(&self, channel: &str) -> Result<(), Refusal> {
        let on = self.api_rules(channel)?.presence;
        if on { Ok(()) } else { Err(ErrorCode::NotAvailable.into()) }
    }

    fn history_rules(&self, channel: &str) -> Result<HistoryRetention, Refusal> {
        self.api_rules(channel)?.history.ok_or(ErrorCode::NotAvailable.into())
    }
}
