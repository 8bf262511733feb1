//! The documents that each account has submitted.

use crate::verification::Verification;
use platform::db::{Connection, dispatch};

/// Returns whether another verification of the same owner has submitted this document.
pub(crate) async fn is_duplicate(
    connection: Connection<'_>,
    verification: &Verification,
) -> sqlx::Result<bool> {
    dispatch!(connection, c => sqlx::query_scalar(
        "SELECT EXISTS (SELECT 1 FROM txcloud_documents
         WHERE account = $1 AND environment = $2 AND document = $3 AND verification <> $4)",
    )
    .bind(&verification.account)
    .bind(verification.environment.as_str())
    .bind(&verification.evidence.document)
    .bind(&verification.id)
    .fetch_one(c).await)
}

/// Records that this verification submitted the document. Returns `false` if another one did
/// before. Of two concurrent claims, the second waits for the first transaction to end, and
/// succeeds if that one was rolled back.
pub(crate) async fn claim(connection: Connection<'_>, verification: &Verification) -> sqlx::Result<bool> {
    let inserted = dispatch!(connection, c => sqlx::query(
        "INSERT INTO txcloud_documents (account, environment, document, verification) VALUES ($1, $2, $3, $4)
         ON CONFLICT DO NOTHING",
    )
    .bind(&verification.account)
    .bind(verification.environment.as_str())
    .bind(&verification.evidence.document)
    .bind(&verification.id)
    .execute(c).await.map(|done| done.rows_affected()))?;
    Ok(inserted > 0)
}
