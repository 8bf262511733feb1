//! The metrics of the worker: all that the crate's documentation lists, and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::{Arc, Mutex};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use retry_scheduler::{Attempt, CycleKey, Done, NewCycle, Plan, RetryScheduler};
use std::time::Duration;
use tokio::time::sleep;

use crate::support::{MINUTE, SECOND, Seen, World, failure, report, start, success, until, worker};
use crate::watched::{Fault, Verb};

/// The names that were used, with their labels and the values of these.
#[derive(Default)]
struct Used(Mutex<BTreeMap<String, BTreeMap<String, BTreeSet<String>>>>);

impl Used {
    fn note(&self, kind: &str, key: &Key) {
        let mut used = self.0.lock().unwrap();
        let labels = used.entry(format!("{kind} {}", key.name())).or_default();
        for label in key.labels() {
            labels.entry(label.key().to_owned()).or_default().insert(label.value().to_owned());
        }
    }
}

impl Recorder for Used {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.note("counter", key);
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.note("gauge", key);
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.note("histogram", key);
        Histogram::noop()
    }
}

/// The table of the crate's documentation: kind and name, and the labels.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let rows =
        include_str!("../../src/lib.rs").lines().filter(|line| line.starts_with("//! | `retry_scheduler_"));
    rows.map(|row| {
        let cells: Vec<_> = row.split('|').map(|cell| cell.trim().to_owned()).collect();
        let labels = cells[3].split(',').map(|label| label.trim().trim_matches('`').to_owned());
        (
            format!("{} {}", cells[2], cells[1].trim_matches('`')),
            labels.filter(|label| !label.is_empty()).collect(),
        )
    })
    .collect()
}

#[tokio::test(start_paused = true)]
async fn the_documentation_lists_the_metrics_and_no_label_has_a_secret_or_grows_with_the_cycles() {
    let used = Arc::new(Used::default());
    let _guard = metrics::set_default_local_recorder(&used);
    let (world, seen) = (World::new(), Seen::new());
    for subject in
        ["success", "failure", "permanent", "panic", "timeout", "recorded", "down", "deferred", "cancelled"]
    {
        let new = NewCycle::new(CycleKey::new("SPACE", subject), Plan::every(60 * MINUTE, 3).unwrap());
        world.scheduler.schedule(new.tenant("TENANT").payload("PAYLOAD")).await.unwrap();
    }
    let scheduler = Arc::clone(&world.scheduler);
    let handler = seen.handler(move |attempt: Attempt| {
        let scheduler = Arc::clone(&scheduler);
        async move {
            match attempt.cycle().key.subject.as_str() {
                "failure" => failure(),
                "permanent" => report(retry_scheduler::Verdict::Permanent, "DETAIL"),
                "panic" => panic!("MESSAGE"),
                "timeout" => pending().await,
                "recorded" => Done::AlreadyRecorded,
                "down" => Done::Unavailable { retry_in: SECOND },
                "deferred" => Done::Deferred { retry_in: MINUTE },
                "cancelled" => {
                    scheduler.cancel(&attempt.cycle().key).await.unwrap();
                    success()
                }
                _ => success(),
            }
        }
    });
    let view = world.view();
    view.spoil(CycleKey::new("SPACE", "unreadable"));
    let builder = worker(&view, handler).per_tenant(16).attempt_timeout(MINUTE).keep_ended(Duration::ZERO);
    let running = start(builder.poison_limit(1));
    sleep(5 * MINUTE).await; // the lease of what the handler did not record after all is over: poison
    view.fail(Verb::Claim, Fault::Down);
    until("an error", || !running.handle.snapshot().reachable).await;
    view.heal();
    world.due("tenant", "at the end").await;
    view.fail(Verb::Finish, Fault::Down);
    sleep(MINUTE).await;
    running.stop().await;

    let used = used.0.lock().unwrap();
    let labels =
        |labels: &BTreeMap<String, BTreeSet<String>>| labels.keys().cloned().collect::<BTreeSet<_>>();
    let names: BTreeMap<_, _> = used.iter().map(|(name, values)| (name.clone(), labels(values))).collect();
    assert_eq!(names, documented());
    let outcomes = &used["counter retry_scheduler_attempts_total"]["outcome"];
    let all = [
        "already_recorded",
        "crashed",
        "deferred",
        "failed",
        "permanent",
        "refused",
        "succeeded",
        "undelivered",
    ];
    assert_eq!(outcomes.iter().map(String::as_str).collect::<Vec<_>>(), all);
    for values in used.values().flat_map(BTreeMap::values).flatten() {
        for secret in ["TENANT", "PAYLOAD", "DETAIL", "MESSAGE", "success:", "timeout"] {
            assert!(!values.contains(secret), "{values}");
        }
    }
}
