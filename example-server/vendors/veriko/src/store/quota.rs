//! The monthly quota of validations.
//!
//! The quota is divided into [`SHARES`] rows, each of which grants a part of it. A charge updates one
//! row and holds its lock until the request commits, so concurrent charges use other rows. The parts
//! add up to the quota, so the quota is never exceeded. A charge is refused only if one snapshot shows
//! that committed transactions have used every share up.
//!
//! # Locks
//!
//! On PostgreSQL, an `UPDATE` that waited for a row keeps the row's lock even if nothing is left in
//! it. Charges do not deadlock with each other nevertheless. A statement locks at most one share, and
//! only a share that has something left in the statement's snapshot. A transaction that locked a share
//! in vain did so after the last unit was committed, hence after the snapshot of any charge that waits
//! for the share; its own next snapshot is newer still. So snapshots only get newer along a chain of
//! waiting charges, and the chain cannot close. [`divide`] locks all shares, in a transaction of its
//! own that gives up early. PostgreSQL may find a deadlock only if a plan changes while the last units
//! of the month are charged: that charge fails and can be retried.

use std::sync::atomic::{AtomicU32, Ordering};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use platform::db::{Connection, Database, Inner, dispatch};
use sqlx::error::DatabaseError;

use super::column;

/// The number of shares: one for each connection of a process, so at least one for each of its
/// concurrent transactions.
pub(crate) const SHARES: u32 = 16;
/// How many times `divide` tries to lock the shares.
const DIVISIONS: u32 = 10;

/// The quota of an account in one month.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quota {
    /// `None` if the quota has not been divided yet.
    pub(crate) granted: Option<u64>,
    pub(crate) used: u64,
}

/// The columns of a [`Quota`], aggregated from the rows of account `$1` and period `$2`.
macro_rules! quota_columns {
    () => {
        "COUNT(*), CAST(COALESCE(SUM(granted), 0) AS BIGINT), CAST(COALESCE(SUM(used), 0) AS BIGINT)"
    };
}
pub(super) use quota_columns;

impl Quota {
    pub(super) fn of((shares, granted, used): (i64, i64, i64)) -> sqlx::Result<Self> {
        let granted = if shares == i64::from(SHARES) { Some(column(granted)?) } else { None };
        Ok(Self { granted, used: column(used)? })
    }
}

/// Returns the UTC month of this time, as stored. Months are ordered as text.
pub(crate) fn month(now: Timestamp) -> String {
    now.to_zoned(TimeZone::UTC).strftime("%Y-%m").to_string()
}

/// Reads the quota of a month.
pub(crate) async fn load(connection: Connection<'_>, account: &str, month: &str) -> sqlx::Result<Quota> {
    let columns = dispatch!(connection, c => sqlx::query_as(concat!(
        "SELECT ", quota_columns!(), " FROM quota_shares WHERE account = $1 AND period = $2",
    )).bind(account).bind(month).fetch_one(c).await)?;
    Quota::of(columns)
}

/// SQL that takes one unit of a share.
macro_rules! charge_share {
    ($account:literal, $month:literal, $share:literal) => {
        concat!(
            "UPDATE quota_shares SET used = used + 1 WHERE account = ",
            $account,
            " AND period = ",
            $month,
            " AND share = ",
            $share,
            " AND used < granted"
        )
    };
}
pub(super) use charge_share;

/// Returns the next number of a sequence, by which concurrent charges choose different shares.
fn turn() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Returns the share that a charge tries first.
pub(super) fn first_share() -> i64 {
    i64::from(turn() % SHARES)
}

/// Takes one unit from any share that has one left. Returns whether there was one. A quota that has
/// not been [divided](divide) has none.
pub(crate) async fn charge(mut connection: Connection<'_>, account: &str, month: &str) -> sqlx::Result<bool> {
    let turn = turn() as usize;
    loop {
        // The snapshot of this statement decides. A unit that another transaction has taken but not
        // committed still appears to be left; then the update waits for that transaction.
        let left: Vec<i64> = dispatch!(connection.reborrow(), c => sqlx::query_scalar(
            "SELECT share FROM quota_shares WHERE account = $1 AND period = $2 AND used < granted ORDER BY share",
        ).bind(account).bind(month).fetch_all(c).await)?;
        if left.is_empty() {
            return Ok(false);
        }
        let share = left[turn % left.len()];
        let charged = dispatch!(connection.reborrow(), c => sqlx::query(charge_share!("$1", "$2", "$3"))
            .bind(account).bind(month).bind(share).execute(c).await.map(|done| done.rows_affected()))?;
        if charged > 0 {
            return Ok(true);
        }
    }
}

