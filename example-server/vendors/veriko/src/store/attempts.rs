//! The table of retry attempts.

use uuid::Uuid;

use super::{column, named, time};
use crate::cep::BanxicoStatus;
use crate::validation::{Attempt, Status};
use platform::db::{Connection, dispatch, row};

/// Inserts an attempt. An existing attempt with the same number is kept.
pub(crate) async fn append(
    connection: Connection<'_>,
    validation: Uuid,
    attempt: &Attempt,
) -> sqlx::Result<()> {
    let processing_time_ms: Option<i64> = attempt.processing_time_ms.map(column).transpose()?;
    dispatch!(connection, c => sqlx::query(
        "INSERT INTO validation_attempts (validation, number, dispatched_at, started_at, finished_at, prev_status,
             prev_banxico_status, new_status, new_banxico_status, processing_time_ms, error_code)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (validation, number) DO NOTHING",
    )
    .bind(validation.to_string())
    .bind(i64::from(attempt.number))
    .bind(attempt.dispatched_at.as_millisecond())
    .bind(attempt.started_at.as_millisecond())
    .bind(attempt.finished_at.as_millisecond())
    .bind(attempt.prev_status.as_str())
    .bind(attempt.prev_banxico_status.as_str())
    .bind(attempt.new_status.map(Status::as_str))
    .bind(attempt.new_banxico_status.map(BanxicoStatus::as_str))
    .bind(processing_time_ms)
    .bind(&attempt.error_code)
    .execute(c).await.map(drop))
}

/// Loads the attempts of a validation, earliest first.
pub(crate) async fn of(connection: Connection<'_>, validation: Uuid) -> sqlx::Result<Vec<Attempt>> {
    let rows: Vec<Row> = dispatch!(connection, c => sqlx::query_as(
        "SELECT number, dispatched_at, started_at, finished_at, prev_status, prev_banxico_status, new_status,
             new_banxico_status, processing_time_ms, error_code
         FROM validation_attempts WHERE validation = $1 ORDER BY number",
    ).bind(validation.to_string()).fetch_all(c).await)?;
    rows.into_iter().map(Attempt::try_from).collect()
}

row! {
    #[derive(Debug)]
    struct Row {
        number: i64,
        dispatched_at: i64,
        started_at: i64,
        finished_at: i64,
        prev_status: String,
        prev_banxico_status: String,
        new_status: Option<String>,
        new_banxico_status: Option<String>,
        processing_time_ms: Option<i64>,
        error_code: Option<String>,
    }
}

impl TryFrom<Row> for Attempt {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> sqlx::Result<Self> {
        Ok(Self {
            number: column(row.number)?,
            dispatched_at: time(row.dispatched_at)?,
            started_at: time(row.started_at)?,
            finished_at: time(row.finished_at)?,
            prev_status: named(&row.prev_status)?,
            prev_banxico_status: named(&row.prev_banxico_status)?,
            new_status: row.new_status.as_deref().map(named).transpose()?,
            new_banxico_status: row.new_banxico_status.as_deref().map(named).transpose()?,
            processing_time_ms: row.processing_time_ms.map(column).transpose()?,
            error_code: row.error_code,
        })
    }
}
