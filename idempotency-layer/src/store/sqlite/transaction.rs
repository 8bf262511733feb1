//! The SQL of a claim inside the transaction.

use std::sync::LazyLock;
use std::time::Duration;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqliteConnection, SqlitePool, query};

use super::error::store_error;
use super::lent::Lent;
use super::packed::millis;
use super::state;
use super::statements::NOW;
use crate::error::StoreError;
use crate::fingerprint::Fingerprint;
use crate::response::StoredResponse;
use crate::store::co_commit::{CompletedClaim, Written};
use crate::store::seen::{Seen, SeenState};
use crate::store::{Checkpoint, ClaimToken, Fence, Outcome, RecordId};

/// `$1` record. Times are in milliseconds, and zero when they are over.
static SEEN: LazyLock<String> = LazyLock::new(|| {
    format!(
        "SELECT fence, state, fingerprint, token, attempt, checkpoint_name, checkpoint_data,
    CASE state WHEN {response} THEN response END, max(lease_ends - {NOW}, 0), max(expires_at - {NOW}, 0)
FROM idempotency_records WHERE record = $1",
        response = state::RESPONSE
    )
});

/// The same, after the end of every transaction that is about to write it, because it takes the
/// write lock.
static SETTLED: LazyLock<String> = LazyLock::new(|| format!("BEGIN IMMEDIATE;\n{};\nCOMMIT", *SEEN));

/// `$1` record, `$2` token, `$3` fingerprint, `$4` time to live, `$5` attempt, `$6` outcome, `$7`
/// orphan, `$8` response, `$9` and `$10` fence and state as they were read, `$11` whether the
/// record is a new one.
static COMPLETE: LazyLock<String> = LazyLock::new(|| {
    format!(
        "INSERT INTO idempotency_records
    (record, fence, expires_at, lease_ends, attempt, state, orphan, token, fingerprint, response)
SELECT $1, 1 + (SELECT floor FROM idempotency_fences), {NOW} + $4, 0, $5, $6, $7, $2, $3, $8
WHERE true
ON CONFLICT (record) DO UPDATE SET
    fence = max(fence, (SELECT floor FROM idempotency_fences)) + 1,
    expires_at = CASE WHEN $11 THEN excluded.expires_at ELSE expires_at END,
    fingerprint = CASE WHEN $11 THEN excluded.fingerprint ELSE fingerprint END,
    lease_ends = 0, attempt = excluded.attempt, state = excluded.state, orphan = excluded.orphan,
    token = excluded.token, response = excluded.response, checkpoint_name = NULL, checkpoint_data = NULL
WHERE fence = $9 AND state = $10"
    )
});

/// Reads a record.
pub(crate) async fn read(
    connection: &mut SqliteConnection,
    record: RecordId,
) -> Result<Option<Seen>, sqlx::Error> {
    let row = query(SEEN.as_str()).bind(&record.as_bytes()[..]).fetch_optional(connection).await?;
    row.as_ref().map(seen_of).transpose()
}

/// Reads a record after the end of every transaction that is about to write it. The connection of
/// such a transaction may be closed, and its COMMIT still on its way to the disk.
pub(crate) async fn read_settled(pool: &SqlitePool, record: RecordId) -> Result<Option<Seen>, sqlx::Error> {
    let mut lent = Lent::new(pool.acquire().await?);
    let rows = lent.transaction(query(SETTLED.as_str()).bind(record.as_bytes().to_vec())).await?;
    rows.first().map(seen_of).transpose()
}

/// Writes a complete record within the transaction.
pub(crate) async fn write_completed(
    connection: &mut SqliteConnection,
    completed: &CompletedClaim<'_>,
) -> Result<Written, StoreError> {
    let CompletedClaim { request, seen, attempt, orphan, outcome } = completed;
    let kept = seen.filter(|seen| !seen.is_forgotten());
    let response = match outcome {
        Outcome::Response(response) => Some(&response.as_bytes()[..]),
        Outcome::Tombstone(_) => None,
    };
    let write = query(COMPLETE.as_str())
        .bind(&request.record.as_bytes()[..])
        .bind(&request.token.as_bytes()[..])
        .bind(request.fingerprint.to_bytes().to_vec())
        .bind(millis(request.ttl))
        .bind(i64::from(*attempt))
        .bind(state::of(outcome))
        .bind(*orphan)
        .bind(response)
        .bind(seen.map_or(-1, |seen| i64::try_from(seen.fence.0).unwrap_or(-1)))
        .bind(seen.map_or(-1, |seen| i32::from(seen.state_number)))
        .bind(kept.is_none());
    let written = write.execute(connection).await.map_err(store_error)?;
    Ok(if written.rows_affected() > 0 { Written::Held } else { Written::Stale })
}

fn seen_of(row: &SqliteRow) -> Result<Seen, sqlx::Error> {
    let unreadable =
        |what: &str| sqlx::Error::Decode(format!("{what} of a later release, or damaged").into());
    let time = |index| -> Result<Duration, sqlx::Error> {
        Ok(Duration::from_millis(u64::try_from(row.try_get::<i64, _>(index)?).unwrap_or(0)))
    };
    let number: i32 = row.try_get(1)?;
    let state = match number {
        state::RUNNING => SeenState::Running { lease_left: time(8)? },
        state::RELEASED => SeenState::Released,
        state::RESPONSE => {
            SeenState::Complete(StoredResponse::from_bytes(row.try_get::<Vec<u8>, _>(7)?.into()))
        }
        other => SeenState::Tombstone(state::tombstone(other).map_err(|_| unreadable("a state"))?),
    };
    let fingerprint: [u8; Fingerprint::LEN] =
        row.try_get::<&[u8], _>(2)?.try_into().map_err(|_| unreadable("a fingerprint"))?;
    let token: [u8; 16] = row.try_get::<&[u8], _>(3)?.try_into().map_err(|_| unreadable("a token"))?;
    let checkpoint = match (row.try_get::<Option<Vec<u8>>, _>(5)?, row.try_get::<Option<Vec<u8>>, _>(6)?) {
        (Some(name), data) => {
            let name = String::from_utf8(name).map_err(|_| unreadable("a checkpoint"))?;
            Some(Checkpoint { name, data: data.unwrap_or_default().into() })
        }
        (None, _) => None,
    };
    Ok(Seen {
        fence: Fence(u64::try_from(row.try_get::<i64, _>(0)?).map_err(|_| unreadable("a fence"))?),
        state_number: i16::try_from(number).map_err(|_| unreadable("a state"))?,
        state,
        fingerprint: Fingerprint::from_bytes(fingerprint),
        token: ClaimToken::from_bytes(token),
        attempt: u32::try_from(row.try_get::<i64, _>(4)?).map_err(|_| unreadable("an attempt"))?,
        checkpoint,
        expires_in: time(9)?,
    })
}
