//! What the layer does with a store's transaction: which end it gives it, in which order, and what it answers. The
//! transactions here are lists in memory; those of databases are in `co_commit.rs`.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Extensions, Method};
use idempotency_layer::{
    Checkpoint, Claim, ClaimRequest, Classifier, Contract, Disposition, Ending, Fence, Fenced,
    IdempotencyService, KeySyntax, OnDisconnect, OnOrphan, OnStoreFailure, Outcome, RecordId, RejectionKind,
    RequestTransaction, Store, StoreError, StoreErrorKind, Tombstone,
};
use tower::{Layer, ServiceExt};

use crate::scripted::{Act, DOWN, Scripted, Verb};
use crate::support::{
    Count, Gate, Handler, Req, builder, handler, poll, post, post_without_key, response, send, settle, start,
    try_handler,
};

/// A store that lends transactions on a list of rows.
#[derive(Clone)]
pub(crate) struct Lending {
    pub(crate) records: Scripted,
    rows: Rows,
    slow_roll_back: Arc<Mutex<Option<Gate>>>,
}

#[derive(Clone, Default)]
struct Rows(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    committed: Vec<String>,
    /// What becomes of the next commit: a failure, and whether it takes effect all the same.
    next: Option<(StoreErrorKind, bool)>,
    log: Vec<&'static str>,
}

/// The handler's end.
#[derive(Clone, Default)]
pub(crate) struct Pen {
    rows: Arc<Mutex<Option<Vec<String>>>>,
    keeps_on_error: Arc<AtomicBool>,
}

impl Pen {
    pub(crate) fn of(request: &Req) -> Self {
        request.extensions().get::<Self>().expect("a transaction is lent").clone()
    }

    pub(crate) fn write(&self, row: impl Into<String>) {
        self.rows.lock().unwrap().get_or_insert_default().push(row.into());
    }

    pub(crate) fn keep_on_error(&self) {
        self.keeps_on_error.store(true, Ordering::Relaxed);
    }
}

struct Draft {
    pen: Pen,
    store: Lending,
}

impl Draft {
    async fn end(
        self: Box<Self>,
        how: &'static str,
        record: Option<(RecordId, Fence, Outcome)>,
    ) -> Result<Fenced, StoreError> {
        let next = {
            let mut table = self.store.rows.0.lock().unwrap();
            table.log.push(how);
            table.next.take()
        };
        if !matches!(next, Some((_, false))) {
            if let Some((record, fence, outcome)) = record
                && self.store.records.complete(record, fence, outcome).await? == Fenced::Stale
            {
                return Ok(Fenced::Stale);
            }
            let rows = self.pen.rows.lock().unwrap().take();
            self.store.rows.0.lock().unwrap().committed.extend(rows.into_iter().flatten());
        }
        match next {
            None => Ok(Fenced::Held),
            Some((StoreErrorKind::Unavailable, _)) => Err(StoreError::unavailable("lost")),
            Some(_) => Err(StoreError::rolled_back("a deferred constraint")),
        }
    }
}

impl RequestTransaction for Draft {
    fn is_begun(&self) -> bool {
        self.pen.rows.lock().unwrap().is_some()
    }

    fn keeps_on_error(&self) -> bool {
        self.pen.keeps_on_error.load(Ordering::Relaxed)
    }

    fn complete(self: Box<Self>, record: RecordId, fence: Fence, outcome: Outcome) -> Ending<Fenced> {
        Box::pin(self.end("complete", Some((record, fence, outcome))))
    }

    fn commit(self: Box<Self>) -> Ending<()> {
        Box::pin(async { self.end("commit", None).await.map(drop) })
    }

    fn roll_back(self: Box<Self>) -> Ending<()> {
        Box::pin(async move {
            // What was given up by then is seen in the records' log.
            let gave_up = self.store.records.count(Verb::Release) + self.store.records.count(Verb::Complete);
            let how = if gave_up == 0 { "roll back" } else { "roll back, too late" };
            self.store.rows.0.lock().unwrap().log.push(how);
            let slow = self.store.slow_roll_back.lock().unwrap().clone();
            if let Some(gate) = slow {
                gate.pass().await;
            }
            Ok(())
        })
    }
}

