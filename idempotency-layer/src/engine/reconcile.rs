//! Reconciles orphans.

use super::ended::Ended;
use super::{Engine, body_of};
use crate::body::Replayable;
use crate::orphan::{OnOrphan, Orphan, Reconciled};
use crate::rejection::RejectionKind;
use crate::store::{Outcome, Store, Tombstone};

impl<St: Store> Engine<St> {
    /// Finds out what the earlier run of an orphan did. Returns `None` if the handler has to run.
    pub(super) async fn reconcile<R: Replayable, E>(&self, orphan: Orphan) -> Option<Ended<R, E>> {
        let found = match &self.config.on_orphan {
            OnOrphan::Rerun => return None,
            OnOrphan::Halt => Reconciled::Halt,
            OnOrphan::Reconcile(reconcile) => reconcile.find_out(orphan).await,
        };
        match found {
            Reconciled::Rerun => None,
            Reconciled::Halt => {
                let unknown = Tombstone::Unknown;
                let response = self.reject(RejectionKind::Tombstone(unknown));
                Some(Ended::Stored { response, outcome: Outcome::Tombstone(unknown), commits: false })
            }
            Reconciled::Response(response) => Some(self.capture(response.map(body_of)).await),
        }
    }
}
