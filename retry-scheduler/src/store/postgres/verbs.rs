//! Each verb on a connection, whether that has a transaction open or not.

use std::collections::{HashMap, HashSet};
use std::slice;
use std::time::Duration;

use sqlx::{PgConnection, query};
use tokio::time::sleep;

use super::PostgresScheduler;
use super::connections::say;
use super::errors::{failed, took_too_long};
use super::rows::{COLUMNS, End, attempt, cycle, get as column, restless, state_columns};
use super::shares::column as limit;
use super::sql;
use crate::claim::{Claimed, Namespaces, Report};
use crate::cycle::{AttemptRecord, Cycle, CycleKey, Event, NewCycle, Refused, Reschedule, State};
use crate::error::SchedulerError;
use crate::scheduler::{Cancelled, Fenced, Finished, Rescheduled, Scheduled};
use crate::store::codec;

/// How often a verb looks again at a cycle that changed between two statements. Each time somebody else got on with it.
const LOOKS: usize = 64;
/// How long each look at what is locked waits. A claim can hold what it met and cannot have until it commits.
pub(super) const PAUSES: [Duration; 9] = [
    Duration::ZERO,
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(15),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(400),
    Duration::from_millis(400),
];
/// How many of the pauses a renewal makes: less than a fifth of a second, and no worker expects an answer sooner than after
/// one.
const PAUSES_OF_RENEWALS: usize = 6;
/// How many new cycles one statement takes: each is met again among the others.
pub(super) const CHUNK: usize = 256;

impl PostgresScheduler {
    /// Calls the hook, if there is one and the cycle has ended.
    pub(super) async fn tell(
        &self,
        connection: &mut PgConnection,
        cycle: &Cycle,
    ) -> Result<(), SchedulerError> {
        let (Some(hook), State::Ended { reason, .. }) = (&self.shared.hook, cycle.state) else {
            return Ok(());
        };
        hook.on_ended(connection, cycle, reason).await.map_err(SchedulerError::hook_failed)
    }

    pub(super) async fn schedule_on(
        &self,
        connection: &mut PgConnection,
        new: &NewCycle,
    ) -> Result<Scheduled, SchedulerError> {
        let NewCycle { key, tenant, plan, first_in, payload, metadata } = new;
        for _ in 0..LOOKS {
            let insert = query(sql::SCHEDULE)
                .bind(self.now())
                .bind(codec::duration_ms(*first_in))
                .bind(&key.namespace)
                .bind(&key.subject)
                .bind(tenant)
                .bind(i64::from(plan.max_attempts()))
                .bind(codec::delays_text(plan))
                .bind(codec::last_start_ms(plan))
                .bind(i16::from(plan.jitter_percent()))
                .bind(i64::from(plan.deferral_limit()))
                .bind(&payload[..])
                .bind(codec::metadata_text(metadata));
            if let Some(row) = insert.fetch_optional(&mut *connection).await.map_err(failed)? {
                let cycle = cycle(&row)?;
                self.tell(connection, &cycle).await?;
                return Ok(Scheduled::New(cycle));
            }
            // In a statement of its own: the one that met it may have begun before it was committed, and not see it.
            if let Some(cycle) = get(connection, key).await? {
                return Ok(Scheduled::Exists(cycle));
            }
        }
        Err(restless())
    }

