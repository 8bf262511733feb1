//! Reads the rows of an answer.

use std::time::Duration;

use bytes::Bytes;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::error::store_error;
use super::packed::Packed;
use super::state;
use super::statements::{CLAIMS, FOUND, KINDS, RUN};
use crate::error::StoreError;
use crate::response::StoredResponse;
use crate::store::batch::{Answer, Op, Reply};
use crate::store::{Checkpoint, Claim, ClaimToken, Fence, Fenced, Run};

type Replies = Vec<Result<Reply, StoreError>>;

/// Returns a reply for each verb of a batch that took effect.
pub(super) fn replies(ops: &[Op], packed: &Packed, rows: &[SqliteRow]) -> Replies {
    read(ops, packed, rows).unwrap_or_else(|_| {
        let unknown = || StoreError::unavailable("an answer that cannot be read");
        ops.iter().map(|_| Err(unknown())).collect()
    })
}

fn read(ops: &[Op], packed: &Packed, rows: &[SqliteRow]) -> Result<Replies, StoreError> {
    let mut replies: Replies = ops.iter().map(|op| Ok(unanswered(op))).collect();
    for row in rows {
        match usize::try_from(column::<i64>(row, 0)?).map_err(StoreError::invalid)? {
            kind if kind < KINDS => {
                // No list: none of them took effect.
                for item in column::<Option<&str>>(row, 1)?.into_iter().flat_map(|list| list.split(',')) {
                    let (place, answer) = listed(kind, item).ok_or_else(unreadable)?;
                    let place = packed.place(kind, place).ok_or_else(unreadable)?;
                    replies[place] = Ok(Reply::Done(answer));
                }
            }
            _ => {
                let place = usize::try_from(column::<i64>(row, 1)?).map_err(StoreError::invalid)?;
                let place = packed.place(CLAIMS, place).ok_or_else(unreadable)?;
                // A record that cannot be read does not concern the others.
                replies[place] = claim(row);
            }
        }
    }
    Ok(replies)
}

/// Reads the reply to a claim from its row.
pub(super) fn claim(row: &SqliteRow) -> Result<Reply, StoreError> {
    match usize::try_from(column::<i64>(row, 0)?) {
        Ok(RUN) => Ok(Reply::Done(Answer::Claim(Claim::Run(run(row)?), None))),
        Ok(FOUND) => found(row).map(|answer| answer.map_or(Reply::Locked(None), Reply::Done)),
        _ => Err(unreadable()),
    }
}

/// Returns the reply to a verb that the answer does not mention.
pub(super) fn unanswered(op: &Op) -> Reply {
    match op {
        // Neither granted nor found: another process came between.
        Op::Claim(_) => Reply::Locked(None),
        _ => Reply::Done(Answer::Fenced(Fenced::Stale)),
    }
}

/// Parses an item of the list of verbs that took effect: its place in the blob and, for a claim,
/// its run.
fn listed(kind: usize, item: &str) -> Option<(usize, Answer)> {
    let mut numbers = item.split(' ');
    let begins = numbers.next()?.parse().ok()?;
    if kind != CLAIMS {
        return Some((begins, Answer::Fenced(Fenced::Held)));
    }
    let fence = Fence(numbers.next()?.parse().ok()?);
    let attempt = numbers.next()?.parse().unwrap_or(u32::MAX);
    let orphan = numbers.next()? == "1";
    let run = Run { fence, attempt, orphan, checkpoint: None };
    Some((begins, Answer::Claim(Claim::Run(run), None)))
}

fn run(row: &SqliteRow) -> Result<Run, StoreError> {
    let checkpoint = match column::<Option<Vec<u8>>>(row, 5)? {
        Some(name) => Some(Checkpoint {
            name: String::from_utf8(name).map_err(StoreError::invalid)?,
            data: Bytes::from(column::<Vec<u8>>(row, 6)?),
        }),
        None => None,
    };
    Ok(Run {
        fence: Fence(column::<i64>(row, 2)?.unsigned_abs()),
        attempt: u32::try_from(column::<i64>(row, 3)?).unwrap_or(u32::MAX),
        orphan: column(row, 4)?,
        checkpoint,
    })
}

/// Returns the answer to a claim that was not granted. `None`: it could be granted by now. Time
/// passes between the two statements, and another process may come between unless they are one
/// transaction.
fn found(row: &SqliteRow) -> Result<Option<Answer>, StoreError> {
    let (matches, state): (bool, i32) = (column(row, 7)?, column(row, 8)?);
    let (lease_left, expires_in) = (left(row, 9)?, left(row, 10)?);
    let claim = match state {
        _ if !matches => Claim::Mismatch,
        state::RUNNING => {
            let holder =
                ClaimToken::from_bytes(column::<&[u8]>(row, 11)?.try_into().map_err(StoreError::invalid)?);
            return Ok(
                lease_left.map(|lease_left| Answer::Claim(Claim::InFlight { lease_left }, Some(holder)))
            );
        }
        state::RELEASED => return Ok(None),
        state => {
            let Some(expires_in) = expires_in else { return Ok(None) };
            finished(row, state, expires_in)?
        }
    };
    Ok(Some(Answer::Claim(claim, None)))
}

fn finished(row: &SqliteRow, state: i32, expires_in: Duration) -> Result<Claim, StoreError> {
    if state != state::RESPONSE {
        return Ok(Claim::Tombstone(state::tombstone(state)?));
    }
    Ok(Claim::Replay {
        response: StoredResponse::from_bytes(Bytes::from(column::<Vec<u8>>(row, 12)?)),
        // The store's clock counts whole milliseconds. It may be anywhere within one, so the last
        // is not counted on.
        expires_in: expires_in.saturating_sub(Duration::from_micros(999)),
    })
}

/// `None`: that time is over.
fn left(row: &SqliteRow, at: usize) -> Result<Option<Duration>, StoreError> {
    let millis = u64::try_from(column::<i64>(row, at)?).unwrap_or(0);
    Ok((millis > 0).then(|| Duration::from_millis(millis)))
}

fn unreadable() -> StoreError {
    StoreError::invalid("the answer to another statement")
}

fn column<'r, T>(row: &'r SqliteRow, at: usize) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(at).map_err(store_error)
}
