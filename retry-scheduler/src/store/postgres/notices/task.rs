//! The task that sends and hears notices, on a connection of its own.

use std::sync::Arc;
use std::time::Duration;

use account_retry_policy::Backoff;
use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{ConnectOptions, Error, PgPool, Row, query};
use tokio::select;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::inbox::SPREAD;
use super::outbox::Status;
use super::{Notice, Shared};
use crate::clock;
use crate::error::SchedulerError;
use crate::nonce;
use crate::store::postgres::connections::{Connections, REACH};
use crate::store::postgres::errors::failed;

/// How long one statement may take. None of them waits, but for the lock of a `NOTIFY`.
const ANSWER: Duration = Duration::from_secs(10);
/// A connection that said nothing for so long is asked whether it is alive.
const QUIET: Duration = Duration::from_secs(30);
/// How long the end of the connection is waited for.
const CLOSE: Duration = Duration::from_secs(5);
/// The pauses after a lost connection. They begin anew after one that lasted for [`STEADY`].
const BACKOFF: Backoff = Backoff::exponential(Duration::from_millis(100), Duration::from_secs(10));
const STEADY: Duration = Duration::from_secs(10);

const NOTIFY: &str = "SELECT pg_catalog.pg_notify($1, $2)";
const STATUS: &str = "SELECT id, pg_catalog.pg_xact_status(id::xid8) FROM unnest($1::text[]) AS open (id)";

/// Sends and hears notices until it is stopped. A lost connection is opened again as long as there is anything to do.
pub(super) async fn run(shared: Arc<Shared>, connections: Arc<Connections>, stop: CancellationToken) {
    let mut failures = 0;
    loop {
        select! {
            () = stop.cancelled() => return,
            () = work(&shared) => {}
        }
        let pool = one(&connections);
        let lost = select! {
            () = stop.cancelled() => None,
            lost = talk(&shared, &connections, &pool, &mut failures) => Some(lost),
        };
        // The listener gives its connection back when it is dropped, in a task of its own that this waits for.
        let _ = timeout(CLOSE, pool.close()).await;
        if lost.is_none() {
            return;
        }
        // Half of the pause is random: a server that was restarted has all handles come back.
        let pause = BACKOFF.delay(failures) / 2;
        failures += 1;
        select! {
            () = stop.cancelled() => return,
            () = sleep(pause + random(pause)) => {}
        }
    }
}

/// Waits until there is anything to do.
async fn work(shared: &Shared) {
    loop {
        {
            let state = shared.lock();
            if state.listens || state.outbox.next(clock::now()).is_some() {
                return;
            }
        }
        shared.work.notified().await;
    }
}

/// A pool for one connection: a listener of sqlx takes its connection from a pool.
fn one(connections: &Connections) -> PgPool {
    let options = connections.options().disable_statement_logging();
    PgPoolOptions::new()
        .max_connections(1)
        .max_lifetime(None)
        .idle_timeout(None)
        .acquire_timeout(REACH)
        .test_before_acquire(false)
        .connect_lazy_with(options)
}

/// Goes on until the connection is lost.
async fn talk(
    shared: &Shared,
    connections: &Connections,
    pool: &PgPool,
    failures: &mut u32,
) -> SchedulerError {
    let Err(lost) = try_talk(shared, connections, pool, failures).await;
    lost
}

