//! A [Tower](tower_layer) layer for the `Idempotency-Key` header: a retried request happens once.
//!
//! A client that receives no response cannot know whether its request was carried out. It sends the
//! request again with the same key. This layer runs the handler once and answers every retry with
//! the response of that run, byte for byte. It works with axum, hyper and tonic: it wraps any
//! service from `http::Request<B>` to `http::Response<R>`.
//!
//! With a PostgreSQL or SQLite store, a handler can also write its own rows in the transaction that
//! stores the response. Rows and response are then committed together, or not at all.
//!
//! # Example
//!
#![cfg_attr(feature = "axum", doc = "```")]
#![cfg_attr(not(feature = "axum"), doc = "```ignore")]
//! use axum::{Router, routing::post};
//! use idempotency_layer::{IdempotencyLayer, MemoryStore, Scope};
//!
//! #[derive(Clone)]
//! struct Account(String); // put into the extensions by your authentication
//!
//! async fn pay() -> &'static str {
//!     "paid"
//! }
//!
//! # fn main() {
//! let idempotency = IdempotencyLayer::builder(MemoryStore::default())
//!     .scope(|parts| parts.extensions.get::<Account>().map(|account| Scope::of(&account.0)))
//!     .build();
//!
//! let app: Router = Router::new().route("/payments", post(pay)).route_layer(idempotency);
//! # }
//! ```
//!
//! The scope is the principal that a key belongs to. It has no default: without one, `build` is not
//! available. The layer reads keys on the methods of its contract, which are POST and PATCH here.
//! Use [`Contract::methods`] to change that.
//!
//! Add the layer inside authentication, because it needs the principal, and outside rate limits and
//! quotas, because a replay should not spend them. See [Order of layers](#order-of-layers).
//!
//! # Co-commit: rows and response in one transaction
//!
//! [`PostgresStore`] and [`SqliteStore`] offer each handler a transaction of their database, a
//! [`CoCommit`]. **It commits on success.** The handler's rows are committed together with the
//! stored response if that is a 2xx or 3xx. On any other response they are rolled back. If the
//! contract stores that response, such as a 409, it is stored alone.
//!
#![cfg_attr(all(feature = "axum", feature = "sqlite"), doc = "```")]
#![cfg_attr(not(all(feature = "axum", feature = "sqlite")), doc = "```ignore")]
//! use axum::http::StatusCode;
//! use idempotency_layer::CoCommit;
//! use sqlx::Sqlite;
//!
//! async fn pay(co_commit: CoCommit<Sqlite>) -> Result<StatusCode, StatusCode> {
//!     let unavailable = |_| StatusCode::SERVICE_UNAVAILABLE;
//!     let mut transaction = co_commit.begin().await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
//!     sqlx::query("INSERT INTO payments (amount) VALUES (1200)")
//!         .execute(&mut *transaction)
//!         .await
//!         .map_err(unavailable)?;
//!     let balance: i64 = sqlx::query_scalar("SELECT balance FROM accounts")
//!         .fetch_one(&mut *transaction)
//!         .await
//!         .map_err(unavailable)?;
//!     if balance < 1200 {
//!         return Err(StatusCode::CONFLICT); // the payment is rolled back; retries get the 409
//!     }
//!     Ok(StatusCode::CREATED) // committed together with the payment
//! }
//! ```
//!
//! [`Builder::commits`] changes which responses commit, and [`CoCommit`] describes the handler's
//! side. A complete program is in `examples/orders.rs`.
//!
//! # What it promises, and where that ends
//!
//! Four tables state the promises: for rows written through [`CoCommit`], for every other effect of
//! a handler, for claims in the transaction, and for the cost. They hold as long as the store keeps
//! its records.
//!
//! ## Rows written through `CoCommit`
//!
//! This table holds for leased claims and for claims in the transaction.
//!
//! | what happens | rows | a retry gets |
//! |---|---|---|
//! | the handler answers 2xx or 3xx | committed with the response | that response |
//! | the handler answers a 4xx that is stored | rolled back | that response |
//! | the same, after `CoCommit::keep_on_error` | committed with the response | that response |
//! | the handler answers a 5xx, or another response that is not stored | rolled back | a new run |
//! | the handler panics, or the service fails | rolled back | what [`Builder::on_orphan`] says |
//! | a 2xx cannot be replayed: it is too large, or a stream | committed | 409: cannot be repeated |
//! | a statement failed, and the handler answers 2xx nevertheless (PostgreSQL) | rolled back; 503 | a new run |
//! | a savepoint of `OpenTransaction::begin` is dropped half way, and the handler answers 2xx nevertheless | rolled back; 503 | a new run |
//! | the commit fails, for example on a deferred constraint | rolled back; 503 | a new run |
//! | a task still holds the `OpenTransaction` after the response | rolled back; 503 | a new run |
//! | the handler's SQL ends the transaction (SQLite) | rolled back; 503 | a new run |
//! | another handler that shares the commit ends the transaction, or the shared commit fails (SQLite) | rolled back; 503 | a new run |
//! | the handler's SQL ends the transaction (PostgreSQL) | unknown; 503 | what [`Builder::on_orphan`] says |
//! | the process or the database dies before the commit | none | a new run |
//! | the process or the database dies after the commit | committed | the response |
//! | the answer to COMMIT is lost | as the record says; 503 if it cannot be read | as the record says |
//! | a run loses its lease and goes on | rolled back with its response | the other run's response |
//! | the client disconnects, [`OnDisconnect::Finish`] (default) | as if it had stayed | the response |
//! | the client disconnects, [`OnDisconnect::Cancel`] | rolled back | a new run |
//! | a request without a key | the same rules decide | a new run: it is another request |
//! | [`OnStoreFailure::PassThrough`], and the store is not reached | as without a key | as without a key |
//!
//! "A new run" after a 503 assumes [`OnOrphan::Rerun`], the default. Under [`OnOrphan::Halt`] a
//! leased run that was rolled back is not run again.
//!
//! The transaction is offered to the requests that the layer looks at: those of the contract's
//! methods for which [`Builder::when`] holds, with or without a key. All other requests, such as a
//! GET, pass untouched and find no [`CoCommit`].
//!
//! ## Any other effect
//!
//! "Once" means that the handler runs once. "Again" means that a retry runs the handler again, so
//! that its effects happen **at least once**.
//!
//! | what happens | [`OnOrphan::Rerun`] (default) | [`OnOrphan::Halt`] | [`OnOrphan::Reconcile`] |
//! |---|---|---|---|
//! | the same request again, or many at a time | once | once | once |
//! | the client disconnects, [`OnDisconnect::Finish`] (default) | once | once | once |
//! | the client disconnects, [`OnDisconnect::Cancel`] | again | again | again |
//! | the response is not stored: a 503, or gRPC's `UNAVAILABLE` | again | again | again |
//! | the upload breaks off while the handler reads it ([`FingerprintMode::None`]) | again | again | again |
//! | the response is too large to store, or a stream | once, retries get 409 | once, retries get 409 | once, retries get 409 |
//! | a gRPC request is a stream | as without the layer | as without the layer | as without the layer |
//! | the handler panics, or the service fails | again | retries get 409: unknown | the function decides |
//! | the process dies while the handler runs, and the store does not | again, after the lease | retries get 409: unknown | the function decides |
//! | a run loses its lease and goes on, in a process that stood still | again; the first response is refused | 409: unknown | the function decides |
//! | the store is not reached before the run | not run, 503; a claim that took effect is given back | the same | the same |
//! | the service behind the layer fails while it becomes ready | not run, its error | the same | the same |
//! | [`Builder::max_detached`] requests run without their clients (leased claims) | not run, 503 | not run, 503 | not run, 503 |
//! | the store is not reached after the run | 503, then as if the process died | the same | the same |
//! | [`OnStoreFailure::PassThrough`], and the store is not reached | as without the layer | as without the layer | as without the layer |
//! | the store is full, or cannot read the record | not run, 503 | not run, 503 | not run, 503 |
//! | [`MemoryStore`]: the process ends, or a record is [evicted early](MemoryStats::evicted_early) | again | again | again |
//!
//! For effects outside the store's database, [`Idempotency`] gives the handler a [derived
//! key](Idempotency::derive) for the next service, and [checkpoints](Idempotency::checkpoint) that
//! the next attempt finds.
//!
//! ## Claims in the transaction
//!
//! By default a claim is *leased*: it is committed before the handler runs, and renewed while it
//! runs. That suits handlers that call other services. With [`Builder::claim_in_transaction`] the
//! handler's transaction *is* the claim, which suits handlers that only write to the database.
//!
//! | what happens | leased claim | claim in the transaction |
//! |---|---|---|
//! | the process dies while the handler runs | retries get 409 until the lease ends, then [`Builder::on_orphan`] decides | nothing is left; a retry runs at once, or within about a second if the server was inside a statement |
//! | the response is not stored | the claim is released; a retry runs | nothing is left; a retry runs |
//! | the handler panics, or the service fails | [`Builder::on_orphan`] decides | nothing is left; a retry runs |
//! | the handler takes long | the lease is renewed | after [`Builder::transaction_time`] it is dropped and rolled back: 503 |
//! | many handlers run at a time | each holds a connection from its `begin` | each holds a connection; at most three quarters of the pool's |
//! | [`Builder::max_detached`] requests run without their clients | new keyed requests get 503 | new requests run; if their client disconnects, they are dropped and rolled back |
//! | [`Idempotency::checkpoint`] | kept | an error, because it could not outlive the run |
//! | a run that died had called another service | the next run is an orphan's, and [`Builder::on_orphan`] decides | not noticed |
//! | two runs of one record commit | never | never |
//!
//! ## Cost
//!
//! | | statements | commits |
//! |---|---|---|
//! | the handler with its own transaction | its own, `BEGIN`, `COMMIT` | 1 |
//! | keyed, leased | 2 more: claim and completion; on SQLite 2 more in the process, for a savepoint | 1 more: the claim, which concurrent requests share |
//! | keyed, claim in the transaction | 2 more: the read of the record and the completion | the same |
//! | without a key | 1 more: the check that it can be committed | the same |
//! | replayed, leased | 1: the claim | 0 |
//! | replayed, claim in the transaction | 3 on PostgreSQL: `BEGIN`, the read, `ROLLBACK`, which the answer does not wait for; 1 on SQLite, beside the writer | 0 |
//! | replayed, and a [`Layered`] store has the record in memory | none | 0 |
//!
//! # Another API's contract
//!
//! A [`Contract`] states what a key looks like, what it is bound to, which responses are stored,
//! and how errors are written. Six contracts are ready. Your own is made with the same setters:
//!
//! ```
//! use std::time::Duration;
//!
//! use idempotency_layer::{
//!     Classifier, Contract, FingerprintMode, IdempotencyLayer, KeySyntax, MemoryStore, OnOrphan,
//! };
//!
//! let contract = Contract::ietf()
//!     .key(KeySyntax::structured(1..=64).or_bare())
//!     .required()
//!     .fingerprint(FingerprintMode::Canonical)
//!     .stores(Classifier::success())
//!     .ttl(Duration::from_secs(7 * 24 * 60 * 60));
//!
//! let layer = IdempotencyLayer::builder(MemoryStore::new(64 * 1024 * 1024))
//!     .contract(contract)
//!     .single_tenant() // all clients share one scope
//!     .lease(Duration::from_secs(5))
//!     .wait(Duration::from_secs(2))
//!     .on_orphan(OnOrphan::Halt)
//!     .build();
//! ```
//!
//! # gRPC
//!
//! [`Contract::grpc`] is the contract of a gRPC service. The key is the metadata `idempotency-key`,
//! the outcome of a call is its `grpc-status`, and a rejection is a status that every gRPC client
//! understands. With the feature `tonic`, add the layer to a tonic server inside the interceptor
//! that authenticates:
//!
//! ```
//! use idempotency_layer::{Contract, IdempotencyLayer, MemoryStore, Scope};
//!
//! #[derive(Clone)]
//! struct Account(String); // put into the extensions by your interceptor
//!
//! let idempotency = IdempotencyLayer::builder(MemoryStore::default())
//!     .contract(Contract::grpc())
//!     .scope(|parts| parts.extensions.get::<Account>().map(|account| Scope::of(&account.0)))
//!     .build();
//!
//! // Server::builder()
//! //     .layer(InterceptorLayer::new(authenticate))
//! //     .layer(idempotency)
//! //     .add_service(payments)
//! ```
//!
//! | keyed call | |
//! |---|---|
//! | unary | happens once; `OK` is replayed; after `UNAVAILABLE` a retry runs |
//! | server streaming | happens once; a retry gets `ALREADY_EXISTS`, because streams are not stored |
//! | client streaming, bidirectional | passes as without a key |
//!
//! The layer distinguishes streams from unary calls by counting messages, with a short wait.
//! [`Contract::grpc`] describes that and lists every status. `examples/payments.rs` is a complete
//! server with a client.
//!
//! # Order of layers
//!
//! From the outside in: trace, request id, CORS, compression, time-out, body limit, authentication,
//! **idempotency**, rate limit, handler. In axum, the layer that is added last is the outermost.
//!
//! | outside the layer | because |
//! |---|---|
//! | trace, request id | they describe this request, not the one whose response is replayed |
//! | CORS | its headers depend on the `Origin` of this request |
//! | compression | its encoding depends on the `Accept-Encoding` of this request |
//! | time-out | it answers the client, and the handler finishes for the retry |
//! | body limit | the layer reads the body before the handler does |
//! | authentication | the layer needs the principal, and a 401 belongs to no key |
//!
//! | inside the layer | because |
//! |---|---|
//! | rate limit | a replay runs nothing, so it spends nothing |
//!
//! `docs/STACK-ORDER.md` in the repository explains each of them. On an axum router, prefer
//! `route_layer` to `layer`: a 404 for a path without a route is then not stored.
//!
//! # How it works
//!
//! These words have one meaning throughout this crate:
//!
//! | word | meaning |
//! |---|---|
//! | *key* | what the client sent |
//! | *scope* | the principal that the key belongs to |
//! | *record* | what the store holds under SHA-256 of scope and key; it never holds the raw key |
//! | *fingerprint* | a digest of the request, to detect another request under the same key |
//! | *claim* | the right to run the handler |
//! | *fence* | a number that grows with each claim of a record; the store refuses a write with an old one |
//! | *lease* | how long a claim holds unless it is renewed |
//! | *replay* | the stored response, given to a retry |
//! | *tombstone* | a record of a request that is done, but whose response cannot be replayed |
//! | *orphan* | a claim whose lease ended without an outcome |
//! | *the transaction* | the database transaction that the layer lends to a handler |
//!
//! A request passes untouched if it has no key, or if the contract ([`Contract::methods`]) or
//! [`Builder::when`] leaves it out.
//!
//! For a keyed request, the layer reads the body, computes its fingerprint and claims the record,
//! in one call of the store. If the claim is granted, the layer runs the handler, renews the lease
//! meanwhile, and completes the record with the response under its fence, in one more call. If
//! another request has already completed the record, the layer replays the stored response. If
//! another request is still running, the layer answers 409, or waits first (see [`Builder::wait`]).
//! A run that lost its claim has an old fence, so the store refuses whatever it writes.
//!
//! ## What is stored
//!
//! The layer reads a response that is to be stored to its end before it sends the first byte. It
//! stores status, headers, body and trailers. It does not store hop-by-hop headers, `Date`,
//! `Set-Cookie`, the headers of authentication, or extensions.
//!
//! A `text/event-stream` is neither read nor stored. The same holds for a stream of lines, JSON
//! values or parts of unknown length: `application/x-ndjson`, `application/ndjson`,
//! `application/jsonl`, `application/json-seq`, `application/stream+json` and
//! `multipart/x-mixed-replace`. Such a stream reaches its client while it is produced, and leaves a
//! tombstone. An interim response (1xx) is passed on, and its key is free again.
//!
//! Under [`FingerprintMode::None`] the handler reads the request body while it arrives. If the
//! handler sees that body break off, its response is sent but not stored, and its rows are rolled
//! back. A response can be stored if the handler stops reading before the body shows an error.
//!
//! ## Readiness, leases and lost calls
//!
//! The layer is ready when the service behind it is. If the body or the claim is not available at
//! once, the layer gives this readiness back, for example the permit of a concurrency limit. It
//! waits for the service again when it holds the claim. So slow uploads, a slow store and waiting
//! requests hold no permit.
//!
//! The layer counts a lease from the time of its call to the store. It repeats a failed renewal
//! within a second, so an outage that is shorter than the rest of the lease loses nothing. If it
//! cannot give a claim back, it tries again in the background, with exponential backoff and jitter
//! (from 100 ms up to 10 s), for at most 1024 claims at a time.
//!
//! ## What other middleware sees
//!
//! [`RequestOutcome::of`] returns what the layer did with a request, from its response: whether the
//! handler ran, the response was replayed, or the layer refused the request.
//!
//! # What it does not do
//!
//! - It does not make an effect outside the store's database atomic with its record. A process can
//!   die between such an effect and its record; the tables above say what follows.
//! - It does not keep the requests of one client in order.
//! - It does not compress, encrypt or redact what it stores. Keep secrets out of stored responses,
//!   or give those responses [`Disposition::Release`].
//!
//! # Cancel safety
//!
//! The response future may be dropped at any time, on any thread. If the request holds no claim,
//! nothing is left behind. If it holds one, the future moves to the tokio runtime that polled it
//! and finishes there. At most [`Builder::max_detached`] requests do so before new ones are
//! refused. [`IdempotencyLayer::shutdown`] waits for them.
//!
//! A request that finishes on the runtime keeps its `tracing` span, but not the task-locals of its
//! caller. A handler that needs them after its first await must read them before it, or set them
//! inside the layer.
//!
//! # Implementing a store
//!
//! [`Store`] has a numbered contract. The feature `conformance` adds the module [`conformance`],
//! which has a test for each number. If your program chooses its store at run time, wrap it in
//! [`AnyStore`].
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `memory` (default) | [`MemoryStore`] |
//! | `postgres` | [`PostgresStore`] and `CoCommit<Postgres>`, on sqlx |
//! | `sqlite` | [`SqliteStore`] and `CoCommit<Sqlite>`, on sqlx |
//! | `layered` | [`Layered`]: completed records in memory, in front of any store |
//! | `axum` | axum's bodies, the original path of nested routers, [`Idempotency`] and [`CoCommit`] as extractors |
//! | `tonic` | tonic's bodies; [`Contract::grpc`] needs no feature |
//! | `tracing` | events on the `tracing` crate |
//! | `conformance` | tests for stores |
//!
//! An axum router does not accept the layer without the feature `axum`, because the layer could not
//! see the path that `nest` strips. The compiler reports it.
//!
//! # sqlx
//!
//! With `postgres` or `sqlite`, sqlx 0.9 is part of this crate's API: you pass a pool in and get
//! connections out. It is re-exported as `idempotency_layer::sqlx`, and your own dependency on
//! sqlx 0.9 is the same crate. A version of sqlx that is incompatible with 0.9 comes with an
//! incompatible version of this crate.
//!
//! This crate enables no TLS in sqlx. For a connection to PostgreSQL over a network, choose a TLS
//! library and its root certificates:
//!
//! ```toml
//! sqlx = { version = "0.9", default-features = false, features = ["tls-rustls-ring-native-roots"] }
//! ```
//!
//! (or `tls-rustls-aws-lc-rs`, `tls-rustls-ring-webpki`, `tls-native-tls`), and require it in the
//! URL: `postgres://…?sslmode=verify-full`. sqlx's default, `prefer`, falls back to plain text if
//! there is no TLS, and accepts any certificate if there is.
//!
//! # Minimum supported Rust version
//!
//! 1.88, or 1.94 with `postgres` or `sqlite`, because sqlx 0.9 requires it. Raising either is a
//! minor release.
//!
#![cfg_attr(any(feature = "postgres", feature = "sqlite"), doc = "[`CoCommit`]: crate::CoCommit")]
#![cfg_attr(not(any(feature = "postgres", feature = "sqlite")), doc = "[`CoCommit`]: #features")]
#![cfg_attr(not(feature = "postgres"), doc = "[`PostgresStore`]: #features")]
#![cfg_attr(not(feature = "sqlite"), doc = "[`SqliteStore`]: #features")]
#![cfg_attr(not(feature = "layered"), doc = "[`Layered`]: #features")]
#![cfg_attr(not(feature = "conformance"), doc = "[`conformance`]: #features")]
#![cfg_attr(not(feature = "memory"), doc = "[`MemoryStore`]: #features")]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "axum")]
mod handler_error;
#[cfg(not(feature = "axum"))]
#[path = "handler_error/off.rs"]
mod handler_error;
#[cfg(feature = "axum")]
#[path = "original_uri/axum.rs"]
mod original_uri;
#[cfg(not(feature = "axum"))]
#[path = "original_uri/plain.rs"]
mod original_uri;
#[cfg(not(feature = "tracing"))]
#[path = "trace/off.rs"]
mod trace;
#[cfg(feature = "tracing")]
mod trace;

