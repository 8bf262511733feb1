//! The scheduler's verbs, and their contract.

mod answers;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

pub use self::answers::{Cancelled, Fenced, Finished, FinishedAndClaimed, Rescheduled, Scheduled};
use crate::claim::{ClaimDue, Claimed, Claims, Namespaces, Report};
use crate::cycle::{AttemptRecord, Cycle, CycleKey, NewCycle, Reschedule};
use crate::error::SchedulerError;

/// Stores cycles and hands them out. Each verb is one atomic transition of a [`Cycle`], decided by
/// the scheduler and timed by its clock.
///
/// # The contract
///
/// A scheduler is correct when all of these hold, for any number of concurrent callers. With the
/// feature `conformance`, the module `conformance` has one test for each number.
///
/// 1. **Begin.** `schedule` with an unknown key answers [`Scheduled::New`] with a cycle that is
///    idle, due `first_in` from now, and has nothing counted yet.
/// 2. **One cycle for each key.** When the key has a cycle, pending or ended, `schedule` answers
///    [`Scheduled::Exists`] with that cycle and changes nothing. Of any number of concurrent calls,
///    one answers `New`.
/// 3. **Due.** `claim_due` gives due cycles and no others. They are leased until `lease` from now,
///    with a larger epoch. Each claim has the payload that the cycle was scheduled with, to the
///    byte, and the time of the claim.
/// 4. **Order.** Among tenants with room, the cycles that are due the longest are given first, at
///    most `limit`.
/// 5. **Share.** `claim_due` gives a tenant no more cycles than make `per_tenant` together with
///    those in `running`, as long as cycles of other tenants with room are due and are not given.
///    What is left of `limit` then goes to the cycles that are due the longest, whatever their
///    tenant.
/// 6. **Fairness.** However many cycles of tenants at their share are due longer, and however many
///    tenants have cycles that are due later, a due cycle of another tenant is given within two
///    calls.
/// 7. **One holder.** Of any number of concurrent claims, one is given each due cycle. When claims
///    are repeated, no due cycle is left over.
/// 8. **Takeover.** No other claim is given a cycle until its lease runs out. The next claim after
///    that is given it, with the same attempt number, a larger epoch, and one lapse more.
/// 9. **Extend** makes the lease end `lease` from now. A lease of zero ends at once.
/// 10. **Fences.** `extend`, `finish`, `finish_many` and `defer` are stale and change nothing when
///     the claim was taken over, finished, deferred, cancelled or rescheduled since.
/// 11. **Late but first.** A claim whose lease ran out still holds until another claim is given the
///     cycle.
/// 12. **Success** ends a cycle resolved, now.
/// 13. **Failure.** After a failure the cycle is idle, and due one delay of its plan after the
///     attempt's end: the *n*th delay after the *n*th attempt that counts, and the last one again
///     after that. It is not given before.
/// 14. **Exhaustion.** A failure of the last attempt of its plan ends a cycle exhausted, now. So
///     does a permanent failure of any attempt.
/// 15. **Last start.** No attempt begins after the plan's last start. A cycle whose next attempt
///     would be due later ends exhausted as soon as that is known: when it is scheduled, finished
///     or rescheduled, or at the latest when it would be claimed.
/// 16. **Attempts.** `attempts` gives the finished attempts and nothing else. Their numbers start
///     at 1 and have no gaps over the whole life of the cycle. Each has the times of its claim and
///     its end, and verdict and detail as reported, to the byte.
/// 17. **Many reports.** `finish_many` does for each report what `finish` would do, and answers in
///     the order of the reports.
/// 18. **Defer.** After `defer` the cycle is idle and due `delay` from now, with one deferral more.
///     Nothing else of it changes, and the attempt does not count.
/// 19. **Cancel** ends a pending cycle cancelled, now, even while it is attempted. An ended cycle
///     stays as it ended, and an unknown one unknown.
/// 20. **First come.** When a `finish` meets a `cancel` or `reschedule`, one of them comes first.
///     Either the attempt is recorded and the other verb finds the cycle as the attempt left it, or
///     the report is stale and leaves nothing.
/// 21. **Reschedule.** The new plan applies from now on, and the next attempt is due `next_in` from
///     now. Counts stay, except lapses and deferrals, which are zero. When the new plan has no
///     attempt left, the cycle ends exhausted at once.
/// 22. **Reactivation.** Only with `reactivate`, and only after it ended exhausted or cancelled, a
///     cycle begins anew. The counts that its plan is compared with are zero again; the numbers of
///     attempts go on.
/// 23. **Next wake.** `next_wake` answers the time until a pending cycle can be claimed: zero when
///     one can, `None` when none is pending.
/// 24. **Bounds.** Texts of [`MAX_TEXT`](crate::MAX_TEXT) bytes and bytes of
///     [`MAX_BYTES`](crate::MAX_BYTES) are stored unchanged, and two keys are equal only if they
///     are equal to the byte. Longer ones, and texts with a NUL, are
///     [`Invalid`](crate::SchedulerErrorKind::Invalid) and change nothing.
/// 25. **Independence.** A verb on one cycle changes no other.
/// 26. **Cancellation.** A verb whose future is dropped has taken effect as a whole, or not at all.
///
/// Numbers 27 to 31 are about [transactions](TransactionalScheduler#the-contract), 44 to 48 about
/// [operators](crate::CycleAdmin#the-contract).
///
/// 32. **Namespaces.** `claim_due` gives cycles of the selected namespaces only, and `next_wake`
///     looks at no others. However many cycles of other namespaces are due longer, the first call
///     gives a due cycle of a selected one.
/// 33. **Unreadable cycles.** A due cycle that the scheduler cannot read is reported as
///     [`unreadable`](crate::Claims::unreadable) and set aside: for about ten seconds no call meets
///     it, and nothing of it changes. The same call gives its neighbours.
/// 34. **Nonces.** All claims of a call have the same nonce, and claims of two calls have different
///     ones. A verb with the epoch of a claim and another nonce is stale.
/// 35. **Own delay.** After a failure with `retry_in` the cycle is due that long after the
///     attempt's end, at most [`Plan::MAX_DELAY`](crate::Plan::MAX_DELAY), in place of the plan's
///     delay.
/// 36. **Jitter.** The delay after a failure is [`Cycle::delay`](crate::Cycle::delay) of the cycle
///     as it was recorded.
/// 37. **Deferral bound.** A cycle can be deferred as often as its plan allows between two recorded
///     attempts. One deferral more ends it exhausted, now.
/// 38. **End reasons.** An ended cycle says why it ended, whichever verb ended it.
/// 39. **Metadata.** A claim has the metadata that its cycle was scheduled with. Metadata beyond
///     its bounds is [`Invalid`](crate::SchedulerErrorKind::Invalid) and changes nothing.
/// 40. **Attempt pages.** `attempts` gives the attempts with numbers above `after`, the lowest
///     first, at most `limit`.
/// 41. **Purge.** `purge_ended` deletes at most `limit` cycles that ended at least `older_than`
///     ago, with everything that is kept of them, and nothing else. Their keys are unknown then.
/// 42. **Many verbs.** `schedule_many`, `extend_many` and `finish_and_claim` do what the verbs for
///     one would do, and answer in order.
/// 43. **Endings told.** The hook is called once for each cycle that ends, whichever verb ends it,
///     before that verb answers.
///
/// Where the numbers meet: a claim that comes too late for the last start (15) ends the cycle
/// instead of giving it, so an answer can be empty while cycles are due; ask again. A transaction
/// that commits late leaves a cycle that was due before others that are given already. A scheduler
/// may take a few seconds to find such a cycle, one whose lease ran out, one whose claim a failover
/// lost, and a namespace that another process resumed or used for the first time (4, 6). A cycle
/// whose lease ran out is due since it was first claimed, or since the lease ended (4). The order of the cycles in one answer means nothing. A
/// scheduler may keep only the latest few hundred attempts of a cycle (16). Leases and delays of up
/// to ten years are kept to.
///
/// # Errors
///
/// A verb fails with a [`SchedulerError`] when the scheduler cannot say what happened
/// ([`Unavailable`](crate::SchedulerErrorKind::Unavailable)), or when nothing happened (every other
/// [kind](crate::SchedulerErrorKind)). You may repeat any verb then. A repeated verb can find its own
/// first try: `schedule` then answers `Exists`, `finish` and `defer` are stale although they took
/// effect, and the cycles of a lost answer to `claim_due` stay leased until the lease ends.
///
/// A verb may wait for other callers of the database, for a bounded time.
///
/// # Cancel safety
///
/// See number 26: a caller that stops waiting learns nothing, and leaves nothing half done.
#[async_trait]
pub trait RetryScheduler: Send + Sync + 'static {
    /// Begins a cycle. Where its key has one already, pending or ended, nothing changes.
    async fn schedule(&self, new: NewCycle) -> Result<Scheduled, SchedulerError>;

    /// Begins many cycles, with one commit where the scheduler can. The answers are in the order of
    /// the cycles.
    ///
    /// When it fails, any of the cycles may have begun; repeat the call.
    async fn schedule_many(&self, new: Vec<NewCycle>) -> Result<Vec<Scheduled>, SchedulerError> {
        for new in &new {
            new.check()?;
        }
        let mut answers = Vec::with_capacity(new.len());
        for new in new {
            answers.push(self.schedule(new).await?);
        }
        Ok(answers)
    }

    /// Claims cycles that are due, the longest due first, at most `limit`.
    async fn claim_due(&self, request: ClaimDue) -> Result<Claims, SchedulerError>;

    /// Renews a lease: it ends `lease` from now.
    async fn extend(&self, claim: &Claimed, lease: Duration) -> Result<Fenced, SchedulerError>;

    /// Renews many leases, with one commit where the scheduler can. The answers are in the order of
    /// the claims.
    ///
    /// When it fails, any of the leases may have been renewed; renew each alone, or repeat the call.
    async fn extend_many(&self, claims: &[Claimed], lease: Duration) -> Result<Vec<Fenced>, SchedulerError> {
        let mut answers = Vec::with_capacity(claims.len());
        for claim in claims {
            answers.push(self.extend(claim, lease).await?);
        }
        Ok(answers)
    }

    /// Records how an attempt ended, and moves the cycle on.
    async fn finish(&self, claim: &Claimed, report: Report) -> Result<Finished, SchedulerError>;

    /// Records how many attempts ended, with one commit where the scheduler can. The answers are in
    /// the order of the reports; one that could not be recorded fails alone.
    ///
    /// When the call itself fails, any of the reports may have been recorded; repeat it.
    async fn finish_many(
        &self,
        reports: Vec<(Claimed, Report)>,
    ) -> Result<Vec<Result<Finished, SchedulerError>>, SchedulerError>;

    /// Records how attempts ended, then claims cycles that are due: in one transaction where the
    /// scheduler can.
    async fn finish_and_claim(
        &self,
        reports: Vec<(Claimed, Report)>,
        request: ClaimDue,
    ) -> Result<FinishedAndClaimed, SchedulerError> {
        let finished = self.finish_many(reports).await?;
        Ok(FinishedAndClaimed::new(finished, self.claim_due(request).await))
    }

    /// Gives a claim back without an attempt having been made: the cycle is due again in `delay`.
    #[doc(alias = "snooze")]
    async fn defer(&self, claim: &Claimed, delay: Duration) -> Result<Fenced, SchedulerError>;

    /// Cancels a cycle. A [`Cancelled::Cancelled`] is final: an attempt that is running changes
    /// nothing any more.
    async fn cancel(&self, key: &CycleKey) -> Result<Cancelled, SchedulerError>;

    /// Changes the plan of a pending cycle, or begins an ended one anew. A running attempt changes
    /// nothing any more.
    async fn reschedule(&self, key: &CycleKey, change: Reschedule) -> Result<Rescheduled, SchedulerError>;

    /// Returns a cycle as it is.
    async fn get(&self, key: &CycleKey) -> Result<Option<Cycle>, SchedulerError>;

    /// Returns the recorded attempts of a cycle with numbers above `after`, at most `limit`,
    /// ordered by number. There are none where there is no such cycle.
    async fn attempts(
        &self,
        key: &CycleKey,
        after: u32,
        limit: usize,
    ) -> Result<Vec<AttemptRecord>, SchedulerError>;

    /// Returns how long until the next cycle of these namespaces can be claimed: zero when one can,
    /// `None` when none is pending. Paused namespaces do not count.
    async fn next_wake(&self, namespaces: &Namespaces) -> Result<Option<Duration>, SchedulerError>;

    /// Deletes at most `limit` cycles that ended longer than `older_than` ago, with their payloads
    /// and attempts, the ones that ended first first. Their keys can be scheduled anew. Returns how
    /// many there were.
    async fn purge_ended(&self, older_than: Duration, limit: usize) -> Result<usize, SchedulerError>;

    /// Waits until another process may have scheduled something that is due, or becomes due before
    /// the next cycle that the caller knows of. It may be wrong, and it may miss some: it is a hint
    /// to claim, and to ask for the [next wake](Self::next_wake) again, earlier than the next poll.
    /// Any number of callers may wait. By default it waits for ever.
    ///
    /// # Cancel safety
    ///
    /// May be dropped at any time. What changes while nobody waits may be missed.
    async fn changed(&self) {
        std::future::pending::<()>().await;
    }
}

