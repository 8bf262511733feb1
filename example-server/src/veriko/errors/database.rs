//! A database that does not do what it should.

use idempotency_layer::CoCommitError;
use retry_scheduler::SchedulerError;

use super::Failure;
use crate::seal::SealError;
use crate::webhooks::{AnnounceError, SendError};

impl From<sqlx::Error> for Failure {
    fn from(fault: sqlx::Error) -> Self {
        Self::unavailable(&fault)
    }
}

impl From<SchedulerError> for Failure {
    fn from(fault: SchedulerError) -> Self {
        Self::unavailable(&fault)
    }
}

impl From<CoCommitError> for Failure {
    fn from(fault: CoCommitError) -> Self {
        Self::unavailable(&fault)
    }
}

impl From<AnnounceError> for Failure {
    fn from(fault: AnnounceError) -> Self {
        Self::unavailable(&fault)
    }
}

impl From<SendError> for Failure {
    fn from(fault: SendError) -> Self {
        Self::unavailable(&fault)
    }
}

impl From<SealError> for Failure {
    fn from(fault: SealError) -> Self {
        Self::unavailable(&fault)
    }
}
