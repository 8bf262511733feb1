//! Requests and assertions of the checks.

use std::fmt::{Debug, Display};
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};
use tokio::sync::Barrier;

use super::Harness;
use crate::error::StoreError;
use crate::fingerprint::Fingerprint;
use crate::response::StoredResponse;
use crate::store::{
    Checkpoint, Claim, ClaimRequest, ClaimToken, Fence, Fenced, Outcome, RecordId, Run, Store, Tombstone,
};

/// The number of handles that a check uses in turn.
const HANDLES: usize = 3;
/// A lease or time to live, in units, that is longer than any check.
const LONG: u32 = 1000;

/// A store under test.
pub(super) struct Probe<'h, H: Harness> {
    /// The beginning of a failure's message.
    rule: String,
    harness: &'h H,
    handles: Vec<Arc<H::Store>>,
    turn: AtomicUsize,
}

/// The verbs of the holder of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Complete,
    Release,
    Extend,
    Checkpoint,
}

impl Verb {
    pub(super) const ALL: [Self; 4] = [Self::Complete, Self::Release, Self::Extend, Self::Checkpoint];
}

impl<'h, H: Harness> Probe<'h, H> {
    pub(super) async fn new(rule: impl Display, harness: &'h H) -> Self {
        let mut handles = Vec::with_capacity(HANDLES);
        for _ in 0..HANDLES {
            handles.push(Arc::new(harness.store().await));
        }
        Self { rule: rule.to_string(), harness, handles, turn: AtomicUsize::new(0) }
    }

    /// Fails the check.
    pub(super) fn fail(&self, seen: impl Display) -> ! {
        panic!("{}\n  But {seen}.", self.rule)
    }

    pub(super) fn ensure(&self, good: bool, seen: impl Display) {
        if !good {
            self.fail(seen);
        }
    }

    pub(super) fn rounds(&self) -> usize {
        self.harness.rounds()
    }

    pub(super) fn units(&self, units: u32) -> Duration {
        self.harness.unit() * units
    }

    pub(super) fn long(&self) -> Duration {
        self.units(LONG)
    }

    pub(super) async fn advance(&self, units: u32) {
        self.harness.advance(self.units(units)).await;
    }

    /// Returns the next handle. Each verb uses another one.
    pub(super) fn handle(&self) -> Arc<H::Store> {
        self.handles[self.turn.fetch_add(1, Ordering::Relaxed) % HANDLES].clone()
    }

    /// Makes a request for an unknown record, with a long lease and a long time to live.
    pub(super) fn ask(&self) -> ClaimRequest {
        let record = RecordId::from_bytes(Sha256::digest(ClaimToken::new().as_bytes()).into());
        let (lease, ttl) = (self.long(), self.long());
        ClaimRequest { record, fingerprint: fingerprint(1, 0xa5), token: ClaimToken::new(), lease, ttl }
    }

    /// The same, with a lease of `lease` units.
    pub(super) fn ask_for(&self, lease: u32) -> ClaimRequest {
        ClaimRequest { lease: self.units(lease), ..self.ask() }
    }

    /// Makes another request for the same record, with a long lease.
    pub(super) fn rival(&self, of: ClaimRequest) -> ClaimRequest {
        ClaimRequest { token: ClaimToken::new(), lease: self.long(), ..of }
    }

    /// Makes a request with another fingerprint for the same record.
    pub(super) fn stranger(&self, to: ClaimRequest) -> ClaimRequest {
        ClaimRequest { fingerprint: fingerprint(1, 0xa6), ..self.rival(to) }
    }

    /// Makes `count` orphans, and returns their claims.
    pub(super) async fn orphans(&self, count: usize) -> Vec<(ClaimRequest, Run)> {
        let mut orphans = Vec::with_capacity(count);
        for _ in 0..count {
            let ask = self.ask_for(1);
            orphans.push((ask, self.run(ask, "of an unknown record").await));
        }
        self.advance(1).await;
        orphans
    }

    // Verbs. An error fails the check.

    pub(super) fn unfailing<T>(&self, answer: Result<T, StoreError>, verb: impl Display) -> T {
        answer.unwrap_or_else(|error| self.fail(format_args!("{verb} failed: {error:?}")))
    }

    pub(super) async fn claim(&self, request: ClaimRequest) -> Claim {
        self.unfailing(self.handle().claim(request).await, "a claim")
    }

    pub(super) async fn complete(&self, record: RecordId, fence: Fence, outcome: &Outcome) -> Fenced {
        self.unfailing(self.handle().complete(record, fence, outcome.clone()).await, "complete")
    }

