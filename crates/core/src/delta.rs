//! Publications as subscribers with deltas get them (§20 of the protocol).
//!
//! A subscriber holds a base: the publication it got last. The next one may come as a patch against it. On JSON
//! connections the payload of such a subscriber is always a JSON string, patched or whole.

use bytes::Bytes;
use tidewire_protocol::payload::to_json_string;
use tidewire_protocol::{Encoding, Publication};

/// Whether a subscription gets deltas, and whether it holds a base for the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum DeltaState {
    #[default]
    Off,
    /// Negotiated; the next publication comes whole.
    NoBase,
    /// The subscriber holds the publication before the next.
    HasBase,
}

/// A publication for a subscriber that holds no base. `None` if the payload is no text and the client speaks JSON.
pub(crate) fn whole(encoding: Encoding, publication: &Publication) -> Option<Publication> {
    let data = text_form(encoding, publication.data.clone())?;
    Some(Publication { data, ..publication.clone() })
}

/// A publication for a subscriber that holds `base`: a patch, unless that would not be smaller.
pub(crate) fn patch(
    encoding: Encoding,
    publication: &Publication,
    base: &Publication,
) -> Option<Publication> {
    let patch = tidewire_delta::create_bounded(&base.data, &publication.data, publication.data.len())?;
    let data = text_form(encoding, Bytes::from(patch))?;
    Some(Publication { data, delta: true, ..publication.clone() })
}

/// Publications in a row: the first whole, each next as a patch of the one before it.
pub(crate) fn chain(encoding: Encoding, publications: Vec<Publication>) -> Option<Vec<Publication>> {
    let mut chain = Vec::with_capacity(publications.len());
    for (at, publication) in publications.iter().enumerate() {
        let base = at.checked_sub(1).and_then(|before| publications.get(before));
        let patched = base.and_then(|base| patch(encoding, publication, base));
        chain.push(match patched {
            Some(patched) => patched,
            None => whole(encoding, publication)?,
        });
    }
    Some(chain)
}

fn text_form(encoding: Encoding, data: Bytes) -> Option<Bytes> {
    match encoding {
        Encoding::Json => to_json_string(&data),
        Encoding::Protobuf => Some(data),
    }
}
