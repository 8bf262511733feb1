//! What becomes of a claim whose run ended without an outcome.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http::request::Parts;

use crate::context::Idempotency;

/// What becomes of a claim whose run ended without an outcome: its process died, it panicked, or the service gave
/// an error in place of a response. Such a run may have had effects.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum OnOrphan {
    /// The next request with the key runs the handler again. Right where effects are safe to repeat: in the
    /// layer's transaction, or with a key [derived](Idempotency::derive) for the service that has them.
    Rerun,
    /// Nothing runs again: retries are told that the outcome is unknown.
    Halt,
    /// A function finds out; see [`OnOrphan::reconcile`].
    Reconcile(Reconcile),
}

impl OnOrphan {
    /// Lets a function find out what became of the run, for instance by asking the bank for the charge with the
    /// [derived](Idempotency::derive) key. It runs under the claim of the request that found the orphan; if it
    /// panics, the record stays an orphan.
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
    /// Its key, attempt and checkpoint.
    pub idempotency: Idempotency,
    /// Its head.
    pub request: Parts,
}

/// Without the head, which has the key and the credentials.
impl fmt::Debug for Orphan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Orphan").field("idempotency", &self.idempotency).finish_non_exhaustive()
    }
}

/// What was found out of an orphan.
#[derive(Debug)]
#[non_exhaustive]
pub enum Reconciled {
    /// It was carried out, and this is the answer: it is stored and replayed as if the handler had given it.
    Response(Response<Bytes>),
    /// It was not carried out, or may be again: the handler runs.
    Rerun,
    /// It cannot be known: nothing runs again.
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
