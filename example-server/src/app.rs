//! The app: every route, and the stack that stands before them.

use std::any::Any;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::{HeaderMap, StatusCode, header};
use idempotency_layer::{AnyStore, IdempotencyLayer};
use tokio::sync::Semaphore;
use tower::ServiceExt;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::sensitive_headers::SetSensitiveRequestHeadersLayer;

use crate::accounts::Accounts;
use crate::db::Database;
use crate::route::{Access, BodySize, Route};
use crate::vendor::{Caller, Vendor};
use crate::veriko::Veriko;
use crate::{auth, bodies, config, content, fault, ops, rate_limit, worker};

/// The layer of this server, once for each bound of bodies.
#[derive(Debug, Clone)]
pub(crate) struct Idempotency {
    usual: IdempotencyLayer<AnyStore>,
    large: IdempotencyLayer<AnyStore>,
    max_body_bytes: usize,
}

/// Builds the stacks of all APIs, which share their records, and remembers what is to be waited for in the end.
#[derive(Debug)]
pub(crate) struct Stacks {
    config: config::Idempotency,
    database: Database,
    records: AnyStore,
    demo: bool,
    /// How many requests with large bodies each API holds at one time.
    large_at_a_time: usize,
    layers: Vec<Idempotency>,
}

impl Stacks {
    pub(crate) fn new(
        config: config::Idempotency,
        database: Database,
        demo: bool,
        large_at_a_time: usize,
    ) -> Self {
        let records = database.records();
        Self { config, records, database, demo, large_at_a_time, layers: Vec::new() }
    }

    /// One API, behind its stack.
    pub(crate) fn stack<V: Vendor>(&mut self, vendor: V, routes: Vec<Route>) -> Stacked {
        let layer = idempotency(&vendor, &self.config, &self.records);
        self.layers.push(layer.clone());
        let accounts = Arc::new(Accounts::new(vendor, self.database.clone(), self.demo));
        stack(routes, &accounts, &layer, self.large_at_a_time)
    }

    /// Waits for the handlers whose clients went away.
    pub(crate) async fn shutdown(self) {
        for layer in self.layers {
            layer.shutdown().await;
        }
    }
}

/// One API, behind its stack.
#[derive(Debug, Clone)]
pub(crate) struct Stacked {
    pub(crate) operations: Router,
    /// What it answers where there is nothing.
    nowhere: Router,
    /// Whether a request comes with one of its keys, or with what looks like one.
    is_its: fn(&HeaderMap) -> bool,
}

/// The layer, by a vendor's contract.
fn idempotency<V: Vendor>(vendor: &V, config: &config::Idempotency, records: &AnyStore) -> Idempotency {
    let layer = |max_bytes| {
        IdempotencyLayer::builder(records.clone())
            .contract(vendor.contract().ttl(config.ttl()))
            .scope(|request| request.extensions.get::<V::User>().map(Caller::scope))
            .lease(config.lease())
            .wait(config.wait())
            .max_request_bytes(max_bytes)
            .build()
    };
    let max_body_bytes = config.max_body_bytes;
    Idempotency { usual: layer(max_body_bytes), large: layer(large(max_body_bytes)), max_body_bytes }
}

impl Idempotency {
    /// The layer for bodies of this size, and their bound.
    fn of(&self, size: BodySize) -> (IdempotencyLayer<AnyStore>, usize) {
        match size {
            BodySize::Usual => (self.usual.clone(), self.max_body_bytes),
            BodySize::Large => (self.large.clone(), large(self.max_body_bytes)),
            // The layer does not look at it, so its own bound is none.
            BodySize::Streamed(max_bytes) => (self.usual.clone(), max_bytes),
        }
    }

    /// Waits until every request whose client went away has finished.
    pub(crate) async fn shutdown(&self) {
        tokio::join!(self.usual.shutdown(), self.large.shutdown());
    }
}

fn large(usual: usize) -> usize {
    usual.max(BodySize::LARGE)
}

