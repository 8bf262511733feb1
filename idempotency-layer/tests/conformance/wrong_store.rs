//! A simple store with one fault.

mod verbs;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use idempotency_layer::{
    Checkpoint, Claim, ClaimRequest, ClaimToken, Fence, Fenced, Fingerprint, Outcome, RecordId, Run,
    StoredResponse, Tombstone,
};
use tokio::time::Instant;

use crate::faults::{Fault, PurgeFault};

/// One handle.
pub(crate) struct WrongStore {
    fault: Fault,
    purge_fault: PurgeFault,
    shared: Arc<Mutex<Shared>>,
    /// The private state of this handle, for faults that need it.
    own: Mutex<Own>,
}

#[derive(Default)]
struct Shared {
    rows: HashMap<RecordId, Row>,
    /// The rows that were forgotten.
    dead: HashMap<RecordId, Row>,
    fences: HashMap<RecordId, u64>,
    checkpoint: Option<Checkpoint>,
    response: Option<StoredResponse>,
}

#[derive(Default)]
struct Own {
    fences: HashMap<RecordId, u64>,
    replays: HashMap<RecordId, (Fingerprint, StoredResponse)>,
}

#[derive(Clone)]
struct Row {
    fingerprint: Fingerprint,
    token: ClaimToken,
    fence: Fence,
    attempt: u32,
    orphan: bool,
    lease: Duration,
    lease_end: Instant,
    extended: bool,
    released: bool,
    ttl: Duration,
    expires_at: Instant,
    checkpoint: Option<Checkpoint>,
    outcome: Option<Outcome>,
}

/// How much too early or too late a lease ends.
const GRAIN: Duration = Duration::from_millis(100);

impl WrongStore {
    pub(crate) fn new(fault: Fault) -> Self {
        Self { fault, purge_fault: PurgeFault::None, shared: Arc::default(), own: Mutex::default() }
    }

    pub(crate) fn purging(purge_fault: PurgeFault) -> Self {
        Self { purge_fault, ..Self::new(Fault::None) }
    }

    pub(crate) fn handle(&self) -> Self {
        Self { shared: self.shared.clone(), own: Mutex::default(), ..*self }
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("a test panicked under the lock")
    }

