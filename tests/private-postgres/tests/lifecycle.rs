//! A server starts, crashes, comes back, and never stays behind.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use private_postgres::{Postgres, psql};

/// Keeps a backend from looking at anything but its query, for hours.
const BUSY: &str = "SELECT count(*) FROM generate_series(1, 100000000000) WHERE random() < 0";

#[test]
fn a_server_is_durable_unless_it_is_asked_not_to_be() {
    let settings = "SELECT current_setting('fsync'), current_setting('max_connections')";
    let postgres = Postgres::start();
    assert_eq!(psql(&postgres.url(), settings), "on|300");
    assert_eq!(psql(&Postgres::start_fast().url(), settings), "off|300");
    assert_eq!(psql(&Postgres::start_with(&["max_connections=20"]).url(), settings), "on|20");
}

#[test]
fn fresh_databases_are_empty_and_differ() {
    let postgres = Postgres::start_fast();
    let (one, other) = (postgres.fresh_database(), postgres.fresh_database());
    assert_ne!(one, other);
    psql(&one, "CREATE TABLE t (n int)");
    assert_eq!(psql(&other, "SELECT to_regclass('t') IS NULL"), "t");
}

#[test]
fn shared_databases_differ_and_are_of_one_server() {
    let (one, other) = (private_postgres::shared_database(), private_postgres::shared_database());
    assert_ne!(one, other);
    let server = "SELECT pg_postmaster_start_time(), inet_server_port()";
    assert_eq!(psql(&one, server), psql(&other, server));
}

#[test]
fn databases_can_be_made_at_once_by_many() {
    let postgres = Postgres::start_fast();
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| psql(&postgres.fresh_database(), "SELECT 1"));
        }
    });
}

#[test]
fn what_was_committed_is_there_after_a_crash_on_the_same_port() {
    let postgres = Postgres::start();
    let url = postgres.fresh_database();
    psql(&url, "CREATE TABLE t (n int)");
    for round in 1..=5 {
        let port = postgres.port();
        psql(&url, &format!("INSERT INTO t VALUES ({round})"));
        let mut busy = client(&url, BUSY);
        wait_for_busy(&url);
        let processes = processes(&url);
        postgres.kill();
        // At once, not in time: a restart must not meet them.
        assert_eq!(alive(&processes), Vec::<String>::new());
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
        assert!(!busy.wait().expect("a child can be waited for").success());
        postgres.restart();
        assert_eq!(postgres.port(), port);
        assert_eq!(psql(&url, "SELECT count(*), max(n) FROM t"), format!("{round}|{round}"));
    }
}

#[test]
fn a_dropped_server_leaves_no_process_memory_or_folder_even_if_it_was_killed() {
    for killed in [false, true] {
        let postgres = Postgres::start();
        let (processes, folder) = (processes(&postgres.url()), data(&postgres.url()));
        let segment = psql(&postgres.url(), "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 7)");
        let segment = segment.split_whitespace().last().expect("a key and an id").to_owned();
        assert!(segments().contains(&segment), "{segment}");
        if killed {
            postgres.kill();
        }
        drop(postgres);
        assert_eq!(alive(&processes), Vec::<String>::new());
        assert!(!segments().contains(&segment), "{segment}");
        assert!(!Path::new(&folder).parent().expect("it lies in the server's folder").exists(), "{folder}");
    }
}

#[test]
fn a_killed_process_leaves_no_server_behind() {
    // The runner says the URL through its command, which ends with our end of its input.
    let mut runner = Command::new(env!("CARGO_BIN_EXE_private-postgres"))
        .args(["sh", "-c", "echo $TEST_POSTGRES_URL; read -r line"])
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the runner starts");
    let mut said = BufReader::new(runner.stdout.take().expect("its standard output is a pipe"));
    let mut url = String::new();
    said.read_line(&mut url).expect("a URL is text");
    let url = url.trim_end();
    let mut busy = client(url, BUSY);
    wait_for_busy(url);
    let (processes, folder) = (processes(url), data(url));
    assert!(processes.len() > 3 && alive(&processes) == processes, "{processes:?}");

    // As a test runner ends a test that takes too long.
    kill(&format!("-{}", runner.id()));
    let _ = runner.wait();
    eventually("the server is gone", || alive(&processes).is_empty());
    eventually("its folder is gone", || !Path::new(&folder).parent().is_some_and(Path::exists));
    assert!(!busy.wait().expect("a child can be waited for").success());
}

