//! Judging a verification.

use crate::api::{Api, timed};
use crate::engines::identity::Findings;
use crate::errors::Failure;
use crate::store::documents;
use crate::verification::Verification;

/// Returns whether the document was submitted before. Returns `false` if that was not to be
/// checked.
pub(crate) async fn seen_before(api: &Api, verification: &Verification) -> sqlx::Result<bool> {
    if !verification.asks_for_duplicates() {
        return Ok(false);
    }
    let mut reader = api.database.read().await?;
    documents::is_duplicate(reader.connection(), verification).await
}

/// Calls the engine to judge the verification.
pub(crate) async fn judge(
    api: &Api,
    verification: &Verification,
    seen_before: bool,
) -> Result<Findings, Failure> {
    let case = verification.case(seen_before);
    let (findings, _) =
        timed("identity", api.engines.identity.judge(verification.environment, &case)).await?;
    Ok(findings)
}
