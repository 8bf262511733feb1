//! Processes that are killed or stopped during a claim. The test binary starts itself as a child process.

use std::collections::HashMap;
use std::env;
use std::io::Write as _;
use std::process::Stdio;
use std::time::Duration;

use idempotency_layer::RejectionKind;
use sqlx::{AssertSqlSafe, Executor, Pool, Postgres, Sqlite, query_scalar};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{sleep, timeout};

use crate::database::Bench;
use crate::proxy::before;
use crate::rig::{self, Answer, Count, Rig, Service, now, post, send};

/// The name of [`the_process_that_is_killed`].
const NAME: &str = "in_transaction::crash::the_process_that_is_killed";
const POINT: &str = "CRASH_POINT";
const DATABASE: &str = "CRASH_DATABASE";
const TIME: &str = "CRASH_TRANSACTION_TIME_MS";

/// The point at which the process is killed or stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    BeforeTheWrite,
    AfterTheWrite,
    InAStatement,
    WaitingForARow,
    BeforeTheCommit,
    InTheCommit,
    AfterTheCommit,
    /// The process goes on when the parent says so.
    AfterTheWriteUntilTold,
    /// One request after the other.
    Anytime,
    /// 64 requests at a time.
    UnderLoad,
    /// The same, with claims that are leased.
    LeasedUnderLoad,
}

impl Point {
    const ALL: [Self; 11] = [
        Self::BeforeTheWrite,
        Self::AfterTheWrite,
        Self::InAStatement,
        Self::WaitingForARow,
        Self::BeforeTheCommit,
        Self::InTheCommit,
        Self::AfterTheCommit,
        Self::AfterTheWriteUntilTold,
        Self::Anytime,
        Self::UnderLoad,
        Self::LeasedUnderLoad,
    ];

    fn of(name: &str) -> Self {
        Self::ALL.into_iter().find(|point| format!("{point:?}") == name).expect("a point")
    }
}

/// The child process. Does nothing when it is run as an ordinary test.
#[tokio::test(flavor = "multi_thread")]
async fn the_process_that_is_killed() {
    let (Ok(point), Ok(database)) = (env::var(POINT), env::var(DATABASE)) else { return };
    let point = Point::of(&point);
    if database.starts_with("postgres") {
        be_killed::<Postgres>(point, &database).await;
    } else {
        be_killed::<Sqlite>(point, &database).await;
    }
}

/// Sends a line to the parent.
fn tell(what: &str) {
    // On a new line, because the test harness writes to the same output.
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nTOLD {what}").unwrap();
    out.flush().unwrap();
}

async fn be_killed<DB: Bench>(point: Point, database: &str) {
    let store = DB::open_again(&Pool::connect_lazy(database).unwrap()).await;
    let mut builder = rig::builder(store);
    if point != Point::LeasedUnderLoad {
        builder = builder.claim_in_transaction();
    }
    if let Ok(time) = env::var(TIME) {
        builder = builder.transaction_time(Duration::from_millis(time.parse().unwrap()));
    }
    let layer = builder.build();
    let process = std::process::id() as usize;
    let service =
        rig::serve_keyed::<DB, _, _, _>(&layer, &Count::default(), move |key, _, co_commit| async move {
            let mut transaction = co_commit.begin().await.unwrap();
            if point == Point::BeforeTheWrite {
                tell("there");
                std::future::pending::<()>().await;
            }
            if point == Point::WaitingForARow {
                tell("there");
            }
            DB::insert(&mut transaction, &format!("{key} of {process}")).await.unwrap();
            if point == Point::WaitingForARow {
                DB::insert(&mut transaction, "locked").await.unwrap();
            }
            match point {
                Point::AfterTheWrite => {
                    tell("there");
                    std::future::pending::<()>().await;
                }
                Point::InAStatement => {
                    tell("there");
                    DB::stall(&mut transaction).await;
                }
                Point::InTheCommit => {
                    DB::insert(&mut transaction, "slow to commit").await.unwrap();
                    tell("there");
                }
                Point::AfterTheCommit => co_commit.on_commit(|| {
                    tell("there");
                    std::thread::sleep(Duration::from_mins(1));
                }),
                Point::AfterTheWriteUntilTold => {
                    tell("there");
                    let line = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
                    line.await.unwrap().unwrap();
                }
                _ => {}
            }
            drop(transaction);
            rig::answer(201, process)
        });
    if point == Point::Anytime {
        for n in 0.. {
            let answer = send(&service, post(&format!("key-{n}"))).await;
            assert_eq!(answer.status, 201);
            tell(&format!("{n} {}", answer.text));
        }
    }
    if matches!(point, Point::UnderLoad | Point::LeasedUnderLoad) {
        let clients = (0..64).map(|client| {
            let service = service.clone();
            tokio::spawn(async move {
                for n in (client..).step_by(64) {
                    let answer = send(&service, post(&format!("key-{n}"))).await;
                    assert_eq!(answer.status, 201);
                    tell(&format!("{n} {}", answer.text));
                }
            })
        });
        for client in clients.collect::<Vec<_>>() {
            client.await.unwrap();
        }
    }
    let answer = send(&service, post("key")).await;
    tell(&format!("{} {:?}", answer.status, answer.kind));
}

