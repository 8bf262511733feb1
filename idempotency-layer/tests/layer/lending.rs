//! A store whose transactions are lists of rows in memory. Those of databases are tested in `co_commit.rs`.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Extensions;
use idempotency_layer::{
    Checkpoint, Claim, ClaimRequest, ClaimTransaction, ClaimsInTransaction, Completion, Ending, Fence,
    Fenced, Outcome, RecordId, RequestTransaction, Run, Store, StoreError, StoreErrorKind, TransactionClaim,
};

use crate::scripted::{Scripted, Verb};
use crate::support::{Gate, Req};

/// A store that lends transactions on a list of rows.
#[derive(Clone)]
pub(crate) struct Lending {
    pub(crate) records: Scripted,
    rows: Rows,
    pub(crate) slow_roll_back: Arc<Mutex<Option<Gate>>>,
}

#[derive(Clone, Default)]
struct Rows(Arc<Mutex<Table>>);

#[derive(Default)]
struct Table {
    committed: Vec<String>,
    /// How the next commit fails, and whether it takes effect nevertheless.
    next: Option<(StoreErrorKind, bool)>,
    log: Vec<&'static str>,
}

/// The handler's end.
#[derive(Clone, Default)]
pub(crate) struct Pen {
    rows: Arc<Mutex<Option<Vec<String>>>>,
    keeps_on_error: Arc<AtomicBool>,
}

impl Pen {
    pub(crate) fn of(request: &Req) -> Self {
        request.extensions().get::<Self>().expect("a transaction is lent").clone()
    }

    pub(crate) fn write(&self, row: impl Into<String>) {
        self.rows.lock().unwrap().get_or_insert_default().push(row.into());
    }

    pub(crate) fn keep_on_error(&self) {
        self.keeps_on_error.store(true, Ordering::Relaxed);
    }
}

struct Draft {
    pen: Pen,
    store: Lending,
}

impl Draft {
    async fn end(
        self: Box<Self>,
        how: &'static str,
        record: Option<(RecordId, Fence, Outcome)>,
    ) -> Result<Fenced, StoreError> {
        let next = {
            let mut table = self.store.rows.0.lock().unwrap();
            table.log.push(how);
            table.next.take()
        };
        if !matches!(next, Some((_, false))) {
            if let Some((record, fence, outcome)) = record
                && self.store.records.complete(record, fence, outcome).await? == Fenced::Stale
            {
                return Ok(Fenced::Stale);
            }
            let rows = self.pen.rows.lock().unwrap().take();
            self.store.rows.0.lock().unwrap().committed.extend(rows.into_iter().flatten());
        }
        match next {
            None => Ok(Fenced::Held),
            Some((StoreErrorKind::Unavailable, _)) => Err(StoreError::unavailable("lost")),
            Some(_) => Err(StoreError::rolled_back("a deferred constraint")),
        }
    }
}

impl RequestTransaction for Draft {
    fn is_begun(&self) -> bool {
        self.pen.rows.lock().unwrap().is_some()
    }

    fn keeps_on_error(&self) -> bool {
        self.pen.keeps_on_error.load(Ordering::Relaxed)
    }

    fn complete(self: Box<Self>, record: RecordId, fence: Fence, outcome: Outcome) -> Ending<Fenced> {
        Box::pin(self.end("complete", Some((record, fence, outcome))))
    }

    fn commit(self: Box<Self>) -> Ending<()> {
        Box::pin(async { self.end("commit", None).await.map(drop) })
    }

    fn roll_back(self: Box<Self>) -> Ending<()> {
        Box::pin(async move {
            // The log of the records shows whether the claim was given up before.
            let gave_up = self.store.records.count(Verb::Release) + self.store.records.count(Verb::Complete);
            let how = if gave_up == 0 { "roll back" } else { "roll back, too late" };
            self.store.rows.0.lock().unwrap().log.push(how);
            let slow = self.store.slow_roll_back.lock().unwrap().clone();
            if let Some(gate) = slow {
                gate.pass().await;
            }
            Ok(())
        })
    }
}

