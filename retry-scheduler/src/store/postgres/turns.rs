//! Reports and claims: what is done in one transaction, and again where something of it cannot be done.

use std::collections::HashSet;
use std::time::Duration;

use sqlx::{PgConnection, query};
use tokio::time::sleep;

use super::PostgresScheduler;
use super::claims::{ASIDE, Claiming};
use super::connections::{say, within};
use super::errors::failed;
use super::rows::{End, get as column};
use super::shares::Shares;
use super::sql;
use super::verbs::{PAUSES, after, id_of};
use crate::claim::{ClaimDue, Claimed, Claims, Report, Unreadable};
use crate::cycle::{Cycle, Fence};
use crate::error::SchedulerError;
use crate::nonce;
use crate::scheduler::{Finished, FinishedAndClaimed};
use crate::store::codec;

/// How often a turn is tried in which claims are set aside. What is set aside is not met again.
const TRIES: usize = 16;

/// The answers to reports.
type Answers = Vec<Result<Finished, SchedulerError>>;

/// Reports, then claims, in one transaction.
///
/// Claims commit only after their rows arrived and were decoded: where the caller goes away before, or the process dies,
/// nothing was claimed, and no lapse is counted for an attempt that never began.
pub(super) struct Turn<'a> {
    pub(super) reports: &'a [(Claimed, Report)],
    pub(super) request: Option<&'a ClaimDue>,
}

/// How a try ended.
enum Tried {
    Done(FinishedAndClaimed),
    /// Everything was rolled back, and something is different now.
    Again,
    /// Everything was rolled back: the reports are to be recorded without the claims, which failed.
    ClaimsFailed(SchedulerError),
}

/// What the tries of a turn found out.
#[derive(Default)]
struct Findings {
    /// The reports are recorded one by one, because a hook failed.
    one_by_one: bool,
    unreadable: Vec<Unreadable>,
}

impl PostgresScheduler {
    pub(super) async fn turn(&self, turn: Turn<'_>) -> Result<FinishedAndClaimed, SchedulerError> {
        let Turn { reports, request } = turn;
        let mut findings = Findings::default();
        for _ in 0..TRIES {
            match self.attempt_turn(reports, request, &mut findings).await? {
                Tried::Done(mut done) => {
                    if let Ok(claims) = &mut done.claims {
                        claims.unreadable = findings.unreadable;
                    }
                    return Ok(done);
                }
                Tried::Again => {}
                Tried::ClaimsFailed(error) if reports.is_empty() => return Err(error),
                Tried::ClaimsFailed(error) => {
                    return self.reports_alone(reports, &mut findings, Err(error)).await;
                }
            }
        }
        // So many cannot be read that none was found that can be. The next claim goes on from here.
        let claims = Ok(Claims { unreadable: std::mem::take(&mut findings.unreadable), ..Claims::default() });
        self.reports_alone(reports, &mut findings, claims).await
    }

    async fn reports_alone(
        &self,
        reports: &[(Claimed, Report)],
        findings: &mut Findings,
        claims: Result<Claims, SchedulerError>,
    ) -> Result<FinishedAndClaimed, SchedulerError> {
        for _ in 0..2 {
            if let Tried::Done(FinishedAndClaimed { finished, .. }) =
                self.attempt_turn(reports, None, findings).await?
            {
                return Ok(FinishedAndClaimed::new(finished, claims));
            }
        }
        Err(SchedulerError::conflict("the hook for ended cycles does not answer alike twice"))
    }

    async fn attempt_turn(
        &self,
        reports: &[(Claimed, Report)],
        request: Option<&ClaimDue>,
        findings: &mut Findings,
    ) -> Result<Tried, SchedulerError> {
        if reports.is_empty() && request.is_none() {
            return Ok(Tried::Done(FinishedAndClaimed::new(Vec::new(), Ok(Claims::default()))));
        }
        let nonce = nonce::random()?;
        let mut connected = self.shared.connections.get().await?;
        let answer =
            within(self.in_transaction(&mut connected.connection, reports, request, nonce, findings)).await;
        connected.give_back(&answer);
        answer
    }

