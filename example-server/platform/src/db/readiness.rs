//! A write that asks whether the database takes writes.

use super::{Database, Inner};

impl Database {
    /// Commits a write, and so asks the database for what every request with a change needs: the writer, room on the disk,
    /// a server that is not a read-only standby, and a commit that is answered.
    ///
    /// On SQLite it writes about as much as a large request, or it would still fit in the last pages of a full disk. In an
    /// open transaction SQLite keeps all of that in memory, so it has to be committed.
    ///
    /// # Cancel safety
    /// Dropped, the transaction is rolled back.
    pub async fn probe_write(&self) -> sqlx::Result<()> {
        let mut transaction = self.begin().await?;
        match transaction.connection().inner {
            Inner::Sqlite(connection) => {
                // Pages that do not change are not written.
                sqlx::query(
                    "INSERT INTO readiness_probes (id, content) VALUES ('sqlite', hex(randomblob(32768)))
                     ON CONFLICT (id) DO UPDATE SET content = excluded.content",
                )
                .execute(connection)
                .await?;
            }
            Inner::Postgres(connection) => {
                // A row of its own, since other servers ask the same database.
                let id = uuid::Uuid::new_v4().to_string();
                sqlx::query("SET LOCAL statement_timeout = '2s'").execute(&mut *connection).await?;
                sqlx::query("INSERT INTO readiness_probes (id, content) VALUES ($1, '')")
                    .bind(&id)
                    .execute(&mut *connection)
                    .await?;
                sqlx::query("DELETE FROM readiness_probes WHERE id = $1")
                    .bind(&id)
                    .execute(&mut *connection)
                    .await?;
            }
        }
        transaction.commit().await
    }
}
