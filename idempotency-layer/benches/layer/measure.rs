//! The measuring.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::routing::post;
use bytes::Bytes;
use criterion::Criterion;
use http::{HeaderName, Request, Response, header};
use http_body_util::BodyExt;
use idempotency_layer::{
    Claim, ClaimRequest, ClaimToken, Fenced, Fingerprint, IdempotencyLayer, IdempotencyService, MemoryStore,
    Outcome, RecordId, Scope, Store, StoredResponse,
};
use tokio::runtime::Runtime;
use tower::{Layer, Service, ServiceExt};

/// How many requests are made ready and then timed as one: few enough to stay in the cache, as a server's request is.
const BATCH: usize = 250;
/// How many batches a row of the tables is the median of.
const TURNS: usize = 400;
/// What the stores hold beforehand.
const STORED: [usize; 3] = [0, 1_000, 200_000];
/// A store that has grown by this much is made anew, unless it was large.
const FEW: usize = 1_000;
/// Of a request, and of its response.
const BODY_BYTES: usize = 1024;
/// No record is evicted.
const STORE_BYTES: usize = 1 << 30;

pub(crate) fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let mut group = criterion.benchmark_group("request");
    for kind in Kind::ALL {
        group.bench_function(kind.name(), |bencher| {
            bencher.iter_custom(|times| in_batches(times, kind, || Requests::holding(FEW, &runtime)));
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("memory store");
    for verb in Verb::ALL {
        group.bench_function(verb.name(), |bencher| {
            bencher.iter_custom(|times| in_batches(times, verb, || Records::holding(FEW, &runtime)));
        });
    }
    group.finish();
    criterion.final_summary();

    // Not in a test run, a list of the benchmarks, or a profile.
    let arguments: Vec<_> = std::env::args().collect();
    let asked = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if asked("--bench") && !asked("--list") && !asked("--profile-time") {
        println!("\nMedians of {TURNS} turns of {BATCH}; {BODY_BYTES} B in, {BODY_BYTES} B out.");
        print_requests(&runtime);
        print_verbs(&runtime);
    }
}

fn in_batches<L: Load>(times: u64, kind: L::Kind, holding_few: impl Fn() -> L) -> Duration {
    let mut load = holding_few();
    let mut left = usize::try_from(times).unwrap_or(usize::MAX);
    let mut spent = Duration::ZERO;
    while left > 0 {
        if load.stored() >= 2 * FEW {
            load = holding_few();
        }
        let batch = left.min(BATCH);
        spent += load.time(kind, batch);
        left -= batch;
    }
    spent
}

fn print_requests(runtime: &Runtime) {
    println!("\n| stored keys | request | ns | beside bare, ns | its middle half | to bare |");
    println!("|--:|---|--:|--:|--:|--:|");
    for stored in STORED {
        let mut requests = Requests::holding(stored, runtime);
        let mut turns = Kind::ALL.map(|_| Vec::with_capacity(TURNS));
        for _ in 0..TURNS {
            if stored <= FEW && requests.stored() >= stored + FEW {
                requests = Requests::holding(stored, runtime);
            }
            for (kind, turns) in Kind::ALL.into_iter().zip(&mut turns) {
                turns.push(nanoseconds_each(requests.time(kind, BATCH)));
            }
        }
        let [bare, ..] = &turns;
        for (kind, turns) in Kind::ALL.into_iter().zip(&turns) {
            let differences = Spread::of(turns.iter().zip(bare).map(|(one, bare)| one - bare));
            let ratios = Spread::of(turns.iter().zip(bare).map(|(one, bare)| one / bare));
            println!(
                "| {stored} | {} | {:.0} | {:+.0} | {:+.0} … {:+.0} | {:.3} |",
                kind.name(),
                Spread::of(turns.iter().copied()).median,
                differences.median,
                differences.low,
                differences.high,
                ratios.median,
            );
        }
    }
}

fn print_verbs(runtime: &Runtime) {
    println!("\n| stored keys | memory store alone | ns | its middle half |");
    println!("|--:|---|--:|--:|");
    for stored in STORED {
        let mut records = Records::holding(stored, runtime);
        let mut turns = Verb::ALL.map(|_| Vec::with_capacity(TURNS));
        for _ in 0..TURNS {
            if stored <= FEW && records.stored() >= stored + FEW {
                records = Records::holding(stored, runtime);
            }
            for (verb, turns) in Verb::ALL.into_iter().zip(&mut turns) {
                turns.push(nanoseconds_each(records.time(verb, BATCH)));
            }
        }
        for (verb, turns) in Verb::ALL.into_iter().zip(turns) {
            let Spread { low, median, high } = Spread::of(turns.into_iter());
            println!("| {stored} | {} | {median:.0} | {low:.0} … {high:.0} |", verb.name());
        }
    }
}

fn nanoseconds_each(batch: Duration) -> f64 {
    (batch * 1_000_000_000).div_f64(f64::from(u32::try_from(BATCH).expect("a small batch"))).as_secs_f64()
}

struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

impl Spread {
    fn of(figures: impl Iterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.collect();
        figures.sort_by(f64::total_cmp);
        let at = |quarter: usize| figures[figures.len() * quarter / 4];
        Self { low: at(1), median: at(2), high: at(3) }
    }
}

/// Something to time.
trait Load {
    type Kind: Copy;

    /// Does it this many times. What it is done with is made before the clock runs.
    fn time(&mut self, kind: Self::Kind, times: usize) -> Duration;

    /// How many records its store holds.
    fn stored(&self) -> usize;
}

#[derive(Clone, Copy)]
enum Kind {
    /// Without the layer.
    Bare,
    /// Without a key.
    Bypass,
    /// With a new key.
    First,
    /// With a key of the batch before.
    Replay,
    /// With the key of any request before: where there are many, one whose record no cache holds.
    LateReplay,
}

impl Kind {
    const ALL: [Self; 5] = [Self::Bare, Self::Bypass, Self::First, Self::Replay, Self::LateReplay];

    fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Bypass => "bypass",
            Self::First => "first keyed",
            Self::Replay => "replay, soon",
            Self::LateReplay => "replay, of any",
        }
    }
}