    async fn in_transaction(
        &self,
        connection: &mut PgConnection,
        reports: &[(Claimed, Report)],
        request: Option<&ClaimDue>,
        nonce: u64,
        findings: &mut Findings,
    ) -> Result<Tried, SchedulerError> {
        let transaction = request.is_some() || self.shared.hook.is_some();
        if transaction {
            say(connection, "BEGIN").await?;
        }
        let finished = if findings.one_by_one {
            self.finish_one_by_one(connection, reports).await?
        } else {
            let finished = self.finish_batch(connection, reports, &PAUSES).await?;
            if self.tell_of(connection, &finished).await?.is_err() {
                say(connection, "ROLLBACK").await?;
                findings.one_by_one = true;
                return Ok(Tried::Again);
            }
            finished
        };
        let Some(request) = request else {
            if transaction {
                say(connection, "COMMIT").await?;
            }
            return Ok(Tried::Done(FinishedAndClaimed::new(finished, Ok(Claims::default()))));
        };
        let mut batch = match self.claim_in(connection, Shares::new(request.clone(), nonce)).await {
            Ok(Claiming::Found(batch)) => batch,
            Ok(Claiming::SweepTookTooLong) => return Ok(Tried::Again),
            Err(error) => {
                say(connection, "ROLLBACK").await?;
                return Ok(Tried::ClaimsFailed(error));
            }
        };
        if batch.unreadable.is_empty() {
            for (id, cycle) in std::mem::take(&mut batch.ended) {
                if let Err(error) = self.tell_within(connection, &cycle).await? {
                    batch.unreadable.push((id, Unreadable::new(Some(cycle.key), error)));
                }
            }
        }
        if batch.unreadable.is_empty() {
            say(connection, "COMMIT").await?;
            return Ok(Tried::Done(FinishedAndClaimed::new(finished, Ok(batch.claimed.into()))));
        }
        // Nothing of this was claimed by anybody. What is set aside counts no lapse, and keeps its epoch.
        say(connection, "ROLLBACK").await?;
        let (ids, unreadable): (Vec<_>, Vec<_>) = batch.unreadable.into_iter().unzip();
        let aside = query(sql::SET_ASIDE).bind(self.now()).bind(codec::duration_ms(ASIDE)).bind(&ids);
        aside.execute(connection).await.map_err(failed)?;
        findings.unreadable.extend(unreadable);
        Ok(Tried::Again)
    }

    /// All that can be recorded, in one statement if nobody is in the way.
    ///
    /// Of reports about the same claim the first counts. What somebody else has locked is waited for only as long as
    /// another claim may take that met it on its way: in longer transactions others would wait with it.
    pub(super) async fn finish_batch(
        &self,
        connection: &mut PgConnection,
        reports: &[(Claimed, Report)],
        pauses: &[Duration],
    ) -> Result<Answers, SchedulerError> {
        let mut answers: Vec<Option<Result<Finished, SchedulerError>>> =
            reports.iter().map(|_| None).collect();
        let mut met = HashSet::with_capacity(reports.len());
        let mut left = Vec::with_capacity(reports.len());
        for (place, (claim, report)) in reports.iter().enumerate() {
            if let Err(error) = report.check() {
                answers[place] = Some(Err(error));
                continue;
            }
            let id = match claim.row() {
                Some(id) => id,
                None => id_of(connection, claim).await?.unwrap_or(0),
            };
            if met.insert((id, claim.fence())) {
                left.push((place, id));
            }
        }
        for pause in pauses {
            if left.is_empty() {
                break;
            }
            if !pause.is_zero() {
                sleep(*pause).await;
            }
            left = self.finish_unlocked(connection, reports, &left, &mut answers).await?;
        }
        for (place, _) in left {
            answers[place] =
                Some(Err(SchedulerError::conflict("the cycle is locked by another transaction")));
        }
        Ok(answers.into_iter().map(|answer| answer.unwrap_or(Ok(Finished::Stale))).collect())
    }

    /// Records those whose cycles nobody has locked. Returns those that are locked.
    async fn finish_unlocked(
        &self,
        connection: &mut PgConnection,
        reports: &[(Claimed, Report)],
        left: &[(usize, i64)],
        answers: &mut [Option<Result<Finished, SchedulerError>>],
    ) -> Result<Vec<(usize, i64)>, SchedulerError> {
        let mut batch = Batch::default();
        for (place, id) in left {
            batch.push(*place, *id, &reports[*place].0, &reports[*place].1);
        }
        let finish = query(sql::FINISH_MANY)
            .bind(self.now())
            .bind(&batch.ids)
            .bind(&batch.epochs)
            .bind(&batch.nonces)
            .bind(&batch.started_at)
            .bind(&batch.verdicts)
            .bind(&batch.endings)
            .bind(&batch.reasons)
            .bind(&batch.delays)
            .bind(&batch.details)
            .bind(&batch.rows_at);
        for row in &finish.fetch_all(&mut *connection).await.map_err(failed)? {
            let place = batch.place(column(row, 0)?)?;
            let (claim, report) = &reports[place];
            answers[place] = Some(Ok(Finished::Recorded(after(claim, report, column(row, 1)?)?)));
        }
        let missing = left.iter().any(|(place, _)| answers[*place].is_none());
        let mut locked = Vec::new();
        if missing {
            let held = query(sql::HELD).bind(&batch.ids).bind(&batch.epochs).bind(&batch.nonces);
            for row in &held.fetch_all(connection).await.map_err(failed)? {
                let place = batch.place(column(row, 0)?)?;
                if answers[place].is_none() {
                    locked.extend(left.iter().find(|(left, _)| *left == place));
                }
            }
        }
        Ok(locked)
    }

