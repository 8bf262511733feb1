//! What the two SQL schedulers share: the texts that are the same but for the clock, and how rows are read.

use sqlx::{ColumnIndex, Decode, Row, Type};

use super::codec;
use crate::claim::{Claimed, Report};
use crate::cycle::{AttemptRecord, Cycle, CycleKey, State};
use crate::error::SchedulerError;

/// The columns of a cycle, in the order in which [`cycle`] reads them, of `retry_cycles` joined with `retry_subjects`.
macro_rules! columns {
    () => {
        concat!("retry_subjects.namespace, subject, ", columns_of_cycle!())
    };
}

macro_rules! columns_of_cycle {
    () => {
        "tenant, max_attempts, delays, last_start, state, claimed_at IS NOT NULL, wake_at, ended_at, epoch, attempts, \
         used, lapses, reactivations, nonce, deferrals, jitter, max_deferrals, reason"
    };
}

/// The id of a key.
macro_rules! id_of {
    ($namespace:literal, $subject:literal) => {
        concat!(
            "(SELECT id FROM retry_subjects WHERE namespace = ",
            $namespace,
            " AND subject = ",
            $subject,
            ")"
        )
    };
}

/// The columns of a new cycle, and their values. Where the last start comes before the first attempt, it has ended.
macro_rules! new_cycle {
    ($id:literal, $now:literal) => {
        concat!(
            "(id, namespace, tenant, max_attempts, delays, last_start, jitter, max_deferrals, wake_at, state, reason, \
             ended_at) SELECT ",
            $id,
            ", $3, $5, $6, $7, $8, $9, $10, ",
            $now,
            " + $2, CASE WHEN $8 < ",
            $now,
            " + $2 THEN 2 ELSE 0 END, CASE WHEN $8 < ",
            $now,
            " + $2 THEN 3 END, CASE WHEN $8 < ",
            $now,
            " + $2 THEN ",
            $now,
            " END"
        )
    };
}

/// What a claim changes. `$2` is the lease, `$4` the nonce. One that comes after the last start ends the cycle instead.
macro_rules! claim {
    ($now:literal) => {
        concat!(
            "epoch = epoch + 1, nonce = $4, \
             lapses = lapses + CASE WHEN claimed_at IS NULL THEN 0 ELSE 1 END, \
             state = CASE WHEN last_start < ",
            $now,
            " THEN 2 ELSE 0 END, reason = CASE WHEN last_start < ",
            $now,
            " THEN 3 END, claimed_at = CASE WHEN last_start < ",
            $now,
            " THEN NULL ELSE ",
            $now,
            " END, ended_at = CASE WHEN last_start < ",
            $now,
            " THEN ",
            $now,
            " END, wake_at = ",
            $now,
            " + $2"
        )
    };
}

/// What the end of an attempt changes, where `$ending` says how it ends the cycle, or 0, `$reason` says why, and `$delay` is the delay of
/// the plan. A next attempt after the last start ends the cycle too.
macro_rules! finish {
    ($now:literal, $ending:literal, $reason:literal, $delay:literal) => {
        concat!(
            "attempts = attempts + 1, used = used + 1, lapses = 0, deferrals = 0, claimed_at = NULL, reason = CASE WHEN ",
            $ending,
            " <> 0 THEN ",
            $reason,
            " WHEN last_start < ",
            $now,
            " + ",
            $delay,
            " THEN 3 END, state = CASE WHEN ",
            $ending,
            " <> 0 THEN ",
            $ending,
            " WHEN last_start < ",
            $now,
            " + ",
            $delay,
            " THEN 2 ELSE 0 END, ended_at = CASE WHEN ",
            $ending,
            " <> 0 OR last_start < ",
            $now,
            " + ",
            $delay,
            " THEN ",
            $now,
            " END, wake_at = ",
            $now,
            " + ",
            $delay
        )
    };
}

