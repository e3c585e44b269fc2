//! What a verified token says (RFC 7519 and the claims Centrifugo's clients use), as the core takes it.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use tidewire_core::hooks::{ConnectionClaims, Overrides, SubscribeGrant, SubscriptionClaims, TokenError};
use tidewire_protocol::ChannelName;

use super::invalid;
use super::object::Object;
use crate::config::model::Expected;

/// The last second of the year 9999: numbers beyond are not dates.
const DATE_MAX: f64 = 253_402_300_799.0;

/// The claims of a token, before they are judged.
pub(super) struct Claims {
    known: Known,
    payload: Vec<u8>,
}

#[derive(Deserialize)]
struct Known {
    #[serde(default)]
    sub: Option<String>,
    #[serde(default)]
    exp: Option<f64>,
    #[serde(default)]
    nbf: Option<f64>,
    #[serde(default)]
    aud: Option<Audience>,
    #[serde(default)]
    iss: Option<String>,
    #[serde(default)]
    expire_at: Option<i64>,
    #[serde(default)]
    info: Option<Box<RawValue>>,
    #[serde(default)]
    b64info: Option<String>,
    #[serde(default)]
    data: Option<Box<RawValue>>,
    #[serde(default)]
    b64data: Option<String>,
    #[serde(default, rename = "override")]
    overrides: Option<Object<RawOverrides>>,
    #[serde(default)]
    meta: Option<Box<RawValue>>,
    #[serde(default)]
    channels: Option<Vec<String>>,
    #[serde(default)]
    subs: Option<BTreeMap<String, Option<Object<Sub>>>>,
    #[serde(default)]
    channel: Option<String>,
    #[serde(default)]
    client: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// Options of one server-side subscription (`subs`).
#[derive(Deserialize, Default)]
struct Sub {
    #[serde(default)]
    info: Option<Box<RawValue>>,
    #[serde(default)]
    b64info: Option<String>,
    #[serde(default)]
    data: Option<Box<RawValue>>,
    #[serde(default)]
    b64data: Option<String>,
    #[serde(default, rename = "override")]
    overrides: Option<Object<RawOverrides>>,
}

#[derive(Deserialize, Default)]
struct RawOverrides {
    #[serde(default)]
    presence: Option<Object<Flag>>,
    #[serde(default)]
    join_leave: Option<Object<Flag>>,
    #[serde(default)]
    force_push_join_leave: Option<Object<Flag>>,
    #[serde(default)]
    force_positioning: Option<Object<Flag>>,
    #[serde(default)]
    force_recovery: Option<Object<Flag>>,
}

#[derive(Deserialize)]
struct Flag {
    #[serde(default)]
    value: bool,
}

// === impl Claims ===

impl Claims {
    pub(super) fn parse(payload: &[u8]) -> Result<Self, TokenError> {
        // The error's text could repeat a claim, so it is not passed on.
        let Object(known): Object<Known> =
            serde_json::from_slice(payload).map_err(|_| invalid("the claims are not what they must be"))?;
        if !known.exp.is_none_or(is_date) || !known.nbf.is_none_or(is_date) {
            return Err(invalid("exp or nbf is not a date"));
        }
        Ok(Self { known, payload: payload.to_vec() })
    }

    pub(super) fn check_audience(&self, expected: &Expected) -> Result<(), TokenError> {
        let fits = expected.is_any()
            || match &self.known.aud {
                Some(Audience::One(audience)) => expected.allows(audience),
                Some(Audience::Several(audiences)) => {
                    audiences.iter().any(|audience| expected.allows(audience))
                }
                None => false,
            };
        if fits { Ok(()) } else { Err(invalid("for another audience (aud)")) }
    }

    pub(super) fn check_issuer(&self, expected: &Expected) -> Result<(), TokenError> {
        let fits = expected.is_any() || self.known.iss.as_ref().is_some_and(|issuer| expected.allows(issuer));
        if fits { Ok(()) } else { Err(invalid("from another issuer (iss)")) }
    }

    /// Whether it is a subscription token.
    pub(super) fn names_a_channel(&self) -> bool {
        self.known.channel.as_ref().is_some_and(|channel| !channel.is_empty())
    }

