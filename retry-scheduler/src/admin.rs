//! The verbs of operators.

use std::collections::BTreeSet;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::claim::Unreadable;
use crate::cycle::{Cycle, CycleKey, Ending, Reschedule};
use crate::error::SchedulerError;
use crate::scheduler::RetryScheduler;

/// The verbs of operators: to see what a scheduler holds, and to intervene.
///
/// Each finds its cycles through an index and works in batches: none holds a lock for longer than a
/// batch takes.
///
/// # The contract
///
/// 44. **Pause.** `claim_due` gives nothing of a paused namespace, and `next_wake` does not count
///     it. Running attempts go on, and cycles can be scheduled.
/// 45. **List.** `list` gives every cycle that matches once, page by page and namespace by
///     namespace: idle cycles in the order in which they are due, ended ones in the order in which
///     they ended, and cycles of the same time by age. A leased cycle stands where it was due or
///     where its lease ends. A cycle that cannot be read is reported, and ends no list.
/// 46. **Counts.** `counts` answers each namespace that has cycles or is paused, in order, with the
///     number of cycles of each class and for how long the longest due could have been claimed.
/// 47. **Run now.** After `run_now` a waiting cycle is due now, and a due one stays due as it was;
///     nothing else of it changes. A leased or ended cycle stays as it is.
/// 48. **Many changes.** `cancel_many` and `reschedule_many` do to at most `limit` matching cycles
///     what the verbs for one would do, and nothing to others. A matching cycle that could not be
///     changed, because it is locked or cannot be read, is reported.
#[async_trait]
pub trait CycleAdmin: RetryScheduler {
    /// Lists at most `limit` cycles that match, namespace by namespace, behind the cycle `after`.
    /// Within a namespace, pending cycles come in the order in which they are due, ended ones in
    /// the order in which they ended.
    ///
    /// To page, hand in the [`next`](CyclePage::next) of the page before. A cycle that changes
    /// between two pages may be listed twice or not at all.
    ///
    /// `PostgresScheduler` has no index of leased cycles, so that a claim changes no index. It
    /// looks for them among those that are due: a list of leased cycles takes longer, the more is
    /// due.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::SchedulerErrorKind::Invalid) when `after` is unknown: it may have been purged since.
    async fn list(
        &self,
        filter: &CycleFilter,
        after: Option<&CycleKey>,
        limit: usize,
    ) -> Result<CyclePage, SchedulerError>;

    /// Counts the cycles of each namespace that has any, or that is paused, ordered by namespace.
    async fn counts(&self) -> Result<Vec<NamespaceCounts>, SchedulerError>;

    /// Pauses a namespace: nothing of it is claimed until it is resumed. Attempts that run go on to
    /// their ends, and cycles can be scheduled. A pause outlives the process, if the scheduler's
    /// cycles do.
    ///
    /// Returns whether it was not paused before.
    async fn pause(&self, namespace: &str) -> Result<bool, SchedulerError>;

    /// Resumes a paused namespace. Returns whether it was paused.
    async fn resume(&self, namespace: &str) -> Result<bool, SchedulerError>;

    /// Returns the paused namespaces.
    async fn paused(&self) -> Result<BTreeSet<String>, SchedulerError>;

    /// Makes a waiting cycle due now; its plan and its counts stay.
    async fn run_now(&self, key: &CycleKey) -> Result<RunNow, SchedulerError>;

    /// Cancels at most `limit` cycles that match, the ones listed first first.
    async fn cancel_many(&self, filter: &CycleFilter, limit: usize) -> Result<Changed, SchedulerError>;

    /// Reschedules at most `limit` cycles that match, the ones listed first first.
    ///
    /// Without [`reactivate`](Reschedule::reactivate), ended cycles stay as they are.
    async fn reschedule_many(
        &self,
        filter: &CycleFilter,
        change: Reschedule,
        limit: usize,
    ) -> Result<Changed, SchedulerError>;
}

/// A class of cycles.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CycleClass {
    /// Every cycle that has not ended.
    Pending,
    /// Cycles that can be claimed now: the due ones, and those whose lease is over.
    Due,
    /// Cycles whose next attempt is due later.
    Waiting,
    /// Cycles that are being attempted.
    Leased,
    /// Cycles that ended resolved.
    Resolved,
    /// Cycles that ended exhausted.
    Exhausted,
    /// Cycles that ended cancelled.
    Cancelled,
}

impl CycleClass {
    /// Returns the ending of the cycles in this class, or `None` for pending ones.
    pub const fn ending(self) -> Option<Ending> {
        match self {
            Self::Pending | Self::Due | Self::Waiting | Self::Leased => None,
            Self::Resolved => Some(Ending::Resolved),
            Self::Exhausted => Some(Ending::Exhausted),
            Self::Cancelled => Some(Ending::Cancelled),
        }
    }
}

/// Which cycles an operator means.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CycleFilter {
    /// Their class.
    pub class: CycleClass,
    /// Their namespace; all, if it is not set.
    pub namespace: Option<String>,
    /// Their tenant; all, if it is not set.
    pub tenant: Option<String>,
}

impl CycleFilter {
    /// Creates a filter for the cycles of a class, in all namespaces and of all tenants.
    pub fn new(class: CycleClass) -> Self {
        Self { class, namespace: None, tenant: None }
    }

