//! No `Debug` or `Display` shows a key, a scope or a body.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{HeaderName, Method};
use idempotency_layer::{
    AnyStore, Checkpoint, Claim, ClaimRequest, ClaimToken, Contract, Fingerprint, Idempotency, OnOrphan,
    Outcome, Reconciled, RecordId, Scope, Store, StoreError,
};
use tokio::time::advance;
use tower::{Layer, Service, ServiceExt};

use crate::support::{
    Count, Gate, Req, builder, counting, die_during, gated, handler, memory, post, request, response, send,
    with,
};

pub(crate) const KEY: &str = "kunde-meier-zahlt-99";
pub(crate) const TENANT: &str = "sk_live_mandant";
pub(crate) const BODY: &str = "kartennummer-4242";
pub(crate) const ANSWER: &str = "geheime-antwort";

/// Returns whether a text contains a secret, as text or as the numbers of its bytes.
pub(crate) fn tells(text: &str) -> Option<&'static str> {
    [KEY, TENANT, BODY, ANSWER].into_iter().find(|secret| {
        let bytes = format!("{:?}", secret.as_bytes());
        text.contains(secret) || text.contains(bytes.trim_matches(['[', ']']))
    })
}

#[track_caller]
fn shows_nothing(what: &str, value: &dyn Debug) {
    for text in [format!("{value:?}"), format!("{value:#?}")] {
        assert_eq!(tells(&text), None, "{what}: {text}");
    }
}

pub(crate) fn secret() -> Req {
    with(post(KEY, BODY), "x-tenant", TENANT)
}

#[tokio::test(start_paused = true)]
async fn what_the_layer_is_made_of_shows_no_secret() {
    let store = memory();
    let layer = builder(store.clone()).contract(Contract::mintfax()).build();
    let mut service =
        layer.layer(tower::service_fn(|_: Req| async { Ok::<_, std::io::Error>(response(200, ANSWER)) }));
    let future = service.ready().await.unwrap().call(secret());
    shows_nothing("ResponseFuture", &future);
    let answer = future.await.unwrap();
    shows_nothing("the headers of an answer, the echo among them", &answer.headers());
    shows_nothing("IdempotencyLayer", &layer);
    shows_nothing("MemoryStore", &store);
    shows_nothing("MemoryStats", &store.stats());
    shows_nothing("AnyStore", &AnyStore::new(store));
    shows_nothing("Builder", &builder(memory()));
    shows_nothing("Scope", &Scope::of(TENANT).and(KEY));
    shows_nothing("StoreError", &StoreError::full());
}

#[tokio::test(start_paused = true)]
async fn what_the_handler_is_given_shows_no_secret() {
    let service = builder(memory()).build().layer(handler(|request: Req| async move {
        let idempotency = request.extensions().get::<Idempotency>().unwrap();
        shows_nothing("Idempotency", idempotency);
        shows_nothing("Key", idempotency.key());
        shows_nothing("Extensions", request.extensions());
        response(201, ANSWER)
    }));
    assert_eq!(send(&service, secret()).await.status, 201);
}

#[tokio::test(start_paused = true)]
async fn what_a_reconciling_function_is_given_shows_no_secret() {
    let store = memory();
    die_during(&builder(store.clone()).build().layer(gated(&Count::default(), &Gate::closed())), secret())
        .await;
    advance(Duration::from_secs(30)).await;
    let shown = Arc::new(Mutex::new(String::new()));
    let show = shown.clone();
    let policy = OnOrphan::reconcile(move |orphan| {
        *show.lock().unwrap() = format!("{orphan:?}");
        async { Reconciled::Rerun }
    });
    shows_nothing("OnOrphan", &policy);
    let service = builder(store).on_orphan(policy).build().layer(counting(&Count::default()));
    // The layer hides the header of the key only.
    assert_eq!(send(&service, secret()).await.status, 201);
    let shown = shown.lock().unwrap();
    assert!(shown.contains("Orphan") && !shown.contains(KEY), "{shown}");
}

/// A store that prints its arguments, as a store that logs its statements would.
#[derive(Clone)]
struct Showing(Arc<idempotency_layer::MemoryStore>);

impl Store for Showing {
    async fn claim(&self, request: ClaimRequest) -> Result<Claim, StoreError> {
        shows_nothing("ClaimRequest", &request);
        let claim = self.0.claim(request).await;
        shows_nothing("Claim", &claim);
        claim
    }

    async fn complete(
        &self,
        record: RecordId,
        fence: idempotency_layer::Fence,
        outcome: Outcome,
    ) -> Result<idempotency_layer::Fenced, StoreError> {
        shows_nothing("Outcome", &outcome);
        if let Outcome::Response(stored) = &outcome {
            shows_nothing("StoredResponse", stored);
            let held = stored.as_bytes();
            assert!(
                !held.windows(KEY.len()).any(|bytes| bytes == KEY.as_bytes()),
                "the key reaches no store"
            );
        }
        shows_nothing("RecordId", &record);
        assert!(!format!("{:?}", record.as_bytes()).contains(&format!("{:?}", KEY.as_bytes())));
        self.0.complete(record, fence, outcome).await
    }

    async fn release(
        &self,
        record: RecordId,
        fence: idempotency_layer::Fence,
    ) -> Result<idempotency_layer::Fenced, StoreError> {
        self.0.release(record, fence).await
    }

    async fn extend(
        &self,
        record: RecordId,
        fence: idempotency_layer::Fence,
        lease: Duration,
    ) -> Result<idempotency_layer::Fenced, StoreError> {
        self.0.extend(record, fence, lease).await
    }

    async fn checkpoint(
        &self,
        record: RecordId,
        fence: idempotency_layer::Fence,
        checkpoint: Checkpoint,
    ) -> Result<idempotency_layer::Fenced, StoreError> {
        self.0.checkpoint(record, fence, checkpoint).await
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_store_is_given_shows_no_secret_and_holds_no_key() {
    let contract = Contract::veriko().echo(HeaderName::from_static("x-echo"));
    let service = builder(Showing(memory()))
        .contract(contract)
        .build()
        .layer(handler(|_| async { response(200, ANSWER) }));
    for _ in 0..2 {
        assert_eq!(send(&service, secret()).await.text(), ANSWER);
    }
}

#[tokio::test(start_paused = true)]
async fn a_rejection_shows_no_secret_in_any_of_its_forms() {
    let service = builder(memory()).build().layer(counting(&Count::default()));
    send(&service, secret()).await;
    let others = [
        with(post(KEY, "other"), "x-tenant", TENANT),
        with(post(&format!("{KEY} {TENANT}"), BODY), "x-tenant", TENANT),
        with(request(Method::POST, "/orders", KEY, BODY), "idempotency-key", KEY),
    ];
    for request in others {
        let answer = send(&service, request).await;
        assert!((400..500).contains(&answer.status));
        shows_nothing("Answer", &answer);
        assert_eq!(tells(&answer.rejection.unwrap().to_string()), None);
        assert_eq!(tells(std::str::from_utf8(&answer.body).unwrap()), None);
    }
}

#[tokio::test(start_paused = true)]
async fn names_and_fingerprints_of_records_show_their_first_bytes_only() {
    let record = RecordId::from_bytes([0xab; 32]);
    assert_eq!(format!("{record:?}"), "abababab…");
    assert!(format!("{:?}", Fingerprint::from_bytes([0xab; 33])).len() < 30);
    assert!(format!("{:?}", ClaimToken::new()).contains("ClaimToken"));
}