/// The texts that are the same on both engines, with this as the time now; `$1` is the time of an injected clock.
macro_rules! shared_texts {
    ($now:literal) => {
        pub(super) const GET: &str = concat!(
            "SELECT ",
            columns!(),
            " FROM retry_subjects JOIN retry_cycles USING (id) WHERE retry_subjects.namespace = $1 AND subject = $2"
        );

        /// The same, and the time now.
        pub(super) const READ: &str = concat!(
            "SELECT ",
            columns!(),
            ", ",
            $now,
            " FROM retry_subjects JOIN retry_cycles USING (id) WHERE retry_subjects.namespace = $2 AND subject = $3"
        );

        /// Where nobody else claimed it, ended an attempt of it, or changed it since it was read: each of that shows in
        /// epoch, attempts or state.
        pub(super) const WRITE: &str = concat!(
            "UPDATE retry_cycles SET max_attempts = $1, delays = $2, last_start = $3, state = $4, wake_at = $5, \
             claimed_at = NULL, ended_at = $6, epoch = $7, used = $8, lapses = $9, reactivations = $10, \
             deferrals = $11, jitter = $12, max_deferrals = $13, reason = $14 WHERE id = ",
            id_of!("$15", "$16"),
            " AND epoch = $17 AND attempts = $18 AND state = $19"
        );

        pub(super) const EXTEND: &str = concat!(
            "UPDATE retry_cycles SET wake_at = ",
            $now,
            " + $2 WHERE id = ",
            id_of!("$3", "$4"),
            " AND epoch = $5 AND nonce = $6 AND state = 0 AND claimed_at IS NOT NULL"
        );

        pub(super) const DEFER: &str = concat!(
            "UPDATE retry_cycles SET claimed_at = NULL, wake_at = ",
            $now,
            " + $2, deferrals = CASE WHEN deferrals < max_deferrals THEN deferrals + 1 ELSE deferrals END, \
             state = CASE WHEN deferrals < max_deferrals THEN 0 ELSE 2 END, \
             reason = CASE WHEN deferrals < max_deferrals THEN NULL ELSE 6 END, \
             ended_at = CASE WHEN deferrals < max_deferrals THEN NULL ELSE ",
            $now,
            " END WHERE id = ",
            id_of!("$3", "$4"),
            " AND epoch = $5 AND nonce = $6 AND state = 0 AND claimed_at IS NOT NULL"
        );

        /// `$2` and `$3` twice: `RETURNING` knows no other table.
        pub(super) const CANCEL: &str = concat!(
            "UPDATE retry_cycles SET state = 3, reason = 4, epoch = epoch + 1, claimed_at = NULL, ended_at = ",
            $now,
            " WHERE id = ",
            id_of!("$2", "$3"),
            " AND state = 0 RETURNING $2, $3, ",
            columns_of_cycle!()
        );

        pub(super) const ATTEMPTS: &str = concat!(
            "SELECT number, started_at, finished_at, verdict, detail FROM retry_attempts WHERE cycle_id = ",
            id_of!("$1", "$2"),
            " AND number > $3 ORDER BY number LIMIT $4"
        );

        /// Tenants with pending cycles, at most `$2`, from `$1` on: each found by one look into the index, however many
        /// cycles it has.
        pub(super) const TENANTS: &str = "WITH RECURSIVE next (tenant) AS ( \
             SELECT min(tenant) FROM retry_cycles WHERE state = 0 AND tenant >= $1 \
             UNION ALL SELECT (SELECT min(tenant) FROM retry_cycles WHERE state = 0 AND tenant > next.tenant) \
             FROM next WHERE next.tenant IS NOT NULL) \
             SELECT tenant FROM next WHERE tenant IS NOT NULL LIMIT $2";
    };
}

pub(super) use {claim, columns, columns_of_cycle, finish, id_of, new_cycle, shared_texts};

/// How many columns a cycle has: what comes behind them has this place.
pub(super) const COLUMNS: usize = 20;

