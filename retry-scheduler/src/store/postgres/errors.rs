//! What an error of the server means.

use std::error::Error;

use crate::error::SchedulerError;

/// An error of the driver. What it says of the database goes into the source, not into the message.
pub(super) fn failed(error: sqlx::Error) -> SchedulerError {
    match &error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => SchedulerError::invalid(error),
        sqlx::Error::Database(database) => match database.code().as_deref() {
            Some(code) => of_code(code)(error.into()),
            None => SchedulerError::unavailable(error),
        },
        _ => SchedulerError::unavailable(error),
    }
}

/// Whether the server gave a statement up because it took too long.
pub(super) fn took_too_long(error: &SchedulerError) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<sqlx::Error>());
    matches!(source, Some(sqlx::Error::Database(database)) if database.code().as_deref() == Some("57014"))
}

fn of_code(code: &str) -> fn(crate::error::BoxError) -> SchedulerError {
    match code {
        // Serialization failure, deadlock, lock not available: the server rolled the statement back.
        "40001" | "40P01" | "55P03" => SchedulerError::conflict,
        // Undefined table, column, schema.
        "42P01" | "42703" | "3F000" => SchedulerError::not_migrated,
        // Disk full.
        "53100" => SchedulerError::full,
        // A value that a column cannot hold, and what a constraint refuses.
        _ if code.starts_with("22") || code.starts_with("23") => SchedulerError::invalid,
        // A transaction that has failed before.
        "25P02" => SchedulerError::invalid,
        _ => SchedulerError::unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::SchedulerErrorKind::{Conflict, Full, Invalid, NotMigrated, Unavailable};

    #[test]
    fn each_code_says_what_to_do() {
        for (code, kind) in [
            ("40001", Conflict),
            ("40P01", Conflict),
            ("55P03", Conflict),
            ("42P01", NotMigrated),
            ("42703", NotMigrated),
            ("53100", Full),
            ("22021", Invalid),
            ("23505", Invalid),
            ("57014", Unavailable),
            ("57P01", Unavailable),
            ("08006", Unavailable),
            ("53300", Unavailable),
            ("XX000", Unavailable),
        ] {
            assert_eq!(of_code(code)("".into()).kind(), kind, "{code}");
        }
    }
}
