//! The settings of a layer.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use tokio_util::task::TaskTracker;

use crate::contract::{Classifier, Contract};
use crate::error::{StoreError, StoreErrorKind};
use crate::orphan::OnOrphan;
use crate::scope::Scope;
use crate::store::{ClaimRequest, RecordId, TransactionClaim};
use crate::wait::Waiters;

/// The settings of a layer, and the state that its requests share.
///
/// Aligned so that the reference count of its `Arc`, which every request changes, does not share a
/// cache line with the settings, which every request reads.
#[repr(align(128))]
pub(crate) struct Config<St> {
    pub(crate) contract: Contract,
    pub(crate) scope: Box<ScopeOf>,
    pub(crate) when: Option<Box<When>>,
    pub(crate) store: Arc<St>,
    pub(crate) lease: Duration,
    pub(crate) wait: Duration,
    pub(crate) max_request_bytes: usize,
    pub(crate) max_response_bytes: usize,
    pub(crate) max_detached: usize,
    pub(crate) max_waiters: usize,
    pub(crate) commits: Classifier,
    /// `None` if claims are leased.
    pub(crate) in_transaction: Option<InTransaction<St>>,
    pub(crate) on_orphan: OnOrphan,
    pub(crate) on_disconnect: OnDisconnect,
    pub(crate) on_store_failure: OnStoreFailure,
    pub(crate) waiters: Waiters,
    /// Requests whose client disconnected.
    pub(crate) detached: TaskTracker,
    /// Claims that the background gives up.
    pub(crate) given_up: TaskTracker,
}

/// The settings of [`Builder::claim_in_transaction`](crate::Builder::claim_in_transaction).
pub(crate) struct InTransaction<St> {
    pub(crate) claim: ClaimIn<St>,
    /// From the beginning of the transaction to the captured response.
    pub(crate) time: Duration,
}

/// [`ClaimsInTransaction::claim_in_transaction`](crate::ClaimsInTransaction::claim_in_transaction)
/// as a pointer, so that the layer does not require the trait of every store.
pub(crate) type ClaimIn<St> =
    fn(
        &St,
        ClaimRequest,
        Duration,
    ) -> Pin<Box<dyn Future<Output = Result<TransactionClaim, StoreError>> + Send + '_>>;

pub(crate) type ScopeOf = dyn Fn(&Parts) -> Option<Scope> + Send + Sync;
pub(crate) type When = dyn Fn(&Parts) -> bool + Send + Sync;

/// What to do when the client disconnects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnDisconnect {
    /// The request finishes on the runtime, and a retry gets its response.
    #[default]
    Finish,
    /// The layer drops the handler at its next await, or the response that it is reading. Then it
    /// releases the claim, and a retry runs the handler again. Use it for handlers that leave
    /// nothing behind when they are dropped.
    Cancel,
}

/// What to do with a keyed request while the store is not reached
/// ([`StoreErrorKind::Unavailable`]).
///
/// If the store is reached but is full, or cannot read the record, the layer answers 503 under
/// either policy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnStoreFailure {
    /// The layer answers 503. A request that cannot be recorded does not run, and a response that
    /// was not recorded is not sent.
    #[default]
    Refuse,
    /// The request runs as if it had no key, and a response that could not be recorded is sent
    /// nevertheless. A retry may run again.
    PassThrough,
}

impl<St> Config<St> {
    /// Returns whether a request runs without the store. A store that answers that it is full was
    /// reached.
    pub(crate) fn passes_through(&self, error: &StoreError) -> bool {
        self.on_store_failure == OnStoreFailure::PassThrough && error.kind() == StoreErrorKind::Unavailable
    }

    /// Wakes the requests of this process that wait for a record.
    pub(crate) fn wake_waiters(&self, record: RecordId) {
        if !self.wait.is_zero() {
            self.waiters.wake(record);
        }
    }
}

impl<St> fmt::Debug for Config<St> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdempotencyLayer")
            .field("contract", &self.contract)
            .field("lease", &self.lease)
            .field("wait", &self.wait)
            .field("max_request_bytes", &self.max_request_bytes)
            .field("max_response_bytes", &self.max_response_bytes)
            .field("max_detached", &self.max_detached)
            .field("max_waiters", &self.max_waiters)
            .field("commits", &self.commits)
            .field("transaction_time", &self.in_transaction.as_ref().map(|it| it.time))
            .field("on_orphan", &self.on_orphan)
            .field("on_disconnect", &self.on_disconnect)
            .field("on_store_failure", &self.on_store_failure)
            .finish_non_exhaustive()
    }
}
