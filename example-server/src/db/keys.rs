//! API keys, as operators see them.

use super::{Connection, on};

/// A key, as `keys list` shows it.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct ListedKey {
    pub(crate) id: String,
    pub(crate) api: String,
    pub(crate) account: String,
    pub(crate) plan: String,
    pub(crate) created_at: i64,
    pub(crate) revoked_at: Option<i64>,
}

/// A key that was just revoked.
#[derive(Debug, sqlx::FromRow)]
pub(crate) struct RevokedKey {
    pub(crate) api: String,
    pub(crate) account: String,
    pub(crate) permissions: String,
    /// `None` for a key made by a version that did not record it.
    pub(crate) environment: Option<String>,
}

/// Returns every key, the oldest first.
pub(crate) async fn list(connection: Connection<'_>) -> sqlx::Result<Vec<ListedKey>> {
    on!(connection, c => sqlx::query_as(
        "SELECT api_keys.id, api_keys.api, accounts.id AS account, accounts.plan, api_keys.created_at, api_keys.revoked_at
         FROM api_keys JOIN accounts ON accounts.id = api_keys.account
         ORDER BY api_keys.created_at, api_keys.id",
    ).fetch_all(c).await)
}

/// Revokes an active key and returns it; `None` if there is no active key with this id.
pub(crate) async fn revoke(
    connection: Connection<'_>,
    id: &str,
    now: i64,
) -> sqlx::Result<Option<RevokedKey>> {
    on!(connection, c => sqlx::query_as(
        "UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL
         RETURNING api, account, permissions, environment",
    ).bind(id).bind(now).fetch_optional(c).await)
}

/// Returns the API of a key, active or revoked.
pub(crate) async fn api_of(connection: Connection<'_>, id: &str) -> sqlx::Result<Option<String>> {
    on!(connection, c => sqlx::query_scalar("SELECT api FROM api_keys WHERE id = $1").bind(id).fetch_optional(c).await)
}
