//! Queries of deliveries.

use jiff::Timestamp;

use super::{number, time};
use crate::clock;
use crate::db::{Connection, dispatch, row};
use crate::webhooks::{Delivery, DeliveryId, DeliveryStatus, Endpoint, ReceiverAnswer, WebhookEvent};

/// The filter of a list. A delivery must match every condition; a field that is `None` or empty is
/// no condition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Matches one of these endpoints.
    pub endpoints: Vec<String>,
    pub statuses: Vec<DeliveryStatus>,
    pub events: Vec<String>,
    /// A `LIKE` pattern in lower case, which may match any displayed text.
    pub search: Option<String>,
    pub subject: Option<String>,
    /// Matches one of these response codes. `codes`, `hundreds` and `unanswered` are alternatives
    /// of one condition.
    pub codes: Vec<u16>,
    /// Matches response codes by their first digit: 4 for 4xx.
    pub hundreds: Vec<u16>,
    /// Matches deliveries without a response.
    pub unanswered: bool,
    pub created_from: Option<Timestamp>,
    /// Exclusive.
    pub created_before: Option<Timestamp>,
    pub min_attempt: Option<u32>,
    pub min_response_time_ms: Option<u32>,
}

/// The `FROM` and `WHERE` clauses of a [`Wanted`], for the page and for the total.
macro_rules! wanted {
    () => {
        " FROM webhook_deliveries d JOIN webhook_endpoints e ON e.id = d.endpoint WHERE d.account = $1 \
         AND (CAST($2 AS TEXT) IS NULL OR $2 LIKE '%,' || d.endpoint || ',%') \
         AND (CAST($3 AS TEXT) IS NULL OR $3 LIKE '%,' || d.status || ',%') \
         AND (CAST($4 AS TEXT) IS NULL OR $4 LIKE '%,' || d.event || ',%') \
         AND (CAST($5 AS TEXT) IS NULL OR LOWER(CAST(d.id AS TEXT) || ' ' || d.endpoint || ' ' || e.url || ' ' \
              || COALESCE(e.description, '') || ' ' || d.event || ' ' || COALESCE(d.subject, '') || ' ' \
              || COALESCE(CAST(d.response_status AS TEXT), '')) LIKE $5 ESCAPE '\\') \
         AND (CAST($6 AS TEXT) IS NULL OR d.subject = $6) \
         AND (CAST($7 AS TEXT) IS NULL OR $7 LIKE '%,' || COALESCE(CAST(d.response_status AS TEXT), 'none') || ',%' \
              OR $7 LIKE '%,' || CAST(d.response_status / 100 AS TEXT) || 'xx,%') \
         AND (CAST($8 AS BIGINT) IS NULL OR d.created_at >= $8) \
         AND (CAST($9 AS BIGINT) IS NULL OR d.created_at < $9) \
         AND (CAST($10 AS BIGINT) IS NULL OR d.attempt >= $10) \
         AND (CAST($11 AS BIGINT) IS NULL OR d.response_time_ms >= $11)"
    };
}

/// Binds the values of [`wanted!`].
macro_rules! bind_wanted {
    ($query:expr, $account:expr, $wanted:expr) => {
        $query
            .bind($account)
            .bind(list($wanted.endpoints.iter()))
            .bind(list($wanted.statuses.iter()))
            .bind(list($wanted.events.iter()))
            .bind($wanted.search.as_deref())
            .bind($wanted.subject.as_deref())
            .bind(response_codes($wanted))
            .bind($wanted.created_from.map(Timestamp::as_millisecond))
            .bind($wanted.created_before.map(Timestamp::as_millisecond))
            .bind($wanted.min_attempt.map(i64::from))
            .bind($wanted.min_response_time_ms.map(i64::from))
    };
}

