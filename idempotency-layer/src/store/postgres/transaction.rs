//! The SQL inside a handler's transaction.
//!
//! Each statement names the table with its schema: the handler may have set another `search_path`. None leaves a setting in
//! the session. The statements of a claim are prepared under a name, though, which a pooler that pools transactions has to
//! know: PgBouncer 1.18 does not.

use std::time::Duration;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{
    AssertSqlSafe, Executor, PgConnection, Postgres, Row, SqlSafeStr, SqlStr, query, query_scalar, raw_sql,
};

use super::calls::{self, micros};
use super::error::store_error;
use super::state;
use crate::error::StoreError;
use crate::fingerprint::Fingerprint;
use crate::response::StoredResponse;
use crate::store::co_commit::{CompletedClaim, Written};
use crate::store::seen::{Seen, SeenState};
use crate::store::{Checkpoint, ClaimToken, Fence, Outcome, RecordId, Tombstone};

/// The statements, made once for each store.
#[derive(Debug)]
pub(crate) struct Names {
    /// In quotes, if it needs them.
    schema: String,
    /// Whether the server can look whether its client is there while a statement runs (14 and later, on most systems).
    checks_clients: bool,
    complete: SqlStr,
    settled: SqlStr,
    seen: SqlStr,
    complete_claim: SqlStr,
}

/// Whether the statement runs in the transaction of the mark `$…`.
///
/// The mark is a setting of the transaction: gone after COMMIT, ROLLBACK and `AND CHAIN`, kept by a rollback to a savepoint
/// that is younger. Outside it reads as null or as an empty text.
macro_rules! marked {
    ($mark:literal) => {
        concat!("pg_catalog.current_setting('idempotency_layer.claim', true) IS NOT DISTINCT FROM ", $mark)
    };
}

/// The schema in which the `search_path` finds the store's table.
const SCHEMA: &str = "
SELECT quote_ident(n.nspname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = 'idempotency_records'::regclass";

impl Names {
    /// Looks where the `search_path` of this connection finds the tables. It is one of the pool, in no transaction.
    pub(crate) async fn find(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        // Not prepared: a pooler of transactions may carry that out on another connection.
        let schema: String = raw_sql(SCHEMA).fetch_one(&mut *connection).await?.try_get(0)?;
        let checks = "BEGIN; SET LOCAL client_connection_check_interval = '1s'; ROLLBACK";
        let checks_clients = connection.execute(checks).await.is_ok();
        if !checks_clients {
            connection.execute("ROLLBACK").await?;
        }
        let text = |text: String| AssertSqlSafe(text).into_sql_str();
        Ok(Self {
            complete: text(complete(&schema)),
            settled: text(settled(&schema)),
            seen: text(seen(&schema)),
            complete_claim: text(complete_claim(&schema)),
            schema,
            checks_clients,
        })
    }

    /// Begins a transaction that is a claim: one text, one round trip.
    ///
    /// - The level is said: a claim must see what was committed before its lock was given, so the handler cannot raise it
    ///   any more, which is an error (25001) and not a surprise.
    /// - Where the client is gone, the server ends the transaction: soon if a statement runs, after `transaction_time` if
    ///   nothing is heard.
    /// - The mark is empty where the lock was not to be had. It is set before the savepoint: a rollback to that keeps it.
    pub(crate) fn begin_claim(&self, mark: &str, record: RecordId, transaction_time: Duration) -> String {
        let millis = transaction_time.as_millis().clamp(1, i32::MAX as u128);
        let checks =
            if self.checks_clients { "SET LOCAL client_connection_check_interval = '1s'; " } else { "" };
        let lock = self.lock_of(record);
        format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; \
             SET LOCAL idle_in_transaction_session_timeout = {millis}; {checks}\
             SELECT set_config('idempotency_layer.claim', \
             CASE WHEN pg_try_advisory_xact_lock({lock}) THEN '{mark}' ELSE '' END, true); \
             SAVEPOINT idempotency_handler"
        )
    }

    /// Begins the look-up of a claim's outcome, which waits for the end of its transaction.
    pub(crate) fn begin_look_up(&self, record: RecordId) -> String {
        let lock = self.lock_of(record);
        format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = '4s'; \
             SELECT pg_advisory_xact_lock({lock})"
        )
    }

    /// The number of the record's advisory lock: 64 bits of its name, and the table, so that two schemas of a database do
    /// not share locks. Where it meets the application's own lock, that costs a 409 and no second run.
    pub(super) fn lock_of(&self, record: RecordId) -> String {
        let mut prefix = [0; 8];
        prefix.copy_from_slice(&record.as_bytes()[..8]);
        let (prefix, schema) = (i64::from_be_bytes(prefix), self.schema.replace('\'', "''"));
        format!("({prefix})::bigint # ('{schema}.idempotency_records'::regclass::oid::bigint << 32)")
    }
}

