//! A [Tower](tower_layer) layer for the `Idempotency-Key` header: a retried request happens once.
//!
//! A client that gets no answer cannot know whether its request was carried out. It sends it again, with the same
//! key; this layer sees to it that the handler runs once and that every retry gets the first run's answer, byte for
//! byte. It works with axum, hyper and tonic, on any service from `http::Request<B>` to `http::Response<R>`.
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
//! The scope says whose key it is. There is no default: a builder that was not told does not compile. Keys are looked at on
//! the methods of the contract, here POST and PATCH; on others the header means nothing ([`Contract::methods`]).
//!
//! # Another API's contract
//!
//! What a key looks like, what it is bound to, which responses are stored and what errors look like is a value, a
//! [`Contract`]. Six are ready, and your own is made with the same setters:
//!
//! ```
//! use std::time::Duration;
//!
//! use http::StatusCode;
//! use idempotency_layer::{
//!     Classifier, Contract, FingerprintMode, IdempotencyLayer, KeySyntax, MemoryStore, OnOrphan, Scope,
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
//!     .single_tenant() // out loud: all clients are one
//!     .lease(Duration::from_secs(5))
//!     .wait(Duration::from_secs(2))
//!     .on_orphan(OnOrphan::Halt)
//!     .build();
//! ```
//!
//! # gRPC
//!
//! [`Contract::grpc`] is the contract of a gRPC service: the key is the metadata `idempotency-key`, the outcome of a call is
//! its `grpc-status`, and a rejection is a status that every gRPC client understands. With the feature `tonic` the layer
//! goes onto a tonic server, inside the interceptor that authenticates:
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
//! | a call with a key | |
//! |---|---|
//! | unary | once, by the table below; `OK` is replayed, `UNAVAILABLE` is not, and a retry runs |
//! | server streaming | once; a retry gets `ALREADY_EXISTS`, because the stream is not stored |
//! | client streaming, bidirectional | as without a key |
//!
//! Streams are told from unary calls by their messages and a short wait; see [`Contract::grpc`] for both and for the table of
//! outcomes. A server and a client are in `examples/payments.rs`.
//!
//! # What it promises, and where that ends
//!
//! *Once* below is about the handler's effects, whatever they are, as long as the store keeps its records. "Again" means
//! that a retry runs the handler again; such a handler's effects happen **at least once**.
//!
//! | what happens | [`OnOrphan::Rerun`] (default) | [`OnOrphan::Halt`] | [`OnOrphan::Reconcile`] |
//! |---|---|---|---|
//! | the same request again, or many at a time | once | once | once |
//! | the client goes away, [`OnDisconnect::Finish`] (default) | once | once | once |
//! | the client goes away, [`OnDisconnect::Cancel`] | again | again | again |
//! | the response is not one that is stored, such as a 503 or gRPC's `UNAVAILABLE` | again | again | again |
//! | the upload breaks off while the handler reads it ([`FingerprintMode::None`]) | again | again | again |
//! | the response is too large to store, or a stream | once, retries get 409 | once, retries get 409 | once, retries get 409 |
//! | a gRPC request that is a stream | as without the layer | as without the layer | as without the layer |
//! | the handler panics, or the service fails | again | retries get 409: unknown | as the function finds |
//! | the process dies while the handler runs (and the store does not) | again, after the lease | retries get 409: unknown | as the function finds |
//! | a run loses its lease and goes on (a process that stood still) | again, the first one's answer is refused | 409: unknown | as the function finds |
//! | the store is not reached before the run | not run, 503; a claim that took effect unheard is given back | the same | the same |
//! | the service behind the layer is not ready and fails | not run, its error | the same | the same |
//! | [`Builder::max_detached`] requests run on without their clients | not run, 503 | not run, 503 | not run, 503 |
//! | the store is not reached after the run | 503, then as if the process died | the same | the same |
//! | [`OnStoreFailure::PassThrough`] and the store is not reached | as without the layer | as without the layer | as without the layer |
//! | the store is full, or cannot read the record | not run, 503 | not run, 503 | not run, 503 |
//! | [`MemoryStore`]: the process ends, or a record is [evicted early](MemoryStats::evicted_early) | again | again | again |
//!
//! # Effects in the database of the records: co-commit
//!
//! `PostgresStore` and `SqliteStore` offer the handler their transaction, a `CoCommit`. **It commits on success**: what the
//! handler writes there and the stored response are committed together, under the fence of the claim, when the response
//! is a 2xx or 3xx ([`Builder::commits`] changes that). On every other response the rows are rolled back; if the contract
//! stores that response, such as a 409, it is stored alone. What is not stored is never committed. So these effects happen
//! **once**, also where the table above says "again":
//!
//! | what happens | rows written through `CoCommit` | any other effect |
//! |---|---|---|
//! | the process or the database dies before the commit | none; the retry runs | as above |
//! | the process or the database dies after the commit | there, with the answer that every retry gets | as above |
//! | the answer to the commit is lost | the record is asked; where nobody can tell, 503, and the retry finds out | as above |
//! | a run loses its lease and goes on | rolled back with its answer | stays |
//! | the response is stored but is no success, such as a 409 | rolled back; every retry gets the 409 | stays |
//! | the same, after `CoCommit::keep_on_error` | there, with the answer that every retry gets | stays |
//! | the response is not one that is stored, the handler panics, or a statement failed | rolled back | stays |
//! | the client goes away, [`OnDisconnect::Cancel`] | rolled back | stays |
//! | a request without a key | committed or rolled back on the same rule, so a handler is written once; a retry is another request | as without the layer |
//! | [`OnStoreFailure::PassThrough`] and the store is not reached | as a request without a key | as without the layer |
//!
//! | | statements | commits |
//! |---|---|---|
//! | the handler, with a transaction of its own | its own, and 2 (`BEGIN`, `COMMIT`) | 1 |
//! | with a key, co-committed | 2 more: the claim, the completion; SQLite 2 more within the process (a savepoint) | 1 more: the claim's, shared under load |
//! | without a key | 1 more: whether it can be committed | the same |
//! | replayed | 1: the claim; behind a `Layered` that has it, 0 | 0 |
//!
//! The transaction is offered to the requests that the layer looks at: those of the contract's methods
//! ([`Contract::methods`], POST and PATCH here) for which [`Builder::when`] holds, with a key or without. Only they pay for
//! the offer. Every other request, such as a GET, passes untouched and finds no `CoCommit`.
//!
//! How it looks in a handler stands at `CoCommit`, and a whole program in `examples/orders.rs`.
//!
//! For effects outside the store, [`Idempotency`] gives the handler a [derived key](Idempotency::derive) to hand to the
//! next service, and [checkpoints](Idempotency::checkpoint) that the next attempt finds.
//!
//! # How it works
//!
//! *Key*: what the client sent. *Scope*: whose key. *Record*: what the store holds under SHA-256 of both, never the raw
//! key. *Fingerprint*: of the request. *Claim*: the right to run. *Fence*: a number that grows with each claim of a
//! record. *Lease*: how long a claim holds unless renewed. *Tombstone*: done, but the response cannot be replayed.
//! *Orphan*: a claim whose lease ran out.
//!
//! A request without a key passes, and so does one that the contract ([`Contract::methods`]) or [`Builder::when`] leaves
//! out; nothing is allocated for it. Of one with a key, the layer reads the body, makes its
//! fingerprint and claims the record: one call of the store. Whoever gets the claim runs the handler, with the lease
//! renewed meanwhile, and completes the record with the response under its fence: one more call. Everybody else gets
//! the response that is there, or 409 while there is none (or waits, see [`Builder::wait`]). A run that lost its claim
//! has an old fence, and whatever it writes is refused.
//!
//! A response that is to be stored is read to its end before its first byte is sent. Its headers are replayed as they
//! were, but for hop-by-hop headers, `Date`, `Set-Cookie` and the headers of authentication; its trailers are, its
//! extensions are not. `text/event-stream` is never read, nor stored, and neither is a stream of lines, JSON or parts
//! (`application/x-ndjson`, `application/ndjson`, `application/jsonl`, `application/json-seq`, `application/stream+json`,
//! `multipart/x-mixed-replace`) whose length is not known: it reaches its client while it comes, and leaves a tombstone.
//! An interim response (1xx) is passed on, and its key is free again.
//!
//! Where nothing is compared ([`FingerprintMode::None`]), the handler reads the request body while it comes. If the handler
//! sees the body break off, its response is sent but not stored, and its rows are rolled back. A body that the handler did
//! not read to its end, and that showed no error until then, does not count as broken: that response may be stored.
//!
//! The service behind the layer is made ready before the layer is called, and is not kept waiting: a request whose body or
//! claim is not there at once gives that readiness back, a permit of a concurrency limit perhaps, and waits for its own
//! under its claim. So slow uploads, a slow store and requests that wait for another one's response hold no permit.
//!
//! The lease is counted from before the store was asked. A renewal that fails is tried again every second, so an outage
//! shorter than what is left of the lease loses nothing. A claim that could not be given back is given back in the
//! background, with exponential backoff from 100 ms to 10 s, for at most 1024 claims at a time.
//!
//! Put it inside authentication (it needs to know whose key it is) and outside whatever a replay must not spend: rate
//! limits, quotas.
//!
//! Every response says what the layer did: [`RequestOutcome::of`] tells whether the handler ran, the response was replayed,
//! or the layer refused.
//!
//! # What it does not do
//!
//! It makes no effect outside the store's database atomic with its record: between such an effect and the record of it a
//! process can die, and the table above says what follows. It does not keep requests of one client in order. It does not compress, encrypt or
//! redact what it stores: leave secrets out of stored responses, or mark those [`Disposition::Release`].
//!
//! # Cancel safety
//!
//! The response future may be dropped at any time, on any thread. Before the claim nothing was done; after it, the future
//! moves onto the tokio runtime that polled it and finishes there, so neither half an effect nor a stuck key is left. At
//! most [`Builder::max_detached`] do so before new requests are refused. [`IdempotencyLayer::shutdown`] waits for them. Task-locals of the caller are there as long as it polls; a request that finishes on the runtime
//! keeps its `tracing` span but not the task-locals: a handler that reads them after its first await sets them inside the
//! layer, or reads them before.
//!
//! # Implementing a store
//!
//! [`Store`] has a numbered contract; with the feature `conformance`, the module `conformance` has a test for each
//! number. `AnyStore` hides which one it is.
//!
//! # Features
//!
//! | feature | |
//! |---|---|
//! | `memory` (default) | [`MemoryStore`] |
//! | `postgres` | `PostgresStore`, on sqlx; `CoCommit<Postgres>` |
//! | `sqlite` | `SqliteStore`, on sqlx; `CoCommit<Sqlite>` |
//! | `layered` | `Layered`: finished records in memory, in front of any store |
//! | `axum` | axum's bodies, the original path of nested routers, [`Idempotency`] as an extractor |
//! | `tonic` | tonic's bodies; [`Contract::grpc`] needs no feature |
//! | `tracing` | events on the `tracing` crate |
//! | `conformance` | tests for stores |
//!
//! Without the feature `axum`, the layer does not go onto an axum router: it could not see the path that `nest` strips.
//! The compiler says so.
//!
//! # sqlx
//!
//! With `postgres` or `sqlite`, sqlx 0.9 is part of this crate's API: pools go in, connections come out. It is re-exported
//! as `idempotency_layer::sqlx`; a dependency of your own on sqlx 0.9 is the same crate. A release of sqlx that is not
//! compatible with 0.9 comes with a release of this crate that is not compatible with the one before.
//!
//! This crate turns on no TLS of sqlx. A connection to PostgreSQL over a network needs it, and the choice of library and
//! root certificates is yours:
//!
//! ```toml
//! sqlx = { version = "0.9", default-features = false, features = ["tls-rustls-ring-native-roots"] }
//! ```
//!
//! (or `tls-rustls-aws-lc-rs`, `tls-rustls-ring-webpki`, `tls-native-tls`). Ask for it in the URL as well:
//! `postgres://…?sslmode=verify-full`. sqlx's default, `prefer`, goes on in plain text where there is no TLS, and accepts
//! any certificate where there is.
//!
//! # Minimum supported Rust version
//!
//! 1.88, and 1.94 with `postgres` or `sqlite`, because sqlx 0.9 needs it. Raising either is a minor release.

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
pub use crate::contract::{Bind, Classifier, Contract, Disposition, ReplayMark};
pub use crate::error::{StoreError, StoreErrorKind};
pub use crate::fingerprint::{Fingerprint, FingerprintMode};
pub use crate::future::ResponseFuture;
pub use crate::key::{InvalidKey, Key, KeySyntax};
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
    Ending, Fence, Fenced, Outcome, Purge, PurgeTask, RecordId, RequestTransaction, Run, Store, Tombstone,
    TransactionClaim,
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
#[cfg(all(doctest, feature = "axum"))]
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
