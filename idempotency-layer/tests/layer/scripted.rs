//! A store that fails by a script.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use idempotency_layer::{
    Checkpoint, Claim, ClaimRequest, Fence, Fenced, MemoryStore, Outcome, RecordId, Store, StoreError,
    StoreErrorKind,
};
use tokio::task::yield_now;
use tokio::time::sleep;

use crate::support::{Gate, memory};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Claim,
    Complete,
    Release,
    Extend,
    Checkpoint,
}

/// The result of one call of a verb.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    /// The verb takes effect.
    Pass,
    /// The verb fails without effect.
    Fail(StoreErrorKind),
    /// The verb takes effect, and its answer is lost.
    Lose,
    /// The verb has no effect and never answers.
    Hang,
    /// The verb takes effect when the gate opens.
    Wait(Gate),
    /// The verb takes effect at once and answers when the gate opens.
    Late(Gate),
    /// The verb takes effect after a time.
    After(Duration),
    /// The verb takes effect between two pending polls.
    Yield,
}

pub(crate) const DOWN: Act = Act::Fail(StoreErrorKind::Unavailable);

/// A memory store with a script. Clones share both.
#[derive(Clone, Debug)]
pub(crate) struct Scripted {
    inner: Arc<MemoryStore>,
    script: Arc<Mutex<Script>>,
}

#[derive(Debug, Default)]
struct Script {
    next: VecDeque<(Verb, Act)>,
    always: Vec<(Verb, Act)>,
    log: Vec<(Verb, &'static str)>,
}

impl Scripted {
    pub(crate) fn new() -> Self {
        Self::over(memory())
    }

    pub(crate) fn over(inner: Arc<MemoryStore>) -> Self {
        Self { inner, script: Arc::default() }
    }

    /// Scripts the next calls of a verb. They take precedence over [`always`](Self::always).
    pub(crate) fn next<const N: usize>(&self, verb: Verb, acts: [Act; N]) {
        self.script.lock().unwrap().next.extend(acts.map(|act| (verb, act)));
    }

    pub(crate) fn always(&self, verb: Verb, act: Act) {
        let always = &mut self.script.lock().unwrap().always;
        always.retain(|(other, _)| *other != verb);
        always.push((verb, act));
    }

    /// Returns how often a verb was called.
    pub(crate) fn count(&self, verb: Verb) -> usize {
        self.script.lock().unwrap().log.iter().filter(|(called, _)| *called == verb).count()
    }

    /// Returns the answers of a verb, in order. A call without an answer is "called".
    pub(crate) fn answers(&self, verb: Verb) -> Vec<&'static str> {
        let script = self.script.lock().unwrap();
        script.log.iter().filter(|(called, _)| *called == verb).map(|(_, answer)| *answer).collect()
    }

    async fn act<T: Told>(
        &self,
        verb: Verb,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let (act, entry) = {
            let mut script = self.script.lock().unwrap();
            let next = script.next.iter().position(|(called, _)| *called == verb);
            let scripted = next.and_then(|at| script.next.remove(at));
            let always = || script.always.iter().find(|(called, _)| *called == verb).cloned();
            let act = scripted.or_else(always).map_or(Act::Pass, |(_, act)| act);
            script.log.push((verb, "called"));
            (act, script.log.len() - 1)
        };
        let answer = match act {
            Act::Pass => call.await,
            Act::Fail(StoreErrorKind::Full) => Err(StoreError::full()),
            Act::Fail(StoreErrorKind::Invalid) => Err(StoreError::invalid("scripted")),
            Act::Fail(_) => Err(StoreError::unavailable("scripted")),
            Act::Lose => call.await.and(Err(StoreError::unavailable("lost"))),
            Act::Hang => pending().await,
            Act::Wait(gate) => {
                gate.pass().await;
                call.await
            }
            Act::Late(gate) => {
                let answer = call.await;
                gate.pass().await;
                answer
            }
            Act::After(wait) => {
                sleep(wait).await;
                call.await
            }
            Act::Yield => {
                yield_now().await;
                let answer = call.await;
                yield_now().await;
                answer
            }
        };
        self.script.lock().unwrap().log[entry].1 = answer.as_ref().map_or("failed", Told::told);
        answer
    }
}

impl Store for Scripted {
    async fn claim(&self, request: ClaimRequest) -> Result<Claim, StoreError> {
        self.act(Verb::Claim, self.inner.claim(request)).await
    }

    async fn complete(&self, record: RecordId, fence: Fence, outcome: Outcome) -> Result<Fenced, StoreError> {
        self.act(Verb::Complete, self.inner.complete(record, fence, outcome)).await
    }

    async fn release(&self, record: RecordId, fence: Fence) -> Result<Fenced, StoreError> {
        self.act(Verb::Release, self.inner.release(record, fence)).await
    }

    async fn extend(&self, record: RecordId, fence: Fence, lease: Duration) -> Result<Fenced, StoreError> {
        self.act(Verb::Extend, self.inner.extend(record, fence, lease)).await
    }

    async fn checkpoint(
        &self,
        record: RecordId,
        fence: Fence,
        checkpoint: Checkpoint,
    ) -> Result<Fenced, StoreError> {
        self.act(Verb::Checkpoint, self.inner.checkpoint(record, fence, checkpoint)).await
    }
}

/// An answer as one word.
trait Told {
    fn told(&self) -> &'static str;
}

impl Told for Claim {
    fn told(&self) -> &'static str {
        match self {
            Claim::Run(_) => "run",
            Claim::Replay { .. } => "replay",
            Claim::InFlight { .. } => "in flight",
            Claim::Mismatch => "mismatch",
            Claim::Tombstone(_) => "tombstone",
            _ => "another",
        }
    }
}

impl Told for Fenced {
    fn told(&self) -> &'static str {
        match self {
            Fenced::Held => "held",
            Fenced::Stale => "stale",
        }
    }
}
