//! Queries of sealed signing secrets.

use crate::db::columns::named;
use crate::db::{Connection, dispatch};
use crate::owner::Owner;

pub(in crate::webhooks) async fn load(
    connection: Connection<'_>,
    owner: &Owner,
) -> sqlx::Result<Option<String>> {
    dispatch!(connection, c => sqlx::query_scalar(
        "SELECT secret FROM signing_secrets WHERE account = $1 AND environment = $2",
    ).bind(&owner.account).bind(owner.environment.as_str()).fetch_optional(c).await)
}

pub(in crate::webhooks) async fn insert_if_none(
    connection: Connection<'_>,
    owner: &Owner,
    sealed: &str,
) -> sqlx::Result<()> {
    dispatch!(connection, c => sqlx::query(
        "INSERT INTO signing_secrets (account, environment, secret) VALUES ($1, $2, $3)
         ON CONFLICT (account, environment) DO NOTHING",
    ).bind(&owner.account).bind(owner.environment.as_str()).bind(sealed).execute(c).await.map(drop))
}

/// Returns one sealed secret for each sealing key in use. The first eight characters of a sealed
/// secret identify the key.
pub(in crate::webhooks) async fn one_of_each_key(
    connection: Connection<'_>,
) -> sqlx::Result<Vec<(Owner, String)>> {
    let rows: Vec<(String, String, String)> = dispatch!(connection, c => sqlx::query_as(
        "SELECT account, environment, secret FROM signing_secrets
         WHERE secret IN (SELECT MIN(secret) FROM signing_secrets GROUP BY SUBSTR(secret, 1, 8))",
    ).fetch_all(c).await)?;
    let read = |(account, environment, secret): (String, String, String)| {
        Ok((Owner { account, environment: named(&environment)? }, secret))
    };
    rows.into_iter().map(read).collect()
}
