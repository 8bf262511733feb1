//! A failed start reports the reason.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use private_postgres::unprivileged;
use support::launch;

use crate::database_in;

#[test]
fn a_database_file_that_cannot_be_opened_is_named_with_the_reason() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("text.db"), "something else".repeat(100)).expect("a file");
    for (file, reason) in [
        (path("missing/test.db"), "No such file or directory"),
        (path("text.db"), "file is not a database"),
        (path("."), "Is a directory"),
        (path("text.db/test.db"), "Not a directory"),
        // Not even root may create a file there.
        ("/proc/test.db".to_owned(), "No such file or directory"),
    ] {
        let said = launch().demo().database(&format!("sqlite://{file}")).fail();
        let line = last_line(&said);
        assert!(line.starts_with("example-server: cannot open the database file "), "{said}");
        assert!(line.contains(&file) && line.contains(reason), "{reason}: {line}");
    }
}

#[test]
fn a_folder_without_write_permission_is_reported() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let file = folder.path().join("test.db");
    fs::write(&file, "").expect("a file");
    // Root may create files everywhere.
    let user = unprivileged();
    let launched = || match user {
        Some(user) => launch().user(user),
        None => launch(),
    };
    if let Some((user, group)) = user {
        std::os::unix::fs::chown(&file, Some(user), Some(group)).expect("root may");
    }
    fs::set_permissions(folder.path(), Permissions::from_mode(0o555)).expect("it is ours");
    let said = launched().demo().database(&database_in(folder.path())).fail();
    assert!(
        last_line(&said).contains("SQLite must be able to create two more files in its folder"),
        "{said}"
    );
    let said = launched().demo().database(&format!("sqlite://{}/new.db", folder.path().display())).fail();
    assert!(last_line(&said).contains("Permission denied"), "{said}");
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).expect("it is ours");
}

#[test]
fn a_locked_database_file_is_reported() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let url = database_in(folder.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let options = url.parse::<sqlx::sqlite::SqliteConnectOptions>().expect("a URL");
        let options = options.create_if_missing(true);
        let mut connection = sqlx::ConnectOptions::connect(&options).await.expect("a database");
        sqlx::query("BEGIN EXCLUSIVE").execute(&mut connection).await.expect("a lock");
        let said = launch().demo().database(&url).fail();
        assert!(last_line(&said).contains("database is locked"), "{said}");
    });
}

#[test]
fn a_key_file_that_others_can_open_keeps_the_server_from_starting() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let key = folder.path().join("test.db.key");
    fs::write(&key, "1".repeat(64)).expect("a file");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).expect("it is ours");
    let said = launch().demo().database(&database_in(folder.path())).fail();
    let line = last_line(&said);
    assert!(line.contains("test.db.key") && line.contains("chmod 600") && !line.contains("1111"), "{said}");
    fs::set_permissions(&key, Permissions::from_mode(0o600)).expect("it is ours");
    assert!(launch().demo().database(&database_in(folder.path())).start().stop().status.success());
}

#[test]
fn the_causes_of_other_failures_are_reported_too() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let server = launch().demo().start();
    let said = launch().demo().listen(&server.address.to_string()).fail();
    assert!(last_line(&said).contains("Address already in use"), "{said}");
    let said = launch().demo().database("postgres://nobody@127.0.0.1:1/none").fail();
    assert!(last_line(&said).contains("Connection refused"), "{said}");
    let said = launch().arg("--config").arg(&folder.path().display().to_string()).fail();
    assert!(last_line(&said).contains("Is a directory"), "{said}");
    let said = launch().arg("--config").arg("/no/such/file.toml").fail();
    assert!(last_line(&said).contains("No such file"), "{said}");
}

/// Returns the program's error message, which follows its log.
fn last_line(said: &str) -> &str {
    said.lines().rfind(|line| line.starts_with("example-server: ")).unwrap_or_else(|| panic!("{said}"))
}
