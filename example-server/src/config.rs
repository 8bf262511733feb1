//! The configuration file. `defaults.toml` beside this file lists and explains every key.

mod webhooks;

use std::num::{NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use account_retry_policy::Defaults;
use figment::Figment;
use figment::providers::{Format, Toml};
use figment::value::{Dict, Value};
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use url::Url;

pub(crate) use self::webhooks::{Tries, Webhooks};
use crate::accounts::Plan;
use crate::cep;
use crate::veriko::{Caps, Outcome};
use crate::{mintfax, txcloud};

/// Everything the file can say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    shutdown_grace_seconds: u64,
    pub(crate) idempotency: Idempotency,
    pub(crate) veriko: Veriko,
    pub(crate) txcloud: txcloud::Config,
    pub(crate) mintfax: mintfax::Config,
    pub(crate) scheduler: Scheduler,
}

/// `[idempotency]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Idempotency {
    ttl_seconds: NonZeroU64,
    lease_seconds: NonZeroU64,
    wait_seconds: u64,
    pub(crate) max_body_bytes: usize,
}

/// `[scheduler]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scheduler {
    pub(crate) concurrency: NonZeroUsize,
    poll_seconds: NonZeroU64,
    lease_seconds: NonZeroU64,
}

/// `[veriko.cep]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Cep {
    provider: Provider,
    /// Without a slash at its end.
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
    pub(crate) bodies: NonZeroUsize,
    keep_days: NonZeroU16,
}

/// Who says whether a payment arrived.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Provider {
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

/// What an account gets on one plan.
#[derive(Debug)]
pub(crate) struct PlanTerms {
    pub(crate) caps: Caps,
    pub(crate) rate_per_minute: NonZeroU32,
    /// Validations granted in a month, retries not counted.
    pub(crate) monthly_quota: u32,
}

impl Config {
    /// The defaults with the file over them.
    ///
    /// # Errors
    /// The file cannot be read, has a key nobody knows, or a value out of range. The message
    /// names key and file.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        if let Some(path) = file {
            figment = figment.merge(Toml::file_exact(path));
        }
        // The defaults are in order (a test reads them), so what is wrong is wrong in the file.
        let file = file.unwrap_or(Path::new("defaults.toml"));
        figment
            .extract()
            .map_err(|fault| ConfigError::Invalid { file: file.to_owned(), fault: describe(fault) })
    }

    pub(crate) fn shutdown_grace(&self) -> Duration {
        Duration::from_secs(self.shutdown_grace_seconds)
    }
}

impl Idempotency {
    pub(crate) fn ttl(&self) -> Duration {
        Duration::from_secs(self.ttl_seconds.get())
    }

    pub(crate) fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_seconds.get())
    }

    pub(crate) fn wait(&self) -> Duration {
        Duration::from_secs(self.wait_seconds)
    }
}

impl Scheduler {
    pub(crate) fn poll(&self) -> Duration {
        Duration::from_secs(self.poll_seconds.get())
    }

    pub(crate) fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_seconds.get())
    }
}

