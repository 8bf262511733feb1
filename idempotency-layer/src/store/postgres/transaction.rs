//! The SQL inside a handler's transaction.
//!
//! Each statement names the table's schema, because the handler may have set another `search_path`.
//! None changes a setting of the session. The statements of a claim are prepared under a name,
//! which a transaction pooler must support. PgBouncer 1.18 does not.

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

/// How long the server waits for a silent client beyond `transaction_time`. The layer rolls back at
/// that time. If the server ended the session in the same moment, its locks would still be there
/// when the request is answered.
const SILENT_FOR: Duration = Duration::from_millis(500);

/// The statements, built once for each store.
#[derive(Debug)]
pub(crate) struct Names {
    /// Quoted, if necessary.
    schema: String,
    /// Whether the server can check that its client is connected while a statement runs (14 and
    /// later, on most systems).
    checks_clients: bool,
    complete: SqlStr,
    settled: SqlStr,
    seen: SqlStr,
    seen_running: SqlStr,
    complete_first: SqlStr,
    complete_again: SqlStr,
}

/// SQL for whether the statement runs in the transaction of the mark `$…`.
///
/// The mark is a setting of the transaction. It is gone after COMMIT, ROLLBACK and `AND CHAIN`, and
/// is kept by a rollback to a later savepoint. Outside the transaction it is null or empty.
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
    /// Finds the tables through the `search_path` of this connection. It must be in no transaction.
    pub(crate) async fn find(connection: &mut PgConnection) -> Result<Self, sqlx::Error> {
        // Not prepared, because a transaction pooler may execute it on another connection.
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
            seen: text(seen(&schema, "0")),
            seen_running: text(seen(&schema, &lease_left(&schema))),
            complete_first: text(complete_first(&schema)),
            complete_again: text(complete_again(&schema)),
            schema,
            checks_clients,
        })
    }

    /// Begins a transaction that is a claim: one text, one round trip.
    ///
    /// - The level is READ COMMITTED, because a claim must see what was committed before it got the
    ///   lock. After this text the handler cannot change it (error 25001).
    /// - If the client is gone, the server ends the transaction: within a second if a statement
    ///   runs, and [`SILENT_FOR`] after `transaction_time` if the client is silent.
    /// - The mark is empty if somebody else has the lock. It is set before the savepoint, so a
    ///   rollback to that keeps it.
    pub(crate) fn begin_claim(&self, mark: &str, record: RecordId, transaction_time: Duration) -> String {
        let millis = transaction_time.saturating_add(SILENT_FOR).as_millis().min(i32::MAX as u128);
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

    /// Begins the look-up of a claim's outcome. It waits for the end of the claim's transaction.
    pub(crate) fn begin_look_up(&self, record: RecordId) -> String {
        let lock = self.lock_of(record);
        format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = '4s'; \
             SELECT pg_advisory_xact_lock({lock})"
        )
    }

    /// SQL for the number of the record's advisory lock: the record's first 64 bits, and the
    /// table's number, so that two schemas of a database share no locks. A collision with a lock of
    /// the application costs a 409, never a second run.
    pub(super) fn lock_of(&self, record: RecordId) -> String {
        let mut prefix = [0; 8];
        prefix.copy_from_slice(&record.as_bytes()[..8]);
        let (prefix, schema) = (i64::from_be_bytes(prefix), self.schema.replace('\'', "''"));
        format!("({prefix})::bigint # ('{schema}.idempotency_records'::regclass::oid::bigint << 32)")
    }
}

/// Returns whether the connection is in the transaction of this mark. Fails if the transaction is
/// aborted; its COMMIT would answer ROLLBACK, without an error.
///
/// The mark is part of the text, so no statement is prepared. Behind a transaction pooler, its name
/// could be another client's.
pub(crate) async fn is_marked(connection: &mut PgConnection, mark: &str) -> Result<bool, StoreError> {
    let text = format!(concat!("SELECT ", marked!("'{}'")), mark);
    let row = raw_sql(AssertSqlSafe(text)).fetch_one(connection).await.map_err(store_error)?;
    row.try_get(0).map_err(StoreError::invalid)
}

