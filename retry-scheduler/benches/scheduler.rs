//! Cycles claimed and finished a second, on each scheduler, with few and with many pending, one by one and by the hundred.
//!
//! `cargo bench -p retry-scheduler --all-features`; with `-- postgres` (or of it `operators` or `cycles`), `notices`,
//! `sqlite` or `memory` only that. Every figure is of this machine at this moment: the ratios mean something. They are to
//! the first line for that size of batch, and on PostgreSQL to what pgbench reaches with the least that a cycle can be.
//!
//! An attempt fails, and its cycle is due again a millisecond later: the number of pending cycles stays what it is, and
//! they are gone through in a ring. With an old snapshot, a transaction is open that began before: PostgreSQL keeps every
//! row that has changed since. The time of processors is that of the bench and of the server together.
#![allow(clippy::unwrap_used, reason = "a benchmark that fails says so")]
#![expect(clippy::cast_precision_loss, reason = "far below 2^52")]

#[path = "scheduler/cpu.rs"]
mod cpu;
#[path = "scheduler/notices.rs"]
mod notices;
#[path = "scheduler/operators.rs"]
mod operators;

use std::collections::HashMap;
use std::io::{self, Write};
use std::process::{self, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs};

use private_postgres::{Postgres, psql};
use retry_scheduler::{
    ClaimDue, Claimed, CycleKey, Finished, MemoryScheduler, NewCycle, Plan, PostgresScheduler, Report,
    RetryScheduler, SchedulerErrorKind, SqliteScheduler,
};
use sqlx::{Executor, PgPool};

const FEW: usize = 10_000;
const MANY: usize = 1_000_000;
const TENANTS: usize = 100;
/// As many as a scheduler has connections for verbs.
const LOOPS: usize = PostgresScheduler::CONNECTIONS - 1;
const PAYLOAD: &[u8] = &[b'p'; 200];
const DETAIL: &[u8] = b"not found";
/// Each figure is of so long, after as long again that is not counted.
const TIME: Duration = Duration::from_secs(6);

#[tokio::main]
async fn main() {
    let wanted: Vec<_> = env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    if wants("memory") {
        memory().await;
    }
    if wants("sqlite") {
        sqlite().await;
    }
    let all = wants("postgres");
    let (operators, cycles) = (all || wants("operators"), all || wants("cycles"));
    if operators || cycles {
        postgres(operators, cycles).await;
    }
    if wants("notices") {
        notices::notices().await;
    }
}

async fn memory() {
    let mut table = Table::new("memory");
    for batch in [1, 100] {
        for pending in [FEW, MANY] {
            let scheduler = MemoryScheduler::new(MANY);
            fill(&scheduler, pending).await;
            table.line(pending, batch, "", churn(Arc::new(scheduler), batch, 1, usize::MAX).await);
        }
    }
}

async fn sqlite() {
    let mut table = Table::new("SQLite, a write-ahead log, FULL");
    for batch in [1, 100] {
        for pending in [FEW, MANY] {
            let folder = env::temp_dir().join(format!("retry-scheduler-bench-{}", process::id()));
            fs::create_dir_all(&folder).unwrap();
            let scheduler = SqliteScheduler::open(folder.join("cycles.db")).await.unwrap();
            let pool = scheduler.pool();
            let subjects = format!(
                "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {pending}) \
                 INSERT INTO retry_subjects (namespace, subject, payload) \
                 SELECT 'bench', format('00000000-0000-0000-0000-%012d', n * 7919 % {pending}), zeroblob(200) FROM n"
            );
            pool.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(subjects))).await.unwrap();
            let cycles = format!(
                "INSERT INTO retry_cycles (id, namespace, tenant, max_attempts, delays, wake_at) \
                 SELECT id, namespace, 'tenant ' || (id % {TENANTS}), 1000000, '1', \
                 CAST(unixepoch('subsec') * 1000 AS INTEGER) - 3600000 + id * 1000 / ({pending} / 1000) FROM retry_subjects"
            );
            pool.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(cycles))).await.unwrap();
            pool.execute("ANALYZE").await.unwrap();
            table.line(pending, batch, "", churn(Arc::new(scheduler), batch, 1, usize::MAX).await);
            fs::remove_dir_all(&folder).unwrap();
        }
    }
}

