//! Memory that a thread lends to whichever session is at work on it.

use std::cell::RefCell;

/// Where one thread opens and seals records. Grown on first use, kept for the thread's life; nothing in it outlives a call.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// For input; see [`super::session::Session::read`].
    pub(super) input: Vec<u8>,
    /// Output that comes in pieces, joined.
    pub(super) plain: Vec<u8>,
    /// Sealed output.
    pub(super) sealed: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Lends this thread's scratch. A loan within a loan gets memory of its own.
pub(super) fn with<T>(work: impl FnOnce(&mut Scratch) -> T) -> T {
    SCRATCH.with(|scratch| match scratch.try_borrow_mut() {
        Ok(mut scratch) => work(&mut scratch),
        Err(_) => work(&mut Scratch::default()),
    })
}
