//! The schedulers that come with this crate.

#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod codec;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "memory")]
mod memory;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod migrations;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;

#[cfg(feature = "memory")]
pub use self::memory::{MemoryScheduler, MemoryStats};
#[cfg(feature = "postgres")]
pub use self::postgres::PostgresScheduler;
#[cfg(feature = "sqlite")]
pub use self::sqlite::SqliteScheduler;
