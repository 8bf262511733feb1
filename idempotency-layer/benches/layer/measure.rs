//! Measurements.

#[path = "two_threads.rs"]
mod two_threads;

use std::convert::Infallible;
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
use sha2::{Digest, Sha256};
use tokio::runtime::Runtime;
use tower::{Layer, Service, ServiceExt, service_fn};

/// The number of requests that are prepared and then timed together: few enough to stay in the cache.
const BATCH: usize = 250;
/// The number of batches whose median is a row of the tables.
const TURNS: usize = 400;
/// The numbers of records in the stores.
const STORED: [usize; 3] = [0, 1_000, 200_000];
/// The growth after which a store is created again, unless it was large.
const FEW: usize = 1_000;
/// The size of a request's body and of its response.
const BODY_BYTES: usize = 1024;
/// The size of scope and key: two blocks of SHA-256.
const NAME_BYTES: usize = 80;
/// No record is evicted.
const STORE_BYTES: usize = 1 << 30;

pub(crate) fn main() {
    if let Some(name) = std::env::args().skip_while(|argument| argument != "--count").nth(1) {
        return count(&name);
    }
    if std::env::args().any(|argument| argument == "--two-threads") {
        return two_threads::print();
    }
    let mut criterion = Criterion::default().configure_from_args();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let mut group = criterion.benchmark_group("request");
    for kind in Kind::ALL {
        group.bench_function(kind.name(), |bencher| {
            bencher
                .iter_custom(|times| in_batches(times, kind, || Requests::holding(router(), FEW, &runtime)));
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
        two_threads::print();
    }
}

/// Runs a load a thousand times for callgrind, which counts within [`counted`].
fn count(name: &str) {
    const TIMES: usize = 1_000;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    if let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.name() == name) {
        Requests::holding(router(), FEW, &runtime).time(kind, TIMES);
    } else if let Some(verb) = Verb::ALL.into_iter().find(|verb| verb.name() == name) {
        Records::holding(FEW, &runtime).time(verb, TIMES);
    } else {
        println!("no load is named {name}");
    }
}

/// Times a future. A profiler filters by this function's name.
#[inline(never)]
fn counted(runtime: &Runtime, load: impl Future<Output = Duration>) -> Duration {
    runtime.block_on(load)
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
    println!(
        "\n| stored keys | request | ns | beside bare, ns | its middle half | beyond SHA-256, ns | to bare |"
    );
    println!("|--:|---|--:|--:|--:|--:|--:|");
    for stored in STORED {
        let mut requests = Requests::holding(router(), stored, runtime);
        let mut turns = Kind::ALL.map(|_| Vec::with_capacity(TURNS));
        for _ in 0..TURNS {
            if stored <= FEW && requests.stored() >= stored + FEW {
                requests = Requests::holding(router(), stored, runtime);
            }
            for (kind, turns) in Kind::ALL.into_iter().zip(&mut turns) {
                turns.push(nanoseconds_each(requests.time(kind, BATCH)));
            }
        }
        let [bare, sha256, ..] = &turns;
        for (kind, turns) in Kind::ALL.into_iter().zip(&turns) {
            let differences = Spread::of(turns.iter().zip(bare).map(|(one, bare)| one - bare));
            let beyond = turns.iter().zip(bare).zip(sha256).map(|((one, bare), sha256)| one - bare - sha256);
            let ratios = Spread::of(turns.iter().zip(bare).map(|(one, bare)| one / bare));
            println!(
                "| {stored} | {} | {:.0} | {:+.0} | {:+.0} … {:+.0} | {:+.0} | {:.3} |",
                kind.name(),
                Spread::of(turns.iter().copied()).median,
                differences.median,
                differences.low,
                differences.high,
                Spread::of(beyond).median,
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

/// A load to time.
trait Load {
    type Kind: Copy;

    /// Runs the load this many times. The inputs are made before the clock starts.
    fn time(&mut self, kind: Self::Kind, times: usize) -> Duration;

    /// The number of records in its store.
    fn stored(&self) -> usize;
}

#[derive(Clone, Copy)]
enum Kind {
    /// Without the layer.
    Bare,
    /// SHA-256 of a body and the name of a record, without a request.
    Sha256,
    /// Without a key.
    Bypass,
    /// With a new key.
    First,
    /// With a key of the batch before.
    Replay,
    /// With the key of any earlier request. If there are many, its record is in no cache.
    LateReplay,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Bare, Self::Sha256, Self::Bypass, Self::First, Self::Replay, Self::LateReplay];

    fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Sha256 => "SHA-256 alone",
            Self::Bypass => "bypass",
            Self::First => "first keyed",
            Self::Replay => "replay, soon",
            Self::LateReplay => "replay, of any",
        }
    }
}

/// Requests to a service, bare and under the layer.
struct Requests<'a, S> {
    runtime: &'a Runtime,
    bare: S,
    layered: IdempotencyService<S, MemoryStore>,
    body: Bytes,
    /// The first number of its keys.
    before: usize,
    keys: usize,
}

impl<'a, S: Echo> Requests<'a, S> {
    fn holding(bare: S, stored: usize, runtime: &'a Runtime) -> Self {
        let layer = IdempotencyLayer::builder(MemoryStore::new(STORE_BYTES))
            .scope(|parts| parts.extensions.get::<Account>().map(|account| Scope::of(account.0)))
            .build();
        let layered = layer.layer(bare.clone());
        let body = Bytes::from(format!("{{\"memo\":\"{:1$}\"}}", "", BODY_BYTES - 11));
        let mut requests = Self { runtime, bare, layered, body, before: 0, keys: 0 };
        for filled in (0..stored).step_by(BATCH) {
            let first = (filled..stored.min(filled + BATCH)).map(|_| requests.request(Kind::First)).collect();
            runtime.block_on(answer(&requests.layered, first));
        }
        requests
    }

    /// Makes more requests to the same router and layer, with other keys and another body.
    fn beside(&self, runtime: &'a Runtime) -> Self {
        let (bare, layered, body) =
            (self.bare.clone(), self.layered.clone(), Bytes::copy_from_slice(&self.body));
        Self { runtime, bare, layered, body, before: self.before + (1 << 32), keys: 0 }
    }

    /// Returns the key of this number.
    fn key(&self, number: usize) -> String {
        let number = self.before + number;
        format!("\"018f2c6e-7d3a-7b5c-{:04x}-{number:012x}\"", number % 0x1_0000)
    }

    fn request(&mut self, kind: Kind) -> Request<Body> {
        let request = Request::post("/echo").header(header::CONTENT_TYPE, "application/json");
        let request = match kind {
            Kind::Bare | Kind::Sha256 | Kind::Bypass => request,
            Kind::First => {
                self.keys += 1;
                request.header(IDEMPOTENCY_KEY, self.key(self.keys))
            }
            Kind::Replay => request.header(IDEMPOTENCY_KEY, self.key(self.keys - any_number() % BATCH)),
            Kind::LateReplay => request.header(IDEMPOTENCY_KEY, self.key(1 + any_number() % self.keys)),
        };
        request.extension(Account("account 17")).body(self.body.clone().into()).expect("a request")
    }

    /// Times requests of a kind from the moment that `start` returns.
    fn time_from(&mut self, kind: Kind, times: usize, start: impl FnOnce()) -> Duration {
        if let (Kind::Replay | Kind::LateReplay, 0) = (kind, self.keys) {
            self.time(Kind::First, BATCH);
        }
        let requests: Vec<_> = (0..times).map(|_| self.request(kind)).collect();
        start();
        match kind {
            Kind::Bare => counted(self.runtime, answer(&self.bare, requests)),
            Kind::Sha256 => counted(self.runtime, async { hash(&self.body, times) }),
            _ => counted(self.runtime, answer(&self.layered, requests)),
        }
    }
}

impl<S: Echo> Load for Requests<'_, S> {
    type Kind = Kind;

    fn time(&mut self, kind: Kind, times: usize) -> Duration {
        self.time_from(kind, times, || {})
    }

    fn stored(&self) -> usize {
        self.keys
    }
}

