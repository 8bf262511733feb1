//! Copying, moving and replacing the database file.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};
use support::{Form, Response, Server, eventually, launch};

use crate::{database_in, pay};

const FAX_KEY: &str = "mfx_test_abc123def456";
/// Rates and quotas that no test reaches.
const NO_LIMITS: &str = "[veriko.plans.pro]\nrate_per_minute = 100000\nmonthly_quota = 1000000\n";

#[test]
fn a_copy_of_an_idle_database_file_has_everything_answered() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let server = launch().demo().config(NO_LIMITS).database(&database_in(folder.path())).start();
    for number in 0..50 {
        assert_eq!(pay(&server, &format!("key-{number}")).status, 200);
    }
    eventually("the log is moved into the file", || {
        (validations_in_copy(folder.path()) == Some(50)).then_some(())
    });
    assert_eq!(pay(&server, "one-more").status, 200);
    eventually("and again", || (validations_in_copy(folder.path()) == Some(51)).then_some(()));
}

#[test]
fn after_a_stop_the_database_file_is_complete_and_the_log_is_empty() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let server = launch().demo().config(NO_LIMITS).database(&database_in(folder.path())).start();
    // Enough requests for the store to begin a checkpoint of its own, whose connection stays open.
    let answered = thread::scope(|scope| {
        let clients = [0, 1, 2, 3].map(|client| {
            let server = &server;
            scope.spawn(move || {
                (0..600).filter(|number| pay(server, &format!("key-{client}-{number}")).status == 200).count()
            })
        });
        clients.map(|client| client.join().expect("it does not panic")).into_iter().sum::<usize>()
    });
    assert!(server.stop().status.success());
    let log = fs::metadata(folder.path().join("test.db-wal")).map_or(0, |metadata| metadata.len());
    assert_eq!((log, validations_in_copy(folder.path())), (0, Some(answered)));
}

#[test]
fn a_server_whose_database_file_was_moved_refuses_requests() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let server = launch().demo().database(&database_in(folder.path())).start();
    assert_eq!(pay(&server, "before").status, 200);
    eventually("it is ready", || (server.get("/readyz").send().status == 200).then_some(()));
    move_files(folder.path(), "test.db", "moved.db");

    assert_refused(&server);
    let readiness = server.get("/readyz").send();
    assert!(
        readiness.status == 503
            && readiness.json()["reason"].as_str().is_some_and(|reason| reason.contains("moved")),
        "{readiness:?}"
    );
    assert_eq!(server.get("/healthz").send().status, 200);

    move_files(folder.path(), "moved.db", "test.db");
    let again =
        eventually("the file is back", || Some(pay(&server, "before")).filter(|answer| answer.status == 200));
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert!(server.stop().status.success());
}

#[test]
fn a_server_whose_database_file_was_replaced_does_not_touch_the_new_file() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let url = database_in(folder.path());
    let server = launch().demo().database(&url).start();
    assert_eq!(pay(&server, "before").status, 200);
    let backup = folder.path().join("backup.db");
    let copied = launch().database(&url).arg("backup").arg(&backup.display().to_string()).output();
    assert!(copied.status.success(), "{copied:?}");
    assert_eq!(pay(&server, "after-the-backup").status, 200);
    move_files(folder.path(), "test.db", "moved.db");
    fs::rename(&backup, folder.path().join("test.db")).expect("they are in one folder");
    assert_refused(&server);

    // The next server starts on the new file while the first is still running, and loses nothing
    // when the first ends.
    let next = launch().demo().database(&url).start();
    assert_eq!(pay(&next, "before").header("idempotent-replayed"), Some("true"));
    assert_eq!(pay(&next, "after-the-backup").header("idempotent-replayed"), Some("false"));
    assert!(server.stop().status.success());
    assert_eq!(pay(&next, "after-the-backup").header("idempotent-replayed"), Some("true"));
    next.kill();
    let last = launch().demo().database(&url).start();
    assert_eq!(pay(&last, "after-the-backup").header("idempotent-replayed"), Some("true"));
}

#[test]
fn the_worker_does_not_use_a_file_that_was_moved() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let config = "[mintfax]\nretry_base_seconds = 3\n";
    let server = launch().demo().config(config).database(&database_in(folder.path())).start();
    let accepted = Form::to("+15005550004").post(&server, FAX_KEY).send();
    let path = format!("/v1/faxes/{}", accepted.json()["id"].as_str().expect("a fax has an id"));
    let fax = || server.get(&path).bearer(FAX_KEY).send();
    eventually("its first attempt fails", || (!fax().json()["error_code"].is_null()).then_some(()));
    move_files(folder.path(), "test.db", "moved.db");
    eventually("that is noticed", || server.has_logged("the database file was moved").then_some(()));
    // The second attempt would be made within this time.
    assert!(is_left_alone(&folder.path().join("moved.db"), Duration::from_secs(5)));
    move_files(folder.path(), "moved.db", "test.db");
    eventually("it is made afterwards", || (fax().json()["status"] == "delivered").then_some(()));
    move_files(folder.path(), "test.db", "moved.db");
    // An attempt that waits for the writer does not delay the shutdown.
    assert!(server.stop().status.success());
}

fn assert_refused(server: &Server) {
    let bearer = |request: support::Request| request.bearer(&support::demo_key('1')).send();
    let refusals: [Response; 3] =
        [pay(server, "before"), pay(server, "new"), bearer(server.get("/v1/validations"))];
    for answer in refusals {
        assert_eq!(answer.status, 503, "{answer:?}");
        assert!(answer.json()["errors"][0]["code"].is_string(), "{answer:?}");
    }
    let answer = server
        .post("/watchlist/screen")
        .bearer("txc_test_abc123def456")
        .key("a-long-enough-key")
        .body("{}")
        .send();
    assert_eq!(answer.status, 503, "{answer:?}");
    let answer = server.get("/v1/account/balance").bearer(FAX_KEY).send();
    assert_eq!(answer.status, 503, "{answer:?}");
}

/// Moves the file together with SQLite's `-wal` and `-shm` files.
fn move_files(folder: &Path, from: &str, to: &str) {
    for end in ["", "-wal", "-shm"] {
        let (from, to) = (folder.join(format!("{from}{end}")), folder.join(format!("{to}{end}")));
        if from.exists() {
            fs::rename(from, to).expect("they are in one folder");
        }
    }
}

/// Returns the number of validations in a copy of the file alone, if the copy has the table.
fn validations_in_copy(folder: &Path) -> Option<usize> {
    let copies = tempfile::tempdir().expect("a folder for temporary files");
    let copy = copies.path().join("copy.db");
    fs::copy(folder.join("test.db"), &copy).expect("it is there");
    with_runtime(async {
        let mut connection = SqliteConnectOptions::new().filename(&copy).connect().await.ok()?;
        let count =
            sqlx::query_scalar::<_, i64>("SELECT count(*) FROM validations").fetch_one(&mut connection).await;
        connection.close().await.ok()?;
        usize::try_from(count.ok()?).ok()
    })
}

/// Returns whether no other connection commits to this database during this time.
fn is_left_alone(file: &Path, time: Duration) -> bool {
    with_runtime(async {
        let options = SqliteConnectOptions::new().filename(file);
        let mut connection = options.connect().await.expect("it is there");
        let mut versions = Vec::new();
        for wait in [Duration::ZERO, time] {
            tokio::time::sleep(wait).await;
            let version = sqlx::query_scalar::<_, i64>("PRAGMA data_version").fetch_one(&mut connection);
            versions.push(version.await.expect("a number"));
        }
        versions[0] == versions[1]
    })
}

fn with_runtime<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}