/// A child process that runs to its point.
struct Process {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(point: Point, database: &str, time: Option<Duration>) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command
            .args(["--exact", NAME, "--nocapture"])
            .env(POINT, format!("{point:?}"))
            .env(DATABASE, database);
        if let Some(time) = time {
            command.env(TIME, time.as_millis().to_string());
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// Returns the next line of the child, or `None` after its end.
    async fn told(&mut self) -> Option<String> {
        let told = async {
            while let Some(line) = self.lines.next_line().await.unwrap() {
                if let Some(told) = line.strip_prefix("TOLD ") {
                    return Some(told.to_owned());
                }
            }
            None
        };
        timeout(Duration::from_mins(1), told).await.expect("a word within a minute")
    }

    async fn is_there(&mut self) {
        assert_eq!(self.told().await.as_deref(), Some("there"));
    }

    /// Sends a signal.
    async fn signal(&self, name: &str) {
        let id = self.child.id().expect("it runs").to_string();
        assert!(Command::new("kill").args(["-s", name, &id]).status().await.unwrap().success());
    }

    async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }
}

/// Waits until the server is inside a statement of another connection.
async fn until_active(pool: &Pool<Postgres>, which: &str) {
    let active = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'
            AND pid <> pg_backend_pid() AND {which}"
    );
    let end = now() + Duration::from_secs(20);
    while query_scalar::<_, i64>(AssertSqlSafe(active.clone())).fetch_one(pool).await.unwrap() == 0 {
        assert!(now() < end, "{which}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Retries until the request is answered, which must happen within this time.
async fn retry(service: &Service, key: &str, within: Duration) -> Answer {
    let begun = now();
    loop {
        let answer = send(service, post(key)).await;
        let elapsed = begun.elapsed();
        assert!(elapsed < within, "{elapsed:?} after the process was killed: {answer:?}");
        if answer.kind != Some(RejectionKind::InProgress) {
            return answer;
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// Checks that there is one effect, and that later answers are the same.
async fn has_one_effect<DB: Bench>(rig: &Rig<DB>, service: &Service, answer: &Answer) {
    assert_eq!(answer.status, 201, "{answer:?}");
    let again = send(service, post("key")).await;
    assert_eq!((&again.text, again.replay), (&answer.text, true));
    let rows = rig.rows().await;
    assert_eq!(rows.iter().filter(|row| row.starts_with("key ")).count(), 1, "{rows:?}");
}

/// The handler of the parent.
fn in_this_process<DB: Bench>(rig: &Rig<DB>) -> Service {
    rig.serve(&Count::default(), |_, co_commit| async move {
        DB::insert(&mut *co_commit.begin().await.unwrap(), "key in this process").await.unwrap();
        rig::answer(201, 0)
    })
}

/// The lease is a minute, so a retry that runs sooner did not wait for it.
async fn rig<DB: Bench>() -> Rig<DB> {
    Rig::with(|builder| builder.claim_in_transaction().lease(Duration::from_mins(1))).await
}

const SOON: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_point_on_postgres_it_leaves_nothing_or_the_whole() {
    for point in [
        Point::BeforeTheWrite,
        Point::AfterTheWrite,
        Point::InAStatement,
        Point::WaitingForARow,
        Point::BeforeTheCommit,
        Point::InTheCommit,
        Point::AfterTheCommit,
    ] {
        let rig = rig::<Postgres>().await;
        let service = in_this_process(&rig);
        let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
                'BEGIN PERFORM pg_sleep(60); RETURN NULL; END';
            CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON rows DEFERRABLE INITIALLY DEFERRED FOR EACH ROW
                WHEN (NEW.row = 'slow to commit') EXECUTE FUNCTION slow()";
        rig.pool.execute(slow).await.unwrap();
        let mut holder = Postgres::beside(&rig.pool).await;
        holder.execute("BEGIN; INSERT INTO rows (row) VALUES ('locked')").await.unwrap();
        let (proxy, _) = before(&rig.pool).await;
        let mut held = proxy.hold("COMMIT");

        let direct = Postgres::url(&rig.pool).await;
        let port = rig.pool.connect_options().get_port();
        let database = match point {
            Point::BeforeTheCommit => direct.replace(&format!(":{port}/"), &format!(":{}/", proxy.port())),
            _ => direct,
        };
        let mut process = Process::start(point, &database, None);
        match point {
            Point::BeforeTheCommit => held.arrives().await,
            _ => process.is_there().await,
        }
        match point {
            Point::InAStatement => until_active(&rig.pool, "query LIKE '%pg_sleep%'").await,
            Point::WaitingForARow => until_active(&rig.pool, "wait_event_type = 'Lock'").await,
            Point::InTheCommit => until_active(&rig.pool, "query LIKE 'COMMIT%'").await,
            _ => {}
        }
        if point != Point::AfterTheCommit {
            assert_eq!(send(&service, post("key")).await.kind, Some(RejectionKind::InProgress), "{point:?}");
        }
        process.kill().await;
        let answer = retry(&service, "key", SOON).await;
        assert_eq!(answer.replay, point == Point::AfterTheCommit, "{point:?}");
        has_one_effect(&rig, &service, &answer).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_point_on_sqlite_it_leaves_nothing_or_the_whole() {
    for point in [Point::BeforeTheWrite, Point::AfterTheWrite, Point::InAStatement, Point::AfterTheCommit] {
        let rig = rig::<Sqlite>().await;
        let service = in_this_process(&rig);
        let mut process = Process::start(point, &Sqlite::url(&rig.pool).await, None);
        process.is_there().await;
        process.kill().await;
        let answer = retry(&service, "key", SOON).await;
        assert_eq!(answer.replay, point == Point::AfterTheCommit, "{point:?}");
        has_one_effect(&rig, &service, &answer).await;
    }
}

/// A process that stands still differs from one that runs only by the time that passes.
#[tokio::test(flavor = "multi_thread")]
async fn the_claim_of_a_frozen_process_is_free_when_its_time_is_over() {
    let time = Duration::from_secs(1);
    let rig = rig::<Postgres>().await;
    let service = in_this_process(&rig);
    let database = Postgres::url(&rig.pool).await;
    let mut process = Process::start(Point::AfterTheWriteUntilTold, &database, Some(time));
    process.is_there().await;
    process.signal("STOP").await;
    assert_eq!(send(&service, post("key")).await.kind, Some(RejectionKind::InProgress));
    let answer = retry(&service, "key", time + SOON).await;
    assert!(!answer.replay);
    process.signal("CONT").await;
    process.child.stdin.take().unwrap().write_all(b"go on\n").await.unwrap();
    assert_eq!(process.told().await.as_deref(), Some("503 Some(RolledBack)"));
    has_one_effect(&rig, &service, &answer).await;
}

on_both! {
    killed_at_any_time_each_key_has_one_effect_and_one_answer
}

async fn killed_at_any_time_each_key_has_one_effect_and_one_answer<DB: Bench>() {
    for round in 0..8 {
        let rig = rig::<DB>().await;
        let database = DB::url(&rig.pool).await;
        let mut process = Process::start(Point::Anytime, &database, None);
        let mut answers = HashMap::new();
        // The child runs from then on, and is killed a little later in each round.
        let first = process.told().await.expect("an answer");
        sleep(Duration::from_millis(7 * round)).await;
        process.kill().await;
        let mut told = Some(first);
        while let Some(line) = told {
            let (key, text) = line.split_once(' ').expect("a key and what was answered");
            answers.insert(key.parse::<usize>().unwrap(), text.to_owned());
            told = process.told().await;
        }
        let service =
            rig::serve_keyed::<DB, _, _, _>(&rig.layer, &Count::default(), |key, _, co_commit| async move {
                DB::insert(&mut *co_commit.begin().await.unwrap(), &format!("{key} of 0")).await.unwrap();
                rig::answer(201, 0)
            });
        let rows =
            |rows: &[String], key| rows.iter().filter(|row| row.starts_with(&format!("key-{key} "))).count();
        for key in 0..=answers.len() {
            let answer = retry(&service, &format!("key-{key}"), SOON).await;
            assert_eq!(answer.status, 201, "{answer:?}");
            if let Some(told) = answers.get(&key) {
                assert_eq!((&answer.text, answer.replay), (told, true), "key {key}");
            }
            assert_eq!(rows(&rig.rows().await, key), 1, "key {key}");
        }
    }
}

/// Requests that wait for the writer share a commit: it is there whole, or not at all.
#[tokio::test(flavor = "multi_thread")]
async fn killed_under_load_on_sqlite_no_answer_is_without_its_row_and_no_row_without_its_answer() {
    for point in [Point::UnderLoad, Point::LeasedUnderLoad] {
        for round in 0..6 {
            let rig = rig::<Sqlite>().await;
            let mut process = Process::start(point, &Sqlite::url(&rig.pool).await, None);
            let mut told = vec![process.told().await.expect("an answer")];
            sleep(Duration::from_millis(37 * round)).await;
            process.kill().await;
            while let Some(line) = process.told().await {
                told.push(line);
            }
            let rows = rig.rows().await;
            let service = rig.serve(&Count::default(), |run, _| async move { rig::answer(500, run) });
            for row in &rows {
                let (key, process) = row.split_once(" of ").unwrap();
                let answer = send(&service, post(key)).await;
                assert_eq!((answer.replay, answer.text), (true, format!("run {process}")), "{point:?}");
            }
            for answered in told {
                // The last line may have been cut off.
                let Some((key, text)) = answered.split_once(' ') else { continue };
                let Some(process) = text.strip_prefix("run ").filter(|process| !process.is_empty()) else {
                    continue;
                };
                let its_row = |row: &&String| row.starts_with(&format!("key-{key} of {process}"));
                assert_eq!(rows.iter().filter(its_row).count(), 1, "{point:?}: {answered}");
            }
        }
    }
}
