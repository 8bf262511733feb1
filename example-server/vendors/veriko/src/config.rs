//! `[veriko]` of the configuration file.

use std::num::{NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use account_retry_policy::Defaults;
use figment::value::{Dict, Value};
use platform::account::AccountPlan;
use platform::config::{Webhooks, describe};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use url::Url;

use crate::cep::{Banxico, Provider, Sandbox};
use crate::model::{Caps, Outcome};

/// Every configuration key with its default.
pub(crate) const DEFAULTS: &str = include_str!("../defaults.toml");

/// `[veriko.cep]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cep {
    provider: ProviderName,
    /// Without a trailing slash.
    #[serde(deserialize_with = "site")]
    base_url: Url,
    timeout_seconds: NonZeroU64,
}

/// `[veriko.queue]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Queue {
    expires_seconds: NonZeroU32,
}

/// `[veriko.ocr]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ocr {
    pub(crate) program: String,
    pub(crate) languages: String,
    timeout_seconds: NonZeroU32,
    pub(crate) concurrency: NonZeroUsize,
    keep_days: NonZeroU16,
}

/// The provider that verifies payments.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ProviderName {
    Sandbox,
    Banxico,
}

/// `[veriko]`
#[derive(Debug, Deserialize)]
#[serde(try_from = "VerikoFile")]
pub(crate) struct Veriko {
    free: Arc<PlanTerms>,
    basic: Arc<PlanTerms>,
    pro: Arc<PlanTerms>,
    pub(crate) cep: Cep,
    pub(crate) queue: Queue,
    pub(crate) webhooks: Webhooks,
    pub(crate) ocr: Ocr,
}

/// The limits of one plan.
#[derive(Debug)]
pub(crate) struct PlanTerms {
    pub(crate) caps: Caps,
    pub(crate) rate_per_minute: NonZeroU32,
    /// The number of validations granted in a month. Retries do not count.
    pub(crate) monthly_quota: u32,
}

impl Cep {
    /// Creates the configured provider.
    pub(crate) fn provider(&self) -> Result<Arc<dyn Provider>, reqwest::Error> {
        Ok(match self.provider {
            ProviderName::Sandbox => Arc::new(Sandbox),
            ProviderName::Banxico => Arc::new(Banxico::at(self.base_url.clone())?),
        })
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.get())
    }
}

impl Queue {
    pub(crate) fn expiry(&self) -> Duration {
        Duration::from_secs(self.expires_seconds.get().into())
    }
}

impl Ocr {
    pub(crate) fn keep(&self) -> Duration {
        Duration::from_hours(24 * u64::from(self.keep_days.get()))
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.get().into())
    }
}

impl Veriko {
    /// Returns the limits of `plan`.
    pub(crate) fn terms(&self, plan: AccountPlan) -> &Arc<PlanTerms> {
        match plan {
            AccountPlan::Free => &self.free,
            AccountPlan::Basic => &self.basic,
            AccountPlan::Pro => &self.pro,
        }
    }

    /// Returns the maximum age at which a validation of any account can be retried.
    pub(crate) fn longest_age(&self) -> Duration {
        let age = [&self.free, &self.basic, &self.pro].map(|terms| terms.caps.max_age_seconds());
        Duration::from_secs(age.into_iter().max().unwrap_or_default().into())
    }
}

/// `[veriko]` as it is in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VerikoFile {
    caps: Defaults<Outcome>,
    plans: PlansFile,
    cep: Cep,
    queue: Queue,
    webhooks: Webhooks,
    ocr: Ocr,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlansFile {
    free: Dict,
    basic: Dict,
    pro: Dict,
}

impl TryFrom<VerikoFile> for Veriko {
    type Error = String;

    fn try_from(file: VerikoFile) -> Result<Self, String> {
        let terms = |name: &str, plan| {
            PlanTerms::read(&file.caps, plan).map(Arc::new).map_err(|error| format!("plans.{name}: {error}"))
        };
        Ok(Self {
            free: terms("free", file.plans.free)?,
            basic: terms("basic", file.plans.basic)?,
            pro: terms("pro", file.plans.pro)?,
            cep: file.cep,
            queue: file.queue,
            webhooks: file.webhooks,
            ocr: file.ocr,
        })
    }
}

