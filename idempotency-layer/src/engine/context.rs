//! The request as its handler sees it.

use super::Engine;
use crate::context::{Context, Written};
use crate::error::StoreError;
use crate::fingerprint::Fingerprint;
use crate::key::Key;
use crate::store::{Checkpoint, RecordId, Run, Store};

impl<St: Store> Context for Engine<St> {
    fn key(&self) -> &Key {
        &self.key
    }

    fn record(&self) -> RecordId {
        self.record
    }

    fn fingerprint(&self) -> Fingerprint {
        self.granted().0
    }

    fn run(&self) -> &Run {
        self.run()
    }

    fn write(&self, checkpoint: Checkpoint) -> Written<'_> {
        if self.config.in_transaction.is_some() {
            const WHY: &str = "the claim is the transaction: a checkpoint could not outlive it";
            return Box::pin(async { Err(StoreError::invalid(WHY)) });
        }
        Box::pin(St::checkpoint(&self.config.store, self.record, self.run().fence, checkpoint))
    }
}