/// Requests to a router, bare and under the layer.
struct Requests<'a> {
    runtime: &'a Runtime,
    bare: Router,
    layered: IdempotencyService<Router, MemoryStore>,
    body: Bytes,
    keys: usize,
}

impl<'a> Requests<'a> {
    fn holding(stored: usize, runtime: &'a Runtime) -> Self {
        let bare = Router::new().route("/echo", post(echo));
        let layer = IdempotencyLayer::builder(MemoryStore::new(STORE_BYTES))
            .scope(|parts| parts.extensions.get::<Account>().map(|account| Scope::of(account.0)))
            .build();
        let layered = layer.layer(bare.clone());
        let body = Bytes::from(format!("{{\"memo\":\"{:1$}\"}}", "", BODY_BYTES - 11));
        let mut requests = Self { runtime, bare, layered, body, keys: 0 };
        for filled in (0..stored).step_by(BATCH) {
            requests.time(Kind::First, BATCH.min(stored - filled));
        }
        requests
    }

    fn request(&mut self, kind: Kind) -> Request<Body> {
        let request = Request::post("/echo").header(header::CONTENT_TYPE, "application/json");
        let request = match kind {
            Kind::Bare | Kind::Bypass => request,
            Kind::First => {
                self.keys += 1;
                request.header(IDEMPOTENCY_KEY, key(self.keys))
            }
            Kind::Replay => request.header(IDEMPOTENCY_KEY, key(self.keys - any_number() % BATCH)),
            Kind::LateReplay => request.header(IDEMPOTENCY_KEY, key(1 + any_number() % self.keys)),
        };
        request.extension(Account("account 17")).body(self.body.clone().into()).expect("a request")
    }
}

impl Load for Requests<'_> {
    type Kind = Kind;

    fn time(&mut self, kind: Kind, times: usize) -> Duration {
        if let (Kind::Replay | Kind::LateReplay, 0) = (kind, self.keys) {
            self.time(Kind::First, BATCH);
        }
        let requests: Vec<_> = (0..times).map(|_| self.request(kind)).collect();
        self.runtime.block_on(async {
            match kind {
                Kind::Bare => answer(&self.bare, requests).await,
                _ => answer(&self.layered, requests).await,
            }
        })
    }

    fn stored(&self) -> usize {
        self.keys
    }
}

