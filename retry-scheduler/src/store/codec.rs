//! How the SQL schedulers write what is not text or bytes.
//!
//! | column | as |
//! |---|---|
//! | a time | milliseconds since 1970 ([`to_ms`], [`from_ms`]) |
//! | a state | 0 pending, 1 resolved, 2 exhausted, 3 cancelled |
//! | a verdict | 0 success, 1 failure, 2 hopeless |
//! | a plan's delays | milliseconds, with commas between |
//!
//! What cannot be read back was written by somebody else, and is [`SchedulerErrorKind::Invalid`].
//!
//! [`SchedulerErrorKind::Invalid`]: crate::SchedulerErrorKind::Invalid

use std::time::Duration;

use crate::cycle::{Activity, Ending, State, Verdict};
use crate::error::SchedulerError;
pub(crate) use crate::millis::{duration_ms, from_ms, to_ms};
use crate::plan::Plan;

/// The state of a pending cycle. The SQL texts have it as a literal, so that the partial index is used.
pub(crate) const PENDING: i16 = 0;

/// The state of an ended cycle.
pub(crate) const fn ending_code(ending: Ending) -> i16 {
    match ending {
        Ending::Resolved => 1,
        Ending::Exhausted => 2,
        Ending::Cancelled => 3,
    }
}

/// The state that a row says.
///
/// `wake_at` is when a pending cycle is due, or its lease ends if it is `leased`; of an ended one it is not looked at.
pub(crate) fn state(
    code: i16,
    leased: bool,
    wake_at: i64,
    ended_at: Option<i64>,
) -> Result<State, SchedulerError> {
    let ending = match code {
        PENDING if leased => return Ok(State::Pending(Activity::Leased { until: from_ms(wake_at) })),
        PENDING => return Ok(State::Pending(Activity::Idle { due: from_ms(wake_at) })),
        1 => Ending::Resolved,
        2 => Ending::Exhausted,
        3 => Ending::Cancelled,
        other => return Err(SchedulerError::invalid(format!("there is no state {other}"))),
    };
    let at = ended_at.ok_or_else(|| SchedulerError::invalid("an ended cycle without the time of its end"))?;
    Ok(State::Ended { ending, at: from_ms(at) })
}

/// A verdict as a number.
pub(crate) const fn verdict_code(verdict: Verdict) -> i16 {
    match verdict {
        Verdict::Success => 0,
        Verdict::Failure => 1,
        Verdict::Hopeless => 2,
    }
}

/// The verdict of a number.
pub(crate) fn verdict(code: i16) -> Result<Verdict, SchedulerError> {
    match code {
        0 => Ok(Verdict::Success),
        1 => Ok(Verdict::Failure),
        2 => Ok(Verdict::Hopeless),
        other => Err(SchedulerError::invalid(format!("there is no verdict {other}"))),
    }
}

/// The delays of a plan as text.
pub(crate) fn delays_text(plan: &Plan) -> String {
    let delays: Vec<_> = plan.delay_list().iter().map(|delay| duration_ms(*delay).to_string()).collect();
    delays.join(",")
}

/// The last start of a plan in milliseconds.
pub(crate) fn last_start_ms(plan: &Plan) -> Option<i64> {
    plan.last_start().map(to_ms)
}

/// The plan of three columns.
pub(crate) fn plan(max_attempts: i64, delays: &str, last_start: Option<i64>) -> Result<Plan, SchedulerError> {
    let delays = delays.split(',').map(|ms| ms.parse().map(Duration::from_millis));
    let delays = delays.collect::<Result<Vec<_>, _>>().map_err(SchedulerError::invalid)?;
    let plan = Plan::delays(delays, count(max_attempts)?).map_err(SchedulerError::invalid)?;
    Ok(match last_start.map(from_ms) {
        Some(last_start) => plan.deadline(last_start),
        None => plan,
    })
}

/// A count that a column holds.
pub(crate) fn count(column: i64) -> Result<u32, SchedulerError> {
    u32::try_from(column).map_err(SchedulerError::invalid)
}

/// The epoch that a column holds.
pub(crate) fn epoch(column: i64) -> Result<u64, SchedulerError> {
    u64::try_from(column).map_err(SchedulerError::invalid)
}

/// An epoch for a column. One that no column holds was never given out, and matches none.
pub(crate) fn epoch_column(epoch: u64) -> i64 {
    i64::try_from(epoch).unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::SchedulerErrorKind;

    #[test]
    fn a_plan_is_read_back_as_it_was_written() {
        let delays = [1_u64, 2_500, 86_400_000].map(Duration::from_millis);
        for plan in [
            Plan::delays(delays, u32::MAX).unwrap(),
            Plan::every(Plan::MAX_DELAY, 1).unwrap().deadline(from_ms(1_234)),
            Plan::every(Duration::from_nanos(1_000_001), 1).unwrap(),
        ] {
            let read = super::plan(plan.max_attempts().into(), &delays_text(&plan), last_start_ms(&plan));
            assert_eq!(read.unwrap(), plan);
        }
        assert_eq!(delays_text(&Plan::delays(delays, 3).unwrap()), "1,2500,86400000");
    }

    #[test]
    fn states_and_verdicts_are_read_back_as_they_were_written() {
        for ending in [Ending::Resolved, Ending::Exhausted, Ending::Cancelled] {
            let read = state(ending_code(ending), false, 7, Some(9)).unwrap();
            assert_eq!(read, State::Ended { ending, at: from_ms(9) });
        }
        let read = state(PENDING, false, 7, None).unwrap();
        assert_eq!(read, State::Pending(Activity::Idle { due: from_ms(7) }));
        let read = state(PENDING, true, 7, None).unwrap();
        assert_eq!(read, State::Pending(Activity::Leased { until: from_ms(7) }));
        for said in [Verdict::Success, Verdict::Failure, Verdict::Hopeless] {
            assert_eq!(verdict(verdict_code(said)).unwrap(), said);
        }
    }

    #[test]
    fn what_nobody_wrote_is_invalid() {
        let errors = [
            state(4, false, 0, None).unwrap_err(),
            state(1, false, 0, None).unwrap_err(),
            verdict(3).unwrap_err(),
            plan(0, "1", None).unwrap_err(),
            plan(-1, "1", None).unwrap_err(),
            plan(1, "", None).unwrap_err(),
            plan(1, "1,,2", None).unwrap_err(),
            plan(1, "-1", None).unwrap_err(),
            plan(1, "0", None).unwrap_err(),
            count(1 << 32).unwrap_err(),
            epoch(-1).unwrap_err(),
        ];
        assert!(errors.iter().all(|error| error.kind() == SchedulerErrorKind::Invalid), "{errors:?}");
        assert_eq!(epoch_column(u64::MAX), -1);
    }
}
