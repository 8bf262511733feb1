//! Balances: what an owner has available, and what is held for faxes in progress. The bytes of
//! their documents are counted with it.
//!
//! For each owner, `available + held` plus everything charged is always the opening balance.

use super::column;
use crate::fax::Fax;
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

/// The result of [`hold`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    Yes,
    NotEnoughMoney,
    /// The documents would have more bytes than the account may store.
    TooManyDocuments,
}

/// The opening balance of an owner, and the maximum bytes of its documents.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) opening_cents: u64,
    pub(crate) most_document_bytes: u64,
}

/// Holds an amount and the bytes of a document, if both are available. A new owner starts with the
/// opening balance.
pub(crate) async fn hold(
    mut connection: Connection<'_>,
    owner: &Owner,
    cents: u64,
    document_bytes: u64,
    terms: Terms,
) -> sqlx::Result<Held> {
    let (cents, opening): (i64, i64) = (column(cents)?, column(terms.opening_cents)?);
    let (bytes, most): (i64, i64) = (column(document_bytes)?, column(terms.most_document_bytes)?);
    dispatch!(connection.reborrow(), c => sqlx::query(
        "INSERT INTO mintfax_balances (account, environment, available_cents, held_cents) VALUES ($1, $2, $3, 0)
         ON CONFLICT (account, environment) DO NOTHING",
    ).bind(&owner.account).bind(owner.environment.as_str()).bind(opening).execute(c).await.map(drop))?;
    let held = dispatch!(connection.reborrow(), c => sqlx::query(
        "UPDATE mintfax_balances SET available_cents = available_cents - $3, held_cents = held_cents + $3,
             document_bytes = document_bytes + $4
         WHERE account = $1 AND environment = $2 AND available_cents >= $3 AND document_bytes + $4 <= $5",
    ).bind(&owner.account).bind(owner.environment.as_str()).bind(cents).bind(bytes).bind(most).execute(c).await
        .map(|done| done.rows_affected()))?;
    if held > 0 {
        return Ok(Held::Yes);
    }
    let balance = load(connection, owner).await?;
    let has_money = balance.is_some_and(|balance| balance.available >= cents);
    Ok(if has_money { Held::TooManyDocuments } else { Held::NotEnoughMoney })
}

/// Releases what was held for a fax and its document, and charges the final amount, which may be 0.
pub(crate) async fn settle(connection: Connection<'_>, fax: &Fax) -> sqlx::Result<()> {
    let (owner, bytes): (_, i64) = (&fax.owner, column(fax.document.bytes)?);
    let (held, charged): (i64, i64) = (column(fax.held_cents)?, column(fax.charged_cents)?);
    let settled = dispatch!(connection, c => sqlx::query(
        "UPDATE mintfax_balances SET available_cents = available_cents + $3 - $4, held_cents = held_cents - $3,
             document_bytes = document_bytes - $5
         WHERE account = $1 AND environment = $2 AND held_cents >= $3",
    ).bind(&owner.account).bind(owner.environment.as_str()).bind(held).bind(charged).bind(bytes).execute(c).await
        .map(|done| done.rows_affected()))?;
    if settled == 1 { Ok(()) } else { Err(sqlx::Error::RowNotFound) }
}

#[cfg(test)]
mod tests {
    use private_postgres::shared_database;

    use super::*;
    use crate::fax::tests::fax;
    use platform::db::Database;

    #[tokio::test]
    async fn documents_of_faxes_that_wait_have_so_many_bytes_together() {
        for url in ["sqlite::memory:".to_owned(), shared_database()] {
            let database = Database::open(&url).await.unwrap();
            let mut fax = fax(3);
            fax.owner.account = format!("documents {}", uuid::Uuid::new_v4());
            fax.document.bytes = 40;
            let terms = Terms { opening_cents: 10 * fax.held_cents, most_document_bytes: 100 };
            let mut transaction = database.begin().await.unwrap();
            let mut held = Vec::new();
            for _ in 0..3 {
                let (owner, cents) = (&fax.owner, fax.held_cents);
                held.push(hold(transaction.connection(), owner, cents, 40, terms).await.unwrap());
            }
            assert_eq!(held, [Held::Yes, Held::Yes, Held::TooManyDocuments]);
            let poor =
                hold(transaction.connection(), &fax.owner, 9 * fax.held_cents, 1, terms).await.unwrap();
            assert_eq!(poor, Held::NotEnoughMoney);
            // One that has ended leaves its room, and the refused ones held nothing.
            settle(transaction.connection(), &fax).await.unwrap();
            let balance = load(transaction.connection(), &fax.owner).await.unwrap().unwrap();
            assert_eq!(balance.held, fax.held_cents);
            let again = hold(transaction.connection(), &fax.owner, fax.held_cents, 60, terms).await.unwrap();
            assert_eq!(again, Held::Yes);
        }
    }
}
