//! The middleware stack of an API.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any};
use axum::{Extension, Router};
use http::{HeaderMap, StatusCode};
use idempotency_layer::{
    AnyStore, Builder, IdempotencyLayer, Layered, PostgresStore, Scoped, SqliteStore, Store,
};
use retry_scheduler::WorkerHandle;
use tower_http::catch_panic::CatchPanicLayer;

use crate::accounts::Accounts;
use crate::bodies::{Admission, Room};
use crate::db::{Database, Records};
use crate::kept_keys::KeptKeys;
use crate::places::Places;
use crate::rate_limit::{Claims, RecordOf};
use crate::route::{Access, BodySize, Route};
use crate::state::Platform;
use crate::turns::Turns;
use crate::vendor::{Caller, Vendor};
use crate::{auth, bodies, config, content, failpoint, ops, rate_limit, turns};

/// The idempotency layers of one API, by the kind of claim and by the body limit.
#[derive(Debug, Clone)]
struct Idempotency {
    usual: IdempotencyLayer<AnyStore>,
    large: IdempotencyLayer<AnyStore>,
    in_transaction: InTransaction,
    max_body_bytes: usize,
}

/// The layer that claims a key in the handler's transaction.
#[derive(Debug, Clone)]
enum InTransaction {
    Sqlite(IdempotencyLayer<Arc<Layered<SqliteStore>>>),
    Postgres(IdempotencyLayer<Arc<Layered<PostgresStore>>>),
    /// Claims are leased instead, because no operation needs such claims, the records are in
    /// another store, or they expire too soon.
    Leased(IdempotencyLayer<AnyStore>),
}

/// Builds the stacks of all APIs, which share their records. Keeps the layers, to wait for their
/// requests at shutdown.
#[derive(Debug)]
pub struct ApiBuilder {
    config: config::Idempotency,
    database: Database,
    records: Records,
    worker: WorkerHandle,
    demo: bool,
    /// Maximum concurrent requests with large bodies, for each API.
    large_at_a_time: usize,
    kept_keys: Arc<KeptKeys>,
    /// Limits the open transactions of an account's requests, across all APIs.
    transactions: Arc<Places<String>>,
    layers: Vec<Idempotency>,
}

impl ApiBuilder {
    /// Creates a builder that keeps the idempotency records in the platform's database.
    pub fn new(config: config::Idempotency, limits: &config::Limits, platform: &Platform) -> Self {
        let records = platform.database.records();
        Self::with_records(config, limits, platform, records)
    }

    /// Creates a builder that keeps the idempotency records in `records`.
    pub fn with_records(
        config: config::Idempotency,
        limits: &config::Limits,
        platform: &Platform,
        records: Records,
    ) -> Self {
        let Platform { database, worker, demo, .. } = platform.clone();
        let large_at_a_time = limits.large_bodies.get();
        let kept_keys = Arc::new(KeptKeys::new(limits.keys_per_account, config.ttl()));
        // No limit in total, because the database connections limit it already.
        let transactions = Places::new(u64::MAX, limits.transactions_per_account.get());
        let layers = Vec::new();
        Self { config, database, records, worker, demo, large_at_a_time, kept_keys, transactions, layers }
    }

    /// Builds the stack of one API.
    pub fn build<V: Vendor>(&mut self, vendor: V, routes: Vec<Route>) -> BuiltApi {
        let is_needed = routes.iter().any(|route| route.in_transaction);
        let layer = idempotency(&vendor, &self.config, &self.records, is_needed);
        self.layers.push(layer.clone());
        let accounts = Arc::new(Accounts::new(vendor, self.database.clone(), self.demo));
        self.stack(routes, &accounts, &layer)
    }

    /// Waits for the handlers whose clients have disconnected.
    pub async fn shutdown(&self) {
        for layer in &self.layers {
            layer.shutdown().await;
        }
    }

