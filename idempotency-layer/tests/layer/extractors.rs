//! Extractors of axum that fail: the error that the handler sees, and the response that its client gets.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode};
use axum::response::IntoResponse;
use axum::routing::any;
use http::HeaderName;
use idempotency_layer::{
    CoCommit, CoCommitError, Contract, Idempotency, IdempotencyLayer, NoIdempotency, OnStoreFailure,
    Rejection, RejectionKind, SqliteStore,
};
use sqlx::Sqlite;
use tower::ServiceExt;

use crate::scripted::{DOWN, Scripted, Verb};
use crate::support::{Count, builder, memory};

struct Told {
    status: u16,
    kind: Option<RejectionKind>,
    retry_after: bool,
    text: String,
}

async fn ask(app: &Router, method: Method, key: Option<&str>) -> Told {
    let mut request = Request::builder().method(method).uri("/pay");
    if let Some(key) = key {
        request = request.header("x-request-key", key);
    }
    let answer = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    let kind = answer.extensions().get().map(Rejection::kind);
    let (status, retry_after) = (answer.status().as_u16(), answer.headers().contains_key("retry-after"));
    let text = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    Told { status, kind, retry_after, text: String::from_utf8(text.to_vec()).unwrap() }
}

fn contract() -> Contract {
    Contract::txcloud().header(HeaderName::from_static("x-request-key")).methods(&[Method::POST])
}

async fn pay(_: Idempotency) -> &'static str {
    "paid"
}

fn app() -> Router {
    Router::new().route("/pay", any(pay))
}

const KEY: Option<&str> = Some("0123456789");

#[tokio::test(start_paused = true)]
async fn without_a_key_the_client_is_told_by_the_contract_which_header_is_missing() {
    let told = ask(&app().layer(builder(memory()).contract(contract()).build()), Method::POST, None).await;
    assert_eq!((told.status, told.kind), (400, Some(RejectionKind::KeyMissing)));
    let json: serde_json::Value = serde_json::from_str(&told.text).unwrap();
    assert_eq!(json["error"]["code"], "idempotency_key_missing");
    assert_eq!(json["error"]["message"], "This operation needs the header X-Request-Key.");
}

#[tokio::test(start_paused = true)]
async fn where_the_store_was_passed_through_the_client_is_told_to_try_again() {
    let store = Scripted::new();
    store.always(Verb::Claim, DOWN);
    let layer = builder(store).contract(contract()).on_store_failure(OnStoreFailure::PassThrough).build();
    let told = ask(&app().layer(layer), Method::POST, KEY).await;
    assert_eq!((told.status, told.kind), (503, Some(RejectionKind::StoreUnavailable)));
    assert!(told.retry_after && told.text.contains("idempotency_unavailable"), "{}", told.text);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_the_layer_leaves_out_is_a_mistake_of_the_developer() {
    let by_method = builder(memory()).contract(contract()).build();
    let by_when = builder(memory()).contract(contract()).when(|_| false).build();
    for (layer, method) in [(by_method, Method::PUT), (by_when, Method::POST)] {
        let told = ask(&app().layer(layer), method, KEY).await;
        assert_eq!((told.status, told.kind), (500, Some(RejectionKind::Misconfigured)));
        assert!(
            told.text.contains("Contract::methods") && told.text.contains("internal_error"),
            "{}",
            told.text
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_without_a_layer_is_a_mistake_of_the_developer_whatever_the_client_sent() {
    for key in [None, KEY] {
        let told = ask(&app(), Method::POST, key).await;
        assert_eq!((told.status, told.kind), (500, Some(RejectionKind::Misconfigured)));
        assert!(told.text.contains("no `IdempotencyLayer` is around its route"), "{}", told.text);
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_layers_the_one_that_the_request_concerns_answers() {
    let elsewhere = builder(memory()).contract(contract()).when(|_| false).build();
    let app = app().layer(elsewhere).layer(builder(memory()).contract(contract()).build());
    let told = ask(&app, Method::POST, None).await;
    assert_eq!((told.status, told.kind), (400, Some(RejectionKind::KeyMissing)));
    assert_eq!(ask(&app, Method::POST, KEY).await.text, "paid");
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_answers_by_itself_is_left_alone() {
    let answer = |result: Result<Idempotency, NoIdempotency>| async move {
        result.map_or_else(
            |why| (StatusCode::IM_A_TEAPOT, why.to_string()).into_response(),
            |_| "".into_response(),
        )
    };
    let app = Router::new().route("/pay", any(answer));
    let told = ask(&app.layer(builder(memory()).contract(contract()).build()), Method::POST, None).await;
    assert_eq!((told.status, told.kind), (418, None));
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_no_store_lends_is_a_mistake_that_says_which_store_is_missing() {
    let app = || Router::new().route("/pay", any(|_: CoCommit<Sqlite>| async { "paid" }));
    let layered = app().layer(builder(memory()).contract(contract()).build());
    let around = "no `IdempotencyLayer` with a store of SQLite is around its route";
    for (app, key, missing) in [
        (app(), None, around),
        (layered.clone(), None, around),
        (layered, KEY, "the store of the `IdempotencyLayer` around its route is no store of SQLite"),
    ] {
        let told = ask(&app, Method::POST, key).await;
        assert_eq!((told.status, told.kind), (500, Some(RejectionKind::Misconfigured)));
        assert!(told.text.contains(missing), "{}", told.text);
    }
}

async fn file() -> (tempfile::TempDir, IdempotencyLayer<SqliteStore>) {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("records.db").display());
    let store = SqliteStore::open(&url).await.unwrap();
    (folder, builder(store).contract(contract()).build())
}

#[tokio::test]
async fn a_database_that_fails_is_503_by_the_contract_and_the_retry_runs() {
    for key in [KEY, None] {
        let (_folder, layer) = file().await;
        let runs = Count::default();
        let counted = runs.clone();
        let pay = move |_: CoCommit<Sqlite>| {
            let run = counted.one();
            async move { if run == 1 { Err(CoCommitError::from(sqlx::Error::PoolTimedOut)) } else { Ok("paid") } }
        };
        let app = Router::new().route("/pay", any(pay)).layer(layer);
        let told = ask(&app, Method::POST, key).await;
        assert_eq!((told.status, told.kind), (503, Some(RejectionKind::RolledBack)));
        assert!(told.retry_after && told.text.contains(r#""code":"rolled_back""#), "{}", told.text);
        let told = ask(&app, Method::POST, key).await;
        assert_eq!((told.status, &*told.text, runs.get()), (200, "paid", 2));
    }
}

#[tokio::test]
async fn a_transaction_used_twice_at_a_time_is_a_mistake_of_the_developer() {
    for key in [KEY, None] {
        let (_folder, layer) = file().await;
        let pay = |co_commit: CoCommit<Sqlite>| async move {
            let _first = co_commit.begin().await?;
            co_commit.begin().await?;
            Ok::<_, CoCommitError>("paid")
        };
        let told = ask(&Router::new().route("/pay", any(pay)).layer(layer), Method::POST, key).await;
        assert_eq!((told.status, told.kind), (500, Some(RejectionKind::Misconfigured)));
        assert!(told.text.contains("in use already"), "{}", told.text);
    }
}
