//! `Retry-After` headers that this server receives as a client, from webhook receivers and carriers
//! (RFC 9110, section 10.2.3).

use std::time::Duration;

use account_retry_policy::RetryAfter;
use http::{HeaderMap, header};
use retry_scheduler::{Cycle, Report};

use crate::clock;

/// The longest wait. A longer one is shortened to this.
pub const LONGEST: Duration = Duration::from_hours(24);

/// Returns the wait that a response asks for, in seconds or as a date, at most [`LONGEST`]. Of
/// several headers, the longest wait counts. Invalid headers are ignored.
pub fn asked(headers: &HeaderMap) -> Option<Duration> {
    let now = clock::timestamp().into();
    let waits = headers.get_all(header::RETRY_AFTER).iter().filter_map(|value| {
        let asked: RetryAfter = value.to_str().ok()?.parse().ok()?;
        Some(asked.delay(now).min(LONGEST))
    });
    waits.max().filter(|wait| !wait.is_zero())
}

/// Returns the report of a failed attempt whose response asked for this wait. The next attempt
/// starts after the longer of this wait and the delay of the cycle's plan.
pub fn failure(cycle: &Cycle, asked: Option<Duration>) -> Report {
    let planned = cycle.plan.delay_after(cycle.used.saturating_add(1));
    match asked.filter(|asked| *asked > planned) {
        Some(asked) => Report::failure().retry_in(asked),
        None => Report::failure(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn asked_by(values: &[&str]) -> Option<Duration> {
        let values = values.iter().map(|value| (header::RETRY_AFTER, HeaderValue::from_str(value).unwrap()));
        asked(&values.collect())
    }

    #[test]
    fn both_forms_are_read_within_a_bound() {
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(asked_by(&["900"]), seconds(900));
        assert_eq!(asked_by(&[" 7 "]), seconds(7));
        assert_eq!(asked_by(&["99999999999999999999"]), Some(LONGEST));
        assert_eq!(asked_by(&["Fri, 31 Dec 9999 23:59:59 GMT"]), Some(LONGEST));
        assert_eq!(asked_by(&["5", "60"]), seconds(60));
        for nothing in ["", "0", "soon", "-5", "1.5", "Sun, 06 Nov 1994 08:49:37 GMT"] {
            assert_eq!(asked_by(&[nothing]), None, "{nothing}");
        }
        assert_eq!(asked_by(&[]), None);
    }

    #[test]
    fn a_date_is_a_wait_from_now() {
        let now: std::time::SystemTime = clock::timestamp().into();
        let date = RetryAfter::at(now + Duration::from_mins(10)).unwrap().to_string();
        let wait = asked_by(&[&date]).unwrap();
        assert!((598..=601).contains(&wait.as_secs()), "{wait:?}");
    }
}