    /// Builds the middleware stack of one API. From the outside in:
    ///
    /// 1. **Trace**: logs every response. All APIs share it, so it is in the router of the program.
    /// 2. **Request id and envelope**: every response has them, including the refusals further in.
    /// 3. **Panic handler**: inside the envelope, so that a 500 has one. It is outside the idempotency
    ///    layer, which must see the panic to release the key. A second one is inside 5, so that a
    ///    handler's 500 has rate limit headers, too.
    /// 4. **Check of the database file**, which may have been moved, and **authentication**: the
    ///    scope of an idempotency key needs the caller, and an unauthenticated request must not use
    ///    further resources.
    /// 5. **Rate limit headers**: outside the idempotency layer, so that a replay has current ones.
    ///    **Limit of requests of any kind**: a caller far over its rate takes no place and writes no
    ///    row.
    /// 6. **Body limit**, which checks `Content-Length` only; **refusal of encoded bodies**;
    ///    **permission**: outside the idempotency layer, so that a caller without the permission gets
    ///    no replay either; **early refusal** of a request that 8 would refuse, so that nothing is
    ///    written for it; **capacity for the body**, of which each account has a share; and the
    ///    account's **turn** for a transaction. A request waits for its turn here if the claim is part
    ///    of the transaction, or else when the handler begins one.
    /// 7. **Idempotency**: a replay ends here.
    /// 8. **Key count** and **rate limit**: inside the idempotency layer, so that a replay takes
    ///    nothing from the bucket.
    /// 9. **Handler**: the idempotency layer commits its rows together with the record.
    ///
    /// Public operations are inside 3 only. Requests with an unknown path or method (404, 405) go through 5
    /// if their path belongs to the API, so they need a key like any other request.
    fn stack<V: Vendor>(
        &self,
        routes: Vec<Route>,
        accounts: &Arc<Accounts<V>>,
        idempotency: &Idempotency,
    ) -> BuiltApi {
        let room = Room::new(self.large_at_a_time);
        let (mut public, mut api) = (Router::new(), Router::new());
        for mut route in routes {
            if route.access == Access::Public {
                public = route.add_to(public);
                continue;
            }
            // Layers are added from the inside out.
            let handler = route.handler.clone().route_layer(from_fn(rate_limit::enforce::<V::User>));
            let counted = from_fn_with_state(Arc::clone(&self.kept_keys), rate_limit::keep_key::<V::User>);
            let handler = if route.idempotent { handler.route_layer(counted) } else { handler };
            let (handler, max_bytes) = idempotency.before(&route, handler);
            route.handler = handler;
            if route.idempotent {
                let turns = Turns {
                    places: Arc::clone(&self.transactions),
                    at_once: route.in_transaction,
                    max_bytes,
                };
                route.handler = route
                    .handler
                    .route_layer(from_fn(failpoint::after_commit))
                    .route_layer(from_fn_with_state(turns, turns::queue::<V::User>));
            }
            let admission = (room.clone(), Admission { size: route.body, max_bytes });
            route.handler =
                route.handler.route_layer(from_fn_with_state(admission, bodies::admit::<V::User>));
            if route.idempotent {
                let claims = Claims {
                    record_of: idempotency.record_of(&route),
                    records: self.records.clone(),
                    kept_keys: Arc::clone(&self.kept_keys),
                };
                route.handler = route
                    .handler
                    .route_layer(from_fn_with_state(claims, rate_limit::refuse_unclaimed::<V::User>));
            }
            if let Access::Permission(permission) = route.access {
                route.handler =
                    route.handler.route_layer(from_fn_with_state(permission, auth::require::<V::User>));
            }
            route.handler = route
                .handler
                .route_layer(Extension(self.worker.clone()))
                .route_layer(DefaultBodyLimit::max(max_bytes))
                .route_layer(from_fn(content::refuse_encoded))
                .route_layer(from_fn_with_state(max_bytes, bodies::limit_content_length));
            api = route.add_to(api);
        }
        for family in V::PATH_PREFIXES {
            for path in [format!("/{family}"), format!("/{family}/"), format!("/{family}/{{*rest}}")] {
                api = api.route(&path, any(not_found));
            }
        }
        let behind = |api: Router| {
            api.layer(CatchPanicLayer::custom(panicked))
                .layer(from_fn(rate_limit::arrive::<V::User>))
                .layer(from_fn_with_state(V::RATE_LIMIT_HEADERS, rate_limit::write_headers::<V::User>))
                .layer(from_fn_with_state(Arc::clone(accounts), auth::authenticate::<V>))
                .layer(from_fn_with_state(self.database.clone(), ops::refuse_if_moved))
        };
        let enveloped = |api: Router| V::apply_envelope(api.layer(CatchPanicLayer::custom(panicked)));
        let api = api.method_not_allowed_fallback(method_not_allowed);
        BuiltApi {
            // Public operations are merged after the layers, so that the layers do not apply to them.
            operations: enveloped(behind(api).merge(public)),
            fallback: enveloped(behind(Router::new().fallback(not_found))),
            at_root: V::AT_ROOT,
            matches_key: auth::has_key::<V>,
            apply_envelope: |router| V::apply_envelope(router.layer(CatchPanicLayer::custom(panicked))),
        }
    }
}

/// One API with its middleware stack.
#[derive(Debug, Clone)]
pub struct BuiltApi {
    pub operations: Router,
    /// Responds to unknown paths.
    pub fallback: Router,
    /// Whether its operations are also served without `/v1`.
    pub at_root: bool,
    /// Returns whether a request has a key in the format of this API.
    pub matches_key: fn(&HeaderMap) -> bool,
    /// Puts every response of a router into the API's envelope.
    pub apply_envelope: fn(Router) -> Router,
}