impl Lending {
    pub(crate) fn new() -> Self {
        Self { records: Scripted::new(), rows: Rows::default(), slow_roll_back: Arc::default() }
    }

    pub(crate) fn committed(&self) -> Vec<String> {
        self.rows.0.lock().unwrap().committed.clone()
    }

    pub(crate) fn ends(&self) -> Vec<&'static str> {
        self.rows.0.lock().unwrap().log.clone()
    }

    pub(crate) fn next_commit(&self, fails: StoreErrorKind, takes_effect: bool) {
        self.rows.0.lock().unwrap().next = Some((fails, takes_effect));
    }
}

impl Store for Lending {
    async fn claim(&self, request: ClaimRequest) -> Result<Claim, StoreError> {
        self.records.claim(request).await
    }

    async fn complete(&self, record: RecordId, fence: Fence, outcome: Outcome) -> Result<Fenced, StoreError> {
        self.records.complete(record, fence, outcome).await
    }

    async fn release(&self, record: RecordId, fence: Fence) -> Result<Fenced, StoreError> {
        self.records.release(record, fence).await
    }

    async fn extend(&self, record: RecordId, fence: Fence, lease: Duration) -> Result<Fenced, StoreError> {
        self.records.extend(record, fence, lease).await
    }

    async fn checkpoint(&self, record: RecordId, fence: Fence, at: Checkpoint) -> Result<Fenced, StoreError> {
        self.records.checkpoint(record, fence, at).await
    }

    fn offer_transaction(&self, extensions: &mut Extensions) -> Option<Box<dyn RequestTransaction>> {
        let pen = Pen::default();
        extensions.insert(pen.clone());
        Some(Box::new(Draft { pen, store: self.clone() }))
    }
}

fn behind(store: &Lending, inner: Handler) -> IdempotencyService<Handler, Lending> {
    builder(store.clone()).build().layer(inner)
}

/// Writes a row and answers with this status.
fn writing(runs: &Count, status: u16) -> Handler {
    let runs = runs.clone();
    handler(move |request| {
        let run = runs.one();
        Pen::of(&request).write(format!("row {run}"));
        async move { response(status, format!("run {run}")) }
    })
}

