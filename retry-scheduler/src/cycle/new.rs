//! What a caller asks of a cycle.

use std::time::Duration;

use bytes::Bytes;

use super::CycleKey;
use crate::bounds::{check_bytes, check_text};
use crate::error::SchedulerError;
use crate::metadata::Metadata;
use crate::plan::Plan;

/// A cycle to schedule.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[doc(alias = "job")]
pub struct NewCycle {
    /// What it is about.
    pub key: CycleKey,
    /// The tenant it belongs to, for fairness between tenants.
    pub tenant: String,
    /// How often it is tried, and how far apart.
    pub plan: Plan,
    /// When the first attempt is due, from now.
    pub first_in: Duration,
    /// What every attempt is given.
    pub payload: Bytes,
    /// What travels beside the payload: trace context, for example.
    pub metadata: Metadata,
}

impl NewCycle {
    /// Creates a cycle of no tenant that is due at once and has no payload.
    pub fn new(key: CycleKey, plan: Plan) -> Self {
        let (first_in, payload, metadata) = (Duration::ZERO, Bytes::new(), Metadata::new());
        Self { key, tenant: String::new(), plan, first_in, payload, metadata }
    }

    /// Sets the tenant it belongs to.
    #[must_use]
    pub fn tenant(self, tenant: impl Into<String>) -> Self {
        Self { tenant: tenant.into(), ..self }
    }

    /// Sets when the first attempt is due, from now.
    #[must_use]
    pub fn first_in(self, first_in: Duration) -> Self {
        Self { first_in, ..self }
    }

    /// Sets what every attempt is given.
    #[must_use]
    pub fn payload(self, payload: impl Into<Bytes>) -> Self {
        Self { payload: payload.into(), ..self }
    }

    /// Sets what travels beside the payload.
    #[must_use]
    pub fn metadata(self, metadata: Metadata) -> Self {
        Self { metadata, ..self }
    }

    /// Checks the bounds. Every scheduler does this before anything else.
    ///
    /// # Errors
    ///
    /// [`Invalid`](crate::SchedulerErrorKind::Invalid) when a text is longer than [`MAX_TEXT`](crate::MAX_TEXT) or contains
    /// a NUL, when the payload is longer than [`MAX_BYTES`](crate::MAX_BYTES), or when the
    /// [metadata](Metadata::check) is.
    pub fn check(&self) -> Result<(), SchedulerError> {
        self.key.check()?;
        check_text("tenant", &self.tenant)?;
        check_bytes("payload", &self.payload)?;
        self.metadata.check()
    }
}

/// A change of plan.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reschedule {
    /// The new plan.
    pub plan: Plan,
    /// When the next attempt is due, from now.
    pub next_in: Duration,
    /// Whether a cycle that ended exhausted or cancelled begins anew; a resolved one never does.
    pub reactivate: bool,
}

impl Reschedule {
    /// Creates a change to this plan, with the next attempt due at once. It leaves ended cycles as
    /// they are.
    pub fn new(plan: Plan) -> Self {
        Self { plan, next_in: Duration::ZERO, reactivate: false }
    }

    /// Sets when the next attempt is due, from now.
    #[must_use]
    pub fn next_in(self, next_in: Duration) -> Self {
        Self { next_in, ..self }
    }

    /// Sets whether a cycle that ended exhausted or cancelled begins anew.
    #[must_use]
    pub fn reactivate(self, reactivate: bool) -> Self {
        Self { reactivate, ..self }
    }
}