/// The verbs of callers, inside their own transaction: what a verb writes commits with it, or not
/// at all.
///
/// `C` is the connection that the transaction is open on.
///
/// # The contract
///
/// What [`RetryScheduler`] promises of a verb also holds for its twin here, and:
///
/// 27. **Commit.** What a verb of a transaction answered holds for the later verbs of that
///     transaction at once, and for everybody else after the commit.
/// 28. **Rollback.** After a rollback, nothing of the transaction has ever happened.
/// 29. **Not before.** Before the commit, nobody else sees or is given anything of the transaction.
/// 30. **First commit wins.** A verb on a cycle that an open transaction changed waits for the end
///     of that transaction, and then meets the result: after the commit of a `cancel_in` the report
///     of a running attempt is stale, after its rollback the report is recorded.
/// 31. **A stale report in a transaction.** `finish_in` with a claim that no longer holds answers
///     [`Finished::Stale`]. The transaction can then be rolled back with everything else in it.
///
/// # Errors and cancel safety
///
/// As with [`RetryScheduler`]; but after a verb failed, or was dropped before it answered, roll the
/// transaction back.
#[async_trait]
pub trait TransactionalScheduler<C: Send>: RetryScheduler {
    /// [`RetryScheduler::schedule`], inside the transaction.
    async fn schedule_in(&self, connection: &mut C, new: NewCycle) -> Result<Scheduled, SchedulerError>;

