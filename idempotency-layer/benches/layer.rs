//! The cost of the layer compared with the bare handler, in one process, on one core, without a network.
//!
//! ```text
//! cargo bench -p idempotency-layer
//! ```
//!
//! Criterion keeps the history of each figure. The tables at the end compare. Their rows are measured in turns of a fraction
//! of a millisecond, so that other load on the machine affects all of them equally. Each difference or ratio is taken within
//! a turn, and the table shows the median.

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
