//! The schedulers that come with this crate.

#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod codec;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "memory")]
mod memory;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod shares;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sql;
#[cfg(feature = "sqlite")]
mod sqlite;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod verbs;

#[cfg(feature = "memory")]
pub use self::memory::{MemoryScheduler, MemoryStats};
#[cfg(feature = "postgres")]
pub use self::postgres::PostgresScheduler;
#[cfg(feature = "sqlite")]
pub use self::sqlite::SqliteScheduler;
