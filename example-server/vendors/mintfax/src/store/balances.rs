//! Money: what an owner has, and what of it is held for faxes that are under way.
//!
//! Of each owner `available + held +` what was charged is the opening balance, at any time.

use super::column;
use platform::db::{Connection, dispatch};
use platform::owner::Owner;

/// What an owner has, in cents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Balance {
    /// It can be less than nothing: a fax may have more pages than was known when it was accepted.
    pub(crate) available: i64,
    pub(crate) held: u64,
}

/// What is there; `None`: nothing was ever held or charged.
pub(crate) async fn load(connection: Connection<'_>, owner: &Owner) -> sqlx::Result<Option<Balance>> {
    let row: Option<(i64, i64)> = dispatch!(connection, c => sqlx::query_as(
        "SELECT available_cents, held_cents FROM mintfax_balances WHERE account = $1 AND environment = $2",
    ).bind(&owner.account).bind(owner.environment.as_str()).fetch_optional(c).await)?;
    row.map(|(available, held)| Ok(Balance { available, held: column(held)? })).transpose()
}

/// Holds so much, if there is so much; an owner who was not there before has `opening`.
pub(crate) async fn hold(
    mut connection: Connection<'_>,
    owner: &Owner,
    cents: u64,
    opening: u64,
) -> sqlx::Result<bool> {
    let (cents, opening): (i64, i64) = (column(cents)?, column(opening)?);
    dispatch!(connection.reborrow(), c => sqlx::query(
        "INSERT INTO mintfax_balances (account, environment, available_cents, held_cents) VALUES ($1, $2, $3, 0)
         ON CONFLICT (account, environment) DO NOTHING",
    ).bind(&owner.account).bind(owner.environment.as_str()).bind(opening).execute(c).await.map(drop))?;
    let held = dispatch!(connection, c => sqlx::query(
        "UPDATE mintfax_balances SET available_cents = available_cents - $3, held_cents = held_cents + $3
         WHERE account = $1 AND environment = $2 AND available_cents >= $3",
    ).bind(&owner.account).bind(owner.environment.as_str()).bind(cents).execute(c).await
        .map(|done| done.rows_affected()))?;
    Ok(held > 0)
}

/// Lets go of what was held, and charges what it came to: nothing, if it was for nothing.
pub(crate) async fn settle(
    connection: Connection<'_>,
    owner: &Owner,
    held: u64,
    charged: u64,
) -> sqlx::Result<()> {
    let (held, charged): (i64, i64) = (column(held)?, column(charged)?);
    let settled = dispatch!(connection, c => sqlx::query(
        "UPDATE mintfax_balances SET available_cents = available_cents + $3 - $4, held_cents = held_cents - $3
         WHERE account = $1 AND environment = $2 AND held_cents >= $3",
    ).bind(&owner.account).bind(owner.environment.as_str()).bind(held).bind(charged).execute(c).await
        .map(|done| done.rows_affected()))?;
    if settled == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}
