//! What is called when a cycle ends.

use async_trait::async_trait;

use crate::cycle::{Cycle, EndReason};
use crate::error::BoxError;

/// Is called in the very transaction that ends a cycle, whoever ends it: a report, a claim that
/// finds it too late, a cancel, a change of plan that leaves no attempt.
///
/// `C` is the connection of the transaction: what is written on it commits with the ending, or not
/// at all. The hook leaves the transaction open.
///
/// # Errors
///
/// When the hook fails, the ending is rolled back, and the verb fails; other cycles are not
/// affected. A cycle that is too late for its last start is then set aside for some seconds, and
/// the next claim that meets it calls the hook again.
#[async_trait]
pub trait EndedHook<C: Send>: Send + Sync + 'static {
    /// Is called with the cycle as it ended.
    async fn on_ended(&self, connection: &mut C, cycle: &Cycle, reason: EndReason) -> Result<(), BoxError>;
}
