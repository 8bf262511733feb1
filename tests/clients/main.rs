//! Clients of others, unmodified, against the real binary.
//!
//! They are Python programs; their tests are functions in `tests/python`, each of them run by a test here. What they run
//! on is prepared by `scripts/test`.

mod banxico;
mod document;
mod listed;
mod readme;
mod veriko;
mod walkthrough;
