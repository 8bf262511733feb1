//! The verbs of the wrong store. Each is one atomic step, unless the fault splits it.

use std::time::Duration;

use idempotency_layer::{
    Checkpoint, Claim, ClaimRequest, ClaimToken, Fence, Fenced, Outcome, Purge, RecordId, Store, StoreError,
    StoredResponse,
};
use tokio::task::yield_now;

use super::{Row, WrongStore, now};
use crate::faults::{Fault, PurgeFault};
use crate::wrong_response::damaged;

impl Store for WrongStore {
    async fn claim(&self, mut ask: ClaimRequest) -> Result<Claim, StoreError> {
        ask.record = self.name(ask.record);
        let cached = self.own().replays.get(&ask.record).cloned().filter(|_| self.is(Fault::HandleCaches));
        if let Some((_, response)) = cached.filter(|(fingerprint, _)| fingerprint.matches(&ask.fingerprint)) {
            return Ok(Claim::Replay { response, expires_in: ask.ttl });
        }
        let (unknown, orphaned) = {
            let mut shared = self.lock();
            self.forget_expired(&mut shared, ask.record);
            let row = shared.rows.get(&ask.record);
            let orphaned = |row: &&Row| {
                let over = !row.is_held(self.fault) && row.outcome.is_none() && !row.released;
                over && row.token != ask.token && row.fingerprint.matches(&ask.fingerprint)
            };
            (row.is_none(), row.filter(orphaned).cloned())
        };
        match (self.fault, orphaned) {
            (Fault::TwoLocksToClaim, _) if unknown => {
                std::thread::yield_now();
                return Ok(self.insert(&mut self.lock(), ask));
            }
            (Fault::TwoStepsToClaim, _) if unknown => {
                yield_now().await;
                return Ok(self.insert(&mut self.lock(), ask));
            }
            (Fault::TokenInASecondStep, _) if unknown => {
                let mut first = ask;
                first.token = ClaimToken::new();
                let run = self.insert(&mut self.lock(), first);
                yield_now().await;
                self.lock().rows.entry(ask.record).and_modify(|row| row.token = ask.token);
                return Ok(run);
            }
            (Fault::TwoStepsToInherit, Some(mut row)) => {
                yield_now().await;
                let mut shared = self.lock();
                let run = self.take_over(&mut shared, &mut row, ask);
                shared.rows.insert(ask.record, row);
                return Ok(run);
            }
            (Fault::TwoStepsToTakeOver, Some(mut row)) => {
                self.lock().rows.remove(&ask.record);
                yield_now().await;
                let mut shared = self.lock();
                let run = self.take_over(&mut shared, &mut row, ask);
                shared.rows.insert(ask.record, row);
                return Ok(run);
            }
            _ => {}
        }
        let claim = self.claim_known(&mut self.lock(), ask);
        if let Claim::Replay { response, .. } = &claim {
            self.own().replays.insert(ask.record, (ask.fingerprint, response.clone()));
        }
        Ok(claim)
    }

    async fn complete(&self, record: RecordId, fence: Fence, outcome: Outcome) -> Result<Fenced, StoreError> {
        let (record, outcome) = (self.name(record), damaged(outcome, self.fault));
        let held = {
            let mut shared = self.lock();
            if let Some(row) =
                shared.rows.get_mut(&record).filter(|row| row.outcome.is_some() && row.fence == fence)
            {
                return Ok(self.complete_again(row, outcome));
            }
            self.holds(&shared, record, fence, [Fault::CompleteUnfenced, Fault::LateCompleteStale])
        };
        if !held {
            return Ok(self.stale(&self.lock(), record));
        }
        match self.fault {
            Fault::TwoStepsToFence => yield_now().await,
            Fault::TwoStepsToComplete => {
                let row = self.lock().rows.remove(&record);
                yield_now().await;
                self.lock().rows.extend(row.map(|row| (record, row)));
            }
            Fault::BodyInASecondStep => {
                let half = Some(Outcome::Response(StoredResponse::from_bytes("".into())));
                self.lock().rows.entry(record).and_modify(|row| row.outcome = half);
                yield_now().await;
            }
            _ => {}
        }
        let mut shared = self.lock();
        if let Outcome::Response(response) = &outcome {
            shared.response = Some(response.clone());
        }
        shared.rows.entry(record).and_modify(|row| {
            row.outcome = Some(outcome);
            if self.is(Fault::TtlFromCompletion) {
                row.expires_at = now() + row.ttl;
            }
        });
        Ok(Fenced::Held)
    }

    async fn release(&self, record: RecordId, fence: Fence) -> Result<Fenced, StoreError> {
        let record = self.name(record);
        let held = {
            let mut shared = self.lock();
            let finished =
                shared.rows.get(&record).is_some_and(|row| row.outcome.is_some() && row.fence == fence);
            if self.is(Fault::FinishedReleased) && finished {
                self.forget(&mut shared, record);
                return Ok(Fenced::Held);
            }
            self.holds(&shared, record, fence, [Fault::ReleaseUnfenced, Fault::LateReleaseStale])
        };
        if !held {
            return Ok(self.stale(&self.lock(), record));
        }
        if self.is(Fault::TwoStepsToRelease) {
            self.lock().rows.entry(record).and_modify(|row| row.lease_end = now());
            yield_now().await;
        }
        let mut shared = self.lock();
        if self.is(Fault::ReleaseDropsOthers) {
            shared.rows.retain(|_, row| !row.released && row.checkpoint.is_none());
        }
        let Some(row) = shared.rows.get_mut(&record) else { return Ok(Fenced::Held) };
        if self.purge_fault == PurgeFault::KeepsReleased {
            row.released = true;
            return Ok(Fenced::Held);
        }
        match self.fault {
            Fault::ReleaseDoesNothing => {}
            Fault::ReleaseIsALapse => row.lease_end = now(),
            Fault::ReleaseKeepsFingerprint if row.checkpoint.is_none() => {
                (row.released, row.attempt) = (true, 0);
            }
            Fault::ReleaseKeepsAttempt => row.released = true,
            Fault::ReleaseForgetsCheckpoint => self.forget(&mut shared, record),
            _ if row.checkpoint.is_none() => self.forget(&mut shared, record),
            _ => row.released = true,
        }
        Ok(Fenced::Held)
    }