/// What stands before the operations of one API, from the outside in:
///
/// 1. **trace**: sees every answer, whoever made it; of all APIs, and so in [`app`];
/// 2. **request id and frame**: from here on nothing is answered unframed, the bare refusals of what follows included. Each
///    API has its own;
/// 3. **panic catch**: inside the frame, so that a 500 has one; outside the idempotency layer, which must see the panic
///    to give the key free. Once more behind 5, so that the 500 of a handler has the numbers, too;
/// 4. **auth**: an idempotency key belongs to somebody, so who it is comes first, and who is nobody costs nothing more;
/// 5. **rate limit's numbers**: outside of the record, so that a replay states the present ones;
/// 6. the **bound of bodies**, which needs no more than their announced length; no **encoded** ones; **permission**: before the record, so that
///    who lost it does not get the answer again either; and a place for the body, where bodies are large;
/// 7. **idempotency**: a replay ends here;
/// 8. **rate limit**: inside, so that a replay spends nothing;
/// 9. the **handler**, whose rows the idempotency layer commits together with the record.
///
/// Public operations are answered at 3. What is neither route nor method (404, 405) needs a key where an API answers for
/// it, as all that is there does, and stops at 5.
fn stack<V: Vendor>(
    routes: Vec<Route>,
    accounts: &Arc<Accounts<V>>,
    idempotency: &Idempotency,
    large_at_a_time: usize,
) -> Stacked {
    let places = Arc::new(Semaphore::new(large_at_a_time));
    let (mut public, mut api) = (Router::new(), Router::new());
    for mut route in routes {
        if route.access == Access::Public {
            public = route.add_to(public);
            continue;
        }
        // Added innermost first.
        let (idempotency, max_bytes) = idempotency.of(route.body);
        route.handler = route.handler.route_layer(from_fn(rate_limit::enforce::<V::User>));
        if route.idempotent {
            route.handler = route.handler.route_layer(idempotency).route_layer(from_fn(fault::after_commit));
        }
        if route.body == BodySize::Large {
            let places = Arc::clone(&places);
            route.handler = route.handler.route_layer(from_fn_with_state(places, bodies::admit));
        }
        if let Access::Permission(permission) = route.access {
            route.handler =
                route.handler.route_layer(from_fn_with_state(permission, auth::require::<V::User>));
        }
        route.handler = route
            .handler
            .route_layer(DefaultBodyLimit::max(max_bytes))
            .route_layer(from_fn(content::refuse_encoded))
            .route_layer(from_fn_with_state(max_bytes, bodies::bound));
        api = route.add_to(api);
    }
    for family in V::FAMILIES {
        for nowhere in [format!("/{family}"), format!("/{family}/"), format!("/{family}/{{*rest}}")] {
            api = api.route(&nowhere, any(not_found));
        }
    }
    let behind = |api: Router| {
        api.layer(CatchPanicLayer::custom(panicked))
            .layer(from_fn_with_state(V::NUMBERS, rate_limit::state_numbers::<V::User>))
            .layer(from_fn_with_state(Arc::clone(accounts), auth::authenticate::<V>))
    };
    let framed = |api: Router| V::frame(api.layer(CatchPanicLayer::custom(panicked)));
    let api = api.method_not_allowed_fallback(method_not_allowed);
    Stacked {
        // What is public is added behind it all, so that nothing of it stands before that.
        operations: framed(behind(api).merge(public)),
        nowhere: framed(behind(Router::new().fallback(not_found))),
        is_its: auth::has_key::<V>,
    }
}

/// Everything that is served. What belongs to no API, and what is nowhere, wears Veriko's frame, too.
///
/// `v1` is what the APIs below that prefix have; `root` is what an API has without it.
pub(crate) fn app(ops: Router, v1: Vec<Stacked>, root: Router) -> Router {
    let rest = Router::new().merge(ops).fallback(not_found).method_not_allowed_fallback(method_not_allowed);
    let operations = v1.iter().fold(Router::new(), |all, api| all.merge(api.operations.clone()));
    let apis: Arc<[Stacked]> = v1.into();
    let v1 = operations.fallback(move |request: Request| nowhere(Arc::clone(&apis), request));
    Veriko::frame(rest.layer(CatchPanicLayer::custom(panicked)))
        .merge(root)
        .nest("/v1", v1)
        .layer(from_fn(worker::wake))
        .layer(from_fn(ops::observe))
        // Before anything can look at them: whatever prints these headers prints "Sensitive".
        .layer(SetSensitiveRequestHeadersLayer::new([header::AUTHORIZATION, IDEMPOTENCY_KEY]))
}

/// Where there is nothing, the API answers whose key it is; nobody's key is refused by the first one.
async fn nowhere(apis: Arc<[Stacked]>, request: Request) -> Response {
    let whose = apis.iter().find(|api| (api.is_its)(request.headers())).or(apis.first());
    match whose.map(|api| api.nowhere.clone()) {
        Some(nowhere) => nowhere.oneshot(request).await.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

const IDEMPOTENCY_KEY: header::HeaderName = header::HeaderName::from_static("idempotency-key");

/// Answers where there is nothing: bare, as all that follows does, for the frame to put it into words.
async fn not_found() -> StatusCode {
    StatusCode::NOT_FOUND
}

/// Answers where there is something, but not this. Axum adds `Allow`.
async fn method_not_allowed() -> StatusCode {
    StatusCode::METHOD_NOT_ALLOWED
}

/// The panic hook has logged it; the client learns nothing of it. The frame is put around this further out.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

#[cfg(test)]
mod tests;
