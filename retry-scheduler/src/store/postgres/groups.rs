//! Calls that come at the same time share a transaction.
//!
//! The transaction of a turn takes four round trips and a commit, however few cycles it is about. So small turns that come
//! while others are under way wait for one of those to end, and then go together: one statement records all reports,
//! another one claims for all of them.
//!
//! A group is a try that everything goes well. Where it does not, because a cycle is locked or cannot be read, a statement
//! fails, or a caller has gone, the whole transaction is rolled back. Nothing has happened then, and each call is carried
//! out alone. So no call fails for another one's sake, nor waits for what is in another one's way, and a claim whose caller
//! went before the commit was never made.

use std::collections::VecDeque;
use std::mem::take;
use std::pin::pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sqlx::PgConnection;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::timeout;

use super::PostgresScheduler;
use super::claims::Claiming;
use super::connections::{say, within};
use super::shares::{Shares, call_of};
use super::sql::MOST_CALLS;
use super::turns::Turn;
use super::verbs::PAUSES;
use crate::claim::{ClaimDue, Claimed, Claims, Report};
use crate::error::{SchedulerError, SchedulerErrorKind};
use crate::nonce;
use crate::scheduler::FinishedAndClaimed;

/// While a group is under way, the next one gathers. But a group that takes longer than this is not waited for: it may be
/// the one that sweeps, or wait for a lock.
const PATIENCE: Duration = Duration::from_millis(20);
/// How many groups are under way at most.
const AT_ONCE: usize = 4;
/// The reports and claims of a call that shares a transaction. In a larger one, the cycles cost much more than the
/// transaction.
const SMALL: usize = 16;

/// The calls that wait for a group.
#[derive(Debug, Default)]
pub(super) struct Groups {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Call>,
    /// How many tasks carry out groups.
    running: usize,
    /// How many of these are not waited for.
    slow: usize,
}

#[derive(Debug)]
struct Call {
    reports: Vec<(Claimed, Report)>,
    request: ClaimDue,
    answer: oneshot::Sender<Answer>,
}

#[derive(Debug)]
enum Answer {
    Done(Result<FinishedAndClaimed, SchedulerError>),
    /// Nothing was done.
    Alone(Vec<(Claimed, Report)>),
}

/// Calls that ask for the same. Their reports stand one after the other.
struct Group {
    members: Vec<Member>,
    reports: Vec<(Claimed, Report)>,
    request: ClaimDue,
}

struct Member {
    reports: usize,
    limit: usize,
    answer: oneshot::Sender<Answer>,
}

impl PostgresScheduler {
    /// Records reports and claims, with others where that is possible.
    pub(super) async fn turn_in_group(
        &self,
        mut reports: Vec<(Claimed, Report)>,
        request: ClaimDue,
    ) -> Result<FinishedAndClaimed, SchedulerError> {
        // A hook is called where its caller is.
        if self.shared.hook.is_none() && is_small(&reports, &request) {
            let (answer, answered) = oneshot::channel();
            self.join(Call { reports, request: request.clone(), answer })?;
            match answered.await {
                Ok(Answer::Done(done)) => return done,
                Ok(Answer::Alone(mine)) => reports = mine,
                Err(_) => return Err(SchedulerError::unavailable("the runtime of the group has ended")),
            }
        }
        self.turn(Turn { reports: &reports, request: Some(&request) }).await
    }

    fn join(&self, call: Call) -> Result<(), SchedulerError> {
        let runtime = Handle::try_current().map_err(SchedulerError::unavailable)?;
        self.shared.groups.lock().waiting.push_back(call);
        self.start_next(&runtime);
        Ok(())
    }

    /// Starts a task for those who wait, unless one will come back for them soon.
    fn start_next(&self, runtime: &Handle) {
        let mut state = self.shared.groups.lock();
        if state.waiting.is_empty() || state.running > state.slow || state.running >= AT_ONCE {
            return;
        }
        state.running += 1;
        // A runtime that has ended drops the task at once, and that takes the lock.
        drop(state);
        runtime.spawn(Place { scheduler: self.clone(), left: false }.work());
    }

    /// Carries out a group. Where that takes long, others do not wait for it.
    async fn carry_out_in_time(&self, group: Group) {
        let mut carried_out = pin!(self.carry_out(group));
        if timeout(PATIENCE, carried_out.as_mut()).await.is_ok() {
            return;
        }
        let _slow = Slow::new(self);
        self.start_next(&Handle::current());
        carried_out.await;
    }

    async fn carry_out(&self, group: Group) {
        match self.try_group(&group).await {
            Ok(Some(done)) => group.share(done),
            Ok(None) => group.disband(),
            Err(error) => group.fail(error),
        }
    }

    /// Returns `None` where nothing was done, and each call is to be carried out alone.
    async fn try_group(&self, group: &Group) -> Result<Option<FinishedAndClaimed>, SchedulerError> {
        let mut connected = self.shared.connections.get().await?;
        let connection = &mut connected.connection;
        let answer = within(async {
            say(connection, "BEGIN").await?;
            match self.try_in_transaction(connection, group).await {
                // Only those who are still there have claimed anything.
                Ok(Some(done)) if group.is_whole() => {
                    say(connection, "COMMIT").await?;
                    Ok(Some(done))
                }
                // The others would only find out the same.
                Err(error) if error.kind() == SchedulerErrorKind::Unavailable => Err(error),
                Ok(_) | Err(_) => {
                    say(connection, "ROLLBACK").await?;
                    Ok(None)
                }
            }
        })
        .await;
        connected.give_back(&answer);
        answer
    }

