//! What things are called inside Redis.
//!
//! All names of one channel lie in one slot of a cluster, so that scripts may touch them together. The part a channel
//! belongs to is the hash tag: the first braces in a name decide, and ours come before whatever the channel is called.

use std::fmt::Write;

use crate::sharding;

/// Makes the names.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: String,
    /// Parts of a cluster; `None` elsewhere.
    partitions: Option<u16>,
}

// === impl Keys ===

impl Keys {
    pub(crate) fn new(prefix: &str, partitions: Option<u16>) -> Self {
        Self { prefix: format!("{prefix}.tw"), partitions }
    }

    /// Epoch, top, version and writing server of a channel's stream: a hash.
    pub(crate) fn meta(&self, channel: &str) -> String {
        self.of(channel, 'm')
    }

    /// Its publications: a stream.
    pub(crate) fn log(&self, channel: &str) -> String {
        self.of(channel, 'l')
    }

    /// What a publish with this key answered. The length keeps `a` + `b:c` apart from `a:b` + `c`.
    pub(crate) fn idempotency(&self, channel: &str, key: &str) -> String {
        format!("{}.i.{}.{channel}.{key}", self.base(channel, 0), channel.len())
    }

    /// Where its publications are announced.
    pub(crate) fn announcements(&self, channel: &str) -> String {
        self.of(channel, 'c')
    }

    /// The channel that is announced there, and the part the name says it is in.
    pub(crate) fn announced<'a>(&self, name: &'a str) -> Option<&'a str> {
        let rest = name.strip_prefix(self.prefix.as_str())?.strip_prefix('.')?;
        let rest = match self.partitions {
            Some(_) => rest.strip_prefix('{')?.split_once("}.")?.1,
            None => rest,
        };
        rest.strip_prefix("c.")
    }

    /// Clients present by the time their entries end, client to entry, users and nodes counted, leases of the nodes.
    pub(crate) fn presence(&self, channel: &str) -> [String; 5] {
        [
            self.of(channel, 't'),
            self.of(channel, 'p'),
            self.of(channel, 'u'),
            self.of(channel, 'n'),
            self.leases(self.partition(channel)),
        ]
    }

    /// Until when each node counts as alive, in one part.
    pub(crate) fn leases(&self, partition: Option<u16>) -> String {
        self.in_part(partition, "leases")
    }

    /// Written to find out whether that can be done, in one part.
    pub(crate) fn probe(&self, partition: Option<u16>) -> String {
        self.in_part(partition, "probe")
    }

    fn in_part(&self, partition: Option<u16>, name: &str) -> String {
        match partition {
            Some(partition) => format!("{}.{{{partition}}}.{name}", self.prefix),
            None => format!("{}.{name}", self.prefix),
        }
    }

    /// Which part of a cluster a channel is in.
    pub(crate) fn partition(&self, channel: &str) -> Option<u16> {
        self.partitions.map(|count| sharding::shard_of(channel, count.into()) as u16)
    }

    /// The slot of a part.
    pub(crate) fn slot(partition: u16) -> u16 {
        crc16(partition.to_string().as_bytes()) % SLOTS
    }

    fn of(&self, channel: &str, kind: char) -> String {
        // Made for every call, so without formatting where there is nothing to format.
        let mut key = self.base(channel, channel.len() + 3);
        key.extend(['.', kind, '.']);
        key.push_str(channel);
        key
    }

    /// What the keys of a channel begin with, and room for so many bytes more.
    fn base(&self, channel: &str, more: usize) -> String {
        let mut base = String::with_capacity(self.prefix.len() + 8 + more);
        base.push_str(&self.prefix);
        if let Some(partition) = self.partition(channel) {
            // Writing to a text cannot fail.
            let _ = write!(base, ".{{{partition}}}");
        }
        base
    }
}

/// Slots of a Redis Cluster.
pub(crate) const SLOTS: u16 = 16_384;

/// CRC-16 as the specification of Redis Cluster has it: XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |mut crc, byte| {
        crc ^= u16::from(*byte) << 8;
        for _ in 0..8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
        }
        crc
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_cluster_specification() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
    }

    #[test]
    fn bad_n1_no_channel_name_steers_into_another_slot_or_out_of_its_name() {
        let keys = Keys::new("p", Some(128));
        for channel in ["{0}", "a{b}c", "}", "{", "x}.c.y", ".c.", "", "a\r\nb", "*"] {
            let part = keys.partition(channel).expect("a cluster has parts");
            let tag = format!("p.tw.{{{part}}}.");
            let [times, entries, users, nodes, leases] = keys.presence(channel);
            let idempotency = keys.idempotency(channel, "{k}");
            let announcements = keys.announcements(channel);
            assert_eq!(keys.announced(&announcements), Some(channel));
            for name in [
                keys.meta(channel),
                keys.log(channel),
                announcements,
                idempotency,
                times,
                entries,
                users,
                nodes,
                leases,
            ] {
                assert!(name.starts_with(&tag), "{name}");
            }
        }
        let keys = Keys::new("p", None);
        assert_eq!(keys.announced(&keys.announcements("{0}.c.x")), Some("{0}.c.x"));
        assert_eq!(keys.announced("p.tw.m.x"), None);
    }

    #[test]
    fn keys_of_different_channels_never_meet() {
        let keys = Keys::new("p", None);
        assert_ne!(keys.idempotency("a", "b.c"), keys.idempotency("a.b", "c"));
        assert_ne!(keys.idempotency("1.a", "b"), keys.idempotency("1", "a.b"));
    }
}
