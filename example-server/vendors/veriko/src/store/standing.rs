//! The account data that a request needs before it is processed.

use platform::db::{Connection, dispatch};

use super::policies;
use super::quota::{Quota, quota_columns};
use crate::RetryPolicy;

/// The quota and the retry policy of an account.
#[derive(Debug)]
pub(crate) struct Standing {
    /// The quota of the month.
    pub(crate) quota: Quota,
    /// The saved retry policy.
    pub(crate) policy: RetryPolicy,
}

/// Loads them with one statement.
pub(crate) async fn load(connection: Connection<'_>, account: &str, month: &str) -> sqlx::Result<Standing> {
    let (shares, granted, used, policy): (i64, i64, i64, Option<String>) = dispatch!(connection, c => sqlx::query_as(concat!(
            "SELECT ", quota_columns!(), ", (SELECT policy FROM retry_policies WHERE account = $1)
             FROM quota_shares WHERE account = $1 AND period = $2",
        )).bind(account).bind(month).fetch_one(c).await)?;
    Ok(Standing { quota: Quota::of((shares, granted, used))?, policy: policies::read(policy)? })
}
