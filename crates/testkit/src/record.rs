//! What was published and what clients saw, handed to the checker as it happens.

use std::collections::BTreeMap;

use bytes::Bytes;
use tidewire_checker::{
    Audience, ChannelKey, Checker, Delivery, Event, Mode, PayloadId, Position, Report, SubscriptionKey,
};
use tidewire_protocol::{ChannelName, Publication, StreamPosition};

/// Everything noted in a world.
#[derive(Debug, Default)]
pub(crate) struct Record {
    checker: Checker,
    channels: BTreeMap<ChannelName, ChannelKey>,
    /// What is wrong and not the checker's business.
    pub(crate) violations: Vec<String>,
}

impl Record {
    /// Notes what the engine published, which is the truth whatever the publisher is told.
    pub(crate) fn published(&mut self, channel: &ChannelName, data: &[u8], place: Option<&StreamPosition>) {
        let Some(id) = payload_id(data) else { return };
        let key = self.channel(channel);
        self.checker.published(key, id, Audience::Channel);
        self.checker.acknowledged(key, id, place.map(position));
    }

    /// A subscription of a client from its beginning, with no memory of an earlier one.
    pub(crate) fn subscription(
        &mut self,
        channel: &ChannelName,
        client: usize,
        mode: Mode,
    ) -> SubscriptionKey {
        let key = self.channel(channel);
        self.checker.subscription(key, client as u32, mode)
    }

    pub(crate) fn saw(&mut self, subscription: SubscriptionKey, event: Event) {
        self.checker.observe(subscription, event);
    }

    pub(crate) fn violation(&mut self, what: String) {
        self.violations.push(what);
    }

    /// The checker's word on everything; `heads` is where the streams end.
    pub(crate) fn finish(&mut self, heads: Vec<(ChannelName, StreamPosition)>) -> Report {
        let heads: Vec<_> =
            heads.iter().map(|(channel, head)| (self.channel(channel), position(head))).collect();
        std::mem::take(&mut self.checker).finish(heads)
    }

    fn channel(&mut self, name: &ChannelName) -> ChannelKey {
        if let Some(key) = self.channels.get(name) {
            return *key;
        }
        let key = self.checker.channel(name);
        self.channels.insert(name.clone(), key);
        key
    }
}

/// A place in the checker's words.
pub(crate) fn position(place: &StreamPosition) -> Position {
    Position::new(place.epoch.as_str(), place.offset)
}

/// A publication in the checker's words.
pub(crate) fn delivery(publication: &Publication) -> Delivery {
    Delivery { offset: publication.offset, id: payload_id(&publication.data) }
}

/// A payload that names itself; JSON, so that every client can carry it.
pub(crate) fn payload(id: PayloadId, filler: usize) -> Bytes {
    let PayloadId { publisher, sequence } = id;
    Bytes::from(match filler {
        0 => format!("[{publisher},{sequence}]"),
        _ => format!("[{publisher},{sequence},\"{}\"]", "x".repeat(filler)),
    })
}

/// What [`payload`] wrote.
pub(crate) fn payload_id(data: &[u8]) -> Option<PayloadId> {
    let inside = std::str::from_utf8(data).ok()?.strip_prefix('[')?.strip_suffix(']')?;
    let mut parts = inside.split(',');
    Some(PayloadId { publisher: parts.next()?.parse().ok()?, sequence: parts.next()?.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_read_as_it_was_written() {
        let id = PayloadId { publisher: 2, sequence: 31 };
        assert_eq!(payload_id(&payload(id, 0)), Some(id));
        assert_eq!(payload_id(&payload(id, 5)), Some(id));
        assert_eq!(payload_id(b"{}"), None);
    }
}
