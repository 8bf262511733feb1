//! Claims beside a transaction that is itself a claim: it holds the record's advisory lock.

use std::time::Duration;

use futures_util::future::join_all;
use idempotency_layer::{Checkpoint, Claim, Fenced, RecordId, Store};
use private_postgres::Postgres;
use sqlx::{Connection, Executor, PgConnection, query, query_scalar};
use tokio::task::spawn_blocking;

use crate::support::{ask, complete, cycle, expired, fresh, rival, run, store};

/// As a refused claim is told. One whose row or insert another transaction holds up is told another time.
const REFUSED_LEFT: Duration = Duration::from_millis(100);

/// The key of the lock, by another way than the store's.
async fn key(connection: &mut PgConnection, record: RecordId) -> i64 {
    let table = "SELECT 'idempotency_records'::regclass::oid::bigint";
    let table: i64 = query_scalar(table).fetch_one(connection).await.unwrap();
    i64::from_be_bytes(record.as_bytes()[..8].try_into().unwrap()) ^ (table << 32)
}

/// A transaction that is a claim of the record, on this connection.
async fn claim_in_transaction(connection: &mut PgConnection, record: RecordId) {
    let key = key(connection, record).await;
    connection.execute("BEGIN").await.unwrap();
    let lock = "SELECT pg_try_advisory_xact_lock($1)";
    let gained: bool = query_scalar(lock).bind(key).fetch_one(connection).await.unwrap();
    assert!(gained);
}

#[tokio::test]
async fn a_claim_beside_a_transaction_that_is_one_is_in_flight_and_holds_up_nobody() {
    let url = fresh().await;
    let store = store(&url);
    cycle(&store, 10).await;
    let mut transaction = PgConnection::connect(&url).await.unwrap();
    for is_completed in [false, true] {
        let request = ask();
        claim_in_transaction(&mut transaction, request.record).await;
        if is_completed {
            // Without the lock, an insert would wait for this one's end.
            let insert = "INSERT INTO idempotency_records
                (record, expires_at, lease_ends, fence, attempt, state, orphan, token, fingerprint)
                VALUES ($1, now() + interval '1 hour', now(), 0, 1, 3, false, '', '\\x00')";
            let insert = query(insert).bind(*request.record.as_bytes());
            insert.execute(&mut transaction).await.unwrap();
        }
        let claims = [request].into_iter().chain((0..20).map(|_| ask())).map(|request| store.claim(request));
        let mut claims = join_all(claims).await.into_iter();
        let refused = claims.next().unwrap().unwrap();
        assert!(matches!(refused, Claim::InFlight { lease_left: REFUSED_LEFT }), "{refused:?}");
        assert!(claims.all(|claim| matches!(claim, Ok(Claim::Run(_)))));
        // Not what another's answer is taken for either.
        let both = join_all([store.claim(rival(request)), store.claim(rival(request))]).await;
        assert!(both.iter().all(|claim| matches!(claim, Ok(Claim::InFlight { .. }))), "{both:?}");

        transaction.execute("COMMIT").await.unwrap();
        let after = store.claim(rival(request)).await.unwrap();
        let is_right =
            if is_completed { matches!(after, Claim::Tombstone(_)) } else { matches!(after, Claim::Run(_)) };
        assert!(is_right, "{after:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_taken_over_or_taken_anew_is_in_flight_too_and_what_is_decided_is_answered() {
    let url = fresh().await;
    let store = store(&url);
    let (own, orphan, kept, done) = (ask(), ask(), ask(), cycle(&store, 10).await);
    let short = expired(ask());
    let first = run(&store, own).await;
    let fence = run(&store, orphan).await.fence;
    assert_eq!(store.extend(orphan.record, fence, Duration::ZERO).await.unwrap(), Fenced::Held);
    let fence = run(&store, kept).await.fence;
    let checkpoint = Checkpoint::new("charged".to_owned(), bytes::Bytes::new());
    assert_eq!(store.checkpoint(kept.record, fence, checkpoint).await.unwrap(), Fenced::Held);
    assert_eq!(store.release(kept.record, fence).await.unwrap(), Fenced::Held);
    let fence = run(&store, short).await.fence;
    complete(&store, short, fence, 10).await;

    let mut transactions = Vec::new();
    for request in [own, orphan, kept, done, short] {
        let mut transaction = PgConnection::connect(&url).await.unwrap();
        claim_in_transaction(&mut transaction, request.record).await;
        transactions.push(transaction);
    }
    for request in [orphan, kept, short] {
        let claim = store.claim(rival(request)).await.unwrap();
        assert!(matches!(claim, Claim::InFlight { .. }), "{claim:?}");
    }
    assert_eq!(run(&store, own).await.fence, first.fence, "its own token");
    assert!(matches!(store.claim(rival(done)).await.unwrap(), Claim::Replay { .. }));
    complete(&store, own, first.fence, 10).await;
    for mut transaction in transactions {
        transaction.execute("ROLLBACK").await.unwrap();
    }
    for request in [orphan, kept, short] {
        run(&store, rival(request)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn claims_of_several_processes_never_refuse_one_another() {
    let url = fresh().await;
    let stores = [store(&url), store(&url), store(&url)];
    for _ in 0..100 {
        // What is refused is told another time than what is left of a lease.
        let request = ask();
        let claims = join_all(stores.iter().map(|store| store.claim(rival(request)))).await;
        let is_right = |claim: &Claim| match claim {
            Claim::Run(_) => true,
            Claim::InFlight { lease_left } => *lease_left > request.lease / 2,
            _ => false,
        };
        let claims: Vec<_> = claims.into_iter().map(Result::unwrap).collect();
        assert!(claims.iter().all(is_right), "{claims:?}");
        assert_eq!(claims.iter().filter(|claim| matches!(claim, Claim::Run(_))).count(), 1);
    }
}

/// What does not fit into one statement goes one by one.
#[tokio::test]
async fn a_batch_that_needs_more_locks_than_there_are_is_carried_out_all_the_same() {
    let settings = ["max_locks_per_transaction=10", "max_connections=10"];
    let server = spawn_blocking(move || Postgres::start_with(&settings)).await.unwrap();
    let store = store(&server.fresh_database());
    store.migrate().await.unwrap();
    cycle(&store, 10).await;
    // Others take every lock there is, and give a few back.
    let mut others = PgConnection::connect(&server.url()).await.unwrap();
    let mut taken = 0;
    let lock = "SELECT count(pg_advisory_lock(n)) FROM generate_series($1::bigint, $1 + 9) n";
    while query(lock).bind(taken).execute(&mut others).await.is_ok() {
        taken += 10;
    }
    others.execute("SELECT count(pg_advisory_unlock(n)) FROM generate_series(0, 29) n").await.unwrap();

    let claims = join_all((0..200).map(|_| store.claim(ask()))).await;
    for claim in claims {
        assert!(matches!(claim, Ok(Claim::Run(_))), "{claim:?}");
    }
}
