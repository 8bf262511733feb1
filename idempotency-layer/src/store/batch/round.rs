//! One batch: its verbs, and the answers of its callers.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::fmt;
use std::mem;
use std::slice;
use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::{Answer, BATCH_BYTES, Job, LOCKED_FOR, Op, Reply, Writer};
use crate::clock::now;
use crate::error::{StoreError, StoreErrorKind};
use crate::store::{Claim, ClaimToken};

/// The verbs of one batch: at most one of each record, sorted by record.
pub(super) struct Round {
    ops: Vec<Op>,
    callers: Vec<Caller>,
}

/// The caller of a verb, and the callers whose answers follow from it.
struct Caller {
    answer: oneshot::Sender<Result<Answer, StoreError>>,
    locked: Option<Instant>,
    /// Claims of the same record with the same fingerprint. Their answers follow from the answer to
    /// the first one.
    followers: Vec<Job>,
}

/// How a batch treats a record.
enum Place {
    /// The record's verb is at this index.
    At(usize),
    /// A verb of the record was put off, and so are all later ones, which keeps their order.
    PutOff,
}

impl Round {
    /// Takes the verbs of one batch, at most `most`. The others stay, in their order.
    pub(super) fn cut(waiting: &mut Vec<Job>, most: usize, together: impl Fn(&Op, &Op) -> bool) -> Self {
        let mut taken: Vec<(Op, Caller)> = Vec::with_capacity(waiting.len());
        let (mut places, mut bytes) = (HashMap::with_capacity(waiting.len()), 0);
        for job in mem::take(waiting) {
            // The caller is gone, and the verb has not begun, so it must not take effect.
            if job.answer.is_closed() {
                continue;
            }
            match places.entry(job.op.record()) {
                Entry::Vacant(place) => {
                    let fits = taken.first().is_none_or(|(first, _)| {
                        taken.len() < most
                            && bytes + job.op.bytes() <= BATCH_BYTES
                            && together(first, &job.op)
                    });
                    if fits {
                        place.insert(Place::At(taken.len()));
                        bytes += job.op.bytes();
                        let Job { op, answer, locked } = job;
                        taken.push((op, Caller { answer, locked, followers: Vec::new() }));
                    } else {
                        place.insert(Place::PutOff);
                        waiting.push(job);
                    }
                }
                Entry::Occupied(mut place) => match place.get() {
                    Place::At(at) if follows(&taken[*at].0, &job.op) => taken[*at].1.followers.push(job),
                    _ => {
                        place.insert(Place::PutOff);
                        waiting.push(job);
                    }
                },
            }
        }
        taken.sort_unstable_by_key(|(op, _)| op.record());
        let (ops, callers) = taken.into_iter().unzip();
        Self { ops, callers }
    }

    /// Executes the batch and answers its callers.
    ///
    /// Verbs that must be tried again go to the front of `waiting`, and those of locked records to
    /// its end. Returns whether there are verbs of records that are not locked.
    pub(super) async fn carry_out<W: Writer>(self, writer: &mut W, waiting: &mut Vec<Job>) -> bool {
        if self.ops.is_empty() {
            return !waiting.is_empty();
        }
        let mut again = Vec::new();
        match writer.execute(&self.ops).await {
            Ok(replies) => {
                // If a reply is missing, its caller's channel is dropped, which the caller sees as
                // `Unavailable`.
                for ((op, caller), reply) in self.ops.into_iter().zip(self.callers).zip(replies) {
                    caller.take(op, reply, &mut again);
                }
            }
            Err(error) if error.kind() == StoreErrorKind::Unavailable => {
                let error = Shared(Arc::new(error));
                for caller in self.callers {
                    caller.fail(&error);
                }
            }
            Err(error) => {
                let mut alone = (self.ops.len() == 1).then_some(error);
                for (op, caller) in self.ops.into_iter().zip(self.callers) {
                    let reply = match alone.take() {
                        Some(error) => Err(error),
                        None => carry_out_alone(writer, &op).await,
                    };
                    caller.take(op, reply, &mut again);
                }
            }
        }
        again.append(waiting);
        let locked = again.iter().filter(|job| job.locked.is_some()).map(|job| job.op.record());
        let locked: HashSet<_> = locked.collect();
        let (ready, mut behind) = again.into_iter().partition(|job| !locked.contains(&job.op.record()));
        *waiting = ready;
        let is_ready = !waiting.is_empty();
        waiting.append(&mut behind);
        is_ready
    }
}

