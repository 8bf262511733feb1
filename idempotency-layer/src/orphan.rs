//! Policies for claims whose run ended without an outcome.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http::request::Parts;

use crate::context::Idempotency;

/// What to do with a claim whose run ended without an outcome: its process died, it panicked, or
/// the service failed. Such a run may have had effects.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum OnOrphan {
    /// The next request with the key runs the handler again.
    ///
    /// Use it if every effect is safe to repeat: rows in the transaction, or calls with a
    /// [derived](Idempotency::derive) key.
    Rerun,
    /// Nothing runs again. Retries get 409 with [`Tombstone::Unknown`](crate::Tombstone::Unknown).
    Halt,
    /// A function finds out what the run did. Made by [`OnOrphan::reconcile`].
    Reconcile(Reconcile),
}

impl OnOrphan {
    /// Calls a function to find out what the run did, for example by asking the bank for the charge
    /// with the [derived](Idempotency::derive) key.
    ///
    /// The function runs under the claim of the request that found the orphan. If it panics, the
    /// record stays an orphan.
    ///
    /// ```
    /// use http::Response;
    /// use idempotency_layer::{OnOrphan, Reconciled};
    /// # async fn charge_with_key(_: String) -> Option<&'static str> { None }
    ///
    /// let policy = OnOrphan::reconcile(|orphan| async move {
    ///     match charge_with_key(orphan.idempotency.derive("charge")).await {
    ///         Some(receipt) => Reconciled::Response(Response::new(receipt.into())),
    ///         None => Reconciled::Rerun,
    ///     }
    /// });
    /// ```
    pub fn reconcile<F, Fut>(find_out: F) -> Self
    where
        F: Fn(Orphan) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Reconciled> + Send + 'static,
    {
        Self::Reconcile(Reconcile(Arc::new(move |orphan| Box::pin(find_out(orphan)))))
    }
}

/// A request that found an orphan.
#[non_exhaustive]
pub struct Orphan {
    /// The key, attempt and checkpoint of the request.
    pub idempotency: Idempotency,
    /// The head of the request.
    pub request: Parts,
}

/// Without the head, which has the key and the credentials.
impl fmt::Debug for Orphan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Orphan").field("idempotency", &self.idempotency).finish_non_exhaustive()
    }
}

/// The result of [`OnOrphan::reconcile`]'s function.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reconciled {
    /// The request was carried out. This response is stored and replayed as if the handler had
    /// returned it.
    Response(Response<Bytes>),
    /// The request was not carried out, or may be repeated. The handler runs.
    Rerun,
    /// It is unknown whether the request was carried out. Nothing runs again.
    Halt,
}

/// The function of [`OnOrphan::reconcile`].
#[derive(Clone)]
pub struct Reconcile(Arc<dyn Fn(Orphan) -> Answer + Send + Sync>);

type Answer = Pin<Box<dyn Future<Output = Reconciled> + Send>>;

impl Reconcile {
    pub(crate) fn find_out(&self, orphan: Orphan) -> Answer {
        (self.0)(orphan)
    }
}

impl fmt::Debug for Reconcile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconcile").finish_non_exhaustive()
    }
}
