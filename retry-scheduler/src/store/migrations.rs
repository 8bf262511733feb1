//! How tables are made.

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// The migrations of an engine, recorded in a table of this crate's own, beside the application's.
pub(super) fn migrator(texts: [&'static str; 2]) -> Migrator {
    let [cycles, namespaces] = texts;
    let migration = |version, name: &'static str, text: &'static str| {
        Migration::new(version, name.into(), MigrationType::Simple, text.into_sql_str(), false)
    };
    let mut migrator = Migrator::with_migrations(vec![
        migration(1, "cycles", cycles),
        migration(2, "namespaces", namespaces),
    ]);
    migrator.dangerous_set_table_name("retry_scheduler_migrations");
    migrator
}