/// Completes a leased record within the transaction of this mark.
///
/// `Held` means that this statement completed the record, if the transaction commits. A record that
/// was completed under the same fence before is `Stale`: the rows of this transaction would be
/// written a second time.
pub(crate) async fn complete_leased(
    connection: &mut PgConnection,
    names: &Names,
    mark: &str,
    record: RecordId,
    fence: Fence,
    outcome: &Outcome,
) -> Result<Written, StoreError> {
    let complete = calls::complete(query(names.complete.clone()), record, fence, outcome).bind(mark);
    written(complete, connection, mark).await
}

/// Returns whether the record was completed under this fence. Waits for a transaction that is about
/// to do so.
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

/// Reads a record, and whether the transaction has this mark.
///
/// This is a statement of its own: its snapshot must be newer than the lock, or it would miss a
/// completion that was committed while the lock was tried. The renewals of a lease are in another
/// table. Only a record that is running has one, so they are read in a second statement, which
/// reads the record anew.
pub(crate) async fn read(
    connection: &mut PgConnection,
    names: &Names,
    mark: &str,
    record: RecordId,
) -> Result<(bool, Option<Seen>), sqlx::Error> {
    let read = async |connection: &mut PgConnection, text: &SqlStr| {
        query(text.clone()).bind(*record.as_bytes()).bind(mark).fetch_one(connection).await
    };
    let mut row = read(&mut *connection, &names.seen).await?;
    if row.try_get::<Option<i16>, _>(2)? == Some(state::RUNNING) {
        row = read(connection, &names.seen_running).await?;
    }
    let gained = row.try_get(0)?;
    let fence: Option<i64> = row.try_get(1)?;
    Ok((gained, fence.map(|fence| seen_of(&row, fence)).transpose()?))
}

/// Writes a completed record in the transaction of this mark.
pub(crate) async fn write_completed(
    connection: &mut PgConnection,
    names: &Names,
    mark: &str,
    completed: &CompletedClaim<'_>,
) -> Result<Written, StoreError> {
    let CompletedClaim { request, seen, attempt, orphan, outcome } = completed;
    let text = if seen.is_some() { &names.complete_again } else { &names.complete_first };
    let mut write = query(text.clone())
        .bind(*request.record.as_bytes())
        .bind(mark)
        .bind(*request.token.as_bytes())
        .bind(request.fingerprint.to_bytes())
        .bind(micros(request.ttl))
        .bind(calls::state(outcome))
        .bind(calls::response(outcome));
    if let Some(seen) = seen {
        write = write
            .bind(i32::try_from(*attempt).unwrap_or(i32::MAX))
            .bind(*orphan)
            .bind(i64::try_from(seen.fence.0).unwrap_or(-1))
            .bind(seen.state_number)
            .bind(seen.is_forgotten());
    }
    written(write, connection, mark).await
}

