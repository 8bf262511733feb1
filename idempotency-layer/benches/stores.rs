//! The throughput of the SQL stores under concurrent requests, compared with their databases, one statement at a time.
//!
//! ```text
//! cargo bench -p idempotency-layer --features postgres,sqlite,layered --bench stores
//! ```
//!
//! With `BENCH_RECORDS=1000000`, each store with a million records is also measured beside an empty one.
//!
//! A cycle is the claim of a new record and its completion with a response of 1 KiB. Store and yardstick take turns of a few
//! seconds, so that other load on the machine affects both. Each ratio is taken within a turn, and the table shows the
//! median. Everything is durable: a commit is on the disk before it is answered.

#![expect(clippy::print_stdout, reason = "the table is what it is run for")]
#![allow(clippy::unwrap_used, reason = "a benchmark that cannot go on ends")]

#[cfg(all(feature = "layered", feature = "sqlite"))]
#[path = "stores/layered.rs"]
mod layered;
#[cfg_attr(not(any(feature = "postgres", feature = "sqlite")), allow(dead_code))]
#[path = "stores/load.rs"]
mod load;
#[cfg(feature = "postgres")]
#[path = "stores/postgres.rs"]
mod postgres;
#[cfg(all(feature = "postgres", feature = "sqlite"))]
#[path = "stores/size.rs"]
mod size;
#[cfg(feature = "sqlite")]
#[path = "stores/sqlite.rs"]
mod sqlite;

fn main() {
    println!(
        "{:<24}{:>8}{:>14}{:>14}{:>8}   ratios of the turns",
        "store", "clients", "yardstick/s", "store/s", "ratio"
    );
    #[cfg(feature = "postgres")]
    postgres::run();
    #[cfg(feature = "sqlite")]
    sqlite::run();
    #[cfg(all(feature = "layered", feature = "sqlite"))]
    layered::run();
    #[cfg(all(feature = "postgres", feature = "sqlite"))]
    size::run();
    println!("cycles a second, of a claim and a completion each; the medians of {} turns", load::TURNS);
}