/// Whether the connection is within the transaction of this mark. Any statement fails in an aborted one, whose COMMIT
/// would be answered with a ROLLBACK and no error.
///
/// The mark is part of the text: one round trip, and no statement is prepared, whose name a pooler of transactions would
/// let meet those of other clients.
pub(crate) async fn is_marked(connection: &mut PgConnection, mark: &str) -> Result<bool, StoreError> {
    let text = format!(concat!("SELECT ", marked!("'{}'")), mark);
    let row = raw_sql(AssertSqlSafe(text)).fetch_one(connection).await.map_err(store_error)?;
    row.try_get(0).map_err(StoreError::invalid)
}

/// Completes a leased record within the transaction of this mark.
///
/// `Held` means that this statement completed it, so it comes true with the transaction. A record that was completed under
/// the same fence before is `Stale` here: what this transaction wrote beside it would be written a second time.
pub(crate) async fn complete_leased(
    connection: &mut PgConnection,
    names: &Names,
    mark: &str,
    record: RecordId,
    fence: Fence,
    outcome: &Outcome,
) -> Result<Written, StoreError> {
    let complete = calls::complete(query(names.complete.clone()), record, fence, outcome).bind(mark);
    written(complete, connection).await
}

/// Whether the record was completed under this fence. A transaction that is about to do so is waited for.
pub(crate) async fn is_completed(
    connection: &mut PgConnection,
    names: &Names,
    record: RecordId,
    fence: Fence,
) -> Result<bool, StoreError> {
    let Ok(fence) = i64::try_from(fence.0) else { return Ok(false) };
    let settled = query_scalar(names.settled.clone()).bind(*record.as_bytes()).bind(fence);
    let state: Option<i16> = settled.fetch_optional(connection).await.map_err(store_error)?;
    Ok(state.is_some_and(|state| state > state::RELEASED))
}

/// Reads a record, and whether the transaction has this mark. A statement of its own: its snapshot has to be newer than the
/// lock, or it would miss a completion that came while the lock was asked for.
pub(crate) async fn read(
    connection: &mut PgConnection,
    names: &Names,
    mark: &str,
    record: RecordId,
) -> Result<(bool, Option<Seen>), sqlx::Error> {
    let row = query(names.seen.clone()).bind(*record.as_bytes()).bind(mark).fetch_one(connection).await?;
    let gained = row.try_get(0)?;
    let fence: Option<i64> = row.try_get(1)?;
    Ok((gained, fence.map(|fence| seen_of(&row, fence)).transpose()?))
}

/// Writes a record that is complete, within the transaction of this mark.
pub(crate) async fn write_completed(
    connection: &mut PgConnection,
    names: &Names,
    mark: &str,
    completed: &CompletedClaim<'_>,
) -> Result<Written, StoreError> {
    let CompletedClaim { request, seen, attempt, orphan, outcome } = completed;
    let kept = seen.filter(|seen| !seen.is_forgotten());
    let write = query(names.complete_claim.clone())
        .bind(*request.record.as_bytes())
        .bind(mark)
        .bind(*request.token.as_bytes())
        .bind(request.fingerprint.to_bytes())
        .bind(micros(request.ttl))
        .bind(i32::try_from(*attempt).unwrap_or(i32::MAX))
        .bind(calls::state(outcome))
        .bind(*orphan)
        .bind(calls::response(outcome))
        .bind(seen.map_or(-1, |seen| i64::try_from(seen.fence.0).unwrap_or(-1)))
        .bind(seen.map_or(-1, |seen| seen.state_number))
        .bind(kept.is_none());
    written(write, connection).await
}

async fn written(
    call: Query<'_, Postgres, PgArguments>,
    connection: &mut PgConnection,
) -> Result<Written, StoreError> {
    let row = call.fetch_one(connection).await.map_err(store_error)?;
    let column = |index| row.try_get::<bool, _>(index).map_err(StoreError::invalid);
    Ok(match (column(0)?, column(1)?) {
        (true, true) => Written::Held,
        (true, false) => Written::Stale,
        (false, _) => Written::Elsewhere,
    })
}

