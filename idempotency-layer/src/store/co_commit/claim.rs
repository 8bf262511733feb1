//! Claims in the transaction.

use std::time::Duration;

use http::Extensions;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};

use super::CoCommit;
use super::connection::{LentConnection, roll_back_in_time};
use super::database::{Claims, CoCommitDatabase, CommitError, CompletedClaim, Written};
use super::request::{PATIENCE, PAUSES, ended_elsewhere};
use crate::error::StoreError;
use crate::store::seen::{Decision, NO_LEASE_LEFT, RunningRecord, Seen, SeenState, answer, decide};
use crate::store::{Claim, ClaimRequest, ClaimTransaction, Completion, Ending, Outcome, TransactionClaim};

/// How long the transaction may take to begin.
const BEGIN_WITHIN: Duration = Duration::from_secs(8);

/// Begins a transaction and asks for the right to run in it.
pub(in crate::store) async fn claim<DB: CoCommitDatabase>(
    home: &DB::Home,
    request: ClaimRequest,
    transaction_time: Duration,
) -> Result<TransactionClaim, StoreError> {
    let claims = DB::claims(home);
    if claims.running.contains(request.record) {
        return Ok(in_flight());
    }
    // If any of these awaits is dropped, nothing was done, or the connection is closed and its lock
    // released.
    if let Some(claim) = DB::peek(home, &request).await {
        return Ok(TransactionClaim::Answered(claim));
    }
    let place = place(claims).await?;
    let (connection, gained, seen) = match begin::<DB>(home, &request, transaction_time).await {
        Ok(begun) => begun,
        // The pool's connection may have been closed while it was idle.
        Err(_) => begin::<DB>(home, &request, transaction_time).await?,
    };
    let run = match decide(seen.as_ref(), &request, gained) {
        Decision::Run(run) => run,
        Decision::Answer(claim) => {
            // The next try of a completed record is answered whether it gets the lock or not. Any
            // other might meet this lock.
            let waits = gained && !matches!(claim, Claim::Replay { .. } | Claim::Tombstone(_));
            if !waits && !connection.reads_uncommitted() {
                connection.roll_back_answered().await;
                return Ok(TransactionClaim::Answered(claim));
            }
            // A record that was read, but never committed, answers nothing.
            let committed = roll_back_in_time(connection).await.is_ok();
            return Ok(if committed { TransactionClaim::Answered(claim) } else { in_flight() });
        }
    };
    // We have the lock, so a record that is still entered belongs to a run that has just ended.
    let Some(running) = claims.running.enter(request.record) else {
        let _ = roll_back_in_time(connection).await;
        return Ok(in_flight());
    };
    let claimed = Claimed {
        running: Some(running),
        co_commit: CoCommit::<DB>::claimed(home.clone(), connection),
        request,
        seen,
        attempt: run.attempt,
        orphan: run.orphan,
        _place: place,
    };
    Ok(TransactionClaim::Run(run, Box::new(claimed)))
}

fn in_flight() -> TransactionClaim {
    TransactionClaim::Answered(Claim::InFlight { lease_left: NO_LEASE_LEFT })
}

async fn place(claims: &Claims) -> Result<OwnedSemaphorePermit, StoreError> {
    let place = timeout(claims.patience, claims.places.clone().acquire_owned()).await;
    place.map_err(StoreError::unavailable)?.map_err(StoreError::unavailable)
}

async fn begin<DB: CoCommitDatabase>(
    home: &DB::Home,
    request: &ClaimRequest,
    transaction_time: Duration,
) -> Result<(LentConnection<DB>, bool, Option<Seen>), StoreError> {
    let patience = DB::claims(home).patience + BEGIN_WITHIN;
    let begun = timeout(patience, LentConnection::begin_claim(home, request, transaction_time)).await;
    begun.map_err(StoreError::unavailable)?.map_err(StoreError::unavailable)
}

/// A transaction that is a claim.
struct Claimed<DB: CoCommitDatabase> {
    /// Dropped before the transaction ends, so that a duplicate asks the database from then on.
    running: Option<RunningRecord>,
    co_commit: CoCommit<DB>,
    request: ClaimRequest,
    seen: Option<Seen>,
    attempt: u32,
    orphan: bool,
    _place: OwnedSemaphorePermit,
}