    pub(super) async fn release(&self, record: RecordId, fence: Fence) -> Fenced {
        self.unfailing(self.handle().release(record, fence).await, "release")
    }

    pub(super) async fn extend(&self, record: RecordId, fence: Fence, lease: Duration) -> Fenced {
        self.unfailing(self.handle().extend(record, fence, lease).await, "extend")
    }

    pub(super) async fn checkpoint(&self, record: RecordId, fence: Fence, checkpoint: &Checkpoint) -> Fenced {
        self.unfailing(self.handle().checkpoint(record, fence, checkpoint.clone()).await, "checkpoint")
    }

    /// Calls a verb with arguments that contain "late".
    pub(super) async fn apply(&self, verb: Verb, record: RecordId, fence: Fence) -> Fenced {
        match verb {
            Verb::Complete => self.complete(record, fence, &Outcome::Response(response("late"))).await,
            Verb::Release => self.release(record, fence).await,
            Verb::Extend => self.extend(record, fence, self.long()).await,
            Verb::Checkpoint => self.checkpoint(record, fence, &checkpoint("late")).await,
        }
    }

    // Answers. `when` completes the sentence "a claim …".

    pub(super) async fn run(&self, request: ClaimRequest, when: impl Display) -> Run {
        match self.claim(request).await {
            Claim::Run(run) => run,
            other => self.not("Run", &other, when),
        }
    }

    /// Claims a record that the store does not know or has forgotten.
    pub(super) async fn first(&self, request: ClaimRequest, when: impl Display) -> Run {
        let run = self.run(request, &when).await;
        let good = run.attempt == 1 && !run.orphan && run.checkpoint.is_none();
        self.ensure(good, format_args!("a claim {when} was {run:?}, not a first one"));
        run
    }

    /// Claims the orphan of a run.
    pub(super) async fn heir(&self, of: &Run, request: ClaimRequest, when: impl Display) -> Run {
        let run = self.run(request, &when).await;
        let good = run.orphan && run.attempt == of.attempt + 1;
        self.ensure(good, format_args!("a claim {when} was {run:?}, not an heir of {of:?}"));
        run
    }

    /// Claims a record that was released with a checkpoint.
    pub(super) async fn next(
        &self,
        of: &Run,
        request: ClaimRequest,
        kept: &Checkpoint,
        when: impl Display,
    ) -> Run {
        let run = self.run(request, &when).await;
        self.is_next(&run, of, kept, when);
        run
    }

    pub(super) fn is_next(&self, run: &Run, of: &Run, kept: &Checkpoint, when: impl Display) {
        let good = !run.orphan && run.attempt == of.attempt + 1 && run.checkpoint.as_ref() == Some(kept);
        self.ensure(good, format_args!("a claim {when} was {run:?}, not what follows {of:?} with {kept:?}"));
    }

    /// Claims a running record and returns the rest of its lease.
    pub(super) async fn in_flight(&self, request: ClaimRequest, when: impl Display) -> Duration {
        match self.claim(request).await {
            Claim::InFlight { lease_left } => lease_left,
            other => self.not("InFlight", &other, when),
        }
    }

    pub(super) async fn mismatch(&self, request: ClaimRequest, when: impl Display) {
        match self.claim(request).await {
            Claim::Mismatch => {}
            other => self.not("Mismatch", &other, when),
        }
    }

    pub(super) async fn replays(&self, request: ClaimRequest, response: &StoredResponse, when: impl Display) {
        match self.claim(request).await {
            Claim::Replay { response: replay, .. } if replay.as_bytes() == response.as_bytes() => {}
            Claim::Replay { response: replay, .. } => self.fail(format_args!(
                "a claim {when} replayed another response: {} instead of {}",
                shown(&replay),
                shown(response)
            )),
            other => self.not("Replay", &other, when),
        }
    }

    pub(super) async fn buried(&self, request: ClaimRequest, reason: Tombstone, when: impl Display) {
        match self.claim(request).await {
            Claim::Tombstone(seen) if seen == reason => {}
            other => self.not(&format!("Tombstone({reason:?})"), &other, when),
        }
    }

    pub(super) fn held(&self, answer: Fenced, what: impl Display) {
        self.ensure(answer == Fenced::Held, format_args!("{what} was Stale, not Held"));
    }

    pub(super) fn stale(&self, answer: Fenced, what: impl Display) {
        self.ensure(answer == Fenced::Stale, format_args!("{what} was Held, not Stale"));
    }

    pub(super) fn not(&self, wanted: &str, seen: &dyn Debug, when: impl Display) -> ! {
        self.fail(format_args!("a claim {when} was {seen:?}, not {wanted}"))
    }

    // Races.

