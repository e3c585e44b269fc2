//! The body of a close frame (RFC 6455 §5.5.1, §7.4).

use super::{Role, Violation};

/// Why the peer closes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloseReason {
    /// The code on the wire.
    pub code: u16,
    /// Text for people, often empty.
    pub text: String,
}

/// Reads the body of a close frame; an empty one gives no reason.
pub(super) fn parse(role: Role, body: &[u8]) -> Result<Option<CloseReason>, Violation> {
    let Some((code, text)) = body.split_first_chunk::<2>() else {
        return if body.is_empty() { Ok(None) } else { Err(Violation::ShortClose) };
    };
    let code = u16::from_be_bytes(*code);
    if !may_be_sent(role, code) {
        return Err(Violation::CloseCode(code));
    }
    let text = std::str::from_utf8(text).map_err(|_| Violation::InvalidUtf8)?;
    Ok(Some(CloseReason { code, text: text.to_owned() }))
}

/// Whether an endpoint may put this code on the wire. 1005, 1006 and 1015 exist only inside an endpoint, 1004 and the
/// rest below 3000 have no meaning yet. Servers of our protocol may use application codes above 4999.
const fn may_be_sent(reader: Role, code: u16) -> bool {
    match code {
        1000..=1003 | 1007..=1014 | 3000..=4999 => true,
        5000.. => matches!(reader, Role::Client),
        _ => false,
    }
}
