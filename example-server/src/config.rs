//! The program's configuration.
//!
//! `defaults.toml` lists and explains the keys that belong to no API. Each API has a
//! `defaults.toml` of its own.

use std::path::Path;
use std::time::Duration;

use platform::api::{Definition, Open};
use platform::config::{ConfigError, ConfigFile, Idempotency, Limits, Scheduler};

/// The whole configuration.
pub(crate) struct Config {
    pub(crate) shutdown_grace: Duration,
    pub(crate) idempotency: Idempotency,
    pub(crate) limits: Limits,
    pub(crate) scheduler: Scheduler,
    /// The constructor of each API, in the order of the definitions.
    pub(crate) apis: Vec<Open>,
}

impl Config {
    /// Reads the file, falling back to the defaults.
    ///
    /// # Errors
    /// If the file cannot be read, has an unknown key, or has a value that is out of range. The
    /// message names the key and the file.
    pub(crate) fn load(file: Option<&Path>, apis: &[Definition]) -> Result<Self, ConfigError> {
        let defaults: Vec<_> = std::iter::once(DEFAULTS).chain(apis.iter().map(|api| api.defaults)).collect();
        let file = ConfigFile::read(file, &defaults)?;
        Ok(Self {
            shutdown_grace: Duration::from_secs(file.section("shutdown_grace_seconds")?),
            idempotency: file.section("idempotency")?,
            limits: file.section("limits")?,
            scheduler: file.section("scheduler")?,
            apis: apis.iter().map(|api| (api.configure)(&file)).collect::<Result<_, _>>()?,
        })
    }
}

const DEFAULTS: &str = include_str!("defaults.toml");

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::APIS;

    /// Loads a configuration file with this content.
    pub(crate) fn load(content: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("example-server-test.toml");
        std::fs::write(&path, content).unwrap();
        Config::load(Some(&path), APIS).map_err(|error| error.to_string())
    }

    #[test]
    fn without_a_file_the_defaults_of_the_contract_hold() {
        let config = Config::load(None, APIS).unwrap();
        assert_eq!(config.shutdown_grace, Duration::from_secs(10));
        assert_eq!(config.idempotency.ttl(), Duration::from_hours(24));
        assert_eq!(config.idempotency.lease(), Duration::from_secs(30));
    }

    #[test]
    fn an_unknown_key_is_refused_by_name_and_file() {
        for (content, key) in [
            ("shutdown_grace = 1", "shutdown_grace"),
            ("[idempotency]\nttl = 1", "ttl"),
            ("[veriko.caps]\nmax_retry_cap = 1", "max_retry_cap"),
            ("[veriko.plans.pro]\nrate = 1", "rate"),
            ("[veriko.plans.gold]\nrate_per_minute = 1", "gold"),
            ("[verico]\n", "verico"),
        ] {
            let error = load(content).err().unwrap();
            assert!(error.contains(&format!("`{key}`")), "{content}: {error}");
            assert!(error.contains("example-server-") && error.contains(".toml"), "{content}: {error}");
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
            "[limits]\nlarge_bodies = 0",
            "[limits]\nconnections_per_peer = 0",
            "[veriko.ocr]\nkeep_days = 0",
            "[txcloud]\nrate_per_minute = 0",
            "[txcloud]\nsession_seconds = 0",
            "[txcloud]\nstrict_keys = 1",
            "[scheduler]\nconcurrency = 0",
            "[scheduler]\npoll_seconds = 0",
            "not toml",
        ] {
            let error = load(content).err().unwrap();
            assert!(error.contains(".toml"), "{content}: {error}");
        }
    }

    #[test]
    fn a_missing_file_is_an_error() {
        let error = Config::load(Some(Path::new("/no/such/file.toml")), APIS).err().unwrap().to_string();
        assert!(error.contains("/no/such/file.toml"), "{error}");
    }
}
