//! How rows are read.

use sqlx::postgres::PgRow;
use sqlx::{Decode, Postgres, Row, Type};

use crate::claim::{Claimed, Report};
use crate::cycle::{AttemptRecord, Cycle, CycleKey, State};
use crate::error::SchedulerError;
use crate::store::codec;

/// How many columns a cycle has: what comes behind them has this place.
pub(super) const COLUMNS: usize = 20;

/// The cycle of a row that begins with the columns of [`sql`](super::sql).
pub(super) fn cycle(row: &PgRow) -> Result<Cycle, SchedulerError> {
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
pub(super) fn attempt(row: &PgRow) -> Result<AttemptRecord, SchedulerError> {
    Ok(AttemptRecord::new(
        codec::count(get(row, 0)?)?,
        codec::from_ms(get(row, 1)?),
        codec::from_ms(get(row, 2)?),
        codec::verdict(get(row, 3)?)?,
        get::<Vec<u8>>(row, 4)?,
    ))
}

pub(super) fn get<'r, T>(row: &'r PgRow, column: usize) -> Result<T, SchedulerError>
where
    T: Decode<'r, Postgres> + Type<Postgres>,
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
    SchedulerError::conflict("the cycle does not stay as it is long enough to be changed")
}
