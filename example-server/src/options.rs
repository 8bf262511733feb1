//! The command line.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The reference server of the idempotency layer.
///
/// Data lives in memory in this version: it is gone when the server stops.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Options {
    /// Address to serve on; port 0 takes any free one
    #[arg(long, env = "LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub(crate) listen: SocketAddr,

    /// Where the data lives: `sqlite:` or `postgres:` URL (not available in this version)
    // A database's or a cache's URL can hold a password: it is never echoed, `--help` included.
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    database: Option<Hidden>,

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
    command: Option<Command>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// One object a line.
    Json,
    /// For people.
    Text,
}

/// What else the program will do than serve.
#[derive(Debug, Subcommand)]
enum Command {
    /// Manage API keys (not available in this version)
    Keys {
        #[command(subcommand)]
        command: KeysCommand,
    },
    /// Print the `OpenAPI` document (not available in this version)
    Openapi,
}

#[derive(Debug, Subcommand)]
enum KeysCommand {
    /// Make an account and print its key once
    Create(KeysCreate),
}

/// Read so that a right command line is refused for the right reason, and a wrong one as wrong.
#[derive(Debug, Args)]
struct KeysCreate {
    #[arg(long)]
    api: Api,
    #[arg(long, value_name = "NAME")]
    account: String,
    #[arg(long)]
    plan: Option<String>,
    #[arg(long)]
    permission: Vec<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Api {
    Veriko,
    Mintfax,
    Txcloud,
}

/// A value that may hold a password.
#[derive(Clone)]
struct Hidden;

impl From<String> for Hidden {
    fn from(_: String) -> Self {
        Self
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
    #[error("{0} is refused: data lives in memory in this version, there is no database to use")]
    Database(&'static str),
    #[error("{0} is refused: idempotency records live in memory in this version, there is no Redis store")]
    Redis(&'static str),
    #[error(
        "keys create is refused: accounts live in memory in this version and would be gone at once; try --demo"
    )]
    Keys,
    #[error("openapi is refused: this version has no OpenAPI document")]
    OpenApi,
    #[error("--demo is refused on {0}: its keys are public, so it serves on a loopback address only")]
    DemoInPublic(SocketAddr),
}

impl Options {
    /// Whether the server can do all that it was told.
    ///
    /// # Errors
    /// The first thing it cannot do. An option that was ignored would look like one that works.
    pub(crate) fn check(&self) -> Result<(), Refusal> {
        match self.command {
            Some(Command::Keys { command: KeysCommand::Create(_) }) => return Err(Refusal::Keys),
            Some(Command::Openapi) => return Err(Refusal::OpenApi),
            None => {}
        }
        if self.database.is_some() {
            return Err(Refusal::Database("--database (DATABASE_URL)"));
        }
        if self.redis.is_some() {
            return Err(Refusal::Redis("--redis (REDIS_URL)"));
        }
        // An IPv4 address in IPv6 clothes is judged by what it is.
        if self.demo && !self.listen.ip().to_canonical().is_loopback() {
            return Err(Refusal::DemoInPublic(self.listen));
        }
        Ok(())
    }
}
