//! `[veriko.webhooks]`

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use retry_scheduler::Plan;
use serde::Deserialize;

/// `[veriko.webhooks]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Webhooks {
    pub allow_http: bool,
    pub allow_private: bool,
    retry_delays_seconds: Tries,
    pub auto_disable_after: NonZeroU32,
    pub max_endpoints: u32,
    timeout_seconds: NonZeroU64,
}

/// The retry plan of a delivery: the number of attempts and the delays between them.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "Vec<f64>")]
pub struct Tries(Plan);

impl Tries {
    pub fn plan(&self) -> Plan {
        self.0.clone()
    }
}

impl Webhooks {
    pub fn plan(&self) -> Plan {
        self.retry_delays_seconds.plan()
    }

    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.get())
    }
}

impl TryFrom<Vec<f64>> for Tries {
    type Error = String;

    fn try_from(seconds: Vec<f64>) -> Result<Self, String> {
        let delays: Result<Vec<_>, _> = seconds.into_iter().map(Duration::try_from_secs_f64).collect();
        // A plan does not accept a delay of zero.
        let delays = delays.map_err(|error| error.to_string())?.into_iter();
        let delays: Vec<_> = delays.map(|delay| delay.max(Duration::from_millis(1))).collect();
        let tries = u32::try_from(delays.len()).unwrap_or(u32::MAX).saturating_add(1);
        // A plan needs at least one delay. With a single attempt, it is never used.
        let delays = if delays.is_empty() { vec![Duration::from_secs(1)] } else { delays };
        let plan = Plan::delays(delays, tries).map_err(|error| error.to_string())?;
        // A deferred delivery never counts as an attempt, so there is no limit to deferrals.
        Ok(Self(plan.max_deferrals(u32::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn plan(delays: &str) -> Result<Plan, String> {
        let config = testing::config(&["delays = []"], &format!("delays = {delays}")).unwrap();
        let tries = config.section::<Tries>("delays");
        tries.map(|tries| tries.plan()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_delivery_is_tried_once_more_than_there_are_delays() {
        for (delays, expected, tries) in
            [("[60, 0.5]", &[60_000, 500][..], 3), ("[0]", &[1], 2), ("[]", &[1000], 1)]
        {
            let plan = plan(delays).unwrap();
            let expected: Vec<_> = expected.iter().copied().map(Duration::from_millis).collect();
            assert_eq!((plan.delay_list(), plan.max_attempts()), (&expected[..], tries), "{delays}");
            assert_eq!(plan.deferral_limit(), u32::MAX, "deferrals are not limited");
        }
        for delays in ["[-1]", "[nan]", "[1e300]", "60", "[\"60\"]"] {
            let error = plan(delays).unwrap_err();
            assert!(error.contains("`delays"), "{delays}: {error}");
        }
    }
}
