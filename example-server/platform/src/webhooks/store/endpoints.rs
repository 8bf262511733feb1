//! Queries of endpoints.

use jiff::Timestamp;
use uuid::Uuid;

use super::{number, time};
use crate::db::{Connection, dispatch, row};
use crate::webhooks::{Endpoint, EndpointStatus};

macro_rules! columns {
    () => {
        "id, account, url, events, description, status, secret, secret_hint, consecutive_failures, last_delivery_at, \
         created_at, updated_at"
    };
}

/// Inserts an endpoint, and returns `true`. Returns `false` if the account already has `at_most`.
pub async fn insert(mut connection: Connection<'_>, endpoint: &Endpoint, at_most: u32) -> sqlx::Result<bool> {
    // Lock the account's row, so that concurrent inserts cannot exceed the limit.
    dispatch!(connection.reborrow(), c => sqlx::query(
        "INSERT INTO webhook_accounts (account) VALUES ($1)
         ON CONFLICT (account) DO UPDATE SET account = excluded.account",
    ).bind(&endpoint.account).execute(c).await.map(drop))?;
    let existing: i64 = dispatch!(connection.reborrow(), c => sqlx::query_scalar(
        "SELECT COUNT(*) FROM webhook_endpoints WHERE account = $1",
    ).bind(&endpoint.account).fetch_one(c).await)?;
    if existing >= i64::from(at_most) {
        return Ok(false);
    }
    dispatch!(connection, c => sqlx::query(
        "INSERT INTO webhook_endpoints (id, account, url, events, description, status, secret, secret_hint,
             consecutive_failures, last_delivery_at, created_at, updated_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
    )
    .bind(endpoint.id.to_string())
    .bind(&endpoint.account)
    .bind(&endpoint.url)
    .bind(list(&endpoint.events))
    .bind(&endpoint.description)
    .bind(endpoint.status.as_str())
    .bind(&endpoint.secret)
    .bind(&endpoint.secret_hint)
    .bind(i64::from(endpoint.consecutive_failures))
    .bind(endpoint.last_delivery_at.map(Timestamp::as_millisecond))
    .bind(endpoint.created_at.as_millisecond())
    .bind(endpoint.updated_at.as_millisecond())
    .execute(c).await.map(drop))?;
    Ok(true)
}

/// Returns the endpoints of an account, oldest first.
pub async fn list_of(connection: Connection<'_>, account: &str) -> sqlx::Result<Vec<Endpoint>> {
    let rows: Vec<Row> = dispatch!(connection, c => sqlx::query_as(concat!(
        "SELECT ", columns!(), " FROM webhook_endpoints WHERE account = $1 ORDER BY created_at, id",
    )).bind(account).fetch_all(c).await)?;
    rows.into_iter().map(Endpoint::try_from).collect()
}

/// Returns an endpoint of this account. The endpoints of other accounts are not found.
pub async fn load(connection: Connection<'_>, account: &str, id: Uuid) -> sqlx::Result<Option<Endpoint>> {
    let row: Option<Row> = dispatch!(connection, c => sqlx::query_as(concat!(
        "SELECT ", columns!(), " FROM webhook_endpoints WHERE id = $1 AND account = $2",
    )).bind(id.to_string()).bind(account).fetch_optional(c).await)?;
    row.map(Endpoint::try_from).transpose()
}

/// Returns an endpoint of this account and locks its row until the transaction ends.
pub async fn lock(connection: Connection<'_>, account: &str, id: Uuid) -> sqlx::Result<Option<Endpoint>> {
    let row: Option<Row> = dispatch!(connection, c => sqlx::query_as(concat!(
        "UPDATE webhook_endpoints SET id = id WHERE id = $1 AND account = $2 RETURNING ", columns!(),
    )).bind(id.to_string()).bind(account).fetch_optional(c).await)?;
    row.map(Endpoint::try_from).transpose()
}

/// Writes the owner's changes of an endpoint. The caller must have [locked](lock) it.
pub async fn update(connection: Connection<'_>, endpoint: &Endpoint) -> sqlx::Result<()> {
    dispatch!(connection, c => sqlx::query(
        "UPDATE webhook_endpoints SET url = $2, events = $3, description = $4, status = $5, secret = $6,
             secret_hint = $7, consecutive_failures = $8, updated_at = $9
         WHERE id = $1",
    )
    .bind(endpoint.id.to_string())
    .bind(&endpoint.url)
    .bind(list(&endpoint.events))
    .bind(&endpoint.description)
    .bind(endpoint.status.as_str())
    .bind(&endpoint.secret)
    .bind(&endpoint.secret_hint)
    .bind(i64::from(endpoint.consecutive_failures))
    .bind(endpoint.updated_at.as_millisecond())
    .execute(c).await.map(drop))
}

