//! The store's own transactions on connections of the application's pool.

use std::ops::{Deref, DerefMut};

use sqlx::pool::PoolConnection;
use sqlx::{Executor, PgConnection, PgPool, Postgres};

use super::statements::BEGIN;

/// A transaction at READ COMMITTED that may write, whatever the session's defaults are.
///
/// The connection goes back to the pool only after a commit that was acknowledged. Otherwise it is
/// closed: it might still be inside the transaction, and what the application writes through it
/// next would be rolled back.
pub(super) struct OwnTransaction {
    connection: PoolConnection<Postgres>,
    is_over: bool,
}

impl OwnTransaction {
    pub(super) async fn begin(pool: &PgPool) -> sqlx::Result<Self> {
        let mut transaction = Self { connection: pool.acquire().await?, is_over: false };
        transaction.execute(BEGIN).await?;
        Ok(transaction)
    }

    pub(super) async fn commit(mut self) -> sqlx::Result<()> {
        self.execute("COMMIT").await?;
        self.is_over = true;
        Ok(())
    }
}

impl Drop for OwnTransaction {
    fn drop(&mut self) {
        if !self.is_over {
            self.connection.close_on_drop();
        }
    }
}

impl Deref for OwnTransaction {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.connection
    }
}

impl DerefMut for OwnTransaction {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.connection
    }
}
