//! Questions about payloads, which the protocol otherwise never looks into.

use bytes::Bytes;

use crate::json::{scan, write};

/// Levels of arrays and objects a JSON payload may nest.
pub const DEPTH_MAX: usize = 512;

/// Whether `payload` is exactly one JSON value (RFC 8259) in UTF-8, at most [`DEPTH_MAX`] levels deep. White space
/// around it is allowed. Does not recurse and, up to 64 levels, does not allocate.
pub fn is_json(payload: &[u8]) -> bool {
    std::str::from_utf8(payload).is_ok() && scan::document(payload).is_ok_and(|depth| depth <= DEPTH_MAX)
}

/// `payload` as a JSON string: how data travels to a JSON client that negotiated deltas. `None` if it is not UTF-8.
pub fn to_json_string(payload: &[u8]) -> Option<Bytes> {
    let text = std::str::from_utf8(payload).ok()?;
    let mut out = Vec::with_capacity(payload.len().saturating_add(2));
    write::string(text, &mut out);
    Some(Bytes::from(out))
}

/// Whether `payload` is JSON as [`is_json`] has it, and an object.
pub fn is_json_object(payload: &[u8]) -> bool {
    matches!(scan::skip_space(payload), [b'{', ..]) && is_json(payload)
}
