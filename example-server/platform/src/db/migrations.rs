//! The migrations of the server's tables. The idempotency store and the scheduler have their own.

use std::borrow::Cow;

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// Returns the migrator. It records applied migrations in a table of its own, apart from the
/// libraries'.
pub(super) fn migrator() -> Migrator {
    migrator_of(MIGRATIONS)
}

fn migrator_of(migrations: &[(&'static str, &'static str)]) -> Migrator {
    let migrations = migrations.iter().zip(1..).map(|((name, sql), version)| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.dangerous_set_table_name("example_server_migrations");
    migrator
}

/// The migrations, in order. A released migration must not change.
const MIGRATIONS: &[(&str, &str)] = &[
    ("veriko", include_str!("../../migrations/0001_veriko.sql")),
    ("ceps", include_str!("../../migrations/0002_ceps.sql")),
    ("queue", include_str!("../../migrations/0003_queue.sql")),
    ("apis", include_str!("../../migrations/0004_apis.sql")),
    ("webhooks", include_str!("../../migrations/0005_webhooks.sql")),
    ("receipts", include_str!("../../migrations/0006_receipts.sql")),
    ("images", include_str!("../../migrations/0007_images.sql")),
    ("txcloud", include_str!("../../migrations/0008_txcloud.sql")),
    ("mintfax", include_str!("../../migrations/0009_mintfax.sql")),
    ("txcloud documents", include_str!("../../migrations/0010_txcloud_documents.sql")),
    ("mintfax secrets", include_str!("../../migrations/0011_mintfax_secrets.sql")),
    ("signing secrets", include_str!("../../migrations/0012_signing_secrets.sql")),
    ("no overdue", include_str!("../../migrations/0013_no_overdue.sql")),
    ("readiness", include_str!("../../migrations/0014_readiness.sql")),
    ("keys", include_str!("../../migrations/0015_keys.sql")),
    ("quota shares", include_str!("../../migrations/0016_quota_shares.sql")),
    ("mintfax documents", include_str!("../../migrations/0017_mintfax_documents.sql")),
];

#[cfg(test)]
mod tests {
    use private_postgres::shared_database;
    use sqlx::{PgPool, SqlitePool};

    use super::*;

    type Row = (String, Option<String>, Option<i64>);

    /// Keys from before `0015_keys.sql`.
    #[tokio::test]
    async fn existing_keys_get_ids_and_stay_active() {
        let before: Vec<_> = MIGRATIONS.iter().copied().take_while(|(name, _)| *name != "keys").collect();
        let insert = "INSERT INTO accounts VALUES ('acme', 'pro', 1);
            INSERT INTO api_keys (hash, account, permissions, created_at, api) VALUES
            ('0123456789abcdef0', 'acme', '', 1, 'veriko'), ('fedcba9876543210f', 'acme', '', 2, 'mintfax');";
        let select = "SELECT id, environment, revoked_at FROM api_keys ORDER BY created_at";
        let sqlite = SqlitePool::connect("sqlite::memory:").await.unwrap();
        migrator_of(&before).run(&sqlite).await.unwrap();
        sqlx::raw_sql(insert).execute(&sqlite).await.unwrap();
        migrator().run(&sqlite).await.unwrap();
        let in_sqlite: Vec<Row> = sqlx::query_as(select).fetch_all(&sqlite).await.unwrap();

        let postgres = PgPool::connect(&shared_database()).await.unwrap();
        migrator_of(&before).run(&postgres).await.unwrap();
        sqlx::raw_sql(insert).execute(&postgres).await.unwrap();
        migrator().run(&postgres).await.unwrap();
        let in_postgres: Vec<Row> = sqlx::query_as(select).fetch_all(&postgres).await.unwrap();

        let expected = vec![
            ("key_0123456789abcdef".to_owned(), Some("live".to_owned()), None),
            ("key_fedcba9876543210".to_owned(), None, None),
        ];
        assert_eq!((&in_sqlite, &in_postgres), (&expected, &expected));
    }
}
