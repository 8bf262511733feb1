//! A PostgreSQL of a test's own: on a free port, in a temporary folder, gone when the process is, even when that was
//! killed. It needs the server's programs, and neither a running server nor a container. Unix only.
//!
//! ```no_run
//! use private_postgres::{Postgres, psql};
//!
//! let postgres = Postgres::start();
//! let url = postgres.fresh_database();
//! psql(&url, "CREATE TABLE paid (key text)");
//! postgres.kill();
//! postgres.restart();
//! assert_eq!(psql(&url, "SELECT count(*) FROM paid"), "0");
//! ```
//!
//! A test that does not stop the server takes [`shared_database`].
#![allow(clippy::missing_panics_doc, reason = "a helper of tests panics where a test fails")]

mod binaries;
mod cluster;
mod database;

use std::sync::Mutex;

pub use binaries::{NotFound, find};
pub use cluster::unprivileged;
pub use database::{SHARED, psql, shared_database};

use cluster::Cluster;

/// A running server, stopped at once when dropped, its folder removed. Its only user is `postgres`, without a password.
#[derive(Debug)]
pub struct Postgres {
    cluster: Mutex<Cluster>,
    port: u16,
}

impl Postgres {
    /// As durable as PostgreSQL is by default, with room for 300 connections.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Without `fsync`: what it committed outlives [`kill`](Self::kill), and not a loss of power.
    pub fn start_fast() -> Self {
        Self::start_with(&["fsync=off", "full_page_writes=off"])
    }

    /// With these settings, each as `name=value`.
    pub fn start_with(settings: &[&str]) -> Self {
        let cluster = Cluster::start(settings);
        let port = cluster.port();
        Self { cluster: Mutex::new(cluster), port }
    }

    /// The port on 127.0.0.1, the same for life.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Of the database `postgres`.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Of this database.
    pub fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Creates a database that nobody else has: its URL.
    pub fn fresh_database(&self) -> String {
        database::fresh(&self.url())
    }

    /// The server crashes: `SIGKILL` to each of its processes. None of them is left when this returns.
    pub fn kill(&self) {
        self.cluster().kill();
    }

    /// Starts it again, on the same port and data, and waits until it has recovered. A running server is killed first.
    pub fn restart(&self) {
        let mut cluster = self.cluster();
        cluster.kill();
        cluster.restart();
    }

    fn cluster(&self) -> std::sync::MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
