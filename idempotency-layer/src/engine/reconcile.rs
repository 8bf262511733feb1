//! Finds out what a run that left an orphan did.

use std::pin::pin;

use super::body_of;
use super::claimed::Ended;
use super::lease::Lease;
use crate::body::Replayable;
use crate::orphan::{OnOrphan, Orphan, Reconciled};
use crate::rejection::RejectionKind;
use crate::store::{Outcome, Store, Tombstone};

impl<St: Store> Lease<'_, St> {
    /// Finds out what the run that left an orphan did. `None`: the handler is to run.
    pub(super) async fn reconcile<R: Replayable, E>(&self, orphan: Orphan) -> Option<Ended<R, E>> {
        let found = match &self.engine.config.on_orphan {
            OnOrphan::Rerun => return None,
            OnOrphan::Halt => Ok(Reconciled::Halt),
            OnOrphan::Reconcile(reconcile) => {
                self.keep_during(pin!(async { reconcile.find_out(orphan).await })).await
            }
        };
        match found {
            Ok(Reconciled::Rerun) => None,
            Ok(Reconciled::Halt) => {
                let unknown = Tombstone::Unknown;
                let response = self.engine.reject(RejectionKind::Tombstone(unknown));
                Some(Ended::Stored { response, outcome: Outcome::Tombstone(unknown), commits: false })
            }
            Ok(Reconciled::Response(response)) => Some(self.engine.capture(response.map(body_of)).await),
            Err(panic) => Some(Ended::Panicked(panic)),
        }
    }
}
