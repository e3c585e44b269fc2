//! What callers are told. Zero values are left out, except where a reader of the API counts on them.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;
use tidewire::protocol::Publication;
use tidewire::{ChannelName, ClientInfo, Published, StreamPosition};

/// A finished answer: one JSON object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    json: String,
    /// Stands for itself instead of below `result`.
    bare: bool,
}

// === impl Answer ===

impl Answer {
    /// `{}`
    pub(super) fn empty() -> Self {
        Self { json: "{}".to_owned(), bare: false }
    }

    pub(super) fn of(result: &impl Serialize) -> Self {
        // Nothing that is serialized here can fail: keys are texts, and nothing is a stream.
        Self { json: serde_json::to_string(result).unwrap_or_default(), bare: false }
    }

    /// An object that is finished already.
    pub(super) fn raw(json: String) -> Self {
        Self { json, bare: false }
    }

    /// The answer of `batch`.
    pub(super) fn bare(json: String) -> Self {
        Self { json, bare: true }
    }

    /// The object itself.
    pub(super) fn as_json(&self) -> &str {
        &self.json
    }

    /// As the body of an answer.
    pub(super) fn into_whole(self) -> String {
        if self.bare { self.json } else { format!("{{\"result\":{}}}", self.json) }
    }
}

/// `publish`: both only with history.
#[derive(Debug, Default, Serialize)]
pub(super) struct PublishResult {
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    epoch: String,
}

/// `presence`.
#[derive(Debug, Serialize)]
pub(super) struct PresenceResult {
    presence: BTreeMap<String, Info>,
}

/// `presence_stats`.
#[derive(Debug, Serialize)]
pub(super) struct PresenceStatsResult {
    pub(super) num_clients: u32,
    pub(super) num_users: u32,
}

/// `history`.
#[derive(Debug, Serialize)]
pub(super) struct HistoryResult {
    publications: Vec<HistoryPublication>,
    epoch: String,
    offset: u64,
}

/// `channels`.
#[derive(Debug, Serialize)]
pub(super) struct ChannelsResult {
    channels: BTreeMap<ChannelKey, ChannelCount>,
}

/// `info`.
#[derive(Debug, Serialize)]
pub(super) struct InfoResult {
    pub(super) nodes: Vec<NodeResult>,
}

/// One node in `info`.
#[derive(Debug, Default, Serialize)]
pub(super) struct NodeResult {
    pub(super) uid: String,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) num_clients: usize,
    pub(super) num_users: usize,
    pub(super) num_channels: usize,
    #[serde(skip_serializing_if = "is_zero")]
    pub(super) uptime: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) process: Option<ProcessResult>,
    pub(super) num_subs: usize,
}

/// The process of a node.
#[derive(Debug, Serialize)]
pub(super) struct ProcessResult {
    pub(super) cpu: f64,
    pub(super) rss: u64,
}

/// `rpc`.
#[derive(Debug, Serialize)]
pub(super) struct RpcResult {
    #[serde(flatten)]
    data: Payload,
}

#[derive(Debug, Serialize)]
struct HistoryPublication {
    #[serde(flatten)]
    data: Payload,
    #[serde(skip_serializing_if = "Option::is_none")]
    info: Option<Info>,
    #[serde(skip_serializing_if = "is_zero")]
    offset: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
struct Info {
    user: String,
    client: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    conn_info: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    chan_info: Option<Box<RawValue>>,
}

/// A payload as `data` if it is JSON, otherwise as `b64data`, which is how it would be sent to us.
#[derive(Debug, Serialize)]
struct Payload {
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "String::is_empty")]
    b64data: String,
}

#[derive(Debug, Serialize)]
struct ChannelCount {
    num_clients: u32,
}

/// A channel's name as the key of an object.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct ChannelKey(ChannelName);

impl Serialize for ChannelKey {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

// === from what the node says ===

impl From<Published> for PublishResult {
    fn from(published: Published) -> Self {
        match published.position {
            Some(StreamPosition { offset, epoch }) => Self { offset, epoch: epoch.as_str().to_owned() },
            None => Self::default(),
        }
    }
}

impl From<Vec<Arc<ClientInfo>>> for PresenceResult {
    fn from(present: Vec<Arc<ClientInfo>>) -> Self {
        Self { presence: present.iter().map(|info| (info.client.clone(), Info::of(info))).collect() }
    }
}

impl From<tidewire::History> for HistoryResult {
    fn from(history: tidewire::History) -> Self {
        Self {
            publications: history
                .publications
                .iter()
                .map(|publication| HistoryPublication::of(publication))
                .collect(),
            epoch: history.top.epoch.as_str().to_owned(),
            offset: history.top.offset,
        }
    }
}

impl From<Vec<(ChannelName, u32)>> for ChannelsResult {
    fn from(channels: Vec<(ChannelName, u32)>) -> Self {
        let channels = channels.into_iter();
        Self {
            channels: channels
                .map(|(name, num_clients)| (ChannelKey(name), ChannelCount { num_clients }))
                .collect(),
        }
    }
}

impl RpcResult {
    pub(super) fn of(data: &[u8]) -> Self {
        Self { data: Payload::of(data) }
    }
}

impl HistoryPublication {
    fn of(publication: &Publication) -> Self {
        Self {
            data: Payload::of(&publication.data),
            info: publication.info.as_ref().map(Info::of),
            offset: publication.offset,
            tags: publication.tags.clone(),
        }
    }
}

impl Info {
    fn of(info: &ClientInfo) -> Self {
        Self {
            user: info.user.clone(),
            client: info.client.clone(),
            conn_info: raw_json(&info.conn_info),
            chan_info: raw_json(&info.chan_info),
        }
    }
}

impl Payload {
    fn of(bytes: &[u8]) -> Self {
        let data = raw_json(bytes);
        let b64data = if data.is_some() { String::new() } else { BASE64_STANDARD.encode(bytes) };
        Self { data, b64data }
    }
}

/// Bytes as a part of an answer, if they are JSON.
fn raw_json(bytes: &[u8]) -> Option<Box<RawValue>> {
    let text = std::str::from_utf8(bytes).ok()?;
    RawValue::from_string(text.to_owned()).ok()
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