    /// A token that is not valid yet is answered like one that no longer is: the client fetches another.
    pub(super) fn check_time(&self, now_unix_s: i64) -> Result<(), TokenError> {
        let now = now_unix_s as f64;
        let over = self.known.exp.is_some_and(|exp| exp <= now);
        let early = self.known.nbf.is_some_and(|nbf| nbf > now);
        if over || early { Err(TokenError::Expired) } else { Ok(()) }
    }

    pub(super) fn into_connection(self, user_claim: Option<&str>) -> Result<ConnectionClaims, TokenError> {
        let user = self.user(user_claim)?;
        let (expire_at, known) = (self.expire_at(), self.known);
        let mut subs = Vec::new();
        match known.subs.filter(|subs| !subs.is_empty()) {
            Some(listed) => {
                for (channel, sub) in listed {
                    subs.push((ChannelName::from(channel), sub.unwrap_or_default().0.grant()?));
                }
            }
            None => {
                for channel in known.channels.unwrap_or_default() {
                    let channel = ChannelName::from(channel);
                    if !subs.iter().any(|(listed, _)| *listed == channel) {
                        subs.push((channel, SubscribeGrant::default()));
                    }
                }
            }
        }
        Ok(ConnectionClaims {
            user,
            expire_at,
            info: payload(known.info, known.b64info)?,
            meta: payload(known.meta, None)?,
            subs,
        })
    }

    pub(super) fn into_subscription(
        self,
        user_claim: Option<&str>,
    ) -> Result<SubscriptionClaims, TokenError> {
        let user = self.user(user_claim)?;
        let (expire_at, known) = (self.expire_at(), self.known);
        Ok(SubscriptionClaims {
            user,
            channel: known.channel.unwrap_or_default(),
            client: known.client.unwrap_or_default(),
            grant: SubscribeGrant {
                expire_at,
                info: payload(known.info, known.b64info)?,
                data: payload(known.data, known.b64data)?,
                overrides: known.overrides.unwrap_or_default().0.into(),
            },
        })
    }

    fn user(&self, user_claim: Option<&str>) -> Result<String, TokenError> {
        let Some(name) = user_claim else { return Ok(self.known.sub.clone().unwrap_or_default()) };
        let all: BTreeMap<String, &RawValue> = serde_json::from_slice(&self.payload)
            .map_err(|_| invalid("the claims are not what they must be"))?;
        let Some(value) = all.get(name) else { return Ok(String::new()) };
        let user: Option<String> = serde_json::from_str(value.get())
            .map_err(|_| invalid("the claim that names the user is not text"))?;
        Ok(user.unwrap_or_default())
    }

    /// `expire_at` where given (0 and less: never), else `exp`; 0: never.
    fn expire_at(&self) -> i64 {
        match (self.known.expire_at, self.known.exp) {
            (Some(at), _) => at.max(0),
            (None, Some(exp)) => exp as i64,
            (None, None) => 0,
        }
    }
}

impl Sub {
    fn grant(self) -> Result<SubscribeGrant, TokenError> {
        Ok(SubscribeGrant {
            expire_at: 0,
            info: payload(self.info, self.b64info)?,
            data: payload(self.data, self.b64data)?,
            overrides: self.overrides.unwrap_or_default().0.into(),
        })
    }
}

impl From<RawOverrides> for Overrides {
    fn from(raw: RawOverrides) -> Self {
        let value = |flag: Option<Object<Flag>>| flag.map(|Object(flag)| flag.value);
        Self {
            presence: value(raw.presence),
            join_leave: value(raw.join_leave),
            force_push_join_leave: value(raw.force_push_join_leave),
            force_positioning: value(raw.force_positioning),
            force_recovery: value(raw.force_recovery),
        }
    }
}

fn is_date(seconds: f64) -> bool {
    seconds.is_finite() && seconds.abs() <= DATE_MAX
}

/// Bytes in base64 win over JSON, as in the server API.
fn payload(json: Option<Box<RawValue>>, base64: Option<String>) -> Result<Bytes, TokenError> {
    match (json, base64.filter(|text| !text.is_empty())) {
        (_, Some(text)) => {
            STANDARD.decode(text).map(Bytes::from).map_err(|_| invalid("a b64 claim is not base64"))
        }
        (Some(json), None) => Ok(Bytes::copy_from_slice(json.get().as_bytes())),
        (None, None) => Ok(Bytes::new()),
    }
}