/// Runs a statement that writes one row, if it runs in the transaction of this mark and the record
/// is as expected.
///
/// The statement counts its rows and returns none, which takes a fifth less of the server's time
/// than a `WITH` that also returns the mark. The mark is asked for only when nothing was written.
async fn written(
    call: Query<'_, Postgres, PgArguments>,
    connection: &mut PgConnection,
    mark: &str,
) -> Result<Written, StoreError> {
    if call.execute(&mut *connection).await.map_err(store_error)?.rows_affected() > 0 {
        return Ok(Written::Held);
    }
    Ok(match is_marked(connection, mark).await {
        Ok(true) => Written::Stale,
        // Without an answer, the handler may have ended the transaction.
        Ok(false) | Err(_) => Written::Elsewhere,
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

/// `record, fence, outcome, response, mark`.
///
/// Waits for a lock of the row, because the rows of this transaction must be committed with it. A
/// record that was completed before is *not* completed by this transaction.
fn complete(schema: &str) -> String {
    const MARKED: &str = marked!("$5");
    format!(
        "UPDATE {schema}.idempotency_records
SET state = $3, response = $4, checkpoint_name = NULL, checkpoint_data = NULL
WHERE record = $1 AND fence = $2 AND state = 0 AND {MARKED}"
    )
}

/// `record, fence`. The lock waits for the end of a transaction that is about to complete it.
fn settled(schema: &str) -> String {
    format!("SELECT state FROM {schema}.idempotency_records WHERE record = $1 AND fence = $2 FOR UPDATE")
}

/// `record, mark`: one row. The first column is whether the transaction has the mark. The others
/// are null if there is no record. Times are in microseconds, and zero if they are over.
fn seen(schema: &str, lease_left: &str) -> String {
    const MARKED: &str = marked!("$2");
    format!(
        "SELECT {MARKED}, r.fence, r.state, r.fingerprint, r.token, r.attempt, r.checkpoint_name, r.checkpoint_data,
    CASE r.state WHEN 2 THEN r.response END,
    ({lease_left})::bigint,
    greatest(date_part('epoch', r.expires_at - now) * 1000000, 0)::bigint
FROM (SELECT clock_timestamp() AS now) clock LEFT JOIN {schema}.idempotency_records r ON r.record = $1"
    )
}

/// What is left of the lease of the record `r`, for [`seen`].
fn lease_left(schema: &str) -> String {
    format!(
        "greatest(date_part('epoch', coalesce(
        (SELECT l.lease_ends FROM {schema}.idempotency_leases l WHERE l.record = r.record AND l.fence = r.fence),
        r.lease_ends
    ) - now) * 1000000, 0)"
    )
}

/// `record, mark, token, fingerprint, ttl, outcome, response`: completes a record that did not
/// exist when it was claimed.
///
/// The primary key is the last guard. If another run has inserted the record since, this waits for
/// its end, and writes nothing if it commits.
fn complete_first(schema: &str) -> String {
    const MARKED: &str = marked!("$2");
    format!(
        "INSERT INTO {schema}.idempotency_records
    (record, expires_at, lease_ends, fence, attempt, state, orphan, token, fingerprint, response)
SELECT $1, now + $5::bigint * interval '1 microsecond', now, nextval('{sequence}.idempotency_fences'),
    1, $6, false, $3, $4, $7
FROM (SELECT clock_timestamp() AS now) clock WHERE {MARKED}
ON CONFLICT (record) DO NOTHING",
        sequence = schema.replace('\'', "''")
    )
}

/// The same, then `attempt, orphan, seen fence, seen state, anew`: completes a record that existed
/// when it was claimed.
///
/// The state is compared, too: a lease that ran out does not spend its fence, so its late owner may
/// have completed the record under it. It is an insert because the record may have been purged
/// since.
fn complete_again(schema: &str) -> String {
    const MARKED: &str = marked!("$2");
    format!(
        "INSERT INTO {schema}.idempotency_records AS r
    (record, expires_at, lease_ends, fence, attempt, state, orphan, token, fingerprint, response)
SELECT $1, now + $5::bigint * interval '1 microsecond', now, nextval('{sequence}.idempotency_fences'),
    $8, $6, $9, $3, $4, $7
FROM (SELECT clock_timestamp() AS now) clock WHERE {MARKED}
ON CONFLICT (record) DO UPDATE SET
    expires_at = CASE WHEN $12 THEN excluded.expires_at ELSE r.expires_at END,
    fingerprint = CASE WHEN $12 THEN excluded.fingerprint ELSE r.fingerprint END,
    lease_ends = excluded.lease_ends, fence = excluded.fence, attempt = excluded.attempt,
    state = excluded.state, orphan = excluded.orphan, token = excluded.token, response = excluded.response,
    checkpoint_name = NULL, checkpoint_data = NULL
WHERE r.fence = $10 AND r.state = $11",
        sequence = schema.replace('\'', "''")
    )
}