async fn try_talk(
    shared: &Shared,
    connections: &Connections,
    pool: &PgPool,
    failures: &mut u32,
) -> Result<std::convert::Infallible, SchedulerError> {
    let channel = connections.home().await?.channel();
    let mut listener = PgListener::connect_with(pool).await.map_err(failed)?;
    listener.eager_reconnect(false);
    listener.ignore_pool_close_event(true);
    let opened_at = clock::now();
    let (mut listens, mut alive_at) = (false, opened_at);
    loop {
        if !listens && shared.lock().listens {
            within(listener.listen(&channel)).await?;
            listens = true;
            // Whatever came before may have been missed.
            let missed = Notice { wait: Duration::ZERO, overdue: true };
            shared.lock().inbox.hear(missed, random(SPREAD), clock::now());
        }
        let now = clock::now();
        let (to_ask, notice) = {
            let outbox = &mut shared.lock().outbox;
            (outbox.ask_about(now), outbox.take(now))
        };
        if let Some(notice) = notice {
            let payload = notice.payload();
            let notify = query(NOTIFY).bind(&channel).bind(payload);
            if let Err(lost) = within(notify.execute(&mut listener)).await {
                shared.lock().outbox.put_back(notice, now);
                return Err(lost);
            }
            alive_at = clock::now();
        }
        if let Some(open) = to_ask {
            let answers = ask(&mut listener, &open).await?;
            alive_at = clock::now();
            shared.lock().outbox.answered(answers, alive_at);
        }
        if clock::now() >= alive_at + QUIET {
            within(query("SELECT").execute(&mut listener)).await?;
            alive_at = clock::now();
        }
        let now = clock::now();
        if now >= opened_at + STEADY {
            *failures = 0;
        }
        let (ripe, next) = {
            let state = &mut *shared.lock();
            let ripe = state.inbox.is_ripe(now);
            let next = [state.inbox.next(), state.outbox.next(now)].into_iter().flatten().min();
            (ripe, next)
        };
        if ripe {
            shared.wake();
        }
        let next = next.map_or(alive_at + QUIET, |next| next.min(alive_at + QUIET));
        if let Some(heard) = hear(shared, &mut listener, next).await? {
            alive_at = clock::now();
            shared.lock().inbox.hear(heard, random(SPREAD), alive_at);
        }
    }
}

/// Waits for a notice, at most until then or until there is something else to do.
async fn hear(
    shared: &Shared,
    listener: &mut PgListener,
    until: Instant,
) -> Result<Option<Notice>, SchedulerError> {
    select! {
        // Dropped, it loses nothing of a message that has not arrived as a whole.
        heard = listener.try_recv() => match heard.map_err(failed)? {
            Some(heard) => Ok(Some(Notice::read(heard.payload()))),
            None => Err(SchedulerError::unavailable("the connection was closed")),
        },
        () = shared.work.notified() => Ok(None),
        () = sleep_until(until) => Ok(None),
    }
}

/// Asks how these transactions ended.
async fn ask(listener: &mut PgListener, open: &[u64]) -> Result<Vec<(u64, Status)>, SchedulerError> {
    let ids: Vec<String> = open.iter().map(u64::to_string).collect();
    let rows = match timeout(ANSWER, query(STATUS).bind(ids).fetch_all(listener)).await {
        Ok(Ok(rows)) => rows,
        // A server that does not know them: another one, that lost what the one before had not sent it.
        Ok(Err(Error::Database(error))) if error.code().is_some_and(|code| code.starts_with("22")) => {
            return Ok(open.iter().map(|id| (*id, Status::Committed)).collect());
        }
        Ok(Err(error)) => return Err(failed(error)),
        Err(error) => return Err(SchedulerError::unavailable(error)),
    };
    let status = |row: &sqlx::postgres::PgRow| {
        let id: String = row.try_get(0).ok()?;
        let status = match row.try_get::<Option<&str>, _>(1).ok()? {
            Some("in progress") => Status::InProgress,
            Some("aborted") => Status::Aborted,
            // None: so old that the server has forgotten it.
            _ => Status::Committed,
        };
        Some((id.parse().ok()?, status))
    };
    Ok(rows.iter().filter_map(status).collect())
}

async fn within<T>(answer: impl Future<Output = Result<T, Error>>) -> Result<T, SchedulerError> {
    timeout(ANSWER, answer).await.map_err(SchedulerError::unavailable)?.map_err(failed)
}

/// A random part of this.
fn random(most: Duration) -> Duration {
    let part = nonce::random().unwrap_or(0) % 1_024;
    most.saturating_mul(u32::try_from(part).unwrap_or(0)) / 1_024
}
