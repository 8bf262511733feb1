//! How cycles are read and written.

use std::time::SystemTime;

use bytes::Bytes;
use serde_json::{Value, json};
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row as _, Sqlite, SqliteConnection, Type, query};

use super::failed;
use super::sql;
use crate::claim::{Claimed, Unreadable};
use crate::cycle::{Activity, AttemptRecord, Cycle, CycleKey, State};
use crate::error::SchedulerError;
use crate::store::codec;

/// How many columns a cycle has: what comes behind them has this place.
pub(super) const COLUMNS: usize = 21;

/// A cycle, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) id: i64,
    pub(super) cycle: Cycle,
    /// Set while it is claimed.
    pub(super) claimed_at: Option<SystemTime>,
}

/// The cycle of a row that begins with the columns of one; or what can be said of it.
pub(super) fn read(row: &SqliteRow) -> Result<Row, Unreadable> {
    decode(row).map_err(|error| {
        let text = |place| row.try_get::<String, _>(place);
        let key = text(1).and_then(|namespace| Ok(CycleKey::new(namespace, text(2)?)));
        Unreadable::new(key.ok(), error)
    })
}

fn decode(row: &SqliteRow) -> Result<Row, SchedulerError> {
    let claimed_at: Option<i64> = get(row, 12)?;
    let delays: String = get(row, 5)?;
    let cycle = Cycle {
        key: CycleKey { namespace: get(row, 1)?, subject: get(row, 2)? },
        tenant: get(row, 3)?,
        plan: codec::plan(get(row, 4)?, &delays, get(row, 6)?, get(row, 7)?, get(row, 8)?)?,
        state: codec::state(get(row, 9)?, get(row, 10)?, claimed_at.is_some(), get(row, 11)?, get(row, 13)?)?,
        epoch: codec::epoch(get(row, 14)?)?,
        nonce: codec::nonce(get(row, 15)?),
        attempts: codec::count(get(row, 16)?)?,
        used: codec::count(get(row, 17)?)?,
        lapses: codec::count(get(row, 18)?)?,
        deferrals: codec::count(get(row, 19)?)?,
        reactivations: codec::count(get(row, 20)?)?,
    };
    Ok(Row { id: get(row, 0)?, cycle, claimed_at: claimed_at.map(codec::from_ms) })
}

/// The payload and metadata of a row that has them behind the columns of its cycle.
pub(super) fn read_claim(row: &SqliteRow, cycle: Cycle, now: SystemTime) -> Result<Claimed, SchedulerError> {
    let (payload, metadata): (Vec<u8>, String) = (get(row, COLUMNS)?, get(row, COLUMNS + 1)?);
    Ok(Claimed::new(cycle, payload, now).metadata(codec::metadata(&metadata)?))
}

pub(super) async fn load(
    connection: &mut SqliteConnection,
    key: &CycleKey,
) -> Result<Option<Row>, SchedulerError> {
    let get = query(sql::GET).bind(&key.namespace).bind(&key.subject);
    let row = get.fetch_optional(connection).await.map_err(failed)?;
    row.as_ref().map(read).transpose().map_err(|unreadable| unreadable.error)
}

pub(super) async fn attempts(
    connection: &mut SqliteConnection,
    key: &CycleKey,
    after: u32,
    limit: usize,
) -> Result<Vec<AttemptRecord>, SchedulerError> {
    let attempts = query(sql::ATTEMPTS)
        .bind(&key.namespace)
        .bind(&key.subject)
        .bind(i64::from(after))
        .bind(count_column(limit));
    let rows = attempts.fetch_all(connection).await.map_err(failed)?;
    rows.iter()
        .map(|row| {
            Ok(AttemptRecord::new(
                codec::count(get(row, 0)?)?,
                codec::from_ms(get(row, 1)?),
                codec::from_ms(get(row, 2)?),
                codec::verdict(get(row, 3)?)?,
                get::<Vec<u8>>(row, 4)?,
            ))
        })
        .collect()
}

/// What has to be written: rows as they became, and the attempts that ended.
#[derive(Default)]
pub(super) struct Writes {
    rows: Vec<Value>,
    attempts: Vec<Value>,
}

impl Writes {
    pub(super) fn row(&mut self, Row { id, cycle, claimed_at }: &Row) {
        let (state, reason, wake_at, ended_at) = columns(cycle.state);
        let claimed_at = claimed_at.filter(|_| is_leased(cycle)).map(codec::to_ms);
        let (epoch, nonce) = (codec::epoch_column(cycle.epoch), codec::nonce_column(cycle.nonce));
        self.rows.push(json!([
            id,
            state,
            reason,
            wake_at,
            claimed_at,
            ended_at,
            epoch,
            nonce,
            cycle.attempts,
            cycle.used,
            cycle.lapses,
            cycle.deferrals,
            cycle.reactivations
        ]));
    }

    pub(super) fn attempt(&mut self, id: i64, attempt: &AttemptRecord) {
        let &AttemptRecord { number, started_at, finished_at, verdict, ref detail } = attempt;
        let (started_at, finished_at) = (codec::to_ms(started_at), codec::to_ms(finished_at));
        let verdict = codec::verdict_code(verdict);
        self.attempts.push(json!([id, number, started_at, finished_at, verdict, hexadecimal(detail)]));
    }

    pub(super) async fn write(self, connection: &mut SqliteConnection) -> Result<(), SchedulerError> {
        for (text, values) in [(sql::WRITE, self.rows), (sql::KEEP_ATTEMPTS, self.attempts)] {
            if !values.is_empty() {
                let values = Value::Array(values).to_string();
                query(text).bind(values).execute(&mut *connection).await.map_err(failed)?;
            }
        }
        Ok(())
    }
}

/// State, reason, `wake_at` and `ended_at`.
pub(super) fn columns(state: State) -> (i16, Option<i16>, i64, Option<i64>) {
    match state {
        State::Pending(activity) => (codec::PENDING, None, codec::to_ms(activity.wake()), None),
        State::Ended { ending, reason, at } => {
            let at = codec::to_ms(at);
            (codec::ending_code(ending), Some(codec::reason_code(reason)), at, Some(at))
        }
    }
}

fn is_leased(cycle: &Cycle) -> bool {
    matches!(cycle.state, State::Pending(Activity::Leased { .. }))
}

pub(super) fn get<'r, T>(row: &'r SqliteRow, place: usize) -> Result<T, SchedulerError>
where
    T: Decode<'r, Sqlite> + Type<Sqlite>,
{
    row.try_get(place).map_err(SchedulerError::invalid)
}

/// A count for a column: the largest one stands for those that are larger.
pub(super) fn count_column(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn hexadecimal(bytes: &Bytes) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}