/// What operators and the purge cost, and what cycles do.
async fn postgres(operators: bool, cycles: bool) {
    let postgres = Postgres::start_with(&["shared_buffers=512MB", "max_wal_size=8GB"]);
    // Ten million take some 8 GB.
    let sizes: &[usize] = match env::var_os("BENCH_TEN_MILLION") {
        Some(_) => &[FEW, MANY, 10 * MANY],
        None => &[FEW, MANY],
    };
    for &pending in sizes {
        let url = postgres.url_of(&template(pending));
        psql(&postgres.url(), &format!("CREATE DATABASE {}", template(pending)));
        let pool = PgPool::connect(&url).await.unwrap();
        PostgresScheduler::new(pool.clone()).migrate().await.unwrap();
        pool.close().await;
        psql(
            &url,
            &format!(
                "INSERT INTO retry_subjects (namespace, subject, owner, payload) \
             SELECT 'bench', md5(n::text)::uuid, 'tenant ' || n % {TENANTS}, decode(repeat('00', 200), 'hex') FROM generate_series(1, {pending}) AS n"
            ),
        );
        psql(
            &url,
            &format!(
                "INSERT INTO retry_namespaces VALUES ('bench'); \
             INSERT INTO retry_cycles (id, namespace, tenant, max_attempts, delays, wake_at) \
             SELECT id, namespace, 'tenant ' || id % {TENANTS}, 1000000, '1', \
             floor(extract(epoch FROM now()) * 1000) - 3600000 + id * 1000 / ({pending} / 1000) FROM retry_subjects"
            ),
        );
        psql(&url, "VACUUM ANALYZE");
    }
    if operators {
        growth(&postgres).await;
        for &pending in sizes {
            let name = format!("operators_{pending}");
            psql(&postgres.url(), &format!("CREATE DATABASE {name} TEMPLATE {}", template(pending)));
            operators::measure(&postgres.url_of(&name), pending).await;
            psql(&postgres.url(), &format!("DROP DATABASE {name} WITH (FORCE)"));
        }
    }
    if cycles {
        claims(&postgres, sizes).await;
    }
}

/// What cycles do, beside pgbench.
async fn claims(postgres: &Postgres, sizes: &[usize]) {
    let mut table = Table::new("PostgreSQL");
    prepare_one_by_one(postgres);
    table.yardstick(one_by_one(postgres, 64), 64);
    for batch in [1, 100] {
        for &pending in sizes {
            // Beside each line, a yardstick of the same minute.
            table.yardstick(one_by_one(postgres, LOOPS), LOOPS);
            for old_snapshot in [false, true] {
                for shares in [false, true] {
                    if shares && (old_snapshot || batch == 1) {
                        continue;
                    }
                    let name = format!("run_{batch}_{pending}_{old_snapshot}_{shares}");
                    psql(&postgres.url(), &format!("CREATE DATABASE {name} TEMPLATE {}", template(pending)));
                    psql(&postgres.url(), "CHECKPOINT");
                    let pool = PgPool::connect(&postgres.url_of(&name)).await.unwrap();
                    let mut old = pool.begin().await.unwrap();
                    if old_snapshot {
                        old.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ").await.unwrap();
                        old.execute("SELECT count(*) FROM retry_attempts").await.unwrap();
                    }
                    let scheduler = Arc::new(PostgresScheduler::new(pool.clone()));
                    let (loops, per_tenant) = (LOOPS, if shares { 50 } else { usize::MAX });
                    let note = match (old_snapshot, shares) {
                        (true, _) => "old snapshot",
                        (_, true) => "shares",
                        _ => "",
                    };
                    table.line(pending, batch, note, churn(scheduler, batch, loops, per_tenant).await);
                    old.rollback().await.unwrap();
                    pool.close().await;
                    psql(&postgres.url(), &format!("DROP DATABASE {name} WITH (FORCE)"));
                }
            }
        }
    }
}

/// Prints how many bytes an ended cycle takes after a vacuum.
async fn growth(postgres: &Postgres) {
    psql(&postgres.url(), "CREATE DATABASE growth");
    let url = postgres.url_of("growth");
    let scheduler = PostgresScheduler::new(PgPool::connect(&url).await.unwrap());
    scheduler.migrate().await.unwrap();
    operators::grow(&scheduler).await;
    let tables = ["retry_cycles", "retry_subjects", "retry_attempts"];
    let bytes = tables.map(|table| {
        psql(&url, &format!("VACUUM FULL {table}"));
        psql(&url, &format!("SELECT pg_total_relation_size('{table}')")).parse::<usize>().unwrap()
    });
    operators::print_growth("PostgreSQL", bytes.iter().sum());

    let folder = env::temp_dir().join(format!("retry-scheduler-growth-{}", process::id()));
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("cycles.db");
    let scheduler = SqliteScheduler::open(&file).await.unwrap();
    operators::grow(&scheduler).await;
    scheduler.pool().execute("VACUUM; PRAGMA wal_checkpoint(TRUNCATE)").await.unwrap();
    let bytes = usize::try_from(fs::metadata(&file).unwrap().len()).unwrap();
    operators::print_growth("SQLite", bytes);
    fs::remove_dir_all(&folder).unwrap();
}

fn prepare_one_by_one(postgres: &Postgres) {
    psql(
        &postgres.url(),
        "CREATE TABLE one_by_one (id int PRIMARY KEY, n int NOT NULL) WITH (fillfactor = 50)",
    );
    psql(&postgres.url(), "INSERT INTO one_by_one SELECT n, 0 FROM generate_series(1, 100000) AS n");
}

