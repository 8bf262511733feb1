//! What notices cost those who schedule, and how soon a worker on another handle begins.
//!
//! What is due in two hours is not told, so the same verbs without notices are those with a longer wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use private_postgres::{Postgres, psql};
use retry_scheduler::{
    Attempt, CycleKey, Done, NewCycle, Plan, PostgresScheduler, Report, RetryScheduler,
    TransactionalScheduler, Worker, handler_fn,
};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Executor, PgPool};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{now, write};

const CALLERS: [usize; 3] = [1, 8, 64];
const TURNS: usize = 5;
const TURN: Duration = Duration::from_secs(3);
const SAMPLES: u32 = 1_000;
const UNTOLD: Duration = Duration::from_hours(2);

/// How a cycle is scheduled.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// Alone.
    Verb,
    /// In a transaction of the caller's, with a row of its own.
    Transaction,
    /// The same, with a `NOTIFY` in that transaction: the way that was rejected.
    Inside,
}

pub(crate) async fn notices() {
    let postgres = Postgres::start_with(&["shared_buffers=512MB", "max_wal_size=8GB"]);
    let url = postgres.fresh_database();
    PostgresScheduler::new(pool(&url)).migrate().await.unwrap();
    psql(&url, "CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY)");
    write(
        "\nPostgreSQL, from the answer of the verb or of COMMIT to the attempt of a worker on another handle\n",
    );
    for way in [Way::Verb, Way::Transaction] {
        for busy in [0, 8] {
            let mut times = latency(&url, way, busy).await;
            times.sort_unstable();
            write(&format!(
                "{:<12} beside {busy} other callers: median {:>5.1} ms, 99 of 100 within {:>5.1} ms, longest {:>5.1} ms\n",
                format!("{way:?}"),
                ms(times[times.len() / 2]),
                ms(times[times.len() * 99 / 100]),
                ms(times[times.len() - 1])
            ));
        }
    }
    write("\nPostgreSQL, cycles scheduled a second, medians of turns\n");
    for way in [Way::Verb, Way::Transaction, Way::Inside] {
        for callers in CALLERS {
            let (mut without, mut with) = (Vec::new(), Vec::new());
            for _ in 0..TURNS {
                without.push(throughput(&url, way, callers, false).await);
                with.push(throughput(&url, way, callers, true).await);
            }
            let ratios = with.iter().zip(&without).map(|(with, without)| with / without).collect();
            write(&format!(
                "{:<12} {callers:>3} callers: {:>7.0} without notices, {:>7.0} with, ratio {:.2}\n",
                format!("{way:?}"),
                median(without),
                median(with),
                median(ratios)
            ));
        }
    }
}

/// Cycles scheduled a second.
async fn throughput(url: &str, way: Way, callers: usize, told: bool) -> f64 {
    psql(url, "TRUNCATE retry_cycles, retry_subjects, orders; CHECKPOINT");
    let listener = PostgresScheduler::new(pool(url));
    let heard = Arc::new(AtomicU64::new(0));
    let listening = tokio::spawn({
        let (listener, heard) = (listener.clone(), heard.clone());
        async move {
            loop {
                listener.changed().await;
                heard.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let first_in = if told { Duration::ZERO } else { UNTOLD };
    // The first ones open the connections.
    let load = Load::start(url, way, callers, first_in);
    tokio::time::sleep(TURN / 3).await;
    let (start, before) = (now(), load.count());
    tokio::time::sleep(TURN).await;
    let rate = f64::from(u32::try_from(load.count() - before).unwrap()) / start.elapsed().as_secs_f64();
    load.end().await;
    listening.abort();
    assert!(!told || way == Way::Inside || heard.load(Ordering::Relaxed) > 10, "nothing was heard");
    rate
}

/// How long it was until each attempt began.
async fn latency(url: &str, way: Way, busy: usize) -> Vec<Duration> {
    psql(url, "TRUNCATE retry_cycles, retry_subjects, orders; CHECKPOINT");
    let (tell, mut begun) = mpsc::unbounded_channel();
    let handler = handler_fn(move |attempt: Attempt| {
        tell.send((attempt.cycle().key.subject.clone(), now())).unwrap();
        async { Done::Report(Report::success()) }
    });
    let shutdown = CancellationToken::new();
    let worker = Worker::builder(Arc::new(PostgresScheduler::new(pool(url))), handler);
    let worker = tokio::spawn(worker.poll(Duration::from_hours(24)).build().run(shutdown.clone()));
    let load = Load::start(url, Way::Verb, busy, UNTOLD);
    let scheduler = PostgresScheduler::new(pool(url));
    let mut times = Vec::new();
    for n in 0..SAMPLES {
        let subject = format!("sample {n}");
        schedule(&scheduler, way, new(&subject, Duration::ZERO)).await;
        let committed = now();
        let (met, at): (String, Instant) = begun.recv().await.unwrap();
        assert_eq!(met, subject);
        times.push(at.saturating_duration_since(committed));
        // Sometimes right after the one before, sometimes long after.
        tokio::time::sleep(Duration::from_millis(u64::from(n * 7 % 60))).await;
    }
    load.end().await;
    shutdown.cancel();
    worker.await.unwrap();
    // The first ones open the connections.
    times.split_off(10)
}

/// Callers that schedule as fast as they can.
struct Load {
    count: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(url: &str, way: Way, callers: usize, first_in: Duration) -> Self {
        let (count, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let scheduler = PostgresScheduler::new(pool(url));
        let tasks = (0..callers).map(|caller| {
            let (scheduler, count, over) = (scheduler.clone(), count.clone(), over.clone());
            tokio::spawn(async move {
                for n in 0.. {
                    if over.load(Ordering::Relaxed) {
                        break;
                    }
                    schedule(&scheduler, way, new(&format!("{caller} {n}"), first_in)).await;
                    count.fetch_add(1, Ordering::Relaxed);
                }
            })
        });
        Self { tasks: tasks.collect(), count, over }
    }

    fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    async fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.unwrap();
        }
    }
}

async fn schedule(scheduler: &PostgresScheduler, way: Way, new: NewCycle) {
    if way == Way::Verb {
        scheduler.schedule(new).await.unwrap();
        return;
    }
    // With `NOTIFY` inside, what is not told is what that is compared with.
    let inside = way == Way::Inside && new.first_in < UNTOLD;
    let new = if way == Way::Inside { new.first_in(UNTOLD) } else { new };
    let mut transaction = scheduler.pool().begin().await.unwrap();
    transaction.execute("INSERT INTO orders DEFAULT VALUES").await.unwrap();
    scheduler.schedule_in(&mut transaction, new).await.unwrap();
    if inside {
        transaction.execute("NOTIFY inside").await.unwrap();
    }
    transaction.commit().await.unwrap();
}

fn new(subject: &str, first_in: Duration) -> NewCycle {
    let plan = Plan::every(Duration::from_hours(1), 10).unwrap();
    NewCycle::new(CycleKey::new("bench", subject), plan)
        .tenant("tenant")
        .first_in(first_in)
        .payload("payload")
}

fn pool(url: &str) -> PgPool {
    PgPoolOptions::new().max_connections(64).test_before_acquire(false).connect_lazy(url).unwrap()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