impl PlanTerms {
    /// Reads the section of a plan: its rate limit and its quota. The rest are caps, which the
    /// policy crate reads.
    fn read(defaults: &Defaults<Outcome>, mut section: Dict) -> Result<Self, String> {
        let rate_per_minute = take(&mut section, "rate_per_minute")?;
        let monthly_quota = take(&mut section, "monthly_quota")?;
        let plan = Value::from(section)
            .deserialize::<account_retry_policy::Plan<Outcome>>()
            .map_err(|error| describe("", error))?;
        let caps = Caps::merge(defaults, &plan).map_err(|error| error.to_string())?;
        Ok(Self { caps, rate_per_minute, monthly_quota })
    }
}

/// Parses a URL to which page paths can be appended. It must not have a password, which would end
/// up in a log.
fn site<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
    let text = String::deserialize(deserializer)?;
    let url = Url::parse(text.trim_end_matches('/')).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none()
    });
    url.ok_or_else(|| {
        D::Error::custom("not the URL of a site: http or https, a host, a path, and nothing else")
    })
}

/// Removes a key from a section and returns its value.
fn take<T: DeserializeOwned>(section: &mut Dict, key: &str) -> Result<T, String> {
    let value = section.remove(key).ok_or_else(|| format!("missing `{key}`"))?;
    value.deserialize().map_err(|error| format!("`{key}`: {}", error.kind))
}

#[cfg(test)]
pub(crate) mod tests {
    use platform::config::ConfigError;

    use super::*;

    /// Loads a file with this content.
    pub(crate) fn load(content: &str) -> Result<Veriko, ConfigError> {
        platform::testing::config(&[crate::config::DEFAULTS], content)?.section("veriko")
    }

    #[test]
    fn a_plan_overrides_caps_and_leaves_the_rest() {
        let config = load(
            "[veriko.caps]\nmax_interval_seconds = 7200\n[veriko.plans.pro]\nmax_retries_cap = 8\nmin_interval_seconds = 60",
        )
        .unwrap();
        let caps = &config.terms(AccountPlan::Pro).caps;
        assert_eq!(
            (caps.max_retries_cap(), caps.min_interval_seconds(), caps.max_interval_seconds()),
            (8, 60, 7200)
        );
        assert_eq!(config.terms(AccountPlan::Basic).caps.min_interval_seconds(), 300);
    }

    #[test]
    fn without_a_file_the_defaults_are_those_of_the_contract() {
        let config = load("").unwrap();
        for (plan, cap) in [(AccountPlan::Free, 0), (AccountPlan::Basic, 5), (AccountPlan::Pro, 10)] {
            let caps = &config.terms(plan).caps;
            assert_eq!(caps.max_retries_cap(), cap);
            assert_eq!((caps.min_interval_seconds(), caps.max_interval_seconds()), (300, 86_400));
            assert_eq!((caps.max_age_seconds(), caps.max_reactivations()), (7 * 86_400, 3));
            assert!(config.terms(plan).monthly_quota > 0);
            assert_eq!((caps.max_pending_per_user(), caps.max_dispatched_per_day_per_user()), (1000, 10_000));
        }
        assert_eq!(config.longest_age(), Duration::from_hours(7 * 24));
        let config = load("[veriko.plans.basic]\nmax_age_seconds = 5184000").unwrap();
        assert_eq!(config.longest_age(), Duration::from_hours(60 * 24));
    }

    #[test]
    fn by_default_a_delivery_is_retried_for_about_eight_and_a_half_hours() {
        let plan = load("").unwrap().webhooks.plan();
        let last: Duration = plan.delay_list().iter().sum();
        assert_eq!(last, Duration::from_mins(8 * 60 + 36));
        assert!(plan.delay_list().is_sorted());
    }

    #[test]
    fn the_sandbox_is_the_provider_unless_the_file_names_banxico() {
        let asked = |content: &str| format!("{:?}", load(content).unwrap().cep.provider().unwrap());
        assert_eq!(asked(""), "Sandbox");
        assert!(asked("[veriko.cep]\nprovider = \"banxico\"").contains("www.banxico.org.mx"));
        let elsewhere = "[veriko.cep]\nprovider = \"banxico\"\nbase_url = \"http://127.0.0.1:1/cep/\"";
        assert_eq!(load(elsewhere).unwrap().cep.base_url.as_str(), "http://127.0.0.1:1/cep");
    }
}