    /// [`RetryScheduler::finish`], inside the transaction: roll it back where the answer is [`Finished::Stale`].
    async fn finish_in(
        &self,
        connection: &mut C,
        claim: &Claimed,
        report: Report,
    ) -> Result<Finished, SchedulerError>;

    /// [`RetryScheduler::cancel`], inside the transaction.
    async fn cancel_in(&self, connection: &mut C, key: &CycleKey) -> Result<Cancelled, SchedulerError>;

    /// [`RetryScheduler::reschedule`], inside the transaction.
    async fn reschedule_in(
        &self,
        connection: &mut C,
        key: &CycleKey,
        change: Reschedule,
    ) -> Result<Rescheduled, SchedulerError>;

    /// [`RetryScheduler::get`], inside the transaction; no lock is taken.
    async fn get_in(&self, connection: &mut C, key: &CycleKey) -> Result<Option<Cycle>, SchedulerError>;

    /// [`RetryScheduler::attempts`], inside the transaction; no lock is taken. An
    /// [`EndedHook`](crate::EndedHook) reads with it what the cycle came to, the attempt that ended
    /// it included.
    async fn attempts_in(
        &self,
        connection: &mut C,
        key: &CycleKey,
        after: u32,
        limit: usize,
    ) -> Result<Vec<AttemptRecord>, SchedulerError>;
}

