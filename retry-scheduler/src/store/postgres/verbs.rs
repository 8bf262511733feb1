//! Each verb on a connection, whether that has a transaction open or not.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, query};

use super::sql;
use crate::claim::{Claimed, Claims, Namespaces, Report, Unreadable};
use crate::cycle::{AttemptRecord, Cycle, CycleKey, Event, NewCycle, Refused, Reschedule};
use crate::error::SchedulerError;
use crate::scheduler::{Cancelled, Fenced, Finished, Rescheduled, Scheduled};
use crate::store::codec;
use crate::store::shares::{STRIDE, STRIDES, Shares, behind, column as limit, selection};
use crate::store::sql::{COLUMNS, End, attempt, cycle, failed, get as column, restless, state_columns};
use crate::store::verbs::{LOOKS, Now, shared_verbs};

shared_verbs!(PgConnection, PgRow);

pub(super) async fn schedule(
    connection: &mut PgConnection,
    now: Now,
    new: &NewCycle,
) -> Result<Scheduled, SchedulerError> {
    let NewCycle { key, tenant, plan, first_in, payload, metadata } = new;
    for _ in 0..LOOKS {
        let insert = query(sql::SCHEDULE)
            .bind(now)
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
            return Ok(Scheduled::New(cycle(&row)?));
        }
        // In a statement of its own: the one that met it may have begun before it was committed, and not see it.
        if let Some(cycle) = get(connection, key).await? {
            return Ok(Scheduled::Exists(cycle));
        }
    }
    Err(restless())
}

/// One look at what is due the longest, from `floor` on.
///
/// With the claims comes up to when all that was due is claimed now, if anything was.
pub(super) async fn claim_front(
    connection: &mut PgConnection,
    now: Now,
    shares: &Shares,
    floor: i64,
) -> Result<(Claims, Option<i64>), SchedulerError> {
    let plain = shares.all_have_room();
    let text = if plain { sql::CLAIM } else { sql::CLAIM_SHARES };
    let (only, except) = selection(shares.namespaces());
    let mut look = query(text)
        .bind(now)
        .bind(shares.lease())
        .bind(limit(shares.limit))
        .bind(shares.nonce())
        .bind(only)
        .bind(except)
        .bind(floor);
    if !plain {
        let (tenants, counts): (Vec<_>, Vec<_>) = shares.running().unzip();
        look = look.bind(shares.per_tenant()).bind(tenants).bind(counts);
    }
    let rows = look.fetch_all(connection).await.map_err(failed)?;
    let mut up_to = None;
    for row in &rows {
        let passed_over = if plain { None } else { column(row, COLUMNS + 4)? };
        up_to = up_to.max(Some(passed_over.unwrap_or(column(row, COLUMNS + 3)?)));
    }
    Ok((claimed(&rows), up_to))
}

/// The first due of these tenants, as many of each as it has room.
async fn claim_of(
    connection: &mut PgConnection,
    now: Now,
    shares: &Shares,
    tenants: &[String],
) -> Result<Claims, SchedulerError> {
    let (only, except) = selection(shares.namespaces());
    let rooms = tenants.iter().map(|tenant| limit(shares.room(tenant))).collect::<Vec<_>>();
    let claim = query(sql::CLAIM_OF)
        .bind(now)
        .bind(shares.lease())
        .bind(limit(shares.limit))
        .bind(shares.nonce())
        .bind(only)
        .bind(except)
        .bind(tenants)
        .bind(&rooms);
    Ok(claimed(&claim.fetch_all(&mut *connection).await.map_err(failed)?))
}

pub(super) async fn finish(
    connection: &mut PgConnection,
    now: Now,
    claim: &Claimed,
    report: &Report,
) -> Result<Finished, SchedulerError> {
    let Cycle { key, epoch, nonce, .. } = &claim.cycle;
    let End { verdict, ending, reason, delay } = End::of(claim, report);
    let finish = query(sql::FINISH)
        .bind(now)
        .bind(&key.namespace)
        .bind(&key.subject)
        .bind(codec::epoch_column(*epoch))
        .bind(codec::to_ms(claim.claimed_at))
        .bind(verdict)
        .bind(ending)
        .bind(delay)
        .bind(&report.detail[..])
        .bind(codec::nonce_column(*nonce))
        .bind(reason);
    let row = finish.fetch_optional(connection).await.map_err(failed)?;
    row.map_or(Ok(Finished::Stale), |row| Ok(Finished::Recorded(cycle(&row)?)))
}

