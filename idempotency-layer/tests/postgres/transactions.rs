//! Handlers' transactions at any isolation level, and databases whose defaults are other ones.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use idempotency_layer::{Checkpoint, Claim, ClaimRequest, Fenced, PostgresStore, Purge, Run, Store};
use private_postgres::shared_database;
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, query, query_scalar};
use tokio::task::spawn_blocking;

use crate::support::{
    LONG, ask, complete, cycle, expired, fresh, number, outcome, over, rival, run, store, until,
};

const LEVELS: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];
const LEASES: &str = "SELECT count(*) FROM idempotency_leases";
const RECORDS: &str = "SELECT count(*) FROM idempotency_records";

/// What a handler's transaction ends with.
async fn complete_in(connection: &mut PgConnection, request: ClaimRequest, run: &Run) -> sqlx::Result<u64> {
    let complete = "UPDATE idempotency_records SET state = 2, response = 'done'
        WHERE record = $1 AND fence = $2 AND state = 0";
    let fence = i64::try_from(run.fence.0).unwrap();
    let complete = query(complete).bind(*request.record.as_bytes()).bind(fence);
    Ok(complete.execute(connection).await?.rows_affected())
}

async fn begin(connection: &mut PgConnection, level: &str) {
    let begin = format!("BEGIN ISOLATION LEVEL {level}; SELECT count(*) FROM idempotency_records");
    connection.execute(AssertSqlSafe(begin)).await.unwrap();
}

