//! The configuration file, and the sections that do not belong to one vendor.

mod webhooks;

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Format, Toml};
use serde::Deserialize;
use serde::de::DeserializeOwned;

pub use self::webhooks::{Tries, Webhooks};

/// The configuration file, merged over the defaults. Each component reads its own section.
#[derive(Debug, Clone)]
pub struct ConfigFile {
    /// For error messages. Tests check the defaults, so every error is in the file.
    path: PathBuf,
    content: Figment,
}

impl ConfigFile {
    /// Reads the file and merges it over `defaults`, which are TOML.
    ///
    /// # Errors
    ///
    /// If the file cannot be read, is not TOML, or has a top-level section or key that the defaults
    /// do not have.
    pub fn read(path: Option<&Path>, defaults: &[&str]) -> Result<Self, ConfigError> {
        let known = defaults.iter().fold(Figment::new(), |all, text| all.merge(Toml::string(text)));
        let file = path.unwrap_or(Path::new("defaults.toml")).to_owned();
        let content = match path {
            Some(path) => known.clone().merge(Toml::file_exact(path)),
            None => known.clone(),
        };
        let config = Self { path: file, content };
        let names = |figment: &Figment| {
            figment.extract::<figment::value::Dict>().map_err(|error| config.invalid("", error))
        };
        let (known, given) = (names(&known)?, names(&config.content)?);
        if let Some(unknown) = given.keys().find(|name| !known.contains_key(*name)) {
            let known: Vec<_> = known.keys().map(|name| format!("`{name}`")).collect();
            let error = format!("unknown field: found `{unknown}`, expected one of {}", known.join(", "));
            return Err(ConfigError { file: config.path, error });
        }
        Ok(config)
    }

    /// Reads a section, or a top-level key.
    ///
    /// # Errors
    ///
    /// If the section has an unknown key or an invalid value. The message names the key and the
    /// file.
    pub fn section<T: DeserializeOwned>(&self, name: &str) -> Result<T, ConfigError> {
        self.content.extract_inner(name).map_err(|error| self.invalid(name, error))
    }

    fn invalid(&self, section: &str, error: figment::Error) -> ConfigError {
        ConfigError { file: self.path.clone(), error: describe(section, error) }
    }
}

/// An invalid configuration. The server does not start with it.
#[derive(Debug, thiserror::Error)]
#[error("{}: {error}", file.display())]
pub struct ConfigError {
    file: PathBuf,
    error: String,
}

/// Describes what is wrong with each key, using the key's path in the file. figment's own messages
/// begin with a profile, and there is only one.
pub fn describe(section: &str, errors: figment::Error) -> String {
    let errors: Vec<String> = errors
        .into_iter()
        .map(|error| {
            let within = error.path.first().is_some_and(|first| first == section);
            let path = if within { &error.path[1..] } else { &error.path[..] };
            let whole: Vec<&str> = std::iter::once(section)
                .chain(path.iter().map(String::as_str))
                .filter(|part| !part.is_empty())
                .collect();
            match whole.join(".") {
                key if key.is_empty() => error.kind.to_string(),
                key => format!("`{key}`: {}", error.kind),
            }
        })
        .collect();
    errors.join("; ")
}

/// `[idempotency]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Idempotency {
    ttl_seconds: NonZeroU64,
    lease_seconds: NonZeroU64,
    wait_seconds: u64,
    pub max_body_bytes: usize,
}

/// `[scheduler]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scheduler {
    pub concurrency: NonZeroUsize,
    poll_seconds: NonZeroU64,
    lease_seconds: NonZeroU64,
}

/// `[limits]`
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Maximum concurrent requests with large bodies, for each API.
    pub large_bodies: NonZeroUsize,
    /// Maximum concurrent connections from one peer.
    pub connections_per_peer: NonZeroU64,
    /// Maximum stored idempotency keys of an account, across all APIs.
    pub keys_per_account: NonZeroU64,
    /// Maximum open transactions of an account's requests.
    pub transactions_per_account: NonZeroU64,
}

impl Idempotency {
    pub fn ttl(&self) -> Duration {
        Duration::from_secs(self.ttl_seconds.get())
    }

    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_seconds.get())
    }

    pub fn wait(&self) -> Duration {
        Duration::from_secs(self.wait_seconds)
    }
}

impl Scheduler {
    pub fn poll(&self) -> Duration {
        Duration::from_secs(self.poll_seconds.get())
    }

    pub fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_seconds.get())
    }
}
