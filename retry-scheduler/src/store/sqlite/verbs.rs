//! Each verb on a connection. Where one is several statements, its caller has a transaction open.

use std::collections::HashMap;
use std::time::Duration;

use serde_json::json;
use sqlx::sqlite::SqliteRow;
use sqlx::{SqliteConnection, query};

use super::sql;
use crate::claim::{Claimed, Claims, Namespaces, Report, Unreadable};
use crate::cycle::{AttemptRecord, Cycle, CycleKey, Event, NewCycle, Refused, Reschedule};
use crate::error::SchedulerError;
use crate::scheduler::{Cancelled, Fenced, Finished, Rescheduled, Scheduled};
use crate::store::codec;
use crate::store::shares::{STRIDE, STRIDES, Shares, behind, column as limit, selection};
use crate::store::sql::{COLUMNS, End, attempt, cycle, failed, get as column, restless, state_columns};
use crate::store::verbs::{LOOKS, Now, shared_verbs};

shared_verbs!(SqliteConnection, SqliteRow);

pub(super) async fn schedule(
    connection: &mut SqliteConnection,
    now: Now,
    new: &NewCycle,
) -> Result<Scheduled, SchedulerError> {
    let NewCycle { key, tenant, plan, first_in, payload, metadata } = new;
    let subject = query(sql::SCHEDULE_SUBJECT)
        .bind(&key.namespace)
        .bind(&key.subject)
        .bind(&payload[..])
        .bind(codec::metadata_text(metadata));
    if subject.execute(&mut *connection).await.map_err(failed)?.rows_affected() == 0
        && let Some(cycle) = get(connection, key).await?
    {
        return Ok(Scheduled::Exists(cycle));
    }
    let cycle_of_it = query(sql::SCHEDULE)
        .bind(now)
        .bind(codec::duration_ms(*first_in))
        .bind(&key.namespace)
        .bind(&key.subject)
        .bind(tenant)
        .bind(i64::from(plan.max_attempts()))
        .bind(codec::delays_text(plan))
        .bind(codec::last_start_ms(plan))
        .bind(i16::from(plan.jitter_percent()))
        .bind(i64::from(plan.deferral_limit()));
    Ok(Scheduled::New(cycle(&cycle_of_it.fetch_one(connection).await.map_err(failed)?)?))
}

/// One look at what is due the longest.
pub(super) async fn claim_front(
    connection: &mut SqliteConnection,
    now: Now,
    shares: &Shares,
) -> Result<Claims, SchedulerError> {
    let running = shares.running().map(|(tenant, count)| json!([tenant, count])).collect::<Vec<_>>();
    let (only, except) = selection_json(shares.namespaces());
    let look = query(sql::CLAIM)
        .bind(now)
        .bind(shares.lease())
        .bind(limit(shares.limit))
        .bind(shares.nonce())
        .bind(only)
        .bind(except)
        .bind(shares.per_tenant())
        .bind(json!(running).to_string());
    Ok(claimed(&look.fetch_all(connection).await.map_err(failed)?))
}

/// The first due of these tenants, as many of each as it has room.
async fn claim_of(
    connection: &mut SqliteConnection,
    now: Now,
    shares: &Shares,
    tenants: &[String],
) -> Result<Claims, SchedulerError> {
    let (only, except) = selection_json(shares.namespaces());
    let rooms = tenants.iter().map(|tenant| json!([tenant, limit(shares.room(tenant))])).collect::<Vec<_>>();
    let claim = query(sql::CLAIM_OF)
        .bind(now)
        .bind(shares.lease())
        .bind(limit(shares.limit))
        .bind(shares.nonce())
        .bind(only)
        .bind(except)
        .bind(json!(rooms).to_string());
    Ok(claimed(&claim.fetch_all(&mut *connection).await.map_err(failed)?))
}

pub(super) async fn finish(
    connection: &mut SqliteConnection,
    now: Now,
    claim: &Claimed,
    report: &Report,
) -> Result<Finished, SchedulerError> {
    let reports = [(claim.clone(), report.clone())];
    let mut answers = finish_many(connection, now, &reports).await?;
    Ok(answers.pop().unwrap_or(Finished::Stale))
}

/// Of reports about the same claim the first is recorded, and the others are stale.
pub(super) async fn finish_many(
    connection: &mut SqliteConnection,
    now: Now,
    reports: &[(Claimed, Report)],
) -> Result<Vec<Finished>, SchedulerError> {
    let mut places = HashMap::with_capacity(reports.len());
    let mut batch = Vec::with_capacity(reports.len());
    for (place, (claim, report)) in reports.iter().enumerate() {
        let Cycle { key, epoch, nonce, .. } = &claim.cycle;
        places.entry((key, *epoch, *nonce)).or_insert_with(|| {
            let End { verdict, ending, reason, delay } = End::of(claim, report);
            let (epoch, detail) = (codec::epoch_column(*epoch), hexadecimal(&report.detail));
            let (key, nonce) = ((&key.namespace, &key.subject), codec::nonce_column(*nonce));
            batch.push(json!([key.0, key.1, epoch, verdict, ending, delay, detail, nonce, reason]));
            place
        });
    }
    let batch = json!(batch).to_string();
    let mut answers = vec![Finished::Stale; reports.len()];
    let attempts = query(sql::FINISH_ATTEMPTS).bind(now).bind(&batch).fetch_all(&mut *connection).await;
    let Some(first) = attempts.map_err(failed)?.into_iter().next() else { return Ok(answers) };
    // The cycles have to move on at the time at which the attempts are said to have ended.
    let finished_at: i64 = column(&first, 0)?;
    let cycles = query(sql::FINISH_CYCLES).bind(finished_at).bind(&batch).fetch_all(connection).await;
    for row in &cycles.map_err(failed)? {
        let cycle = cycle(row)?;
        if let Some(place) = places.get(&(&cycle.key, cycle.epoch, cycle.nonce)).copied() {
            answers[place] = Finished::Recorded(cycle);
        }
    }
    Ok(answers)
}

pub(super) async fn next_wake(
    connection: &mut SqliteConnection,
    now: Now,
    namespaces: &Namespaces,
) -> Result<Option<Duration>, SchedulerError> {
    let (only, except) = selection_json(namespaces);
    wait(query(sql::NEXT_WAKE).bind(now).bind(only).bind(except).fetch_optional(connection).await)
}

/// Deletes what ended longest ago.
pub(super) async fn purge_ended(
    connection: &mut SqliteConnection,
    now: Now,
    older_than: Duration,
    most: usize,
) -> Result<usize, SchedulerError> {
    let ended = query(sql::ENDED).bind(now).bind(codec::duration_ms(older_than)).bind(limit(most));
    let rows = ended.fetch_all(&mut *connection).await.map_err(failed)?;
    let ids = rows.iter().map(|row| column(row, 0)).collect::<Result<Vec<i64>, _>>()?;
    let list = json!(ids).to_string();
    for text in [sql::PURGE_ATTEMPTS, sql::PURGE_CYCLES, sql::PURGE_SUBJECTS] {
        query(text).bind(&list).execute(&mut *connection).await.map_err(failed)?;
    }
    Ok(ids.len())
}

fn selection_json(namespaces: &Namespaces) -> (Option<String>, String) {
    let (only, except) = selection(namespaces);
    (only.map(|only| json!(only).to_string()), json!(except).to_string())
}

fn hexadecimal(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}
