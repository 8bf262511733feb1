use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::backoff::Backoff;

use super::budget::{Budget, Budgets};
use super::event::Observer;
use super::key::Key;
use super::rules::Rules;

/// The settings of a [`Retries`](super::Retries).
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) max_tries: NonZeroU32,
    pub(super) deadline: Duration,
    pub(super) try_timeout: Duration,
    pub(super) backoff: Backoff,
    pub(super) rules: Rules,
    pub(super) key: Key,
    pub(super) observer: Option<Observer>,
}

/// The state that clones share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) budgets: Option<Budgets>,
    /// The seed of the next request's delays.
    seed: AtomicU64,
}

impl Shared {
    pub(super) fn new(budget: Option<Budget>, seed: u64) -> Arc<Self> {
        Arc::new(Self { budgets: budget.map(Budgets::new), seed: AtomicU64::new(seed) })
    }

    /// New budgets of this size. The seeds go on.
    pub(super) fn with_budget(&self, budget: Option<Budget>) -> Arc<Self> {
        Self::new(budget, self.seed.load(Ordering::Relaxed))
    }

    /// The same size of budgets, begun anew, with this seed.
    pub(super) fn with_seed(&self, seed: u64) -> Arc<Self> {
        Self::new(self.budgets.as_ref().map(Budgets::size), seed)
    }

    pub(super) fn next_seed(&self) -> u64 {
        self.seed.fetch_add(1, Ordering::Relaxed)
    }
}
