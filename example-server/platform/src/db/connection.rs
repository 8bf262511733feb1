//! A connection to either database.

use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::{PgConnection, SqliteConnection};

/// A borrowed connection to either database.
#[derive(Debug)]
pub struct Connection<'c> {
    pub inner: Inner<'c>,
    due: Option<&'c Due>,
}

/// The connection of the database driver.
#[derive(Debug)]
pub enum Inner<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

/// A flag that is set if the transaction has scheduled a cycle that is due when it commits.
#[derive(Debug, Default)]
pub struct Due(AtomicBool);

impl Due {
    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl<'c> Connection<'c> {
    pub fn of_sqlite(connection: &'c mut SqliteConnection, due: Option<&'c Due>) -> Self {
        Self { inner: Inner::Sqlite(connection), due }
    }

    pub fn of_postgres(connection: &'c mut PgConnection, due: Option<&'c Due>) -> Self {
        Self { inner: Inner::Postgres(connection), due }
    }

    /// Returns whether this is a PostgreSQL connection. PostgreSQL can combine several changes in
    /// one statement.
    pub fn is_postgres(&self) -> bool {
        matches!(self.inner, Inner::Postgres(_))
    }

    /// Reborrows the connection for one query.
    pub fn reborrow(&mut self) -> Connection<'_> {
        let inner = match &mut self.inner {
            Inner::Sqlite(connection) => Inner::Sqlite(connection),
            Inner::Postgres(connection) => Inner::Postgres(connection),
        };
        Connection { inner, due: self.due }
    }

    /// Records that the transaction has scheduled a due cycle.
    pub fn set_due(&self) {
        if let Some(due) = self.due {
            due.0.store(true, Ordering::Relaxed);
        }
    }
}

/// Runs one query on either database. Both use `$1`, `$2` … for the bound values.
#[macro_export]
macro_rules! dispatch {
    ($connection:expr, $inner:ident => $query:expr) => {
        match $connection.inner {
            $crate::db::Inner::Sqlite($inner) => $query,
            $crate::db::Inner::Postgres($inner) => $query,
        }
    };
}
pub use dispatch;
