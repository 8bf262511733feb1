//! Accounts and the hashes of their keys.

use super::{Connection, dispatch, row};

/// A key to create, and its account.
#[derive(Debug)]
pub struct NewKey<'a> {
    pub api: &'a str,
    pub account: &'a str,
    pub plan: &'a str,
    /// The id that operators use for the key.
    pub id: &'a str,
    pub environment: &'a str,
    /// The SHA-256 hash, in hexadecimal digits.
    pub hash: &'a str,
    /// A comma-separated list.
    pub permissions: &'a str,
    /// The current time in milliseconds since the Unix epoch.
    pub now: i64,
}

row! {
    /// The owner of a key.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct KeyRow {
        pub account: String,
        pub plan: String,
        pub permissions: String,
        /// The time at which the account was created, in milliseconds since the Unix epoch.
        pub created_at: i64,
    }
}

/// Creates a key, and its account if there is none. An existing account keeps its plan.
pub async fn create_key(mut connection: Connection<'_>, key: &NewKey<'_>) -> sqlx::Result<()> {
    dispatch!(connection.reborrow(), c => sqlx::query(
        "INSERT INTO accounts (id, plan, created_at) VALUES ($1, $2, $3) ON CONFLICT (id) DO NOTHING",
    ).bind(key.account).bind(key.plan).bind(key.now).execute(c).await.map(drop))?;
    dispatch!(connection, c => sqlx::query(
        "INSERT INTO api_keys (hash, api, account, permissions, created_at, id, environment)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(key.hash).bind(key.api).bind(key.account).bind(key.permissions).bind(key.now).bind(key.id)
    .bind(key.environment).execute(c).await.map(drop))
}

/// Returns the owner of an API's active key with this hash.
pub async fn owner_of(connection: Connection<'_>, api: &str, hash: &str) -> sqlx::Result<Option<KeyRow>> {
    dispatch!(connection, c => sqlx::query_as(
        "SELECT accounts.id AS account, accounts.plan, api_keys.permissions, accounts.created_at
         FROM api_keys JOIN accounts ON accounts.id = api_keys.account
         WHERE api_keys.hash = $1 AND api_keys.api = $2 AND api_keys.revoked_at IS NULL",
    ).bind(hash).bind(api).fetch_optional(c).await)
}

/// Returns whether there is an active key.
pub async fn any(connection: Connection<'_>) -> sqlx::Result<bool> {
    dispatch!(connection, c => sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM api_keys WHERE revoked_at IS NULL)",
    ).fetch_one(c).await)
}

/// Returns the plan of an account.
pub async fn plan_of(connection: Connection<'_>, account: &str) -> sqlx::Result<Option<String>> {
    dispatch!(connection, c => sqlx::query_scalar("SELECT plan FROM accounts WHERE id = $1").bind(account).fetch_optional(c).await)
}