/// Answers requests as axum's server does, each with a clone of the service, and reads the answers to their end.
async fn answer<S>(service: &S, requests: Vec<Request<Body>>) -> Duration
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone,
{
    let start = now();
    for request in requests {
        let Ok(response) = service.clone().oneshot(request).await else { panic!("an infallible service") };
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            black_box(frame.expect("a body that was read before"));
        }
    }
    start.elapsed()
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

fn key(number: usize) -> String {
    format!("\"018f2c6e-7d3a-7b5c-{:04x}-{number:012x}\"", number % 0x1_0000)
}

/// What an authentication leaves in the extensions.
#[derive(Clone, Copy)]
struct Account(&'static str);

async fn echo(body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

#[derive(Clone, Copy)]
enum Verb {
    /// What a first request asks of its store, without the making of the response.
    ClaimAndComplete,
    /// What a retry asks of its store.
    ClaimOfFinished,
}

impl Verb {
    const ALL: [Self; 2] = [Self::ClaimAndComplete, Self::ClaimOfFinished];

    fn name(self) -> &'static str {
        match self {
            Self::ClaimAndComplete => "claim and complete",
            Self::ClaimOfFinished => "claim of a finished record",
        }
    }
}

/// Records of a store, without the layer.
struct Records<'a> {
    runtime: &'a Runtime,
    store: MemoryStore,
    made: usize,
}

impl<'a> Records<'a> {
    fn holding(stored: usize, runtime: &'a Runtime) -> Self {
        let mut records = Self { runtime, store: MemoryStore::new(STORE_BYTES), made: 0 };
        for filled in (0..stored).step_by(BATCH) {
            records.time(Verb::ClaimAndComplete, BATCH.min(stored - filled));
        }
        records
    }

    fn claim(&mut self, verb: Verb) -> ClaimRequest {
        let number = match verb {
            Verb::ClaimAndComplete => {
                self.made += 1;
                self.made
            }
            Verb::ClaimOfFinished => 1 + any_number() % self.made,
        };
        let mut record = [0; 32];
        record[..8].copy_from_slice(&mixed(number as u64).to_le_bytes());
        let fingerprint = Fingerprint::from_bytes([1; Fingerprint::LEN]);
        let (lease, ttl) = (Duration::from_secs(30), Duration::from_hours(24));
        ClaimRequest::new(RecordId::from_bytes(record), fingerprint, ClaimToken::new(), lease, ttl)
    }
}

impl Load for Records<'_> {
    type Kind = Verb;

    fn time(&mut self, verb: Verb, times: usize) -> Duration {
        if let (Verb::ClaimOfFinished, 0) = (verb, self.made) {
            self.time(Verb::ClaimAndComplete, BATCH);
        }
        let response = |verb| match verb {
            Verb::ClaimAndComplete => vec![0; BODY_BYTES + 50].into(),
            Verb::ClaimOfFinished => Bytes::new(),
        };
        let asked: Vec<_> = (0..times)
            .map(|_| (self.claim(verb), Outcome::Response(StoredResponse::from_bytes(response(verb)))))
            .collect();
        self.runtime.block_on(async {
            let start = now();
            for (request, outcome) in asked {
                let claim = black_box(self.store.claim(request).await.expect("room for all"));
                if let Claim::Run(run) = claim {
                    let held = self.store.complete(request.record, run.fence, outcome).await;
                    assert_eq!(held.expect("room for all"), Fenced::Held);
                }
            }
            start.elapsed()
        })
    }

    fn stored(&self) -> usize {
        self.made
    }
}

/// A number like any other: the same ones in each run.
fn any_number() -> usize {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    usize::try_from(mixed(COUNT.fetch_add(1, Ordering::Relaxed)) >> 33).expect("31 bits")
}

/// The finisher of `SplitMix64`.
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark is about the clock on the wall")]
fn now() -> Instant {
    Instant::now()
}
