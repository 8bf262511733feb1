//! Savepoints of a handler.

use std::fmt;
use std::mem;
use std::ops::{Deref, DerefMut};

use sqlx::{Connection, Transaction};

use super::database::CoCommitDatabase;
use super::{OpenTransaction, Shared};

/// A savepoint inside the transaction of a request.
///
/// If it is dropped without [`commit`](Self::commit), it is rolled back.
///
/// # Cancel safety
///
/// sqlx names a savepoint by its depth only. If a call that begins or ends one is dropped half way,
/// for example by a time-out, it is unknown which rows are left. The request is then not committed:
/// a success becomes a 503, unless the handler calls
/// [`CoCommit::roll_back`](super::CoCommit::roll_back).
pub struct Savepoint<'a, DB: CoCommitDatabase> {
    inner: Transaction<'a, DB>,
    shared: &'a Shared<DB>,
}

impl<DB: CoCommitDatabase> OpenTransaction<DB> {
    /// Begins a savepoint.
    ///
    /// # Errors
    ///
    /// If the database does not begin it.
    ///
    /// # Cancel safety
    ///
    /// See [`Savepoint`].
    pub async fn begin(&mut self) -> Result<Savepoint<'_, DB>, sqlx::Error> {
        let (shared, connection) = self.parts();
        Savepoint::begin_on(shared, connection).await
    }
}

impl<'a, DB: CoCommitDatabase> Savepoint<'a, DB> {
    async fn begin_on(
        shared: &'a Shared<DB>,
        connection: &'a mut DB::Connection,
    ) -> Result<Self, sqlx::Error> {
        let half_way = HalfWay(shared);
        let begun = connection.begin().await;
        mem::forget(half_way);
        Ok(Self { inner: begun?, shared })
    }

    /// Begins a savepoint inside this one.
    ///
    /// # Errors
    ///
    /// If the database does not begin it.
    pub async fn begin(&mut self) -> Result<Savepoint<'_, DB>, sqlx::Error> {
        let shared = self.shared;
        Savepoint::begin_on(shared, &mut self.inner).await
    }

    /// Keeps what was written since the savepoint, as a part of the transaction.
    ///
    /// # Errors
    ///
    /// If the database does not release it.
    pub async fn commit(self) -> Result<(), sqlx::Error> {
        let half_way = HalfWay(self.shared);
        let ended = self.inner.commit().await;
        mem::forget(half_way);
        ended
    }

    /// Undoes what was written since the savepoint.
    ///
    /// # Errors
    ///
    /// If the database does not roll back to it.
    pub async fn rollback(self) -> Result<(), sqlx::Error> {
        let half_way = HalfWay(self.shared);
        let ended = self.inner.rollback().await;
        mem::forget(half_way);
        ended
    }
}

/// Notes, when it is dropped, that a savepoint was begun or ended half way.
struct HalfWay<'a, DB: CoCommitDatabase>(&'a Shared<DB>);

impl<DB: CoCommitDatabase> Drop for HalfWay<'_, DB> {
    fn drop(&mut self) {
        self.0.lock().is_torn = true;
    }
}

impl<DB: CoCommitDatabase> Deref for Savepoint<'_, DB> {
    type Target = DB::Connection;

    fn deref(&self) -> &DB::Connection {
        &self.inner
    }
}

impl<DB: CoCommitDatabase> DerefMut for Savepoint<'_, DB> {
    fn deref_mut(&mut self) -> &mut DB::Connection {
        &mut self.inner
    }
}

impl<DB: CoCommitDatabase> fmt::Debug for Savepoint<'_, DB> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Savepoint").finish_non_exhaustive()
    }
}