#[cfg(target_os = "linux")]
#[test]
fn a_server_ends_even_if_only_what_watches_over_it_is_killed() {
    let postgres = Postgres::start();
    let url = postgres.url();
    let mut busy = client(&url, BUSY);
    wait_for_busy(&url);
    let processes = processes(&url);
    let parent = Command::new("ps").args(["-o", "ppid=", "-p", &processes[0]]).output().expect("ps starts");
    kill(String::from_utf8_lossy(&parent.stdout).trim());
    eventually("the server is gone", || alive(&processes).is_empty());
    assert!(!busy.wait().expect("a child can be waited for").success());
}

#[test]
fn the_runner_ends_as_its_command_does() {
    let run = |script: &str| {
        let mut runner = Command::new(env!("CARGO_BIN_EXE_private-postgres"));
        runner.args(["sh", "-c", script]).status().expect("the runner starts")
    };
    assert_eq!(run("exit 7").code(), Some(7));
    let killed = run("kill -s KILL $$");
    assert_eq!((killed.code(), killed.signal()), (Some(137), None));
}

#[test]
fn without_postgresql_it_says_what_to_install() {
    let say = |bin: Option<&str>| {
        let mut runner = Command::new(env!("CARGO_BIN_EXE_private-postgres"));
        match bin {
            Some(bin) => runner.env("POSTGRES_BIN", bin),
            None => runner.env_remove("POSTGRES_BIN"),
        };
        let output = runner.output().expect("the runner starts");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (found, said) = say(Some("/no/such/folder"));
    assert!(!found && said.contains("POSTGRES_BIN is /no/such/folder"), "{said}");
    assert!(say(None).0);
}

fn client(url: &str, statement: &str) -> std::process::Child {
    let psql = private_postgres::find().expect("it runs").join("psql");
    let mut command = Command::new(psql);
    command.args(["--no-psqlrc", "--dbname", url, "--command", statement]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("psql starts")
}

fn wait_for_busy(url: &str) {
    let busy = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%generate_series%' AND pid <> pg_backend_pid()";
    eventually("the query runs", || psql(url, busy) != "0");
}

fn kill(process: &str) {
    let sent = Command::new("kill").args(["-s", "KILL", "--", process]).status();
    assert!(sent.is_ok_and(|status| status.success()), "cannot kill {process}");
}

/// Every process of the server but the one that answers.
fn processes(url: &str) -> Vec<String> {
    let pids = psql(
        url,
        "SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)
         UNION ALL SELECT pid::text FROM pg_stat_activity WHERE pid <> pg_backend_pid()",
    );
    pids.lines().map(str::to_owned).collect()
}

fn data(url: &str) -> String {
    psql(url, "SHOW data_directory")
}

/// The ids of the System V segments there are.
fn segments() -> Vec<String> {
    let output = Command::new("ipcs").arg("-m").output().expect("ipcs starts");
    let listing = String::from_utf8_lossy(&output.stdout).into_owned();
    listing.lines().filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned).collect()
}

/// Which of these processes have not ended. One that has may be a zombie for as long as its new parent likes.
fn alive(processes: &[String]) -> Vec<String> {
    let mut listing = String::new();
    let ps = Command::new("ps").args(["-A", "-o", "pid=,state="]).stdout(Stdio::piped()).spawn();
    let mut ps = ps.expect("ps starts");
    let mut output = ps.stdout.take().expect("its standard output is a pipe");
    output.read_to_string(&mut listing).expect("ps writes text");
    let _ = ps.wait();
    let running = listing.lines().filter_map(|line| {
        let (pid, state) = line.trim().split_once(' ')?;
        (!state.trim().starts_with('Z')).then_some(pid)
    });
    let running = running.collect::<Vec<_>>();
    processes.iter().filter(|pid| running.contains(&pid.as_str())).cloned().collect()
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if is_so() {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("not in time: {what}");
}
