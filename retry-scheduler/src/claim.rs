//! Claims: what a worker asks for, what it gets, and what it reports.

use std::collections::{BTreeSet, HashMap};
use std::ops::{Deref, DerefMut};
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::bounds::check_bytes;
use crate::cycle::{Cycle, CycleKey, Fence, Verdict};
use crate::error::SchedulerError;
use crate::metadata::Metadata;

/// What a worker asks for.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ClaimDue {
    /// How many cycles to claim at most.
    pub limit: usize,
    /// How long each claim holds unless it is extended.
    pub lease: Duration,
    /// How many attempts of one tenant may run at a time, those in `running` counted, while other
    /// tenants wait.
    pub per_tenant: usize,
    /// How many attempts of each tenant the worker is running already.
    pub running: HashMap<String, usize>,
    /// The namespaces to claim from.
    pub namespaces: Namespaces,
}

impl ClaimDue {
    /// Creates a request for at most `limit` cycles of every tenant and namespace.
    pub fn new(limit: usize, lease: Duration) -> Self {
        Self { limit, lease, per_tenant: usize::MAX, running: HashMap::new(), namespaces: Namespaces::All }
    }

    /// Sets how many attempts of one tenant may run at a time while other tenants wait.
    #[must_use]
    pub fn per_tenant(self, per_tenant: usize) -> Self {
        Self { per_tenant, ..self }
    }

    /// Sets how many attempts of each tenant the worker is running already.
    #[must_use]
    pub fn running(self, running: HashMap<String, usize>) -> Self {
        Self { running, ..self }
    }

    /// Sets the namespaces to claim from.
    #[must_use]
    pub fn namespaces(self, namespaces: Namespaces) -> Self {
        Self { namespaces, ..self }
    }
}

/// A selection of namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[doc(alias = "queue")]
pub enum Namespaces {
    /// Every namespace.
    #[default]
    All,
    /// These, and no others.
    Only(BTreeSet<String>),
    /// Every namespace but these.
    Except(BTreeSet<String>),
}

impl Namespaces {
    /// Selects these namespaces, and no others.
    pub fn only(namespaces: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::Only(namespaces.into_iter().map(Into::into).collect())
    }

    /// Selects every namespace but these.
    pub fn except(namespaces: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self::Except(namespaces.into_iter().map(Into::into).collect())
    }

    /// Returns whether this namespace is selected.
    pub fn contains(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Only(these) => these.contains(namespace),
            Self::Except(these) => !these.contains(namespace),
        }
    }
}

/// What a claim call found.
///
/// It is the vector of the [`claimed`](Self::claimed) cycles, wherever a vector is wanted.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Claims {
    /// The cycles that are leased to the caller.
    pub claimed: Vec<Claimed>,
    /// The due cycles that this version of the crate cannot read. They are set aside for some
    /// seconds.
    pub unreadable: Vec<Unreadable>,
}

/// A cycle that the scheduler set aside.
#[derive(Debug)]
#[non_exhaustive]
pub struct Unreadable {
    /// Its key, if that could be read.
    pub key: Option<CycleKey>,
    /// What is wrong with it.
    pub error: SchedulerError,
}

impl Unreadable {
    /// Creates one.
    pub fn new(key: Option<CycleKey>, error: SchedulerError) -> Self {
        Self { key, error }
    }
}

impl From<Vec<Claimed>> for Claims {
    fn from(claimed: Vec<Claimed>) -> Self {
        Self { claimed, unreadable: Vec::new() }
    }
}

impl Deref for Claims {
    type Target = Vec<Claimed>;

    fn deref(&self) -> &Vec<Claimed> {
        &self.claimed
    }
}

impl DerefMut for Claims {
    fn deref_mut(&mut self) -> &mut Vec<Claimed> {
        &mut self.claimed
    }
}

impl IntoIterator for Claims {
    type Item = Claimed;
    type IntoIter = std::vec::IntoIter<Claimed>;

    fn into_iter(self) -> Self::IntoIter {
        self.claimed.into_iter()
    }
}

impl<'a> IntoIterator for &'a Claims {
    type Item = &'a Claimed;
    type IntoIter = std::slice::Iter<'a, Claimed>;

    fn into_iter(self) -> Self::IntoIter {
        self.claimed.iter()
    }
}

/// A claim: the right to make an attempt.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Claimed {
    /// The cycle as it was claimed; its fence is the claim's.
    pub cycle: Cycle,
    /// What the cycle was scheduled with.
    pub payload: Bytes,
    /// What the cycle was scheduled with, beside the payload.
    pub metadata: Metadata,
    /// When it was claimed, by the scheduler's clock.
    pub claimed_at: SystemTime,
    /// Where an SQL scheduler finds the row again, without looking up the key.
    #[allow(dead_code, reason = "only PostgreSQL looks")]
    pub(crate) row: Option<Row>,
}

/// Where a row is, and of which key it is: a claim whose cycle was exchanged is another one.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "only PostgreSQL finds rows again"))]
    id: i64,
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "only PostgreSQL finds rows again"))]
    of: u64,
    /// Where the claim put it. Somebody may have moved it since.
    #[cfg_attr(not(feature = "postgres"), expect(dead_code, reason = "only PostgreSQL finds rows again"))]
    at: Box<str>,
}