    /// Of cycles with the same key, the first one counts.
    pub(super) async fn schedule_many_on(
        &self,
        connection: &mut PgConnection,
        new: &[NewCycle],
    ) -> Result<Vec<Scheduled>, SchedulerError> {
        let mut begun = HashMap::with_capacity(new.len());
        let mut first = HashMap::with_capacity(new.len());
        for (nth, new) in new.iter().enumerate() {
            first.entry(&new.key).or_insert(nth);
        }
        let mut different: Vec<&NewCycle> = first.values().map(|nth| &new[*nth]).collect();
        // In one order, so that two callers never wait for each other.
        different.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        for chunk in different.chunks(CHUNK) {
            let insert = query(sql::SCHEDULE_MANY)
                .bind(self.now())
                .bind(all(chunk, |new| codec::duration_ms(new.first_in)))
                .bind(all(chunk, |new| new.key.namespace.as_str()))
                .bind(all(chunk, |new| new.key.subject.as_str()))
                .bind(all(chunk, |new| new.tenant.as_str()))
                .bind(all(chunk, |new| i64::from(new.plan.max_attempts())))
                .bind(all(chunk, |new| codec::delays_text(&new.plan)))
                .bind(all(chunk, |new| codec::last_start_ms(&new.plan)))
                .bind(all(chunk, |new| i16::from(new.plan.jitter_percent())))
                .bind(all(chunk, |new| i64::from(new.plan.deferral_limit())))
                .bind(all(chunk, |new| &new.payload[..]))
                .bind(all(chunk, |new| codec::metadata_text(&new.metadata)));
            for row in &insert.fetch_all(&mut *connection).await.map_err(failed)? {
                let cycle = cycle(row)?;
                self.tell(connection, &cycle).await?;
                begun.insert(cycle.key.clone(), cycle);
            }
        }
        let mut answers = Vec::with_capacity(new.len());
        for (nth, new) in new.iter().enumerate() {
            let mine = first.get(&new.key) == Some(&nth);
            answers.push(match begun.get(&new.key) {
                Some(cycle) if mine => Scheduled::New(cycle.clone()),
                Some(cycle) => Scheduled::Exists(cycle.clone()),
                None => self.schedule_on(connection, new).await?,
            });
        }
        Ok(answers)
    }

    pub(super) async fn extend_on(
        &self,
        connection: &mut PgConnection,
        claim: &Claimed,
        lease: Duration,
    ) -> Result<Fenced, SchedulerError> {
        let answers = self.extend_many_on(connection, slice::from_ref(claim), lease).await?;
        Ok(answers.first().copied().unwrap_or(Fenced::Stale))
    }

    /// What somebody else has locked is waited for only as long as a claim may take that met it on its way. A worker that
    /// waited longer would take that for an outage, and lose the leases of all its attempts for the sake of one.
    pub(super) async fn extend_many_on(
        &self,
        connection: &mut PgConnection,
        claims: &[Claimed],
        lease: Duration,
    ) -> Result<Vec<Fenced>, SchedulerError> {
        let mut answers = vec![Fenced::Stale; claims.len()];
        let mut extended = HashSet::with_capacity(claims.len());
        let mut left = Vec::with_capacity(claims.len());
        for (place, claim) in claims.iter().enumerate() {
            let id = match claim.row() {
                Some(id) => id,
                None => id_of(connection, claim).await?.unwrap_or(0),
            };
            left.push((place, id));
        }
        for pause in &PAUSES[..PAUSES_OF_RENEWALS] {
            if !pause.is_zero() {
                sleep(*pause).await;
            }
            let ids = all(&left, |(_, id)| *id);
            let epochs = all(&left, |(place, _)| codec::epoch_column(claims[*place].cycle.epoch));
            let nonces = all(&left, |(place, _)| codec::nonce_column(claims[*place].cycle.nonce));
            let extend = query(sql::EXTEND_MANY)
                .bind(self.now())
                .bind(codec::duration_ms(lease))
                .bind(&ids)
                .bind(&epochs)
                .bind(&nonces);
            for row in &extend.fetch_all(&mut *connection).await.map_err(failed)? {
                let (place, id) = nth(&left, column(row, 0)?)?;
                answers[place] = Fenced::Held;
                extended.insert((id, claims[place].fence()));
            }
            if left.iter().all(|(place, _)| answers[*place] == Fenced::Held) {
                return Ok(answers);
            }
            let held = query(sql::HELD).bind(&ids).bind(&epochs).bind(&nonces);
            let mut locked = Vec::new();
            for row in &held.fetch_all(&mut *connection).await.map_err(failed)? {
                let (place, id) = nth(&left, column(row, 0)?)?;
                if extended.contains(&(id, claims[place].fence())) {
                    // By this one, or by another one of the same claim.
                    answers[place] = Fenced::Held;
                } else {
                    locked.push((place, id));
                }
            }
            left = locked;
            if left.is_empty() {
                return Ok(answers);
            }
        }
        Err(SchedulerError::conflict("a cycle is locked by another transaction"))
    }

