//! How the server starts and stops, and what it refuses to start with.

use std::net::TcpStream;
use std::process::Output;

use private_postgres::shared_database;
use serde_json::json;
use support::{demo_key, eventually, launch};

const POLICY: &str = "/v1/users/me/retry-policy";

#[test]
fn options_with_nothing_behind_them_are_refused() {
    let refused: &[(&[&str], &str)] = &[(&["--redis", "redis://:hunter2@h"], "--redis")];
    for (arguments, named) in refused {
        let launch = arguments.iter().fold(launch(), |launch, argument| launch.arg(argument));
        let said = launch.fail();
        assert!(said.contains(named) && said.contains("refused"), "{arguments:?}: {said}");
        assert!(!said.contains("hunter2"), "a password was printed: {said}");
    }
    let said = launch().demo().env("REDIS_URL", "redis://:hunter2@h").fail();
    assert!(said.contains("REDIS_URL") && said.contains("refused") && !said.contains("hunter2"), "{said}");
}

#[test]
fn a_database_that_cannot_be_had_is_an_error_without_its_password() {
    for url in
        ["mysql://u:hunter2@h/d", "postgres://u:hunter2@127.0.0.1:1/d", "sqlite:///no/such/folder/hunter2.db"]
    {
        let said = launch().demo().database(url).fail();
        assert!(said.contains("database") && !said.contains("u:hunter2"), "{url}: {said}");
    }
    for arguments in [&["--no-such-option"][..], &["--help"]] {
        let launch = launch().database("postgres://u:hunter2@h/d");
        let output = arguments.iter().fold(launch, |launch, argument| launch.arg(argument)).output();
        assert!(!format!("{output:?}").contains("hunter2"), "{arguments:?}: {output:?}");
    }
}

#[test]
fn a_key_that_was_made_is_printed_once_and_works_with_what_it_was_given() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    for database in [format!("sqlite://{}/test.db", folder.path().display()), shared_database()] {
        let create = |more: &[&str]| {
            let launch = launch().database(&database);
            let launch =
                launch.arg("keys").arg("create").arg("--api").arg("veriko").arg("--account").arg("acme");
            more.iter().fold(launch, |launch, argument| launch.arg(argument)).output()
        };
        let key = printed(&create(&["--plan", "basic", "--permission", "validations:update"]));
        assert!(key.starts_with("mxcep_") && key.len() == 70, "{key}");
        let other = printed(&create(&["--plan", "basic"]));
        assert_ne!(key, other);
        let refused = create(&["--plan", "pro"]);
        assert!(
            !refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("`basic`"),
            "{refused:?}"
        );
        assert!(!create(&["--plan", "gold"]).status.success());
        assert!(!create(&["--permission", "everything"]).status.success());

        let server = launch().database(&database).start();
        for key in [&key, &other] {
            let answer = server.get(POLICY).bearer(key).send();
            assert_eq!(
                (answer.status, answer.json()["meta"]["caps"]["max_retries_cap"].as_u64()),
                (200, Some(5))
            );
        }
        for (key, status) in [(&key, 403), (&other, 400)] {
            assert_eq!(server.post("/v1/validate").bearer(key).body("no json").send().status, status);
        }
        assert_eq!(server.get(POLICY).bearer(&demo_key('1')).send().status, 401);
        assert!(server.stop().status.success());
    }
}

/// The one line of a command that went well.
fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    let line = String::from_utf8(output.stdout.clone()).expect("a key is text");
    line.strip_suffix('\n').expect("one line").to_owned()
}

#[test]
fn what_was_saved_is_there_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    for database in [format!("sqlite://{}/test.db", folder.path().display()), shared_database()] {
        let policy = json!({"retry_policy": {"enabled": true, "max_retries": 2, "interval_seconds": 300, "outcomes": ["error"]}});
        let server = launch().demo().database(&database).start();
        let saved = server.put(POLICY).bearer(&demo_key('1')).key("saved-1").json(&policy).send();
        assert_eq!(saved.status, 200);
        assert!(server.stop().status.success());
        let server = launch().demo().database(&database).start();
        let read = server.get(POLICY).bearer(&demo_key('1')).send().json();
        assert_eq!(read["data"]["attributes"]["max_retries"], 2);
        let again = server.put(POLICY).bearer(&demo_key('1')).key("saved-1").json(&policy).send();
        assert_eq!((&again.body, again.header("idempotent-replayed")), (&saved.body, Some("true")));
    }
}

#[test]
fn who_is_ready_has_a_database_and_a_worker() {
    let server = launch().demo().start();
    eventually("it is ready", || (server.get("/readyz").send().status == 200).then_some(()));
}