/// What the server does of the least that a cycle can be: two updates of one small row by its number, which move it in no
/// index, each sent and committed alone by one of the clients of pgbench. Cycles a second.
fn one_by_one(postgres: &Postgres, clients: usize) -> f64 {
    let script = env::temp_dir().join(format!("retry-scheduler-bench-{}.sql", process::id()));
    let update = "UPDATE one_by_one SET n = n + 1 WHERE id = :id;\n";
    fs::write(&script, format!("\\set id random(1, 100000)\n{update}{update}")).unwrap();
    let mut pgbench = Command::new(private_postgres::find().unwrap().join("pgbench"));
    pgbench.args(["--no-vacuum", "--protocol=prepared", "--jobs=2", &format!("--client={clients}")]);
    pgbench.arg(format!("--time={}", TIME.as_secs())).arg("--file").arg(&script).arg(postgres.url());
    let said = String::from_utf8(pgbench.output().unwrap().stdout).unwrap();
    fs::remove_file(&script).unwrap();
    let rate = said.lines().find_map(|line| line.strip_prefix("tps = ")?.split(' ').next()?.parse().ok());
    rate.unwrap_or_else(|| panic!("{said}"))
}

fn template(pending: usize) -> String {
    format!("template_{pending}")
}

async fn fill(scheduler: &impl RetryScheduler, pending: usize) {
    for n in 0..pending {
        let key = CycleKey::new("bench", format!("00000000-0000-0000-0000-{n:012}"));
        let plan = Plan::every(Duration::from_millis(1), 1_000_000).unwrap();
        let new = NewCycle::new(key, plan).tenant(format!("tenant {}", n % TENANTS)).payload(PAYLOAD);
        scheduler.schedule(new).await.unwrap();
    }
}

/// Cycles a second, and the time of processors that each took.
async fn churn<S: RetryScheduler>(
    scheduler: Arc<S>,
    batch: usize,
    loops: usize,
    per_tenant: usize,
) -> (f64, Duration) {
    let (finished, over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let mut tasks = Vec::new();
    for _ in 0..loops {
        let (scheduler, finished, over) = (scheduler.clone(), finished.clone(), over.clone());
        tasks.push(tokio::spawn(async move {
            // Where nothing is waited for, a task cannot be ended from outside.
            let mut reports: Vec<(Claimed, Report)> = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let answer =
                    scheduler.finish_and_claim(reports.clone(), ask(batch, per_tenant)).await.unwrap();
                let mut again = Vec::new();
                for (answer, report) in answer.finished.into_iter().zip(reports) {
                    match answer {
                        Ok(Finished::Recorded(_)) => {
                            finished.fetch_add(1, Ordering::Relaxed);
                        }
                        Err(error) if error.kind() == SchedulerErrorKind::Conflict => again.push(report),
                        other => panic!("{other:?}"),
                    }
                }
                reports = again;
                reports.extend(answer.claims.unwrap().into_iter().map(|claim| (claim, failure())));
                if reports.is_empty() {
                    // All of a few are leased to the others.
                    tokio::task::yield_now().await;
                }
            }
        }));
    }
    tokio::time::sleep(TIME).await;
    let (start, spent, before) = (now(), cpu::spent(), finished.load(Ordering::Relaxed));
    tokio::time::sleep(TIME).await;
    let count = finished.load(Ordering::Relaxed) - before;
    let rate = count as f64 / start.elapsed().as_secs_f64();
    let each = cpu::spent().saturating_sub(spent).div_f64(count as f64);
    over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    (rate, each)
}

fn ask(limit: usize, per_tenant: usize) -> ClaimDue {
    ClaimDue::new(limit, Duration::from_secs(30)).per_tenant(per_tenant)
}

fn failure() -> Report {
    Report::failure().detail(DETAIL)
}

#[expect(clippy::disallowed_methods, reason = "a bench measures time")]
fn now() -> Instant {
    Instant::now()
}

/// Prints as it goes.
struct Table {
    first: HashMap<usize, f64>,
    yardstick: Option<f64>,
}

impl Table {
    fn new(title: &str) -> Self {
        write(&format!(
            "\n{title}\n{:>10} {:>7} {:>10} {:>7} {:>10}\n",
            "pending", "batch", "cycles/s", "ratio", "CPU each"
        ));
        Self { first: HashMap::new(), yardstick: None }
    }

    /// What the ratios in this table are to.
    fn yardstick(&mut self, rate: f64, clients: usize) {
        write(&format!(
            "{:>10} {:>7} {rate:>10.0} {:>7.2}  two updates, {clients} clients of pgbench\n",
            "", "", 1.0
        ));
        self.yardstick = Some(rate);
    }

    fn line(&mut self, pending: usize, batch: usize, note: &str, (rate, each): (f64, Duration)) {
        let first = self.yardstick.unwrap_or(*self.first.entry(batch).or_insert(rate));
        write(&format!(
            "{pending:>10} {batch:>7} {rate:>10.0} {:>7.2} {:>7.1} µs  {note}\n",
            rate / first,
            each.as_secs_f64() * 1e6
        ));
    }
}

fn write(text: &str) {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).unwrap();
}
