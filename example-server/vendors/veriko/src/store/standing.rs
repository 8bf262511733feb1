//! What is known of an account before anything is done for it.

use jiff::Timestamp;
use platform::db::{Connection, dispatch};

use super::policies;
use super::usage::Allowance;
use crate::RetryPolicy;

/// What an account has used, and what it wants.
#[derive(Debug)]
pub(crate) struct Standing {
    /// Validations of this month.
    pub(crate) validations: u64,
    /// The policy that it saved.
    pub(crate) policy: RetryPolicy,
}

/// Reads it in one statement.
pub(crate) async fn load(
    connection: Connection<'_>,
    account: &str,
    now: Timestamp,
) -> sqlx::Result<Standing> {
    let allowance = Allowance::Validations;
    let (used, policy): (Option<i64>, Option<String>) = dispatch!(connection, c => sqlx::query_as(
        "SELECT (SELECT used FROM usage WHERE account = $1 AND what = $2 AND period = $3),
                (SELECT policy FROM retry_policies WHERE account = $1)",
    ).bind(account).bind(allowance.as_str()).bind(allowance.period(now)).fetch_one(c).await)?;
    Ok(Standing { validations: super::column(used.unwrap_or(0))?, policy: policies::read(policy)? })
}