/// Builds the layers of a vendor's API.
fn idempotency<V: Vendor>(
    vendor: &V,
    config: &config::Idempotency,
    records: &Records,
    in_transaction: bool,
) -> Idempotency {
    let max_body_bytes = config.max_body_bytes;
    let leased = |max_bytes| match records.clone() {
        Records::Sqlite(store) => settings(vendor, config, AnyStore::new(store), max_bytes).build(),
        Records::Postgres(store) => settings(vendor, config, AnyStore::new(store), max_bytes).build(),
        Records::Elsewhere(store) => settings(vendor, config, store, max_bytes).build(),
    };
    // A record must not expire before the transaction that creates it ends.
    let is_kept = in_transaction && config.ttl() > TRANSACTION_TIME;
    let in_transaction = match records.clone() {
        Records::Sqlite(store) if is_kept => InTransaction::Sqlite(
            settings(vendor, config, store, max_body_bytes)
                .claim_in_transaction()
                .transaction_time(TRANSACTION_TIME)
                .build(),
        ),
        Records::Postgres(store) if is_kept => InTransaction::Postgres(
            settings(vendor, config, store, max_body_bytes)
                .claim_in_transaction()
                .transaction_time(TRANSACTION_TIME)
                .build(),
        ),
        _ => InTransaction::Leased(leased(max_body_bytes)),
    };
    Idempotency {
        usual: leased(max_body_bytes),
        large: leased(large(max_body_bytes)),
        in_transaction,
        max_body_bytes,
    }
}

/// Returns a builder with the settings that all layers share.
fn settings<V: Vendor, St: Store>(
    vendor: &V,
    config: &config::Idempotency,
    store: St,
    max_bytes: usize,
) -> Builder<St, Scoped> {
    IdempotencyLayer::builder(store)
        .contract(vendor.contract().ttl(config.ttl()))
        .scope(|request| request.extensions.get::<V::User>().map(Caller::scope))
        .lease(config.lease())
        .wait(config.wait())
        .max_request_bytes(max_bytes)
}

/// The time-out of a handler whose claim is part of its transaction. It uses the database only.
const TRANSACTION_TIME: Duration = Duration::from_secs(5);

impl Idempotency {
    /// Adds the layer to a handler if the route accepts idempotency keys. Also returns the body
    /// limit.
    fn before(&self, route: &Route, handler: MethodRouter) -> (MethodRouter, usize) {
        let (layer, max_bytes) = match route.body {
            BodySize::Usual => (&self.usual, self.max_body_bytes),
            BodySize::Large => (&self.large, large(self.max_body_bytes)),
            // The layer does not read such a body, so its own limit does not apply.
            BodySize::Streamed(max_bytes) => (&self.usual, max_bytes),
        };
        let handler = match &self.in_transaction {
            _ if !route.idempotent => handler,
            _ if !route.in_transaction => handler.route_layer(layer.clone()),
            InTransaction::Sqlite(layer) => handler.route_layer(layer.clone()),
            InTransaction::Postgres(layer) => handler.route_layer(layer.clone()),
            InTransaction::Leased(layer) => handler.route_layer(layer.clone()),
        };
        (handler, max_bytes)
    }

    /// Returns a function that gives the record that a request to this route would claim. It uses the layer
    /// that claims it.
    fn record_of(&self, route: &Route) -> RecordOf {
        let leased = match route.body {
            BodySize::Large => self.large.clone(),
            BodySize::Usual | BodySize::Streamed(_) => self.usual.clone(),
        };
        match self.in_transaction.clone() {
            _ if !route.in_transaction => Arc::new(move |head| leased.record_of(head)),
            InTransaction::Sqlite(layer) => Arc::new(move |head| layer.record_of(head)),
            InTransaction::Postgres(layer) => Arc::new(move |head| layer.record_of(head)),
            InTransaction::Leased(layer) => Arc::new(move |head| layer.record_of(head)),
        }
    }

    /// Waits until every request whose client has disconnected has finished.
    async fn shutdown(&self) {
        let in_transaction = async {
            match &self.in_transaction {
                InTransaction::Sqlite(layer) => layer.shutdown().await,
                InTransaction::Postgres(layer) => layer.shutdown().await,
                InTransaction::Leased(layer) => layer.shutdown().await,
            }
        };
        tokio::join!(self.usual.shutdown(), self.large.shutdown(), in_transaction);
    }
}

fn large(usual: usize) -> usize {
    usual.max(BodySize::LARGE)
}

/// Responds with 404 to an unknown path. The envelope adds the API's error body.
pub async fn not_found() -> StatusCode {
    StatusCode::NOT_FOUND
}

/// Responds with 405 to an unknown method of a known path. axum adds `Allow`.
pub async fn method_not_allowed() -> StatusCode {
    StatusCode::METHOD_NOT_ALLOWED
}

/// Responds with 500 to a panic. The panic hook has logged it, and the response does not describe
/// it. The envelope adds the API's error body.
fn panicked(_: Box<dyn Any + Send>) -> Response {
    StatusCode::INTERNAL_SERVER_ERROR.into_response()
}

#[cfg(test)]
mod tests;
