use bytes::Bytes;
use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, Executor, Row};

use super::statements::KINDS;
use super::*;
use crate::error::StoreErrorKind;
use crate::fingerprint::Fingerprint;
use crate::response::StoredResponse;
use crate::store::batch::Reply;
use crate::store::{ClaimToken, Run, Tombstone};

async fn in_memory() -> SqliteStore {
    SqliteStore::open("sqlite::memory:").await.unwrap()
}

fn ask(number: u8) -> ClaimRequest {
    ClaimRequest {
        record: RecordId::from_bytes([number; 32]),
        fingerprint: Fingerprint::NONE,
        token: ClaimToken::new(),
        lease: Duration::from_mins(1),
        ttl: Duration::from_hours(1),
    }
}

async fn run(store: &SqliteStore, ask: ClaimRequest) -> Fence {
    match store.claim(ask).await.unwrap() {
        Claim::Run(Run { fence, .. }) => fence,
        other => panic!("{other:?}"),
    }
}

fn response() -> Outcome {
    Outcome::Response(StoredResponse::from_bytes(Bytes::from_static(b"done")))
}

/// As after an ANALYZE of a table with one row, whose statistics stay when it has grown.
#[tokio::test]
async fn a_table_that_was_analysed_while_it_was_small_is_not_scanned() {
    let store = in_memory().await;
    let mut connection = store.pool().acquire().await.unwrap();
    let analysed = "ANALYZE; DELETE FROM sqlite_stat1; INSERT INTO sqlite_stat1 VALUES
        ('idempotency_records', 'idempotency_records_record', '1 1'),
        ('idempotency_records', 'idempotency_records_expires_at', '1 1');
        ANALYZE sqlite_schema";
    let texts = &*TEXTS;
    let all_kinds = &texts.batch[(1 << KINDS) - 1];
    let alone = [&texts.take, &texts.look, &texts.peek, &texts.complete, &texts.completed, &texts.forget]
        .into_iter()
        .chain([&texts.release, &texts.extend, &texts.checkpoint, &texts.purge]);
    let statements: Vec<&str> = alone
        .map(String::as_str)
        .chain(all_kinds.split(";\n").filter(|it| it.contains("idempotency")))
        .collect();
    assert_eq!(statements.len(), 10 + 3 + 3 * 2 + 3);
    for statistics in ["", analysed] {
        connection.execute(statistics).await.unwrap();
        for statement in &statements {
            let plan = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")))
                .fetch_all(&mut *connection)
                .await
                .unwrap();
            for step in plan.iter().map(|row| row.get::<String, _>(3)) {
                // The verbs themselves, and the one row with the floor.
                let scans = step.starts_with("SCAN")
                    && !["at", "CONSTANT ROW", "idempotency_fences", "(subquery"]
                        .iter()
                        .any(|it| step["SCAN ".len()..].starts_with(it));
                assert!(!scans, "{step} of {statement}");
            }
        }
    }
}

