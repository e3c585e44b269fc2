//! What is said, in neither encoding.

/// What a client asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Ask {
    Connect { id: u64, token: String },
    Subscribe { id: u64, channel: String, since: Option<(String, u64)> },
    Publish { id: u64, channel: String, data: Vec<u8> },
    Pong,
}

/// What the server says.
#[derive(Debug, Clone)]
pub(crate) enum Tell {
    Ping,
    Connected {
        id: u64,
        manner: Manner,
    },
    Subscribed {
        id: u64,
        place: Option<Place>,
        publications: Vec<Publication>,
    },
    Published {
        id: u64,
    },
    Refused {
        id: u64,
        code: u64,
    },
    Publication {
        channel: String,
        publication: Publication,
    },
    Join {
        channel: String,
    },
    /// A subscription that the client did not ask for begins, or ends.
    Given {
        channel: String,
        offset: u64,
    },
    Taken {
        channel: String,
    },
}

/// A subscription with positions.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) epoch: String,
    pub(crate) offset: u64,
    /// `None` if it was not tried.
    pub(crate) recovered: Option<bool>,
}

#[derive(Debug, Clone)]
pub(crate) struct Publication {
    /// `None` if the channel has none.
    pub(crate) offset: Option<u64>,
    pub(crate) data: Vec<u8>,
}

/// How the server treats one client: it may choose, and does so by the client's number.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner(pub(crate) usize);

/// A channel that some clients are subscribed to without having asked.
pub(crate) const PERSONAL: &str = "#yours";

// === impl Manner ===

impl Manner {
    /// At most so many messages share a frame.
    pub(crate) fn gathers(self) -> usize {
        1 + self.0 * 5 % 16
    }

    /// Messages come in several frames.
    pub(crate) fn fragments(self) -> bool {
        self.0.is_multiple_of(3)
    }

    /// Members and fields stand in another order, and strings are escaped that need not be.
    pub(crate) fn reverses(self) -> bool {
        self.0 % 2 == 1
    }

    /// Pings of the protocol are sent; if not, those of RFC 6455 alone.
    pub(crate) fn pings(self) -> bool {
        self.0 % 5 != 4
    }

    /// Pings are to be answered; if not, an answer breaks the protocol.
    pub(crate) fn wants_pongs(self) -> bool {
        self.pings() && self.0 % 5 != 3
    }

    /// It is subscribed to [`PERSONAL`] from the start.
    pub(crate) fn has_personal_channel(self) -> bool {
        self.0 % 4 == 2
    }

    /// Only a half of what was missed is in the reply, the rest follows.
    pub(crate) fn recovers_in_pieces(self) -> bool {
        self.0.is_multiple_of(2)
    }

    /// The reply's offset is that of its last publication, not the one the client asked from.
    pub(crate) fn advances(self) -> bool {
        self.0 % 3 == 1
    }
}