    /// Runs `racers` tasks at once, each with its number and a handle.
    pub(super) async fn race<T, F>(
        &self,
        racers: usize,
        mut act: impl FnMut(usize, Arc<H::Store>) -> F,
    ) -> Vec<T>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let start = Arc::new(Barrier::new(racers));
        let run = |racer| {
            let (start, verb) = (start.clone(), act(racer, self.handle()));
            tokio::spawn(async move {
                start.wait().await;
                verb.await
            })
        };
        let mut answers = Vec::with_capacity(racers);
        for task in (0..racers).map(run).collect::<Vec<_>>() {
            let answer = task.await.unwrap_or_else(|end| resume_unwind(end.into_panic()));
            answers.push(self.unfailing(answer, "a verb in a race"));
        }
        answers
    }

    /// Runs one verb against claims of the same record. Its place among them changes with each
    /// round.
    pub(super) async fn race_against<F>(
        &self,
        ask: ClaimRequest,
        rivals: usize,
        round: usize,
        verb: impl Fn(Arc<H::Store>) -> F,
    ) -> (Fenced, Vec<Claim>)
    where
        F: Future<Output = Result<Fenced, StoreError>> + Send + 'static,
    {
        let (place, mut fenced) = (rivals - round % (rivals + 1), None);
        let answers = self.race(rivals + 1, |racer, store| {
            let (rival, verb) = (self.rival(ask), (racer == place).then(|| verb(store.clone())));
            async move {
                match verb {
                    Some(verb) => verb.await.map(Answer::Verb),
                    None => store.claim(rival).await.map(Answer::Claim),
                }
            }
        });
        let mut claims = Vec::with_capacity(rivals);
        for answer in answers.await {
            match answer {
                Answer::Verb(answer) => fenced = Some(answer),
                Answer::Claim(claim) => claims.push(claim),
            }
        }
        let Some(fenced) = fenced else { self.fail("the verb did not take part in its race") };
        (fenced, claims)
    }

    /// Claims one record `racers` times at once. Returns the run, and the rest of the lease that
    /// each other claim saw.
    pub(super) async fn one_of(&self, ask: ClaimRequest, racers: usize, what: &str) -> (Run, Vec<Duration>) {
        let claims = self.race(racers, |_, store| {
            let rival = self.rival(ask);
            async move { store.claim(rival).await }
        });
        let (mut winner, mut left) = (None, Vec::new());
        for claim in claims.await {
            match claim {
                Claim::Run(run) => {
                    if let Some(before) = winner.replace(run) {
                        self.fail(format_args!(
                            "two of {racers} claims {what} at once were Run: {before:?}, {winner:?}"
                        ));
                    }
                }
                Claim::InFlight { lease_left } => left.push(lease_left),
                other => self.not("Run or InFlight", &other, format_args!("among others {what}")),
            }
        }
        let winner = winner
            .unwrap_or_else(|| self.fail(format_args!("none of {racers} claims {what} at once was Run")));
        (winner, left)
    }
}

enum Answer {
    Verb(Fenced),
    Claim(Claim),
}

/// Makes a fingerprint. Requests have scheme 1 and digest 0xa5 unless stated otherwise.
pub(super) fn fingerprint(scheme: u8, digest: u8) -> Fingerprint {
    let mut bytes = [digest; Fingerprint::LEN];
    bytes[0] = scheme;
    Fingerprint::from_bytes(bytes)
}

pub(super) fn checkpoint(name: &str) -> Checkpoint {
    Checkpoint { name: name.to_owned(), data: Bytes::copy_from_slice(name.as_bytes()) }
}

/// Makes a small response with this body.
pub(super) fn response(body: &str) -> StoredResponse {
    encoded(StatusCode::OK, &HeaderMap::new(), body.as_bytes(), None)
}

/// # Panics
///
/// If there are more headers than can be stored, which is not the case here.
pub(super) fn encoded(
    status: StatusCode,
    headers: &HeaderMap,
    body: &[u8],
    trailers: Option<&HeaderMap>,
) -> StoredResponse {
    StoredResponse::encode(status, headers, |_| true, body, trailers)
        .unwrap_or_else(|error| panic!("the kit's own response cannot be stored: {error:?}"))
}

/// Shows a response in a failure's message. Of the body it shows the length.
fn shown(response: &StoredResponse) -> String {
    match response.decode() {
        Ok(parts) => format!(
            "{} {:?}, a body of {} bytes, trailers {:?}",
            parts.status,
            parts.headers,
            parts.body.len(),
            parts.trailers
        ),
        Err(_) => format!("{} unreadable bytes", response.as_bytes().len()),
    }
}