/// A record whose lease is over.
async fn orphan(store: &PostgresStore) -> (ClaimRequest, Run) {
    let request = ask();
    let run = run(store, request).await;
    assert_eq!(store.extend(request.record, run.fence, Duration::ZERO).await.unwrap(), Fenced::Held);
    (request, run)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handlers_transaction_outlasts_renewals_at_each_isolation_level() {
    let url = fresh().await;
    let store = store(&url);
    for level in LEVELS {
        let request = ask();
        let run = run(&store, request).await;
        let mut handler = PgConnection::connect(&url).await.unwrap();
        begin(&mut handler, level).await;
        for _ in 0..3 {
            assert_eq!(store.extend(request.record, run.fence, LONG).await.unwrap(), Fenced::Held);
        }
        assert_eq!(complete_in(&mut handler, request, &run).await.expect(level), 1);
        handler.execute("COMMIT").await.unwrap();
        assert!(matches!(store.claim(rival(request)).await.unwrap(), Claim::Replay { .. }));
        assert_eq!(store.extend(request.record, run.fence, LONG).await.unwrap(), Fenced::Stale);
    }
}

/// The renewal's lock is met, and not a version that it left.
#[tokio::test(flavor = "multi_thread")]
async fn a_handlers_transaction_that_waits_for_a_renewal_goes_on_at_each_isolation_level() {
    let url = fresh().await;
    let store = store(&url);
    for level in LEVELS {
        let request = ask();
        let run = run(&store, request).await;
        let mut handler = PgConnection::connect(&url).await.unwrap();
        begin(&mut handler, level).await;
        // As a renewal locks the row, for longer than one does.
        let mut renewal = store.pool().begin().await.unwrap();
        let lock = "SELECT FROM idempotency_records WHERE record = $1 FOR UPDATE";
        query(lock).bind(*request.record.as_bytes()).execute(&mut *renewal).await.unwrap();
        let completed = tokio::spawn(async move {
            let written = complete_in(&mut handler, request, &run).await;
            handler.execute("COMMIT").await.unwrap();
            written
        });
        let waits = "SELECT count(*) FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'";
        until(store.pool(), waits, |waiting| waiting == 1).await;
        renewal.commit().await.unwrap();
        assert_eq!(completed.await.unwrap().expect(level), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_and_the_purge_work_under_each_default_of_the_database() {
    for level in LEVELS {
        let url = spawn_blocking(shared_database).await.unwrap();
        let store = store(&url);
        let set = format!(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I
                SET default_transaction_isolation = ''{level}''', current_database());
            EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database());
            END $$"
        );
        let mut connection = PgConnection::connect(&url).await.unwrap();
        connection.execute(AssertSqlSafe(set)).await.unwrap();

        let migrated =
            join_all((0..4).map(|_| self::store(&url)).map(|it| async move { it.migrate().await }));
        migrated.await.into_iter().for_each(Result::unwrap);
        let held = ask();
        let fence = run(&store, held).await.fence;
        let kept = Checkpoint::new("charged".to_owned(), Bytes::new());
        let answers = [
            store.extend(held.record, fence, LONG).await.unwrap(),
            store.checkpoint(held.record, fence, kept.clone()).await.unwrap(),
            store.release(held.record, fence).await.unwrap(),
        ];
        assert_eq!(answers, [Fenced::Held; 3], "{level}");
        let again = run(&store, rival(held)).await;
        assert_eq!(again.checkpoint, Some(kept));
        complete(&store, held, again.fence, 10).await;
        join_all((0..50).map(|_| cycle(&store, 10))).await;

        let short = over(ask());
        run(&store, short).await;
        assert_eq!(store.purge_expired(10).await.unwrap(), 1, "{level}");
        // The application's own transactions are what they were.
        let level_now: String =
            query_scalar("SHOW transaction_isolation").fetch_one(store.pool()).await.unwrap();
        assert_eq!(level_now, level.to_lowercase());
    }
}

/// A claim looks, waits for another record of its batch, and takes over then: in between, the lease was renewed.
#[tokio::test]
async fn a_takeover_finds_the_renewal_that_came_after_its_snapshot() {
    let url = fresh().await;
    let (owner, heir) = (store(&url), store(&url));
    cycle(&owner, 10).await;
    for is_first in [true, false] {
        let (request, run) = orphan(&owner).await;
        if is_first {
            // Then there is no row of a lease in the claim's snapshot.
            owner.pool().execute("DELETE FROM idempotency_leases").await.unwrap();
            let end = "UPDATE idempotency_records SET lease_ends = clock_timestamp() WHERE record = $1";
            query(end).bind(*request.record.as_bytes()).execute(owner.pool()).await.unwrap();
        }
        let awaited = ask();
        let mut inserting = owner.pool().begin().await.unwrap();
        let insert = "INSERT INTO idempotency_records
            (record, expires_at, lease_ends, fence, attempt, state, orphan, token, fingerprint)
            VALUES ($1, now(), now(), 0, 1, 0, false, '', '')";
        query(insert).bind(*awaited.record.as_bytes()).execute(&mut *inserting).await.unwrap();

        let renewed = async {
            let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                AND application_name = 'idempotency-layer' AND wait_event_type = 'Lock'";
            until(owner.pool(), waits, |waiting| waiting == 1).await;
            let renewed = owner.extend(request.record, run.fence, LONG).await.unwrap();
            inserting.rollback().await.unwrap();
            renewed
        };
        let (claimed, taken, renewed) =
            tokio::join!(heir.claim(awaited), heir.claim(rival(request)), renewed);
        assert_eq!(renewed, Fenced::Held);
        assert!(matches!(claimed.unwrap(), Claim::Run(_)));
        let taken = taken.unwrap();
        assert!(matches!(taken, Claim::InFlight { lease_left } if lease_left > LONG / 2), "{taken:?}");
        complete(&owner, request, run.fence, 10).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_renewal_and_a_takeover_at_once_do_not_both_succeed() {
    let url = fresh().await;
    let (owner, heirs) = (store(&url), [store(&url), store(&url)]);
    let mut renewals = 0;
    for _ in 0..500 {
        let (request, run) = orphan(&owner).await;
        let claims = heirs.iter().map(|heir| heir.claim(rival(request)));
        let (renewed, claims) = tokio::join!(owner.extend(request.record, run.fence, LONG), join_all(claims));
        let heirs = claims.into_iter().filter(|claim| matches!(claim, Ok(Claim::Run(_)))).count();
        match renewed.unwrap() {
            Fenced::Held => assert_eq!(heirs, 0),
            Fenced::Stale => assert_eq!(heirs, 1),
        }
        renewals += usize::from(heirs == 0);
    }
    assert!((1..500).contains(&renewals), "{renewals} of 500: no race");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_record_whose_lease_is_renewed_is_not_purged_at_the_same_time() {
    let url = fresh().await;
    let (owner, other) = (store(&url), store(&url));
    let mut renewals = 0;
    for _ in 0..300 {
        let request = over(ask());
        let fence = run(&owner, request).await.fence;
        let (renewed, purged) =
            tokio::join!(owner.extend(request.record, fence, LONG), other.purge_expired(10));
        match renewed.unwrap() {
            Fenced::Held => {
                renewals += 1;
                assert_eq!(purged.unwrap(), 0);
                complete(&owner, request, fence, 10).await;
                assert_eq!(other.purge_expired(10).await.unwrap(), 1);
            }
            Fenced::Stale => assert_eq!(purged.unwrap(), 1),
        }
    }
    assert!((1..300).contains(&renewals), "{renewals} of 300: no race");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_goes_with_its_record() {
    let store = store(&fresh().await);
    let [released, completed] = [ask(), expired(ask())];
    for request in [released, completed] {
        let fence = run(&store, request).await.fence;
        for _ in 0..3 {
            assert_eq!(store.extend(request.record, fence, LONG).await.unwrap(), Fenced::Held);
        }
        let ended = if request.record == released.record {
            store.release(request.record, fence).await
        } else {
            store.complete(request.record, fence, outcome(10)).await
        };
        assert_eq!(ended.unwrap(), Fenced::Held);
    }
    assert_eq!(number(store.pool(), LEASES).await, 1, "only of what is completed");
    assert_eq!(store.purge_expired(10).await.unwrap(), 1);
    assert_eq!((number(store.pool(), LEASES).await, number(store.pool(), RECORDS).await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_needs_no_renewal_leaves_no_lease() {
    let store = store(&fresh().await);
    join_all((0..20).map(|_| cycle(&store, 10))).await;
    assert_eq!(number(store.pool(), LEASES).await, 0);
}

/// Whatever the purge was at, what the application writes on the same connection next takes effect.
#[tokio::test(flavor = "multi_thread")]
async fn a_purge_that_is_dropped_leaves_no_connection_inside_its_transaction() {
    let url = fresh().await;
    let pool = PgPoolOptions::new().max_connections(1).connect(&url).await.unwrap();
    let store = PostgresStore::new(pool.clone());
    pool.execute("CREATE TABLE written (n bigint)").await.unwrap();
    let mut other = PgConnection::connect(&url).await.unwrap();
    let (mut written, mut dropped) = (0, 0);
    for micros in (0..200).map(|n| n * 20) {
        // Sometimes in the first await, sometimes in the last.
        dropped += i32::from(
            tokio::time::timeout(Duration::from_micros(micros), store.purge_expired(10)).await.is_err(),
        );
        pool.execute("INSERT INTO written VALUES (1)").await.unwrap();
        written += 1;
        let seen: i64 = query_scalar("SELECT count(*) FROM written").fetch_one(&mut other).await.unwrap();
        assert_eq!(seen, written, "after {micros} µs");
    }
    assert!(dropped > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_released_record_leaves_nothing_unless_it_holds_a_checkpoint() {
    let store = store(&fresh().await);
    let requests: Vec<_> = (0..20).map(|_| ask()).collect();
    let runs = join_all(requests.iter().map(|request| run(&store, *request))).await;
    let released = requests.iter().zip(&runs).map(|(request, run)| store.release(request.record, run.fence));
    assert!(join_all(released).await.into_iter().all(|released| released.unwrap() == Fenced::Held));
    assert_eq!(number(store.pool(), RECORDS).await, 0);
    for (request, run) in requests.iter().zip(&runs) {
        assert_eq!(store.release(request.record, run.fence).await.unwrap(), Fenced::Stale);
        let next = self::run(&store, rival(*request)).await;
        assert!(next.fence > run.fence && next.attempt == 1 && !next.orphan);
    }

    let request = ask();
    let first = run(&store, request).await;
    let kept = Checkpoint::new("charged".to_owned(), Bytes::new());
    assert_eq!(store.checkpoint(request.record, first.fence, kept.clone()).await.unwrap(), Fenced::Held);
    assert_eq!(store.release(request.record, first.fence).await.unwrap(), Fenced::Held);
    let next = run(&store, rival(request)).await;
    assert_eq!((next.attempt, next.checkpoint), (2, Some(kept)));
}

/// Each claim is answered as before the release or as after it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_release_and_claims_at_once_have_one_runner() {
    let url = fresh().await;
    let (owner, others) = (store(&url), [store(&url), store(&url)]);
    for round in 0..300 {
        // Of an orphan, the claim would have been a takeover of the row that goes.
        let (request, first) = if round % 2 == 0 {
            let request = ask();
            (request, run(&owner, request).await)
        } else {
            orphan(&owner).await
        };
        let claims = others.iter().map(|other| other.claim(rival(request)));
        let (released, claims) = tokio::join!(owner.release(request.record, first.fence), join_all(claims));
        let mut runs = Vec::new();
        for claim in claims {
            match claim.unwrap() {
                Claim::Run(run) => runs.push(run),
                Claim::InFlight { .. } => {}
                other => panic!("{other:?}"),
            }
        }
        assert!(runs.len() <= 1, "{runs:?}");
        let Some(heir) = runs.first() else { continue };
        assert!(heir.fence > first.fence);
        match released.unwrap() {
            Fenced::Held => assert_eq!((heir.attempt, heir.orphan), (1, false)),
            Fenced::Stale => assert_eq!((heir.attempt, heir.orphan), (2, true)),
        }
    }
}
