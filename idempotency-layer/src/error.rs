//! What a store can fail with.

use std::error::Error;
use std::fmt;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// A store could not carry out a verb.
///
/// Opaque: [`kind`](Self::kind) says what to do about it, [`source`](Error::source) keeps the cause.
pub struct StoreError {
    kind: StoreErrorKind,
    source: Option<BoxError>,
}

/// What kind of failure a [`StoreError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store was not reached, or its answer was lost. Whether the verb took effect is unknown;
    /// repeating it with the same token or fence is safe.
    Unavailable,
    /// The store has no room. The verb did not take effect.
    Full,
    /// What the store holds, or is to hold, cannot be read or written. The verb did not take effect.
    Invalid,
    /// The handler's transaction could not be committed, and was rolled back: a statement in it had failed, or a
    /// constraint did.
    RolledBack,
}

impl StoreError {
    /// The store was not reached, or its answer was lost.
    pub fn unavailable(source: impl Into<BoxError>) -> Self {
        Self { kind: StoreErrorKind::Unavailable, source: Some(source.into()) }
    }

    /// The store has no room for the record.
    pub fn full() -> Self {
        Self { kind: StoreErrorKind::Full, source: None }
    }

    /// What the store holds, or is to hold, makes no sense to it.
    pub fn invalid(source: impl Into<BoxError>) -> Self {
        Self { kind: StoreErrorKind::Invalid, source: Some(source.into()) }
    }

    /// The handler's transaction was rolled back.
    pub fn rolled_back(source: impl Into<BoxError>) -> Self {
        Self { kind: StoreErrorKind::RolledBack, source: Some(source.into()) }
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Debug for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreError").field("kind", &self.kind).field("source", &self.source).finish()
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            StoreErrorKind::Unavailable => "the idempotency store was not reached",
            StoreErrorKind::Full => "the idempotency store is full",
            StoreErrorKind::Invalid => "the idempotency store cannot hold or read this record",
            StoreErrorKind::RolledBack => "the handler's transaction was rolled back",
        })
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}
