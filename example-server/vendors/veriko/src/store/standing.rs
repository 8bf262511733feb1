//! What is known of an account before anything is done for it.

use platform::db::{Connection, dispatch};

use super::policies;
use super::quota::{Quota, quota_columns};
use crate::RetryPolicy;

/// The quota of an account, and its policy.
#[derive(Debug)]
pub(crate) struct Standing {
    /// Of a month.
    pub(crate) quota: Quota,
    /// The policy that it saved.
    pub(crate) policy: RetryPolicy,
}

/// Reads both in one statement.
pub(crate) async fn load(connection: Connection<'_>, account: &str, month: &str) -> sqlx::Result<Standing> {
    let (shares, granted, used, policy): (i64, i64, i64, Option<String>) = dispatch!(connection, c => sqlx::query_as(concat!(
            "SELECT ", quota_columns!(), ", (SELECT policy FROM retry_policies WHERE account = $1)
             FROM quota_shares WHERE account = $1 AND period = $2",
        )).bind(account).bind(month).fetch_one(c).await)?;
    Ok(Standing { quota: Quota::of((shares, granted, used))?, policy: policies::read(policy)? })
}
