//! Accounts and the hashes of their keys.

use super::{Connection, dispatch, row};

/// A key to be made, and the account it is for.
#[derive(Debug)]
pub struct NewKey<'a> {
    pub api: &'a str,
    pub account: &'a str,
    pub plan: &'a str,
    /// What operators call the key by.
    pub id: &'a str,
    pub environment: &'a str,
    /// SHA-256, in hexadecimal digits.
    pub hash: &'a str,
    /// With commas between.
    pub permissions: &'a str,
    pub now: i64,
}

row! {
    /// Whose a key is.
    #[derive(Debug, Clone, PartialEq, Eq)]
    pub struct KeyRow {
        pub account: String,
        pub plan: String,
        pub permissions: String,
        /// When the account was made.
        pub created_at: i64,
    }
}

/// Makes the account, if it is new, and one more key of it. An account that is there keeps its plan.
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

/// Returns the owner of the active key of an API with this hash.
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

/// The plan an account is on.
pub async fn plan_of(connection: Connection<'_>, account: &str) -> sqlx::Result<Option<String>> {
    dispatch!(connection, c => sqlx::query_scalar("SELECT plan FROM accounts WHERE id = $1").bind(account).fetch_optional(c).await)
}