    pub(super) async fn defer_on(
        &self,
        connection: &mut PgConnection,
        claim: &Claimed,
        delay: Duration,
    ) -> Result<Fenced, SchedulerError> {
        let defer = fenced(sql::DEFER, self.now(), claim, delay).fetch_optional(&mut *connection).await;
        let Some(row) = defer.map_err(failed)? else { return Ok(Fenced::Stale) };
        let event = Event::Defer { fence: claim.fence(), delay };
        if let Ok(transition) = claim.cycle.apply(event, codec::from_ms(column(&row, 0)?)) {
            self.tell(connection, &transition.cycle).await?;
        }
        Ok(Fenced::Held)
    }

    /// One report. A cycle that somebody else has locked is waited for.
    pub(super) async fn finish_on(
        &self,
        connection: &mut PgConnection,
        claim: &Claimed,
        report: &Report,
    ) -> Result<Finished, SchedulerError> {
        let Cycle { key, epoch, nonce, .. } = &claim.cycle;
        let End { verdict, ending, reason, delay } = End::of(claim, report);
        let finish = query(sql::FINISH)
            .bind(self.now())
            .bind(&key.namespace)
            .bind(&key.subject)
            .bind(codec::epoch_column(*epoch))
            .bind(codec::to_ms(claim.claimed_at))
            .bind(verdict)
            .bind(ending)
            .bind(delay)
            .bind(&report.detail[..])
            .bind(codec::nonce_column(*nonce))
            .bind(reason)
            .bind(claim.row());
        let Some(row) = finish.fetch_optional(&mut *connection).await.map_err(failed)? else {
            return Ok(Finished::Stale);
        };
        let cycle = after(claim, report, column(&row, 0)?)?;
        self.tell(connection, &cycle).await?;
        Ok(Finished::Recorded(cycle))
    }

    pub(super) async fn cancel_on(
        &self,
        connection: &mut PgConnection,
        key: &CycleKey,
    ) -> Result<Cancelled, SchedulerError> {
        for _ in 0..LOOKS {
            let cancel = query(sql::CANCEL).bind(self.now()).bind(&key.namespace).bind(&key.subject);
            if let Some(row) = cancel.fetch_optional(&mut *connection).await.map_err(failed)? {
                let cycle = cycle(&row)?;
                self.tell(connection, &cycle).await?;
                return Ok(Cancelled::Cancelled(cycle));
            }
            let Some(cycle) = get(connection, key).await? else { return Ok(Cancelled::Unknown) };
            // Or else it was begun, or began anew, between the two.
            if let Some(ending) = cycle.ending() {
                return Ok(Cancelled::Ended(ending));
            }
        }
        Err(restless())
    }

    /// Reads, lets the state machine say what becomes of it, and writes that where it still is what was read.
    pub(super) async fn reschedule_on(
        &self,
        connection: &mut PgConnection,
        key: &CycleKey,
        change: &Reschedule,
    ) -> Result<Rescheduled, SchedulerError> {
        for _ in 0..LOOKS {
            let Some((old, now)) = self.read(connection, key).await? else { return Ok(Rescheduled::Unknown) };
            let cycle = match old.apply(Event::Reschedule(change.clone()), codec::from_ms(now)) {
                Ok(transition) => transition.cycle,
                Err(Refused::Ended(ending)) => return Ok(Rescheduled::Ended(ending)),
                Err(refused) => return Err(SchedulerError::invalid(format!("{refused:?}"))),
            };
            if write(connection, &old, &cycle).await? {
                self.tell(connection, &cycle).await?;
                return Ok(match old.ending() {
                    Some(_) => Rescheduled::Reactivated(cycle),
                    None => Rescheduled::Changed(cycle),
                });
            }
        }
        Err(restless())
    }

