//! What is published: who published it, as which of its publications, when it should have been sent, and filler.
//!
//! A payload is JSON in both encodings, so that one publication reaches subscribers of either. It is rebuilt and compared
//! on arrival: one changed byte anywhere makes it unreadable.

mod records;

use std::time::Duration;

use clap::ValueEnum;
use serde::Deserialize;
use tidewire_checker::PayloadId;

/// The shortest payload there is; a shorter size is taken as this.
pub const BYTES_MIN: usize = 64;
/// The longest payload that may be asked for.
pub const BYTES_MAX: usize = 1 << 20;

/// A readable payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Payload {
    /// Which publication it is.
    pub id: PayloadId,
    /// When it should have been sent, since the start of the run.
    pub due: Duration,
}

/// What fills a payload up to the size asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Filler {
    /// The alphabet, again and again: nothing to compress would be easier
    #[default]
    Letters,
    /// Records with an id, a user, a time and a text, like those of a chat or a feed
    Records,
}

#[derive(Deserialize)]
struct Wire<'a> {
    p: u32,
    s: u64,
    t: u64,
    /// With letters.
    #[serde(borrow)]
    x: Option<&'a str>,
}

// === impl Payload ===

impl Payload {
    /// Appends it as JSON of `bytes` bytes, or a little more if it does not fit.
    pub fn append(&self, bytes: usize, filler: Filler, out: &mut Vec<u8>) {
        let start = out.len();
        let PayloadId { publisher, sequence } = self.id;
        let due = self.due.as_nanos() as u64;
        out.extend_from_slice(format!("{{\"p\":{publisher},\"s\":{sequence},\"t\":{due},").as_bytes());
        if filler == Filler::Records {
            return records::append(sequence, start + bytes, out);
        }
        out.extend_from_slice(b"\"x\":\"");
        // Differs from one publication to the next, so that mixed-up halves do not go unnoticed.
        let letters = (0..26).map(|letter| b'a' + ((sequence % 26) as u8 + letter) % 26);
        let filler = bytes.saturating_sub(out.len() - start + 2);
        out.extend(letters.cycle().take(filler));
        out.extend_from_slice(b"\"}");
    }

    /// Reads it back; `None` if it is not exactly what [`append`](Self::append) wrote.
    pub fn parse(data: &[u8]) -> Option<Self> {
        let wire: Wire<'_> = serde_json::from_slice(data).ok()?;
        let id = PayloadId { publisher: wire.p, sequence: wire.s };
        let payload = Self { id, due: Duration::from_nanos(wire.t) };
        let mut expected = Vec::with_capacity(data.len());
        match wire.x {
            // An empty filler means the rest did not fit; any length it had is the right one then.
            Some("") => payload.append(0, Filler::Letters, &mut expected),
            Some(_) => payload.append(data.len(), Filler::Letters, &mut expected),
            None => payload.append(data.len(), Filler::Records, &mut expected),
        }
        (expected == data).then_some(payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(sequence: u64) -> Payload {
        Payload { id: PayloadId { publisher: 3, sequence }, due: Duration::from_nanos(1_234_567_890) }
    }

    #[test]
    fn a_payload_has_the_size_asked_for_and_can_be_read_back() {
        for bytes in [0, BYTES_MIN, 128, 5_000] {
            let mut data = Vec::new();
            payload(u64::from(bytes as u32)).append(bytes, Filler::Letters, &mut data);
            assert!(bytes == 0 || data.len() == bytes, "{} for {bytes}", data.len());
            assert_eq!(Payload::parse(&data), Some(payload(bytes as u64)));
        }
        for bytes in (0..700).chain([2_048, 20_000]) {
            let mut data = Vec::new();
            payload(bytes as u64).append(bytes, Filler::Records, &mut data);
            assert!(bytes < BYTES_MIN || data.len() == bytes, "{} for {bytes}", data.len());
            assert_eq!(Payload::parse(&data), Some(payload(bytes as u64)), "{bytes}");
            assert!(serde_json::from_slice::<serde_json::Value>(&data).is_ok());
        }
    }

    #[test]
    fn any_changed_missing_or_added_byte_makes_it_unreadable_or_another() {
        for filler in [Filler::Letters, Filler::Records] {
            let mut data = Vec::new();
            payload(77).append(300, filler, &mut data);
            for at in 0..data.len() {
                let mut changed = data.clone();
                changed[at] ^= 1;
                assert_ne!(Payload::parse(&changed), Some(payload(77)), "byte {at}");
                assert_eq!(Payload::parse(&data[..at]), None, "cut at {at}");
            }
            assert_eq!(Payload::parse(&[&data[..], b" "].concat()), None);
        }
    }
}