/// The cycle of a row that begins with [`columns`].
pub(super) fn cycle<R>(row: &R) -> Result<Cycle, SchedulerError>
where
    R: Row,
    usize: ColumnIndex<R>,
    for<'r> String: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> i16: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> i64: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Option<i64>: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Option<i16>: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> bool: Decode<'r, R::Database> + Type<R::Database>,
{
    let delays: String = get(row, 4)?;
    Ok(Cycle {
        key: CycleKey { namespace: get(row, 0)?, subject: get(row, 1)? },
        tenant: get(row, 2)?,
        plan: codec::plan(get(row, 3)?, &delays, get(row, 5)?, get(row, 17)?, get(row, 18)?)?,
        state: codec::state(get(row, 6)?, get(row, 19)?, get(row, 7)?, get(row, 8)?, get(row, 9)?)?,
        epoch: codec::epoch(get(row, 10)?)?,
        attempts: codec::count(get(row, 11)?)?,
        used: codec::count(get(row, 12)?)?,
        lapses: codec::count(get(row, 13)?)?,
        reactivations: codec::count(get(row, 14)?)?,
        nonce: codec::nonce(get(row, 15)?),
        deferrals: codec::count(get(row, 16)?)?,
    })
}

/// The attempt of a row of `ATTEMPTS`.
pub(super) fn attempt<R>(row: &R) -> Result<AttemptRecord, SchedulerError>
where
    R: Row,
    usize: ColumnIndex<R>,
    for<'r> i16: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> i64: Decode<'r, R::Database> + Type<R::Database>,
    for<'r> Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
{
    Ok(AttemptRecord::new(
        codec::count(get(row, 0)?)?,
        codec::from_ms(get(row, 1)?),
        codec::from_ms(get(row, 2)?),
        codec::verdict(get(row, 3)?)?,
        get::<R, Vec<u8>>(row, 4)?,
    ))
}

pub(super) fn get<'r, R, T>(row: &'r R, column: usize) -> Result<T, SchedulerError>
where
    R: Row,
    usize: ColumnIndex<R>,
    T: Decode<'r, R::Database> + Type<R::Database>,
{
    row.try_get(column).map_err(SchedulerError::invalid)
}

/// What a report makes of the cycle that was claimed. It holds as long as the epoch does: under one epoch nobody changes
/// the plan, nor what was counted.
pub(super) struct End {
    pub(super) verdict: i16,
    /// How it ends the cycle; 0 where the cycle goes on.
    pub(super) ending: i16,
    /// Why it ends the cycle, if it does.
    pub(super) reason: Option<i16>,
    /// How long until the next attempt, where it goes on.
    pub(super) delay: i64,
}

impl End {
    pub(super) fn of(claim: &Claimed, report: &Report) -> Self {
        let reason = claim.cycle.ended_by(report.verdict);
        Self {
            verdict: codec::verdict_code(report.verdict),
            ending: reason.map_or(codec::PENDING, |reason| codec::ending_code(reason.ending())),
            reason: reason.map(codec::reason_code),
            delay: codec::duration_ms(claim.cycle.delay_after_attempt(report.verdict, report.retry_in)),
        }
    }
}

/// State, reason, `wake_at` and `ended_at` of a cycle that nobody holds.
pub(super) fn state_columns(state: State) -> (i16, Option<i16>, i64, Option<i64>) {
    match state {
        State::Pending(activity) => (codec::PENDING, None, codec::to_ms(activity.wake()), None),
        State::Ended { ending, reason, at } => {
            let at = codec::to_ms(at);
            (codec::ending_code(ending), Some(codec::reason_code(reason)), at, Some(at))
        }
    }
}

/// A cycle that was another one whenever it was looked at.
pub(super) fn restless() -> SchedulerError {
    SchedulerError::unavailable("the cycle does not stay as it is long enough to be changed")
}

/// An error of the driver. What it says of the database goes into the source, not into the message.
pub(super) fn failed(error: sqlx::Error) -> SchedulerError {
    match &error {
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => SchedulerError::invalid(error),
        sqlx::Error::Database(database) if is_full(database.code().as_deref()) => SchedulerError::full(error),
        _ => SchedulerError::unavailable(error),
    }
}

/// `disk_full` of PostgreSQL, `SQLITE_FULL` of SQLite.
fn is_full(code: Option<&str>) -> bool {
    matches!(code, Some("53100" | "13"))
}
