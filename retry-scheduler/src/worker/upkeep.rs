//! What the worker does beside its attempts.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use tokio::task::yield_now;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{Core, metrics, trace, within};

/// How often the worker looks for ended cycles to delete, how many it deletes in a call, and the
/// pause between two calls while there are more. The pause leaves the database to others.
const PURGE_EVERY: Duration = Duration::from_mins(1);
const PURGE_BATCH: usize = 1_000;
const PURGE_PAUSE: Duration = Duration::from_millis(100);
/// How long one such call may take.
const PURGE_PATIENCE: Duration = Duration::from_mins(1);

/// Deletes cycles that ended long ago, for ever.
pub(super) async fn purge(core: &Core, shutdown: &CancellationToken) -> Infallible {
    if core.config.keep_ended == Duration::MAX {
        return pending().await;
    }
    loop {
        sleep(PURGE_EVERY).await;
        while !shutdown.is_cancelled() {
            let call = core.scheduler.purge_ended(core.config.keep_ended, PURGE_BATCH);
            match within(PURGE_PATIENCE, call).await {
                Ok(purged) => {
                    core.meter.answered();
                    if purged > 0 {
                        let count = u64::try_from(purged).unwrap_or(u64::MAX);
                        core.meter.note(|snapshot| snapshot.purged = snapshot.purged.saturating_add(count));
                        metrics::purged(count);
                        trace::purged(purged);
                    }
                    if purged < PURGE_BATCH {
                        break;
                    }
                }
                Err(error) => {
                    core.meter.failed("purge_ended", &error);
                    break;
                }
            }
            sleep(PURGE_PAUSE).await;
        }
    }
}

/// Wakes the worker when the scheduler says that others have scheduled something, for ever.
pub(super) async fn listen(core: &Core) -> Infallible {
    loop {
        core.scheduler.changed().await;
        core.meter.wake.notify_one();
        // Leaves the turn to the loop, also where a scheduler always has news.
        yield_now().await;
    }
}