    /// A cycle and the time now.
    pub(super) async fn read(
        &self,
        connection: &mut PgConnection,
        key: &CycleKey,
    ) -> Result<Option<(Cycle, i64)>, SchedulerError> {
        let read = query(sql::READ).bind(self.now()).bind(&key.namespace).bind(&key.subject);
        let row = read.fetch_optional(connection).await.map_err(failed)?;
        row.map(|row| Ok((cycle(&row)?, column(&row, COLUMNS)?))).transpose()
    }

    /// How long until a cycle can be claimed, of those from the floor on.
    pub(super) async fn next_wake_on(
        &self,
        connection: &mut PgConnection,
        namespaces: &Namespaces,
    ) -> Result<Option<Duration>, SchedulerError> {
        let namespaces = if let Namespaces::Only(these) = namespaces {
            these.iter().cloned().collect()
        } else {
            let mut list = self.shared.namespaces.read(connection, self.elapsed()).await?;
            list.retain(|namespace| namespaces.contains(namespace));
            list
        };
        let began = self.elapsed();
        let look = self.floor().wait_from_start(began);
        if let Some(bounded) = look {
            if bounded {
                say(connection, "BEGIN").await?;
                say(connection, sql::SWEEP_TIMEOUT).await?;
            }
            let wait = self.wait_from(connection, &namespaces, vec![0; namespaces.len()]).await;
            self.floor().waited(began, self.elapsed());
            match wait {
                Ok(wait) => {
                    if bounded {
                        say(connection, "COMMIT").await?;
                    }
                    if wait == Some(Duration::ZERO) {
                        // The next claim is to find it.
                        self.floor().sweep_soon();
                    }
                    return Ok(wait);
                }
                Err(error) if took_too_long(&error) => {
                    if bounded {
                        say(connection, "ROLLBACK").await?;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        let floors = self.floor().of(&namespaces);
        self.wait_from(connection, &namespaces, floors).await
    }

    async fn wait_from(
        &self,
        connection: &mut PgConnection,
        namespaces: &[String],
        floors: Vec<i64>,
    ) -> Result<Option<Duration>, SchedulerError> {
        let wake = query(sql::NEXT_WAKE).bind(self.now()).bind(namespaces).bind(floors);
        let wait: Option<i64> = column(&wake.fetch_one(connection).await.map_err(failed)?, 0)?;
        Ok(wait.map(|wait| Duration::from_millis(u64::try_from(wait).unwrap_or(0))))
    }

    /// The server's time.
    pub(super) async fn server_ms(&self, connection: &mut PgConnection) -> Result<i64, SchedulerError> {
        column(&query(sql::NOW).bind(self.now()).fetch_one(connection).await.map_err(failed)?, 0)
    }

    /// Deletes what ended longest ago.
    pub(super) async fn purge_ended_on(
        &self,
        connection: &mut PgConnection,
        older_than: Duration,
        most: usize,
    ) -> Result<usize, SchedulerError> {
        let purge =
            query(sql::PURGE_ENDED).bind(self.now()).bind(codec::duration_ms(older_than)).bind(limit(most));
        let count: i64 = column(&purge.fetch_one(connection).await.map_err(failed)?, 0)?;
        Ok(usize::try_from(count).unwrap_or(0))
    }
}

/// What a recorded report makes of the cycle that was claimed, at this time of the server. Under one fence nobody else
/// changes what that depends on.
pub(super) fn after(claim: &Claimed, report: &Report, now: i64) -> Result<Cycle, SchedulerError> {
    let event = Event::Finish { fence: claim.fence(), verdict: report.verdict, retry_in: report.retry_in };
    match claim.cycle.apply(event, codec::from_ms(now)) {
        Ok(transition) => Ok(transition.cycle),
        Err(refused) => {
            Err(SchedulerError::invalid(format!("a claim of a cycle that is not leased: {refused:?}")))
        }
    }
}

/// The row of a claim that was not made by this scheduler.
pub(super) async fn id_of(
    connection: &mut PgConnection,
    claim: &Claimed,
) -> Result<Option<i64>, SchedulerError> {
    let key = &claim.cycle.key;
    let row = query(sql::ID).bind(&key.namespace).bind(&key.subject).fetch_optional(connection).await;
    row.map_err(failed)?.map(|row| column(&row, 0)).transpose()
}

pub(super) async fn get(
    connection: &mut PgConnection,
    key: &CycleKey,
) -> Result<Option<Cycle>, SchedulerError> {
    let get = query(sql::GET).bind(&key.namespace).bind(&key.subject);
    get.fetch_optional(connection).await.map_err(failed)?.as_ref().map(cycle).transpose()
}

pub(super) async fn attempts(
    connection: &mut PgConnection,
    key: &CycleKey,
    after: u32,
    most: usize,
) -> Result<Vec<AttemptRecord>, SchedulerError> {
    let attempts =
        query(sql::ATTEMPTS).bind(&key.namespace).bind(&key.subject).bind(i64::from(after)).bind(limit(most));
    attempts.fetch_all(connection).await.map_err(failed)?.iter().map(attempt).collect()
}

/// Whether `cycle` is written in place of `old`.
pub(super) async fn write(
    connection: &mut PgConnection,
    old: &Cycle,
    cycle: &Cycle,
) -> Result<bool, SchedulerError> {
    let (state, reason, wake_at, ended_at) = state_columns(cycle.state);
    let write = query(sql::WRITE)
        .bind(i64::from(cycle.plan.max_attempts()))
        .bind(codec::delays_text(&cycle.plan))
        .bind(codec::last_start_ms(&cycle.plan))
        .bind(state)
        .bind(wake_at)
        .bind(ended_at)
        .bind(codec::epoch_column(cycle.epoch))
        .bind(i64::from(cycle.used))
        .bind(i64::from(cycle.lapses))
        .bind(i64::from(cycle.reactivations))
        .bind(i64::from(cycle.deferrals))
        .bind(i16::from(cycle.plan.jitter_percent()))
        .bind(i64::from(cycle.plan.deferral_limit()))
        .bind(reason)
        .bind(&old.key.namespace)
        .bind(&old.key.subject)
        .bind(codec::epoch_column(old.epoch))
        .bind(i64::from(old.attempts))
        .bind(state_columns(old.state).0);
    Ok(write.execute(connection).await.map_err(failed)?.rows_affected() == 1)
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

fn fenced<'q>(text: &'static str, now: Option<i64>, claim: &'q Claimed, wait: Duration) -> Query<'q> {
    let Cycle { key, epoch, nonce, .. } = &claim.cycle;
    query(text)
        .bind(now)
        .bind(codec::duration_ms(wait))
        .bind(&key.namespace)
        .bind(&key.subject)
        .bind(codec::epoch_column(*epoch))
        .bind(codec::nonce_column(*nonce))
        .bind(claim.row())
}

/// The `nth` of these, from 1.
fn nth(these: &[(usize, i64)], nth: i64) -> Result<(usize, i64), SchedulerError> {
    let one = usize::try_from(nth - 1).ok().and_then(|nth| these.get(nth));
    one.copied().ok_or_else(|| SchedulerError::invalid("an answer to no claim"))
}

fn all<'a, T, C>(rows: &'a [T], value: impl Fn(&'a T) -> C) -> Vec<C> {
    rows.iter().map(value).collect()
}
