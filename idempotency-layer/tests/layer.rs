//! The behaviour of the layer through its public API.
#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

#[path = "layer/support.rs"]
mod support;

#[path = "layer/lending.rs"]
mod lending;
#[path = "layer/scripted.rs"]
mod scripted;

#[cfg(feature = "axum")]
#[path = "layer/axum.rs"]
mod axum;
#[path = "layer/bodies.rs"]
mod bodies;
#[path = "layer/bounds.rs"]
mod bounds;
#[path = "layer/bypass.rs"]
mod bypass;
#[path = "layer/context.rs"]
mod context;
#[path = "layer/disconnect.rs"]
mod disconnect;
#[path = "layer/edges.rs"]
mod edges;
#[cfg(all(feature = "axum", feature = "sqlite"))]
#[path = "layer/extractors.rs"]
mod extractors;
#[path = "layer/fingerprints.rs"]
mod fingerprints;
#[path = "layer/grpc.rs"]
mod grpc;
#[path = "layer/keys.rs"]
mod keys;
#[path = "layer/lease.rs"]
mod lease;
#[path = "layer/memory.rs"]
mod memory;
#[path = "layer/model.rs"]
mod model;
#[path = "layer/once.rs"]
mod once;
#[path = "layer/orphan.rs"]
mod orphan;
#[path = "layer/outcome.rs"]
mod outcome;
#[path = "layer/panics.rs"]
mod panics;
#[path = "layer/presets.rs"]
mod presets;
#[path = "layer/promises.rs"]
mod promises;
#[path = "layer/readiness.rs"]
mod readiness;
#[path = "layer/rejections.rs"]
mod rejections;
#[path = "layer/replay.rs"]
mod replay;
#[path = "layer/secrets.rs"]
mod secrets;
#[cfg(feature = "axum")]
#[path = "layer/stack_order.rs"]
mod stack_order;
#[path = "layer/store_failure.rs"]
mod store_failure;
#[cfg(feature = "tracing")]
#[path = "layer/tracing.rs"]
mod tracing;
#[path = "layer/transaction.rs"]
mod transaction;
#[path = "layer/waiting.rs"]
mod waiting;