fn seen_of(row: &PgRow, fence: i64) -> Result<Seen, sqlx::Error> {
    let unreadable =
        |what: &str| sqlx::Error::Decode(format!("{what} of a later release, or damaged").into());
    let state_number: i16 = row.try_get(2)?;
    let time = |index| -> Result<Duration, sqlx::Error> {
        Ok(Duration::from_micros(u64::try_from(row.try_get::<i64, _>(index)?).unwrap_or(0)))
    };
    let state = match state_number {
        state::RUNNING => SeenState::Running { lease_left: time(9)? },
        state::RELEASED => SeenState::Released,
        state::RESPONSE => {
            SeenState::Complete(StoredResponse::from_bytes(row.try_get::<Vec<u8>, _>(8)?.into()))
        }
        state::UNREPLAYABLE => SeenState::Tombstone(Tombstone::Unreplayable),
        state::UNKNOWN => SeenState::Tombstone(Tombstone::Unknown),
        _ => return Err(unreadable("a state")),
    };
    let fingerprint: [u8; Fingerprint::LEN] =
        row.try_get::<&[u8], _>(3)?.try_into().map_err(|_| unreadable("a fingerprint"))?;
    let token: [u8; 16] = row.try_get::<&[u8], _>(4)?.try_into().map_err(|_| unreadable("a token"))?;
    let checkpoint = match (row.try_get::<Option<Vec<u8>>, _>(6)?, row.try_get::<Option<Vec<u8>>, _>(7)?) {
        (Some(name), data) => {
            let name = String::from_utf8(name).map_err(|_| unreadable("a checkpoint"))?;
            Some(Checkpoint { name, data: data.unwrap_or_default().into() })
        }
        (None, _) => None,
    };
    Ok(Seen {
        fence: Fence(u64::try_from(fence).map_err(|_| unreadable("a fence"))?),
        state_number,
        state,
        fingerprint: Fingerprint::from_bytes(fingerprint),
        token: ClaimToken::from_bytes(token),
        attempt: u32::try_from(row.try_get::<i32, _>(5)?).map_err(|_| unreadable("an attempt"))?,
        checkpoint,
        expires_in: time(10)?,
    })
}

/// `record, fence, outcome, response, mark`: whether the transaction is the one of this mark, and whether the record was
/// written.
///
/// The row is waited for, because what the transaction wrote stands and falls with it. A record that was completed before
/// is *not* completed by this transaction.
fn complete(schema: &str) -> String {
    const MARKED: &str = marked!("$5");
    format!(
        "WITH written AS (
    UPDATE {schema}.idempotency_records
    SET state = $3, response = $4, checkpoint_name = NULL, checkpoint_data = NULL
    WHERE record = $1 AND fence = $2 AND state = 0 AND {MARKED}
    RETURNING 1
)
SELECT {MARKED}, EXISTS (SELECT FROM written)"
    )
}

/// `record, fence`. The lock waits for the end of a transaction that is about to complete it.
fn settled(schema: &str) -> String {
    format!("SELECT state FROM {schema}.idempotency_records WHERE record = $1 AND fence = $2 FOR UPDATE")
}

/// `record, mark`: one row, whose first column says whether the lock was gained. The second is null where there is no
/// record. Times in microseconds, zero where they are over.
fn seen(schema: &str) -> String {
    const MARKED: &str = marked!("$2");
    format!(
        "SELECT {MARKED}, r.fence, r.state, r.fingerprint, r.token, r.attempt, r.checkpoint_name, r.checkpoint_data,
    CASE r.state WHEN 2 THEN r.response END,
    greatest(date_part('epoch', coalesce(
        (SELECT l.lease_ends FROM {schema}.idempotency_leases l WHERE l.record = r.record AND l.fence = r.fence),
        r.lease_ends
    ) - now) * 1000000, 0)::bigint,
    greatest(date_part('epoch', r.expires_at - now) * 1000000, 0)::bigint
FROM (SELECT clock_timestamp() AS now) clock LEFT JOIN {schema}.idempotency_records r ON r.record = $1"
    )
}

/// `record, mark, token, fingerprint, ttl, attempt, outcome, orphan, response, seen fence, seen state, anew`: whether the
/// transaction is the one of this mark, and whether the record was written.
///
/// The primary key is the last guard: of two completions that both believe to be the first, one waits for the other and
/// finds another fence, or another state. The state counts too: a lease that ran out does not spend its fence, so its late
/// owner may have completed under it.
fn complete_claim(schema: &str) -> String {
    const MARKED: &str = marked!("$2");
    format!(
        "WITH written AS (
    INSERT INTO {schema}.idempotency_records AS r
        (record, expires_at, lease_ends, fence, attempt, state, orphan, token, fingerprint, response)
    SELECT $1, now + $5::bigint * interval '1 microsecond', now, nextval('{sequence}.idempotency_fences'),
        $6, $7, $8, $3, $4, $9
    FROM (SELECT clock_timestamp() AS now) clock WHERE {MARKED}
    ON CONFLICT (record) DO UPDATE SET
        expires_at = CASE WHEN $12 THEN excluded.expires_at ELSE r.expires_at END,
        fingerprint = CASE WHEN $12 THEN excluded.fingerprint ELSE r.fingerprint END,
        lease_ends = excluded.lease_ends, fence = excluded.fence, attempt = excluded.attempt,
        state = excluded.state, orphan = excluded.orphan, token = excluded.token, response = excluded.response,
        checkpoint_name = NULL, checkpoint_data = NULL
    WHERE r.fence = $10 AND r.state = $11
    RETURNING 1
)
SELECT {MARKED}, EXISTS (SELECT FROM written)",
        sequence = schema.replace('\'', "''")
    )
}
