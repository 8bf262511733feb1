//! The database, looked into past the server.

use std::fmt::Write as _;

use private_postgres::{psql, shared_database};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{Connection, SqliteConnection};
use support::{Launch, launch};
use tempfile::TempDir;

/// A database that outlives its servers.
#[derive(Debug)]
pub(crate) enum Database {
    /// A file, and the folder that goes with this.
    Sqlite(TempDir, &'static str),
    Postgres(String),
}

/// What there is, of everybody together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) validations: usize,
    /// Of the quota of validations.
    pub(crate) charged: u64,
    /// The states of the idempotency records.
    pub(crate) records: Vec<String>,
    pub(crate) cycles: usize,
}

/// An idempotency record whose request runs, or ran when its process died.
pub(crate) const RUNNING: &str = "0";
/// One with its answer.
pub(crate) const ANSWERED: &str = "2";

impl Database {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("the directory for temporary files takes one");
        Self::Sqlite(folder, "crash.db")
    }

    pub(crate) fn postgres() -> Self {
        Self::Postgres(shared_database())
    }

    /// A server of the demo on it, patient with none of its dead predecessors.
    pub(crate) fn launch(&self) -> Launch {
        self.launch_with("")
    }

    /// The same with more, or other, configuration, as lines of `section.key = value`.
    pub(crate) fn launch_with(&self, more: &str) -> Launch {
        let mut config = String::new();
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let given = lines(more);
        let key = |line: &str| line.split('=').next().map(|key| key.trim().to_owned());
        for line in lines(CONFIG)
            .iter()
            .filter(|line| given.iter().all(|given| key(given) != key(line)))
            .chain(&given)
        {
            let _ = writeln!(config, "{line}");
        }
        let url = match self {
            Self::Sqlite(folder, name) => format!("sqlite://{}", folder.path().join(name).display()),
            Self::Postgres(url) => url.clone(),
        };
        // A line for each request would only hide what went wrong.
        launch().demo().database(&url).config(&config).env("RUST_LOG", "warn")
    }

    /// The one column, of text, that this query is about.
    pub(crate) fn ask(&self, query: &'static str) -> Vec<String> {
        match self {
            Self::Sqlite(folder, name) => {
                let options = SqliteConnectOptions::new().filename(folder.path().join(name)).read_only(true);
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
                runtime.expect("a runtime starts").block_on(async {
                    let mut connection =
                        SqliteConnection::connect_with(&options).await.expect("the file is there");
                    let rows = sqlx::query_scalar(query).fetch_all(&mut connection).await;
                    connection.close().await.expect("it can be closed");
                    rows.unwrap_or_else(|fault| panic!("{query}: {fault}"))
                })
            }
            Self::Postgres(url) => psql(url, query).lines().map(str::to_owned).collect(),
        }
    }

    pub(crate) fn rows(&self) -> Rows {
        let charged = self.ask("SELECT CAST(coalesce(sum(used), 0) AS TEXT) FROM quota_shares");
        Rows {
            validations: self.ask("SELECT id FROM validations").len(),
            charged: charged[0].parse().expect("a number"),
            records: self.ask("SELECT CAST(state AS TEXT) FROM idempotency_records"),
            cycles: self.ask("SELECT CAST(state AS TEXT) FROM retry_cycles").len(),
        }
    }
}

const CONFIG: &str = "\
idempotency.lease_seconds = 1
txcloud.rate_per_minute = 1000000
veriko.caps.min_interval_seconds = 1
veriko.caps.max_pending_per_user = 1000000
veriko.caps.max_dispatched_per_day_per_user = 1000000
veriko.plans.pro.rate_per_minute = 1000000
veriko.plans.pro.monthly_quota = 1000000
scheduler.lease_seconds = 2";
