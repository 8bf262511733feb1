//! The pictures of receipts, sealed.

use jiff::Timestamp;
use uuid::Uuid;

use super::named;
use platform::db::{Connection, dispatch};

/// Keeps the picture of a validation, in the transaction that keeps that.
pub(super) async fn insert(
    connection: Connection<'_>,
    validation: Uuid,
    sealed: &str,
    now: Timestamp,
) -> sqlx::Result<()> {
    dispatch!(connection, c => sqlx::query("INSERT INTO images (validation, sealed, created_at) VALUES ($1, $2, $3)")
        .bind(validation.to_string()).bind(sealed).bind(now.as_millisecond()).execute(c).await.map(drop))
}

/// The picture of a validation.
pub(crate) async fn load(connection: Connection<'_>, validation: Uuid) -> sqlx::Result<Option<String>> {
    dispatch!(connection, c => sqlx::query_scalar("SELECT sealed FROM images WHERE validation = $1")
        .bind(validation.to_string()).fetch_optional(c).await)
}

/// The validations whose pictures were kept before this time, the oldest first.
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

/// Drops the picture of a validation, which says so from now on, under its next version.
pub(crate) async fn expire(mut connection: Connection<'_>, validation: Uuid) -> sqlx::Result<()> {
    dispatch!(connection.reborrow(), c => sqlx::query(
        "UPDATE validations SET image = 'expired', etag_version = etag_version + 1 WHERE id = $1",
    ).bind(validation.to_string()).execute(c).await.map(drop))?;
    dispatch!(connection, c => sqlx::query("DELETE FROM images WHERE validation = $1")
        .bind(validation.to_string()).execute(c).await.map(drop))
}
