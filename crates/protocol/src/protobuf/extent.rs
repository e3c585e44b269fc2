//! How much a command would become, found out before any of it is made.
//!
//! Two bytes on the wire are enough for an element of a list, which takes dozens or hundreds of bytes once it is decoded;
//! and a command may hold tens of thousands of them.

use prost::encoding::{self, DecodeContext, WireType};

use super::malformed;
use crate::error::DecodeError;
use crate::frame::DecodeLimits;

/// What decoding is decided by.
#[derive(Debug, Default)]
pub(super) struct Extent {
    /// The command's id.
    pub(super) id: u32,
    /// A tags filter passes its limits.
    pub(super) filters_too_large: bool,
    keys: usize,
    items: usize,
    filter_nodes: usize,
}

/// Whether a command of this size is within the limits whatever it holds: a level, a node, a key or an item takes two
/// bytes at least. Most commands are that short.
pub(super) fn cannot_pass(size: usize, limits: &DecodeLimits) -> bool {
    let DecodeLimits { filter_levels, filter_nodes, object_keys, array_items, .. } = *limits;
    size / 2 <= filter_levels.min(filter_nodes).min(object_keys).min(array_items)
}

/// Why there is no telling.
#[derive(Debug)]
pub(super) enum Fault {
    /// It breaks the wire format. Decoding meets that too, having made no more than the limits allow before it.
    Malformed(DecodeError),
    /// More keys or items than the limits allow.
    TooMany,
}

/// Messages with lists in them, and what holds such messages.
#[derive(Clone, Copy)]
enum Kind {
    Command,
    Connect,
    /// An entry of `ConnectRequest.subs`.
    Sub,
    Subscribe,
    SubRefresh,
    Track,
    /// With the levels it may still have below it.
    Filter(usize),
    /// A message or text without lists.
    Plain,
}

/// How an element of a list counts.
#[derive(Clone, Copy)]
enum Counts {
    AsKey,
    AsItem,
    AsFilterNode,
    Not,
}

impl From<prost::DecodeError> for Fault {
    fn from(error: prost::DecodeError) -> Self {
        Self::Malformed(malformed(&error))
    }
}

impl Extent {
    /// Walks over a command without its length.
    pub(super) fn of(command: &[u8], limits: &DecodeLimits) -> Result<Self, Fault> {
        let mut extent = Self::default();
        extent.walk(Kind::Command, command, limits)?;
        Ok(extent)
    }

    /// Recursion is bounded: filters by their levels, everything else by the schema.
    fn walk(&mut self, kind: Kind, mut rest: &[u8], limits: &DecodeLimits) -> Result<(), Fault> {
        while !rest.is_empty() {
            let (field, wire_type) = encoding::decode_key(&mut rest)?;
            match wire_type {
                WireType::LengthDelimited => {
                    let size = encoding::decode_varint(&mut rest)?;
                    let split = usize::try_from(size).ok().and_then(|size| rest.split_at_checked(size));
                    let (value, behind) = split.ok_or_else(|| {
                        Fault::Malformed(DecodeError::malformed("a field ends behind its message", 0))
                    })?;
                    rest = behind;
                    self.value(kind, field, value, limits)?;
                }
                WireType::Varint if matches!((kind, field), (Kind::Command, 1)) => {
                    let id = encoding::decode_varint(&mut rest)?;
                    // As protobuf does it: what does not fit is cut off.
                    self.id = id as u32;
                }
                other => encoding::skip_field(other, field, &mut rest, DecodeContext::default())?,
            }
        }
        Ok(())
    }

    fn value(&mut self, kind: Kind, field: u32, value: &[u8], limits: &DecodeLimits) -> Result<(), Fault> {
        let (inner, counts) = match (kind, field) {
            (Kind::Command, 4) => (Kind::Connect, Counts::Not),
            (Kind::Command, 5) | (Kind::Sub, 2) => (Kind::Subscribe, Counts::Not),
            (Kind::Command, 15) => (Kind::SubRefresh, Counts::Not),
            (Kind::Connect, 3) => (Kind::Sub, Counts::AsKey),
            (Kind::Connect, 6) => (Kind::Plain, Counts::AsKey),
            (Kind::Subscribe, 13) => (Kind::Filter(limits.filter_levels), Counts::AsFilterNode),
            (Kind::SubRefresh, 4) => (Kind::Track, Counts::AsItem),
            (Kind::SubRefresh, 5) | (Kind::Track, 2) | (Kind::Filter(_), 5) => (Kind::Plain, Counts::AsItem),
            (Kind::Filter(levels), 6) => (Kind::Filter(levels.saturating_sub(1)), Counts::AsFilterNode),
            _ => return Ok(()),
        };
        let (count, max) = match counts {
            Counts::Not => return self.walk(inner, value, limits),
            Counts::AsKey => (&mut self.keys, limits.object_keys),
            Counts::AsItem => (&mut self.items, limits.array_items),
            Counts::AsFilterNode => (&mut self.filter_nodes, limits.filter_nodes),
        };
        *count = count.saturating_add(1);
        let too_many = *count > max;
        match inner {
            Kind::Filter(levels) if too_many || levels == 0 => {
                // Not looked into: it is refused as it is.
                self.filters_too_large = true;
                Ok(())
            }
            _ if too_many => Err(Fault::TooMany),
            Kind::Plain => Ok(()),
            _ => self.walk(inner, value, limits),
        }
    }
}