impl Lending {
    pub(crate) fn new() -> Self {
        Self { records: Scripted::new(), rows: Rows::default(), slow_roll_back: Arc::default() }
    }

    pub(crate) fn committed(&self) -> Vec<String> {
        self.rows.0.lock().unwrap().committed.clone()
    }

    pub(crate) fn ends(&self) -> Vec<&'static str> {
        self.rows.0.lock().unwrap().log.clone()
    }

    pub(crate) fn next_commit(&self, fails: StoreErrorKind, takes_effect: bool) {
        self.rows.0.lock().unwrap().next = Some((fails, takes_effect));
    }
}

impl Store for Lending {
    async fn claim(&self, request: ClaimRequest) -> Result<Claim, StoreError> {
        self.records.claim(request).await
    }

    async fn complete(&self, record: RecordId, fence: Fence, outcome: Outcome) -> Result<Fenced, StoreError> {
        self.records.complete(record, fence, outcome).await
    }

    async fn release(&self, record: RecordId, fence: Fence) -> Result<Fenced, StoreError> {
        self.records.release(record, fence).await
    }

    async fn extend(&self, record: RecordId, fence: Fence, lease: Duration) -> Result<Fenced, StoreError> {
        self.records.extend(record, fence, lease).await
    }

    async fn checkpoint(&self, record: RecordId, fence: Fence, at: Checkpoint) -> Result<Fenced, StoreError> {
        self.records.checkpoint(record, fence, at).await
    }

    fn offer_transaction(&self, extensions: &mut Extensions) -> Option<Box<dyn RequestTransaction>> {
        let pen = Pen::default();
        extensions.insert(pen.clone());
        Some(Box::new(Draft { pen, store: self.clone() }))
    }
}

/// A store whose claims are transactions. It keeps no outcome.
#[derive(Clone, Debug, Default)]
pub(crate) struct Exclusive(Arc<Mutex<HashSet<RecordId>>>);

impl Store for Exclusive {
    async fn claim(&self, _: ClaimRequest) -> Result<Claim, StoreError> {
        unreachable!("claims are transactions")
    }

    async fn complete(&self, _: RecordId, _: Fence, _: Outcome) -> Result<Fenced, StoreError> {
        unreachable!("claims are transactions")
    }

    async fn release(&self, _: RecordId, _: Fence) -> Result<Fenced, StoreError> {
        unreachable!("claims are transactions")
    }

    async fn extend(&self, _: RecordId, _: Fence, _: Duration) -> Result<Fenced, StoreError> {
        unreachable!("claims are transactions")
    }

    async fn checkpoint(&self, _: RecordId, _: Fence, _: Checkpoint) -> Result<Fenced, StoreError> {
        unreachable!("claims are transactions")
    }
}

impl ClaimsInTransaction for Exclusive {
    const TRANSACTION_TIME: Duration = Duration::from_secs(30);

    async fn claim_in_transaction(
        &self,
        request: ClaimRequest,
        _: Duration,
    ) -> Result<TransactionClaim, StoreError> {
        let claimed = self.0.lock().unwrap().insert(request.record);
        Ok(if claimed {
            let transaction = ExclusiveTransaction { store: self.clone(), record: request.record };
            TransactionClaim::Run(Run::new(Fence(0), 1), Box::new(transaction))
        } else {
            TransactionClaim::Answered(Claim::InFlight { lease_left: Duration::from_secs(30) })
        })
    }
}

struct ExclusiveTransaction {
    store: Exclusive,
    record: RecordId,
}

impl ClaimTransaction for ExclusiveTransaction {
    fn offer(&self, _: &mut Extensions) {}

    fn keeps_on_error(&self) -> bool {
        false
    }

    fn complete(self: Box<Self>, _: Outcome, _: bool) -> Ending<Completion> {
        Box::pin(async { Ok(Completion::Committed) })
    }

    fn roll_back(self: Box<Self>) -> Ending<()> {
        Box::pin(async {
            drop(self);
            Ok(())
        })
    }
}

impl Drop for ExclusiveTransaction {
    fn drop(&mut self) {
        self.store.0.lock().unwrap().remove(&self.record);
    }
}