    fn own(&self) -> MutexGuard<'_, Own> {
        self.own.lock().expect("a test panicked under the lock")
    }

    fn name(&self, record: RecordId) -> RecordId {
        let mut bytes = *record.as_bytes();
        match self.fault {
            Fault::EightBytes => bytes[8..].fill(0),
            Fault::LastSixteenBytes => bytes[..16].fill(0),
            _ => {}
        }
        RecordId::from_bytes(bytes)
    }

    fn next_fence(&self, shared: &mut Shared, record: RecordId) -> Fence {
        let mut own = self.own();
        let fences = if self.is(Fault::FencesPerHandle) { &mut own.fences } else { &mut shared.fences };
        let last = fences.entry(record).or_default();
        *last += 1;
        Fence(*last)
    }

    fn insert(&self, shared: &mut Shared, ask: ClaimRequest) -> Claim {
        let dead = shared.dead.get(&ask.record).cloned();
        let ttl = match self.fault {
            Fault::TtlIn32Bits => {
                Duration::from_millis(u64::try_from(ask.ttl.as_millis()).unwrap_or_default() % (1 << 32))
            }
            _ => ask.ttl,
        };
        let row = Row {
            fingerprint: ask.fingerprint,
            token: ask.token,
            fence: self.next_fence(shared, ask.record),
            attempt: u32::from(!self.is(Fault::AttemptsFromZero)),
            orphan: self.is(Fault::OrphanFirst),
            lease: ask.lease,
            lease_end: now() + ask.lease,
            extended: false,
            released: false,
            ttl,
            expires_at: match &dead {
                Some(dead) if self.is(Fault::TtlOutlivesRecord) => dead.expires_at,
                _ => now() + ttl,
            },
            checkpoint: match self.fault {
                Fault::EmptyCheckpointFirst => Some(Checkpoint::new("", "")),
                Fault::CheckpointOutlivesRecord => dead.and_then(|dead| dead.checkpoint),
                _ => None,
            },
            outcome: None,
        };
        let run = self.answer(shared, &row);
        shared.rows.insert(ask.record, row);
        run
    }

    fn answer(&self, shared: &Shared, row: &Row) -> Claim {
        let checkpoint = if self.is(Fault::OneCheckpointForAll) && row.checkpoint.is_some() {
            shared.checkpoint.clone()
        } else {
            row.checkpoint.clone()
        };
        Claim::Run(Run::new(row.fence, row.attempt).orphan(row.orphan).checkpoint(checkpoint))
    }

    fn claim_known(&self, shared: &mut Shared, ask: ClaimRequest) -> Claim {
        self.forget_expired(shared, ask.record);
        let Some(mut row) = shared.rows.get(&ask.record).cloned() else {
            let dead = shared.dead.get(&ask.record).filter(|_| self.is(Fault::FingerprintOutlivesRecord));
            if dead
                .is_some_and(|dead| dead.expires_at <= now() && !dead.fingerprint.matches(&ask.fingerprint))
            {
                return Claim::Mismatch;
            }
            return self.insert(shared, ask);
        };
        let claim = self.claim_row(shared, &mut row, ask);
        shared.rows.insert(ask.record, row);
        claim
    }

    fn replay(&self, row: &Row, response: StoredResponse, ask: ClaimRequest) -> Claim {
        let expires_in = match self.fault {
            Fault::AskersLifeLeft => ask.ttl,
            Fault::NoLifeLeft => Duration::ZERO,
            _ => row.expires_at.saturating_duration_since(now()),
        };
        Claim::Replay { response, expires_in }
    }

    fn claim_row(&self, shared: &mut Shared, row: &mut Row, ask: ClaimRequest) -> Claim {
        let over = row.is_over(self.fault);
        if row.released && matches!(self.fault, Fault::ReleaseKeepsAttempt | Fault::ReleaseOpensToStrangers) {
            row.fingerprint = ask.fingerprint;
        }
        let matches = match (self.fault, &row.outcome) {
            (Fault::FingerprintsByByte, _) => row.fingerprint == ask.fingerprint,
            (Fault::MismatchWhenFinishedOnly, None)
            | (Fault::MismatchWhenRunningOnly, Some(_))
            | (Fault::TombstoneForStrangers, Some(Outcome::Tombstone(_))) => true,
            (Fault::StrangerInherits, None) if over => true,
            _ => row.fingerprint.matches(&ask.fingerprint),
        };
        if !matches {
            match self.fault {
                Fault::StrangerRenews => row.lease_end = now() + ask.lease,
                Fault::StrangerLeavesToken => row.token = ask.token,
                Fault::StrangerBuries => row.outcome = Some(Outcome::Tombstone(Tombstone::Unknown)),
                _ => {}
            }
            return Claim::Mismatch;
        }
        if self.is(Fault::TtlFromLook) {
            row.expires_at = now() + ask.ttl;
        }
        match (&row.outcome, self.fault) {
            (None, _) | (Some(Outcome::Tombstone(_)), Fault::TombstoneRunsAgain) => {}
            (Some(Outcome::Response(_)), Fault::OneResponseForAll) => {
                return shared
                    .response
                    .clone()
                    .map_or(Claim::Mismatch, |response| self.replay(row, response, ask));
            }
            (Some(Outcome::Response(response)), _) => return self.replay(row, response.clone(), ask),
            (Some(Outcome::Tombstone(_)), Fault::TombstoneInFlight) => {
                return Claim::InFlight { lease_left: Duration::from_millis(1) };
            }
            (Some(Outcome::Tombstone(_)), Fault::TombstoneReasonLost) => {
                return Claim::Tombstone(Tombstone::Unknown);
            }
            (Some(Outcome::Tombstone(_)), Fault::TombstoneReplayed) => {
                return self.replay(row, StoredResponse::from_bytes("".into()), ask);
            }
            (Some(Outcome::Tombstone(tombstone)), _) => return Claim::Tombstone(*tombstone),
        }
        if self.is_own(row, ask, over) {
            return self.claim_again(shared, row, ask);
        }
        let exhausted = self.is(Fault::OneTakeover) && row.orphan && !row.released;
        if over && !exhausted {
            return self.take_over(shared, row, ask);
        }
        if self.is(Fault::InFlightRenews) {
            row.lease_end = row.lease_end.max(now() + ask.lease);
        }
        let left = row.lease_end.saturating_duration_since(now()).max(Duration::from_millis(1));
        let lease_left = match self.fault {
            Fault::WholeLeaseLeft => row.lease,
            Fault::AskersLeaseLeft => ask.lease,
            Fault::WholeSecondsLeft => Duration::from_secs(left.as_secs()),
            Fault::ZeroLeft => Duration::ZERO,
            _ => left,
        };
        Claim::InFlight { lease_left }
    }

    fn is_own(&self, row: &Row, ask: ClaimRequest, over: bool) -> bool {
        let lapsed = self.is(Fault::TokenWithinLeaseOnly) && over;
        let ended = row.released && !self.is(Fault::TokenOutlivesRelease);
        row.token == ask.token && !ended && !lapsed && !self.is(Fault::TokenIgnored)
    }

    fn claim_again(&self, shared: &mut Shared, row: &mut Row, ask: ClaimRequest) -> Claim {
        if self.is(Fault::TokenNewFence) {
            row.fence = self.next_fence(shared, ask.record);
        }
        row.attempt += u32::from(self.is(Fault::TokenNewAttempt));
        row.released = false;
        if !self.is(Fault::TokenOldLease) {
            row.lease_end = now() + ask.lease;
        }
        let mut shown = row.clone();
        shown.orphan &= !self.is(Fault::TokenForgetsOrphan);
        shown.checkpoint = shown.checkpoint.filter(|_| !self.is(Fault::TokenForgetsCheckpoint));
        self.answer(shared, &shown)
    }

    fn take_over(&self, shared: &mut Shared, row: &mut Row, ask: ClaimRequest) -> Claim {
        let kept = match self.fault {
            Fault::TakeoverKeepsFence => !row.released,
            Fault::ReleaseKeepsFence => row.released,
            _ => false,
        };
        if !kept {
            row.fence = self.next_fence(shared, ask.record);
        }
        row.attempt = match self.fault {
            Fault::TakeoverSameAttempt if !row.released => row.attempt,
            Fault::ReleaseResetsAttempt if row.released => 1,
            _ => row.attempt + 1,
        };
        row.orphan = match self.fault {
            Fault::TakeoverUnmarked => false,
            Fault::OrphanForEver => row.orphan || !row.released,
            _ => !row.released,
        };
        let start = if self.is(Fault::TakeoverFromOldEnd) { row.lease_end } else { now() };
        (row.lease, row.lease_end, row.extended) = (ask.lease, start + ask.lease, false);
        if !self.is(Fault::TokenOfFirstOwner) {
            row.token = ask.token;
        }
        match self.fault {
            Fault::HeirsFingerprint => row.fingerprint = ask.fingerprint,
            Fault::TtlFromTakeover => row.expires_at = now() + ask.ttl,
            Fault::TakeoverForgetsCheckpoint if !row.released => row.checkpoint = None,
            _ => {}
        }
        row.released = false;
        let run = self.answer(shared, row);
        if self.is(Fault::CheckpointOnce) {
            row.checkpoint = None;
        }
        run
    }

    fn forget_expired(&self, shared: &mut Shared, record: RecordId) {
        let fault = self.fault;
        if shared.rows.get(&record).is_some_and(|row| row.is_forgotten(fault)) {
            self.forget(shared, record);
            if fault == Fault::FencesRestartAfterExpiry {
                shared.fences.remove(&record);
            }
        }
    }

    fn forget(&self, shared: &mut Shared, record: RecordId) {
        shared.dead.extend(shared.rows.remove_entry(&record));
        if self.is(Fault::FencesRestart) {
            shared.fences.remove(&record);
        }
    }

    /// Returns whether a verb is held. Two kinds of fault apply here: "with any fence" and "not after the lease".
    fn holds(&self, shared: &Shared, record: RecordId, fence: Fence, faults: [Fault; 2]) -> bool {
        let Some(row) = shared.rows.get(&record) else { return false };
        let fenced = match self.fault {
            fault if fault == faults[0] => true,
            Fault::LaterFenceHeld => fence >= row.fence,
            Fault::EarlierFenceHeld => fence <= row.fence,
            _ => fence == row.fence,
        };
        let late = row.lease_end <= now() && (self.is(Fault::LateStale) || self.is(faults[1]));
        let released = row.released && !self.is(Fault::ReleasedStillHeld);
        fenced && !late && !released && row.outcome.is_none()
    }

    /// Applies the verb to a record that the caller has read.
    fn stale(&self, shared: &Shared, record: RecordId) -> Fenced {
        let held = self.is(Fault::UnknownHeld) && !shared.rows.contains_key(&record);
        if held { Fenced::Held } else { Fenced::Stale }
    }
}

impl Row {
    fn is_over(&self, fault: Fault) -> bool {
        let end = match fault {
            Fault::LeaseEndsEarly => self.lease_end.checked_sub(GRAIN).unwrap_or(self.lease_end),
            Fault::LeaseEndsLate => self.lease_end + GRAIN,
            _ => self.lease_end,
        };
        self.released || end <= now()
    }

    fn is_held(&self, fault: Fault) -> bool {
        self.outcome.is_none() && !self.is_over(fault)
    }

    fn is_forgotten(&self, fault: Fault) -> bool {
        let kept = match (fault, &self.outcome) {
            (Fault::FinishedForEver, Some(Outcome::Response(_)))
            | (Fault::TombstoneForEver, Some(Outcome::Tombstone(_))) => true,
            (Fault::OrphanedForEver, None) => !self.released,
            (Fault::ReleasedForEver, None) => self.released,
            (Fault::ForgottenWhileHeld, _) => false,
            _ => self.is_held(fault),
        };
        self.expires_at <= now() && !kept
    }
}

#[expect(clippy::disallowed_methods, reason = "the clock of this store")]
fn now() -> Instant {
    Instant::now()
}