    /// Each report and what the hook says of it are one: where the hook fails, the others are recorded all the same.
    async fn finish_one_by_one(
        &self,
        connection: &mut PgConnection,
        reports: &[(Claimed, Report)],
    ) -> Result<Answers, SchedulerError> {
        let mut answers = Vec::with_capacity(reports.len());
        for report in reports {
            say(connection, "SAVEPOINT retry_report").await?;
            let mut answer = self.finish_batch(connection, std::slice::from_ref(report), &PAUSES).await?;
            if let Err(error) = self.tell_of(connection, &answer).await? {
                say(connection, "ROLLBACK TO SAVEPOINT retry_report").await?;
                answer = vec![Err(error)];
            }
            say(connection, "RELEASE SAVEPOINT retry_report").await?;
            answers.append(&mut answer);
        }
        Ok(answers)
    }

    /// Calls the hook for those that have ended. The inner error is the hook's.
    async fn tell_of(
        &self,
        connection: &mut PgConnection,
        answers: &Answers,
    ) -> Result<Result<(), SchedulerError>, SchedulerError> {
        if self.shared.hook.is_some() {
            for answer in answers {
                if let Ok(Finished::Recorded(cycle)) = answer
                    && let Err(error) = self.tell(connection, cycle).await
                {
                    return Ok(Err(error));
                }
            }
        }
        Ok(Ok(()))
    }

    /// Calls the hook in a savepoint: where it fails, the transaction goes on.
    async fn tell_within(
        &self,
        connection: &mut PgConnection,
        cycle: &Cycle,
    ) -> Result<Result<(), SchedulerError>, SchedulerError> {
        if self.shared.hook.is_none() {
            return Ok(Ok(()));
        }
        say(connection, "SAVEPOINT retry_hook").await?;
        let told = self.tell(connection, cycle).await;
        if told.is_err() {
            say(connection, "ROLLBACK TO SAVEPOINT retry_hook").await?;
        }
        say(connection, "RELEASE SAVEPOINT retry_hook").await?;
        Ok(told)
    }
}

/// Reports, column by column.
#[derive(Default)]
struct Batch<'a> {
    /// Their places among the reports.
    places: Vec<usize>,
    ids: Vec<i64>,
    epochs: Vec<i64>,
    nonces: Vec<i64>,
    started_at: Vec<i64>,
    verdicts: Vec<i16>,
    endings: Vec<i16>,
    reasons: Vec<Option<i16>>,
    delays: Vec<i64>,
    details: Vec<&'a [u8]>,
    rows_at: Vec<Option<&'a str>>,
}

impl<'a> Batch<'a> {
    fn push(&mut self, place: usize, id: i64, claim: &'a Claimed, report: &'a Report) {
        let End { verdict, ending, reason, delay } = End::of(claim, report);
        let Fence { epoch, nonce } = claim.fence();
        self.places.push(place);
        self.ids.push(id);
        self.epochs.push(codec::epoch_column(epoch));
        self.nonces.push(codec::nonce_column(nonce));
        self.started_at.push(codec::to_ms(claim.claimed_at));
        self.verdicts.push(verdict);
        self.endings.push(ending);
        self.reasons.push(reason);
        self.delays.push(delay);
        self.details.push(&report.detail);
        self.rows_at.push(claim.row_at());
    }

    /// The place among the reports of the `nth` row, from 1.
    fn place(&self, nth: i64) -> Result<usize, SchedulerError> {
        let place = usize::try_from(nth - 1).ok().and_then(|nth| self.places.get(nth));
        place.copied().ok_or_else(|| SchedulerError::invalid("an answer to no report"))
    }
}
