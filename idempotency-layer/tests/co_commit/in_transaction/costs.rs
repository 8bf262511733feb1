//! What a claim in the transaction costs on PostgreSQL: round trips, commits, transaction ids.

use idempotency_layer::{Claim, PostgresStore};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgConnection, Postgres, query_scalar};

use super::raw::{InTransaction, ask, claim, rival};
use crate::database::Bench;
use crate::proxy::before;
use crate::rig::{self, Count, post, send};

async fn number(connection: &mut PgConnection, text: &'static str) -> i64 {
    query_scalar(text).fetch_one(connection).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_does_not_write_has_no_transaction_id_and_no_snapshot() {
    const IDS: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND state = 'idle in transaction' AND backend_xid IS NULL AND backend_xmin IS NULL";
    const LAST: &str = "SELECT last_value FROM idempotency_fences";
    let ((), store, pool) = Postgres::open().await;
    let mut beside = Postgres::beside(&pool).await;
    let request = ask();
    let transaction = InTransaction::<Postgres>::begin(&store, request).await;
    assert_eq!(number(&mut beside, IDS).await, 1);
    transaction.complete("done").await;

    let next: String = "SELECT pg_current_xact_id()::text".into();
    let id = async |connection: &mut PgConnection| -> u64 {
        query_scalar::<_, String>(AssertSqlSafe(next.clone()))
            .fetch_one(connection)
            .await
            .unwrap()
            .parse()
            .unwrap()
    };
    // Other tests take ids on the same server, so this says it of the fences alone.
    let (_, fence) = (id(&mut beside).await, number(&mut beside, LAST).await);
    for _ in 0..3 {
        let replay = claim::<Postgres>(&store, rival(request)).await.map(|claimed| claimed.run);
        assert!(matches!(replay, Err(Claim::Replay { .. })));
    }
    assert_eq!(number(&mut beside, LAST).await, fence, "a replay takes no fence");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_takes_two_round_trips_and_no_commit_more_than_its_handler() {
    // One connection: a second one would prepare its statements first.
    let ((), _, direct) = Postgres::open().await;
    let (proxy, options) = before(&direct).await;
    let pool = PgPoolOptions::new().test_before_acquire(false).max_connections(1).connect_with(options);
    let layer = rig::builder(PostgresStore::new(pool.await.unwrap())).claim_in_transaction().build();
    let runs = Count::default();
    let service = rig::serve::<Postgres, _, _, _>(&layer, &runs, |run, co_commit| async move {
        Postgres::insert(&mut *co_commit.begin().await.unwrap(), &format!("run {run}")).await.unwrap();
        rig::answer(if run == 6 { 422 } else { 201 }, run)
    });
    // The first ones prepare their statements.
    for n in 0..4 {
        assert_eq!(send(&service, post(&format!("first-{n}"))).await.status, 201);
    }
    proxy.take_counts();
    proxy.take_commits();
    assert_eq!(send(&service, post("key")).await.status, 201);
    // BEGIN, the read; the handler's row; the completion, COMMIT. Its own transaction takes BEGIN, the row and COMMIT.
    assert_eq!((proxy.take_counts(), proxy.take_commits()), ((3 + 2, 3 + 2), 1));
    assert!(send(&service, post("key")).await.replay);
    // BEGIN, the read, ROLLBACK.
    assert_eq!((proxy.take_counts(), proxy.take_commits()), ((3, 3), 0));
    // A rollback to the savepoint comes in.
    assert_eq!(send(&service, post("refused")).await.status, 422);
    assert_eq!((proxy.take_counts(), proxy.take_commits()), ((6, 6), 1));
}
