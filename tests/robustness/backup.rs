//! The command `backup FILE`.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use private_postgres::shared_database;
use support::{eventually, launch};

use crate::{database_in, pay};

#[test]
fn a_backup_made_while_the_server_writes_has_everything_answered_before() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let url = database_in(folder.path());
    let server = launch().demo().database(&url).start();
    let first = pay(&server, "before");
    assert_eq!(first.status, 200);
    let done = AtomicBool::new(false);
    let copy = folder.path().join("copy.db");
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0;
            while !done.load(Ordering::Relaxed) {
                number += 1;
                assert_eq!(pay(&server, &format!("meanwhile-{number}")).status, 200);
            }
        });
        let output = back_up(&url, &copy);
        done.store(true, Ordering::Relaxed);
        assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    });
    assert!(server.stop().status.success());

    // A server can start on the copy, and replays the response.
    let server = launch().demo().database(&format!("sqlite://{}", copy.display())).start();
    let again = pay(&server, "before");
    assert_eq!((again.header("idempotent-replayed"), &again.body), (Some("true"), &first.body));
    assert!(server.stop().status.success());
}

#[test]
fn a_backup_of_a_server_that_was_killed_or_stopped_has_everything_too() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let url = database_in(folder.path());
    let server = launch().demo().database(&url).start();
    assert_eq!(pay(&server, "before-the-kill").status, 200);
    server.kill();
    let killed = folder.path().join("killed.db");
    let output = back_up(&url, &killed);
    assert!(output.status.success(), "{output:?}");
    let server = launch().demo().database(&url).start();
    assert_eq!(pay(&server, "before-the-stop").status, 200);
    assert!(server.stop().status.success());
    let stopped = folder.path().join("stopped.db");
    let output = back_up(&url, &stopped);
    assert!(output.status.success(), "{output:?}");
    for (copy, key) in [(killed, "before-the-kill"), (stopped, "before-the-stop")] {
        let server = launch().demo().database(&format!("sqlite://{}", copy.display())).start();
        assert_eq!(pay(&server, key).header("idempotent-replayed"), Some("true"));
    }
}

#[test]
fn a_backup_overwrites_nothing_and_leaves_nothing_when_it_fails() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = |name: &str| folder.path().join(name);
    let url = database_in(folder.path());
    let missing = back_up(&url, &path("copy.db"));
    assert_refused(&missing, &["test.db", "No such file or directory"]);
    assert!(fs::read_dir(folder.path()).expect("a folder").next().is_none(), "something was left");

    assert!(launch().demo().database(&url).start().stop().status.success());
    fs::write(path("kept"), "something").expect("a file");
    assert_refused(&back_up(&url, &path("kept")), &["kept", "exists"]);
    assert_eq!(fs::read(path("kept")).expect("it is there"), b"something");
    assert_refused(&back_up(&url, &path("test.db")), &["test.db", "exists"]);
    std::os::unix::fs::symlink(path("nowhere"), path("link")).expect("a link");
    assert_refused(&back_up(&url, &path("link")), &["link", "exists"]);
    assert_refused(
        &back_up(&url, &path("missing/copy.db")),
        &["missing/copy.db", "No such file or directory"],
    );
    fs::write(path("text.db"), "something else".repeat(100)).expect("a file");
    let text = format!("sqlite://{}", path("text.db").display());
    assert_refused(&back_up(&text, &path("copy.db")), &["not a database"]);
    let hidden = fs::read_dir(folder.path()).expect("a folder");
    let hidden: Vec<_> =
        hidden.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with('.')).collect();
    assert!(hidden.is_empty(), "{hidden:?}");
}

#[test]
fn a_database_that_is_not_a_file_is_refused_with_an_alternative() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let copy = folder.path().join("copy.db");
    assert_refused(&back_up(&shared_database(), &copy), &["pg_dump"]);
    assert_refused(&back_up("postgres://u:hunter2@127.0.0.1:1/none", &copy), &["pg_dump"]);
    assert_refused(&back_up("sqlite::memory:", &copy), &["memory"]);
    assert!(!copy.exists());
}

#[test]
fn of_two_concurrent_backups_to_one_file_only_one_succeeds() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let url = database_in(folder.path());
    let server = launch().demo().database(&url).start();
    eventually("there is something to copy", || (pay(&server, "a-key").status == 200).then_some(()));
    for round in 0..5 {
        let copy = folder.path().join(format!("copy-{round}.db"));
        let outputs = thread::scope(|scope| {
            let both = [(); 2].map(|()| scope.spawn(|| back_up(&url, &copy)));
            both.map(|one| one.join().expect("it does not panic"))
        });
        assert_eq!(outputs.iter().filter(|output| output.status.success()).count(), 1, "{outputs:?}");
    }
}

fn back_up(url: &str, to: &Path) -> Output {
    launch().database(url).arg("backup").arg(&to.display().to_string()).output()
}

fn assert_refused(output: &Output, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && !said.contains("hunter2"), "{output:?}");
    for word in words {
        assert!(said.contains(word), "{word}: {said}");
    }
}
