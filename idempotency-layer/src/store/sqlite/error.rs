//! What an error of the database means to a caller.

use sqlx::Error;

use crate::error::StoreError;

// The primary codes: <https://www.sqlite.org/rescode.html>.
const BUSY: i32 = 5;
const FULL: i32 = 13;
const TOO_BIG: i32 = 18;
const CONSTRAINT: i32 = 19;
const MISMATCH: i32 = 20;

/// No data and no SQL get into the message; the cause keeps both.
pub(super) fn store_error(error: Error) -> StoreError {
    match code(&error) {
        Some(FULL) => StoreError::full(),
        Some(TOO_BIG | CONSTRAINT | MISMATCH) => StoreError::invalid(error),
        _ if matches!(error, Error::Encode(_) | Error::Decode(_) | Error::ColumnDecode { .. }) => {
            StoreError::invalid(error)
        }
        // Also what is wrong with the file as a whole. Nothing of that is about the record.
        _ => StoreError::unavailable(error),
    }
}

/// Another process has the write lock.
pub(super) fn is_busy(error: &Error) -> bool {
    code(error) == Some(BUSY)
}

/// The primary code: sqlx says the extended one, as a decimal.
fn code(error: &Error) -> Option<i32> {
    let code = error.as_database_error()?.code()?;
    Some(code.parse::<i32>().ok()? & 0xff)
}
