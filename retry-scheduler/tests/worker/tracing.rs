//! What the worker tells on `tracing`: what happened to which cycle, and no secret.

use std::fmt::{Debug, Write};
use std::sync::{Mutex, OnceLock};
use std::thread::{self, ThreadId};

use bytes::Bytes;
use retry_scheduler::{Attempt, CycleKey, Done, Metadata, NewCycle, Plan, Report, RetryScheduler, Verdict};
use tokio::time::sleep;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::support::{MINUTE, SECOND, Seen, World, start, success, until, worker};
use crate::watched::Fault;

/// All that was told in this process, and on which thread.
static TOLD: Mutex<Vec<(ThreadId, String)>> = Mutex::new(Vec::new());

struct Recorder;

impl<S: Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        let mut text = Text(format!("SPAN {}", attributes.metadata().name()));
        attributes.record(&mut text);
        tell(text);
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text(event.metadata().level().to_string());
        event.record(&mut text);
        tell(text);
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

fn tell(text: Text) {
    TOLD.lock().unwrap().push((thread::current().id(), text.0));
}

/// Records everything from now on; one recorder for the process, so that no callsite is registered
/// without it.
fn record() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Recorder)).unwrap();
    });
    TOLD.lock().unwrap().retain(|(told_on, _)| *told_on != thread::current().id());
}

/// What was told on this thread, of which each test has its own.
fn told() -> Vec<String> {
    let told = TOLD.lock().unwrap();
    let mine = told.iter().filter(|(told_on, _)| *told_on == thread::current().id());
    mine.map(|(_, text)| text.clone()).collect()
}

fn count(what: &str) -> usize {
    told().iter().filter(|text| text.contains(what)).count()
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_told_once_and_its_end_once() {
    record();
    let (world, seen) = (World::new(), Seen::new());
    let view = world.view();
    for n in 0..8 {
        world.due("tenant", &n.to_string()).await;
    }
    let running = start(worker(
        &view,
        seen.handler(|_| async {
            sleep(5 * SECOND).await;
            success()
        }),
    ));
    for outage in 1..=2 {
        sleep(2 * SECOND).await;
        view.fail_all(Fault::Down);
        sleep(20 * SECOND).await;
        view.heal();
        sleep(10 * SECOND).await;
        assert_eq!(count("WARN message=the scheduler fails"), outage);
        assert_eq!(count("INFO message=the scheduler answers again"), outage);
    }
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn missing_tables_and_failing_hooks_are_told_as_what_they_are() {
    record();
    let (world, seen) = (World::new(), Seen::new());
    world.due("tenant", "x").await;
    let view = world.view();
    view.fail_all(Fault::NotMigrated);
    let running = start(worker(&view, seen.handler(|_| async { success() })));
    sleep(20 * SECOND).await;
    let missing = "WARN message=the scheduler fails; trying on verb=\"claim_due\" \
                   error=the scheduler's tables are not in the database";
    assert_eq!(count(missing), 1, "{:#?}", told());
    view.heal();
    view.fail_hook("x");
    sleep(20 * SECOND).await;
    assert_eq!(count("INFO message=the scheduler answers again"), 1);
    let hook = "WARN message=the scheduler refuses a call verb=\"finish\" error=the hook of an ending failed";
    assert!(count(hook) > 1, "{:#?}", told());
    running.stop().await;
}

#[tokio::test(start_paused = true)]
async fn payloads_details_tenants_and_keys_are_never_told() {
    record();
    let (world, seen) = (World::new(), Seen::new());
    for subject in ["success", "failure", "panic", "timeout", "down", "deferred", "cancelled", "lapsed"] {
        let plan = Plan::every(MINUTE, 3).unwrap();
        let (key, tenant) = (CycleKey::new(format!("kind {subject}"), subject), "TENANT".to_owned());
        let payload = Bytes::from("PAYLOAD");
        let metadata =
            Metadata::from([("traceparent", format!("00-{subject}-01")), ("note", "NOTE".to_owned())]);
        let new = NewCycle::new(key, plan).tenant(tenant).payload(payload).metadata(metadata);
        world.scheduler.schedule(new).await.unwrap();
    }
    let handler = seen.handler(|attempt: Attempt| async move {
        let report = |verdict| Done::Report(Report::new(verdict).detail("DETAIL"));
        match attempt.cycle().key.subject.as_str() {
            "failure" => report(Verdict::Failure),
            "panic" => panic!("MESSAGE"),
            "timeout" => std::future::pending().await,
            "down" => Done::Unavailable { retry_in: SECOND },
            "deferred" => Done::Deferred { retry_in: MINUTE },
            "cancelled" | "lapsed" => {
                attempt.token().cancelled().await;
                report(Verdict::Success)
            }
            _ => report(Verdict::Success),
        }
    });
    let view = world.view();
    let running = start(worker(&view, handler).per_tenant(16).attempt_timeout(90 * SECOND).grace(SECOND));
    sleep(SECOND).await;
    world.scheduler.cancel(&CycleKey::new("kind cancelled", "cancelled")).await.unwrap();
    sleep(20 * SECOND).await;
    view.fail_all(Fault::Down);
    sleep(MINUTE).await;
    view.heal();
    let handle = running.handle.clone();
    until("a time-out", || handle.snapshot().attempts.timed_out > 0).await;
    running.stop().await;
    for secret in ["TENANT", "PAYLOAD", "DETAIL", "MESSAGE", "NOTE", ":success:"] {
        assert_eq!(count(secret), 0, "{secret}");
    }
    for event in [
        "panicked",
        "took too long",
        "unavailable",
        "given back",
        "lease ran out",
        "refused",
        "worker stopped",
    ] {
        assert!(count(event) > 0, "{event} in {:#?}", told());
    }
    let span = r#"SPAN attempt namespace=kind panic subject=panic number=1 traceparent="00-panic-01""#;
    assert!(count(span) > 0, "{:#?}", told());
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_cycle_is_told_once_in_a_while() {
    record();
    let (world, seen) = (World::new(), Seen::new());
    let view = world.view();
    let running = start(worker(&view, seen.handler(|_| async { success() })));
    for _ in 0..30 {
        view.spoil(CycleKey::new("webhook", "bad"));
        sleep(20 * SECOND).await;
    }
    assert_eq!(running.handle.snapshot().unreadable, 30);
    assert_eq!(count("ERROR message=a due cycle cannot be read"), 1, "{:#?}", told());
    sleep(10 * MINUTE).await;
    view.spoil(CycleKey::new("webhook", "bad"));
    sleep(20 * SECOND).await;
    assert_eq!(count("ERROR message=a due cycle cannot be read"), 2);
    running.stop().await;
}
