//! The retries of an account: those charged per day, and those pending.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};
use uuid::Uuid;

use platform::db::{Connection, dispatch};

/// Returns the UTC day of this time, as stored. Days and months are ordered as text, because each day
/// begins with its month.
fn day(now: Timestamp) -> String {
    now.to_zoned(TimeZone::UTC).strftime("%Y-%m-%d").to_string()
}

/// Takes one unit of the account's retries per day. Returns whether one was left. On PostgreSQL, other
/// transactions that charge the same account wait until this one ends.
pub(crate) async fn charge_retry(
    connection: Connection<'_>,
    account: &str,
    now: Timestamp,
    granted: u32,
) -> sqlx::Result<bool> {
    let charged: Option<i64> = dispatch!(connection, c => sqlx::query_scalar(
        "INSERT INTO usage (account, what, period, used)
         SELECT $1, 'retries', $2, 1 WHERE CAST($3 AS BIGINT) > 0
         ON CONFLICT (account, what, period) DO UPDATE SET used = usage.used + 1 WHERE usage.used < $3
         RETURNING used",
    ).bind(account).bind(day(now)).bind(i64::from(granted)).fetch_optional(c).await)?;
    Ok(charged.is_some())
}

/// Counts the account's pending retry cycles, except that of one validation, in one transaction at a
/// time. If two transactions would both start the last allowed cycle, the second one waits here until
/// the first ends, and counts its cycle too.
pub(crate) async fn pending_alone(
    mut connection: Connection<'_>,
    account: &str,
    but: Uuid,
) -> sqlx::Result<u64> {
    // This row only serves as a lock: an update that changes nothing locks it on both databases.
    dispatch!(connection.reborrow(), c => sqlx::query(
        "INSERT INTO usage (account, what, period, used) VALUES ($1, 'pending', '', 0)
         ON CONFLICT (account, what, period) DO UPDATE SET used = usage.used",
    ).bind(account).execute(c).await.map(drop))?;
    pending(connection, account, Some(but)).await
}

/// Counts the account's pending retry cycles, except that of one validation. A cycle that a queued
/// validation may start counts too: its capacity was reserved when the validation was accepted.
pub(crate) async fn pending(
    connection: Connection<'_>,
    account: &str,
    but: Option<Uuid>,
) -> sqlx::Result<u64> {
    let pending: i64 = dispatch!(connection, c => sqlx::query_scalar(
        "SELECT COUNT(*) FROM validations
         WHERE account = $1 AND retry_state IN ('pending', 'intended') AND (CAST($2 AS TEXT) IS NULL OR id <> $2)",
    ).bind(account).bind(but.map(|id| id.to_string())).fetch_one(c).await)?;
    super::column(pending)
}

/// Forgets the retries of days before this month.
pub(crate) async fn forget_before(connection: Connection<'_>, month: &str) -> sqlx::Result<()> {
    // The row that is locked for a count has no period.
    dispatch!(connection, c => sqlx::query("DELETE FROM usage WHERE period <> '' AND period < $1")
        .bind(month).execute(c).await.map(drop))
}

/// Returns the end of the day of this time, in UTC.
pub(crate) fn end_of_day(now: Timestamp) -> Timestamp {
    start_of(now.to_zoned(TimeZone::UTC).tomorrow())
}

/// Returns the end of the month of this time, in UTC.
pub(crate) fn end_of_month(now: Timestamp) -> Timestamp {
    let today = now.to_zoned(TimeZone::UTC);
    start_of(today.last_of_month().and_then(|last| last.tomorrow()))
}

fn start_of(day: Result<Zoned, jiff::Error>) -> Timestamp {
    day.and_then(|day| day.start_of_day()).map_or(Timestamp::MAX, |midnight| midnight.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_months_end_at_midnight_in_utc() {
        for (now, day, month) in [
            ("2026-11-22T09:30:00Z", "2026-11-23T00:00:00Z", "2026-12-01T00:00:00Z"),
            ("2026-12-31T23:59:59.999Z", "2027-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("2028-02-01T00:00:00Z", "2028-02-02T00:00:00Z", "2028-03-01T00:00:00Z"),
            ("2026-10-31T23:00:00-06:00", "2026-11-02T00:00:00Z", "2026-12-01T00:00:00Z"),
        ] {
            let now = now.parse().unwrap();
            assert_eq!(end_of_day(now).to_string(), day, "{now}");
            assert_eq!(end_of_month(now).to_string(), month, "{now}");
        }
    }
}