/// Returns a page of an account's deliveries, latest first, and the total on all pages.
pub async fn page(
    mut connection: Connection<'_>,
    account: &str,
    wanted: &Wanted,
    (limit, offset): (u32, u64),
) -> sqlx::Result<(Vec<Delivery>, u64)> {
    let total: i64 = dispatch!(connection.reborrow(), c => {
        let count = sqlx::query_scalar(concat!("SELECT COUNT(*)", wanted!()));
        bind_wanted!(count, account, wanted).fetch_one(c).await
    })?;
    let offset = i64::try_from(offset).unwrap_or(i64::MAX);
    let rows: Vec<Row> = dispatch!(connection, c => {
        let page = sqlx::query_as(concat!(
            "SELECT d.id, d.endpoint, e.url, d.event, d.subject, d.status, d.attempt, d.response_status,
                 d.response_body, d.response_time_ms, d.next_retry_at, d.error_message, d.created_at",
            wanted!(), " ORDER BY d.id DESC LIMIT $12 OFFSET $13",
        ));
        bind_wanted!(page, account, wanted).bind(i64::from(limit)).bind(offset).fetch_all(c).await
    })?;
    let deliveries = rows.into_iter().map(Delivery::try_from).collect::<sqlx::Result<_>>()?;
    Ok((deliveries, number(total)?))
}

/// Inserts a delivery to send.
pub(in crate::webhooks) async fn insert(
    mut connection: Connection<'_>,
    endpoint: &str,
    event: &WebhookEvent<'_>,
    payload: &str,
) -> sqlx::Result<DeliveryId> {
    loop {
        let now = clock::epoch_millis();
        let id = DeliveryId::random(now);
        let inserted = dispatch!(connection.reborrow(), c => sqlx::query(
            "INSERT INTO webhook_deliveries (id, endpoint, account, event, subject, payload, status, attempt, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, 'pending', 1, $7) ON CONFLICT (id) DO NOTHING",
        )
        .bind(id.0)
        .bind(endpoint)
        .bind(event.account)
        .bind(event.event)
        .bind(event.subject)
        .bind(payload)
        .bind(now)
        .execute(c).await.map(|done| done.rows_affected()))?;
        if inserted > 0 {
            return Ok(id);
        }
    }
}

/// Inserts a delivery that was already sent, for its owner to see. Does nothing if the id exists.
pub(in crate::webhooks) async fn insert_sent(
    connection: Connection<'_>,
    endpoint: &Endpoint,
    id: DeliveryId,
    event: &str,
    answer: &ReceiverAnswer,
) -> sqlx::Result<()> {
    let status = if answer.is_success() { DeliveryStatus::Success } else { DeliveryStatus::Failed };
    dispatch!(connection, c => sqlx::query(
        "INSERT INTO webhook_deliveries (id, endpoint, account, event, status, attempt, response_status, response_body,
             response_time_ms, error_message, created_at)
         VALUES ($1, $2, $3, $4, $5, 1, $6, $7, $8, $9, $10) ON CONFLICT (id) DO NOTHING",
    )
    .bind(id.0)
    .bind(endpoint.id.to_string())
    .bind(&endpoint.account)
    .bind(event)
    .bind(status.as_str())
    .bind(answer.status.map(i64::from))
    .bind(&answer.body)
    .bind(millis(answer))
    .bind(&answer.error)
    .bind(clock::epoch_millis())
    .execute(c).await.map(drop))
}

row! {
    /// A delivery to send, and its endpoint.
    #[derive(Debug)]
    pub(in crate::webhooks) struct Due {
        pub(in crate::webhooks) event: String,
        pub(in crate::webhooks) payload: String,
        pub(in crate::webhooks) endpoint: String,
        pub(in crate::webhooks) url: String,
        /// The sealed signing secret.
        pub(in crate::webhooks) secret: String,
    }
}

/// Returns a delivery that has not ended, if its endpoint is active.
pub(in crate::webhooks) async fn due(
    connection: Connection<'_>,
    id: DeliveryId,
) -> sqlx::Result<Option<Due>> {
    dispatch!(connection, c => sqlx::query_as(
        "SELECT d.event, d.payload, d.endpoint, e.url, e.secret
         FROM webhook_deliveries d JOIN webhook_endpoints e ON e.id = d.endpoint
         WHERE d.id = $1 AND d.status IN ('pending', 'retrying') AND d.payload IS NOT NULL AND e.status = 'active'",
    ).bind(id.0).fetch_optional(c).await)
}