/// Divides the quota of a month, and the units that are used, evenly among the shares. Does nothing
/// if the shares add up to `granted` already.
///
/// # Errors
/// If the database fails, or if the shares stay locked for five seconds.
///
/// # Cancel safety
/// If the call is dropped, either all shares have changed or none.
pub(crate) async fn divide(
    database: &Database,
    account: &str,
    month: &str,
    granted: u32,
) -> sqlx::Result<()> {
    let mut division = 1;
    loop {
        match try_divide(database, account, month, granted.into()).await {
            Err(error) if is_locked(&error) && division < DIVISIONS => division += 1,
            done => return done,
        }
    }
}

async fn try_divide(database: &Database, account: &str, month: &str, granted: i64) -> sqlx::Result<()> {
    let mut transaction = database.begin().await?;
    let mut connection = transaction.connection();
    let mut lock = "SELECT granted, used FROM quota_shares WHERE account = $1 AND period = $2 ORDER BY share";
    if let Inner::Postgres(postgres) = connection.reborrow().inner {
        // Charges wait for this transaction, so do not let it wait for long.
        sqlx::query("SET LOCAL lock_timeout = '500ms'").execute(postgres).await?;
        lock = "SELECT granted, used FROM quota_shares WHERE account = $1 AND period = $2 ORDER BY share FOR UPDATE";
    }
    dispatch!(connection.reborrow(), c => sqlx::query(
        "WITH RECURSIVE shares (share) AS
             (SELECT CAST(0 AS BIGINT) UNION ALL SELECT share + 1 FROM shares WHERE share + 1 < $3)
         INSERT INTO quota_shares (account, period, share, granted, used)
         SELECT $1, $2, share, 0, 0 FROM shares WHERE true
         ON CONFLICT (account, period, share) DO NOTHING",
    ).bind(account).bind(month).bind(i64::from(SHARES)).execute(c).await.map(drop))?;
    let shares: Vec<(i64, i64)> = dispatch!(connection.reborrow(), c =>
        sqlx::query_as(lock).bind(account).bind(month).fetch_all(c).await)?;
    if shares.iter().map(|(granted, _)| granted).sum::<i64>() != granted {
        let used: i64 = shares.iter().map(|(_, used)| used).sum();
        dispatch!(connection, c => sqlx::query(
            "UPDATE quota_shares
             SET granted = $3 / $5 + CASE WHEN share < $3 % $5 THEN 1 ELSE 0 END,
                 used = $4 / $5 + CASE WHEN share < $4 % $5 THEN 1 ELSE 0 END
             WHERE account = $1 AND period = $2",
        ).bind(account).bind(month).bind(granted).bind(used).bind(i64::from(SHARES)).execute(c).await.map(drop))?;
    }
    transaction.commit().await
}

/// Returns whether the error is `lock_not_available` or `deadlock_detected`.
fn is_locked(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| ["55P03", "40P01"].contains(&&*code))
}

