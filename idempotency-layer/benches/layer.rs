//! What the layer costs beside the bare handler: in one process, on one core, without a network.
//!
//! ```text
//! cargo bench -p idempotency-layer
//! ```
//!
//! Criterion keeps the history of each figure. The tables at the end are for comparison: their rows are measured in
//! turns of a fraction of a millisecond, so that whatever else the machine does hits all of them alike, and a
//! difference or a ratio is taken within a turn before its median is.

#![expect(clippy::print_stdout, reason = "the tables are what it is run for")]

#[cfg(not(feature = "axum"))]
#[path = "layer/with_axum.rs"]
mod bench;
#[cfg(feature = "axum")]
#[path = "layer/measure.rs"]
mod bench;

fn main() {
    bench::main();
}
