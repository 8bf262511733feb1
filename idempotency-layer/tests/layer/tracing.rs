//! Events on `tracing`, which contain no secret.

use std::fmt::{Debug, Write};
use std::sync::{Mutex, OnceLock};
use std::thread::{self, ThreadId};

use idempotency_layer::{OnOrphan, StoreErrorKind};
use tower::Layer;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Instrument, Subscriber, info_span};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use crate::scripted::{Act, DOWN, Scripted, Verb};
use crate::secrets::{ANSWER, BODY, TENANT, secret, tells};
use crate::support::{
    Count, Req, builder, first_then_created, handler, memory, poll, post, response, send, settle, start,
};

/// All events of this process, with their threads.
static TOLD: Mutex<Vec<(ThreadId, String)>> = Mutex::new(Vec::new());

struct Recorder;

impl<S: Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, _: &Id, _: Context<'_, S>) {
        let mut text = Text(attributes.metadata().name().to_owned());
        attributes.record(&mut text);
        tell(text);
    }

    fn on_record(&self, _: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut text = Text("recorded".to_owned());
        values.record(&mut text);
        tell(text);
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text(format!("{} {}", event.metadata().level(), event.metadata().target()));
        event.record(&mut text);
        tell(text);
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }

    fn record_error(&mut self, field: &Field, mut value: &(dyn std::error::Error + 'static)) {
        write!(self.0, " {}={value}", field.name()).unwrap();
        while let Some(source) = value.source() {
            write!(self.0, ": {source}").unwrap();
            value = source;
        }
    }
}

fn tell(text: Text) {
    TOLD.lock().unwrap().push((thread::current().id(), text.0));
}

/// Records all events from now on. The process has one recorder, so that every callsite is registered with it.
fn record() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        tracing::subscriber::set_global_default(tracing_subscriber::registry().with(Recorder)).unwrap();
    });
    TOLD.lock().unwrap().retain(|(told_on, _)| *told_on != thread::current().id());
}

/// Returns the events of this thread, which belongs to one test.
fn told() -> Vec<String> {
    let told = TOLD.lock().unwrap();
    let mine = told.iter().filter(|(told_on, _)| *told_on == thread::current().id());
    mine.map(|(_, text)| text.clone()).collect()
}

#[track_caller]
fn assert_told(part: &str) {
    assert!(told().iter().any(|text| text.contains(part)), "{part}: {:#?}", told());
}

#[tokio::test(start_paused = true)]
async fn whatever_happens_no_key_scope_or_body_is_told() {
    record();
    let (store, runs) = (Scripted::new(), Count::default());
    let inner = first_then_created(&runs, || response(503, ANSWER));
    let layer =
        builder(store.clone()).wait(std::time::Duration::from_secs(1)).max_response_bytes(100).build();
    let service = layer.layer(inner);
    store.next(Verb::Claim, [DOWN, Act::Pass]);
    store.next(Verb::Complete, [DOWN, Act::Lose]);
    for _ in 0..3 {
        send(&service, secret()).await; // released, completed, replayed
    }
    let mut other = secret();
    *other.body_mut() = crate::support::full(format!("{BODY} and more"));
    send(&service, other).await; // mismatch
    let mut invalid = secret();
    invalid.headers_mut().append("idempotency-key", TENANT.parse().unwrap());
    send(&service, invalid).await;

    // A panic, an orphan, a lost lease, a response too large, a wait, a store that fails for good.
    let large = layer.layer(handler(|_| async { response(200, ANSWER.repeat(100)) }));
    let mut again = secret();
    *again.uri_mut() = "/large".parse().unwrap();
    send(&large, again).await;
    let slow = layer.layer(handler(|_| async {
        tokio::time::sleep(std::time::Duration::from_secs(100)).await;
        response(200, ANSWER)
    }));
    let on = |path: &str| {
        let mut request = secret();
        *request.uri_mut() = path.parse().unwrap();
        request
    };
    store.next(Verb::Extend, [DOWN, Act::Fail(StoreErrorKind::Invalid), DOWN, Act::Pass]);
    let owner = start(&slow, on("/slow"));
    settle().await;
    send(&slow, on("/slow")).await;
    store.always(Verb::Extend, DOWN);
    tokio::time::sleep(std::time::Duration::from_millis(45_500)).await;
    store.always(Verb::Extend, Act::Pass);
    let _second = start(&slow, on("/slow"));
    owner.await.unwrap();
    let panics = layer.layer(handler(|_| async { panic!("{ANSWER}") }));
    assert!(start(&panics, on("/panics")).await.unwrap_err().is_panic());
    store.always(Verb::Complete, DOWN);
    send(&large, on("/not-recorded")).await;

    for part in
        ["claimed", "completed", "released", "replayed", "rejected", "waiting", "panic", "the store failed"]
    {
        assert_told(part);
    }
    for part in ["longer than max_response_bytes", "took over an orphan", "the lease was lost"] {
        assert_told(part);
    }
    for text in told() {
        assert_eq!(tells(&text), None, "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_and_a_missing_scope_are_told_loudly_and_a_replay_quietly() {
    record();
    let layer = idempotency_layer::IdempotencyLayer::builder(memory()).scope(|_| None).build();
    send(&layer.layer(handler(|_| async { response(200, "") })), post("\"key\"", "")).await;
    assert_told("ERROR idempotency_layer");
    record();
    let service =
        builder(memory()).on_orphan(OnOrphan::Halt).build().layer(handler(|_| async { response(200, "") }));
    for _ in 0..2 {
        send(&service, post("key", "body")).await;
    }
    let ours = told().into_iter().filter(|text| text.contains("idempotency_layer"));
    assert!(ours.clone().count() >= 3 && ours.clone().all(|text| text.starts_with("DEBUG")), "{:?}", told());
}

/// Answers with the name of its span before and after an await.
fn spanned(gate: &crate::support::Gate, seen: &'static Mutex<Vec<String>>) -> crate::support::Handler {
    let gate = gate.clone();
    handler(move |_: Req| {
        let gate = gate.clone();
        async move {
            let name = || tracing::Span::current().metadata().map_or("none", |span| span.name()).to_owned();
            seen.lock().unwrap().push(name());
            gate.pass().await;
            seen.lock().unwrap().push(name());
            response(201, "done")
        }
    })
}

#[tokio::test(start_paused = true)]
async fn the_span_of_the_caller_is_the_handlers_also_after_the_client_went_away() {
    static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
    record();
    let gate = crate::support::Gate::closed();
    let layer = builder(memory()).build();
    let service = layer.layer(spanned(&gate, &SEEN));
    let mut client = Box::pin(
        async { send(&service, post("key", "body")).await }.instrument(info_span!("request of the caller")),
    );
    assert!(poll(&mut client).await.is_pending());
    drop(client);
    gate.open();
    layer.shutdown().await;
    assert_eq!(*SEEN.lock().unwrap(), ["request of the caller"; 2]);
}
