//! Joining history and live publications without a gap or a duplicate.
//!
//! A subscriber registers first and buffers what is published from then on; then the engine's history is read; then the
//! two are merged here. Pure functions over offsets, so that every interleaving can be tried in tests.

use std::sync::Arc;

use tidewire_engine::History;
use tidewire_protocol::{Epoch, Publication, StreamPosition};

/// A publication that arrived while history was being read.
#[derive(Debug, Clone)]
pub(crate) struct Buffered {
    pub(crate) publication: Arc<Publication>,
    pub(crate) epoch: Epoch,
}

/// What a subscriber asked to continue from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resume {
    /// Nothing: follow from now on.
    No,
    /// Everything after a position.
    Stream(StreamPosition),
    /// The newest publication, unless it is the one at this position.
    Cache(StreamPosition),
}

/// Where a subscriber stands once it is live.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Joined {
    /// What it missed and is sent with the reply.
    pub(crate) publications: Vec<Arc<Publication>>,
    /// Continuity holds from the position asked for.
    pub(crate) recovered: bool,
    /// The position of the last publication covered.
    pub(crate) position: StreamPosition,
}

/// History and buffer do not meet: a publication between them is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Torn;

/// Merges what was read with what arrived meanwhile.
///
/// `history` must have been read after buffering began, with `since` set to the resume offset for [`Resume::Stream`],
/// newest first with limit 1 for [`Resume::Cache`], and with limit 0 for [`Resume::No`].
pub(crate) fn join(resume: &Resume, history: History, buffered: &[Buffered]) -> Result<Joined, Torn> {
    let top = &history.top;
    let live = live_tail(top, buffered)?;
    let end = live.last().map_or(top.offset, |publication| publication.offset);
    let position = StreamPosition { offset: end, epoch: top.epoch.clone() };
    let not_recovered = Joined { publications: Vec::new(), recovered: false, position: position.clone() };
    Ok(match resume {
        Resume::No => not_recovered,
        Resume::Stream(since) if continues(since, &history) => {
            let mut publications = history.publications;
            publications.extend(live);
            Joined { publications, recovered: true, position }
        }
        Resume::Stream(_) => not_recovered,
        Resume::Cache(since) => match newest(since, &history, live) {
            Some(publications) => Joined { publications, recovered: true, position },
            None => not_recovered,
        },
    })
}

/// Whether `history` is everything after `since`: same epoch (an empty one matches any), nothing trimmed away, nothing
/// cut off by the limit.
pub(crate) fn continues(since: &StreamPosition, history: &History) -> bool {
    if !since.epoch.is_empty() && since.epoch != history.top.epoch {
        return false;
    }
    match (history.publications.first(), history.publications.last()) {
        (Some(first), Some(last)) => {
            first.offset == since.offset.wrapping_add(1) && last.offset == history.top.offset
        }
        _ => history.top.offset == since.offset,
    }
}

/// The newest publication, nothing if the subscriber has it, or `None` if it is no longer there.
fn newest(
    since: &StreamPosition,
    history: &History,
    mut live: Vec<Arc<Publication>>,
) -> Option<Vec<Arc<Publication>>> {
    if let Some(last) = live.pop() {
        return Some(vec![last]);
    }
    let same = since.offset > 0 && since.offset == history.top.offset && since.epoch == history.top.epoch;
    match history.publications.first() {
        _ if same => Some(Vec::new()),
        Some(latest) if latest.offset == history.top.offset => Some(vec![Arc::clone(latest)]),
        _ => None,
    }
}

/// The buffered publications after `top`, in order, each once.
fn live_tail(top: &StreamPosition, buffered: &[Buffered]) -> Result<Vec<Arc<Publication>>, Torn> {
    let mut live: Vec<Arc<Publication>> = Vec::new();
    let mut sorted: Vec<&Buffered> = buffered.iter().filter(|b| b.publication.offset > 0).collect();
    sorted.sort_by_key(|b| b.publication.offset);
    for Buffered { publication, epoch } in sorted {
        if !epoch.is_empty() && *epoch != top.epoch {
            return Err(Torn);
        }
        let end = live.last().map_or(top.offset, |last| last.offset);
        if publication.offset <= end {
            continue;
        }
        if publication.offset != end + 1 {
            return Err(Torn);
        }
        live.push(Arc::clone(publication));
    }
    Ok(live)
}

/// What a live subscription does with a publication.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Deliver,
    /// Seen already.
    Drop,
    /// Something before it was lost, or the stream began anew.
    Insufficient,
}

/// Compares a publication with the position of a live subscription and moves the position on.
pub(crate) fn advance(position: &mut StreamPosition, offset: u64, epoch: &Epoch) -> Step {
    if offset == 0 {
        return Step::Deliver;
    }
    if position.epoch.is_empty() {
        position.epoch = epoch.clone();
    } else if *epoch != position.epoch {
        return Step::Insufficient;
    }
    let next = position.offset + 1;
    match offset.cmp(&next) {
        std::cmp::Ordering::Less => Step::Drop,
        std::cmp::Ordering::Equal => {
            position.offset = offset;
            Step::Deliver
        }
        std::cmp::Ordering::Greater => Step::Insufficient,
    }
}

#[cfg(test)]
mod tests;