impl Cep {
    /// Who is to be asked.
    pub(crate) fn provider(&self) -> Result<Arc<dyn cep::Provider>, reqwest::Error> {
        Ok(match self.provider {
            Provider::Sandbox => Arc::new(cep::Sandbox),
            Provider::Banxico => Arc::new(cep::Banxico::at(self.base_url.clone())?),
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
    /// What an account on `plan` gets.
    pub(crate) fn terms(&self, plan: Plan) -> &Arc<PlanTerms> {
        match plan {
            Plan::Free => &self.free,
            Plan::Basic => &self.basic,
            Plan::Pro => &self.pro,
        }
    }

    /// The age up to which a validation of any account can be retried.
    pub(crate) fn longest_age(&self) -> Duration {
        let age = [&self.free, &self.basic, &self.pro].map(|terms| terms.caps.max_age_seconds());
        Duration::from_secs(age.into_iter().max().unwrap_or_default().into())
    }
}

/// A configuration the server does not start with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("{}: {fault}", file.display())]
    Invalid { file: PathBuf, fault: String },
}

const DEFAULTS: &str = include_str!("defaults.toml");

/// `[veriko]` as it is written.
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
            PlanTerms::read(&file.caps, plan).map(Arc::new).map_err(|fault| format!("plans.{name}: {fault}"))
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
    /// A plan's section is its rate limit and its quota, and the rest is caps for the policy crate to read.
    fn read(defaults: &Defaults<Outcome>, mut section: Dict) -> Result<Self, String> {
        let rate_per_minute = take(&mut section, "rate_per_minute")?;
        let monthly_quota = take(&mut section, "monthly_quota")?;
        let plan =
            Value::from(section).deserialize::<account_retry_policy::Plan<Outcome>>().map_err(describe)?;
        let caps = Caps::merge(defaults, &plan).map_err(|fault| fault.to_string())?;
        Ok(Self { caps, rate_per_minute, monthly_quota })
    }
}

/// A URL that pages can be asked for below. A password in it would end up in a log.
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

/// A key of a section, which is then the poorer by it.
fn take<T: DeserializeOwned>(section: &mut Dict, key: &str) -> Result<T, String> {
    let value = section.remove(key).ok_or_else(|| format!("missing `{key}`"))?;
    value.deserialize().map_err(|fault| format!("`{key}`: {}", fault.kind))
}

/// Each fault with its key, as the file writes it: figment's own words put the profile before it, which is not used here.
fn describe(faults: figment::Error) -> String {
    let faults: Vec<String> = faults
        .into_iter()
        .map(|fault| match fault.path.join(".") {
            key if key.is_empty() => fault.kind.to_string(),
            key => format!("`{key}`: {}", fault.kind),
        })
        .collect();
    faults.join("; ")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// What a file of this content says.
    pub(crate) fn load(content: &str) -> Result<Config, String> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("example-server-{}-{}.toml", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, content).unwrap();
        let loaded = Config::load(Some(&path)).map_err(|fault| fault.to_string());
        std::fs::remove_file(&path).unwrap();
        loaded
    }

    #[test]
    fn without_a_file_the_defaults_of_the_contract_hold() {
        let config = Config::load(None).unwrap();
        assert_eq!(config.shutdown_grace(), Duration::from_secs(10));
        assert_eq!(config.idempotency.ttl(), Duration::from_hours(24));
        assert_eq!(config.idempotency.lease(), Duration::from_secs(30));
        for (plan, cap) in [(Plan::Free, 0), (Plan::Basic, 5), (Plan::Pro, 10)] {
            let caps = &config.veriko.terms(plan).caps;
            assert_eq!(caps.max_retries_cap(), cap);
            assert_eq!((caps.min_interval_seconds(), caps.max_interval_seconds()), (300, 86_400));
            assert_eq!((caps.max_age_seconds(), caps.max_reactivations()), (7 * 86_400, 3));
            assert!(config.veriko.terms(plan).monthly_quota > 0);
            assert_eq!((caps.max_pending_per_user(), caps.max_dispatched_per_day_per_user()), (1000, 10_000));
        }
    }

    #[tokio::test]
    async fn cycles_are_kept_as_long_as_a_validation_of_any_plan_can_be_retried() {
        let week = Duration::from_hours(7 * 24);
        assert_eq!(Config::load(None).unwrap().veriko.longest_age(), week);
        let config = load("[veriko.plans.basic]\nmax_age_seconds = 5184000").unwrap();
        assert_eq!(config.veriko.longest_age(), Duration::from_hours(60 * 24));
        for (at_least, kept) in [(week, Duration::from_hours(30 * 24)), (60 * week, 60 * week)] {
            let mut handlers = crate::worker::Handlers::default();
            handlers.keep_ended(at_least);
            let pool = sqlx::SqlitePool::connect_lazy("sqlite::memory:").unwrap();
            let cycles = crate::cycles::Cycles::Sqlite(retry_scheduler::SqliteScheduler::new(pool));
            let worker = crate::worker::worker(
                &cycles,
                retry_scheduler::WorkerHandle::default(),
                handlers,
                &config.scheduler,
                Duration::ZERO,
            );
            assert!(format!("{worker:?}").contains(&format!("keep_ended: {kept:?}")), "{worker:?}");
        }
    }

