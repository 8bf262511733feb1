//! A test write for the readiness check.

use super::{Database, Inner};

impl Database {
    /// Commits a test write. It checks everything that a request with a change needs: the writer
    /// connection, disk space, a server that is not a read-only standby, and a commit that
    /// completes.
    ///
    /// On SQLite, it writes about as much as a large request, because a smaller write could still
    /// fit into the last pages of a full disk. It must commit, because SQLite keeps an open
    /// transaction in memory.
    ///
    /// # Cancel safety
    ///
    /// When dropped, the transaction rolls back.
    pub async fn probe_write(&self) -> sqlx::Result<()> {
        let mut transaction = self.begin().await?;
        match transaction.connection().inner {
            Inner::Sqlite(connection) => {
                // Random content, because SQLite does not write unchanged pages.
                sqlx::query(
                    "INSERT INTO readiness_probes (id, content) VALUES ('sqlite', hex(randomblob(32768)))
                     ON CONFLICT (id) DO UPDATE SET content = excluded.content",
                )
                .execute(connection)
                .await?;
            }
            Inner::Postgres(connection) => {
                // A row of its own, because other servers may probe the same database.
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
