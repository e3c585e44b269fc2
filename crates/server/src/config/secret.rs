//! Text that must not be shown.

/// A secret from the configuration. It has no `Debug`, `Display` or `Serialize`, so it cannot end in a log by accident;
/// the only way to the text is [`Secret::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Shown wherever a secret would stand.
    pub const MASK: &'static str = "***";

    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself: for the code that signs, verifies or compares, and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no secret at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
