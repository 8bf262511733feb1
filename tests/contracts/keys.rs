//! Keys that operators list, revoke and replace, while servers run.

use std::process::{Output, Stdio};
use std::time::Duration;

use private_postgres::shared_database;
use support::{Launch, Server, eventually_within, launch};

/// Within which every process refuses a key that was revoked.
const FIVE_SECONDS: Duration = Duration::from_secs(5);
const ME: &str = "/v1/users/me";

/// A database on each engine, and the folder of the one that is a file.
fn databases() -> (tempfile::TempDir, [String; 2]) {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    let file = format!("sqlite://{}/test.db", folder.path().display());
    (folder, [file, shared_database()])
}

fn on(database: &str) -> Launch {
    launch().database(database).env("SEALING_KEY", &"5".repeat(64))
}

fn keys(database: &str, arguments: &[&str]) -> Output {
    arguments.iter().fold(on(database).arg("keys"), |launch, argument| launch.arg(argument)).output()
}

/// What a command that went well printed, without the end of the last line.
fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).expect("it is text").trim_end().to_owned()
}

/// A new key, and its id.
fn create(database: &str, api: &str, more: &[&str]) -> (String, String) {
    let arguments = [&["create", "--api", api, "--account", "acme"], more].concat();
    let created = keys(database, &arguments);
    (printed(&created), id_in(&created))
}

fn id_in(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let line = said.lines().find_map(|line| line.strip_prefix("id of the key: "));
    line.unwrap_or_else(|| panic!("no id: {said}")).to_owned()
}

fn status(server: &Server, path: &str, key: &str) -> u16 {
    server.get(path).bearer(key).send().status
}

/// Uses the key all the time, so that nothing that lives by use forgets it, until it is refused.
fn refused_soon(servers: &[Server], path: &str, key: &str) {
    for (number, server) in servers.iter().enumerate() {
        eventually_within(FIVE_SECONDS, &format!("process {number} refuses the key"), || {
            for server in servers {
                status(server, path, key);
            }
            (status(server, path, key) == 401).then_some(())
        });
    }
}

#[test]
fn every_process_refuses_a_revoked_key_within_five_seconds_and_goes_on_with_others() {
    let (_folder, databases) = databases();
    for database in databases {
        let (revoked, id) = create(&database, "veriko", &["--plan", "pro"]);
        let (other, _) = create(&database, "veriko", &["--plan", "pro"]);
        let servers = [on(&database).start(), on(&database).start()];
        for server in &servers {
            assert_eq!((status(server, ME, &revoked), status(server, ME, &other)), (200, 200));
        }
        assert_eq!(printed(&keys(&database, &["revoke", &id])), "");
        refused_soon(&servers, ME, &revoked);
        for server in &servers {
            assert_eq!(status(server, ME, &other), 200);
        }
        let again = keys(&database, &["revoke", &id]);
        assert!(
            again.status.success() && String::from_utf8_lossy(&again.stderr).contains("already revoked"),
            "{again:?}"
        );
        let rotated = keys(&database, &["rotate", &id]);
        assert!(!rotated.status.success() && rotated.stdout.is_empty(), "{rotated:?}");
    }
}

#[test]
fn a_key_whose_row_is_gone_is_refused_as_soon() {
    let (folder, [database, _]) = databases();
    let (key, id) = create(&database, "veriko", &[]);
    let servers = [on(&database).start()];
    assert_eq!(status(&servers[0], ME, &key), 200);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        use sqlx::{Connection, SqliteConnection, query};
        let path = format!("sqlite://{}/test.db", folder.path().display());
        let mut connection = SqliteConnection::connect(&path).await.expect("the file is there");
        let deleted = query("DELETE FROM api_keys WHERE id = $1").bind(&id).execute(&mut connection).await;
        assert_eq!(deleted.expect("the table is there").rows_affected(), 1);
    });
    refused_soon(&servers, ME, &key);
}