#[tokio::test(start_paused = true)]
async fn a_success_is_committed_with_its_record() {
    for status in [200, 201, 303] {
        let (store, runs) = (Lending::new(), Count::default());
        let service = behind(&store, writing(&runs, status));
        for replay in [false, true, true] {
            let answer = send(&service, post("key", "body")).await;
            assert_eq!((answer.brief(), answer.is_replay()), ((status, "run 1"), replay));
        }
        assert_eq!((store.committed(), store.ends()), (vec!["row 1".to_owned()], vec!["complete"]));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_stored_alone_and_leaves_no_row() {
    for status in [400, 404, 409, 422] {
        let (store, runs) = (Lending::new(), Count::default());
        let service = behind(&store, writing(&runs, status));
        for replay in [false, true, true] {
            let answer = send(&service, post("key", "body")).await;
            assert_eq!((answer.brief(), answer.is_replay()), ((status, "run 1"), replay));
        }
        // Rolled back before the record is completed: who gets the refusal meets no rows.
        assert_eq!((store.committed(), store.ends()), (vec![], vec!["roll back"]));
        assert_eq!((store.records.answers(Verb::Complete), runs.get()), (vec!["held"], 1));
    }
}

#[tokio::test(start_paused = true)]
async fn what_else_is_committed_is_the_layers_rule() {
    for (classifier, status, committed) in [
        (Classifier::success(), 303, 0),
        (Classifier::final_answers(), 404, 1),
        (Classifier::everything(), 409, 1),
        (
            Classifier::custom(|response| match response.status.as_u16() {
                422 => Disposition::Store,
                _ => Disposition::Release,
            }),
            422,
            1,
        ),
        (Classifier::custom(|_| Disposition::Release), 201, 0),
        // What is not stored is never committed.
        (Classifier::everything(), 503, 0),
    ] {
        for request in [post("key", "body"), post_without_key("body")] {
            let (store, runs) = (Lending::new(), Count::default());
            let layer = builder(store.clone()).commits(classifier.clone()).build();
            assert_eq!(send(&layer.layer(writing(&runs, status)), request).await.status, status);
            assert_eq!(store.committed().len(), committed, "{classifier:?} {status}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_may_keep_its_rows_whatever_is_stored() {
    for (status, end) in [(409, Some("complete")), (422, Some("complete")), (503, None)] {
        for (request, alone) in [(post("key", "body"), false), (post_without_key("body"), true)] {
            let store = Lending::new();
            let inner = handler(move |request| async move {
                let pen = Pen::of(&request);
                pen.write("refused");
                pen.keep_on_error();
                response(status, "")
            });
            assert_eq!(send(&behind(&store, inner), request).await.status, status);
            let end = end.map_or("roll back", |end| if alone { "commit" } else { end });
            assert_eq!((store.ends(), store.committed().len()), (vec![end], usize::from(status != 503)));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_handler_says_of_its_response_decides_about_storing_only() {
    for (status, committed) in [(201, 1), (409, 0), (503, 0)] {
        for request in [post("key", "body"), post_without_key("body")] {
            let store = Lending::new();
            let inner = handler(move |request| async move {
                Pen::of(&request).write("row");
                let mut answer = response(status, "");
                answer.extensions_mut().insert(Disposition::Store);
                answer
            });
            assert_eq!(send(&behind(&store, inner), request).await.status, status);
            assert_eq!(store.committed().len(), committed, "{status}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_renewed_while_a_refusal_is_rolled_back() {
    let (store, runs, gate) = (Lending::new(), Count::default(), Gate::closed());
    *store.slow_roll_back.lock().unwrap() = Some(gate.clone());
    let service = builder(store.clone()).lease(Duration::from_secs(30)).build().layer(writing(&runs, 409));
    let slow = start(&service, post("key", "body"));
    for _ in 0..10 {
        settle().await;
        tokio::time::advance(Duration::from_secs(10)).await;
    }
    assert_eq!(send(&service, post("key", "body")).await.kind(), Some(RejectionKind::InProgress));
    gate.open();
    assert_eq!((slow.await.unwrap().brief(), runs.get()), ((409, "run 1"), 1));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_stored_is_rolled_back_before_the_claim_is_given_up() {
    for status in [401, 429, 500, 503] {
        let (store, runs) = (Lending::new(), Count::default());
        let service = behind(&store, writing(&runs, status));
        assert_eq!(send(&service, post("key", "body")).await.brief(), (status, "run 1"));
        assert_eq!(store.ends(), ["roll back"]);
        assert_eq!(store.records.answers(Verb::Release), ["held"]);
        assert!(store.committed().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_an_error_roll_back_and_the_retry_runs() {
    let fails: [fn(usize) -> Result<_, std::io::Error>; 2] = [
        |run| {
            assert!(run > 1, "handler {run} broke");
            Ok(response(201, format!("run {run}")))
        },
        |run| {
            if run > 1 {
                Ok(response(201, format!("run {run}")))
            } else {
                Err(std::io::Error::other("broke"))
            }
        },
    ];
    for fail in fails {
        let (store, runs) = (Lending::new(), Count::default());
        let counted = runs.clone();
        let inner = try_handler(move |request| {
            let run = counted.one();
            Pen::of(&request).write(format!("row {run}"));
            async move { fail(run) }
        });
        let service = behind(&store, inner);
        let first = service.clone();
        assert!(
            tokio::spawn(first.oneshot(post("key", "body"))).await.map_or(true, |answer| answer.is_err())
        );
        assert_eq!((store.ends(), store.committed().len()), (vec!["roll back"], 0));
        assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 2"));
        assert_eq!(store.committed(), ["row 2"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_begins_nothing_is_completed_without_a_transaction() {
    let store = Lending::new();
    let service = behind(&store, handler(|_| async { response(201, "done") }));
    assert_eq!(send(&service, post("key", "body")).await.status, 201);
    assert!(send(&service, post("key", "body")).await.is_replay());
    assert_eq!(send(&service, post_without_key("body")).await.status, 201);
    assert_eq!((store.ends().len(), store.records.answers(Verb::Complete)), (0, vec!["held"]));
}

#[tokio::test(start_paused = true)]
async fn the_rows_of_a_run_that_lost_its_claim_are_refused_with_its_outcome() {
    let (store, runs, gate) = (Lending::new(), Count::default(), Gate::closed());
    let (counted, door) = (runs.clone(), gate.clone());
    let inner = handler(move |request| {
        let (run, door) = (counted.one(), door.clone());
        async move {
            Pen::of(&request).write(format!("row {run}"));
            if run == 1 {
                door.pass().await;
            }
            response(201, format!("run {run}"))
        }
    });
    let service = builder(store.clone()).lease(Duration::from_secs(30)).build().layer(inner);
    // Its renewals are lost, as those of a process that stood still.
    store.records.always(Verb::Extend, DOWN);
    let zombie = start(&service, post("key", "body"));
    settle().await;
    tokio::time::advance(Duration::from_secs(31)).await;
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 2"));
    gate.open();
    let refused = zombie.await.unwrap();
    assert_eq!((refused.status, refused.kind()), (409, Some(RejectionKind::InProgress)));
    assert_eq!(store.committed(), ["row 2"]);
}

#[tokio::test(start_paused = true)]
async fn where_the_transaction_was_rolled_back_nothing_is_answered_and_the_retry_runs_at_once() {
    for policy in [OnStoreFailure::Refuse, OnStoreFailure::PassThrough] {
        let (store, runs) = (Lending::new(), Count::default());
        let service = builder(store.clone()).on_store_failure(policy).build().layer(writing(&runs, 201));
        store.next_commit(StoreErrorKind::RolledBack, false);
        let answer = send(&service, post("key", "body")).await;
        assert_eq!((answer.status, answer.kind()), (503, Some(RejectionKind::RolledBack)));
        assert!(answer.header("retry-after").is_some());
        assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "run 2"));
        assert_eq!(store.committed(), ["row 2"]);
    }
}

#[tokio::test(start_paused = true)]
async fn where_that_leaves_doubt_the_policy_for_orphans_decides() {
    let (store, runs) = (Lending::new(), Count::default());
    let service = builder(store.clone()).on_orphan(OnOrphan::Halt).build().layer(writing(&runs, 201));
    store.next_commit(StoreErrorKind::RolledBack, false);
    assert_eq!(send(&service, post("key", "body")).await.kind(), Some(RejectionKind::RolledBack));
    let halted = Some(RejectionKind::Tombstone(Tombstone::Unknown));
    assert_eq!(send(&service, post("key", "body")).await.kind(), halted);
    assert!(store.committed().is_empty());
}

#[tokio::test(start_paused = true)]
async fn where_the_end_of_the_commit_is_not_known_the_record_tells_the_retry() {
    for policy in [OnStoreFailure::Refuse, OnStoreFailure::PassThrough] {
        for takes_effect in [true, false] {
            let (store, runs) = (Lending::new(), Count::default());
            let service = builder(store.clone())
                .on_store_failure(policy)
                .lease(Duration::from_secs(30))
                .build()
                .layer(writing(&runs, 201));
            store.next_commit(StoreErrorKind::Unavailable, takes_effect);
            let answer = send(&service, post("key", "body")).await;
            assert_eq!((answer.status, answer.kind()), (503, Some(RejectionKind::NotRecorded)));
            tokio::time::advance(Duration::from_secs(31)).await;
            let retry = send(&service, post("key", "body")).await;
            let run = if takes_effect { "run 1" } else { "run 2" };
            assert_eq!((retry.brief(), retry.is_replay()), ((201, run), takes_effect));
            assert_eq!(store.committed(), [run.replace("run", "row")]);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_key_the_same_rule_decides() {
    for (status, committed) in [(201, 1), (303, 1), (404, 0), (401, 0), (500, 0)] {
        let (store, runs) = (Lending::new(), Count::default());
        let service = behind(&store, writing(&runs, status));
        assert_eq!(send(&service, post_without_key("body")).await.brief(), (status, "run 1"));
        assert_eq!(store.committed().len(), committed);
        assert_eq!(store.ends(), [if committed == 1 { "commit" } else { "roll back" }]);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_key_what_the_handler_says_of_its_response_counts_too() {
    for (disposition, end) in [
        (Disposition::Store, "commit"),
        (Disposition::Tombstone, "commit"),
        (Disposition::Release, "roll back"),
    ] {
        let store = Lending::new();
        let inner = handler(move |request| async move {
            Pen::of(&request).write("row");
            let mut answer = response(201, "");
            answer.extensions_mut().insert(disposition);
            answer
        });
        assert_eq!(send(&behind(&store, inner), post_without_key("body")).await.status, 201);
        assert_eq!(store.ends(), [end]);
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_key_a_commit_that_failed_is_no_success() {
    for (kind, rejection) in [
        (StoreErrorKind::RolledBack, RejectionKind::RolledBack),
        (StoreErrorKind::Unavailable, RejectionKind::CommitUnknown),
    ] {
        let (store, runs) = (Lending::new(), Count::default());
        store.next_commit(kind, false);
        let answer = send(&behind(&store, writing(&runs, 201)), post_without_key("body")).await;
        assert_eq!((answer.status, answer.kind()), (503, Some(rejection)));
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_key_a_client_that_leaves_takes_its_transaction_along() {
    let (store, gate) = (Lending::new(), Gate::closed());
    let door = gate.clone();
    let inner = handler(move |request| {
        let door = door.clone();
        async move {
            Pen::of(&request).write("row");
            door.pass().await;
            response(201, "done")
        }
    });
    let mut left = Box::pin(behind(&store, inner).oneshot(post_without_key("body")));
    assert!(poll(&mut left).await.is_pending());
    drop(left);
    gate.open();
    settle().await;
    assert!(store.committed().is_empty() && store.ends().is_empty());
}

#[tokio::test(start_paused = true)]
async fn with_a_key_a_client_that_leaves_does_not() {
    for (policy, committed) in [(OnDisconnect::Finish, 1), (OnDisconnect::Cancel, 0)] {
        let (store, gate) = (Lending::new(), Gate::closed());
        let door = gate.clone();
        let inner = handler(move |request| {
            let door = door.clone();
            async move {
                Pen::of(&request).write("row");
                door.pass().await;
                response(201, "done")
            }
        });
        let service = builder(store.clone()).on_disconnect(policy).build().layer(inner);
        let mut left = Box::pin(service.oneshot(post("key", "body")));
        for _ in 0..8 {
            assert!(poll(&mut left).await.is_pending());
        }
        drop(left);
        settle().await;
        gate.open();
        settle().await;
        assert_eq!(store.committed().len(), committed, "{policy:?}");
        assert_eq!(store.ends(), [if committed == 1 { "complete" } else { "roll back" }]);
    }
}

#[tokio::test(start_paused = true)]
async fn where_the_layer_passes_through_the_rule_is_that_of_requests_without_a_key() {
    for (status, end) in [(201, "commit"), (500, "roll back")] {
        let (store, runs) = (Lending::new(), Count::default());
        let service = builder(store.clone())
            .on_store_failure(OnStoreFailure::PassThrough)
            .build()
            .layer(writing(&runs, status));
        store.records.always(Verb::Claim, DOWN);
        assert_eq!(send(&service, post("key", "body")).await.status, status);
        assert_eq!(store.ends(), [end]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_response_that_cannot_be_replayed_is_committed_with_its_tombstone() {
    let store = Lending::new();
    let inner = handler(|request| async move {
        Pen::of(&request).write("row");
        response(201, vec![b'x'; 100])
    });
    let service = builder(store.clone()).max_response_bytes(10).build().layer(inner);
    assert_eq!(send(&service, post("key", "body")).await.body.len(), 100);
    let retry = send(&service, post("key", "body")).await;
    assert_eq!(retry.kind(), Some(RejectionKind::Tombstone(Tombstone::Unreplayable)));
    assert_eq!(store.committed(), ["row"]);
}

#[tokio::test(start_paused = true)]
async fn of_two_layers_the_outer_one_lends() {
    let (outer, inner_store, runs) = (Lending::new(), Lending::new(), Count::default());
    let inner = builder(inner_store.clone()).build().layer(writing(&runs, 201));
    let inner: Handler = tower::util::BoxCloneSyncService::new(inner);
    assert_eq!(send(&behind(&outer, inner), post("key", "body")).await.status, 201);
    assert_eq!((outer.committed().len(), inner_store.committed().len()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_lease_is_renewed_while_a_commit_takes_its_time() {
    let (store, runs, gate) = (Lending::new(), Count::default(), Gate::closed());
    let service = builder(store.clone()).lease(Duration::from_secs(30)).build().layer(writing(&runs, 201));
    store.records.next(Verb::Complete, [Act::Wait(gate.clone())]);
    let slow = start(&service, post("key", "body"));
    for _ in 0..10 {
        settle().await;
        tokio::time::advance(Duration::from_secs(10)).await;
    }
    assert_eq!(send(&service, post("key", "body")).await.kind(), Some(RejectionKind::InProgress));
    gate.open();
    assert_eq!(slow.await.unwrap().brief(), (201, "run 1"));
    assert_eq!(store.committed(), ["row 1"]);
}

#[tokio::test(start_paused = true)]
async fn what_the_answers_body_writes_on_its_way_is_committed_too() {
    let store = Lending::new();
    let inner = handler(|request| async move {
        let pen = Pen::of(&request);
        pen.write("head");
        let body = futures_util::stream::once(async move {
            pen.write("body");
            Ok::<_, std::io::Error>(http_body::Frame::data("done".into()))
        });
        response(201, "")
            .map(|_| http_body_util::BodyExt::boxed_unsync(http_body_util::StreamBody::new(body)))
    });
    let service = behind(&store, inner);
    assert_eq!(send(&service, post("key", "body")).await.brief(), (201, "done"));
    assert_eq!(store.committed(), ["head", "body"]);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_is_offered_to_the_requests_that_the_layer_looks_at_and_to_no_others() {
    let offered = handler(|request| async move {
        let offered = request.extensions().get::<Pen>().is_some();
        response(200, if offered { "offered" } else { "none" })
    });
    let layer = builder(Lending::new())
        .contract(Contract::ietf().key(KeySyntax::token(1..=9)))
        .when(|parts| parts.uri.path() != "/search")
        .build();
    let service = layer.layer(offered);
    for (method, uri, told) in [
        (Method::POST, "/orders", "offered"),
        (Method::PATCH, "/orders", "offered"),
        (Method::GET, "/orders", "none"),
        (Method::DELETE, "/orders", "none"),
        (Method::POST, "/search", "none"),
    ] {
        let keyed = crate::support::request(method.clone(), uri, &uri[1..4], "");
        let mut plain = crate::support::request(method.clone(), uri, "key", "");
        plain.headers_mut().clear();
        for request in [keyed, plain] {
            assert_eq!(send(&service, request).await.text(), told, "{method} {uri}");
        }
    }
}
