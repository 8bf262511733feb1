//! A database that does not do what it should.

use idempotency_layer::CoCommitError;
use retry_scheduler::SchedulerError;

use super::Failure;

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