/// Deletes the quotas of the months before this one.
pub(crate) async fn forget_before(connection: Connection<'_>, month: &str) -> sqlx::Result<()> {
    dispatch!(connection, c => sqlx::query("DELETE FROM quota_shares WHERE period < $1")
        .bind(month).execute(c).await.map(drop))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use private_postgres::shared_database;
    use tokio::task::JoinSet;

    use super::*;

    const MONTH: &str = "2026-11";

    async fn databases() -> [Database; 2] {
        [Database::open("sqlite::memory:").await.unwrap(), Database::open(&shared_database()).await.unwrap()]
    }

    async fn used(database: &Database, account: &str) -> u64 {
        load(database.read().await.unwrap().connection(), account, MONTH).await.unwrap().used
    }

    /// Charges once, in a transaction that commits or not. Returns whether a unit was left.
    async fn charge_once(database: &Database, account: &str, commits: bool) -> bool {
        let mut transaction = database.begin().await.unwrap();
        let charged = charge(transaction.connection(), account, MONTH).await.unwrap();
        // As a request does: it has yet to store its response.
        tokio::task::yield_now().await;
        if charged && commits {
            transaction.commit().await.unwrap();
        }
        charged
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn concurrent_charges_never_exceed_the_quota_and_use_all_of_it() {
        for database in databases().await.map(Arc::new) {
            for granted in [0, 1, 7, 16, 17, 40] {
                for round in 0..20 {
                    let account = format!("acme-{granted}-{round}");
                    divide(&database, &account, MONTH, granted).await.unwrap();
                    let mut tasks = JoinSet::new();
                    for charge in 0..60 {
                        let (database, account) = (Arc::clone(&database), account.clone());
                        tasks.spawn(async move {
                            // A third roll back, and return their unit.
                            let commits = charge % 3 != 0;
                            charge_once(&database, &account, commits).await && commits
                        });
                    }
                    let charged = tasks.join_all().await.into_iter().filter(|charged| *charged).count();
                    assert_eq!(charged as u64, used(&database, &account).await);
                    let mut then = 0;
                    while charge_once(&database, &account, true).await {
                        then += 1;
                    }
                    assert_eq!(charged + then, granted as usize, "{account}");
                    assert_eq!(used(&database, &account).await, u64::from(granted));
                }
            }
        }
    }

    #[tokio::test]
    async fn a_charge_waits_while_other_transactions_hold_the_last_units() {
        let [_, database] = databases().await;
        for is_given_back in [true, false] {
            let account = format!("acme-{is_given_back}");
            divide(&database, &account, MONTH, 2).await.unwrap();
            let mut first = database.begin().await.unwrap();
            let mut second = database.begin().await.unwrap();
            assert!(charge(first.connection(), &account, MONTH).await.unwrap());
            assert!(charge(second.connection(), &account, MONTH).await.unwrap());
            let mut third = database.begin().await.unwrap();
            {
                let waits = charge(third.connection(), &account, MONTH);
                tokio::pin!(waits);
                let early = tokio::time::timeout(Duration::from_millis(200), &mut waits).await;
                assert!(early.is_err(), "{early:?}: it must wait");
                if is_given_back {
                    drop(first);
                } else {
                    first.commit().await.unwrap();
                }
                second.commit().await.unwrap();
                assert_eq!(waits.await.unwrap(), is_given_back);
            }
        }
    }

    #[tokio::test]
    async fn charges_of_one_account_do_not_wait_for_each_other() {
        let [_, database] = databases().await;
        divide(&database, "acme", MONTH, 1000).await.unwrap();
        let mut open = Vec::new();
        for _ in 0..SHARES - 1 {
            let mut transaction = database.begin().await.unwrap();
            let charged = charge(transaction.connection(), "acme", MONTH);
            assert!(tokio::time::timeout(Duration::from_secs(10), charged).await.expect("it waits").unwrap());
            open.push(transaction);
        }
        assert_eq!(used(&database, "acme").await, 0, "nothing is committed");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn concurrent_divisions_divide_a_month_once() {
        for database in databases().await.map(Arc::new) {
            for round in 0..20 {
                let account = format!("acme-{round}");
                let mut tasks = JoinSet::new();
                for _ in 0..20 {
                    let (database, account) = (Arc::clone(&database), account.clone());
                    tasks.spawn(async move {
                        divide(&database, &account, MONTH, 100).await.unwrap();
                        charge_once(&database, &account, true).await
                    });
                }
                assert!(tasks.join_all().await.into_iter().all(|charged| charged));
                let quota = load(database.read().await.unwrap().connection(), &account, MONTH).await.unwrap();
                assert_eq!(quota, Quota { granted: Some(100), used: 20 });
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn a_plan_may_change_while_charges_are_made() {
        for database in databases().await.map(Arc::new) {
            let mut tasks = JoinSet::new();
            for charge in 0..200 {
                let database = Arc::clone(&database);
                tasks.spawn(async move {
                    // As two processes with different plans, which both grant more than all charges.
                    divide(&database, "acme", MONTH, if charge % 2 == 0 { 300 } else { 500 }).await.unwrap();
                    charge_once(&database, "acme", true).await
                });
            }
            assert!(tasks.join_all().await.into_iter().all(|charged| charged));
            assert_eq!(used(&database, "acme").await, 200);
            // A smaller quota has nothing left; a larger one has the difference.
            for (granted, left) in [(150, 0), (200, 0), (201, 1), (205, 4), (150, 0)] {
                divide(&database, "acme", MONTH, granted).await.unwrap();
                let mut charged = 0;
                while charge_once(&database, "acme", true).await {
                    charged += 1;
                }
                assert_eq!(charged, left, "{granted}");
            }
            assert_eq!(used(&database, "acme").await, 205);
        }
    }

    #[tokio::test]
    async fn a_month_from_before_the_migration_keeps_its_usage() {
        for database in databases().await {
            // The row that the migration leaves.
            let mut transaction = database.begin().await.unwrap();
            dispatch!(transaction.connection(), c => sqlx::query(
                "INSERT INTO quota_shares VALUES ('acme', '2026-11', 0, 37, 37)").execute(c).await.map(drop))
            .unwrap();
            transaction.commit().await.unwrap();
            assert_eq!(
                load(database.read().await.unwrap().connection(), "acme", MONTH).await.unwrap().granted,
                None
            );
            assert!(!charge_once(&database, "acme", true).await);
            divide(&database, "acme", MONTH, 40).await.unwrap();
            let divided = load(database.read().await.unwrap().connection(), "acme", MONTH).await.unwrap();
            assert_eq!(divided, Quota { granted: Some(40), used: 37 });
            for left in [true, true, true, false] {
                assert_eq!(charge_once(&database, "acme", true).await, left);
            }
        }
    }
}