impl Claimed {
    /// Creates a claim, for a scheduler of your own or the test of a handler.
    pub fn new(cycle: Cycle, payload: impl Into<Bytes>, claimed_at: SystemTime) -> Self {
        Self { cycle, payload: payload.into(), metadata: Metadata::new(), claimed_at, row: None }
    }

    /// Sets what the cycle was scheduled with, beside the payload.
    #[must_use]
    pub fn metadata(self, metadata: Metadata) -> Self {
        Self { metadata, ..self }
    }

    /// Sets where the row is.
    #[cfg(feature = "postgres")]
    pub(crate) fn in_row(self, id: i64, at: &str) -> Self {
        let row = Row { id, of: hash(&self.cycle.key), at: at.into() };
        Self { row: Some(row), ..self }
    }

    /// Returns the id of the row, if it is known and that of this key.
    #[cfg(feature = "postgres")]
    pub(crate) fn row(&self) -> Option<i64> {
        self.row.as_ref().filter(|row| row.of == hash(&self.cycle.key)).map(|row| row.id)
    }

    /// Returns where the row was when it was claimed, if that is known. Another row may be there now.
    #[cfg(feature = "postgres")]
    pub(crate) fn row_at(&self) -> Option<&str> {
        self.row.as_ref().map(|row| &*row.at)
    }

    /// Returns the fence of this claim.
    pub fn fence(&self) -> Fence {
        self.cycle.fence()
    }

    /// Returns the number of this attempt, from 1, over the whole life of the cycle.
    pub fn attempt(&self) -> u32 {
        self.cycle.attempts.saturating_add(1)
    }

    /// Returns an idempotency key for the next service that is the same for all attempts of the
    /// cycle.
    ///
    /// Use it where the effect must happen once whatever attempt makes it: a charge, a message.
    /// When an attempt failed because its answer was lost, the next one asks with the same key, and
    /// the service answers what it did.
    ///
    /// The key consists of namespace and subject with a colon between; a colon in the namespace is
    /// written `%3A`, so that two keys never read the same. A cycle that is scheduled anew after it
    /// was purged has the same key again.
    pub fn cycle_key(&self) -> String {
        let CycleKey { namespace, subject } = &self.cycle.key;
        format!("{}:{subject}", namespace.replace('%', "%25").replace(':', "%3A"))
    }

    /// Returns an idempotency key for the next service that is this attempt's alone. It is the same
    /// when this attempt is made again after a crash.
    ///
    /// Use it where each attempt is to have an effect of its own, and a service that remembers the
    /// answer to the last one must not repeat it. The key is [`cycle_key`](Self::cycle_key), a
    /// colon, and the number.
    pub fn attempt_key(&self) -> String {
        format!("{}:{}", self.cycle_key(), self.attempt())
    }
}

#[cfg(feature = "postgres")]
fn hash(key: &CycleKey) -> u64 {
    use std::hash::{DefaultHasher, Hash, Hasher};
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// How an attempt ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// How the attempt ended.
    pub verdict: Verdict,
    /// What is kept about it.
    pub detail: Bytes,
    /// How long to wait after a failure, in place of the plan's delay. At most
    /// [`Plan::MAX_DELAY`](crate::Plan::MAX_DELAY).
    pub retry_in: Option<Duration>,
}

impl Report {
    /// Creates a report with no detail.
    pub fn new(verdict: Verdict) -> Self {
        Self { verdict, detail: Bytes::new(), retry_in: None }
    }

    /// Reports success: the cycle ends resolved.
    pub fn success() -> Self {
        Self::new(Verdict::Success)
    }

    /// Reports a failure: the cycle goes on, while its plan has attempts left.
    pub fn failure() -> Self {
        Self::new(Verdict::Failure)
    }

    /// Reports a failure that no further attempt can mend: the cycle ends exhausted.
    #[doc(alias = "discard")]
    pub fn permanent() -> Self {
        Self::new(Verdict::Permanent)
    }

    /// Reports that the attempt crashed its workers too often. A [`Worker`](crate::Worker) does
    /// that by itself.
    pub fn crashed() -> Self {
        Self::new(Verdict::Crashed)
    }

    /// Sets what is kept about the attempt.
    #[must_use]
    pub fn detail(self, detail: impl Into<Bytes>) -> Self {
        Self { detail: detail.into(), ..self }
    }

    /// Sets how long to wait after this failure, in place of the plan's delay: a service said when
    /// to come back.
    #[must_use]
    pub fn retry_in(self, retry_in: Duration) -> Self {
        Self { retry_in: Some(retry_in), ..self }
    }

    /// Checks the bounds. Every scheduler does this before anything else.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::SchedulerErrorKind::Invalid) when the detail is longer than [`MAX_BYTES`](crate::MAX_BYTES).
    pub fn check(&self) -> Result<(), SchedulerError> {
        check_bytes("detail", &self.detail)
    }
}
