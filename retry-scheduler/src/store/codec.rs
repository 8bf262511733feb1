//! How the SQL schedulers write what is not text or bytes.
//!
//! | column | as |
//! |---|---|
//! | a time | milliseconds since 1970 ([`to_ms`], [`from_ms`]) |
//! | a state | 0 pending, 1 resolved, 2 exhausted, 3 cancelled |
//! | a reason of an ending | 0 succeeded, 1 attempts used up, 2 permanent failure, 3 too late, 4 cancelled, 5 crashed too often, 6 deferred too often |
//! | a verdict | 0 success, 1 failure, 2 permanent, 3 crashed |
//! | a nonce | its bits, as a signed number |
//! | metadata | a line for each entry, `name=value`, with `%`, `=` and line ends as `%25`, `%3D` and `%0A` |
//! | a plan's delays | milliseconds, with commas between |
//!
//! What cannot be read back was written by somebody else, and is [`SchedulerErrorKind::Invalid`].
//!
//! [`SchedulerErrorKind::Invalid`]: crate::SchedulerErrorKind::Invalid

use std::time::Duration;

use crate::cycle::{Activity, EndReason, Ending, State, Verdict};
use crate::error::SchedulerError;
use crate::metadata::Metadata;
pub(crate) use crate::millis::{duration_ms, from_ms, to_ms};
use crate::plan::Plan;

/// The state of a pending cycle. The SQL texts have it as a literal, so that the partial index is
/// used.
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
/// `wake_at` is when a pending cycle is due, or its lease ends if it is `leased`; of an ended one
/// it is not looked at.
pub(crate) fn state(
    code: i16,
    reason: Option<i16>,
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
    // A version before reasons were kept wrote none.
    let reason = match (reason, ending) {
        (Some(code), _) => self::reason(code)?,
        (None, Ending::Resolved) => EndReason::Succeeded,
        (None, Ending::Exhausted) => EndReason::AttemptsUsedUp,
        (None, Ending::Cancelled) => EndReason::Cancelled,
    };
    Ok(State::Ended { ending, reason, at: from_ms(at) })
}

/// A reason as a number.
pub(crate) const fn reason_code(reason: EndReason) -> i16 {
    match reason {
        EndReason::Succeeded => 0,
        EndReason::AttemptsUsedUp => 1,
        EndReason::PermanentFailure => 2,
        EndReason::TooLate => 3,
        EndReason::Cancelled => 4,
        EndReason::CrashedTooOften => 5,
        EndReason::DeferredTooOften => 6,
    }
}

/// The reason of a number.
fn reason(code: i16) -> Result<EndReason, SchedulerError> {
    match code {
        0 => Ok(EndReason::Succeeded),
        1 => Ok(EndReason::AttemptsUsedUp),
        2 => Ok(EndReason::PermanentFailure),
        3 => Ok(EndReason::TooLate),
        4 => Ok(EndReason::Cancelled),
        5 => Ok(EndReason::CrashedTooOften),
        6 => Ok(EndReason::DeferredTooOften),
        other => Err(SchedulerError::invalid(format!("there is no reason {other}"))),
    }
}

/// A verdict as a number.
pub(crate) const fn verdict_code(verdict: Verdict) -> i16 {
    match verdict {
        Verdict::Success => 0,
        Verdict::Failure => 1,
        Verdict::Permanent => 2,
        Verdict::Crashed => 3,
    }
}

