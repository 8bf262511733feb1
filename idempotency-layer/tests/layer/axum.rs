//! axum: nested routers, extractors and bodies.

use axum::body::{Body, to_bytes};
use axum::extract::Path;
use axum::http::{Method, Request};
use axum::response::IntoResponse;
use axum::routing::{any, post};
use axum::{Json, Router};
use idempotency_layer::{Contract, FingerprintMode, Idempotency, IdempotencyLayer, MemoryStore, Rejection};
use tower::{ServiceBuilder, ServiceExt};

use crate::support::{Count, builder, memory};

type Layer = IdempotencyLayer<std::sync::Arc<MemoryStore>>;

fn layer() -> Layer {
    builder(memory()).build()
}

fn keyed(method: Method, uri: &str, body: &'static str) -> Request<Body> {
    let request = Request::builder().method(method).uri(uri).header("idempotency-key", "key");
    request.header("content-type", "application/json").body(body.into()).unwrap()
}

/// Status, text, and whether it is a replay.
async fn ask(app: &Router, request: Request<Body>) -> (u16, String, bool) {
    let answer = app.clone().oneshot(request).await.unwrap();
    let replay = answer.headers().get("idempotent-replayed").is_some_and(|value| value == "true");
    let status = answer.status().as_u16();
    let bytes = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
    (status, String::from_utf8(bytes.to_vec()).unwrap(), replay)
}

/// Routers that all have `/{user}/charges` and the layer at different depths.
fn nested(runs: &Count) -> Vec<(&'static str, Router)> {
    let charges = |runs: &Count| {
        let runs = runs.clone();
        Router::new().route(
            "/charges",
            any(move || {
                let run = runs.one();
                async move { (axum::http::StatusCode::CREATED, format!("run {run}")) }
            }),
        )
    };
    vec![
        ("inside a nest", Router::new().nest("/{user}", charges(runs).layer(layer()))),
        ("outside a nest", Router::new().nest("/{user}", charges(runs)).layer(layer())),
        ("on the routes", Router::new().nest("/{user}", charges(runs).route_layer(layer()))),
        ("inside a merge", Router::new().nest("/{user}", Router::new().merge(charges(runs)).layer(layer()))),
        (
            "around a nested service",
            Router::new()
                .nest_service("/{user}", ServiceBuilder::new().layer(layer()).service(charges(runs))),
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn the_same_key_under_another_users_path_is_another_key_wherever_the_layer_stands() {
    for at in 0..5 {
        let runs = Count::default();
        let (place, app) = nested(&runs).swap_remove(at);
        for again in [false, true] {
            for (run, user) in ["alice", "bob"].iter().enumerate() {
                let answer = ask(&app, keyed(Method::POST, &format!("/{user}/charges"), "{}")).await;
                assert_eq!(answer, (201, format!("run {}", run + 1), again), "{place}, {user}");
            }
        }
        assert_eq!(runs.get(), 2, "{place}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_key_with_another_method_is_another_key_wherever_the_layer_stands() {
    for at in 0..5 {
        let runs = Count::default();
        let (place, app) = nested(&runs).swap_remove(at);
        for (run, method) in [Method::POST, Method::PATCH, Method::DELETE].into_iter().enumerate() {
            let answer = ask(&app, keyed(method, "/alice/charges", "{}")).await;
            assert_eq!(answer, (201, format!("run {}", run + 1), false), "{place}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn two_levels_of_nests_are_told_apart_by_the_whole_path() {
    let runs = Count::default();
    let counted = runs.clone();
    let charges = Router::new().route(
        "/charges",
        post(move |Path(path): Path<(String, String)>| {
            counted.one();
            async move { format!("{}/{}", path.0, path.1) }
        }),
    );
    let app = Router::new().nest("/{org}", Router::new().nest("/{user}", charges.layer(layer())));
    for path in ["a/b", "a/c", "b/b"] {
        let (_, text, replay) = ask(&app, keyed(Method::POST, &format!("/{path}/charges"), "{}")).await;
        assert_eq!((&*text, replay), (path, false));
    }
    assert_eq!(runs.get(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_query_of_a_nested_request_is_compared_too() {
    let runs = Count::default();
    let (_, app) = nested(&runs).swap_remove(0);
    assert_eq!(ask(&app, keyed(Method::POST, "/alice/charges?a=1", "{}")).await.0, 201);
    assert_eq!(ask(&app, keyed(Method::POST, "/alice/charges?a=2", "{}")).await.0, 422);
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_handler_extracts_its_context_or_does_without() {
    let app = Router::new()
        .route("/must", post(|idempotency: Idempotency| async move { idempotency.attempt().to_string() }))
        .route(
            "/may",
            post(|idempotency: Option<Idempotency>| async move { idempotency.is_some().to_string() }),
        )
        .layer(layer());
    let bare = |path: &str| Request::post(path).body(Body::empty()).unwrap();
    assert_eq!(ask(&app, keyed(Method::POST, "/must", "")).await.1, "1");
    assert_eq!(ask(&app, keyed(Method::POST, "/may", "")).await.1, "true");
    assert_eq!(ask(&app, bare("/may")).await.1, "false");
    assert_eq!(ask(&app, bare("/must")).await.0, 400);
}

#[tokio::test(start_paused = true)]
async fn json_in_and_out_passes_through_extractors_and_is_replayed() {
    let runs = Count::default();
    let counted = runs.clone();
    let app = Router::new().route(
        "/orders",
        post(move |Json(mut order): Json<serde_json::Value>| {
            order["id"] = counted.one().into();
            async { (axum::http::StatusCode::CREATED, [("location", "/orders/1")], Json(order)) }
        }),
    );
    let contract = Contract::veriko().fingerprint(FingerprintMode::Canonical);
    let app = app.layer(builder(memory()).contract(contract).build());
    let first = ask(&app, keyed(Method::POST, "/orders", r#"{"a":1,"b":2}"#)).await;
    assert_eq!((first.0, first.2), (201, false));
    let second = ask(&app, keyed(Method::POST, "/orders", r#"{ "b":2, "a":1 }"#)).await;
    assert_eq!((second.1, second.2), (first.1, true));
    assert_eq!(ask(&app, keyed(Method::POST, "/orders", r#"{"a":1,"b":3}"#)).await.0, 422);
    assert_eq!(runs.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_middleware_outside_the_layer_sees_the_rejection() {
    let app = Router::new().route("/orders", post(|| async {})).layer(
        ServiceBuilder::new()
            .map_response(|answer: axum::response::Response| match answer.extensions().get::<Rejection>() {
                Some(rejection) => (axum::http::StatusCode::IM_A_TEAPOT, rejection.code()).into_response(),
                None => answer,
            })
            .layer(layer()),
    );
    assert_eq!(ask(&app, keyed(Method::POST, "/orders", "")).await.0, 200);
    let other = ask(&app, keyed(Method::POST, "/orders", "other")).await;
    assert_eq!((other.0, &*other.1), (418, "idempotency_key_reused"));
}

#[tokio::test(start_paused = true)]
async fn what_no_route_answers_is_not_found_and_costs_no_key() {
    let runs = Count::default();
    let (_, app) = nested(&runs).swap_remove(2);
    assert_eq!(ask(&app, keyed(Method::POST, "/alice/nothing", "{}")).await.0, 404);
    assert_eq!(ask(&app, keyed(Method::POST, "/alice/charges", "{}")).await.0, 201);
}
