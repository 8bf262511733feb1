//! The tables, and the settings of a database that somebody else made.

use std::str::FromStr;
use std::time::Duration;

use futures_util::future::join_all;
use idempotency_layer::{Checkpoint, Claim, Fence, Fenced, PostgresStore, Store, StoreErrorKind};
use private_postgres::shared_database;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::{Executor, PgPool, SqlSafeStr};
use tokio::task::spawn_blocking;

use crate::support::{ask, cycle, fresh, number, outcome, rival, run, store};

async fn unmigrated() -> String {
    spawn_blocking(shared_database).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_processes_may_migrate_at_once_and_again() {
    let url = unmigrated().await;
    for migrated in join_all((0..8).map(|_| store(&url)).map(|it| async move { it.migrate().await })).await {
        migrated.unwrap();
    }
    cycle(&store(&url), 10).await;
    store(&url).migrate().await.unwrap();
    let records = "SELECT count(*) FROM idempotency_records";
    assert_eq!(number(store(&url).pool(), records).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn its_migrations_and_the_applications_do_not_know_of_each_other() {
    let store = store(&unmigrated().await);
    let create = "CREATE TABLE payments (amount bigint)".into_sql_str();
    let own = Migration::new(1, "payments".into(), MigrationType::Simple, create, false);
    let own = Migrator::with_migrations(vec![own]);
    own.run(store.pool()).await.unwrap();
    store.migrate().await.unwrap();
    own.run(store.pool()).await.unwrap();
    store.migrate().await.unwrap();
    cycle(&store, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_tables_it_is_unavailable_and_with_them_it_works() {
    let store = store(&unmigrated().await);
    let answers = join_all((0..20).map(|_| store.claim(ask()))).await;
    assert!(answers.into_iter().all(|answer| answer.unwrap_err().kind() == StoreErrorKind::Unavailable));
    store.migrate().await.unwrap();
    cycle(&store, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_of_its_own_comes_with_the_connect_options() {
    let url = unmigrated().await;
    let options = PgConnectOptions::from_str(&url).unwrap().options([("search_path", "idempotency")]);
    let store = PostgresStore::new(PgPool::connect_with(options).await.unwrap());
    store.pool().execute("CREATE SCHEMA idempotency").await.unwrap();
    store.migrate().await.unwrap();
    cycle(&store, 10).await;
    assert_eq!(number(store.pool(), "SELECT count(*) FROM idempotency.idempotency_records").await, 1);
}

/// The strictest isolation as the database's default would end races with errors.
#[tokio::test(flavor = "multi_thread")]
async fn the_databases_isolation_level_does_not_matter() {
    let url = fresh().await;
    let set = "DO $$ BEGIN EXECUTE format(
        'ALTER DATABASE %I SET default_transaction_isolation = serializable', current_database()); END $$";
    store(&url).pool().execute(set).await.unwrap();
    let stores = [store(&url), store(&url), store(&url), store(&url)];
    for _ in 0..20 {
        let asked: Vec<_> = (0..50).map(|_| ask()).collect();
        let claims = stores.iter().flat_map(|store| asked.iter().map(|request| store.claim(rival(*request))));
        let claims: Vec<Claim> = join_all(claims).await.into_iter().map(Result::unwrap).collect();
        let runs = claims.iter().filter(|claim| matches!(claim, Claim::Run(_))).count();
        assert_eq!(runs, asked.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fence_that_was_never_given_is_stale_whatever_its_number() {
    let store = store(&fresh().await);
    let request = ask();
    run(&store, request).await;
    let kept = || Checkpoint::new("", "");
    for fence in [0, u64::MAX, u64::MAX / 2, u64::MAX / 2 + 1].map(Fence) {
        let answers = [
            store.complete(request.record, fence, outcome(1)).await,
            store.extend(request.record, fence, Duration::ZERO).await,
            store.checkpoint(request.record, fence, kept()).await,
            store.release(request.record, fence).await,
        ];
        assert!(answers.into_iter().all(|answer| answer.unwrap() == Fenced::Stale), "{fence:?}");
    }
    assert!(matches!(store.claim(rival(request)).await.unwrap(), Claim::InFlight { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_of_ten_years_and_of_ever_are_kept_to() {
    const YEAR: Duration = Duration::from_hours(365 * 24);
    let store = store(&fresh().await);
    for (lease, least) in [(10 * YEAR, 10 * YEAR), (Duration::MAX, 90 * YEAR)] {
        let mut request = ask();
        (request.lease, request.ttl) = (lease, lease);
        let fence = run(&store, request).await.fence;
        let Claim::InFlight { lease_left } = store.claim(rival(request)).await.unwrap() else { panic!() };
        assert!(lease_left <= lease && lease_left + Duration::from_mins(1) > least, "{lease_left:?}");
        assert_eq!(store.extend(request.record, fence, lease).await.unwrap(), Fenced::Held);
        assert_eq!(store.complete(request.record, fence, outcome(1)).await.unwrap(), Fenced::Held);
        let Claim::Replay { expires_in, .. } = store.claim(rival(request)).await.unwrap() else { panic!() };
        assert!(expires_in <= lease && expires_in + Duration::from_mins(1) > least, "{expires_in:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoints_name_may_hold_any_character() {
    let store = store(&fresh().await);
    let request = ask();
    let fence = run(&store, request).await.fence;
    let kept = Checkpoint::new("charged\0 ☃", &b"\0\xff"[..]);
    assert_eq!(store.checkpoint(request.record, fence, kept.clone()).await.unwrap(), Fenced::Held);
    assert_eq!(store.release(request.record, fence).await.unwrap(), Fenced::Held);
    assert_eq!(run(&store, rival(request)).await.checkpoint, Some(kept));
}
