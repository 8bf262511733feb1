//! A record as a claim in the transaction reads it, and the decision that follows.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Checkpoint, Claim, ClaimRequest, ClaimToken, Fence, RecordId, Run, Tombstone};
use crate::fingerprint::Fingerprint;
use crate::response::StoredResponse;

/// The `lease_left` of a claim that is a transaction. Such a claim has no lease and may end at any
/// moment. A waiting layer asks again after this time, and each time takes a connection.
pub(super) const NO_LEASE_LEFT: Duration = Duration::from_millis(100);

/// A record of the store, read at one moment.
#[derive(Clone, Debug)]
pub struct Seen {
    pub(super) fence: Fence,
    /// The number of the state in the table, which the completion compares.
    pub(super) state_number: i16,
    pub(super) state: SeenState,
    pub(super) fingerprint: Fingerprint,
    pub(super) token: ClaimToken,
    pub(super) attempt: u32,
    pub(super) checkpoint: Option<Checkpoint>,
    /// The rest of the time to live. Zero means that it has ended.
    pub(super) expires_in: Duration,
}

#[derive(Clone, Debug)]
pub(super) enum SeenState {
    /// A leased claim. If `lease_left` is zero, the lease has ended.
    Running {
        lease_left: Duration,
    },
    Released,
    Complete(StoredResponse),
    Tombstone(Tombstone),
}

/// The decision about a claim in the transaction.
#[derive(Debug)]
pub(super) enum Decision {
    Run(Run),
    Answer(Claim),
}

/// Decides about a claim, from the record as it was read after the lock was tried.
///
/// | record | lock gained | not gained |
/// |---|---|---|
/// | complete, same fingerprint | replay | replay: the holder is often another replay |
/// | another fingerprint, not expired | mismatch | mismatch |
/// | running, lease not over | in flight | in flight |
/// | none, expired, released | run | in flight |
/// | running, lease over | run, as the heir of an orphan | in flight |
pub(super) fn decide(seen: Option<&Seen>, request: &ClaimRequest, gained: bool) -> Decision {
    let known = seen.filter(|seen| !seen.is_forgotten());
    if let Some(answer) = known.and_then(|seen| seen.answer(request)) {
        return Decision::Answer(answer);
    }
    if !gained {
        return Decision::Answer(Claim::InFlight { lease_left: NO_LEASE_LEFT });
    }
    Decision::Run(match known {
        None => Run { fence: Fence(0), attempt: 1, orphan: false, checkpoint: None },
        Some(seen) => Run {
            fence: Fence(0),
            attempt: seen.attempt.saturating_add(1),
            orphan: matches!(seen.state, SeenState::Running { .. }),
            checkpoint: seen.checkpoint.clone(),
        },
    })
}

/// Returns the answer of a record to a request that may not run. If it could run otherwise, it is
/// `InFlight`.
pub(super) fn answer(seen: Option<&Seen>, request: &ClaimRequest) -> Claim {
    match decide(seen, request, false) {
        Decision::Answer(claim) => claim,
        Decision::Run(_) => Claim::InFlight { lease_left: NO_LEASE_LEFT },
    }
}

impl Seen {
    /// Returns whether a claim is the first claim of a new record.
    pub(super) fn is_forgotten(&self) -> bool {
        match self.state {
            SeenState::Running { lease_left } => self.expires_in.is_zero() && lease_left.is_zero(),
            SeenState::Released => self.expires_in.is_zero() || self.checkpoint.is_none(),
            SeenState::Complete(_) | SeenState::Tombstone(_) => self.expires_in.is_zero(),
        }
    }

    /// Returns the answer of the record. `None` if the holder of the lock may run.
    fn answer(&self, request: &ClaimRequest) -> Option<Claim> {
        if !self.fingerprint.matches(&request.fingerprint) {
            return Some(Claim::Mismatch);
        }
        match &self.state {
            SeenState::Running { lease_left } if !lease_left.is_zero() => {
                Some(Claim::InFlight { lease_left: *lease_left })
            }
            SeenState::Running { .. } | SeenState::Released => None,
            SeenState::Complete(response) => {
                Some(Claim::Replay { response: response.clone(), expires_in: self.expires_in })
            }
            SeenState::Tombstone(tombstone) => Some(Claim::Tombstone(*tombstone)),
        }
    }
}

/// The records whose handlers run in this process in the transaction. A duplicate of one of them is
/// answered without a connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Running(Arc<Mutex<HashSet<RecordId>>>);

impl Running {
    pub(super) fn contains(&self, record: RecordId) -> bool {
        self.lock().contains(&record)
    }

    /// Adds a record until the returned value is dropped. Returns `None` if the record is running
    /// already.
    pub(super) fn enter(&self, record: RecordId) -> Option<RunningRecord> {
        let entered = self.lock().insert(record);
        entered.then(|| RunningRecord { running: self.clone(), record })
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<RecordId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A record in [`Running`].
#[derive(Debug)]
pub(super) struct RunningRecord {
    running: Running,
    record: RecordId,
}

impl Drop for RunningRecord {
    fn drop(&mut self) {
        self.running.lock().remove(&self.record);
    }
}
