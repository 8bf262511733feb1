//! Nonces of claims.

use crate::error::SchedulerError;

/// A random number from the operating system.
///
/// # Errors
///
/// When it has none to give.
pub(crate) fn random() -> Result<u64, SchedulerError> {
    getrandom::u64().map_err(SchedulerError::unavailable)
}