/// Serves requests as axum's server does, each with a clone of the service, and reads the answers to their end.
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

/// Hashes a body and a name, as any layer must that uses digests for both.
fn hash(body: &[u8], times: usize) -> Duration {
    let name = [b'n'; NAME_BYTES];
    let start = now();
    for _ in 0..times {
        black_box((Sha256::digest(black_box(body)), Sha256::digest(black_box(name))));
    }
    start.elapsed()
}

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A handler of the benchmark: a router, or a plain service.
trait Echo:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static
{
}

impl<S> Echo for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// axum's router, whose clones share a reference count.
fn router() -> Router {
    Router::new().route("/echo", post(echo))
}

/// The same handler without a router. Its clones share nothing.
fn plain_service() -> impl Echo {
    service_fn(async |request: Request<Body>| {
        let body = request.into_body().collect().await.expect("a body in memory").to_bytes();
        Ok(echo(body).await)
    })
}

/// The extension of an authentication.
#[derive(Clone, Copy)]
struct Account(&'static str);

async fn echo(body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    response
}

#[derive(Clone, Copy)]
enum Verb {
    /// The calls of a first request to its store, without making the response.
    ClaimAndComplete,
    /// The call of a retry to its store.
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
            let asked = records.asked(Verb::ClaimAndComplete, BATCH.min(stored - filled));
            runtime.block_on(records.carry_out(asked));
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

impl Records<'_> {
    fn asked(&mut self, verb: Verb, times: usize) -> Vec<(ClaimRequest, Outcome)> {
        let response = |verb| match verb {
            Verb::ClaimAndComplete => vec![0; BODY_BYTES + 50].into(),
            Verb::ClaimOfFinished => Bytes::new(),
        };
        let outcome = |verb| Outcome::Response(StoredResponse::from_bytes(response(verb)));
        (0..times).map(|_| (self.claim(verb), outcome(verb))).collect()
    }

    async fn carry_out(&self, asked: Vec<(ClaimRequest, Outcome)>) -> Duration {
        let start = now();
        for (request, outcome) in asked {
            let claim = black_box(self.store.claim(request).await.expect("room for all"));
            if let Claim::Run(run) = claim {
                let held = self.store.complete(request.record, run.fence, outcome).await;
                assert_eq!(held.expect("room for all"), Fenced::Held);
            }
        }
        start.elapsed()
    }
}

impl Load for Records<'_> {
    type Kind = Verb;

    fn time(&mut self, verb: Verb, times: usize) -> Duration {
        if let (Verb::ClaimOfFinished, 0) = (verb, self.made) {
            self.time(Verb::ClaimAndComplete, BATCH);
        }
        let asked = self.asked(verb, times);
        counted(self.runtime, self.carry_out(asked))
    }

    fn stored(&self) -> usize {
        self.made
    }
}

/// Returns a reproducible random number.
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
