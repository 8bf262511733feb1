//! Ending a transaction on PostgreSQL.

use sqlx::{Executor, PgConnection, PgPool, Postgres};

use super::private::Statements;
use crate::error::StoreError;
use crate::store::{Fence, Fenced, Outcome, RecordId, postgres};

impl Statements for Postgres {
    const BEGIN: &'static str = "BEGIN";

    /// PostgreSQL answers the COMMIT of an aborted transaction with a ROLLBACK and no error; any statement before it fails.
    async fn check(connection: &mut PgConnection) -> Result<(), StoreError> {
        connection.execute("SELECT 1").await.map(drop).map_err(StoreError::unavailable)
    }

    async fn complete(
        connection: &mut PgConnection,
        record: RecordId,
        fence: Fence,
        outcome: &Outcome,
    ) -> Result<Fenced, StoreError> {
        postgres::complete_in(connection, record, fence, outcome).await
    }

    async fn is_completed(pool: &PgPool, record: RecordId, fence: Fence) -> Result<bool, StoreError> {
        let mut connection = pool.acquire().await.map_err(StoreError::unavailable)?;
        postgres::settled_in(&mut connection, record, fence).await
    }
}
