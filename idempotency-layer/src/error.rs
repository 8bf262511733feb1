//! Errors of a store.

use std::error::Error;
use std::fmt;

pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// An error of a store.
///
/// [`kind`](Self::kind) returns what the caller can conclude from it, and [`source`](Error::source)
/// the cause.
pub struct StoreError {
    kind: StoreErrorKind,
    source: Option<BoxError>,
}

/// The kinds of [`StoreError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store was not reached, or its answer was lost. It is unknown whether the verb took
    /// effect. It is safe to repeat it with the same token or fence.
    Unavailable,
    /// The store has no room. The verb did not take effect.
    Full,
    /// The store cannot read or hold this record. The verb did not take effect.
    Invalid,
    /// The handler's transaction could not be committed and was rolled back, because a statement in
    /// it or a constraint had failed.
    RolledBack,
}

impl StoreError {
    /// Makes an error for a store that was not reached, or whose answer was lost.
    pub fn unavailable(source: impl Into<BoxError>) -> Self {
        Self { kind: StoreErrorKind::Unavailable, source: Some(source.into()) }
    }

    /// Makes an error for a store that has no room for the record.
    pub fn full() -> Self {
        Self { kind: StoreErrorKind::Full, source: None }
    }

    /// Makes an error for a record that the store cannot read or hold.
    pub fn invalid(source: impl Into<BoxError>) -> Self {
        Self { kind: StoreErrorKind::Invalid, source: Some(source.into()) }
    }

    /// Makes an error for a handler's transaction that was rolled back.
    pub fn rolled_back(source: impl Into<BoxError>) -> Self {
        Self { kind: StoreErrorKind::RolledBack, source: Some(source.into()) }
    }

    /// Returns the kind of this error.
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