    async fn extend(&self, record: RecordId, fence: Fence, lease: Duration) -> Result<Fenced, StoreError> {
        let record = self.name(record);
        let held = self.holds(&self.lock(), record, fence, [Fault::ExtendUnfenced, Fault::LateExtendStale]);
        if !held && !self.is(Fault::StaleExtends) {
            return Ok(self.stale(&self.lock(), record));
        }
        if self.is(Fault::TwoStepsToExtend) {
            self.lock().rows.entry(record).and_modify(|row| row.lease_end = now());
            yield_now().await;
        }
        if self.is(Fault::ExtendsByFence) {
            let mut shared = self.lock();
            shared
                .rows
                .values_mut()
                .filter(|row| row.fence == fence)
                .for_each(|row| row.lease_end = now() + lease);
        }
        self.lock().rows.entry(record).and_modify(|row| {
            row.lease_end = match self.fault {
                Fault::ExtendFromEnd => row.lease_end + lease,
                Fault::ExtendNeverShortens => row.lease_end.max(now() + lease),
                Fault::ExtendByZeroIgnored if lease.is_zero() => row.lease_end,
                Fault::ExtendOnce if row.extended => row.lease_end,
                _ => now() + lease,
            };
            (row.lease, row.extended) = (lease, true);
        });
        Ok(if held { Fenced::Held } else { Fenced::Stale })
    }

    async fn checkpoint(
        &self,
        record: RecordId,
        fence: Fence,
        mut checkpoint: Checkpoint,
    ) -> Result<Fenced, StoreError> {
        let record = self.name(record);
        let faults = [Fault::CheckpointUnfenced, Fault::LateCheckpointStale];
        if !self.holds(&self.lock(), record, fence, faults) {
            return Ok(self.stale(&self.lock(), record));
        }
        match self.fault {
            Fault::CheckpointAsText => {
                checkpoint.data = String::from_utf8_lossy(&checkpoint.data).into_owned().into();
            }
            Fault::CheckpointNameTrimmed => checkpoint.name = checkpoint.name.trim().to_owned(),
            Fault::TwoStepsToCheckpoint => {
                let row = self.lock().rows.get(&record).and_then(|row| row.checkpoint.clone());
                let half = row.map(|before| Checkpoint::new(checkpoint.name.clone(), before.data));
                self.lock().rows.entry(record).and_modify(|row| row.checkpoint = half);
                yield_now().await;
            }
            _ => {}
        }
        let mut shared = self.lock();
        shared.checkpoint = Some(checkpoint.clone());
        let kept = Some(checkpoint).filter(|it| !self.is(Fault::EmptyCheckpointLost) || !it.data.is_empty());
        shared.rows.entry(record).and_modify(|row| {
            let stays = self.is(Fault::FirstCheckpointStays) && row.checkpoint.is_some();
            row.checkpoint = if stays { row.checkpoint.take() } else { kept };
        });
        Ok(Fenced::Held)
    }
}

impl Purge for WrongStore {
    async fn purge_expired(&self, limit: usize) -> Result<usize, StoreError> {
        let mut shared = self.lock();
        let goes = |row: &Row| match self.purge_fault {
            PurgeFault::DropsNothing => false,
            PurgeFault::DropsHeld => row.expires_at <= now(),
            PurgeFault::DropsOrphans => {
                row.is_forgotten(Fault::None) || !row.is_held(Fault::None) && row.outcome.is_none()
            }
            PurgeFault::DropsFinished => row.is_forgotten(Fault::None) || row.outcome.is_some(),
            PurgeFault::SparesRunning => row.is_forgotten(Fault::None) && row.outcome.is_some(),
            _ => row.is_forgotten(Fault::None),
        };
        let limit_kept = if self.purge_fault == PurgeFault::IgnoresLimit { usize::MAX } else { limit };
        let gone = shared.rows.iter().filter(|(_, row)| goes(row)).map(|(record, _)| *record);
        let gone = gone.take(limit_kept).collect::<Vec<_>>();
        for record in &gone {
            shared.rows.remove(record);
            if self.purge_fault == PurgeFault::ForgetsFences {
                shared.fences.remove(record);
            }
        }
        Ok(if self.purge_fault == PurgeFault::SaysLimit { limit } else { gone.len() })
    }
}

impl WrongStore {
    fn complete_again(&self, row: &mut Row, outcome: Outcome) -> Fenced {
        let same = match (&row.outcome, &outcome) {
            (Some(Outcome::Response(old)), Outcome::Response(new)) => old == new,
            (Some(Outcome::Tombstone(old)), Outcome::Tombstone(new)) => old == new,
            _ => false,
        };
        let replaced = match self.fault {
            Fault::LastOutcomeWins => true,
            Fault::TombstoneWins => matches!(outcome, Outcome::Tombstone(_)),
            Fault::ResponseWins => {
                matches!((&row.outcome, &outcome), (Some(Outcome::Tombstone(_)), Outcome::Response(_)))
            }
            _ => false,
        };
        if replaced {
            row.outcome = Some(outcome);
        }
        let stale = self.is(Fault::RepeatedStale) || (self.is(Fault::RepeatedIfEqual) && !same);
        if stale { Fenced::Stale } else { Fenced::Held }
    }
}
