//! The kinds of the database's errors.

use sqlx::Error;
use sqlx::error::DatabaseError;

use crate::error::StoreError;

/// The message has no data and no SQL. The source keeps both.
pub(super) fn store_error(error: Error) -> StoreError {
    match &*sqlstate(&error) {
        // disk_full
        "53100" => StoreError::full(),
        // Invalid data, a violated constraint, or more than the database's limits.
        code if ["22", "23", "54"].iter().any(|class| code.starts_with(class)) => StoreError::invalid(error),
        _ if matches!(error, Error::Encode(_) | Error::Decode(_) | Error::ColumnDecode { .. }) => {
            StoreError::invalid(error)
        }
        // Also errors of the set-up: no table, no privilege, a read-only server. None of them is
        // about the record.
        _ => StoreError::unavailable(error),
    }
}

/// Returns whether the transaction was undone in favour of another one, and can be tried again.
pub(super) fn is_collision(error: &Error) -> bool {
    matches!(&*sqlstate(error), "40001" | "40P01")
}

/// Returns whether a row's lock was not granted within the session's `lock_timeout`.
pub(super) fn is_locked(error: &Error) -> bool {
    sqlstate(error) == "55P03"
}

/// Returns whether the server's lock table is full. Fewer claims at a time need less of it.
pub(super) fn is_out_of_locks(error: &Error) -> bool {
    sqlstate(error) == "53200"
}

fn sqlstate(error: &Error) -> String {
    error.as_database_error().and_then(DatabaseError::code).unwrap_or_default().into_owned()
}
