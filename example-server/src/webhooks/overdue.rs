//! Deliveries whose cycle ended without them: the scheduler's worker ends some by itself, after attempts that panicked or
//! took too many processes down with them.

use std::time::Duration;

use retry_scheduler::{CycleKey, State};

use super::store::deliveries;
use super::{DeliveryId, NAMESPACE, Webhooks};
use crate::clock;

/// How often they are looked for.
const EVERY: Duration = Duration::from_secs(30);
/// One that was due not so long ago is likely under way.
const LONG_MS: i64 = 60_000;
const PAGE: u32 = 100;

impl Webhooks {
    /// Looks for them for ever.
    pub(crate) async fn keep_up(&self) {
        let mut ticks = tokio::time::interval(EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Err(fault) = self.catch_up(clock::epoch_millis() - LONG_MS).await {
                tracing::warn!(error = &*fault, "cannot look for overdue webhooks");
            }
        }
    }

    /// Ends all that were due before this time and have nothing any more that sends them.
    pub(super) async fn catch_up(
        &self,
        before_ms: i64,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let (scheduler, mut after) = (self.cycles.scheduler(), DeliveryId(0));
        loop {
            let mut reader = self.database.read().await?;
            let page = deliveries::overdue(reader.connection(), before_ms, after, PAGE).await?;
            drop(reader);
            let Some(last) = page.last() else { return Ok(()) };
            after = *last;
            for id in page {
                let cycle = scheduler.get(&CycleKey::new(NAMESPACE, id.to_string())).await?;
                if cycle.is_none_or(|cycle| matches!(cycle.state, State::Ended { .. })) {
                    let mut transaction = self.database.begin().await?;
                    deliveries::give_up(transaction.connection(), id, "it could not be sent").await?;
                    transaction.commit().await?;
                }
            }
        }
    }
}