/// Those that could be recorded at once, by their places in `reports`.
///
/// Of reports about the same claim the first counts: the others are left out, as are those that are stale and those whose
/// cycle is locked by somebody else.
pub(super) async fn finish_batch(
    connection: &mut PgConnection,
    now: Now,
    reports: &[(Claimed, Report)],
) -> Result<HashMap<usize, Cycle>, SchedulerError> {
    let mut batch = Batch::default();
    let mut places = HashMap::with_capacity(reports.len());
    for (place, (claim, report)) in reports.iter().enumerate() {
        let Cycle { key, epoch, nonce, .. } = &claim.cycle;
        places.entry((key, *epoch, *nonce)).or_insert_with(|| {
            batch.push(claim, report);
            place
        });
    }
    let finish = query(sql::FINISH_MANY)
        .bind(now)
        .bind(batch.namespaces)
        .bind(batch.subjects)
        .bind(batch.epochs)
        .bind(batch.started_at)
        .bind(batch.verdicts)
        .bind(batch.endings)
        .bind(batch.delays)
        .bind(batch.details)
        .bind(batch.nonces)
        .bind(batch.reasons);
    let rows = finish.fetch_all(connection).await.map_err(failed)?;
    let mut recorded = HashMap::with_capacity(rows.len());
    for row in &rows {
        let cycle = cycle(row)?;
        if let Some(place) = places.get(&(&cycle.key, cycle.epoch, cycle.nonce)).copied() {
            recorded.insert(place, cycle);
        }
    }
    Ok(recorded)
}

/// Reports, column by column.
#[derive(Default)]
struct Batch<'a> {
    namespaces: Vec<&'a str>,
    subjects: Vec<&'a str>,
    epochs: Vec<i64>,
    nonces: Vec<i64>,
    started_at: Vec<i64>,
    verdicts: Vec<i16>,
    endings: Vec<i16>,
    reasons: Vec<Option<i16>>,
    delays: Vec<i64>,
    details: Vec<&'a [u8]>,
}

impl<'a> Batch<'a> {
    fn push(&mut self, claim: &'a Claimed, report: &'a Report) {
        let End { verdict, ending, reason, delay } = End::of(claim, report);
        self.nonces.push(codec::nonce_column(claim.cycle.nonce));
        self.reasons.push(reason);
        self.namespaces.push(&claim.cycle.key.namespace);
        self.subjects.push(&claim.cycle.key.subject);
        self.epochs.push(codec::epoch_column(claim.cycle.epoch));
        self.started_at.push(codec::to_ms(claim.claimed_at));
        self.verdicts.push(verdict);
        self.endings.push(ending);
        self.delays.push(delay);
        self.details.push(&report.detail);
    }
}

/// How long until a cycle can be claimed, of those from `floor` on.
pub(super) async fn next_wake(
    connection: &mut PgConnection,
    now: Now,
    floor: i64,
    namespaces: &Namespaces,
) -> Result<Option<Duration>, SchedulerError> {
    let (only, except) = selection(namespaces);
    let wake = query(sql::NEXT_WAKE).bind(now).bind(floor).bind(only).bind(except);
    wait(wake.fetch_optional(connection).await)
}

/// Deletes what ended longest ago.
pub(super) async fn purge_ended(
    connection: &mut PgConnection,
    now: Now,
    older_than: Duration,
    most: usize,
) -> Result<usize, SchedulerError> {
    let purge = query(sql::PURGE_ENDED).bind(now).bind(codec::duration_ms(older_than)).bind(limit(most));
    let count: i64 = column(&purge.fetch_one(connection).await.map_err(failed)?, 0)?;
    Ok(usize::try_from(count).unwrap_or(0))
}
