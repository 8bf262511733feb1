//! What a scheduler can fail with.

use std::error::Error;
use std::fmt;
#[cfg(feature = "postgres")]
use std::sync::Arc;

/// The cause of an error, whatever its type.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// A scheduler could not carry out a verb.
///
/// Opaque: [`kind`](Self::kind) says what to do about it, [`source`](Error::source) keeps the
/// cause.
pub struct SchedulerError {
    kind: SchedulerErrorKind,
    source: BoxError,
}

/// What kind of failure a [`SchedulerError`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SchedulerErrorKind {
    /// The database was not reached, or its answer was lost: whether the verb took effect is
    /// unknown.
    Unavailable,
    /// The database was reached, but the scheduler's tables are not there: call `migrate`. The verb
    /// did not take effect.
    NotMigrated,
    /// Somebody else holds a lock on the cycle, or changed it at the same time. The verb did not
    /// take effect; repeat it.
    Conflict,
    /// The [hook](crate::EndedHook) of an ending failed, so the cycle did not end. The verb did not
    /// take effect; repeat it.
    HookFailed,
    /// There is no room. The verb did not take effect.
    Full,
    /// What the database holds, or is to hold, makes no sense. The verb did not take effect.
    Invalid,
}

impl SchedulerError {
    /// The database was not reached, or its answer was lost.
    pub fn unavailable(source: impl Into<BoxError>) -> Self {
        Self { kind: SchedulerErrorKind::Unavailable, source: source.into() }
    }

    /// The scheduler's tables are not there.
    pub fn not_migrated(source: impl Into<BoxError>) -> Self {
        Self { kind: SchedulerErrorKind::NotMigrated, source: source.into() }
    }

    /// Somebody else holds a lock, or changed it at the same time.
    pub fn conflict(source: impl Into<BoxError>) -> Self {
        Self { kind: SchedulerErrorKind::Conflict, source: source.into() }
    }

    /// The hook of an ending failed.
    pub fn hook_failed(source: impl Into<BoxError>) -> Self {
        Self { kind: SchedulerErrorKind::HookFailed, source: source.into() }
    }

    /// There is no room.
    pub fn full(source: impl Into<BoxError>) -> Self {
        Self { kind: SchedulerErrorKind::Full, source: source.into() }
    }

    /// What the database holds, or is to hold, makes no sense.
    pub fn invalid(source: impl Into<BoxError>) -> Self {
        Self { kind: SchedulerErrorKind::Invalid, source: source.into() }
    }

    /// The same for each of several callers.
    #[cfg(feature = "postgres")]
    pub(crate) fn copies(self) -> impl FnMut() -> Self {
        let source: Arc<dyn Error + Send + Sync> = self.source.into();
        move || Self { kind: self.kind, source: Box::new(Arc::clone(&source)) }
    }

    /// What kind of failure this is.
    pub fn kind(&self) -> SchedulerErrorKind {
        self.kind
    }
}

impl fmt::Debug for SchedulerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SchedulerError").field("kind", &self.kind).field("source", &self.source).finish()
    }
}

impl fmt::Display for SchedulerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            SchedulerErrorKind::Unavailable => "the scheduler's database was not reached",
            SchedulerErrorKind::NotMigrated => "the scheduler's tables are not in the database",
            SchedulerErrorKind::Conflict => "somebody else is changing this cycle",
            SchedulerErrorKind::HookFailed => "the hook of an ending failed",
            SchedulerErrorKind::Full => "the scheduler is full",
            SchedulerErrorKind::Invalid => "the scheduler's database cannot hold or read this cycle",
        })
    }
}

impl Error for SchedulerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}
