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
/// Serves, unless another command is given.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Options {
    /// Address to serve on; port 0 takes any free one
    #[arg(long, env = "LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,

    /// Address for operators to ask on: metrics and health. When given, the public address has no `/metrics`
    #[arg(long, env = "ADMIN_LISTEN", value_name = "ADDR")]
    pub(crate) admin_listen: Option<SocketAddr>,

    /// Where the data lives: a `sqlite:` or `postgres:` URL
    // A URL can hold a password: it is never echoed, `--help` included.
    #[arg(
        long,
        env = "DATABASE_URL",
        value_name = "URL",
        default_value = "sqlite://example-server.db",
        hide_env_values = true,
        global = true
    )]
    database: Hidden,

    /// What the secrets of webhooks are sealed with in the database: 64 hexadecimal digits, made with `openssl rand -hex
    /// 32`. Several with commas between: the first seals, all of them open. Without it, a key is made when first needed,
    /// and kept in a file beside the `SQLite` database, or in `example-server.key` where that is another one
    #[arg(long, env = "SEALING_KEY", value_name = "KEY", hide_env_values = true)]
    sealing_key: Option<Hidden>,

    /// Where idempotency records live instead of the database (not available in this version)
    #[arg(long, env = "REDIS_URL", value_name = "URL", hide_env_values = true)]
    redis: Option<Hidden>,

    /// Configuration file, TOML
    #[arg(long, env = "CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,

    /// Serve fixed accounts whose keys everybody knows; on a loopback address only
    #[arg(long)]
    pub(crate) demo: bool,

    /// How to write the log, on standard error; what it holds is chosen by `RUST_LOG`
    #[arg(long, value_enum, default_value_t = LogFormat::Text, value_name = "FORMAT")]
    pub(crate) log: LogFormat,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// What else the program will do than serve.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Manage API keys
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Copy the `SQLite` database into a new file, also while the server runs
    Backup {
        /// The copy, which must not exist
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Print the `OpenAPI` document
    Openapi,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make an account, if it is new, and print a key of it: once, since only its hash is kept
    Create(KeysCreate),
    /// List all keys, a line each: id, API, account, plan, when it was made, `active` or `revoked`
    List,
    /// Revoke a key: every server refuses it within five seconds
    Revoke {
        /// Id of the key, as `keys list` has it
        id: String,
    },
    /// Print a new key with the account and permissions of another, once, and revoke that one
    Rotate(KeysRotate),
}

/// Which key to replace.
#[derive(Debug, Args)]
pub(crate) struct KeysRotate {
    /// Id of the key, as `keys list` has it
    pub(crate) id: String,
    /// It is a test key; asked only where that is not known, of a key made by an earlier version
    #[arg(long)]
    test: bool,
    /// It is a live key; asked only where that is not known, of a key made by an earlier version
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

/// Whose key, and what it may do.
#[derive(Debug, Args)]
pub(crate) struct KeysCreate {
    /// Of which API
    #[arg(long, value_name = "API", value_parser = api)]
    pub(crate) api: &'static Definition,
    /// Name of the account
    #[arg(long, value_name = "NAME", value_parser = account_name)]
    pub(crate) account: String,
    /// Plan of the account, if it is new
    #[arg(long, default_value = "free")]
    pub(crate) plan: AccountPlan,
    /// What the key may do; given more than once, all of them; not given, everything
    #[arg(long, value_name = "PERMISSION")]
    pub(crate) permission: Vec<String>,
    /// A key for trying things out, of an API that has such keys
    #[arg(long)]
    test: bool,
}

impl KeysCreate {
    pub(crate) fn environment(&self) -> Environment {
        if self.test { Environment::Test } else { Environment::Live }
    }
}

/// The API with this name.
fn api(name: &str) -> Result<&'static Definition, String> {
    APIS.iter().find(|api| api.name == name).ok_or_else(|| {
        format!("expected one of {}", APIS.iter().map(|api| api.name).collect::<Vec<_>>().join(", "))
    })
}

/// Short, and nothing that would look odd in a log.
fn account_name(text: &str) -> Result<String, String> {
    let fits = (1..=64).contains(&text.len());
    let plain = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte));
    if fits && plain {
        Ok(text.to_owned())
    } else {
        Err("1 to 64 letters, digits, `-`, `_`, `.` and `@`".to_owned())
    }
}

/// A value that may hold a password.
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

/// An option or command the server refuses.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("{0} is refused: this version keeps idempotency records in the database, it has no Redis store")]
    Redis(&'static str),
    #[error("--demo is refused on {0}: its keys are public, so it serves on a loopback address only")]
    DemoInPublic(SocketAddr),
}

impl Options {
    /// The database's URL, which may hold a password.
    pub(crate) fn database(&self) -> &str {
        self.database.0.expose_secret()
    }

    /// What secrets are sealed with.
    ///
    /// # Errors
    /// What was given is no key.
    pub(crate) fn sealer(&self) -> Result<Sealer, SealError> {
        let given = self.sealing_key.as_ref().map(|Hidden(key)| key);
        Sealer::new(given, self.key_file())
    }

    /// Where the key is kept that was not given. Data that is gone with the process needs none.
    fn key_file(&self) -> Option<PathBuf> {
        self.storage().beside("key")
    }

    /// Where the data lies.
    pub(crate) fn storage(&self) -> Storage {
        Storage::of(self.database())
    }

    /// Whether the server can do all that it was told.
    ///
    /// # Errors
    /// The first thing it cannot do. An option that was ignored would look like one that works.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        if self.redis.is_some() {
            return Err(Refusal::Redis("--redis (REDIS_URL)"));
        }
        // An IPv4 address in IPv6 clothes is judged by what it is.
        let is_public = |address: &SocketAddr| !address.ip().to_canonical().is_loopback();
        if let Some(public) = std::iter::once(self.listen).chain(self.admin_listen).find(is_public)
            && self.demo
        {
            return Err(Refusal::DemoInPublic(public));
        }
        Ok(())
    }
}
