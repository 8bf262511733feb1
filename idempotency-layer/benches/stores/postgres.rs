//! `PostgresStore` compared with `pgbench`, PostgreSQL's load generator, which runs the same two prepared statements one by one.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use idempotency_layer::PostgresStore;
use private_postgres::Postgres;
use sqlx::PgPool;

use crate::load::{CLIENTS, RESPONSE, SPAN, compare, cycles, runtime};

/// The statements of the store, so that both do the same.
#[path = "../../src/store/postgres/statements.rs"]
#[expect(dead_code, reason = "two of them are enough")]
mod statements;

pub(crate) fn run() {
    let server = Postgres::start();
    let url = server.fresh_database();
    let runtime = runtime();
    let store = runtime.block_on(async {
        let store = PostgresStore::new(PgPool::connect_lazy(&url).unwrap());
        store.migrate().await.unwrap();
        Arc::new(store)
    });
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("cycle.sql");
    fs::write(&script, cycle()).unwrap();
    for clients in CLIENTS {
        let ours = || runtime.block_on(cycles(store.clone(), clients));
        compare("PostgreSQL", clients, || pgbench(&url, &script, clients), ours);
    }
}

/// Returns the number of cycles in a second.
fn pgbench(url: &str, script: &Path, clients: usize) -> f64 {
    let run = Command::new(private_postgres::find().unwrap().join("pgbench"))
        .args(["--no-vacuum", "--protocol=prepared", "--jobs=2"])
        .args([format!("--client={clients}"), format!("--time={}", SPAN.as_secs())])
        .arg(format!("--define=response={}", "x".repeat(RESPONSE)))
        .arg("--file")
        .args([script.as_os_str(), url.as_ref()])
        .output()
        .unwrap();
    let (said, failed) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    rate.unwrap_or_else(|| panic!("pgbench said {said}{failed}"))
}

/// A cycle as a script of pgbench.
fn cycle() -> String {
    let key = "sha256(:key::text::bytea)";
    let token = format!("substr({key}, 1, 16)");
    let fingerprint = "decode(repeat('01', 33), 'hex')";
    let claim = with(statements::CLAIM, [key, fingerprint, &token, "30000000", "86400000000"]);
    let complete = with(statements::COMPLETE, [key, ":fence", "2", ":response::text::bytea"]);
    format!("\\set key random(1, 9000000000000000000)\n{claim} \\gset\n{complete};\n")
}

fn with<const N: usize>(statement: &str, parameters: [&str; N]) -> String {
    let put = |text: String, (n, value): (usize, &str)| text.replace(&format!("${}", n + 1), value);
    parameters.into_iter().enumerate().fold(statement.to_owned(), put)
}
