//! The table of the accounts' default retry policies, and the text form of policies.

use account_retry_policy::RetryPolicyInput;

use crate::RetryPolicy;
use platform::db::{Connection, dispatch};

/// Loads the account's saved policy. Without one, retries are disabled.
pub(crate) async fn load(connection: Connection<'_>, account: &str) -> sqlx::Result<RetryPolicy> {
    let saved: Option<String> = dispatch!(connection, c => sqlx::query_scalar(
        "SELECT policy FROM retry_policies WHERE account = $1",
    ).bind(account).fetch_optional(c).await)?;
    read(saved)
}

/// Parses the policy in a column, which may be null.
pub(super) fn read(saved: Option<String>) -> sqlx::Result<RetryPolicy> {
    saved.map_or(Ok(RetryPolicy::disabled()), |text| from_text(&text))
}

/// Saves the account's policy and replaces the previous one.
pub(crate) async fn save(
    connection: Connection<'_>,
    account: &str,
    policy: &RetryPolicy,
    now_ms: i64,
) -> sqlx::Result<()> {
    dispatch!(connection, c => sqlx::query(
        "INSERT INTO retry_policies (account, policy, saved_at) VALUES ($1, $2, $3)
         ON CONFLICT (account) DO UPDATE SET policy = excluded.policy, saved_at = excluded.saved_at",
    ).bind(account).bind(to_text(policy)).bind(now_ms).execute(c).await.map(drop))
}

pub(super) fn to_text(policy: &RetryPolicy) -> String {
    serde_json::to_string(policy).expect("a policy of numbers and names serialises")
}

pub(super) fn from_text(text: &str) -> sqlx::Result<RetryPolicy> {
    let input: RetryPolicyInput =
        serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(error.into()))?;
    input.restore().map_err(|error| sqlx::Error::Decode(error.into()))
}
