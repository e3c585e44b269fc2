//! What can go wrong in an engine, by what the caller can do about it.

/// The result of an engine call.
pub type Result<T, E = EngineError> = std::result::Result<T, E>;

/// Why an engine did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The engine cannot be reached or did not answer in time. Safe to retry with an idempotency key; without one the
    /// operation may have happened.
    #[error("engine unavailable: {0}")]
    Unavailable(String),
    /// The position asked for is of another epoch.
    #[error("unrecoverable position")]
    UnrecoverablePosition,
    /// The engine does not offer this operation.
    #[error("not supported by this engine")]
    Unsupported,
}
