//! The optional trait `ClaimsInTransaction`.

use std::fmt;

use tokio::task::JoinHandle;

use super::Harness;
use super::probe::{Probe, checkpoint, response};
use crate::error::{StoreError, StoreErrorKind};
use crate::store::{
    Claim, ClaimRequest, ClaimTransaction, ClaimsInTransaction, Completion, Fenced, Outcome, Run, Store,
    Tombstone, TransactionClaim,
};

/// A number of the [contract of claims in the transaction](ClaimsInTransaction#the-contract).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "`sentence` says what they are")]
pub enum TransactionClause {
    FirstClaim = 1,
    OneRunner,
    Replay,
    RollBack,
    Drop,
    Mismatch,
    Lease,
    Takeover,
    FirstToCommit,
    Expiry,
}

impl TransactionClause {
    /// All clauses, in order.
    pub const ALL: &'static [Self] = &[
        Self::FirstClaim,
        Self::OneRunner,
        Self::Replay,
        Self::RollBack,
        Self::Drop,
        Self::Mismatch,
        Self::Lease,
        Self::Takeover,
        Self::FirstToCommit,
        Self::Expiry,
    ];

    /// Returns the number, from 1.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Returns the text, with the name in front.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::FirstClaim => {
                "First claim. The claim of a record unknown to the store is Run, attempt 1, no orphan, no \
                 checkpoint."
            }
            Self::OneRunner => {
                "One runner. While the transaction is open, no other claim of its record runs, leased or in a \
                 transaction. It is InFlight, fails as Unavailable, or waits for the end."
            }
            Self::Replay => {
                "Replay. After complete, a claim of either kind is Claim::Replay with the same response, byte for \
                 byte, or Claim::Tombstone with the same reason."
            }
            Self::RollBack => {
                "Rollback. When roll_back returns, the next claim of either kind runs at once: attempt 1, any \
                 fingerprint."
            }
            Self::Drop => {
                "Drop. A transaction that is dropped ends soon after, and leaves what a rollback leaves."
            }
            Self::Mismatch => {
                "Mismatch. A claim whose fingerprint does not match the record's is Claim::Mismatch, whether the \
                 record is leased, an orphan, or complete. It changes nothing."
            }
            Self::Lease => {
                "Lease. While a leased claim holds, a claim in the transaction is InFlight with the rest of the \
                 lease."
            }
            Self::Takeover => {
                "Takeover. After a lease has ended, a claim in the transaction is Run with the next attempt and \
                 the latest checkpoint, marked as an orphan. After a release with a checkpoint it is the same, \
                 and no orphan."
            }
            Self::FirstToCommit => {
                "First to commit. If a leased owner is late and its heir runs in the transaction, the first to \
                 complete wins. The owner's completion is then Stale, or the heir's is Overtaken with the owner's \
                 response."
            }
            Self::Expiry => {
                "Expiry. A record is forgotten ttl after its first claim. The next claim is a first claim."
            }
        }
    }

    /// Checks that the store keeps this clause.
    ///
    /// # Panics
    ///
    /// If the store does not, or if a verb fails unexpectedly.
    pub async fn check<H: Harness<Store: ClaimsInTransaction>>(self, harness: &H) {
        let probe = &Probe::new(self, harness).await;
        match self {
            Self::FirstClaim => first_claim(probe).await,
            Self::OneRunner => one_runner(probe).await,
            Self::Replay => replay(probe).await,
            Self::RollBack => roll_back(probe).await,
            Self::Drop => dropped(probe).await,
            Self::Mismatch => mismatch(probe).await,
            Self::Lease => lease(probe).await,
            Self::Takeover => takeover(probe).await,
            Self::FirstToCommit => first_to_commit(probe).await,
            Self::Expiry => expiry(probe).await,
        }
    }
}

/// Number and text, as a failed check begins.
impl fmt::Display for TransactionClause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "transaction clause {}, {}", self.number(), self.sentence())
    }
}

/// Checks that [`ClaimsInTransaction`] keeps every [`TransactionClause`].
///
/// # Panics
///
/// If the store does not, or if a verb fails unexpectedly.
pub async fn check_transactions<H: Harness<Store: ClaimsInTransaction>>(harness: &H) {
    for clause in TransactionClause::ALL {
        clause.check(harness).await;
    }
}

type Begun = (Run, Box<dyn ClaimTransaction>);

