//! Balances: what an owner has available, and what is held for faxes in progress.
//!
//! For each owner, `available + held` plus everything charged is always the opening balance.

use super::column;
use platform::db::{Connection, dispatch};
use platform::owner::Owner;

/// The balance of an owner, in cents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Balance {
    /// May be negative: a fax may turn out to have more pages than expected when it was accepted.
    pub(crate) available: i64,
    pub(crate) held: u64,
}

/// Loads the balance. Returns `None` if nothing was ever held or charged.
pub(crate) async fn load(connection: Connection<'_>, owner: &Owner) -> sqlx::Result<Option<Balance>> {
    let row: Option<(i64, i64)> = dispatch!(connection, c => sqlx::query_as(
        "SELECT available_cents, held_cents FROM mintfax_balances WHERE account = $1 AND environment = $2",
    ).bind(&owner.account).bind(owner.environment.as_str()).fetch_optional(c).await)?;
    row.map(|(available, held)| Ok(Balance { available, held: column(held)? })).transpose()
}

/// Holds an amount, if it is available, and returns whether it was. A new owner starts with
/// `opening`.
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

/// Releases a held amount, and charges the final one, which may be 0.
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
