//! What an error of the database means to a caller.

use sqlx::Error;
use sqlx::error::DatabaseError;

use crate::error::StoreError;

/// No data and no SQL get into the message; the cause keeps both.
pub(super) fn store_error(error: Error) -> StoreError {
    match &*sqlstate(&error) {
        // disk_full
        "53100" => StoreError::full(),
        // Data that cannot be, a constraint, or more than the database can take.
        code if ["22", "23", "54"].iter().any(|class| code.starts_with(class)) => StoreError::invalid(error),
        _ if matches!(error, Error::Encode(_) | Error::Decode(_) | Error::ColumnDecode { .. }) => {
            StoreError::invalid(error)
        }
        // Also what is wrong with the connection's own database: no table, no rights, a server that only reads by now.
        // Nothing of that is about the record.
        _ => StoreError::unavailable(error),
    }
}

/// Two transactions met, this one was undone, and will do better the next time.
pub(super) fn is_collision(error: &Error) -> bool {
    matches!(&*sqlstate(error), "40001" | "40P01")
}

/// A row was not to be had within the session's `lock_timeout`.
pub(super) fn is_locked(error: &Error) -> bool {
    sqlstate(error) == "55P03"
}

/// The server's table of locks is full: fewer claims at a time need less of it.
pub(super) fn is_out_of_locks(error: &Error) -> bool {
    sqlstate(error) == "53200"
}

fn sqlstate(error: &Error) -> String {
    error.as_database_error().and_then(DatabaseError::code).unwrap_or_default().into_owned()
}
