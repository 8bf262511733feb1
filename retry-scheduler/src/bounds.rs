//! The bounds of what a scheduler stores.

use crate::error::SchedulerError;

/// The longest text of a key or tenant, in bytes.
pub const MAX_TEXT: usize = 255;
/// The longest payload or detail, in bytes.
pub const MAX_BYTES: usize = 64 * 1024;

pub(crate) fn check_text(what: &str, text: &str) -> Result<(), SchedulerError> {
    if text.len() > MAX_TEXT {
        return Err(SchedulerError::invalid(format!("the {what} is longer than {MAX_TEXT} bytes")));
    }
    check_no_nul(what, text)
}

pub(crate) fn check_no_nul(what: &str, text: &str) -> Result<(), SchedulerError> {
    if text.contains('\0') {
        return Err(SchedulerError::invalid(format!("the {what} has a NUL in it")));
    }
    Ok(())
}

pub(crate) fn check_bytes(what: &str, bytes: &[u8]) -> Result<(), SchedulerError> {
    if bytes.len() > MAX_BYTES {
        return Err(SchedulerError::invalid(format!("the {what} is longer than {MAX_BYTES} bytes")));
    }
    Ok(())
}