/// Records the outcome of an attempt. Deletes the payload after the last attempt.
pub(in crate::webhooks) async fn record(
    connection: Connection<'_>,
    id: DeliveryId,
    attempt: u32,
    status: DeliveryStatus,
    next_retry_at: Option<i64>,
    answer: &ReceiverAnswer,
) -> sqlx::Result<()> {
    dispatch!(connection, c => sqlx::query(
        "UPDATE webhook_deliveries SET status = CASE WHEN status = 'failed' AND $2 = 'retrying' THEN status ELSE $2 END,
             attempt = $3, response_status = $4, response_body = $5, response_time_ms = $6, error_message = $7,
             next_retry_at = CASE WHEN status = 'failed' THEN NULL ELSE CAST($8 AS BIGINT) END,
             payload = CASE WHEN $2 = 'retrying' THEN payload END
         WHERE id = $1",
    )
    .bind(id.0)
    .bind(status.as_str())
    .bind(i64::from(attempt))
    .bind(answer.status.map(i64::from))
    .bind(&answer.body)
    .bind(millis(answer))
    .bind(&answer.error)
    .bind(next_retry_at)
    .execute(c).await.map(drop))
}

/// Deletes a delivery whose endpoint was deleted. Fails any other that has not ended, with this
/// reason.
pub(in crate::webhooks) async fn give_up(
    mut connection: Connection<'_>,
    id: DeliveryId,
    reason: &str,
) -> sqlx::Result<()> {
    dispatch!(connection.reborrow(), c => sqlx::query(
        "DELETE FROM webhook_deliveries
         WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM webhook_endpoints e WHERE e.id = webhook_deliveries.endpoint)",
    ).bind(id.0).execute(c).await.map(drop))?;
    dispatch!(connection, c => sqlx::query(
        "UPDATE webhook_deliveries SET status = 'failed', next_retry_at = NULL, payload = NULL,
             error_message = COALESCE(error_message, $2)
         WHERE id = $1 AND status IN ('pending', 'retrying')",
    ).bind(id.0).bind(reason).execute(c).await.map(drop))
}

/// Fails the deliveries to an endpoint that have not ended. The caller must have locked the
/// endpoint.
pub async fn give_up_all(connection: Connection<'_>, endpoint: &str) -> sqlx::Result<()> {
    dispatch!(connection, c => sqlx::query(
        "UPDATE webhook_deliveries SET status = 'failed', next_retry_at = NULL, payload = NULL,
             error_message = COALESCE(error_message, 'the endpoint is disabled')
         WHERE endpoint = $1 AND status IN ('pending', 'retrying')",
    ).bind(endpoint).execute(c).await.map(drop))
}

/// Joins items with a comma before and after each. Returns `None` if there are none.
fn list<T: std::fmt::Display>(items: impl Iterator<Item = T>) -> Option<String> {
    let items: Vec<_> = items.map(|item| item.to_string()).collect();
    (!items.is_empty()).then(|| format!(",{},", items.join(",")))
}

fn response_codes(wanted: &Wanted) -> Option<String> {
    let codes = wanted.codes.iter().map(ToString::to_string);
    let hundreds = wanted.hundreds.iter().map(|hundred| format!("{hundred}xx"));
    list(codes.chain(hundreds).chain(wanted.unanswered.then(|| "none".to_owned())))
}

fn millis(answer: &ReceiverAnswer) -> i64 {
    i64::try_from(answer.took_ms).unwrap_or(i64::MAX)
}

row! {
    #[derive(Debug)]
    struct Row {
        id: i64,
        endpoint: String,
        url: String,
        event: String,
        subject: Option<String>,
        status: String,
        attempt: i64,
        response_status: Option<i64>,
        response_body: Option<String>,
        response_time_ms: Option<i64>,
        next_retry_at: Option<i64>,
        error_message: Option<String>,
        created_at: i64,
    }
}

impl TryFrom<Row> for Delivery {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> sqlx::Result<Self> {
        let status = row.status.parse::<DeliveryStatus>();
        Ok(Self {
            id: DeliveryId(row.id),
            endpoint: row.endpoint,
            endpoint_url: row.url,
            event: row.event,
            subject: row.subject,
            status: status.map_err(|error| sqlx::Error::Decode(error.into()))?,
            attempt: number(row.attempt)?,
            response_status: row.response_status.map(number).transpose()?,
            response_body: row.response_body,
            response_time_ms: row.response_time_ms.map(number).transpose()?,
            next_retry_at: row.next_retry_at.map(time).transpose()?,
            error_message: row.error_message,
            created_at: time(row.created_at)?,
        })
    }
}
