//! What a publication looks like inside Redis, kept and announced.
//!
//! Kept: eight bytes of Unix milliseconds, big end first, and the schema's `Publication` in protobuf, without offset.
//! Announced: a letter for the kind, for a publication with history the line that the script writes, then that.

use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use prost::Message;
use tidewire_protocol::{ClientInfo, Epoch, Publication};

/// An announcement as read.
#[derive(Debug, PartialEq)]
pub(crate) enum Announcement {
    /// A publication; with its epoch and the one before it, if there is history.
    Publication(Arc<Publication>, Option<Epoch>, Option<Arc<Publication>>),
    /// Somebody joined.
    Join(ClientInfo),
    /// Somebody left.
    Leave(ClientInfo),
}

/// Bytes that no node of ours has written, or a later version of it has.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// What is kept of a publication.
pub(crate) fn body(publication: &Publication) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + publication.encoded_len());
    write(publication, &mut out);
    out
}

/// The announcement of a publication without history.
pub(crate) fn passing(publication: &Publication) -> Vec<u8> {
    let mut out = Vec::with_capacity(9 + publication.encoded_len());
    out.push(b'n');
    write(publication, &mut out);
    out
}

fn write(publication: &Publication, out: &mut Vec<u8>) {
    out.put_i64(publication.time);
    publication.encode_raw(out);
}

/// The announcement of a join.
pub(crate) fn join(info: &ClientInfo) -> Vec<u8> {
    about(b'j', info)
}

/// The announcement of a leave.
pub(crate) fn leave(info: &ClientInfo) -> Vec<u8> {
    about(b'l', info)
}

fn about(kind: u8, info: &ClientInfo) -> Vec<u8> {
    let mut out = BytesMut::with_capacity(1 + info.encoded_len());
    out.put_u8(kind);
    info.encode_raw(&mut out);
    out.into()
}

/// Reads what is kept; its payload is a slice of these bytes.
pub(crate) fn kept(mut body: Bytes, offset: u64) -> Result<Arc<Publication>, Malformed> {
    if body.len() < 8 {
        return Err(Malformed);
    }
    let time = body.get_i64();
    let publication = Publication::decode(body).map_err(|_| Malformed)?;
    Ok(Arc::new(Publication { time, offset, ..publication }))
}

/// Reads an announcement.
pub(crate) fn announcement(mut bytes: Bytes) -> Result<Announcement, Malformed> {
    let kind = if bytes.is_empty() { 0 } else { bytes.get_u8() };
    match kind {
        b'p' => with_history(bytes),
        b'n' => Ok(Announcement::Publication(kept(bytes, 0)?, None, None)),
        b'j' => ClientInfo::decode(bytes).map(Announcement::Join).map_err(|_| Malformed),
        b'l' => ClientInfo::decode(bytes).map(Announcement::Leave).map_err(|_| Malformed),
        _ => Err(Malformed),
    }
}

fn with_history(mut bytes: Bytes) -> Result<Announcement, Malformed> {
    let end = memchr::memchr(b'\n', &bytes[..bytes.len().min(128)]).ok_or(Malformed)?;
    let line = bytes.split_to(end);
    bytes.advance(1);
    let line = std::str::from_utf8(&line).map_err(|_| Malformed)?;
    let mut words = line.split(' ');
    let (Some(offset), Some(epoch), Some(size), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Malformed);
    };
    let offset: u64 = offset.parse().map_err(|_| Malformed)?;
    let size: usize = size.parse().map_err(|_| Malformed)?;
    if offset == 0 || epoch.is_empty() || size > bytes.len() {
        return Err(Malformed);
    }
    let previous = bytes.split_to(size);
    let previous = if size > 0 { Some(kept(previous, offset - 1)?) } else { None };
    Ok(Announcement::Publication(kept(bytes, offset)?, Some(Epoch::from(epoch)), previous))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication(data: &'static str, offset: u64) -> Arc<Publication> {
        let info = Some(ClientInfo { user: "u".into(), client: "c".into(), ..Default::default() });
        let tags = [("k".to_owned(), "v".to_owned())].into();
        let data = Bytes::from_static(data.as_bytes());
        Arc::new(Publication { data, info, tags, offset, time: 7, version: 3, ..Default::default() })
    }

    fn with_line(line: &str, parts: &[&[u8]]) -> Bytes {
        let mut all = format!("p{line}\n").into_bytes();
        all.extend(parts.concat());
        all.into()
    }

    #[test]
    fn announcements_are_read_as_they_were_made() {
        let (first, second) = (publication("first", 4), publication("second", 5));
        let strip = |of: &Publication| body(&Publication { offset: 0, ..of.clone() });
        let (old, new) = (strip(&first), strip(&second));
        let line = format!("5 abc {}", old.len());
        let read = announcement(with_line(&line, &[&old, &new]));
        assert_eq!(read, Ok(Announcement::Publication(second.clone(), Some("abc".into()), Some(first))));
        let read = announcement(with_line("5 abc 0", &[&new]));
        assert_eq!(read, Ok(Announcement::Publication(second, Some("abc".into()), None)));
        let read = announcement(passing(&publication("second", 0)).into());
        assert_eq!(read, Ok(Announcement::Publication(publication("second", 0), None, None)));
        let info = ClientInfo { user: "u".into(), ..Default::default() };
        assert_eq!(announcement(join(&info).into()), Ok(Announcement::Join(info.clone())));
        assert_eq!(announcement(leave(&info).into()), Ok(Announcement::Leave(info)));
    }

    #[test]
    fn bad_b1_what_is_cut_or_foreign_is_refused() {
        let new = body(&publication("x", 0));
        let whole = with_line("5 abc 0", &[&new]);
        for end in 0..whole.len() - 1 {
            let cut = announcement(whole.slice(..end));
            assert!(cut != announcement(whole.clone()), "cut at {end}");
        }
        for line in [
            "",
            "5",
            "5 abc",
            "x abc 0",
            "5 abc -1",
            "5 abc 99999",
            "0 abc 0",
            "5  0",
            "5 abc 0 0",
            "5 abc 3",
        ] {
            assert_eq!(announcement(with_line(line, &[&new])), Err(Malformed), "{line}");
        }
        for bytes in [&b""[..], b"z", b"hello", b"__p1:5:abc__x", b"j\xff", b"n1234567"] {
            assert_eq!(announcement(Bytes::copy_from_slice(bytes)), Err(Malformed));
        }
    }
}
