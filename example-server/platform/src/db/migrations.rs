//! The server's own tables. The idempotency store and the scheduler bring theirs.

use std::borrow::Cow;

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// What brings the tables up to date. It keeps its list apart from those of the libraries.
pub(super) fn migrator() -> Migrator {
    let migrations = MIGRATIONS.iter().zip(1..).map(|((name, sql), version)| {
        Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.dangerous_set_table_name("example_server_migrations");
    migrator
}

/// In order. One that was released is never changed.
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
];