mod body;
mod cancellation;
mod clock;
mod config;
mod context;
mod contract;
mod engine;
mod error;
mod fingerprint;
mod future;
mod grpc;
mod key;
mod layer;
mod orphan;
mod rejection;
mod request_outcome;
mod response;
mod scope;
mod service;
mod store;
mod wait;

pub use crate::body::{ReplayBody, Replayable};
pub use crate::config::{OnDisconnect, OnStoreFailure};
#[cfg(feature = "axum")]
pub use crate::context::NoIdempotency;
pub use crate::context::{CheckpointError, Idempotency};
pub use crate::contract::{Classifier, Contract, Disposition, ReplayMark};
pub use crate::error::{StoreError, StoreErrorKind};
pub use crate::fingerprint::{Fingerprint, FingerprintMode};
pub use crate::future::ResponseFuture;
pub use crate::key::{Bind, InvalidKey, Key, KeySyntax};
pub use crate::layer::{Builder, IdempotencyLayer, Scoped, Unscoped};
pub use crate::orphan::{OnOrphan, Orphan, Reconcile, Reconciled};
pub use crate::rejection::{Rejection, RejectionKind};
pub use crate::request_outcome::RequestOutcome;
pub use crate::response::{ResponseParts, StoredResponse};
pub use crate::scope::Scope;
pub use crate::service::IdempotencyService;
#[cfg(all(feature = "axum", any(feature = "postgres", feature = "sqlite")))]
pub use crate::store::NoCoCommit;
#[cfg(feature = "postgres")]
pub use crate::store::PostgresStore;
#[cfg(feature = "sqlite")]
pub use crate::store::SqliteStore;
#[cfg(feature = "conformance")]
pub use crate::store::conformance;
pub use crate::store::{
    AnyStore, Checkpoint, Claim, ClaimRequest, ClaimToken, ClaimTransaction, ClaimsInTransaction, Completion,
    Ending, Fence, Fenced, Inspect, Outcome, Purge, PurgeTask, RecordId, RequestTransaction, Run, Store,
    Tombstone, TransactionClaim,
};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use crate::store::{CoCommit, CoCommitDatabase, CoCommitError, OpenTransaction, Savepoint};
#[cfg(feature = "layered")]
pub use crate::store::{Layered, LayeredStats};
#[cfg(feature = "memory")]
pub use crate::store::{MemoryStats, MemoryStore};
#[cfg(any(feature = "postgres", feature = "sqlite"))]
pub use sqlx;

/// The README's examples.
#[cfg(all(doctest, feature = "axum", feature = "postgres"))]
#[doc = include_str!("../README.md")]
struct Readme;

/// Without the feature `axum` the layer does not go onto a router of axum:
///
/// ```compile_fail,E0277
/// let layer = idempotency_layer::IdempotencyLayer::builder(idempotency_layer::MemoryStore::default())
///     .single_tenant()
///     .build();
/// let app: axum::Router = axum::Router::new().layer(layer);
/// ```
#[cfg(all(doctest, not(feature = "axum")))]
struct NoAxumWithoutItsFeature;