    #[test]
    fn a_plan_overrides_caps_and_leaves_the_rest() {
        let config = load(
            "[veriko.caps]\nmax_interval_seconds = 7200\n[veriko.plans.pro]\nmax_retries_cap = 8\nmin_interval_seconds = 60",
        )
        .unwrap();
        let caps = &config.veriko.terms(Plan::Pro).caps;
        assert_eq!(
            (caps.max_retries_cap(), caps.min_interval_seconds(), caps.max_interval_seconds()),
            (8, 60, 7200)
        );
        assert_eq!(config.veriko.terms(Plan::Basic).caps.min_interval_seconds(), 300);
    }

    #[test]
    fn a_key_nobody_knows_is_refused_by_name_and_file() {
        for (content, key) in [
            ("shutdown_grace = 1", "shutdown_grace"),
            ("[idempotency]\nttl = 1", "ttl"),
            ("[veriko.caps]\nmax_retry_cap = 1", "max_retry_cap"),
            ("[veriko.plans.pro]\nrate = 1", "rate"),
            ("[veriko.plans.gold]\nrate_per_minute = 1", "gold"),
            ("[verico]\n", "verico"),
        ] {
            let fault = load(content).unwrap_err();
            assert!(fault.contains(&format!("`{key}`")), "{content}: {fault}");
            assert!(fault.contains("example-server-") && fault.contains(".toml"), "{content}: {fault}");
        }
    }

    #[test]
    fn values_that_make_no_sense_are_refused() {
        for content in [
            "shutdown_grace_seconds = -1",
            "[idempotency]\nttl_seconds = 0",
            "[idempotency]\nlease_seconds = 0",
            "[veriko.caps]\neligible_outcomes = [\"valid\"]",
            "[veriko.caps]\nmin_interval_seconds = 90000",
            "[veriko.plans.free]\nrate_per_minute = 0",
            "[veriko.plans.free]\nmonthly_quota = -1",
            "[veriko.cep]\nprovider = \"somebody\"",
            "[veriko.cep]\nbase_url = \"www.banxico.org.mx/cep\"",
            "[veriko.cep]\nbase_url = \"ftp://www.banxico.org.mx/cep\"",
            "[veriko.cep]\nbase_url = \"https://\"",
            "[veriko.cep]\nbase_url = \"https://www.banxico.org.mx/cep?x=1\"",
            "[veriko.cep]\nbase_url = \"https://me:secret@www.banxico.org.mx/cep\"",
            "[veriko.cep]\ntimeout_seconds = 0",
            "[veriko.queue]\nexpires_seconds = 0",
            "[veriko.ocr]\nconcurrency = 0",
            "[veriko.ocr]\nbodies = 0",
            "[veriko.ocr]\nkeep_days = 0",
            "[txcloud]\nrate_per_minute = 0",
            "[txcloud]\nsession_seconds = 0",
            "[txcloud]\nstrict_keys = 1",
            "[scheduler]\nconcurrency = 0",
            "[scheduler]\npoll_seconds = 0",
            "not toml",
        ] {
            let fault = load(content).unwrap_err();
            assert!(fault.contains(".toml"), "{content}: {fault}");
        }
    }

    #[test]
    fn the_sandbox_is_asked_unless_the_file_says_banxico() {
        let asked = |content: &str| format!("{:?}", load(content).unwrap().veriko.cep.provider().unwrap());
        assert_eq!(asked(""), "Sandbox");
        assert!(asked("[veriko.cep]\nprovider = \"banxico\"").contains("www.banxico.org.mx"));
        let elsewhere = "[veriko.cep]\nprovider = \"banxico\"\nbase_url = \"http://127.0.0.1:1/cep/\"";
        assert_eq!(load(elsewhere).unwrap().veriko.cep.base_url.as_str(), "http://127.0.0.1:1/cep");
    }

    #[test]
    fn a_file_that_is_not_there_is_an_error() {
        let fault = Config::load(Some(Path::new("/no/such/file.toml"))).unwrap_err().to_string();
        assert!(fault.contains("/no/such/file.toml"), "{fault}");
    }
}