    /// Sets the namespace.
    #[must_use]
    pub fn namespace(self, namespace: impl Into<String>) -> Self {
        Self { namespace: Some(namespace.into()), ..self }
    }

    /// Sets the tenant.
    #[must_use]
    pub fn tenant(self, tenant: impl Into<String>) -> Self {
        Self { tenant: Some(tenant.into()), ..self }
    }
}

/// A part of a list of cycles. It dereferences to its cycles.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct CyclePage {
    /// The cycles, in the order of the list.
    pub cycles: Vec<Cycle>,
    /// The cycles of this page that this version of the crate cannot read.
    pub unreadable: Vec<Unreadable>,
    /// What to hand in as `after` for the page behind this one; `None` at the end of the list.
    pub next: Option<CycleKey>,
}

impl CyclePage {
    /// Creates a page from the rows of a list of at most `limit`. A row has its key, and the cycle if it could be read.
    pub fn new(rows: Vec<(CycleKey, Result<Cycle, Unreadable>)>, limit: usize) -> Self {
        let next = (rows.len() >= limit).then(|| rows.last().map(|(key, _)| key.clone())).flatten();
        let mut page = Self { next, ..Self::default() };
        for (_, row) in rows {
            match row {
                Ok(cycle) => page.cycles.push(cycle),
                Err(unreadable) => page.unreadable.push(unreadable),
            }
        }
        page
    }
}

impl Deref for CyclePage {
    type Target = Vec<Cycle>;

    fn deref(&self) -> &Vec<Cycle> {
        &self.cycles
    }
}

impl IntoIterator for CyclePage {
    type Item = Cycle;
    type IntoIter = std::vec::IntoIter<Cycle>;

    fn into_iter(self) -> Self::IntoIter {
        self.cycles.into_iter()
    }
}

/// How many cycles a namespace has. Each count stops at [`NamespaceCounts::MAX`], so that counting
/// takes a bounded time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NamespaceCounts {
    /// The namespace.
    pub namespace: String,
    /// Whether it is paused.
    pub paused: bool,
    /// Cycles that can be claimed now.
    pub due: usize,
    /// Cycles whose next attempt is due later.
    pub waiting: usize,
    /// Cycles that are being attempted. `PostgresScheduler` finds them among the first
    /// [`MAX`](Self::MAX) that are due or leased, and counts none behind them.
    pub leased: usize,
    /// Cycles that ended resolved and were not purged.
    pub resolved: usize,
    /// Cycles that ended exhausted and were not purged.
    pub exhausted: usize,
    /// Cycles that ended cancelled and were not purged.
    pub cancelled: usize,
    /// How long ago the longest due cycle could have been claimed; `None` when nothing is due.
    pub oldest_due: Option<Duration>,
}

impl NamespaceCounts {
    /// Where counts stop: "this many or more".
    pub const MAX: usize = 100_000;

    /// Creates counts of zero.
    pub fn new(namespace: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), ..Self::default() }
    }
}

/// What `run_now` did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RunNow {
    /// The cycle is due.
    Due(Cycle),
    /// It is being attempted; nothing changed.
    Leased,
    /// It has ended; nothing changed.
    Ended(Ending),
    /// There is no such cycle.
    Unknown,
}

/// What a verb for many cycles did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Changed {
    /// How many cycles it changed.
    pub changed: usize,
    /// The cycles that match and could not be changed, each with the reason: it cannot be read, its
    /// [`EndedHook`](crate::EndedHook) failed, or another transaction has locked it
    /// ([`Conflict`](crate::SchedulerErrorKind::Conflict)). The verb stops after the batch that brings
    /// them to [`MAX_FAILED`](Self::MAX_FAILED).
    pub failed: Vec<Unreadable>,
}

impl Changed {
    /// How many failures end a verb early, so that its answer is bounded.
    pub const MAX_FAILED: usize = 10_000;

    /// Creates the answer of a verb that changed `changed` cycles, with no failure.
    pub fn new(changed: usize) -> Self {
        Self { changed, failed: Vec::new() }
    }
}

#[async_trait]
impl<S: CycleAdmin + ?Sized> CycleAdmin for Arc<S> {
    async fn list(
        &self,
        filter: &CycleFilter,
        after: Option<&CycleKey>,
        limit: usize,
    ) -> Result<CyclePage, SchedulerError> {
        S::list(self, filter, after, limit).await
    }

    async fn counts(&self) -> Result<Vec<NamespaceCounts>, SchedulerError> {
        S::counts(self).await
    }

    async fn pause(&self, namespace: &str) -> Result<bool, SchedulerError> {
        S::pause(self, namespace).await
    }

    async fn resume(&self, namespace: &str) -> Result<bool, SchedulerError> {
        S::resume(self, namespace).await
    }

    async fn paused(&self) -> Result<BTreeSet<String>, SchedulerError> {
        S::paused(self).await
    }

    async fn run_now(&self, key: &CycleKey) -> Result<RunNow, SchedulerError> {
        S::run_now(self, key).await
    }

    async fn cancel_many(&self, filter: &CycleFilter, limit: usize) -> Result<Changed, SchedulerError> {
        S::cancel_many(self, filter, limit).await
    }

    async fn reschedule_many(
        &self,
        filter: &CycleFilter,
        change: Reschedule,
        limit: usize,
    ) -> Result<Changed, SchedulerError> {
        S::reschedule_many(self, filter, change, limit).await
    }
}