/// Discards a transaction that was not ended. If a task still uses it, that task does.
impl<DB: CoCommitDatabase> Drop for Claimed<DB> {
    fn drop(&mut self) {
        self.running = None;
        drop(self.co_commit.shared.end());
    }
}

impl<DB: CoCommitDatabase> ClaimTransaction for Claimed<DB> {
    fn offer(&self, extensions: &mut Extensions) {
        extensions.insert(self.co_commit.clone());
    }

    fn keeps_on_error(&self) -> bool {
        self.co_commit.shared.lock().keeps_on_error
    }

    fn complete(mut self: Box<Self>, outcome: Outcome, with_rows: bool) -> Ending<Completion> {
        Box::pin(async move { Claimed::complete(&mut self, &outcome, with_rows).await })
    }

    fn roll_back(mut self: Box<Self>) -> Ending<()> {
        Box::pin(async move {
            self.running = None;
            self.co_commit.shared.roll_back().await
        })
    }
}

impl<DB: CoCommitDatabase> Claimed<DB> {
    async fn complete(&mut self, outcome: &Outcome, with_rows: bool) -> Result<Completion, StoreError> {
        let shared = self.co_commit.shared.clone();
        let mut connection = if with_rows { shared.to_commit().await? } else { shared.connection()? };
        // If this is dropped or the process killed before the COMMIT, nothing is committed and the
        // lock is free.
        if !with_rows {
            shared.lock().on_commit.clear();
            if let Err(error) = connection.roll_back_handler().await {
                let _ = roll_back_in_time(connection).await;
                // The savepoint does not exist: somebody else ended the transaction.
                let is_elsewhere = matches!(error, sqlx::Error::Database(_));
                return Err(if is_elsewhere {
                    ended_elsewhere::<DB>()
                } else {
                    StoreError::rolled_back(error)
                });
            }
        }
        let completed = CompletedClaim {
            request: &self.request,
            seen: self.seen.as_ref(),
            attempt: self.attempt,
            orphan: self.orphan,
            outcome,
        };
        let (within, _, mark) = connection.parts();
        let refused = match DB::complete_claim(&shared.home, within, mark, &completed).await {
            Ok(Written::Held) => None,
            Ok(Written::Stale) => Some(None),
            Ok(Written::Elsewhere) => Some(Some(ended_elsewhere::<DB>())),
            Err(error) => Some(Some(StoreError::rolled_back(error))),
        };
        self.running = None;
        match refused {
            None => {}
            Some(None) => {
                roll_back_in_time(connection).await?;
                let seen = DB::look_up(&shared.home, &self.request).await.map_err(StoreError::rolled_back)?;
                return Ok(Completion::Overtaken(answer(seen.as_ref(), &self.request)));
            }
            Some(Some(error)) => {
                let _ = roll_back_in_time(connection).await;
                return Err(error);
            }
        }
        // If this is dropped or the process killed, record and rows are both committed, or neither
        // is.
        match connection.commit().await {
            Ok(()) => {}
            Err(CommitError::RolledBack(error)) => return Err(StoreError::rolled_back(error)),
            Err(CommitError::Unknown(error)) => {
                if let Some(other) = self.find_out(&shared.home, error).await? {
                    return Ok(Completion::Overtaken(other));
                }
            }
        }
        shared.committed();
        Ok(Completion::Committed)
    }

    /// Looks up in the record whether a COMMIT took effect whose answer was lost. `None`: it did.
    async fn find_out(&self, home: &DB::Home, lost: sqlx::Error) -> Result<Option<Claim>, StoreError> {
        for pause in PAUSES {
            sleep(pause).await;
            let Ok(Ok(seen)) = timeout(PATIENCE, DB::look_up(home, &self.request)).await else { continue };
            let complete = seen.filter(|seen| {
                matches!(seen.state, SeenState::Complete(_) | SeenState::Tombstone(_)) && !seen.is_forgotten()
            });
            return match complete {
                Some(seen) if seen.token == self.request.token => Ok(None),
                // It was rolled back, and another run has completed the record since.
                Some(seen) if seen.fingerprint.matches(&self.request.fingerprint) => {
                    Ok(Some(answer(Some(&seen), &self.request)))
                }
                _ => Err(StoreError::rolled_back(lost)),
            };
        }
        Err(StoreError::unavailable(lost))
    }
}
