//! The scheduler in memory against the model.

#[path = "model/mod.rs"]
mod model;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use retry_scheduler::{Cycle, CycleAdmin, ManualClock, MemoryScheduler};

impl model::Operated for Arc<MemoryScheduler> {
    async fn set_paused(&self, namespace: &str, paused: bool) -> bool {
        let set = if paused { self.pause(namespace).await } else { self.resume(namespace).await };
        set.is_ok()
    }

    async fn restore(&self, _: &Cycle) -> bool {
        false
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_a_cycle_is_what_the_callers_the_workers_and_its_plan_made_of_it(steps in model::steps()) {
        let clock = ManualClock::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000));
        let scheduler = Arc::new(MemoryScheduler::new(100).with_clock(clock.clone()));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(model::run([scheduler.clone(), scheduler], &clock, steps));
    }
}
