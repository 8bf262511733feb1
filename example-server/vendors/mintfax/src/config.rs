//! The `[mintfax]` section of the configuration.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use account_retry_policy::Backoff;
use retry_scheduler::Plan;
use serde::{Deserialize, Deserializer};
use url::Url;

use super::fax::MAX_RETRIES;
use super::store::balances::Terms;
use platform::config::Tries;

/// The keys with their defaults.
pub(crate) const DEFAULTS: &str = include_str!("../defaults.toml");

/// The `[mintfax]` section.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    #[serde(default, deserialize_with = "http_url")]
    pub(super) carrier_url: Option<Url>,
    #[serde(deserialize_with = "timeout")]
    pub(super) carrier_timeout_seconds: Duration,
    #[serde(deserialize_with = "seconds")]
    retry_base_seconds: Duration,
    #[serde(deserialize_with = "seconds")]
    retry_max_seconds: Duration,
    pub(super) price_cents: u32,
    pub(super) opening_balance_cents: u32,
    /// Of an account in either environment.
    waiting_document_bytes: NonZeroU64,
    pub(crate) rate_per_minute: NonZeroU32,
    pub(crate) uploads_folder: Option<PathBuf>,
    webhook_retry_delays_seconds: Tries,
    #[serde(deserialize_with = "timeout")]
    webhook_timeout_seconds: Duration,
}

impl Config {
    /// Returns the delays between attempts. The number of attempts is set for each fax.
    pub(super) fn plan(&self) -> Plan {
        let backoff = Backoff::exponential(self.retry_base_seconds, self.retry_max_seconds);
        // A delay of zero is rounded up to a millisecond.
        let delays =
            backoff.delays().take(MAX_RETRIES.into()).map(|delay| delay.max(Duration::from_millis(1)));
        Plan::delays(delays, u32::MAX).expect("a few delays of at most a day make a plan")
    }

    /// Returns what an account has in each environment.
    pub(super) fn account_terms(&self) -> Terms {
        Terms {
            opening_cents: self.opening_balance_cents.into(),
            most_document_bytes: self.waiting_document_bytes.get(),
        }
    }

    /// Returns the schedule for the deliveries of an event.
    pub(super) fn event_plan(&self) -> Plan {
        self.webhook_retry_delays_seconds.plan()
    }

    pub(super) fn webhook_timeout(&self) -> Duration {
        self.webhook_timeout_seconds
    }
}

/// The upper bound of every duration here.
const MAX: Duration = Duration::from_hours(24);

/// Parses seconds, with or without a fraction.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| *duration <= MAX)
        .ok_or_else(|| serde::de::Error::custom("expected a number of seconds, at most one day"))
}

/// Parses the seconds of a time-out, which are more than 0: at once, every call would fail.
fn timeout<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let timeout = seconds(deserializer)?;
    if timeout.is_zero() {
        return Err(serde::de::Error::custom("expected a number of seconds greater than 0"));
    }
    Ok(timeout)
}

fn http_url<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Url>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let url = Url::parse(&text).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
    url.map(Some).ok_or_else(|| serde::de::Error::custom("expected an http or https URL"))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Returns the default configuration.
    pub(crate) fn config() -> Config {
        platform::testing::config(&[crate::config::DEFAULTS], "").unwrap().section("mintfax").unwrap()
    }

    #[test]
    fn the_delay_between_attempts_doubles_up_to_half_a_minute() {
        let seconds: Vec<_> = config().plan().delay_list().iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 30, 30, 30, 30, 30]);
    }

    #[test]
    fn an_event_is_sent_up_to_four_times_within_about_eighteen_minutes() {
        let (config, plan) = (config(), config().event_plan());
        let seconds: Vec<_> = plan.delay_list().iter().map(Duration::as_secs).collect();
        assert_eq!((seconds, plan.max_attempts()), (vec![10, 100, 1020], 4));
        assert_eq!(config.webhook_timeout(), Duration::from_secs(5));
    }
    #[test]
    fn a_time_out_of_zero_is_refused() {
        for name in ["carrier_timeout_seconds", "webhook_timeout_seconds"] {
            let file = format!("[mintfax]\n{name} = 0\n");
            let config = platform::testing::config(&[crate::config::DEFAULTS], &file).unwrap();
            let error = config.section::<Config>("mintfax").unwrap_err().to_string();
            assert!(error.contains("greater than 0"), "{name}: {error}");
        }
    }
}
