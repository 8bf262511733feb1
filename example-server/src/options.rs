//! The command line.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use secrecy::{ExposeSecret, SecretString};

use platform::account::AccountPlan;
use platform::api::Definition;
use platform::api_key::Environment;
use platform::db::Storage;
use platform::encryption::{SealError, Sealer};
use platform::ops::LogFormat;

use crate::APIS;

/// The reference server of the idempotency layer.
///
/// Serves, unless a command is given.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Options {
    /// Address to serve on; port 0 picks a free port
    #[arg(long, env = "LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,

    /// Address of the operators' listener: metrics and health. With it, the public address has no
    /// `/metrics`
    #[arg(long, env = "ADMIN_LISTEN", value_name = "ADDR")]
    pub(crate) admin_listen: Option<SocketAddr>,

    /// URL of the database: `sqlite:` or `postgres:`
    // The URL may contain a password, so it is never printed, not even by `--help`.
    #[arg(
        long,
        env = "DATABASE_URL",
        value_name = "URL",
        default_value = "sqlite://example-server.db",
        hide_env_values = true,
        global = true
    )]
    database: Hidden,

    /// Key that encrypts webhook secrets in the database: 64 hexadecimal digits, from `openssl rand
    /// -hex 32`. May be several, separated by commas: the first encrypts, all of them decrypt.
    /// Without it, a key is generated when first needed and stored in a file: beside a `SQLite`
    /// database, or else `example-server.key`
    #[arg(long, env = "SEALING_KEY", value_name = "KEY", hide_env_values = true)]
    sealing_key: Option<Hidden>,

    /// Redis URL for idempotency records, instead of the database (not available in this version)
    #[arg(long, env = "REDIS_URL", value_name = "URL", hide_env_values = true)]
    redis: Option<Hidden>,

    /// Configuration file, TOML
    #[arg(long, env = "CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Serve fixed accounts with public keys; on a loopback address only
    #[arg(long)]
    pub(crate) demo: bool,

    /// Format of the log on standard error; `RUST_LOG` selects what is logged
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub(crate) log: LogFormat,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// The commands other than serving.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Manage API keys
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Copy the `SQLite` database to a new file; works while the server runs
    Backup {
        /// Path of the copy; must not exist
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print the `OpenAPI` document
    Openapi,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Create an API key, and its account if new. Prints the key once; only its hash is stored
    Create(KeysCreate),
    /// List all keys, one per line: id, API, account, plan, creation time, `active` or `revoked`
    List,
    /// Revoke a key; every server refuses it within five seconds
    Revoke {
        /// Id of the key, as printed by `keys list`
        id: String,
    },
    /// Print a new key with the same account and permissions, once, and revoke the old one
    Rotate(KeysRotate),
}

/// The arguments of `keys rotate`.
#[derive(Debug, Args)]
pub(crate) struct KeysRotate {
    /// Id of the key, as printed by `keys list`
    pub(crate) id: String,
    /// The key is a test key; needed only for a key from an earlier version that did not record
    /// this
    #[arg(long)]
    test: bool,
    /// The key is a live key; needed only for a key from an earlier version that did not record
    /// this
    #[arg(long, conflicts_with = "test")]
    live: bool,
}

impl KeysRotate {
    pub(crate) fn environment(&self) -> Option<Environment> {
        match (self.test, self.live) {
            (true, _) => Some(Environment::Test),
            (_, true) => Some(Environment::Live),
            _ => None,
        }
    }
}

/// The arguments of `keys create`.
#[derive(Debug, Args)]
pub(crate) struct KeysCreate {
    /// API that the key is for
    #[arg(long, value_name = "API", value_parser = api)]
    pub(crate) api: &'static Definition,
    /// Name of the account
    #[arg(long, value_name = "NAME", value_parser = account_name)]
    pub(crate) account: String,
    /// Plan of the account, if new
    #[arg(long, default_value = "free")]
    pub(crate) plan: AccountPlan,
    /// Permission of the key; may be repeated. Default: all permissions
    #[arg(long, value_name = "PERMISSION")]
    pub(crate) permission: Vec<String>,
    /// Create a test key, for an API that has test keys
    #[arg(long)]
    test: bool,
}

impl KeysCreate {
    pub(crate) fn environment(&self) -> Environment {
        if self.test { Environment::Test } else { Environment::Live }
    }
}

/// Finds the API with this name.
fn api(name: &str) -> Result<&'static Definition, String> {
    APIS.iter().find(|api| api.name == name).ok_or_else(|| {
        format!("expected one of {}", APIS.iter().map(|api| api.name).collect::<Vec<_>>().join(", "))
    })
}

/// Parses an account name: short, and with characters that are safe in a log.
fn account_name(text: &str) -> Result<String, String> {
    let fits = (1..=64).contains(&text.len());
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte));
    if fits && plain {
        Ok(text.to_owned())
    } else {
        Err("1 to 64 letters, digits, `-`, `_`, `.` and `@`".to_owned())
    }
}

/// A value that may contain a password.
#[derive(Clone)]
struct Hidden(SecretString);

impl From<String> for Hidden {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// The refusal of an option or command.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0} is refused: this version has no Redis store, it keeps idempotency records in the database")]
    Redis(&'static str),
    #[error("--demo is refused on {0}: the demo keys are public, so it serves on loopback addresses only")]
    DemoInPublic(SocketAddr),
}

impl Options {
    /// Returns the URL of the database, which may contain a password.
    pub(crate) fn database(&self) -> &str {
        self.database.0.expose_secret()
    }

    /// Returns the cipher for stored secrets.
    ///
    /// # Errors
    /// If the given key is not valid.
    pub(crate) fn sealer(&self) -> Result<Sealer, SealError> {
        let given = self.sealing_key.as_ref().map(|Hidden(key)| key);
        Sealer::new(given, self.key_file())
    }

    /// Returns the path of the file for a generated key. A database in memory needs none.
    fn key_file(&self) -> Option<PathBuf> {
        self.storage().beside("key")
    }

    /// Returns where the data is stored.
    pub(crate) fn storage(&self) -> Storage {
        Storage::of(self.database())
    }

    /// Checks that the server supports every given option.
    ///
    /// # Errors
    /// For the first option that is not supported. Ignoring it would make it look as if it worked.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        if self.redis.is_some() {
            return Err(Refusal::Redis("--redis (REDIS_URL)"));
        }
        // An IPv4-mapped IPv6 address counts as the IPv4 address.
        let is_public = |address: &SocketAddr| !address.ip().to_canonical().is_loopback();
        if let Some(public) = std::iter::once(self.listen).chain(self.admin_listen).find(is_public)
            && self.demo
        {
            return Err(Refusal::DemoInPublic(public));
        }
        Ok(())
    }
}
