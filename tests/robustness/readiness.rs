//! `/readyz` checks what requests need.

use private_postgres::{psql, shared_database};
use support::{Server, eventually, launch, launch_with_file_limit};

use crate::{database_in, pay};

#[test]
fn a_server_whose_disk_is_full_is_not_ready() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let server = launch_with_file_limit(1024).demo().database(&database_in(folder.path())).start();
    eventually("it is ready at first", || is_ready(&server).then_some(()));
    let mut number = 0;
    let mut pay_once_more = || {
        number += 1;
        pay(&server, &format!("key-{number}")).status
    };
    eventually("the disk is full", || (pay_once_more() != 200).then_some(()));
    // A pause would give the server time to move its write-ahead log elsewhere.
    eventually("that is noticed", || {
        pay_once_more();
        (!is_ready(&server)).then_some(())
    });
    // The same holds where a small write still fits.
    for number in 0..20 {
        let paid = pay(&server, &format!("other-{number}")).status;
        assert!(paid == 200 || !is_ready(&server), "requests are answered {paid}");
    }
    assert_eq!(server.get("/healthz").send().status, 200);
}

#[test]
fn a_server_whose_postgresql_turns_read_only_is_not_ready() {
    let url = shared_database();
    let server = launch().demo().database(&url).start();
    eventually("it is ready", || is_ready(&server).then_some(()));
    let database = url.rsplit('/').next().and_then(|name| name.split('?').next()).expect("a name");
    // As after a failover: the sessions are terminated, and new ones are read-only.
    let cut = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = '{database}' AND pid <> pg_backend_pid()"
    );
    psql(&url, &format!("ALTER DATABASE \"{database}\" SET default_transaction_read_only = on"));
    psql(&url, &cut);
    eventually("that is noticed", || {
        let answer = server.get("/readyz").send();
        (answer.status == 503 && answer.text().contains("does not accept writes")).then_some(())
    });
    let reset = format!("ALTER DATABASE \"{database}\" RESET default_transaction_read_only");
    psql(&url, &format!("SET transaction_read_only = off; {reset}"));
    psql(&url, &cut);
    eventually("it is ready again", || is_ready(&server).then_some(()));
}

#[test]
fn frequent_probes_do_not_write_often() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let server = launch().demo().database(&database_in(folder.path())).start();
    eventually("it is ready", || is_ready(&server).then_some(()));
    let log = || folder.path().join("test.db-wal").metadata().map_or(0, |metadata| metadata.len());
    let before = log();
    for _ in 0..300 {
        assert!(is_ready(&server));
    }
    // A probe writes about 64 KiB. 300 probes take longer than this, and far less than a minute.
    let written = log().saturating_sub(before);
    assert!(written < 60 * 100 * 1024, "{written} bytes");
}

fn is_ready(server: &Server) -> bool {
    server.get("/readyz").send().status == 200
}
