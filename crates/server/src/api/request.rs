//! What callers send. Every member may be left out or be `null`; unknown members are ignored.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;
use tidewire::hooks::Overrides;
use tidewire::protocol::payload;
use tidewire::{PublishOptions, StreamPosition, Target};

use super::failure::Failure;

/// Reads a request: one JSON object.
pub(super) fn read<T: DeserializeOwned>(body: &[u8]) -> serde_json::Result<T> {
    // A derived struct would take a list of its members too.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(serde_json::Error::custom("not an object"));
    }
    serde_json::from_slice(body)
}

/// `null` as "not set", as callers written in other languages send it.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(from: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or_default())
}

/// A payload as it stands in the request; `null` is one too.
fn payload<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Box<RawValue>>, D::Error> {
    Box::<RawValue>::deserialize(from).map(Some)
}

macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident { $($(#[$attribute:meta])* $field:ident: $type:ty,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Default, Deserialize)]
        #[serde(default)]
        pub(super) struct $name {
            $($(#[$attribute])* #[serde(deserialize_with = "or_default")] pub(super) $field: $type,)*
        }
    )*};
}

requests! {
    /// Channel only: presence, presence_stats, history_remove.
    Channel { channel: String, }

    /// `unsubscribe`.
    Unsubscribe { channel: String, user: String, client: String, session: String, }

    /// `disconnect`.
    Disconnect {
        user: String,
        client: String,
        session: String,
        whitelist: Vec<String>,
        disconnect: Option<CodeAndReason>,
    }

    /// Why a connection is closed.
    CodeAndReason { code: u32, reason: String, }

    /// `history`.
    History { channel: String, limit: i64, since: Option<Position>, reverse: bool, }

    /// A place in a stream.
    Position { offset: u64, epoch: String, }

    /// `channels`.
    Channels { pattern: String, }

    /// `info`, and whatever takes nothing.
    Nothing {}

    /// `{"value": bool}`
    Switch { value: bool, }

    /// Options that one subscription has differently.
    Override {
        presence: Option<Switch>,
        join_leave: Option<Switch>,
        force_recovery: Option<Switch>,
        force_positioning: Option<Switch>,
        force_push_join_leave: Option<Switch>,
    }
}

/// `publish`, and what `broadcast` shares with it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Publish {
    #[serde(deserialize_with = "or_default")]
    pub(super) channel: String,
    /// `broadcast` only.
    #[serde(deserialize_with = "or_default")]
    pub(super) channels: Vec<String>,
    #[serde(deserialize_with = "payload")]
    data: Option<Box<RawValue>>,
    #[serde(deserialize_with = "or_default")]
    b64data: String,
    #[serde(deserialize_with = "or_default")]
    skip_history: bool,
    #[serde(deserialize_with = "or_default")]
    tags: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    idempotency_key: String,
    #[serde(deserialize_with = "or_default")]
    delta: bool,
    #[serde(deserialize_with = "or_default")]
    version: u64,
    #[serde(deserialize_with = "or_default")]
    version_epoch: String,
}

/// `subscribe`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Subscribe {
    #[serde(deserialize_with = "or_default")]
    pub(super) user: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) channel: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) client: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) session: String,
    // Unlike a publication, "no info" is what null means here.
    #[serde(deserialize_with = "or_default")]
    info: Option<Box<RawValue>>,
    #[serde(deserialize_with = "or_default")]
    b64info: String,
    #[serde(deserialize_with = "or_default")]
    data: Option<Box<RawValue>>,
    #[serde(deserialize_with = "or_default")]
    b64data: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) recover_since: Option<Position>,
    #[serde(rename = "override", deserialize_with = "or_default")]
    pub(super) overrides: Option<Override>,
    #[serde(deserialize_with = "or_default")]
    pub(super) expire_at: i64,
}

/// `refresh`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Refresh {
    #[serde(deserialize_with = "or_default")]
    pub(super) user: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) client: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) session: String,
    #[serde(deserialize_with = "or_default")]
    pub(super) expired: bool,
    #[serde(deserialize_with = "or_default")]
    pub(super) expire_at: i64,
    #[serde(deserialize_with = "or_default")]
    info: Option<Box<RawValue>>,
}

/// `rpc`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Rpc {
    #[serde(deserialize_with = "or_default")]
    pub(super) method: String,
    #[serde(deserialize_with = "or_default")]
    params: Option<Box<RawValue>>,
}

// === what they mean ===

impl Publish {
    /// The payload and how it is published.
    ///
    /// # Errors
    /// 107 for bad base64, for JSON nested deeper than clients read, and for more than `bytes_max`.
    pub(super) fn parts(self, bytes_max: usize) -> Result<(Bytes, PublishOptions), Failure> {
        let data = json_or_base64(self.data.as_deref(), &self.b64data)?;
        if data.len() > bytes_max {
            return Err(Failure::too_large("publication in bytes", data.len(), bytes_max));
        }
        let options = PublishOptions {
            skip_history: self.skip_history,
            tags: self.tags,
            idempotency_key: self.idempotency_key,
            delta: self.delta,
            version: self.version,
            version_epoch: self.version_epoch,
        };
        Ok((data, options))
    }
}

impl Subscribe {
    /// What others see of the subscription.
    pub(super) fn info(&self) -> Result<Bytes, Failure> {
        json_or_base64(self.info.as_deref(), &self.b64info)
    }

    /// What the subscriber is told with it.
    pub(super) fn data(&self) -> Result<Bytes, Failure> {
        json_or_base64(self.data.as_deref(), &self.b64data)
    }
}

impl Refresh {
    /// What others see of the connection from now on.
    pub(super) fn info(&self) -> Result<Option<Bytes>, Failure> {
        Ok(Some(json_or_base64(self.info.as_deref(), "")?).filter(|info| !info.is_empty()))
    }
}

impl Rpc {
    pub(super) fn params(&self) -> Result<Bytes, Failure> {
        json_or_base64(self.params.as_deref(), "")
    }
}

impl From<Position> for StreamPosition {
    fn from(position: Position) -> Self {
        Self { offset: position.offset, epoch: position.epoch.as_str().into() }
    }
}

impl From<Override> for Overrides {
    fn from(from: Override) -> Self {
        let value = |switch: Option<Switch>| switch.map(|switch| switch.value);
        Self {
            presence: value(from.presence),
            join_leave: value(from.join_leave),
            force_push_join_leave: value(from.force_push_join_leave),
            force_positioning: value(from.force_positioning),
            force_recovery: value(from.force_recovery),
        }
    }
}

/// Which connections are meant; `None`: none, since sessions belong to transports that this server does not have.
pub(super) fn target(user: String, client: String, session: &str, except: Vec<String>) -> Option<Target> {
    session.is_empty().then_some(Target { user, client, except })
}

/// Base64 wins where both are given.
fn json_or_base64(json: Option<&RawValue>, base64: &str) -> Result<Bytes, Failure> {
    if !base64.is_empty() {
        return BASE64_STANDARD.decode(base64).map(Bytes::from).map_err(|_| Failure::bad_request());
    }
    let Some(json) = json else { return Ok(Bytes::new()) };
    // It is JSON already; this looks at the depth, which a receiver may have to bound as well.
    if !payload::is_json(json.get().as_bytes()) {
        return Err(Failure::bad_request());
    }
    Ok(Bytes::copy_from_slice(json.get().as_bytes()))
}
