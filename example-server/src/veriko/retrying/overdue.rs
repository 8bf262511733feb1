//! Validations whose cycle moved on without them.
//!
//! A cycle moves together with its validation, in one transaction, wherever this program moves it. The scheduler and its
//! worker move some by themselves: an attempt that panicked, took too long, or took too many workers down with it, counts
//! as failed; a cycle that is claimed too late ends; one that was deferred is due at another time. All of them leave a
//! validation behind whose next attempt is long due.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use retry_scheduler::{AttemptRecord, Cycle};
use uuid::Uuid;

use crate::clock;
use crate::veriko::api::Api;
use crate::veriko::cycles;
use crate::veriko::store::{attempts, validations};
use crate::veriko::validation::{Attempt, RetryState, Validation};
use crate::veriko::webhooks::tell_retry;
use crate::worker::Fault;

/// How often they are looked for.
const EVERY: Duration = Duration::from_secs(10);
/// An attempt that is not long due yet is likely under way.
const LONG: SignedDuration = SignedDuration::from_secs(2);
const PAGE: u32 = 100;

/// Looks for them for ever.
pub(super) async fn keep_up(api: &Api) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(fault) = catch_up(api, clock::timestamp() - LONG).await {
            tracing::warn!(error = &*fault, "cannot look for overdue retries");
        }
    }
}

/// Brings all in line whose next attempt was due before this time.
pub(super) async fn catch_up(api: &Api, before: Timestamp) -> Result<(), Fault> {
    let mut after = (Timestamp::MIN, Uuid::nil());
    loop {
        let mut reader = api.database.read().await?;
        let page = validations::overdue(reader.connection(), before, after, PAGE).await?;
        drop(reader);
        for validation in &page {
            look_at(api, validation).await?;
        }
        match page.last() {
            Some(Validation { id, retry_state: RetryState::Active { next_attempt_at, .. }, .. }) => {
                after = (*next_attempt_at, *id);
            }
            _ => return Ok(()),
        }
    }
}

/// Brings one in line, before somebody changes its cycle: what is not known of it by then never will be.
pub(in crate::veriko) async fn catch_up_one(api: &Api, id: Uuid) -> Result<(), Fault> {
    let mut reader = api.database.read().await?;
    let validation = validations::load(reader.connection(), None, id).await?;
    drop(reader);
    match validation {
        Some(validation) if matches!(validation.retry_state, RetryState::Active { .. }) => {
            look_at(api, &validation).await
        }
        _ => Ok(()),
    }
}

async fn look_at(api: &Api, validation: &Validation) -> Result<(), Fault> {
    let scheduler = api.cycles.scheduler();
    let key = cycles::key(validation.id);
    let Some(cycle) = scheduler.get(&key).await? else { return Ok(()) };
    if shown(validation, &cycle) == validation.retry_state {
        return Ok(()); // waits for its turn, or is being attempted
    }
    let records = scheduler.attempts(&key, 0, usize::MAX).await?;
    let mut transaction = api.database.begin().await?;
    let locked = validations::lock(transaction.connection(), None, validation.id).await?;
    let now = api.cycles.get_in(transaction.connection(), &key).await?;
    // Else it moves just now: next time, if it is still behind then.
    if let Some(mut locked) = locked
        && locked == *validation
        && now.as_ref() == Some(&cycle)
    {
        for attempt in missing(validation, &records) {
            attempts::append(transaction.connection(), validation.id, &attempt).await?;
        }
        locked.retry_state = shown(validation, &cycle);
        validations::update(transaction.connection(), &mut locked).await?;
        // Merely due at another time is nothing to tell of.
        if known(&locked) > known(validation) || matches!(locked.retry_state, RetryState::Ended { .. }) {
            tell_retry(api, transaction.connection(), &locked).await?;
        }
        transaction.commit().await?;
        api.worker.wake();
    }
    Ok(())
}

fn shown(validation: &Validation, cycle: &Cycle) -> RetryState {
    let before = &validation.retry_state;
    before.policy().map_or(RetryState::None, |policy| cycles::state(cycle, policy, before))
}

/// How many attempts the validation knows of.
pub(super) fn known(validation: &Validation) -> u32 {
    match validation.retry_state {
        RetryState::Active { attempts_completed, .. } | RetryState::Ended { attempts_completed, .. } => {
            attempts_completed
        }
        RetryState::None | RetryState::Intended { .. } => 0,
    }
}

/// The attempts that the validation knows nothing of: they came to no answer, and changed nothing of it.
pub(super) fn missing(validation: &Validation, records: &[AttemptRecord]) -> Vec<Attempt> {
    let missing = records.iter().filter(|record| record.number > known(validation));
    missing
        .map(|record| Attempt {
            number: record.number,
            dispatched_at: cycles::timestamp(record.started_at),
            started_at: cycles::timestamp(record.started_at),
            finished_at: cycles::timestamp(record.finished_at),
            prev_banxico_status: validation.banxico_status,
            new_banxico_status: None,
            prev_status: validation.status,
            new_status: None,
            processing_time_ms: None,
            error_code: Some("internal".to_owned()),
        })
        .collect()
}