/// Deletes an endpoint and its deliveries. The caller must have [locked](lock) it.
pub async fn delete(mut connection: Connection<'_>, id: Uuid) -> sqlx::Result<()> {
    dispatch!(connection.reborrow(), c => sqlx::query("DELETE FROM webhook_deliveries WHERE endpoint = $1")
        .bind(id.to_string()).execute(c).await.map(drop))?;
    dispatch!(connection, c => sqlx::query("DELETE FROM webhook_endpoints WHERE id = $1")
        .bind(id.to_string()).execute(c).await.map(drop))
}

/// The SQL condition that an account has an active endpoint. `$account` is the SQL of the account.
#[macro_export]
macro_rules! any_active_endpoint {
    ($account:literal) => {
        concat!(
            "EXISTS (SELECT 1 FROM webhook_endpoints WHERE account = ",
            $account,
            " AND status = 'active')"
        )
    };
}
pub use any_active_endpoint;

/// Returns the ids of the account's active endpoints that subscribe to this event.
pub(in crate::webhooks) async fn subscribers(
    connection: Connection<'_>,
    account: &str,
    event: &str,
) -> sqlx::Result<Vec<String>> {
    dispatch!(connection, c => sqlx::query_scalar(
        "SELECT id FROM webhook_endpoints
         WHERE account = $1 AND status = 'active' AND events LIKE '%,' || $2 || ',%' ORDER BY id",
    ).bind(account).bind(event).fetch_all(c).await)
}

/// Records a successful attempt.
pub(in crate::webhooks) async fn succeeded(
    connection: Connection<'_>,
    id: &str,
    now_ms: i64,
) -> sqlx::Result<()> {
    dispatch!(connection, c => sqlx::query(
        "UPDATE webhook_endpoints SET consecutive_failures = 0, last_delivery_at = $2 WHERE id = $1",
    ).bind(id).bind(now_ms).execute(c).await.map(drop))
}

/// Records a failed attempt. Returns the number of failures since the last success.
pub(in crate::webhooks) async fn failed(connection: Connection<'_>, id: &str) -> sqlx::Result<u32> {
    let failures: Option<i64> = dispatch!(connection, c => sqlx::query_scalar(
        "UPDATE webhook_endpoints SET consecutive_failures = consecutive_failures + 1 WHERE id = $1
         RETURNING consecutive_failures",
    ).bind(id).fetch_optional(c).await)?;
    number(failures.unwrap_or_default())
}

/// Disables an active endpoint. Returns `false` if it was not active.
pub(in crate::webhooks) async fn auto_disable(connection: Connection<'_>, id: &str) -> sqlx::Result<bool> {
    let changed = dispatch!(connection, c => sqlx::query(
        "UPDATE webhook_endpoints SET status = 'auto_disabled' WHERE id = $1 AND status = 'active'",
    ).bind(id).execute(c).await.map(|done| done.rows_affected()))?;
    Ok(changed > 0)
}

/// Returns one endpoint id and sealed secret for each sealing key in use. The first eight
/// characters of a sealed secret identify the key.
pub(in crate::webhooks) async fn one_of_each_key(
    connection: Connection<'_>,
) -> sqlx::Result<Vec<(String, String)>> {
    dispatch!(connection, c => sqlx::query_as(
        "SELECT id, secret FROM webhook_endpoints
         WHERE id IN (SELECT MIN(id) FROM webhook_endpoints GROUP BY SUBSTR(secret, 1, 8))",
    ).fetch_all(c).await)
}

/// Joins events with a comma before and after each.
fn list(events: &[String]) -> String {
    format!(",{},", events.join(","))
}

row! {
    #[derive(Debug)]
    struct Row {
        id: String,
        account: String,
        url: String,
        events: String,
        description: Option<String>,
        status: String,
        secret: String,
        secret_hint: String,
        consecutive_failures: i64,
        last_delivery_at: Option<i64>,
        created_at: i64,
        updated_at: i64,
    }
}

impl TryFrom<Row> for Endpoint {
    type Error = sqlx::Error;

    fn try_from(row: Row) -> sqlx::Result<Self> {
        let events = row.events.split(',').filter(|event| !event.is_empty());
        let status = row.status.parse::<EndpointStatus>();
        Ok(Self {
            id: Uuid::try_parse(&row.id).map_err(|error| sqlx::Error::Decode(error.into()))?,
            account: row.account,
            url: row.url,
            events: events.map(str::to_owned).collect(),
            description: row.description,
            status: status.map_err(|error| sqlx::Error::Decode(error.into()))?,
            secret: row.secret,
            secret_hint: row.secret_hint,
            consecutive_failures: number(row.consecutive_failures)?,
            last_delivery_at: row.last_delivery_at.map(time).transpose()?,
            created_at: time(row.created_at)?,
            updated_at: time(row.updated_at)?,
        })
    }
}