impl<H: Harness<Store: ClaimsInTransaction>> Probe<'_, H> {
    /// Makes a claim in the transaction that runs.
    async fn begin(&self, request: ClaimRequest, when: &str) -> Begun {
        let claim = self.handle().claim_in_transaction(request, self.long()).await;
        match self.unfailing(claim, "a claim in the transaction") {
            TransactionClaim::Run(run, transaction) => (run, transaction),
            TransactionClaim::Answered(other) => self.not("Run", &other, when),
        }
    }

    /// Makes a claim in the transaction of an unknown record, which runs.
    async fn begin_first(&self, request: ClaimRequest, when: &str) -> Begun {
        let (run, transaction) = self.begin(request, when).await;
        let good = run.attempt == 1 && !run.orphan && run.checkpoint.is_none();
        self.ensure(good, format_args!("a claim {when} was {run:?}, not a first one"));
        (run, transaction)
    }

    /// Makes a claim in the transaction that does not run.
    async fn answered(&self, request: ClaimRequest, when: &str) -> Claim {
        let claim = self.handle().claim_in_transaction(request, self.long()).await;
        match self.unfailing(claim, "a claim in the transaction") {
            TransactionClaim::Answered(claim) => claim,
            TransactionClaim::Run(run, _) => self.fail(format_args!("a claim {when} was {run:?}")),
        }
    }

    async fn commit(&self, transaction: Box<dyn ClaimTransaction>, outcome: &Outcome) {
        match self.unfailing(transaction.complete(outcome.clone(), true).await, "complete") {
            Completion::Committed => {}
            Completion::Overtaken(claim) => {
                self.fail(format_args!("a completion was overtaken by nobody, with {claim:?}"));
            }
        }
    }

    /// Makes a claim in the transaction while another one is open. Returns `None` if it did not
    /// run.
    fn asked_beside(&self, request: ClaimRequest) -> JoinHandle<Option<Result<Claim, StoreError>>> {
        let (store, time) = (self.handle(), self.long());
        tokio::spawn(async move {
            match store.claim_in_transaction(request, time).await {
                Ok(TransactionClaim::Run(_, transaction)) => {
                    transaction.roll_back().await.expect("a rollback");
                    None
                }
                Ok(TransactionClaim::Answered(claim)) => Some(Ok(claim)),
                Err(error) => Some(Err(error)),
            }
        })
    }

    /// Ensures that a claim beside an open transaction did not run.
    fn lost(&self, answer: Option<&Result<Claim, StoreError>>, kind: &str) {
        let good = match answer {
            Some(Ok(Claim::InFlight { .. })) => true,
            Some(Err(error)) => error.kind() == StoreErrorKind::Unavailable,
            _ => false,
        };
        self.ensure(good, format_args!("a {kind} claim beside an open transaction was {answer:?}"));
    }

    /// Checks the answers to claims of both kinds after a completion.
    async fn is_complete(&self, ask: ClaimRequest, outcome: &Outcome) {
        for _ in 0..2 {
            let (in_transaction, leased) = (self.answered(self.rival(ask), AFTER).await, self.rival(ask));
            match (outcome, in_transaction) {
                (Outcome::Response(response), Claim::Replay { response: replay, expires_in }) => {
                    let good = replay.as_bytes() == response.as_bytes()
                        && !expires_in.is_zero()
                        && expires_in <= ask.ttl;
                    self.ensure(good, format_args!("a claim {AFTER} was another Replay, for {expires_in:?}"));
                    self.replays(leased, response, AFTER).await;
                }
                (Outcome::Tombstone(reason), Claim::Tombstone(seen)) if *reason == seen => {
                    self.buried(leased, *reason, AFTER).await;
                }
                (_, other) => self.not("the outcome", &other, AFTER),
            }
        }
    }
}

const UNKNOWN: &str = "of an unknown record";
const AFTER: &str = "after a completion";

async fn first_claim<H: Harness<Store: ClaimsInTransaction>>(probe: &Probe<'_, H>) {
    let (_, transaction) = probe.begin_first(probe.ask(), UNKNOWN).await;
    transaction.roll_back().await.expect("a rollback");
}

