//! Where the tables are, and whether a connection that is lent finds the same ones.

use sqlx::{PgConnection, Row, query, raw_sql};

use super::errors::failed;
use crate::error::SchedulerError;

/// Where the connections of the pool find the tables.
///
/// What a pool does `after_connect` is not done on the scheduler's own connections, and a search path is often set there.
#[derive(Debug)]
pub(super) struct Home {
    pub(super) search_path: String,
    /// The table of cycles.
    pub(super) cycles: i64,
}

impl Home {
    /// The channel for notices. It is that of the table, so that schedulers with other tables in the same database do not
    /// hear it.
    pub(super) fn channel(&self) -> String {
        format!("retry_scheduler_{}", self.cycles)
    }
}

/// Asks a connection of the pool.
pub(super) async fn of(connection: &mut PgConnection) -> Result<Home, SchedulerError> {
    let row = query(
        "SELECT current_setting('search_path'), to_regclass('retry_cycles')::oid::bigint, \
         to_regclass('retry_namespaces')::oid::bigint",
    )
    .fetch_one(connection)
    .await
    .map_err(failed)?;
    let search_path: String = row.try_get(0).map_err(failed)?;
    let tables: [Option<i64>; 2] = [row.try_get(1).map_err(failed)?, row.try_get(2).map_err(failed)?];
    match tables {
        [Some(cycles), Some(_)] => Ok(Home { search_path, cycles }),
        _ => Err(SchedulerError::not_migrated(format!("no tables in the search path {search_path}"))),
    }
}

/// Checks a connection that a caller lends: what is written on it must commit with the caller's transaction, to the tables
/// that the scheduler's own connections claim from. Returns the number of the transaction, if `numbered`: it has one then.
///
/// # Errors
///
/// `Invalid` when the connection has no transaction open, or finds other tables.
pub(super) async fn check(
    connection: &mut PgConnection,
    home: &Home,
    numbered: bool,
) -> Result<Option<u64>, SchedulerError> {
    // Outside of a transaction there are no savepoints. What the client believes of its connection is not asked.
    let row = raw_sql(if numbered {
        "SAVEPOINT retry_scheduler; RELEASE SAVEPOINT retry_scheduler; \
         SELECT to_regclass('retry_cycles')::oid::bigint, pg_current_xact_id()::text"
    } else {
        "SAVEPOINT retry_scheduler; RELEASE SAVEPOINT retry_scheduler; \
         SELECT to_regclass('retry_cycles')::oid::bigint, NULL::text"
    })
    .fetch_one(connection)
    .await
    .map_err(|error| match &error {
        sqlx::Error::Database(database) if database.code().as_deref() == Some("25P01") => {
            SchedulerError::invalid(
                "the connection has no transaction open: begin one, or use the verb without `_in`",
            )
        }
        _ => failed(error),
    })?;
    let cycles: Option<i64> = row.try_get(0).map_err(failed)?;
    if cycles == Some(home.cycles) {
        let number: Option<String> = row.try_get(1).map_err(failed)?;
        return Ok(number.and_then(|number| number.parse().ok()));
    }
    Err(SchedulerError::invalid(format!(
        "this connection finds other tables than the scheduler, whose search path is {}",
        home.search_path
    )))
}
