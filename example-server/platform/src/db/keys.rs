//! Queries that manage API keys.

use super::{Connection, dispatch, row};

row! {
    /// A key, as `keys list` shows it.
    #[derive(Debug)]
    pub struct ListedKey {
        pub id: String,
        pub api: String,
        pub account: String,
        pub plan: String,
        pub created_at: i64,
        pub revoked_at: Option<i64>,
    }
}

row! {
    /// A key that was just revoked.
    #[derive(Debug)]
    pub struct RevokedKey {
        pub api: String,
        pub account: String,
        pub permissions: String,
        /// `None` for a key made by a version that did not record it.
        pub environment: Option<String>,
    }
}

/// Returns all keys, oldest first.
pub async fn list(connection: Connection<'_>) -> sqlx::Result<Vec<ListedKey>> {
    dispatch!(connection, c => sqlx::query_as(
        "SELECT api_keys.id, api_keys.api, accounts.id AS account, accounts.plan, api_keys.created_at, api_keys.revoked_at
         FROM api_keys JOIN accounts ON accounts.id = api_keys.account
         ORDER BY api_keys.created_at, api_keys.id",
    ).fetch_all(c).await)
}

/// Revokes an active key and returns it. Returns `None` if there is no active key with this id.
pub async fn revoke(connection: Connection<'_>, id: &str, now: i64) -> sqlx::Result<Option<RevokedKey>> {
    dispatch!(connection, c => sqlx::query_as(
        "UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL
         RETURNING api, account, permissions, environment",
    ).bind(id).bind(now).fetch_optional(c).await)
}

/// Returns the API of a key, active or revoked.
pub async fn api_of(connection: Connection<'_>, id: &str) -> sqlx::Result<Option<String>> {
    dispatch!(connection, c => sqlx::query_scalar("SELECT api FROM api_keys WHERE id = $1").bind(id).fetch_optional(c).await)
}