async fn one_runner<H: Harness<Store: ClaimsInTransaction>>(probe: &Probe<'_, H>) {
    for completes in [true, false] {
        let ask = probe.ask();
        let (_, transaction) = probe.begin_first(ask, UNKNOWN).await;
        let in_transaction = probe.asked_beside(probe.rival(ask));
        let (store, rival) = (probe.handle(), probe.rival(ask));
        let leased = tokio::spawn(async move { store.claim(rival).await });
        probe.advance(1).await;
        // A claim without an answer by now waits for the end of the transaction.
        let (waits, leased_waits) = (!in_transaction.is_finished(), !leased.is_finished());
        let done = Outcome::Response(response("done"));
        if completes {
            probe.commit(transaction, &done).await;
        } else {
            transaction.roll_back().await.expect("a rollback");
        }
        let Ok(answer) = in_transaction.await else { probe.fail("a claim panicked") };
        let Ok(leased) = leased.await else { probe.fail("a claim panicked") };
        match answer {
            Some(Ok(Claim::Replay { .. })) if waits && completes => {}
            None if waits && !completes => {}
            answer => probe.lost(answer.as_ref(), "second"),
        }
        match leased {
            Ok(Claim::Replay { .. }) if leased_waits && completes => {}
            Ok(Claim::Run(_)) if leased_waits && !completes => {}
            answer => probe.lost(Some(&answer), "leased"),
        }
    }
    for round in 0..probe.rounds().min(20) {
        let ask = probe.ask();
        let runs = probe.race(8, |racer, store| {
            let (rival, time) = (probe.rival(ask), probe.long());
            async move {
                if (racer + round) % 3 == 0 {
                    let claim = store.claim(rival).await;
                    let Ok(Claim::Run(run)) = claim else { return Ok(0) };
                    let outcome = Outcome::Response(response(&racer.to_string()));
                    return Ok(usize::from(
                        store.complete(rival.record, run.fence, outcome).await? == Fenced::Held,
                    ));
                }
                match store.claim_in_transaction(rival, time).await {
                    Ok(TransactionClaim::Run(_, transaction)) => {
                        let outcome = Outcome::Response(response(&racer.to_string()));
                        Ok(usize::from(matches!(
                            transaction.complete(outcome, true).await?,
                            Completion::Committed
                        )))
                    }
                    _ => Ok(0),
                }
            }
        });
        let completed: usize = runs.await.into_iter().sum();
        probe.ensure(completed == 1, format_args!("of 8 claims at once, {completed} completed the record"));
    }
}

async fn replay<H: Harness<Store: ClaimsInTransaction>>(probe: &Probe<'_, H>) {
    let outcomes = [
        Outcome::Response(response("done")),
        Outcome::Response(response(&"long".repeat(10_000))),
        Outcome::Tombstone(Tombstone::Unreplayable),
    ];
    for outcome in outcomes {
        let ask = probe.ask();
        let (_, transaction) = probe.begin_first(ask, UNKNOWN).await;
        probe.commit(transaction, &outcome).await;
        probe.is_complete(ask, &outcome).await;
    }
}

async fn roll_back<H: Harness<Store: ClaimsInTransaction>>(probe: &Probe<'_, H>) {
    let ask = probe.ask();
    for _ in 0..5 {
        let (_, transaction) = probe.begin_first(probe.rival(ask), "after a rollback").await;
        transaction.roll_back().await.expect("a rollback");
    }
    let (_, transaction) =
        probe.begin_first(probe.stranger(ask), "of another request after a rollback").await;
    transaction.roll_back().await.expect("a rollback");
    probe.first(probe.rival(ask), "that is leased, after a rollback").await;
}

async fn dropped<H: Harness<Store: ClaimsInTransaction>>(probe: &Probe<'_, H>) {
    let ask = probe.ask();
    let (_, transaction) = probe.begin_first(ask, UNKNOWN).await;
    drop(transaction);
    // A database notices the drop when it next reads from the connection.
    for _ in 0..20 {
        match probe.handle().claim_in_transaction(probe.stranger(ask), probe.long()).await {
            Ok(TransactionClaim::Run(run, transaction)) => {
                let good = run.attempt == 1 && !run.orphan && run.checkpoint.is_none();
                probe.ensure(good, format_args!("a claim after a drop was {run:?}, not a first one"));
                return transaction.roll_back().await.expect("a rollback");
            }
            Ok(TransactionClaim::Answered(claim)) => probe.lost(Some(&Ok(claim)), "second"),
            Err(error) => probe.lost(Some(&Err(error)), "second"),
        }
        probe.advance(1).await;
    }
    probe.fail("the claim of a transaction that was dropped held for 20 units");
}

async fn mismatch<H: Harness<Store: ClaimsInTransaction>>(probe: &Probe<'_, H>) {
    let (leased, orphan, complete) = (probe.ask(), probe.ask_for(1), probe.ask());
    probe.run(leased, UNKNOWN).await;
    probe.run(orphan, UNKNOWN).await;
    let (_, transaction) = probe.begin_first(complete, UNKNOWN).await;
    let done = Outcome::Response(response("done"));
    probe.commit(transaction, &done).await;
    probe.advance(1).await;
    for ask in [leased, orphan, complete] {
        match probe.answered(probe.stranger(ask), "of another request").await {
            Claim::Mismatch => {}
            other => probe.not("Mismatch", &other, "of another request"),
        }
    }
    probe.in_flight(probe.rival(leased), "after a mismatch").await;
    probe.is_complete(complete, &done).await;
}

