//! What only PostgreSQL has: snapshots, levels, schemas, roles, and a connection for each transaction.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use idempotency_layer::{
    Builder, Claim, Fenced, OnDisconnect, OnOrphan, PostgresStore, Rejection, RejectionKind, ReplayBody,
    Store, Tombstone,
};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, Executor, PgConnection, PgPool, Postgres, query_scalar};
use tower::{Layer, ServiceExt, service_fn};

use super::raw::{self, InTransaction, ask, claim, hasty, is_in_flight, outcome, rival};
use crate::database::Bench;
use crate::proxy::store_behind_proxy;
use crate::rig::{self, Count, Gate, Rig, dropped_after, now, post, post_without_key, send};

/// The text that begins a claim.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL idle";

async fn rig() -> Rig<Postgres> {
    Rig::with(Builder::claim_in_transaction).await
}

/// Runs a text whose values are the test's own.
async fn run(pool: &PgPool, text: impl Into<String>) {
    pool.execute(AssertSqlSafe(text.into())).await.unwrap();
}

async fn number(connection: &mut PgConnection, text: &'static str) -> i64 {
    query_scalar(text).fetch_one(connection).await.unwrap()
}

/// Lets every connection from now on begin its transactions as the strictest database does.
async fn defaults_are_strict(pool: &PgPool) {
    let database: String =
        query_scalar("SELECT quote_ident(current_database())").fetch_one(pool).await.unwrap();
    run(pool, format!("ALTER DATABASE {database} SET default_transaction_isolation = 'repeatable read'"))
        .await;
    run(pool, format!("ALTER DATABASE {database} SET default_transaction_read_only = on")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_between_lock_and_read_is_seen() {
    let (proxy, direct, store) = store_behind_proxy().await;
    let owner = Postgres::open_again(&direct).await;
    defaults_are_strict(&direct).await;
    for _ in 0..10 {
        let request = hasty(ask());
        let Claim::Run(run) = owner.claim(request).await.unwrap() else { panic!("it is new") };
        tokio::time::sleep(Duration::from_millis(2)).await;

        let mut held = proxy.hold_after(BEGIN);
        let heir = tokio::spawn({
            let store = store.clone();
            async move { claim::<Postgres>(&store, rival(request)).await.map(|claimed| claimed.run) }
        });
        held.arrives().await;
        assert_eq!(owner.complete(request.record, run.fence, outcome("late")).await.unwrap(), Fenced::Held);
        drop(held);
        match heir.await.unwrap() {
            Err(Claim::Replay { response, .. }) => assert_eq!(raw::text(&response), "late"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_cannot_raise_the_level_behind_the_claim() {
    let (rig, runs) = (rig().await, Count::default());
    let service = rig.serve(&runs, |run, co_commit| async move {
        let mut transaction = co_commit.begin().await.unwrap();
        let error = transaction.execute("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE").await.unwrap_err();
        assert_eq!(error.as_database_error().unwrap().code().unwrap(), "25001");
        rig::answer(503, run)
    });
    assert_eq!(send(&service, post("key")).await.status, 503);
    assert_eq!(runs.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_completion_that_hangs_before_its_commit_holds_up_no_leased_claim() {
    let (proxy, direct, store) = store_behind_proxy().await;
    let leased = Postgres::open_again(&direct).await;
    let request = ask();
    let transaction = InTransaction::<Postgres>::begin(&store, request).await;
    let mut held = proxy.hold("COMMIT");
    let completing = tokio::spawn(transaction.complete("done"));
    held.arrives().await;

    let begun = now();
    for _ in 0..20 {
        // They meet in one statement.
        let (same, other) = tokio::join!(leased.claim(rival(request)), leased.claim(ask()));
        assert!(matches!(same, Ok(Claim::InFlight { .. })), "{same:?}");
        assert!(matches!(other, Ok(Claim::Run(_))), "{other:?}");
    }
    // An insert that waited for the completion would wait for the lock's time-out, 100 ms, each time.
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    drop(held);
    assert!(matches!(completing.await.unwrap(), idempotency_layer::Completion::Committed));
    assert!(matches!(leased.claim(rival(request)).await, Ok(Claim::Replay { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renewed_lease_is_respected_and_its_rest_is_reported() {
    let ((), store, _) = Postgres::open().await;
    let request = hasty(ask());
    let Claim::Run(run) = store.claim(request).await.unwrap() else { panic!("it is new") };
    assert_eq!(store.extend(request.record, run.fence, raw::LONG).await.unwrap(), Fenced::Held);
    tokio::time::sleep(Duration::from_millis(2)).await; // the claim's own lease is over
    match claim::<Postgres>(&store, rival(request)).await.map(|claimed| claimed.run) {
        Err(Claim::InFlight { lease_left }) => assert!(lease_left > raw::LONG / 2, "{lease_left:?}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_beside_a_replay_is_no_conflict() {
    let (proxy, direct, store) = store_behind_proxy().await;
    let other = Postgres::open_again(&direct).await;
    let request = ask();
    InTransaction::<Postgres>::begin(&store, request).await.complete("done").await;
    for beside in [&store, &other] {
        // The first one has the lock.
        let mut held = proxy.hold_after(BEGIN);
        let first = tokio::spawn({
            let store = store.clone();
            async move { claim::<Postgres>(&store, rival(request)).await.map(|claimed| claimed.run) }
        });
        held.arrives().await;
        let second = claim::<Postgres>(beside, rival(request)).await.map(|claimed| claimed.run);
        assert!(matches!(second, Err(Claim::Replay { .. })), "{second:?}");
        drop(held);
        assert!(matches!(first.await.unwrap(), Err(Claim::Replay { .. })));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_after_a_failed_statement_is_stored_alone_and_keeps_the_claim_until_then() {
    let (rig, runs, gate) = (rig().await, Count::default(), Gate::closed());
    let door = gate.clone();
    let handler = move |run, co_commit: idempotency_layer::CoCommit<Postgres>| {
        let door = door.clone();
        async move {
            let mut transaction = co_commit.begin().await.unwrap();
            Postgres::insert(&mut transaction, "row").await.unwrap();
            transaction.execute("SELECT 1 / 0").await.unwrap_err();
            drop(transaction);
            door.pass().await;
            rig::answer(422, run)
        }
    };
    let other = rig.another(Builder::claim_in_transaction).await;
    let other = rig::serve::<Postgres, _, _, _>(&other, &runs, handler.clone());
    let service = rig.serve(&runs, handler);
    let first = tokio::spawn({
        let service = service.clone();
        async move { send(&service, post("key")).await }
    });
    runs.reaches(1).await;
    for _ in 0..10 {
        assert_eq!(send(&other, post("key")).await.kind, Some(RejectionKind::InProgress));
    }
    gate.open();
    assert_eq!(first.await.unwrap().status, 422);
    for service in [service, other] {
        let replay = send(&service, post("key")).await;
        assert_eq!((replay.status, replay.replay), (422, true), "{replay:?}");
    }
    assert_eq!((runs.get(), rig.rows().await.len(), rig.records().await), (1, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_gives_up_its_rows_keeps_the_claim_before_other_processes() {
    let ((), store, pool) = Postgres::open().await;
    let other = Postgres::open_again(&pool).await;
    let request = ask();
    let mut transaction = InTransaction::<Postgres>::begin(&store, request).await;
    for _ in 0..10 {
        transaction.write("given up").await;
        transaction.co_commit.roll_back().await.unwrap();
        assert!(is_in_flight(&claim::<Postgres>(&other, rival(request)).await));
        assert!(matches!(other.claim(rival(request)).await, Ok(Claim::InFlight { .. })));
    }
    transaction.write("kept").await;
    transaction.complete("done").await;
    assert_eq!(Postgres::rows(&pool).await, ["kept"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stores_of_two_schemas_share_no_claims() {
    let ((), first, pool) = Postgres::open().await;
    run(&pool, "CREATE SCHEMA \"Other's\"").await;
    let options = (*pool.connect_options()).clone().options([("search_path", "\"Other's\"")]);
    let second = PostgresStore::new(PgPoolOptions::new().connect_with(options).await.unwrap());
    second.migrate().await.unwrap();
    let request = ask();
    let runs = [
        InTransaction::<Postgres>::begin(&first, request).await,
        InTransaction::<Postgres>::begin(&second, rival(request)).await,
    ];
    for store in [&first, &second] {
        assert!(is_in_flight(&claim::<Postgres>(store, rival(request)).await));
        assert!(matches!(store.claim(rival(request)).await, Ok(Claim::InFlight { .. })));
    }
    for (run, text) in runs.into_iter().zip(["first", "second"]) {
        run.complete(text).await;
    }
    for (store, text) in [(first, "first"), (second, "second")] {
        let Ok(Claim::Replay { response, .. }) = store.claim(rival(request)).await else {
            panic!("no replay")
        };
        assert_eq!(raw::text(&response), text);
    }
}

/// Whatever the handler did to the transaction, the answer does not say "rolled back" of rows that are there, nor 201.
#[tokio::test(flavor = "multi_thread")]
async fn a_handler_that_ends_the_transaction_is_answered_not_recorded() {
    let ends = ["COMMIT", "COMMIT AND CHAIN", "COMMIT; BEGIN", "ROLLBACK", "ROLLBACK AND CHAIN", "RESET ALL"];
    for halts in [false, true] {
        let policy = if halts { OnOrphan::Halt } else { OnOrphan::Rerun };
        let rig = Rig::<Postgres>::with(|builder| builder.claim_in_transaction().on_orphan(policy)).await;
        let runs = Count::default();
        for end in ends {
            let service = rig.serve(&runs, move |run, co_commit| async move {
                let mut transaction = co_commit.begin().await.unwrap();
                Postgres::insert(&mut transaction, &format!("{run} before")).await.unwrap();
                transaction.execute(end).await.unwrap();
                Postgres::insert(&mut transaction, &format!("{run} after")).await.unwrap();
                rig::answer(201, run)
            });
            let key = end.replace([' ', ';'], "-");
            let answer = send(&service, post(&key)).await;
            assert_eq!((answer.status, answer.kind), (503, Some(RejectionKind::NotRecorded)), "{end}");
            let retry = send(&service, post(&key)).await;
            let kind =
                if halts { RejectionKind::Tombstone(Tombstone::Unknown) } else { RejectionKind::NotRecorded };
            assert_eq!(retry.kind, Some(kind), "{end}");
            rig.writes_are_visible(&format!("{end} autocommit")).await;
        }
        assert_eq!(runs.get(), if halts { ends.len() } else { 2 * ends.len() });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_savepoint_of_the_handler_is_within_the_claim() {
    let (rig, runs) = (rig().await, Count::default());
    let service = rig.serve(&runs, |run, co_commit| async move {
        let mut transaction = co_commit.begin().await.unwrap();
        let mut savepoint = transaction.begin().await.unwrap();
        Postgres::insert(&mut savepoint, "in a savepoint").await.unwrap();
        savepoint.commit().await.unwrap();
        let mut savepoint = transaction.begin().await.unwrap();
        Postgres::insert(&mut savepoint, "given up").await.unwrap();
        savepoint.rollback().await.unwrap();
        rig::answer(201, run)
    });
    assert_eq!(send(&service, post("key")).await.status, 201);
    assert!(send(&service, post("key")).await.replay);
    assert_eq!(rig.rows().await, ["in a savepoint"]);

    // One that is dropped in flight leaves an answer that is true.
    for polls in 1..=4 {
        let service = rig.serve(&runs, move |run, co_commit| async move {
            let mut transaction = co_commit.begin().await.unwrap();
            let _ = dropped_after(polls, transaction.begin()).await;
            let written = Postgres::insert(&mut transaction, &format!("after {polls}")).await;
            rig::answer(if written.is_ok() { 201 } else { 500 }, run)
        });
        let answer = send(&service, post(&format!("dropped-{polls}"))).await;
        let there = rig.rows().await.contains(&format!("after {polls}"));
        match (answer.status, answer.kind) {
            (201, None) => assert!(there),
            (503, Some(RejectionKind::RolledBack)) | (500, None) => assert!(!there, "{answer:?}"),
            (503, Some(RejectionKind::NotRecorded)) => {}
            _ => panic!("{answer:?}"),
        }
        rig.writes_are_visible(&format!("{polls} autocommit")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_search_path_of_the_handler_does_not_lead_the_record_elsewhere() {
    let (rig, runs) = (rig().await, Count::default());
    let decoy = "CREATE SCHEMA decoy;
        CREATE TABLE decoy.idempotency_records (LIKE public.idempotency_records INCLUDING ALL);
        CREATE TABLE decoy.idempotency_leases (LIKE public.idempotency_leases INCLUDING ALL);
        CREATE SEQUENCE decoy.idempotency_fences;";
    run(&rig.pool, decoy).await;
    let service = rig.serve(&runs, |run, co_commit| async move {
        let mut transaction = co_commit.begin().await.unwrap();
        Postgres::insert(&mut transaction, "row").await.unwrap();
        transaction.execute("SET LOCAL search_path = decoy").await.unwrap();
        rig::answer(201, run)
    });
    assert_eq!(send(&service, post("key")).await.status, 201);
    let replay = send(&service, post("key")).await;
    assert!(replay.replay, "{replay:?}");
    assert_eq!((rig.rows().await.len(), rig.records().await), (1, 1));
    let mut beside = Postgres::beside(&rig.pool).await;
    assert_eq!(number(&mut beside, "SELECT count(*) FROM decoy.idempotency_records").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_may_not_write_records_rolls_back_unless_the_handler_resets_it() {
    let (rig, runs) = (rig().await, Count::default());
    // Roles belong to the server, which other tests may use.
    let role = format!("teller_{}", std::process::id());
    run(&rig.pool, format!("DROP ROLE IF EXISTS {role}; CREATE ROLE {role}; GRANT INSERT ON rows TO {role}"))
        .await;
    for resets in [false, true] {
        let role = role.clone();
        let service = rig.serve(&runs, move |run, co_commit| {
            let role = role.clone();
            async move {
                let mut transaction = co_commit.begin().await.unwrap();
                transaction.execute(AssertSqlSafe(format!("SET LOCAL ROLE {role}"))).await.unwrap();
                Postgres::insert(&mut transaction, &format!("run {run}")).await.unwrap();
                if resets {
                    transaction.execute("RESET ROLE").await.unwrap();
                }
                rig::answer(201, run)
            }
        });
        let answer = send(&service, post("key")).await;
        if resets {
            assert_eq!((answer.status, rig.rows().await.len()), (201, 1), "{answer:?}");
        } else {
            assert_eq!((answer.status, answer.kind), (503, Some(RejectionKind::RolledBack)));
            assert_eq!((rig.rows().await.len(), rig.records().await), (0, 0));
        }
    }
    run(&rig.pool, format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

/// A place is less than a connection.
#[tokio::test(flavor = "multi_thread")]
async fn handlers_that_ask_the_pool_for_one_more_connection_are_all_answered() {
    let (runs, pool) = (Count::default(), Postgres::open_with(4).await);
    let ((), store, pool) = pool;
    let layer = rig::builder(store).claim_in_transaction().build();
    let (of_the_handler, begun) = (pool.clone(), runs.clone());
    let service = rig::serve::<Postgres, _, _, _>(&layer, &runs, move |run, co_commit| {
        let (pool, begun) = (of_the_handler.clone(), begun.clone());
        async move {
            Postgres::insert(&mut *co_commit.begin().await.unwrap(), &format!("run {run}")).await.unwrap();
            // All that can run at a time do.
            begun.reaches(3).await;
            pool.execute("SELECT 1").await.unwrap();
            rig::answer(201, run)
        }
    });
    let clients = (0..12).map(|n| {
        let service = service.clone();
        tokio::spawn(async move { send(&service, post(&format!("key-{n}"))).await })
    });
    let begun = now();
    for client in clients.collect::<Vec<_>>() {
        assert_eq!(client.await.unwrap().status, 201);
    }
    // The pool gives up after 30 s.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(Postgres::rows(&pool).await.len(), 12);
}

type AnyBody = ReplayBody<BoxBody<Bytes, Infallible>>;

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_does_not_end_holds_no_transaction() {
    let rig = rig().await;
    let layer = rig.another(Builder::claim_in_transaction).await;
    let service = layer.layer(service_fn(|_: Request<AnyBody>| async {
        Ok::<_, Infallible>(Response::new(AnyBody::new(Full::new(Bytes::new()).boxed())))
    }));
    let upload =
        StreamBody::new(futures_util::stream::pending::<Result<http_body::Frame<Bytes>, Infallible>>());
    let request = post_without_key().map(|_| AnyBody::new(BodyExt::boxed(upload)));
    let (mut parts, body) = request.into_parts();
    parts.headers.insert("idempotency-key", "key".parse().unwrap());
    let uploading = tokio::spawn(service.clone().oneshot(Request::from_parts(parts, body)));
    let mut beside = Postgres::beside(&rig.pool).await;
    for _ in 0..10 {
        Postgres::nobody_is_in_a_transaction(&mut beside).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(!uploading.is_finished());
    uploading.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_that_does_not_end_is_rolled_back_in_time() {
    let rig = rig().await;
    let time = Duration::from_millis(300);
    let layer = rig.another(|builder| builder.claim_in_transaction().transaction_time(time)).await;
    let service = layer.layer(service_fn(|request: Request<AnyBody>| async move {
        let co_commit = request.extensions().get::<idempotency_layer::CoCommit<Postgres>>().unwrap();
        Postgres::insert(&mut *co_commit.begin().await.unwrap(), "row").await.unwrap();
        let endless = futures_util::stream::pending::<Result<http_body::Frame<Bytes>, Infallible>>();
        Ok::<_, Infallible>(Response::new(AnyBody::new(BodyExt::boxed(StreamBody::new(endless)))))
    }));
    let request = post("key").map(|_| AnyBody::new(Full::new(Bytes::from_static(b"{}")).boxed()));
    let answer = service.oneshot(request).await.unwrap();
    assert_eq!(answer.extensions().get().map(Rejection::kind), Some(RejectionKind::RolledBack));
    Postgres::nobody_is_in_a_transaction(&mut Postgres::beside(&rig.pool).await).await;
    assert_eq!((rig.rows().await.len(), rig.records().await), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_whose_client_is_gone_has_no_more_time_than_others() {
    let runs = Count::default();
    let time = Duration::from_millis(300);
    let rig = Rig::<Postgres>::with(|builder| builder.claim_in_transaction().transaction_time(time)).await;
    let service = rig.serve(&runs, |run, co_commit| async move {
        Postgres::insert(&mut *co_commit.begin().await.unwrap(), &format!("run {run}")).await.unwrap();
        if run == 1 {
            std::future::pending::<()>().await;
        }
        rig::answer(201, run)
    });
    let leaving = tokio::spawn({
        let service = service.clone();
        async move { send(&service, post("key")).await }
    });
    runs.reaches(1).await;
    leaving.abort();
    let _ = leaving.await;
    tokio::time::timeout(Duration::from_secs(5), rig.detached_are_done()).await.unwrap();
    assert_eq!(send(&service, post("key")).await.text, "run 2");
    assert_eq!(rig.rows().await, ["run 2"]);
}

/// The statement is not waited for, nor is it left to run with the lock.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_a_client_left_behind_does_not_keep_the_claim() {
    const STALLED: &str = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND state = 'active' AND query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()";
    let runs = Count::default();
    let rig =
        Rig::<Postgres>::with(|builder| builder.claim_in_transaction().on_disconnect(OnDisconnect::Cancel))
            .await;
    let service = rig.serve(&runs, |run, co_commit| async move {
        let mut transaction = co_commit.begin().await.unwrap();
        Postgres::insert(&mut transaction, &format!("run {run}")).await.unwrap();
        if run == 1 {
            Postgres::stall(&mut transaction).await;
        }
        rig::answer(201, run)
    });
    let leaving = tokio::spawn({
        let service = service.clone();
        async move { send(&service, post("key")).await }
    });
    let mut beside = Postgres::beside(&rig.pool).await;
    while number(&mut beside, STALLED).await == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    leaving.abort();
    let left = now();
    let _ = leaving.await;
    loop {
        let retry = send(&service, post("key")).await;
        if retry.kind != Some(RejectionKind::InProgress) {
            assert_eq!(retry.text, "run 2");
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(left.elapsed() < Duration::from_secs(3), "{:?}", left.elapsed());
    assert_eq!(rig.rows().await, ["run 2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_another_process_holds_no_connection_and_asks_for_others() {
    let (proxy, direct, store) = store_behind_proxy().await;
    let owner = Postgres::open_again(&direct).await;
    let layer = rig::builder(store).claim_in_transaction().wait(Duration::from_mins(1)).build();
    let (there, here) = (Count::default(), Count::default());
    let gate = Gate::closed();
    let door = gate.clone();
    let owning = rig::builder(owner).claim_in_transaction().build();
    let owning = rig::serve::<Postgres, _, _, _>(&owning, &there, move |run, _| {
        let door = door.clone();
        async move {
            door.pass().await;
            rig::answer(201, run)
        }
    });
    let service =
        rig::serve::<Postgres, _, _, _>(&layer, &here, |run, _| async move { rig::answer(201, run) });
    let first = tokio::spawn(async move { send(&owning, post("key")).await });
    there.reaches(1).await;
    // The pool has ten connections.
    let waiters = (0..30).map(|_| {
        let service = service.clone();
        tokio::spawn(async move { send(&service, post("key")).await })
    });
    let waiters: Vec<_> = waiters.collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(send(&service, post("other")).await.status, 201);
    proxy.take_counts();
    let begun = now();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (statements, polls) = (proxy.take_counts().0, begun.elapsed().as_millis() / 90);
    assert!(statements as u128 <= 3 * (polls + 1), "{statements} statements in {:?}", begun.elapsed());
    gate.open();
    assert_eq!(first.await.unwrap().status, 201);
    for waiter in waiters {
        assert!(waiter.await.unwrap().replay);
    }
    assert_eq!(here.get(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_the_session_is_changed_by_a_request() {
    const SESSION: &str = "SELECT string_agg(name || '=' || setting, ', ' ORDER BY name)
        || (SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory')
        || pg_backend_pid() || coalesce(current_setting('idempotency_layer.claim', true), '')
        FROM pg_settings WHERE name <> 'session_authorization'";
    let ((), store, pool) = Postgres::open_with(1).await;
    let layer = rig::builder(store.clone()).claim_in_transaction().build();
    let runs = Count::default();
    let service = rig::serve::<Postgres, _, _, _>(&layer, &runs, |run, co_commit| async move {
        Postgres::insert(&mut *co_commit.begin().await.unwrap(), &format!("run {run}")).await.unwrap();
        rig::answer([0, 503, 422, 201][run], run)
    });
    let session = async || query_scalar::<_, String>(SESSION).fetch_one(&pool).await.unwrap();
    let before = session().await;
    for (key, status) in [("503", 503), ("422", 422), ("201", 201), ("201", 201)] {
        assert_eq!(send(&service, post(key)).await.status, status);
        assert_eq!(session().await, before, "after {key}");
    }
    // Somebody else has the lock.
    let other = Postgres::open_again(&pool).await;
    let request = ask();
    let running = InTransaction::<Postgres>::begin(&other, request).await;
    assert!(is_in_flight(&claim::<Postgres>(&store, rival(request)).await));
    assert_eq!(session().await, before, "after a 409");
    drop(running);
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
