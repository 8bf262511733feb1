//! The table of encrypted pictures of receipts.

use jiff::Timestamp;
use uuid::Uuid;

use super::named;
use platform::db::{Connection, dispatch};

/// Inserts the picture of a validation, in the transaction that inserts the validation.
pub(super) async fn insert(
    connection: Connection<'_>,
    validation: Uuid,
    sealed: &str,
    now: Timestamp,
) -> sqlx::Result<()> {
    dispatch!(connection, c => sqlx::query("INSERT INTO images (validation, sealed, created_at) VALUES ($1, $2, $3)")
        .bind(validation.to_string()).bind(sealed).bind(now.as_millisecond()).execute(c).await.map(drop))
}

/// Loads the picture of a validation.
pub(crate) async fn load(connection: Connection<'_>, validation: Uuid) -> sqlx::Result<Option<String>> {
    dispatch!(connection, c => sqlx::query_scalar("SELECT sealed FROM images WHERE validation = $1")
        .bind(validation.to_string()).fetch_optional(c).await)
}

/// Returns the validations whose pictures were stored before this time, oldest first.
pub(crate) async fn older(
    connection: Connection<'_>,
    before: Timestamp,
    limit: u32,
) -> sqlx::Result<Vec<Uuid>> {
    let ids: Vec<String> = dispatch!(connection, c => sqlx::query_scalar(
        "SELECT validation FROM images WHERE created_at < $1 ORDER BY created_at LIMIT $2",
    ).bind(before.as_millisecond()).bind(i64::from(limit)).fetch_all(c).await)?;
    ids.iter().map(|id| named(id)).collect()
}

/// Deletes the picture of a validation, marks the validation accordingly and increments its
/// version.
pub(crate) async fn expire(mut connection: Connection<'_>, validation: Uuid) -> sqlx::Result<()> {
    dispatch!(connection.reborrow(), c => sqlx::query(
        "UPDATE validations SET image = 'expired', etag_version = etag_version + 1 WHERE id = $1",
    ).bind(validation.to_string()).execute(c).await.map(drop))?;
    dispatch!(connection, c => sqlx::query("DELETE FROM images WHERE validation = $1")
        .bind(validation.to_string()).execute(c).await.map(drop))
}