#[tokio::test]
async fn a_row_that_cannot_be_read_is_invalid_and_spares_its_neighbours() {
    let store = in_memory().await;
    let asked: Vec<ClaimRequest> = (0..8).map(ask).collect();
    join_all(asked.iter().map(|ask| run(&store, *ask))).await;
    let damaged = "UPDATE idempotency_records SET state = 99 WHERE substr(record, 1, 1) = x'03';
        UPDATE idempotency_records SET token = x'00' WHERE substr(record, 1, 1) = x'05'";
    store.pool().execute(damaged).await.unwrap();
    let again = |ask: &ClaimRequest| ClaimRequest { token: ClaimToken::new(), ..*ask };
    let together = join_all(asked.iter().map(|ask| store.claim(again(ask)))).await;
    let mut alone = Vec::new();
    for ask in &asked {
        alone.push(store.claim(again(ask)).await);
    }
    for claims in [together, alone] {
        for (n, claim) in claims.into_iter().enumerate() {
            match claim {
                Ok(Claim::InFlight { .. }) => assert!(n != 3 && n != 5, "{n}"),
                Err(error) => {
                    assert!((n == 3 || n == 5) && error.kind() == StoreErrorKind::Invalid, "{n}: {error:?}");
                }
                other => panic!("{n}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn a_completion_within_a_transaction_goes_and_comes_with_it() {
    let store = in_memory().await;
    let (ask, again) = (ask(1), ask(1));
    let fence = run(&store, ask).await;
    for commits in [false, true] {
        let mut transaction = store.pool().begin_with("BEGIN IMMEDIATE").await.unwrap();
        let stale = complete_in(&mut transaction, ask.record, Fence(u64::MAX), &response()).await.unwrap();
        assert_eq!(stale, Fenced::Stale);
        for _ in 0..2 {
            let held = complete_in(&mut transaction, ask.record, fence, &response()).await.unwrap();
            assert_eq!(held, Fenced::Held, "the second time too");
        }
        if commits {
            transaction.commit().await.unwrap();
        } else {
            transaction.rollback().await.unwrap();
        }
        for (asked, settled) in [(fence, commits), (Fence(fence.0 + 1), false), (Fence(u64::MAX), false)] {
            assert_eq!(is_settled(store.pool(), ask.record, asked).await.unwrap(), settled, "{asked:?}");
        }
        let claim = store.claim(again).await.unwrap();
        assert_eq!(matches!(claim, Claim::Replay { .. }), commits, "{claim:?}");
    }
}

#[tokio::test]
async fn a_tombstone_and_an_empty_response_settle_too() {
    let store = in_memory().await;
    let empty = Outcome::Response(StoredResponse::from_bytes(Bytes::new()));
    for (n, outcome) in [(1, Outcome::Tombstone(Tombstone::Unknown)), (2, empty)] {
        let ask = ask(n);
        let fence = run(&store, ask).await;
        assert_eq!(store.complete(ask.record, fence, outcome).await.unwrap(), Fenced::Held);
        assert!(is_settled(store.pool(), ask.record, fence).await.unwrap());
    }
}

/// Between the two statements of a claim alone, another process released the record, or its time
/// was over.
#[tokio::test]
async fn a_claim_that_came_too_late_to_be_refused_is_asked_again() {
    let store = in_memory().await;
    let (released, lapsed, expired) = (ask(1), ask(2), ask(3));
    for ask in [released, lapsed, expired] {
        run(&store, ask).await;
    }
    let fence = Fence(1);
    let kept = Checkpoint { name: "kept".to_owned(), data: Bytes::new() };
    assert_eq!(store.checkpoint(released.record, fence, kept).await.unwrap(), Fenced::Held);
    assert_eq!(store.release(released.record, fence).await.unwrap(), Fenced::Held);
    assert_eq!(store.extend(lapsed.record, fence, Duration::ZERO).await.unwrap(), Fenced::Held);
    assert_eq!(store.complete(expired.record, fence, response()).await.unwrap(), Fenced::Held);
    store.pool().execute("UPDATE idempotency_records SET expires_at = 1 WHERE state = 2").await.unwrap();
    let mut connection = store.pool().acquire().await.unwrap();
    for ask in [released, lapsed, expired] {
        let rival = ClaimRequest { token: ClaimToken::new(), ..ask };
        let found = packed::claim(&TEXTS.look, &rival).fetch_all(&mut *connection).await.unwrap();
        let reply = answers::claim(&found[0]);
        assert!(matches!(reply, Ok(Reply::Locked(None))), "{reply:?}");
    }
    drop(connection);
    for ask in [released, lapsed, expired] {
        run(&store, ClaimRequest { token: ClaimToken::new(), ..ask }).await;
    }
}

/// In a batch, and alone; NULL is no checkpoint.
#[tokio::test]
async fn an_empty_checkpoint_is_one() {
    let store = in_memory().await;
    let asked: Vec<ClaimRequest> = (0..8).map(ask).collect();
    let fences = join_all(asked.iter().map(|ask| run(&store, *ask))).await;
    let empty = || Checkpoint { name: String::new(), data: Bytes::new() };
    let verbs = asked.iter().zip(&fences).map(|(ask, fence)| store.checkpoint(ask.record, *fence, empty()));
    for fenced in join_all(verbs).await {
        assert_eq!(fenced.unwrap(), Fenced::Held);
    }
    let releases = asked.iter().zip(&fences).map(|(ask, fence)| store.release(ask.record, *fence));
    for fenced in join_all(releases).await {
        assert_eq!(fenced.unwrap(), Fenced::Held);
    }
    let runs = join_all(asked.iter().map(|ask| store.claim(*ask))).await;
    for claim in runs {
        let Ok(Claim::Run(run)) = claim else { panic!("{claim:?}") };
        assert_eq!((run.attempt, run.checkpoint), (2, Some(empty())));
    }
}

/// A verb that is dropped gives its connection back through the runtime that it came from.
#[test]
fn a_verb_may_be_dropped_outside_of_a_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = runtime.block_on(in_memory());
    for n in 0..20 {
        let mut claim = Box::pin(store.claim(ask(n)));
        runtime.block_on(async {
            // Else it would go another way.
            while store.pool().num_idle() == 0 {
                tokio::task::yield_now().await;
            }
            tokio::select! { biased; _ = &mut claim => {}, () = std::future::ready(()) => {} }
        });
        drop(claim);
    }
    runtime.block_on(async { run(&store, ask(99)).await });
}