    async fn try_in_transaction(
        &self,
        connection: &mut PgConnection,
        group: &Group,
    ) -> Result<Option<FinishedAndClaimed>, SchedulerError> {
        let finished = self.finish_batch(connection, &group.reports, &PAUSES[..1]).await?;
        if finished
            .iter()
            .any(|answer| answer.as_ref().is_err_and(|error| error.kind() == SchedulerErrorKind::Conflict))
        {
            return Ok(None);
        }
        let limits = group.members.iter().map(|member| member.limit);
        let shares = Shares::for_many(group.request.clone(), nonce::random()?, limits);
        match self.claim_in(connection, shares).await? {
            Claiming::Found(batch) if batch.unreadable.is_empty() => {
                Ok(Some(FinishedAndClaimed::new(finished, Ok(batch.claimed.into()))))
            }
            Claiming::Found(_) | Claiming::SweepTookTooLong => Ok(None),
        }
    }
}

fn is_small(reports: &[(Claimed, Report)], request: &ClaimDue) -> bool {
    // Whatever it is given, no tenant reaches their share: so it can be given anything that is due.
    let most = request.running.values().max().copied().unwrap_or(0);
    reports.len() <= SMALL
        && request.limit <= SMALL
        && request.per_tenant.saturating_sub(most) >= request.limit
}

impl Groups {
    /// The longest waiting call, and those that go with it.
    fn next(&self, place: &mut Place) -> Option<Group> {
        let mut state = self.lock();
        let Some(first) = state.waiting.pop_front() else {
            place.left = true;
            state.running -= 1;
            return None;
        };
        let mut group = Group::new(first);
        let most = usize::try_from(MOST_CALLS).unwrap_or(1);
        for call in take(&mut state.waiting) {
            if group.members.len() < most && group.fits(&call.request) {
                group.push(call);
            } else {
                state.waiting.push_back(call);
            }
        }
        Some(group)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task that is not waited for.
struct Slow<'a>(&'a PostgresScheduler);

impl<'a> Slow<'a> {
    fn new(scheduler: &'a PostgresScheduler) -> Self {
        scheduler.shared.groups.lock().slow += 1;
        Self(scheduler)
    }
}

impl Drop for Slow<'_> {
    fn drop(&mut self) {
        self.0.shared.groups.lock().slow -= 1;
    }
}

/// The place of a task that carries out groups.
struct Place {
    scheduler: PostgresScheduler,
    left: bool,
}

impl Place {
    async fn work(mut self) {
        let scheduler = self.scheduler.clone();
        loop {
            // The callers that the last answers woke come back first.
            yield_now().await;
            let Some(group) = scheduler.shared.groups.next(&mut self) else { return };
            scheduler.carry_out_in_time(group).await;
        }
    }
}

impl Drop for Place {
    /// The runtime has ended: those who wait are told so, because nobody else may come for them.
    fn drop(&mut self) {
        if !self.left {
            let mut state = self.scheduler.shared.groups.lock();
            state.running -= 1;
            state.waiting.clear();
        }
    }
}

impl Group {
    fn new(first: Call) -> Self {
        let request = ClaimDue::new(0, first.request.lease).namespaces(first.request.namespaces.clone());
        let mut group = Self { members: Vec::new(), reports: Vec::new(), request };
        group.push(first);
        group
    }

    fn fits(&self, request: &ClaimDue) -> bool {
        request.lease == self.request.lease && request.namespaces == self.request.namespaces
    }

    fn push(&mut self, Call { mut reports, request, answer }: Call) {
        self.request.limit += request.limit;
        self.members.push(Member { reports: reports.len(), limit: request.limit, answer });
        self.reports.append(&mut reports);
    }

    /// Whether nobody has gone.
    fn is_whole(&self) -> bool {
        !self.members.iter().any(|member| member.answer.is_closed())
    }

    /// Gives everybody what is theirs.
    fn share(self, done: FinishedAndClaimed) {
        let mut finished = done.finished.into_iter();
        let mut shares: Vec<Vec<Claimed>> = self.members.iter().map(|_| Vec::new()).collect();
        for claimed in done.claims.into_iter().flatten() {
            let call = usize::try_from(call_of(&claimed)).unwrap_or(usize::MAX);
            if let Some(share) = shares.get_mut(call) {
                share.push(claimed);
            }
        }
        for (member, share) in self.members.into_iter().zip(shares) {
            let finished = finished.by_ref().take(member.reports).collect();
            let done = FinishedAndClaimed::new(finished, Ok(Claims::from(share)));
            // Who goes now is as one whose answer was lost.
            let _ = member.answer.send(Answer::Done(Ok(done)));
        }
    }

    fn disband(self) {
        let mut reports = self.reports.into_iter();
        for member in self.members {
            let mine = reports.by_ref().take(member.reports).collect();
            let _ = member.answer.send(Answer::Alone(mine));
        }
    }

    fn fail(self, error: SchedulerError) {
        let mut copies = error.copies();
        for member in self.members {
            let _ = member.answer.send(Answer::Done(Err(copies())));
        }
    }
}