#[async_trait]
impl<S: RetryScheduler + ?Sized> RetryScheduler for Arc<S> {
    async fn schedule(&self, new: NewCycle) -> Result<Scheduled, SchedulerError> {
        S::schedule(self, new).await
    }

    async fn schedule_many(&self, new: Vec<NewCycle>) -> Result<Vec<Scheduled>, SchedulerError> {
        S::schedule_many(self, new).await
    }

    async fn claim_due(&self, request: ClaimDue) -> Result<Claims, SchedulerError> {
        S::claim_due(self, request).await
    }

    async fn extend(&self, claim: &Claimed, lease: Duration) -> Result<Fenced, SchedulerError> {
        S::extend(self, claim, lease).await
    }

    async fn extend_many(&self, claims: &[Claimed], lease: Duration) -> Result<Vec<Fenced>, SchedulerError> {
        S::extend_many(self, claims, lease).await
    }

    async fn finish(&self, claim: &Claimed, report: Report) -> Result<Finished, SchedulerError> {
        S::finish(self, claim, report).await
    }

    async fn finish_many(
        &self,
        reports: Vec<(Claimed, Report)>,
    ) -> Result<Vec<Result<Finished, SchedulerError>>, SchedulerError> {
        S::finish_many(self, reports).await
    }

    async fn finish_and_claim(
        &self,
        reports: Vec<(Claimed, Report)>,
        request: ClaimDue,
    ) -> Result<FinishedAndClaimed, SchedulerError> {
        S::finish_and_claim(self, reports, request).await
    }

    async fn defer(&self, claim: &Claimed, delay: Duration) -> Result<Fenced, SchedulerError> {
        S::defer(self, claim, delay).await
    }

    async fn cancel(&self, key: &CycleKey) -> Result<Cancelled, SchedulerError> {
        S::cancel(self, key).await
    }

    async fn reschedule(&self, key: &CycleKey, change: Reschedule) -> Result<Rescheduled, SchedulerError> {
        S::reschedule(self, key, change).await
    }

    async fn get(&self, key: &CycleKey) -> Result<Option<Cycle>, SchedulerError> {
        S::get(self, key).await
    }

    async fn attempts(
        &self,
        key: &CycleKey,
        after: u32,
        limit: usize,
    ) -> Result<Vec<AttemptRecord>, SchedulerError> {
        S::attempts(self, key, after, limit).await
    }

    async fn next_wake(&self, namespaces: &Namespaces) -> Result<Option<Duration>, SchedulerError> {
        S::next_wake(self, namespaces).await
    }

    async fn purge_ended(&self, older_than: Duration, limit: usize) -> Result<usize, SchedulerError> {
        S::purge_ended(self, older_than, limit).await
    }

    async fn changed(&self) {
        S::changed(self).await;
    }
}
