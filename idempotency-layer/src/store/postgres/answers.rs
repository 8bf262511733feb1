//! Reads the rows of an answer.

use std::time::Duration;

use bytes::Bytes;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::error::store_error;
use super::state;
use super::statements::verdict;
use crate::error::StoreError;
use crate::response::StoredResponse;
use crate::store::batch::{Answer, Op, Reply};
use crate::store::seen::NO_LEASE_LEFT;
use crate::store::{Checkpoint, Claim, ClaimToken, Fence, Fenced, RecordId, Run, Tombstone};

/// The remaining lease that is reported for a row that stays locked. Its holder is still working.
const LOCKED_LEFT: Duration = Duration::from_millis(1);

type Replies = Vec<Result<Reply, StoreError>>;

/// Returns one reply for each verb. The verbs are sorted by record.
pub(super) fn replies(ops: &[Op], rows: &[PgRow]) -> Result<Replies, StoreError> {
    let mut replies: Replies = ops.iter().map(without_row).map(Ok).collect();
    for row in rows {
        let code: i16 = column(row, 0)?;
        let record: [u8; 32] = column::<&[u8]>(row, 1)?.try_into().map_err(StoreError::invalid)?;
        let at = ops.binary_search_by_key(&RecordId::from_bytes(record), Op::record);
        let at = at.map_err(|_| StoreError::invalid("the row of another record"))?;
        match &ops[at] {
            // A verb that wrote has two rows. The one that says so counts.
            Op::Claim(_) if matches!(replies[at], Ok(Reply::Done(_))) => {}
            Op::Claim(_) => replies[at] = claim(row, code),
            _ if matches!(replies[at], Ok(Reply::Done(Answer::Fenced(Fenced::Held)))) => {}
            op => replies[at] = Ok(holder(op, code)),
        }
    }
    Ok(replies)
}

/// Reports every verb's record as locked, and no verb as done.
pub(super) fn locked(ops: &[Op]) -> Replies {
    ops.iter().map(|_| Ok(Reply::Locked(None))).collect()
}

fn without_row(op: &Op) -> Reply {
    match op {
        // Somebody else inserted the same record after this statement's snapshot.
        Op::Claim(_) => Reply::Locked(None),
        _ => Reply::Done(Answer::Fenced(Fenced::Stale)),
    }
}

fn claim(row: &PgRow, verdict: i16) -> Result<Reply, StoreError> {
    let left = || Ok(Duration::from_micros(u64::try_from(column::<i64>(row, 5)?).unwrap_or(0)));
    let mut holder = None;
    let claim = match verdict {
        verdict::RUN => Claim::Run(run(row)?),
        verdict::MISMATCH => Claim::Mismatch,
        verdict::REPLAY => Claim::Replay {
            response: StoredResponse::from_bytes(Bytes::copy_from_slice(column(row, 8)?)),
            expires_in: left()?,
        },
        verdict::UNREPLAYABLE => Claim::Tombstone(Tombstone::Unreplayable),
        verdict::UNKNOWN => Claim::Tombstone(Tombstone::Unknown),
        verdict::IN_FLIGHT => {
            holder = column::<&[u8]>(row, 6)?.try_into().ok().map(ClaimToken::from_bytes);
            Claim::InFlight { lease_left: left()? }
        }
        verdict::REFUSED => Claim::InFlight { lease_left: NO_LEASE_LEFT },
        verdict::OWN => return Ok(Reply::Locked(None)),
        _ => return Ok(Reply::Locked(Some(Claim::InFlight { lease_left: LOCKED_LEFT }))),
    };
    Ok(Reply::Done(Answer::Claim(claim, holder)))
}

fn run(row: &PgRow) -> Result<Run, StoreError> {
    let checkpoint = match column::<Option<&[u8]>>(row, 7)? {
        Some(name) => Some(Checkpoint {
            name: String::from_utf8(name.to_vec()).map_err(StoreError::invalid)?,
            data: Bytes::copy_from_slice(column::<Option<&[u8]>>(row, 8)?.unwrap_or_default()),
        }),
        None => None,
    };
    Ok(Run {
        fence: Fence(u64::try_from(column::<i64>(row, 2)?).map_err(StoreError::invalid)?),
        attempt: u32::try_from(column::<i32>(row, 3)?).map_err(StoreError::invalid)?,
        orphan: column(row, 4)?,
        checkpoint,
    })
}

/// `state` is that of a record whose fence matched.
fn holder(op: &Op, state: i16) -> Reply {
    match state {
        state::WRITTEN => Reply::Done(Answer::Fenced(Fenced::Held)),
        // The claim holds, but somebody else has locked the row.
        state::RUNNING => Reply::Locked(None),
        state::RELEASED => Reply::Done(Answer::Fenced(Fenced::Stale)),
        // Completed: by this verb or the same one before it.
        _ if matches!(op, Op::Complete(..)) => Reply::Done(Answer::Fenced(Fenced::Held)),
        _ => Reply::Done(Answer::Fenced(Fenced::Stale)),
    }
}

fn column<'r, T>(row: &'r PgRow, at: usize) -> Result<T, StoreError>
where
    T: sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres>,
{
    row.try_get(at).map_err(store_error)
}
