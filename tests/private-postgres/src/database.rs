//! Databases on a server, made with `psql`: a driver would be the largest part of this package.

use std::env;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::{Postgres, binaries, cluster};

/// The variable that names the server of a test run, as the URL of one of its databases. Whoever it names may create
/// databases.
pub const SHARED: &str = "TEST_POSTGRES_URL";

/// A fresh database on the server that [`SHARED`] names, and that is shared with the whole run; where it names none,
/// on one of this process, which ends with it.
///
/// The database is not removed: the server is.
pub fn shared_database() -> String {
    static OWN: OnceLock<Postgres> = OnceLock::new();
    match env::var(SHARED) {
        Ok(url) if !url.is_empty() => fresh(&url),
        _ => OWN.get_or_init(Postgres::start_fast).fresh_database(),
    }
}

/// What these statements print: rows by line, columns between `|`.
pub fn psql(url: &str, statements: &str) -> String {
    // A client without the server's programs may use a server elsewhere.
    let program = binaries::find().map_or_else(|_| "psql".into(), |folder| folder.join("psql"));
    let mut command = Command::new(program);
    cluster::forget_settings(&mut command);
    command.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--no-password"]);
    command.args(["--set=ON_ERROR_STOP=1", "--dbname", url, "--command", statements]).stdin(Stdio::null());
    let output = command.output().unwrap_or_else(|error| match binaries::find() {
        Ok(_) => panic!("psql does not start: {error}"),
        Err(not_found) => panic!("{not_found}"),
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{statements}: {said}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// A fresh database on the server of this URL.
pub(crate) fn fresh(url: &str) -> String {
    let name = format!("test_{}", cluster::random());
    // Nobody is ever connected to template0; a copy of template1 fails while somebody is.
    psql(url, &format!("CREATE DATABASE {name} TEMPLATE template0"));
    with_database(url, &name)
}

fn with_database(url: &str, database: &str) -> String {
    let (address, options) = url.split_at(url.find('?').unwrap_or(url.len()));
    let authority = address.find("://").map_or(0, |at| at + 3);
    let end = address[authority..].find('/').map_or(address.len(), |at| authority + at);
    format!("{}/{database}{options}", &address[..end])
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn only_the_database_of_a_url_is_replaced() {
        for (given, expected) in [
            ("postgres://u:p@h:1/old", "postgres://u:p@h:1/new"),
            ("postgresql://h", "postgresql://h/new"),
            ("postgres://h/old?sslmode=disable&host=/run/x", "postgres://h/new?sslmode=disable&host=/run/x"),
            ("postgres://h?host=/run/x", "postgres://h/new?host=/run/x"),
        ] {
            assert_eq!(with_database(given, "new"), expected);
        }
    }
}