#[test]
fn a_rotated_key_is_replaced_by_one_of_the_same_account_permissions_and_environment() {
    let (_folder, databases) = databases();
    for database in databases {
        for (api, more, prefix, path, forbidden) in [
            (
                "veriko",
                &["--plan", "basic", "--permission", "validations:update"][..],
                "mxcep_",
                ME,
                Some("/v1/validate"),
            ),
            (
                "txcloud",
                &["--plan", "basic", "--test", "--permission", "identity:read"],
                "txc_test_",
                "/identity/verifications",
                Some("/watchlist/screen"),
            ),
            ("mintfax", &["--plan", "basic"], "mfx_live_", "/v1/account/balance", None),
        ] {
            let (old, id) = create(&database, api, more);
            let servers = [on(&database).start(), on(&database).start()];
            assert_eq!(status(&servers[0], path, &old), 200, "{api}");
            let rotated = keys(&database, &["rotate", &id]);
            let new = printed(&rotated);
            assert!(new.starts_with(prefix) && new != old && !new.contains('\n'), "{new}");
            for server in &servers {
                assert_eq!(status(server, path, &new), 200, "{api}");
                if let Some(forbidden) = forbidden {
                    let request = server.post(forbidden).bearer(&new).key("after-rotation").json("{}");
                    assert_eq!(request.send().status, 403, "{api}");
                }
            }
            refused_soon(&servers, path, &old);
            let listed = printed(&keys(&database, &["list"]));
            for (id, state) in [(&id, "revoked"), (&id_in(&rotated), "active")] {
                let line = listed.lines().find(|line| line.starts_with(id.as_str())).expect("it is listed");
                let words: Vec<_> = line.split(' ').collect();
                assert_eq!((words[1], words[2], words[3], words[5]), (api, "acme", "basic", state), "{line}");
            }
        }
    }
}

#[test]
fn keys_are_listed_a_line_each_and_none_is_printed_again() {
    let (_folder, databases) = databases();
    for database in databases {
        assert_eq!(printed(&keys(&database, &["list"])), "");
        let (first, first_id) = create(&database, "veriko", &["--plan", "pro"]);
        let (second, second_id) = create(&database, "mintfax", &["--plan", "pro", "--test"]);
        let listed = printed(&keys(&database, &["list"]));
        let lines: Vec<Vec<_>> = listed.lines().map(|line| line.split(' ').collect()).collect();
        assert_eq!(lines.len(), 2, "{listed}");
        for (id, api) in [(&first_id, "veriko"), (&second_id, "mintfax")] {
            let words = lines.iter().find(|words| words[0] == id).unwrap_or_else(|| panic!("{listed}"));
            assert_eq!(
                (words.len(), words[1], words[2], words[3], words[5]),
                (6, api, "acme", "pro", "active")
            );
            assert!(words[4].ends_with('Z') && words[4].len() == "2026-11-30T12:00:00Z".len(), "{listed}");
        }
        assert!(!listed.contains(&first) && !listed.contains(&second), "{listed}");
    }
}

#[test]
fn an_id_that_nobody_has_is_an_error() {
    let (_folder, [database, _]) = databases();
    for command in ["revoke", "rotate"] {
        let refused = keys(&database, &[command, "key_0000000000000000"]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("key_0000000000000000"), "{said}");
        assert!(refused.stdout.is_empty());
    }
}

#[test]
fn a_key_that_cannot_be_printed_replaces_none() {
    let (_folder, [database, _]) = databases();
    let (key, id) = create(&database, "veriko", &[]);
    // Whoever was to read it is gone.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let rotated = on(&database).arg("keys").arg("rotate").arg(&id).output_to(Stdio::from(writer));
    assert!(!rotated.status.success(), "{rotated:?}");
    let server = on(&database).start();
    assert_eq!(status(&server, ME, &key), 200);
    assert_eq!(printed(&keys(&database, &["list"])).lines().count(), 1);
}

#[test]
fn a_key_has_one_rate_limit_however_often_its_row_is_read() {
    let (_folder, [database, _]) = databases();
    let (key, _) = create(&database, "veriko", &[]);
    let server = on(&database).config("[veriko.plans.free]\nrate_per_minute = 3\n").start();
    let limited = |server: &Server| server.get(ME).bearer(&key).send().status == 429;
    assert_eq!(
        [limited(&server), limited(&server), limited(&server), limited(&server)],
        [false, false, false, true]
    );
    // A new bucket would be full; this one has a request more every twenty seconds.
    let mut granted = 0;
    let read_again = server.counted("api_key_lookups_total", &[]);
    eventually_within(FIVE_SECONDS, "the row of the key is read again", || {
        granted += usize::from(!limited(&server));
        (server.counted("api_key_lookups_total", &[]) > read_again).then_some(())
    });
    granted += (0..5).filter(|_| !limited(&server)).count();
    assert!(granted <= 1, "{granted} requests were granted anew");
}
