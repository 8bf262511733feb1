//! Claims in the transaction through the traits of a store.

use std::time::Duration;

use bytes::Bytes;
use http::Extensions;
use idempotency_layer::{
    Claim, ClaimRequest, ClaimToken, ClaimTransaction, ClaimsInTransaction, CoCommit, Completion,
    Fingerprint, Outcome, RecordId, Run, StoredResponse, TransactionClaim,
};

use crate::database::Bench;

pub(crate) const LONG: Duration = Duration::from_mins(10);

/// Makes a claim of a new record.
pub(crate) fn ask() -> ClaimRequest {
    let (token, other) = (ClaimToken::new(), ClaimToken::new());
    let mut record = [0; 32];
    record[..16].copy_from_slice(token.as_bytes());
    record[16..].copy_from_slice(other.as_bytes());
    let fingerprint = Fingerprint::from_bytes([1; Fingerprint::LEN]);
    ClaimRequest::new(RecordId::from_bytes(record), fingerprint, token, LONG, LONG)
}

/// Makes another claim of the same record.
pub(crate) fn rival(mut of: ClaimRequest) -> ClaimRequest {
    of.token = ClaimToken::new();
    of
}

/// Makes another claim of the same record with a very short lease.
pub(crate) fn hasty(of: ClaimRequest) -> ClaimRequest {
    let mut hasty = rival(of);
    hasty.lease = Duration::from_millis(1);
    hasty
}

/// Makes an outcome with this text, in no format of the crate.
pub(crate) fn outcome(text: &str) -> Outcome {
    Outcome::Response(StoredResponse::from_bytes(Bytes::copy_from_slice(text.as_bytes())))
}

/// Returns the text of a replay.
pub(crate) fn text(response: &StoredResponse) -> &str {
    std::str::from_utf8(response.as_bytes()).unwrap()
}

/// A run whose transaction is its claim.
pub(crate) struct InTransaction<DB: Bench> {
    pub(crate) run: Run,
    pub(crate) co_commit: CoCommit<DB>,
    pub(crate) transaction: Box<dyn ClaimTransaction>,
}

impl<DB: Bench> InTransaction<DB> {
    /// Claims a record, which must run.
    pub(crate) async fn begin(store: &DB::Records, request: ClaimRequest) -> Self {
        match claim::<DB>(store, request).await {
            Ok(claimed) => claimed,
            Err(claim) => panic!("{claim:?}"),
        }
    }

    pub(crate) async fn write(&mut self, row: &str) {
        DB::insert(&mut *self.co_commit.begin().await.unwrap(), row).await.unwrap();
    }

    /// Completes with this text and commits the rows.
    pub(crate) async fn complete(self, text: &str) -> Completion {
        self.transaction.complete(outcome(text), true).await.unwrap()
    }
}

/// Claims a record. Returns the answer as an error if the claim does not run.
pub(crate) async fn claim<DB: Bench>(
    store: &DB::Records,
    request: ClaimRequest,
) -> Result<InTransaction<DB>, Claim> {
    match store.claim_in_transaction(request, LONG).await.unwrap() {
        TransactionClaim::Run(run, transaction) => {
            let mut extensions = Extensions::new();
            transaction.offer(&mut extensions);
            let co_commit = extensions.remove().expect("a transaction is offered");
            Ok(InTransaction { run, co_commit, transaction })
        }
        TransactionClaim::Answered(claim) => Err(claim),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn is_in_flight<T>(claim: &Result<T, Claim>) -> bool {
    matches!(claim, Err(Claim::InFlight { .. }))
}
