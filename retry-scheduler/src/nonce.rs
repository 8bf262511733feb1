//! Nonces of claims.

use crate::error::SchedulerError;

/// Returns a random number from the operating system, which fits a signed column.
///
/// # Errors
///
/// When it has none to give.
pub(crate) fn random() -> Result<u64, SchedulerError> {
    getrandom::u64().map(|random| random >> 1).map_err(SchedulerError::unavailable)
}