async fn carry_out_alone<W: Writer>(writer: &mut W, op: &Op) -> Result<Reply, StoreError> {
    let mut replies = writer.execute(slice::from_ref(op)).await?;
    replies.pop().unwrap_or_else(|| Err(StoreError::unavailable("no answer")))
}

impl Caller {
    /// Answers the caller by the reply to its verb, or queues the verb again.
    fn take(self, op: Op, reply: Result<Reply, StoreError>, again: &mut Vec<Job>) {
        let Self { answer, locked, followers } = self;
        let answered = match reply {
            Ok(Reply::Done(answered)) => answered,
            Ok(Reply::Locked(otherwise)) => {
                let since = locked.unwrap_or_else(now);
                if now().saturating_duration_since(since) < LOCKED_FOR {
                    again.push(Job { op, answer, locked: Some(since) });
                } else {
                    let locked = || StoreError::unavailable("the record is locked by another transaction");
                    drop(answer.send(otherwise.map(|claim| Answer::Claim(claim, None)).ok_or_else(locked)));
                }
                return again.extend(followers);
            }
            Err(error) if error.kind() == StoreErrorKind::Unavailable => {
                let error = Shared(Arc::new(error));
                return Self { answer, locked, followers }.fail(&error);
            }
            Err(error) => {
                drop(answer.send(Err(error)));
                return again.extend(followers);
            }
        };
        for follower in followers {
            match answer_to_follower(&op, &answered, &follower.op) {
                Some(claim) => drop(follower.answer.send(Ok(Answer::Claim(claim, None)))),
                None => again.push(follower),
            }
        }
        // If the caller is gone, the verb has taken effect nevertheless.
        drop(answer.send(Ok(answered)));
    }

    fn fail(self, error: &Shared) {
        for answer in self.followers.into_iter().map(|job| job.answer).chain([self.answer]) {
            drop(answer.send(Err(StoreError::unavailable(error.clone()))));
        }
    }
}

/// Returns whether the answer to the second verb follows from the answer to the first.
fn follows(first: &Op, second: &Op) -> bool {
    match (first, second) {
        // Equal fingerprints: the record's own matches both or neither. A token that claims again
        // needs a fresh lease, so it does not follow.
        (Op::Claim(first), Op::Claim(second)) => {
            first.fingerprint == second.fingerprint && first.token != second.token && !first.lease.is_zero()
        }
        _ => false,
    }
}

/// Returns the answer to a claim that follows another one. `None` if it may be the claim that
/// holds.
fn answer_to_follower(first: &Op, answer: &Answer, follower: &Op) -> Option<Claim> {
    let (Op::Claim(first), Op::Claim(follower), Answer::Claim(claim, holder)) = (first, follower, answer)
    else {
        return None;
    };
    let not_its_own = |token: &ClaimToken| *token != follower.token;
    match claim {
        Claim::Run(_) => Some(Claim::InFlight { lease_left: first.lease }),
        Claim::InFlight { .. } => holder.filter(not_its_own).map(|_| claim.clone()),
        Claim::Replay { .. } | Claim::Mismatch | Claim::Tombstone(_) => Some(claim.clone()),
    }
}

/// One error for every caller of a batch.
#[derive(Clone, Debug)]
struct Shared(Arc<StoreError>);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for Shared {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}
