//! What verbs cost: statements, commits, scans and index entries.

use std::cell::Cell;
use std::sync::Once;

use futures_util::future::join_all;
use idempotency_layer::{Claim, Fenced, Store};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};

use crate::support::{LONG, WRITERS, ask, complete, cycle, fresh, number, rival, run, store, until};

thread_local! {
    /// The statements that sqlx carried out on this thread.
    static STATEMENTS: Cell<usize> = const { Cell::new(0) };
}

struct Counter;

impl<S: Subscriber> tracing_subscriber::Layer<S> for Counter {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "sqlx::query" {
            STATEMENTS.set(STATEMENTS.get() + 1);
        }
    }
}

/// How many statements it took. The runtime has to have one thread.
async fn counted<T>(verbs: impl Future<Output = T>) -> (usize, T) {
    static TOLD: Once = Once::new();
    TOLD.call_once(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Counter)).unwrap();
    });
    let before = STATEMENTS.get();
    let answer = verbs.await;
    (STATEMENTS.get() - before, answer)
}

#[tokio::test]
async fn each_verb_is_one_statement_and_so_are_many_at_once() {
    let store = store(&fresh().await);
    cycle(&store, 10).await;

    let request = ask();
    let (count, run) = counted(run(&store, request)).await;
    assert_eq!(count, 1, "a claim");
    let (count, held) = counted(store.extend(request.record, run.fence, LONG)).await;
    assert_eq!((count, held.unwrap()), (1, Fenced::Held));
    let (count, ()) = counted(complete(&store, request, run.fence, 1000)).await;
    assert_eq!(count, 1, "a completion");
    let (count, replay) = counted(store.claim(rival(request))).await;
    assert!(count == 1 && matches!(replay.unwrap(), Claim::Replay { .. }), "{count} for a replay");
    let released = ask();
    let fence = self::run(&store, released).await.fence;
    let (count, held) = counted(store.release(released.record, fence)).await;
    assert_eq!((count, held.unwrap()), (1, Fenced::Held));

    // Claims and completions side by side, each statement with a commit of its own.
    let (count, _) = counted(join_all((0..1000).map(|_| cycle(&store, 100)))).await;
    assert!(count <= 50, "{count} statements for 1000 cycles");
    let hot = ask();
    let (count, claims) = counted(join_all((0..1000).map(|_| store.claim(rival(hot))))).await;
    let runs = claims.iter().filter(|claim| matches!(claim, Ok(Claim::Run(_)))).count();
    assert!(count <= 50 && runs == 1, "{count} statements and {runs} runs for 1000 claims of a record");
}

/// A table that was never analysed looks empty to the planner, and the plan it makes then is kept.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_table_is_never_scanned_and_half_of_the_completions_change_no_index() {
    let store = store(&fresh().await);
    let pool = store.pool().clone();
    for round in 0..30 {
        join_all((0..64).map(|_| cycle(&store, 1024))).await;
        let request = cycle(&store, 1024).await;
        assert!(matches!(store.claim(rival(request)).await.unwrap(), Claim::Replay { .. }), "{round}");
    }
    let (held, released) = (ask(), ask());
    let fences = [run(&store, held).await.fence, run(&store, released).await.fence];
    for _ in 0..10 {
        let held = [
            store.extend(held.record, fences[0], LONG).await,
            store.release(released.record, fences[1]).await,
        ];
        assert_eq!(*held[0].as_ref().unwrap(), Fenced::Held);
    }
    drop(store);
    // A connection tells what it did when it ends.
    until(&pool, WRITERS, |writers| writers == 0).await;
    let of =
        |column| format!("SELECT {column} FROM pg_stat_user_tables WHERE relname = 'idempotency_records'");
    until(&pool, &of("n_tup_upd"), |updates| updates >= 30 * 65).await;
    // Of no rows there were scans: for making the indexes.
    assert_eq!(number(&pool, &of("seq_tup_read")).await, 0);
    let (updates, hot) = (number(&pool, &of("n_tup_upd")).await, number(&pool, &of("n_tup_hot_upd")).await);
    assert!(hot * 100 >= updates * 45, "{hot} of {updates} completions left the indexes alone");
}