async fn lease<H: Harness<Store: ClaimsInTransaction>>(probe: &Probe<'_, H>) {
    let ask = probe.ask();
    let run = probe.run(ask, UNKNOWN).await;
    match probe.answered(probe.rival(ask), "while a lease holds").await {
        Claim::InFlight { lease_left } => {
            let good = !lease_left.is_zero() && lease_left <= ask.lease;
            probe.ensure(good, format_args!("a claim while a lease holds was told {lease_left:?} are left"));
        }
        other => probe.not("InFlight", &other, "while a lease holds"),
    }
    let done = Outcome::Response(response("done"));
    probe.held(probe.complete(ask.record, run.fence, &done).await, "the completion of the leased claim");
    probe.is_complete(ask, &done).await;
}

async fn takeover<H: Harness<Store: ClaimsInTransaction>>(probe: &Probe<'_, H>) {
    let (orphan, released, kept) = (probe.ask_for(1), probe.ask(), checkpoint("kept"));
    let dead = probe.run(orphan, UNKNOWN).await;
    probe.held(probe.checkpoint(orphan.record, dead.fence, &kept).await, "a checkpoint");
    let before = probe.run(released, UNKNOWN).await;
    probe.held(probe.checkpoint(released.record, before.fence, &kept).await, "a checkpoint");
    probe.held(probe.release(released.record, before.fence).await, "a release");
    probe.advance(1).await;
    for (ask, is_orphan) in [(orphan, true), (released, false)] {
        // A rollback leaves the record as it was.
        for round in 0..3 {
            let (run, transaction) = probe.begin(probe.rival(ask), "of a record that was left").await;
            let good = run.orphan == is_orphan && run.attempt == 2 && run.checkpoint.as_ref() == Some(&kept);
            probe.ensure(good, format_args!("a claim of a record that was left was {run:?}"));
            if round < 2 {
                transaction.roll_back().await.expect("a rollback");
                continue;
            }
            let done = Outcome::Response(response("done"));
            probe.commit(transaction, &done).await;
            probe.is_complete(ask, &done).await;
        }
    }
    probe.stale(
        probe.complete(orphan.record, dead.fence, &Outcome::Response(response("late"))).await,
        "the completion of an owner whose heir completed the record",
    );
}

async fn first_to_commit<H: Harness<Store: ClaimsInTransaction>>(probe: &Probe<'_, H>) {
    for (ask, owner) in probe.orphans(3).await {
        let (_, heir) = probe.begin(probe.rival(ask), "of an orphan").await;
        let (late, done) = (Outcome::Response(response("late")), Outcome::Response(response("done")));
        let (store, outcome) = (probe.handle(), late.clone());
        let late_owner = tokio::spawn(async move { store.complete(ask.record, owner.fence, outcome).await });
        probe.advance(1).await;
        let is_first = late_owner.is_finished();
        let completed = probe.unfailing(heir.complete(done.clone(), true).await, "complete");
        let Ok(late_owner) = late_owner.await else { probe.fail("complete panicked") };
        let late_owner = probe.unfailing(late_owner, "complete");
        match (completed, late_owner) {
            (Completion::Overtaken(Claim::Replay { response, .. }), Fenced::Held) if is_first => {
                let Outcome::Response(of_the_owner) = &late else { unreachable!("it is a response") };
                let good = response.as_bytes() == of_the_owner.as_bytes();
                probe.ensure(good, "an heir was overtaken with another response than the owner's");
                probe.is_complete(ask, &late).await;
            }
            (Completion::Committed, Fenced::Stale) => probe.is_complete(ask, &done).await,
            (heir, owner) => probe.fail(format_args!("the heir was {heir:?}, the late owner {owner:?}")),
        }
    }
}

async fn expiry<H: Harness<Store: ClaimsInTransaction>>(probe: &Probe<'_, H>) {
    let ask = ClaimRequest { ttl: probe.units(1), ..probe.ask() };
    let (_, transaction) = probe.begin_first(ask, UNKNOWN).await;
    probe.commit(transaction, &Outcome::Response(response("done"))).await;
    probe.advance(1).await;
    let (_, transaction) = probe.begin_first(probe.stranger(ask), "of an expired record").await;
    let done = Outcome::Response(response("done again"));
    probe.commit(transaction, &done).await;
    probe.is_complete(probe.stranger(ask), &done).await;
}
