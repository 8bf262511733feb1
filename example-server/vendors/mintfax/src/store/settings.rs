//! The table of an owner's default settings for faxes.

use super::column;
use platform::db::{Connection, dispatch};
use platform::owner::Owner;

/// Loads the default number of retries. Returns `None` if it was never set.
pub(crate) async fn retries(connection: Connection<'_>, owner: &Owner) -> sqlx::Result<Option<u8>> {
    let retries: Option<i64> = dispatch!(connection, c => sqlx::query_scalar(
        "SELECT retries FROM mintfax_settings WHERE account = $1 AND environment = $2",
    ).bind(&owner.account).bind(owner.environment.as_str()).fetch_optional(c).await)?;
    retries.map(column).transpose()
}

pub(crate) async fn set_retries(connection: Connection<'_>, owner: &Owner, retries: u8) -> sqlx::Result<()> {
    dispatch!(connection, c => sqlx::query(
        "INSERT INTO mintfax_settings (account, environment, retries) VALUES ($1, $2, $3)
         ON CONFLICT (account, environment) DO UPDATE SET retries = excluded.retries",
    ).bind(&owner.account).bind(owner.environment.as_str()).bind(i64::from(retries)).execute(c).await.map(drop))
}