/// The verdict of a number.
pub(crate) fn verdict(code: i16) -> Result<Verdict, SchedulerError> {
    match code {
        0 => Ok(Verdict::Success),
        1 => Ok(Verdict::Failure),
        2 => Ok(Verdict::Permanent),
        3 => Ok(Verdict::Crashed),
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

/// The plan of five columns.
pub(crate) fn plan(
    max_attempts: i64,
    delays: &str,
    last_start: Option<i64>,
    jitter: i16,
    max_deferrals: i64,
) -> Result<Plan, SchedulerError> {
    let delays = delays.split(',').map(|ms| ms.parse().map(Duration::from_millis));
    let delays = delays.collect::<Result<Vec<_>, _>>().map_err(SchedulerError::invalid)?;
    let jitter = u8::try_from(jitter).map_err(SchedulerError::invalid)?;
    let plan = Plan::delays(delays, count(max_attempts)?).and_then(|plan| plan.jitter(jitter));
    let plan = plan.map_err(SchedulerError::invalid)?.max_deferrals(count(max_deferrals)?);
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

/// The nonce that a column holds.
pub(crate) fn nonce(column: i64) -> u64 {
    column.cast_unsigned()
}

/// A nonce for a column.
pub(crate) fn nonce_column(nonce: u64) -> i64 {
    nonce.cast_signed()
}

/// Metadata as text.
pub(crate) fn metadata_text(metadata: &Metadata) -> String {
    let escape = |text: &str| text.replace('%', "%25").replace('=', "%3D").replace('\n', "%0A");
    let lines: Vec<_> = metadata.iter().map(|(name, value)| escape(name) + "=" + &escape(value)).collect();
    lines.join("\n")
}

/// The metadata of a text.
pub(crate) fn metadata(text: &str) -> Result<Metadata, SchedulerError> {
    let plain = |text: &str| text.replace("%0A", "\n").replace("%3D", "=").replace("%25", "%");
    let entry = |line: &str| {
        let (name, value) = line.split_once('=')?;
        Some((plain(name), plain(value)))
    };
    let lines = if text.is_empty() { None } else { Some(text.split('\n')) };
    let entries = lines.into_iter().flatten().map(entry).collect::<Option<Metadata>>();
    entries.ok_or_else(|| SchedulerError::invalid("the metadata has a line without a name"))
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
            Plan::exponential(delays[0], delays[2], 9).unwrap().max_deferrals(0),
        ] {
            let read = super::plan(
                plan.max_attempts().into(),
                &delays_text(&plan),
                last_start_ms(&plan),
                plan.jitter_percent().into(),
                plan.deferral_limit().into(),
            );
            assert_eq!(read.unwrap(), plan);
        }
        assert_eq!(delays_text(&Plan::delays(delays, 3).unwrap()), "1,2500,86400000");
    }

    #[test]
    fn states_and_verdicts_are_read_back_as_they_were_written() {
        for code in 0..7 {
            let reason = reason(code).unwrap();
            assert_eq!(reason_code(reason), code);
            let read = state(ending_code(reason.ending()), Some(code), false, 7, Some(9)).unwrap();
            assert_eq!(read, State::ended(reason, from_ms(9)));
        }
        let read = state(2, None, false, 7, Some(9)).unwrap();
        assert_eq!(read, State::ended(EndReason::AttemptsUsedUp, from_ms(9)));
        let read = state(PENDING, None, false, 7, None).unwrap();
        assert_eq!(read, State::Pending(Activity::Idle { due: from_ms(7) }));
        let read = state(PENDING, None, true, 7, None).unwrap();
        assert_eq!(read, State::Pending(Activity::Leased { until: from_ms(7) }));
        for said in [Verdict::Success, Verdict::Failure, Verdict::Permanent, Verdict::Crashed] {
            assert_eq!(verdict(verdict_code(said)).unwrap(), said);
        }
    }

    #[test]
    fn what_nobody_wrote_is_invalid() {
        let errors = [
            state(4, None, false, 0, None).unwrap_err(),
            state(1, None, false, 0, None).unwrap_err(),
            state(2, Some(7), false, 0, Some(0)).unwrap_err(),
            verdict(4).unwrap_err(),
            metadata("no name").unwrap_err(),
            plan(1, "1", None, 101, 0).unwrap_err(),
            plan(1, "1", None, -1, 0).unwrap_err(),
            plan(1, "1", None, 0, -1).unwrap_err(),
            plan(0, "1", None, 0, 0).unwrap_err(),
            plan(-1, "1", None, 0, 0).unwrap_err(),
            plan(1, "", None, 0, 0).unwrap_err(),
            plan(1, "1,,2", None, 0, 0).unwrap_err(),
            plan(1, "-1", None, 0, 0).unwrap_err(),
            plan(1, "0", None, 0, 0).unwrap_err(),
            count(1 << 32).unwrap_err(),
            epoch(-1).unwrap_err(),
        ];
        assert!(errors.iter().all(|error| error.kind() == SchedulerErrorKind::Invalid), "{errors:?}");
        assert_eq!(epoch_column(u64::MAX), -1);
    }

    #[test]
    fn metadata_is_read_back_as_it_was_written() {
        for entries in [
            vec![],
            vec![("", "")],
            vec![("traceparent", "00-4bf9-00f0-01"), ("a=b%3D%", "line\nline%0A\r\n=")],
        ] {
            let written: Metadata = entries.into_iter().collect();
            assert_eq!(metadata(&metadata_text(&written)).unwrap(), written);
        }
    }
}