#[test]
fn configuration_that_says_what_nobody_knows_or_does_is_refused_by_key_and_file() {
    for (config, named) in [
        ("colour = 1", "colour"),
        ("[idempotency]\nttl = 1", "ttl"),
        ("[veriko.plans.pro]\nmonthly_quota = -1", "monthly_quota"),
        ("[veriko.cep]\nprovider = \"somebody\"", "provider"),
        ("[veriko.cep]\nbase_url = \"localhost\"", "base_url"),
        ("[veriko.webhooks]\nretry_delays_seconds = [-1]", "retry_delays_seconds"),
        ("[mintfax]\nretry_base_seconds = -1", "retry_base_seconds"),
        ("[mintfax]\nretry_max_seconds = 1e9", "retry_max_seconds"),
        ("[mintfax]\ncarrier_url = \"ftp://carrier\"", "carrier_url"),
        ("[mintfax]\nprice = 1", "price"),
        ("[scheduler]\nconcurrency = 0", "concurrency"),
        ("[veriko.plans.pro]\nrate_per_minute = 0", "rate_per_minute"),
        ("[idempotency]\nlease_seconds = \"long\"", "lease_seconds"),
    ] {
        let said = launch().demo().config(config).fail();
        assert!(said.contains(named) && said.contains("cross-crate-"), "{config}: {said}");
    }
    let said = launch().env("CONFIG", "/no/such/file.toml").fail();
    assert!(said.contains("/no/such/file.toml"), "{said}");
}

#[test]
fn public_keys_are_served_on_loopback_only() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "[::ffff:192.0.2.1]:0"] {
        let said = launch().demo().listen(address).fail();
        assert!(
            said.contains("--demo") && said.contains("refused") && said.contains("loopback"),
            "{address}: {said}"
        );
    }
}

#[test]
fn a_connection_that_sent_half_a_head_does_not_hold_up_the_end() {
    let server = launch().demo().start();
    let mut connection = server.connect();
    connection.write(b"GET /healthz HTTP/1.1\r\nHost");
    // Taken in, since it came before one that was answered.
    assert_eq!(server.get("/healthz").send().status, 200);
    let stopped = server.stop();
    assert!(stopped.status.success());
    assert!(!stopped.stderr.contains("did not finish in time"), "{}", stopped.stderr);
}

#[test]
fn the_demo_says_what_can_be_tried_of_each_api() {
    let server = launch().demo().start();
    let address = server.address;
    assert_eq!(server.get("/healthz").send().status, 200);
    let said = server.stop().stderr;
    for (api, key, path) in [
        ("Veriko", "mxcep_$(printf '1%.0s' {1..64})\"", "/v1/users/me"),
        ("TXCloud", "txc_test_abc123def456'", "/watchlist/screen"),
        ("mintfax", "mfx_test_abc123def456'", "/v1/account/balance"),
    ] {
        let mut lines = said.lines().filter(|line| line.contains(&format!("{api}: curl")));
        let line = lines.next().unwrap_or_else(|| panic!("nothing of {api}: {said}"));
        assert!(
            line.contains(&format!("Bearer {key}")) && line.ends_with(&format!("http://{address}{path}")),
            "{line}"
        );
    }
    assert!(!launch().start().stop().stderr.contains("curl"), "those keys are public in a demo alone");
}

#[test]
fn without_accounts_nobody_gets_in_and_the_log_says_why() {
    let server = launch().start();
    assert_eq!(server.get(POLICY).bearer(&demo_key('1')).send().status, 401);
    assert_eq!(server.get("/healthz").send().status, 200);
    let stopped = server.stop();
    assert!(
        stopped.stderr.contains("--demo") && stopped.stderr.contains("keys create"),
        "{}",
        stopped.stderr
    );
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() {
    let server = launch().demo().start();
    let address = server.address.to_string();
    let said = launch().demo().listen(&address).fail();
    assert!(said.contains(&address), "{said}");
}

#[test]
fn both_signals_end_it_in_good_order() {
    for signal in ["TERM", "INT"] {
        let server = launch().demo().start();
        // A connection that idles is no reason to stay.
        let idle = server.connect();
        assert_eq!(server.get("/healthz").send().status, 200);
        server.signal(signal);
        let stopped = server.wait();
        assert!(stopped.status.success(), "SIG{signal}: {stopped:?}");
        assert_eq!(stopped.stdout, "", "standard output has one line");
        drop(idle);
    }
}

#[test]
fn a_request_that_runs_when_the_signal_comes_is_answered() {
    let server = launch().demo().start();
    let body = json!({"retry_policy": {"enabled": false}}).to_string();
    let (first, second) = body.split_at(10);
    let mut connection = server.connect();
    let head = format!(
        "PUT {POLICY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nExpect: 100-continue\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        demo_key('1'),
        body.len()
    );
    connection.write(head.as_bytes());
    // The server asks for the body when the request has reached whoever reads it.
    connection.expect(b"HTTP/1.1 100 Continue\r\n\r\n");
    connection.write(first.as_bytes());
    server.signal("TERM");
    let address = server.address;
    eventually("no new connection is taken", || TcpStream::connect(address).is_err().then_some(()));
    connection.write(second.as_bytes());
    let answer = connection.answer();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(server.wait().status.success());
}

#[test]
fn a_request_that_never_ends_does_not_keep_it_for_longer_than_the_grace() {
    let server = launch().demo().config("shutdown_grace_seconds = 1\n").start();
    let mut connection = server.connect();
    let head = format!(
        "PUT {POLICY} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nExpect: 100-continue\r\n\
         Content-Type: application/json\r\nContent-Length: 10\r\n\r\n",
        demo_key('1')
    );
    connection.write(head.as_bytes());
    connection.expect(b"HTTP/1.1 100 Continue\r\n\r\n");
    let stopped = server.stop();
    assert!(stopped.status.success(), "{stopped:?}");
    assert!(stopped.stderr.contains("did not finish in time"), "{stopped:?}");
}
